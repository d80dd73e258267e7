//! Clocks for tests: one moved by hand, one that follows tokio's (paused) time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duramen_types::Timestamp;
use tokio::time::Instant;

use super::Clock;

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct SimClock {
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    wall: Timestamp,
    monotonic: Duration,
}

impl SimClock {
    /// A clock whose wall time is `wall` and whose monotonic time is zero.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self { times: Mutex::new(Times { wall, monotonic: Duration::ZERO }) }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut times = self.lock();
        times.wall = times.wall.saturating_add_millis(millis(by));
        times.monotonic = times.monotonic.saturating_add(by);
    }

    /// Sets the wall clock, forward or back; monotonic time does not notice.
    pub fn set_wall(&self, wall: Timestamp) {
        self.lock().wall = wall;
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.lock().wall
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }
}

/// A clock that follows `tokio::time`, so that timers and timestamps agree in a simulation whose
/// runtime is paused. Make one for each simulated host, on that host.
#[derive(Debug)]
pub struct TokioClock {
    start: Instant,
    epoch: Timestamp,
    skew_millis: AtomicI64,
}

impl TokioClock {
    /// A clock whose wall time is `epoch` and whose monotonic time is zero now. A host that comes
    /// back adds the simulated time that has passed to the epoch.
    #[must_use]
    pub fn new(epoch: Timestamp) -> Self {
        Self { start: Instant::now(), epoch, skew_millis: AtomicI64::new(0) }
    }

    /// Lets the wall clock be wrong by so many milliseconds; monotonic time does not notice.
    pub fn set_skew_millis(&self, millis: i64) {
        self.skew_millis.store(millis, Ordering::Relaxed);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.epoch
            .saturating_add_millis(millis(self.monotonic()))
            .saturating_add_millis(self.skew_millis.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_back_leaves_monotonic_time_alone() {
        let clock = SimClock::new(Timestamp::from_millis(5_000));
        clock.advance(Duration::from_millis(30));
        clock.set_wall(Timestamp::from_millis(100));
        assert_eq!(clock.now(), Timestamp::from_millis(100));
        assert_eq!(clock.monotonic(), Duration::from_millis(30));
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(105));
    }

    #[test]
    fn the_tokio_clock_follows_paused_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            let clock = TokioClock::new(Timestamp::from_millis(1_000));
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(clock.monotonic(), Duration::from_secs(60));
            assert_eq!(clock.now(), Timestamp::from_millis(61_000));
            clock.set_skew_millis(-61_000);
            assert_eq!(clock.now(), Timestamp::EPOCH);
        });
    }
}
