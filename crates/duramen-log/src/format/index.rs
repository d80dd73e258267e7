//! The bytes of an `.index` file: the summary of a synced part of a segment, and sparse entries.
//!
//! ```text
//!   0          8      12     16                32           40          48
//!   +----------+------+------+-----------------+------------+-----------+
//!   | DURINDEX | ver 1| flags| segment id (16) | generation | bytes     |
//!   +----------+------+------+-----------------+------------+-----------+
//!  48                 88                128                 136
//!   +-----------------+-----------------+-------------------+-------------------+
//!   | base boundary   | end boundary    | first append time | largest timestamp |
//!   +-----------------+-----------------+-------------------+-------------------+
//! 144          148            152          156    160
//!   +-----------+--------------+-----------+------+--------------------------+---------+
//!   | terms     | entries      | entries   | head | terms: (term, first      | entries |
//!   | (count)   | (count)      | CRC       | CRC  | index) each 16 bytes     |         |
//!   +-----------+--------------+-----------+------+--------------------------+---------+
//! boundary, 40 bytes:  index, offset, term, chain hash, append time
//! entry, 48 bytes:     index, offset, position, largest timestamp before, term,
//!                      payload length (u32), payload CRC (u32)
//! ```
//! Flag 1: the segment is sealed. Flags 2 and 4: the base and the end boundary have a term.
//! The head CRC is CRC-32 over bytes 0..156 and the terms.

use duramen_types::{LogIndex, Offset, Term, Timestamp};

use super::{Input, Output};
use crate::boundary::Boundary;
use crate::segment::SegmentId;
use crate::sparse::SparseEntry;

/// Length of the fixed part.
pub(crate) const INDEX_HEAD_BYTES: usize = 160;
/// Length of one term.
pub(crate) const TERM_BYTES: usize = 16;
/// Length of one sparse entry.
pub(crate) const ENTRY_BYTES: usize = 48;
const BOUNDARY_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"DURINDEX";
const VERSION: u32 = 1;
const SEALED: u32 = 1;
const BASE_TERM: u32 = 2;
const END_TERM: u32 = 4;

/// What an index says about its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexHead {
    /// The segment's id.
    pub(crate) id: SegmentId,
    /// The truncation generation when the index was written.
    pub(crate) generation: u64,
    /// How many bytes of the segment it covers, all of them synced before it was written.
    pub(crate) bytes: u64,
    /// Whether the segment was sealed, with exactly these bytes.
    pub(crate) sealed: bool,
    /// The log before the segment.
    pub(crate) base: Boundary,
    /// The log after the bytes covered.
    pub(crate) end: Boundary,
    /// The append time of the first frame.
    pub(crate) first_append_time: Timestamp,
    /// The largest record timestamp of the bytes covered.
    pub(crate) max_timestamp: Timestamp,
    /// The first index of each term within the segment.
    pub(crate) terms: Vec<(Term, LogIndex)>,
    /// How many sparse entries follow.
    pub(crate) entries: u32,
    /// Their CRC-32.
    pub(crate) entries_crc: u32,
}

impl IndexHead {
    /// Where the sparse entries begin.
    pub(crate) fn entries_position(&self) -> usize {
        INDEX_HEAD_BYTES + self.terms.len() * TERM_BYTES
    }

    /// How long the file is.
    pub(crate) fn file_bytes(&self) -> usize {
        self.entries_position() + self.entries as usize * ENTRY_BYTES
    }
}

/// The sparse entries' bytes; their CRC goes into the head.
pub(crate) fn encode_entries(entries: &[SparseEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        let mut out = Output::<ENTRY_BYTES>::new();
        out.put(entry.index.get().to_le_bytes())
            .put(entry.offset.get().to_le_bytes())
            .put(entry.position.to_le_bytes())
            .put(entry.max_before.as_millis().to_le_bytes())
            .put(entry.term.get().to_le_bytes())
            .put(entry.payload_len.to_le_bytes())
            .put(entry.payload_crc.to_le_bytes());
        bytes.extend_from_slice(&out.finish());
    }
    bytes
}

/// The entry at a place in the entries' bytes.
pub(crate) fn decode_entry(entries: &[u8], at: usize) -> Option<SparseEntry> {
    let begin = at.checked_mul(ENTRY_BYTES)?;
    let mut input = Input(entries.get(begin..)?.first_chunk::<ENTRY_BYTES>()?);
    Some(SparseEntry {
        index: LogIndex::new(input.u64()?),
        offset: Offset::new(input.u64()?),
        position: input.u64()?,
        max_before: Timestamp::from_millis(input.i64()?),
        term: Term::new(input.u64()?),
        payload_len: input.u32()?,
        payload_crc: input.u32()?,
    })
}

/// The head's bytes, terms included.
pub(crate) fn encode_head(head: &IndexHead) -> Vec<u8> {
    let flags = if head.sealed { SEALED } else { 0 }
        | if head.base.term.is_some() { BASE_TERM } else { 0 }
        | if head.end.term.is_some() { END_TERM } else { 0 };
    let term_count = u32::try_from(head.terms.len()).unwrap_or(u32::MAX);
    let mut out = Output::<INDEX_HEAD_BYTES>::new();
    out.put(MAGIC)
        .put(VERSION.to_le_bytes())
        .put(flags.to_le_bytes())
        .put(head.id.0)
        .put(head.generation.to_le_bytes())
        .put(head.bytes.to_le_bytes())
        .put(encode_boundary(&head.base))
        .put(encode_boundary(&head.end))
        .put(head.first_append_time.as_millis().to_le_bytes())
        .put(head.max_timestamp.as_millis().to_le_bytes())
        .put(term_count.to_le_bytes())
        .put(head.entries.to_le_bytes())
        .put(head.entries_crc.to_le_bytes());
    let mut terms = Vec::with_capacity(head.terms.len() * TERM_BYTES);
    for (term, index) in &head.terms {
        terms.extend_from_slice(&term.get().to_le_bytes());
        terms.extend_from_slice(&index.get().to_le_bytes());
    }
    let crc = crc(out.filled(), &terms);
    out.put(crc.to_le_bytes());
    [&out.finish()[..], &terms].concat()
}

/// How many bytes the head and its terms take, from the fixed part; not yet checked.
pub(crate) fn head_bytes(fixed: &[u8]) -> Option<u64> {
    let mut input = Input(fixed.get(144..)?);
    Some(INDEX_HEAD_BYTES as u64 + u64::from(input.u32()?) * TERM_BYTES as u64)
}

/// Reads a head with its terms; `None` if anything is amiss: an index can be rebuilt.
pub(crate) fn decode_head(bytes: &[u8]) -> Option<IndexHead> {
    let (fixed, terms) = bytes.split_first_chunk::<INDEX_HEAD_BYTES>()?;
    let (hashed, found) = fixed.split_last_chunk::<4>()?;
    if !hashed.starts_with(&MAGIC) || crc(hashed, terms) != u32::from_le_bytes(*found) {
        return None;
    }
    let mut input = Input(hashed);
    input.take::<8>()?;
    if input.u32()? != VERSION {
        return None;
    }
    let flags = input.u32()?;
    let id = SegmentId(input.take()?);
    let generation = input.u64()?;
    let bytes = input.u64()?;
    let base = decode_boundary(&mut input, flags & BASE_TERM != 0)?;
    let end = decode_boundary(&mut input, flags & END_TERM != 0)?;
    let first_append_time = Timestamp::from_millis(input.i64()?);
    let max_timestamp = Timestamp::from_millis(input.i64()?);
    let term_count = input.u32()?;
    let (entries, entries_crc) = (input.u32()?, input.u32()?);
    let terms = decode_terms(terms, term_count as usize)?;
    Some(IndexHead {
        id,
        generation,
        bytes,
        sealed: flags & SEALED != 0,
        base,
        end,
        first_append_time,
        max_timestamp,
        terms,
        entries,
        entries_crc,
    })
}

fn decode_terms(bytes: &[u8], count: usize) -> Option<Vec<(Term, LogIndex)>> {
    let (chunks, rest) = bytes.as_chunks::<TERM_BYTES>();
    if chunks.len() != count || !rest.is_empty() {
        return None;
    }
    chunks
        .iter()
        .map(|chunk| {
            let mut input = Input(chunk);
            Some((Term::new(input.u64()?), LogIndex::new(input.u64()?)))
        })
        .collect()
}

fn encode_boundary(boundary: &Boundary) -> [u8; BOUNDARY_BYTES] {
    let mut out = Output::<BOUNDARY_BYTES>::new();
    out.put(boundary.index.get().to_le_bytes())
        .put(boundary.offset.get().to_le_bytes())
        .put(boundary.term.map_or(0, Term::get).to_le_bytes())
        .put(boundary.chain.to_le_bytes())
        .put(boundary.append_time.as_millis().to_le_bytes());
    out.finish()
}

fn decode_boundary(input: &mut Input<'_>, has_term: bool) -> Option<Boundary> {
    let index = LogIndex::new(input.u64()?);
    let offset = Offset::new(input.u64()?);
    let term = Term::new(input.u64()?);
    let chain = input.u64()?;
    let append_time = Timestamp::from_millis(input.i64()?);
    Some(Boundary { index, offset, term: has_term.then_some(term), chain, append_time })
}

fn crc(head: &[u8], terms: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(terms);
    hasher.finalize()
}
