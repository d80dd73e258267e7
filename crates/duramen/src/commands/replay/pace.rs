//! When each record of a replay is due.

use std::time::Duration;

use duramen_client::Timestamp;
use tokio::time::Instant;

use crate::numbers;

/// The pace of a replay. It begins with the first record.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    kind: Kind,
    start: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    FullSpeed,
    /// Records a second, and how many there were.
    Rate(f64, u64),
    /// How many times as fast as the timestamps say, from the first of them on.
    Tempo(f64, Option<Timestamp>),
}

impl Pace {
    /// No waiting.
    pub(super) const fn full_speed() -> Self {
        Self { kind: Kind::FullSpeed, start: None }
    }

    /// So many records a second.
    pub(super) const fn rate(records_per_second: f64) -> Self {
        Self { kind: Kind::Rate(records_per_second, 0), start: None }
    }

    /// So many times as fast as the records' timestamps say.
    pub(super) const fn tempo(factor: f64) -> Self {
        Self { kind: Kind::Tempo(factor, None), start: None }
    }

    /// When the next record is due; `None` if that is now or was before.
    pub(super) fn due(&mut self, timestamp: Timestamp) -> Option<Instant> {
        let now = Instant::now();
        let start = *self.start.get_or_insert(now);
        let due = start.checked_add(self.after(timestamp)?)?;
        (due > now).then_some(due)
    }

    /// How long after the first record the next is due.
    fn after(&mut self, timestamp: Timestamp) -> Option<Duration> {
        let seconds = match &mut self.kind {
            Kind::FullSpeed => return None,
            Kind::Rate(rate, count) => {
                let seconds = numbers::float(*count) / *rate;
                *count += 1;
                seconds
            }
            Kind::Tempo(factor, first) => {
                let first = *first.get_or_insert(timestamp);
                numbers::float(timestamp.millis_since(first)) / 1000.0 / *factor
            }
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(mut pace: Pace, timestamps: &[i64]) -> Vec<u128> {
        let after = |millis: &i64| pace.after(Timestamp::from_millis(*millis));
        timestamps.iter().map(after).map(|after| after.unwrap().as_millis()).collect()
    }

    #[test]
    fn a_rate_spaces_records_evenly() {
        assert_eq!(schedule(Pace::rate(4.0), &[9, 9, 9, 9]), [0, 250, 500, 750]);
    }

    #[test]
    fn a_tempo_follows_the_timestamps_faster() {
        assert_eq!(schedule(Pace::tempo(2.0), &[1000, 1500, 3000]), [0, 250, 1000]);
    }

    #[test]
    fn a_record_older_than_the_first_is_due_at_once() {
        assert_eq!(schedule(Pace::tempo(1.0), &[1000, 400, 1200]), [0, 0, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_does_not_wait() {
        let mut pace = Pace::rate(1.0);
        let at = Timestamp::EPOCH;
        assert_eq!(pace.due(at), None, "the first is due at once");
        assert!(pace.due(at).is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(pace.due(at), None);
    }

    #[test]
    fn full_speed_never_waits() {
        assert_eq!(Pace::full_speed().due(Timestamp::EPOCH), None);
    }
}
