//! One segment file while recovery judges it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use duramen_env::DiskFile;
use duramen_types::LogIndex;

use crate::error::FrameFault;
use crate::format::index::IndexHead;
use crate::format::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::scan::{BadSpot, ScanOutcome};
use crate::segment::{SegmentFile, SegmentId, Summary};

/// One segment file while it is being judged.
pub(super) struct Piece {
    pub(super) first_index: LogIndex,
    pub(super) file: Arc<SegmentFile>,
    pub(super) id: Option<SegmentId>,
    pub(super) summary: Summary,
    pub(super) bad_spots: Vec<BadSpot>,
    pub(super) head_fault: bool,
    pub(super) nonzero_end: u64,
    /// A later segment exists, or the index says so.
    pub(super) sealed: bool,
    /// Everything is as a sound index says; nothing was scanned.
    pub(super) trusted: bool,
    pub(super) damaged: bool,
}

impl Piece {
    /// One past its last byte that means something.
    pub(super) fn bytes_end(&self) -> u64 {
        self.nonzero_end.max(self.summary.bytes)
    }

    /// The same without its head, as what is in flight is counted.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.bytes_end().saturating_sub(SEGMENT_HEAD_BYTES as u64)
    }

    /// Where the frames begin that may not have been synced; `None` if all were, or if something
    /// among them is bad and is to stay as it is.
    pub(super) fn unproven(&self, durable_end: LogIndex) -> Option<u64> {
        if self.summary.end.index <= durable_end {
            return None;
        }
        let known = self.summary.sparse.partition_point(|entry| entry.index <= durable_end);
        let entry = known.checked_sub(1).and_then(|last| self.summary.sparse.get(last));
        let from = match entry {
            Some(entry) if self.summary.base.index < durable_end => entry.position,
            _ => 0,
        };
        let is_sound = self.bad_spots.iter().all(|spot| spot.position < from);
        is_sound.then_some(from)
    }

    /// A segment that its index speaks for.
    pub(super) fn trusted(
        first_index: LogIndex,
        file: Arc<SegmentFile>,
        index: &IndexHead,
    ) -> Self {
        Self {
            first_index,
            file,
            id: Some(index.id),
            summary: summary_of(index),
            bad_spots: Vec::new(),
            head_fault: false,
            nonzero_end: 0,
            sealed: true,
            trusted: true,
            damaged: false,
        }
    }

    /// A segment that was read.
    pub(super) fn scanned(
        first_index: LogIndex,
        file: Arc<SegmentFile>,
        outcome: ScanOutcome,
        sealed: bool,
    ) -> Self {
        Self {
            first_index,
            file,
            id: outcome.id,
            summary: outcome.summary,
            bad_spots: outcome.bad_spots,
            head_fault: outcome.head_fault.is_some(),
            nonzero_end: outcome.nonzero_end,
            sealed,
            trusted: false,
            damaged: false,
        }
    }
}

/// Notes, in the piece before, that frames between two pieces are missing.
pub(super) fn note_gap(pieces: &mut [Piece], due: LogIndex, found: LogIndex) {
    if found <= due {
        return;
    }
    let open = pieces
        .iter_mut()
        .rev()
        .find_map(|piece| piece.bad_spots.last_mut().filter(|spot| spot.next.is_none()));
    if let Some(spot) = open {
        spot.next = Some(found);
    } else if let Some(piece) = pieces.last_mut() {
        piece.bad_spots.push(missing(due, found, piece.summary.bytes));
    }
}

/// A place where frames are missing.
pub(super) fn missing(index: LogIndex, next: LogIndex, position: u64) -> BadSpot {
    let fault = FrameFault::Missing;
    BadSpot { index, next: Some(next), position, fault, is_damage: false }
}

/// What an index says of its segment.
pub(super) fn summary_of(index: &IndexHead) -> Summary {
    Summary {
        base: index.base,
        end: index.end,
        bytes: index.bytes,
        first_append_time: index.first_append_time,
        max_timestamp: index.max_timestamp,
        terms: index.terms.clone(),
        sparse: Vec::new(),
    }
}

/// Writes bytes again that are there already.
pub(super) fn rewrite(file: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
    let mut position = range.start;
    let mut buffer = Vec::new();
    while position < range.end {
        let len = usize::try_from(range.end - position).unwrap_or(usize::MAX);
        buffer.resize(len.min(SCAN_CHUNK_BYTES), 0);
        let read = file.read_at(&mut buffer, position)?;
        if read == 0 {
            break;
        }
        file.write_at(buffer.get(..read).unwrap_or_default(), position)?;
        position += read as u64;
    }
    Ok(())
}

/// A segment's head, if it is sound.
pub(super) fn read_head(file: &dyn DiskFile) -> Option<SegmentHead> {
    let mut bytes = [0; SEGMENT_HEAD_BYTES];
    let read = file.read_at(&mut bytes, 0).ok()?;
    segment::decode(bytes.get(..read)?).ok()
}
