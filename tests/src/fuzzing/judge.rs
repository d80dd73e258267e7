//! What one input did: verdict, memory at its peak, processor time.

use duramen_env::fuzz::{Decoder, Verdict};
use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

/// An input that takes longer is a finding, in microseconds of processor time. The aim is a tenth
/// of it; the rest is room for builds without optimization.
pub const SLOW_MICROS: u64 = 1_000_000;

/// What one input did.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What the decoder says.
    pub verdict: Verdict,
    /// Memory at the peak above what there was before, in bytes; 0 where the program does not
    /// count allocations.
    pub peak_bytes: usize,
    /// Processor time of this thread, in microseconds.
    pub micros: u64,
    /// What must not have happened.
    pub wrong: Option<Wrong>,
}

/// Kinds of failure that a decoder survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Something that must hold does not.
    Broken(&'static str),
    /// More memory than the limit.
    Memory {
        /// The limit, in bytes.
        limit: usize,
    },
    /// More time than [`SLOW_MICROS`].
    Slow,
}

/// Runs a decoder on one input.
#[must_use]
pub fn judge(decoder: &Decoder, input: &[u8]) -> Judged {
    PeakAlloc.reset_peak_usage();
    let (before, begin) = (PeakAlloc.current_usage(), processor_micros());
    let verdict = (decoder.run)(input);
    let micros = processor_micros().saturating_sub(begin);
    let peak_bytes = PeakAlloc.peak_usage().saturating_sub(before);
    let limit = decoder.memory.of(input.len());
    let wrong = match verdict {
        Verdict::Broken(what) => Some(Wrong::Broken(what)),
        _ if peak_bytes > limit => Some(Wrong::Memory { limit }),
        _ if micros > SLOW_MICROS => Some(Wrong::Slow),
        Verdict::Accepted | Verdict::Refused => None,
    };
    Judged { verdict, peak_bytes, micros, wrong }
}

/// The processor time that this thread has had, in microseconds.
fn processor_micros() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000);
    u64::try_from(micros).unwrap_or(0)
}
