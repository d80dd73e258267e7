//! The worker: one process that feeds one decoder, so that a crash is that of one known input.
//!
//! Before each input the worker notes its number in a file. Whatever ends the process, a panic, an
//! abort, a stack that overflows, the driver reads there which input it was and makes it again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use duramen_env::Env;
use duramen_env::fuzz::{Decoder, Verdict};
use serde::{Deserialize, Serialize};

use super::judge::{Wrong, judge};
use super::mutate::Inputs;

/// After so many findings a worker has said enough.
const FINDINGS_MAX: usize = 5;

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// The seed of the inputs.
    pub seed: u64,
    /// The number of the first input.
    pub from: u64,
    /// How long to go on; at least what there is stored is tried.
    pub time: Duration,
    /// Where to note the number of the input under way.
    pub progress: PathBuf,
}

/// What a worker counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Inputs tried.
    pub executions: u64,
    /// Those that the decoder took.
    pub accepted: u64,
    /// The longest time one took, in microseconds of processor time.
    pub slowest_us: u64,
    /// The most memory that one took, in bytes.
    pub peak_bytes: usize,
    /// Values that were not what they must be.
    pub broken: u64,
    /// Inputs that took more memory than the limit.
    pub over_allocations: u64,
    /// Inputs that took too long.
    pub slow: u64,
    /// Numbers of inputs that failed, and how.
    pub failures: Vec<(u64, String)>,
}

impl Tally {
    /// Adds what another worker counted on the same decoder.
    pub fn add(&mut self, other: Self) {
        self.executions += other.executions;
        self.accepted += other.accepted;
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.broken += other.broken;
        self.over_allocations += other.over_allocations;
        self.slow += other.slow;
        self.failures.extend(other.failures);
    }

    fn count(&mut self, decoder: &Decoder, number: u64, input: &[u8]) {
        let judged = judge(decoder, input);
        self.executions += 1;
        self.accepted += u64::from(judged.verdict == Verdict::Accepted);
        self.slowest_us = self.slowest_us.max(judged.micros);
        self.peak_bytes = self.peak_bytes.max(judged.peak_bytes);
        let how = match judged.wrong {
            None => return,
            Some(Wrong::Broken(what)) => {
                self.broken += 1;
                what.to_owned()
            }
            Some(Wrong::Memory { limit }) => {
                self.over_allocations += 1;
                format!("{} bytes of memory, {limit} allowed", judged.peak_bytes)
            }
            Some(Wrong::Slow) => {
                self.slow += 1;
                format!("{} us", judged.micros)
            }
        };
        if self.failures.len() < FINDINGS_MAX {
            self.failures.push((number, how));
        }
    }
}

/// Feeds a decoder until the time is over or enough has failed.
///
/// # Errors
/// If the progress cannot be noted.
pub fn work(decoder: Decoder, order: &Order) -> io::Result<Tally> {
    let inputs = Inputs::new(decoder, order.seed);
    let progress = File::create(&order.progress)?;
    let clock = Env::real().clock;
    let begin = clock.monotonic();
    let mut tally = Tally::default();
    let stored = inputs.stored();
    let mut number = order.from;
    while tally.failures.len() < FINDINGS_MAX
        && (number < stored || clock.monotonic().saturating_sub(begin) < order.time)
    {
        progress.write_all_at(&number.to_le_bytes(), 0)?;
        let input = inputs.nth(number);
        tally.count(&decoder, number, &input);
        number += 1;
    }
    Ok(tally)
}
