//! Clocks: wall time for timestamps, monotonic time for durations.

mod sim;

use std::fmt;
use std::time::Duration;

use duramen_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

pub use sim::{SimClock, TokioClock};

/// Source of time. Timers do not come from here but from `tokio::time`.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may jump in either direction; nothing that guards data may rely on it.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never going back. For measuring durations.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    start: std::time::Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the real side of the seam")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        // Producers ask for every record: without what `SystemTime` does to find a difference.
        let now = clock_gettime(ClockId::Realtime);
        let millis = now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000);
        Timestamp::from_millis(millis)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
