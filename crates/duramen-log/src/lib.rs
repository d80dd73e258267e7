//! One replica's log on disk: append, sync, read, recover, trim and truncate.
//!
//! A log is one directory of segment files that hold *frames* back to back; a frame is one entry.
//! The caller says what an entry is: this crate has never heard of Raft, Kafka or gRPC. It is
//! synchronous; what may touch the disk says so, and the caller puts it on a thread of its own.
//!
//! ```text
//! log start <= committed end <= log end
//! log start <= durable end   <= log end        (an end is exclusive: one past the last)
//! ```
//!
//! - A frame is readable as soon as it is appended, and durable when [`Log::sync`] has said so. Until
//!   that sync it need not be in a file: readers get it from memory.
//! - Nothing at or below the committed index is ever truncated.
//! - Damage at or below the durable index is corruption: it is reported and never cut. Damage
//!   above it is a torn write and is cut at open.
//! - Only sealed segments that are committed as a whole are mapped; everything else is read from
//!   memory or with `pread`. Nothing is written through a mapping.
//! - The first sync or write that fails poisons the log until it is opened again.
//!
//! The formats are in `docs/format/log.md`; only the `format` modules know bytes.

mod boundary;
mod checked;
mod error;
mod format;
mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod limits;
mod log;
mod meta;
mod options;
mod pen;
mod recovery;
mod report;
mod scan;
mod segment;
mod sparse;
mod start;
mod tail;
#[cfg(test)]
mod tests;
mod verify;
mod window;

pub use error::{ErrorKind, FrameFault, LogError, OpenError};
pub use frame::{Frame, FrameHeader, FrameKind, NewFrame};
pub use limits::{CANONICAL_HEADER_BYTES, FRAME_OVERHEAD_BYTES, STATE_BYTES_MAX};
pub use log::{Appended, Log};
pub use options::{LogIdentity, LogOptions};
pub use report::{DamagedRange, Recovery, TornTail};
pub use segment::SegmentInfo;
pub use start::LogStart;
pub use verify::{
    FrameSight, Problem, ProblemClass, VerifyError, VerifyReport, dump_file, verify_dir,
};
