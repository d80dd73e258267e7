//! When each record is due, for latencies at a fixed rate.
//!
//! Open loop: record i is due at start + i / rate, and its latency counts from then, also if the
//! peer's client could not take it in at once. So a stall is seen by all the records that it
//! delays (what closed loops hide is known as coordinated omission).

use std::thread;
use std::time::{Duration, Instant};

use crate::Load;
use crate::payload::number_of;
use crate::report::{Tally, Window};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: u32,
    /// The first record that counts.
    first: u64,
    /// One past the last.
    last: u64,
}

impl Schedule {
    /// From a little later on, so that the first record is not late.
    pub(crate) fn new(load: &Load) -> Self {
        let records = |time: Duration| {
            let count = time.as_nanos() * u128::from(load.rate) / 1_000_000_000;
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        let first = records(load.warmup());
        let last = first.saturating_add(records(load.measured()).max(1));
        Self { start: Instant::now() + Duration::from_millis(50), rate: load.rate, first, last }
    }

    pub(crate) fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn window(&self) -> Window {
        Window { begin: self.due(self.first), end: self.due(self.last) }
    }

    /// Calls `send` with the number of each record when it is due.
    pub(crate) fn beat(&self, mut send: impl FnMut(u64)) {
        for number in 0..self.last {
            let wait = self.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            send(number);
        }
    }

    /// Counts a value that a consumer has now.
    pub(crate) fn arrived(&self, value: &[u8], now: Instant, tally: &mut Tally) {
        if let Some(number) = number_of(value).filter(|n| (self.first..self.last).contains(n)) {
            tally.count(now.saturating_duration_since(self.due(number)));
        }
    }
}
