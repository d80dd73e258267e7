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
