//! How long simulated work that blocks takes, in virtual time, so that a crash can fall between a
//! write and its sync, and completions overtake each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::random::{Random, SeededRandom};

/// One in so many syncs takes long.
const LONG_ONE_IN: u64 = 40;

/// The delays of one simulated machine, drawn from a seed. Clones share them.
#[derive(Clone, Debug)]
pub struct SimDelays {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    random: SeededRandom,
    slow_ms: AtomicU64,
}

/// What one piece of work waits before it begins and after it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delay {
    pub(super) before: Duration,
    pub(super) after: Duration,
}

impl SimDelays {
    /// Delays of a healthy disk: syncs mostly take up to 5 ms and sometimes 50 ms and more, other
    /// work up to 2 ms.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = SeededRandom::new(seed);
        Self { shared: Arc::new(Shared { random, slow_ms: AtomicU64::new(0) }) }
    }

    /// Lets every sync take up to so many milliseconds; 0 is a healthy disk again.
    pub fn set_slow_ms(&self, ms: u64) {
        self.shared.slow_ms.store(ms, Ordering::Relaxed);
    }

    /// Draws the delay of the next piece of work of this name.
    pub(super) fn draw(&self, name: &str) -> Delay {
        let random = &self.shared.random;
        let below = |ms: u64| Duration::from_millis(random.below(ms + 1));
        let slow = self.shared.slow_ms.load(Ordering::Relaxed);
        if !name.ends_with("sync") {
            let after = Duration::ZERO;
            return match random.below(4) {
                0 => Delay { before: below(2), after },
                _ => Delay { before: Duration::ZERO, after },
            };
        }
        let before = match (slow, random.below(LONG_ONE_IN)) {
            (0, 0) => Duration::from_millis(50) + below(100),
            (0, _) => below(5),
            (slow, _) => Duration::from_millis(slow / 4) + below(slow - slow / 4),
        };
        // What was made durable is sometimes heard of late.
        let after = if random.below(4) == 0 { below(3) } else { Duration::ZERO };
        Delay { before, after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_a_slow_disk_takes_its_time() {
        let draw = |delays: &SimDelays| (0..50).map(|_| delays.draw("a-sync")).collect::<Vec<_>>();
        assert_eq!(draw(&SimDelays::new(3)), draw(&SimDelays::new(3)));
        let delays = SimDelays::new(3);
        delays.set_slow_ms(4_000);
        assert!(draw(&delays).iter().all(|delay| delay.before >= Duration::from_secs(1)));
        delays.set_slow_ms(0);
        assert!(draw(&delays).iter().all(|delay| delay.before <= Duration::from_millis(150)));
    }
}
