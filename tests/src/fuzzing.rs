//! Every decoder of bytes from disk or network against bytes that nobody wrote.
//!
//! One table of decoders (`table`) serves two drivers: `duramen-fuzz`, which mutates valid inputs
//! under a seed, and the coverage-guided one in `tests/fuzz`. For every input:
//! - the decoder does not panic and does not hang;
//! - what it accepts survives encoding and decoding, and whatever else its crate says of it;
//! - it takes no more memory than its limit, whatever lengths the input claims;
//! - it takes less than a second of processor time.

mod corpus;
mod drive;
mod group;
mod judge;
mod metadata;
mod mutate;
mod network;
mod planted;
mod records;
mod table;
mod worker;

pub use corpus::corpus_dir;
pub use drive::{FuzzError, Sizes, coverage, replay, run};
pub use duramen_env::fuzz::{Decoder, Verdict};
pub use judge::{Judged, SLOW_MICROS, judge};
pub use mutate::Inputs;
pub use table::{all, find};
pub use worker::{Order, Tally, work};
