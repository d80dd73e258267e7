//! Clocks: wall time for timestamps, monotonic time for durations.

mod sim;

use std::fmt;
use std::time::Duration;

use duramen_types::Timestamp;

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
    #[expect(clippy::disallowed_methods, reason = "this is the real side of the seam")]
    fn now(&self) -> Timestamp {
        let millis = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Timestamp::from_millis(millis)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
