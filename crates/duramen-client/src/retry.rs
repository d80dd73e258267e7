//! Waits between attempts, and the end of trying.

use std::sync::Arc;
use std::time::Duration;

use duramen_env::Random;
use duramen_proto::v1::ErrorCode;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::{ClientError, limits};

/// Waits that double, with jitter so that clients do not come back in step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: half of it fixed, half random.
    pub(crate) fn next(&mut self, random: &dyn Random) -> Duration {
        self.next_below(limits::BACKOFF_MAX, random)
    }

    /// The same, with another longest wait.
    pub(crate) fn next_below(&mut self, longest: Duration, random: &dyn Random) -> Duration {
        let doubled = limits::BACKOFF_MIN.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        let whole = doubled.min(longest);
        let half = whole / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(random.below(span.saturating_add(1)))
    }

    /// Attempts that failed since the last success.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Back to the shortest wait, after a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    what: &'static str,
    allowed: Duration,
    one: Duration,
    deadline: Instant,
    backoff: Backoff,
    unknown_topic: u32,
    maybe_done: bool,
}

impl Attempts {
    pub(crate) fn new(what: &'static str, allowed: Duration) -> Self {
        Self {
            what,
            allowed,
            one: allowed / limits::ATTEMPTS_PER_CALL,
            deadline: Instant::now() + allowed,
            backoff: Backoff::default(),
            unknown_topic: 0,
            maybe_done: false,
        }
    }

    /// No attempt takes longer than this.
    pub(crate) fn each(mut self, most: Duration) -> Self {
        self.one = self.one.min(most);
        self
    }

    /// When one attempt is given up: well before the call's own end, so that another node is tried.
    pub(crate) fn attempt_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + self.one)
    }

    /// Whether some earlier attempt may have taken effect.
    pub(crate) const fn maybe_done(&self) -> bool {
        self.maybe_done
    }

    /// Waits before the next attempt, or says why there is none.
    pub(crate) async fn again(
        &mut self,
        failure: Failure,
        random: &dyn Random,
    ) -> Result<(), ClientError> {
        self.maybe_done |= failure.maybe_done();
        if failure.code() == Some(ErrorCode::UnknownTopic) {
            self.unknown_topic += 1;
        }
        if !failure.is_transient() || self.unknown_topic > limits::UNKNOWN_TOPIC_RETRIES {
            return Err(failure.into_error());
        }
        let wait = self.backoff.next(random).max(failure.wait());
        tracing::debug!(what = self.what, ?failure, ?wait, "attempt failed; trying again");
        if Instant::now() + wait >= self.deadline {
            return Err(ClientError::Timeout {
                what: self.what,
                after: self.allowed,
                maybe_done: self.maybe_done,
                last: Some(Arc::new(failure.into_error())),
            });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use duramen_env::SeededRandom;

    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_never_vanish() {
        let random = SeededRandom::new(1);
        let mut backoff = Backoff::default();
        let mut whole = limits::BACKOFF_MIN;
        for _ in 0..40 {
            let wait = backoff.next(&random);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(limits::BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next(&random) <= limits::BACKOFF_MIN);
    }
}
