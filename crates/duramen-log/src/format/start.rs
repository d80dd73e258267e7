//! The bytes of the `log-start` file.
//!
//! ```text
//!   0          8      12     16            24            32         40          48
//!   +----------+------+------+-------------+-------------+----------+-----------+
//!   | DURSTART | ver 1| flags| first index | base offset | previous | previous  |
//!   |          |      |      |             |             | term     | chain     |
//!   +----------+------+------+-------------+-------------+----------+-----------+
//!  48                    56          60    64
//!   +--------------------+-----------+-----+--------------------------+
//!   | prev. append time  | state len | CRC | state, opaque            |
//!   +--------------------+-----------+-----+--------------------------+
//! ```
//! Flag 1: there is a previous term. Flag 2: a reset is under way, all segments are garbage.
//! The CRC is CRC-32 over bytes 0..60 and the state.

use bytes::Bytes;
use duramen_types::{LogIndex, Offset, Term, Timestamp};

use super::{Input, Output};
use crate::limits::STATE_BYTES_MAX;
use crate::start::LogStart;

/// Length without the state.
pub(crate) const START_HEAD_BYTES: usize = 64;
/// The longest file that can be sound.
pub(crate) const START_BYTES_MAX: u64 = (START_HEAD_BYTES + STATE_BYTES_MAX) as u64;
const MAGIC: [u8; 8] = *b"DURSTART";
const VERSION: u32 = 1;
const HAS_TERM: u32 = 1;
const RESET: u32 = 2;

/// Why the file does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFault {
    /// Damaged.
    Bad,
    /// A version that this program does not know.
    Version(u32),
}

/// The file's bytes; `reset` says that a reset is under way.
pub(crate) fn encode(start: &LogStart, reset: bool) -> Vec<u8> {
    let flags =
        if start.prev_term.is_some() { HAS_TERM } else { 0 } | if reset { RESET } else { 0 };
    let state_len = u32::try_from(start.state.len()).unwrap_or(u32::MAX);
    let mut out = Output::<START_HEAD_BYTES>::new();
    out.put(MAGIC)
        .put(VERSION.to_le_bytes())
        .put(flags.to_le_bytes())
        .put(start.first_index.get().to_le_bytes())
        .put(start.base_offset.get().to_le_bytes())
        .put(start.prev_term.map_or(0, Term::get).to_le_bytes())
        .put(start.prev_chain.to_le_bytes())
        .put(start.prev_append_time.as_millis().to_le_bytes())
        .put(state_len.to_le_bytes());
    let crc = crc(out.filled(), &start.state);
    out.put(crc.to_le_bytes());
    [&out.finish()[..], &start.state].concat()
}

/// Reads the file; the flag says whether a reset is under way.
pub(crate) fn decode(bytes: &[u8]) -> Result<(LogStart, bool), StartFault> {
    let (head, state) = bytes.split_first_chunk::<START_HEAD_BYTES>().ok_or(StartFault::Bad)?;
    let (hashed, found) = head.split_last_chunk::<4>().ok_or(StartFault::Bad)?;
    if !hashed.starts_with(&MAGIC) || crc(hashed, state) != u32::from_le_bytes(*found) {
        return Err(StartFault::Bad);
    }
    read(Input(hashed), state).unwrap_or(Err(StartFault::Bad))
}

fn read(mut input: Input<'_>, state: &[u8]) -> Option<Result<(LogStart, bool), StartFault>> {
    input.take::<8>()?;
    let version = input.u32()?;
    if version != VERSION {
        return Some(Err(StartFault::Version(version)));
    }
    let flags = input.u32()?;
    let first_index = LogIndex::new(input.u64()?);
    let base_offset = Offset::new(input.u64()?);
    let term = Term::new(input.u64()?);
    let prev_chain = input.u64()?;
    let prev_append_time = Timestamp::from_millis(input.i64()?);
    if input.u32()? as usize != state.len() {
        return None;
    }
    let start = LogStart {
        first_index,
        base_offset,
        prev_term: (flags & HAS_TERM != 0).then_some(term),
        prev_chain,
        prev_append_time,
        state: Bytes::copy_from_slice(state),
    };
    Some(Ok((start, flags & RESET != 0)))
}

fn crc(head: &[u8], state: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(state);
    hasher.finalize()
}
