//! Where the log is at the moment, for callers that must know without touching the disk.

use std::sync::Arc;
use std::time::Duration;

use duramen_types::{LogIndex, Offset};

use super::Log;

impl Log {
    /// The first index of the active segment; the log end if none is active.
    #[must_use]
    pub fn active_first_index(&self) -> LogIndex {
        let state = self.state();
        let active = state.segments.back().filter(|segment| !segment.sealed);
        active.map_or(state.end.index, |segment| segment.summary.base.index)
    }

    /// Whether reading from an index on begins in memory.
    #[must_use]
    pub fn is_cached(&self, index: LogIndex) -> bool {
        self.state().cache.starting_at(index).is_some()
    }

    /// Whether the frame that holds an offset is in memory.
    #[must_use]
    pub fn is_offset_cached(&self, offset: Offset) -> bool {
        self.state().cache.holding_offset(offset).is_some()
    }

    /// Whether a read at an offset very likely finds what it wants in the page cache: all of its
    /// segment was read, and found sound, less than a minute before `now`.
    #[must_use]
    pub fn is_offset_warm(&self, offset: Offset, now: Duration) -> bool {
        let (file, bytes) = {
            let state = self.state();
            let at = state.segments.partition_point(|one| one.summary.end.offset <= offset);
            match state.segments.get(at).filter(|segment| !segment.damaged) {
                Some(segment) => (Arc::clone(&segment.file), segment.written_bytes),
                None => return false,
            }
        };
        file.is_known_sound(bytes, now)
    }
}
