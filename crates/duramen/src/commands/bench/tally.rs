//! What is counted while loads run.

use std::pin::pin;
use std::time::Duration;

use duramen_env::TaskHandle;
use futures::future::join_all;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::usage::{Used, meter};

/// Latencies in microseconds.
pub(super) type Latencies = Histogram<u64>;

/// The longest latency told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// An empty histogram with three digits. Its range is fixed: one that could grow would not do so
/// for `saturating_record`, which takes everything beyond the range as its end.
pub(super) fn latencies() -> Latencies {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("an hour in three digits is allowed")
}

/// Adds a latency.
pub(super) fn record(latencies: &mut Latencies, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// When counting begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

impl Window {
    /// From now on, after a warm-up.
    pub(super) fn new(warmup: Duration, measured: Duration) -> Self {
        let begin = Instant::now() + warmup;
        Self { begin, end: begin + measured }
    }

    pub(super) fn contains(&self, now: Instant) -> bool {
        self.begin <= now && now < self.end
    }
}

/// What one load counted, or all of them.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) latencies: Latencies,
    pub(super) errors: u64,
    /// The first of the errors.
    pub(super) error: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { records: 0, latencies: latencies(), errors: 0, error: None }
    }

    pub(super) fn fail(&mut self, error: &impl ToString) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.latencies.add(&other.latencies).expect("histograms of the same bounds add up");
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
    }
}

/// What a measurement counted, and what was used meanwhile.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) tally: Tally,
    pub(super) used: Used,
}

impl Counted {
    /// Adds up what loads count that run already. The time is that of the window, or less if all
    /// of them end before.
    pub(super) async fn of(loads: Vec<TaskHandle<Tally>>, window: Window, pids: &[u32]) -> Self {
        let mut ends = pin!(join_all(loads.into_iter().map(TaskHandle::join)));
        sleep_until(window.begin).await;
        let (ended, used) = meter(pids, timeout_at(window.end, &mut ends)).await;
        let tallies = match ended {
            Ok(tallies) => tallies,
            Err(_) => ends.await,
        };
        let mut tally = Tally::new();
        tallies.into_iter().flatten().for_each(|one| tally.add(one));
        Self { tally, used }
    }
}

#[cfg(test)]
mod tests {
    use duramen_env::Env;

    use super::*;

    #[test]
    fn a_latency_is_recorded_as_it_was() {
        let mut histogram = latencies();
        record(&mut histogram, Duration::from_millis(250));
        let median = histogram.value_at_quantile(0.5);
        assert!((249_000..=251_000).contains(&median), "{median}");
    }

    /// A load that ends after so many milliseconds.
    fn load(millis: u64, errors: &'static [&'static str]) -> TaskHandle<Tally> {
        Env::real().tasks.critical("test-load", async move {
            let mut tally = Tally::new();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            tally.records = millis;
            record(&mut tally.latencies, Duration::from_millis(millis));
            errors.iter().for_each(|error| tally.fail(error));
            tally
        })
    }

    #[tokio::test(start_paused = true)]
    async fn loads_add_up_and_time_counts_until_the_window_or_the_last_of_them_ends() {
        for (warmup, lengths, took) in [(10, [50, 300], 100), (0, [50, 30], 50), (10, [50, 30], 40)]
        {
            let window = Window::new(Duration::from_millis(warmup), Duration::from_millis(100));
            let loads = vec![load(lengths[0], &["first", "second"]), load(lengths[1], &["third"])];
            let Counted { tally, used } = Counted::of(loads, window, &[]).await;
            assert_eq!(used.took.as_millis(), took, "{lengths:?} after {warmup}");
            assert_eq!(tally.records, lengths[0] + lengths[1]);
            assert_eq!(tally.latencies.len(), 2);
            assert_eq!((tally.errors, tally.error.as_deref()), (3, Some("first")));
        }
    }
}
