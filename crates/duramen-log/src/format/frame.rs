//! The bytes of a frame: local envelope, canonical header, payload, padding.
//!
//! ```text
//!        0      4  5        8                       24          32          40     44      48
//!        +------+--+--------+-----------------------+-----------+-----------+------+-------+
//!        | magic|v | zero   | segment id (16)       | generation| durable   | CRC  | zero  |
//!        | DFRM |1 |        |                       |           | end       |      |       |
//!        +------+--+--------+-----------------------+-----------+-----------+------+-------+
//!     48 | canonical header (72), see below                                                |
//!        +---------------------------------------------------------------------------------+
//!    120 | payload, then zeros up to the next multiple of 8                                |
//!        +---------------------------------------------------------------------------------+
//!
//! canonical header, the same on every replica
//!        0    1       2     4         8      16       24      32          40
//!        +----+-------+-----+---------+------+--------+-------+-----------+-------------+
//!        |kind|subkind| zero| records | term | leader | index | base      | append time |
//!        |    |       |     |         |      |        |       | offset    | (i64 ms)    |
//!        +----+-------+-----+---------+------+--------+-------+-----------+-------------+
//!       48                       56            60            64                       72
//!        +-----------------------+-------------+-------------+------------------------+
//!        | largest timestamp     | payload len | payload CRC | chain hash             |
//!        +-----------------------+-------------+-------------+------------------------+
//! ```
//! The CRC at 40 is CRC-32 over bytes 0..40 and 44..120. The chain hash is xxh3-64 over the
//! previous chain hash (8 bytes) and bytes 0..64 of the canonical header.

use duramen_types::{LogIndex, NodeId, Offset, Term, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{Input, Output};
use crate::error::FrameFault;
use crate::frame::{FrameHeader, FrameKind};
use crate::limits::{CANONICAL_HEADER_BYTES, FRAME_OVERHEAD_BYTES};
use crate::segment::SegmentId;

/// The first four bytes of every frame.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"DFRM";
const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = FRAME_OVERHEAD_BYTES - CANONICAL_HEADER_BYTES;
/// Frames begin at multiples of this many bytes.
pub(crate) const FRAME_ALIGN: u64 = 8;

const KIND_DATA: u8 = 1;
const KIND_INTERNAL: u8 = 2;

/// What a frame says about this replica and this life of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The segment it was written for.
    pub(crate) segment: SegmentId,
    /// The truncation generation when it was written.
    pub(crate) generation: u64,
    /// One past the highest index that was synced when it was written.
    pub(crate) durable_end: LogIndex,
}

/// What a frame with such a payload takes in a segment, in bytes.
pub(crate) fn frame_bytes(payload_len: u32) -> u64 {
    (FRAME_OVERHEAD_BYTES as u64 + u64::from(payload_len)).next_multiple_of(FRAME_ALIGN)
}

/// The zeros between a frame's payload and the next frame.
pub(crate) fn padding(header: &FrameHeader) -> &'static [u8] {
    const ZEROS: [u8; 8] = [0; 8];
    let len = FRAME_OVERHEAD_BYTES as u64 + u64::from(header.payload_len);
    let zeros = usize::try_from(header.frame_bytes() - len).unwrap_or(0);
    ZEROS.get(..zeros).unwrap_or_default()
}

/// The canonical header.
pub(crate) fn encode_canonical(header: &FrameHeader) -> [u8; CANONICAL_HEADER_BYTES] {
    let mut out = Output::<CANONICAL_HEADER_BYTES>::new();
    let (kind, subkind) = match header.kind {
        FrameKind::Data => (KIND_DATA, 0),
        FrameKind::Internal(subkind) => (KIND_INTERNAL, subkind),
    };
    out.put([kind, subkind, 0, 0])
        .put(header.records.to_le_bytes())
        .put(header.term.get().to_le_bytes())
        .put(header.leader.get().to_le_bytes())
        .put(header.index.get().to_le_bytes())
        .put(header.base_offset.get().to_le_bytes())
        .put(header.append_time.as_millis().to_le_bytes())
        .put(header.max_timestamp.as_millis().to_le_bytes())
        .put(header.payload_len.to_le_bytes())
        .put(header.payload_crc.to_le_bytes())
        .put(header.chain.to_le_bytes());
    out.finish()
}

/// Reads a canonical header. Says nothing about whether it fits its place in a log.
pub(crate) fn decode_canonical(
    bytes: &[u8; CANONICAL_HEADER_BYTES],
) -> Result<FrameHeader, FrameFault> {
    fn read(mut input: Input<'_>) -> Option<Result<FrameHeader, FrameFault>> {
        let [kind, subkind, zero_1, zero_2] = input.take()?;
        let kind = match (kind, subkind, zero_1, zero_2) {
            (KIND_DATA, 0, 0, 0) => FrameKind::Data,
            (KIND_INTERNAL, subkind, 0, 0) => FrameKind::Internal(subkind),
            _ => return Some(Err(FrameFault::Kind(kind))),
        };
        let records = input.u32()?;
        Some(Ok(FrameHeader {
            kind,
            records,
            term: Term::new(input.u64()?),
            leader: NodeId::new(input.u64()?),
            index: LogIndex::new(input.u64()?),
            base_offset: Offset::new(input.u64()?),
            append_time: Timestamp::from_millis(input.i64()?),
            max_timestamp: Timestamp::from_millis(input.i64()?),
            payload_len: input.u32()?,
            payload_crc: input.u32()?,
            chain: input.u64()?,
        }))
    }
    read(Input(bytes)).unwrap_or(Err(FrameFault::Short))
}

/// The chain hash of a frame; the header's own chain field does not count.
pub(crate) fn chain_after(previous: u64, header: &FrameHeader) -> u64 {
    const HASHED: usize = CANONICAL_HEADER_BYTES - 8;
    let canonical = encode_canonical(header);
    let mut input = [0; 8 + HASHED];
    input[..8].copy_from_slice(&previous.to_le_bytes());
    input[8..].copy_from_slice(&canonical[..HASHED]);
    xxh3_64(&input)
}

/// Envelope and canonical header, ready to be written before the payload.
pub(crate) fn encode_head(envelope: &Envelope, header: &FrameHeader) -> [u8; FRAME_OVERHEAD_BYTES] {
    let canonical = encode_canonical(header);
    let mut out = Output::<FRAME_OVERHEAD_BYTES>::new();
    out.put(FRAME_MAGIC)
        .put([VERSION, 0, 0, 0])
        .put(envelope.segment.0)
        .put(envelope.generation.to_le_bytes())
        .put(envelope.durable_end.get().to_le_bytes());
    let crc = head_crc(out.filled(), &[0; 4], &canonical);
    out.put(crc.to_le_bytes()).put([0; 4]).put(canonical);
    out.finish()
}

/// Reads envelope and canonical header and checks their checksum.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<(Envelope, FrameHeader), FrameFault> {
    let head = bytes.first_chunk::<FRAME_OVERHEAD_BYTES>().ok_or(FrameFault::Short)?;
    let (envelope_bytes, canonical) =
        head.split_first_chunk::<ENVELOPE_BYTES>().ok_or(FrameFault::Short)?;
    let canonical: &[u8; CANONICAL_HEADER_BYTES] =
        canonical.first_chunk().ok_or(FrameFault::Short)?;
    if !head.starts_with(&FRAME_MAGIC) {
        return Err(FrameFault::Magic);
    }
    let (hashed, rest) = envelope_bytes.split_first_chunk::<40>().ok_or(FrameFault::Short)?;
    let (crc, zero) = rest.split_first_chunk::<4>().ok_or(FrameFault::Short)?;
    if head_crc(hashed, zero, canonical) != u32::from_le_bytes(*crc) {
        return Err(FrameFault::HeaderChecksum);
    }
    let envelope = decode_envelope(Input(hashed)).unwrap_or(Err(FrameFault::Short))?;
    Ok((envelope, decode_canonical(canonical)?))
}

fn decode_envelope(mut input: Input<'_>) -> Option<Result<Envelope, FrameFault>> {
    input.take::<4>()?;
    let version = input.u8()?;
    if version != VERSION {
        return Some(Err(FrameFault::Version(version)));
    }
    input.take::<3>()?;
    Some(Ok(Envelope {
        segment: SegmentId(input.take()?),
        generation: input.u64()?,
        durable_end: LogIndex::new(input.u64()?),
    }))
}

fn head_crc(before: &[u8], zero: &[u8], canonical: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(zero);
    hasher.update(canonical);
    hasher.finalize()
}
