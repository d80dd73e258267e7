//! The bytes at the head of a segment file.
//!
//! ```text
//!   0          8      12     16                32            40            48        56
//!   +----------+------+------+-----------------+-------------+-------------+---------+
//!   | DURSEGMT | ver 1| flags| segment id (16) | first index | base offset | previous|
//!   |          |      |      |                 |             |             | term    |
//!   +----------+------+------+-----------------+-------------+-------------+---------+
//!  56             64                     72             124   128
//!   +-------------+----------------------+--------------+-----+
//!   | prev. chain | previous append time | zeros        | CRC |
//!   +-------------+----------------------+--------------+-----+
//! ```
//! Flag 1: there is a previous term. The CRC is CRC-32 over bytes 0..124.

use duramen_types::{LogIndex, Offset, Term, Timestamp};

use super::{Input, Output};
use crate::boundary::Boundary;
use crate::error::FrameFault;
use crate::segment::SegmentId;

/// Length of the head; the first frame follows.
pub(crate) const SEGMENT_HEAD_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"DURSEGMT";
const VERSION: u32 = 1;
const HAS_TERM: u32 = 1;
const ZEROS: usize = SEGMENT_HEAD_BYTES - 72 - 4;

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// Drawn at random for each life of a file.
    pub(crate) id: SegmentId,
    /// The log before its first frame.
    pub(crate) base: Boundary,
}

pub(crate) fn encode(head: &SegmentHead) -> [u8; SEGMENT_HEAD_BYTES] {
    let base = &head.base;
    let mut out = Output::<SEGMENT_HEAD_BYTES>::new();
    out.put(MAGIC)
        .put(VERSION.to_le_bytes())
        .put(if base.term.is_some() { HAS_TERM } else { 0 }.to_le_bytes())
        .put(head.id.0)
        .put(base.index.get().to_le_bytes())
        .put(base.offset.get().to_le_bytes())
        .put(base.term.map_or(0, Term::get).to_le_bytes())
        .put(base.chain.to_le_bytes())
        .put(base.append_time.as_millis().to_le_bytes())
        .put([0; ZEROS]);
    let crc = crc32fast::hash(out.filled());
    out.put(crc.to_le_bytes());
    out.finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHead, FrameFault> {
    let head = bytes.first_chunk::<SEGMENT_HEAD_BYTES>().ok_or(FrameFault::Short)?;
    let (hashed, crc) = head.split_last_chunk::<4>().ok_or(FrameFault::Short)?;
    if !hashed.starts_with(&MAGIC) {
        return Err(FrameFault::Magic);
    }
    if crc32fast::hash(hashed) != u32::from_le_bytes(*crc) {
        return Err(FrameFault::HeaderChecksum);
    }
    read(Input(hashed)).unwrap_or(Err(FrameFault::Short))
}

fn read(mut input: Input<'_>) -> Option<Result<SegmentHead, FrameFault>> {
    input.take::<8>()?;
    let version = input.u32()?;
    if version != VERSION {
        return Some(Err(FrameFault::Version(version.to_le_bytes()[0])));
    }
    let flags = input.u32()?;
    let id = SegmentId(input.take()?);
    let index = LogIndex::new(input.u64()?);
    let offset = Offset::new(input.u64()?);
    let term = Term::new(input.u64()?);
    let chain = input.u64()?;
    let append_time = Timestamp::from_millis(input.i64()?);
    let term = (flags & HAS_TERM != 0).then_some(term);
    Some(Ok(SegmentHead { id, base: Boundary { index, offset, term, chain, append_time } }))
}
