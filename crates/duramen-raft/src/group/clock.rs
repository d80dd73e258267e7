//! How patient a replica is.

use std::sync::atomic::{AtomicU64, Ordering};

use duramen_env::Random;
use tokio::time::Instant;

use crate::limits;

/// When the group last heard of a leader and when it will campaign; in milliseconds since `base`.
#[derive(Debug)]
pub(super) struct GroupClock {
    base: Instant,
    pub(super) heard_ms: AtomicU64,
    /// As `heard_ms`, but a campaign or a vote of its own does not count.
    pub(super) led_ms: AtomicU64,
    pub(super) patience_ms: AtomicU64,
    pub(super) beat_ms: AtomicU64,
}

impl GroupClock {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            heard_ms: AtomicU64::new(0),
            led_ms: AtomicU64::new(0),
            patience_ms: AtomicU64::new(0),
            beat_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    pub(super) fn at_ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.base);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it waits for a leader from now on, at random.
    pub(super) fn draw_patience(&self, random: &dyn Random) {
        let min = limits::ELECTION_TIMEOUT_MIN.as_millis();
        let span = limits::ELECTION_TIMEOUT_MAX.as_millis() - min;
        let draw = random.below(u64::try_from(span).unwrap_or(0));
        let patience = u64::try_from(min).unwrap_or(0) + draw;
        self.patience_ms.store(patience, Ordering::Relaxed);
    }

    /// It waits a few ticks longer, at random: of many that wait none is always too late.
    pub(super) fn postpone(&self, random: &dyn Random) {
        let some = u64::try_from(limits::TICK.as_millis() * 4).unwrap_or(u64::MAX);
        self.patience_ms.fetch_add(1 + random.below(some), Ordering::Relaxed);
    }
}
