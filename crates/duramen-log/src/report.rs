//! What opening a log found, as the caller is told.

use duramen_types::LogIndex;

/// Frames that are damaged or missing although they were synced. They are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The first index.
    pub first: LogIndex,
    /// The last index.
    pub last: LogIndex,
}

impl DamagedRange {
    /// Whether an index lies in it.
    #[must_use]
    pub fn contains(&self, index: LogIndex) -> bool {
        (self.first..=self.last).contains(&index)
    }
}

/// An unfinished write that was cut off at open: nothing of it had been synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The first index that was cut.
    pub index: LogIndex,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The log had been closed, and is as it was then.
    pub clean: bool,
    /// An unfinished write was cut.
    pub torn: Option<TornTail>,
    /// Synced frames that are lost, in order. The replica must not lead; see `end_lost` for when
    /// it must not vote either.
    pub damaged: Vec<DamagedRange>,
    /// Synced frames at the log's end are lost from this index on: the log takes no appends, and
    /// the replica must not vote, for it does not know how far it once was.
    pub end_lost: Option<LogIndex>,
    /// The last index that is durable.
    pub durable: Option<LogIndex>,
    /// An index known to be committed; there may be later ones.
    pub committed: Option<LogIndex>,
}
