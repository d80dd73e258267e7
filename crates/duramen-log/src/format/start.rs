//! The bytes of the `log-start` file.
//!
//! ```text
//!   0          8      12     16           32           40            48            56
//!   +----------+------+------+------------+------------+-------------+-------------+
//!   | DURSTART | ver 1| flags| cluster id | replica id | first index | base offset |
//!   +----------+------+------+------------+------------+-------------+-------------+
//!  56              64               72                    80          84    88
//!   +---------------+----------------+---------------------+-----------+-----+-------+
//!   | previous term | previous chain | prev. append time   | state len | CRC | state |
//!   +---------------+----------------+---------------------+-----------+-----+-------+
//! ```
//! Flag 1: there is a previous term. Flag 2: a reset is under way, all segments are garbage.
//! The CRC is CRC-32 over bytes 0..84 and the state, which is opaque.

use bytes::Bytes;
use duramen_types::{ClusterId, LogIndex, Offset, ReplicaId, Term, Timestamp};

use super::{Input, Output};
use crate::limits::STATE_BYTES_MAX;
use crate::options::LogIdentity;
use crate::start::LogStart;

/// Length without the state.
pub(crate) const START_HEAD_BYTES: usize = 88;
/// The longest file that can be sound.
pub(crate) const START_BYTES_MAX: u64 = (START_HEAD_BYTES + STATE_BYTES_MAX) as u64;
const MAGIC: [u8; 8] = *b"DURSTART";
const VERSION: u32 = 1;
const HAS_TERM: u32 = 1;
const RESET: u32 = 2;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartFile {
    /// Whose log start it is.
    pub(crate) identity: LogIdentity,
    /// The log start.
    pub(crate) start: LogStart,
    /// Whether a reset to it is under way.
    pub(crate) reset: bool,
}

/// Why the file does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFault {
    /// Damaged.
    Bad,
    /// A version that this program does not know.
    Version(u32),
}

pub(crate) fn encode(file: &StartFile) -> Vec<u8> {
    let StartFile { identity, start, reset } = file;
    let flags =
        if start.prev_term.is_some() { HAS_TERM } else { 0 } | if *reset { RESET } else { 0 };
    let state_len = u32::try_from(start.state.len()).unwrap_or(u32::MAX);
    let mut out = Output::<START_HEAD_BYTES>::new();
    out.put(MAGIC)
        .put(VERSION.to_le_bytes())
        .put(flags.to_le_bytes())
        .put(*identity.cluster.as_bytes())
        .put(identity.replica.get().to_le_bytes())
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

pub(crate) fn decode(bytes: &[u8]) -> Result<StartFile, StartFault> {
    let (head, state) = bytes.split_first_chunk::<START_HEAD_BYTES>().ok_or(StartFault::Bad)?;
    let (hashed, found) = head.split_last_chunk::<4>().ok_or(StartFault::Bad)?;
    if !hashed.starts_with(&MAGIC) || crc(hashed, state) != u32::from_le_bytes(*found) {
        return Err(StartFault::Bad);
    }
    read(Input(hashed), state).unwrap_or(Err(StartFault::Bad))
}

fn read(mut input: Input<'_>, state: &[u8]) -> Option<Result<StartFile, StartFault>> {
    input.take::<8>()?;
    let version = input.u32()?;
    if version != VERSION {
        return Some(Err(StartFault::Version(version)));
    }
    let flags = input.u32()?;
    let cluster = ClusterId::from_bytes(input.take()?);
    let replica = ReplicaId::new(input.u64()?);
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
    let identity = LogIdentity { cluster, replica };
    Some(Ok(StartFile { identity, start, reset: flags & RESET != 0 }))
}

fn crc(head: &[u8], state: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(state);
    hasher.finalize()
}
