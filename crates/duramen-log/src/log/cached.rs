//! Where the log is at the moment, for callers that must know without touching the disk.

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

    /// Whether about more than so many bytes of frames in memory follow an index, or frames that
    /// are not in memory, if these are not more than so many frames.
    #[must_use]
    pub fn is_behind(&self, index: LogIndex, bytes: u64, frames_max: u64) -> bool {
        let state = self.state();
        let next = index.saturating_add(1);
        if next >= state.end.index {
            return false;
        }
        match state.cache.bytes_from(next) {
            Some(cached) => cached > bytes,
            None => state.end.index.distance_from(next) <= frames_max,
        }
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
}
