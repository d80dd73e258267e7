//! What a consumer has received while a producer sends at a fixed rate.

use std::time::{Duration, Instant};

use crate::report::Tally;
use crate::schedule::Schedule;

/// How long the last records may take after the end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Received {
    schedule: Schedule,
    tally: Tally,
    /// All records, also those that do not count.
    seen: u64,
    /// Since when nothing is sent any more.
    over: Option<Instant>,
}

impl Received {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, tally: Tally::new(), seen: 0, over: None }
    }

    /// A value that is here now.
    pub(crate) fn take(&mut self, value: &[u8]) {
        self.seen += 1;
        self.schedule.arrived(value, Instant::now(), &mut self.tally);
    }

    pub(crate) fn fail(&mut self, error: impl Into<String>) {
        self.tally.fail(error);
    }

    /// Whether nothing is to be waited for any more, at this moment: `sent` is how many records
    /// were acknowledged, once all are settled.
    pub(crate) fn is_over(&mut self, sent: Option<u64>, now: Instant) -> bool {
        let Some(sent) = sent else { return false };
        let over = *self.over.get_or_insert(now);
        self.seen >= sent || now.saturating_duration_since(over) > PATIENCE
    }

    /// All that was counted, with what the sender says and what did not come.
    pub(crate) fn finish(mut self, sender: &Tally, acknowledged: u64) -> Tally {
        self.tally.fail_all(sender);
        let lost = acknowledged.saturating_sub(self.seen);
        if lost > 0 {
            self.tally.fail(format!("{lost} acknowledged records did not come"));
        }
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Bench, Command};

    fn received(values: usize) -> Received {
        let command = ["client", "e2e", "--peer", "kafka", "--servers", "host:1"];
        let Bench::E2e(load) = Command::parse_from(command).bench else { unreachable!() };
        let mut received = Received::new(Schedule::new(&load));
        (0..values).for_each(|_| received.take(&[0; 8]));
        received
    }

    #[test]
    fn it_is_over_when_all_is_here_or_nothing_has_come_for_long() {
        let now = Instant::now();
        let mut all = received(2);
        assert!(!all.is_over(None, now));
        assert!(!all.is_over(Some(3), now));
        assert!(all.is_over(Some(2), now));
        let mut late = received(1);
        assert!(!late.is_over(None, now));
        assert!(!late.is_over(Some(2), now + PATIENCE), "counted from the end of sending");
        assert!(!late.is_over(Some(2), now + 2 * PATIENCE));
        assert!(late.is_over(Some(2), now + 2 * PATIENCE + Duration::from_millis(1)));
    }

    #[test]
    fn what_was_acknowledged_and_did_not_come_is_an_error() {
        let sent = Tally::new();
        assert_eq!(received(2).finish(&sent, 2).errors, 0);
        let lost = received(2).finish(&sent, 5);
        assert_eq!(lost.error.as_deref(), Some("3 acknowledged records did not come"));
    }
}
