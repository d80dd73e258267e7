//! The sparse index of a segment: where to begin when looking for an index, offset or time.

use bytes::Bytes;
use duramen_types::{LogIndex, Offset, Term, Timestamp};

use crate::format::index;

/// One frame in every few kilobytes. Term and payload identify the frame even if it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SparseEntry {
    /// The frame's log index.
    pub(crate) index: LogIndex,
    /// Its base offset.
    pub(crate) offset: Offset,
    /// Where it begins in the file, in bytes.
    pub(crate) position: u64,
    /// The largest record timestamp of all frames before it in the segment.
    pub(crate) max_before: Timestamp,
    /// Its term.
    pub(crate) term: Term,
    /// The length of its payload in bytes.
    pub(crate) payload_len: u32,
    /// The checksum of its payload.
    pub(crate) payload_crc: u32,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The frame with this index.
    Index(LogIndex),
    /// The data frame with this offset.
    Offset(Offset),
    /// The first frame whose largest timestamp is at or after this.
    Time(Timestamp),
}

impl Target {
    /// Whether what is looked for cannot lie before this entry. Entries for which this is true
    /// precede all others.
    fn is_at_or_after(self, entry: &SparseEntry) -> bool {
        match self {
            Self::Index(index) => entry.index <= index,
            Self::Offset(offset) => entry.offset <= offset,
            Self::Time(time) => entry.max_before < time,
        }
    }
}

/// The sparse entries of a sealed segment, in order.
#[derive(Debug)]
pub(crate) enum SparseIndex {
    /// In memory.
    Owned(Vec<SparseEntry>),
    /// The entries' bytes of a mapped index file.
    Mapped(Bytes),
}

impl SparseIndex {
    /// Where to begin looking: nothing before this position can be it. `None` without entries.
    pub(crate) fn seek(&self, target: Target) -> Option<u64> {
        match self {
            Self::Owned(entries) => seek(entries, target),
            Self::Mapped(bytes) => {
                let count = bytes.len() / index::ENTRY_BYTES;
                search(count, |at| index::decode_entry(bytes, at), target)
            }
        }
    }
}

/// [`SparseIndex::seek`] over entries in memory.
pub(crate) fn seek(entries: &[SparseEntry], target: Target) -> Option<u64> {
    search(entries.len(), |at| entries.get(at).copied(), target)
}

/// The position of the last entry that is still at or before the target, or of the first.
fn search(count: usize, get: impl Fn(usize) -> Option<SparseEntry>, target: Target) -> Option<u64> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if target.is_at_or_after(&get(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    get(low.saturating_sub(1)).map(|entry| entry.position)
}
