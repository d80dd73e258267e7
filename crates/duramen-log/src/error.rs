//! Errors of the log: what went wrong, and by `kind()` what the caller can do about it.

use std::io;

use duramen_types::{ClusterId, LogIndex, Offset, ReplicaId, Term};

/// What an error asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing changed; it may work later.
    Retry,
    /// The caller is stale.
    Fenced,
    /// The request is wrong.
    Invalid,
    /// This replica needs repair.
    Corrupt,
    /// Stop using this log.
    Fatal,
}

/// Why bytes are not the frame that is due at their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The file ends within the frame.
    #[error("the file ends within the frame")]
    Short,
    /// No frame begins here.
    #[error("no frame begins here")]
    Magic,
    /// A format version that this program does not know.
    #[error("format version {0} is unknown")]
    Version(u8),
    /// The checksum over envelope and header does not match.
    #[error("the header checksum does not match")]
    HeaderChecksum,
    /// A frame kind that this program does not know.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// The frame belongs to another segment or to an earlier life of the file.
    #[error("the frame belongs to another segment")]
    Segment,
    /// The frame's truncation generation does not fit its neighbors.
    #[error("truncation generation {found} does not fit")]
    Generation {
        /// The generation in the frame.
        found: u64,
    },
    /// Another log index is due here.
    #[error("log index {found} where {expected} is due")]
    Index {
        /// The index in the frame.
        found: LogIndex,
        /// The index that is due.
        expected: LogIndex,
    },
    /// The base offset is not the number of records before.
    #[error("base offset {found} where {expected} is due")]
    Offset {
        /// The base offset in the frame.
        found: Offset,
        /// The number of records before.
        expected: Offset,
    },
    /// The term is below that of the frame before, or not the one that the log has at this index.
    #[error("term {found} does not belong here")]
    Term {
        /// The term in the frame.
        found: Term,
    },
    /// The append time is before that of the frame before.
    #[error("the append time goes back")]
    AppendTime,
    /// An internal frame that counts records.
    #[error("an internal frame counts records")]
    InternalRecords,
    /// The chain hash does not follow from the frames before.
    #[error("the chain hash does not follow from the frames before")]
    Chain,
    /// The payload checksum does not match.
    #[error("the payload checksum does not match")]
    PayloadChecksum,
    /// The payload's length is not the one in the header.
    #[error("the payload is not as long as the header says")]
    PayloadLength,
    /// The disk cannot read it.
    #[error("the disk cannot read it")]
    Unreadable,
    /// The frame is not there.
    #[error("the frame is missing")]
    Missing,
}

/// An operation on an open log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The index is below the log start or at or above the log end.
    #[error("log index {index} is outside the log, {start} to {end}")]
    OutOfRange {
        /// The index asked for.
        index: LogIndex,
        /// The first index kept.
        start: LogIndex,
        /// One past the last index.
        end: LogIndex,
    },
    /// The offset is below the log start offset or above the log end offset.
    #[error("offset {offset} is outside the log, {start} to {end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset kept.
        start: Offset,
        /// One past the last offset.
        end: Offset,
    },
    /// An appended frame does not continue the log.
    #[error("log index {index} appended where {expected} is due")]
    NotNext {
        /// The index of the frame.
        index: LogIndex,
        /// The index that is due.
        expected: LogIndex,
    },
    /// A new frame that no log may hold.
    #[error("could not append log index {index}")]
    BadFrame {
        /// The index of the frame.
        index: LogIndex,
        /// What is wrong with it.
        #[source]
        fault: FrameFault,
    },
    /// A payload, an append or a state is larger than may be.
    #[error("{bytes} bytes are more than {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The most allowed.
        bytes_max: u64,
    },
    /// A frame from another replica does not continue this one's history. Nothing was appended.
    #[error("log index {index} does not continue this log")]
    Diverged {
        /// The first index that differs.
        index: LogIndex,
        /// What differs.
        #[source]
        fault: FrameFault,
    },
    /// A cut at or below the committed index was asked for. Nothing changed.
    #[error("could not cut the log to end at {end}: it is committed up to {committed_end}")]
    Committed {
        /// The end asked for, exclusive.
        end: LogIndex,
        /// The committed end, exclusive.
        committed_end: LogIndex,
    },
    /// A log start that lies outside the log or contradicts it. Nothing changed.
    #[error("log start {index} does not fit this log")]
    BadStart {
        /// The first index asked for.
        index: LogIndex,
    },
    /// The disk is full. Nothing changed.
    #[error("could not get space on the disk")]
    Full,
    /// A frame on disk is damaged; it was not served.
    #[error("log index {index} is damaged in segment {segment} at position {position}")]
    Corrupt {
        /// The index of the frame.
        index: LogIndex,
        /// The first index of its segment.
        segment: LogIndex,
        /// Where in the segment file, in bytes.
        position: u64,
        /// What is wrong with it.
        #[source]
        fault: FrameFault,
    },
    /// The log lost frames at its end and takes no more.
    #[error("the log has lost its end, log index {first} on")]
    EndLost {
        /// The first index that is lost.
        first: LogIndex,
    },
    /// The operating system refused; an action that changes the log has poisoned it.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An earlier write or sync failed; the log serves no more appends until it is opened again.
    #[error("an earlier write or sync of this log failed")]
    Poisoned,
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full => ErrorKind::Retry,
            Self::OutOfRange { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::NotNext { .. }
            | Self::BadFrame { .. }
            | Self::TooLarge { .. }
            | Self::BadStart { .. }
            | Self::Committed { .. } => ErrorKind::Invalid,
            Self::Diverged { .. } | Self::Corrupt { .. } | Self::EndLost { .. } => {
                ErrorKind::Corrupt
            }
            Self::Io { .. } | Self::Poisoned | Self::Closed => ErrorKind::Fatal,
        }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// A log could not be created or opened. Except for [`OpenError::Exists`] and
/// [`OpenError::Io`], the replica is lost: it must never come back as a new one under its old id.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log in this directory.
    #[error("there is no log in this directory")]
    Missing,
    /// There is a log in this directory already.
    #[error("there is a log in this directory already")]
    Exists,
    /// The log belongs to another cluster.
    #[error("the log belongs to cluster {found}")]
    WrongCluster {
        /// The cluster it belongs to.
        found: ClusterId,
    },
    /// The log belongs to another replica.
    #[error("the log belongs to replica {found}")]
    WrongReplica {
        /// The replica it belongs to.
        found: ReplicaId,
    },
    /// Both copies of the log's metadata are gone or damaged.
    #[error("the log's metadata is lost")]
    MetaLost,
    /// The record of where the log starts is gone or damaged.
    #[error("the log's start is lost")]
    StartLost,
    /// A file is of a format that this program does not know.
    #[error("format version {found} is unknown")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The operating system refused.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists | Self::WrongCluster { .. } | Self::WrongReplica { .. } => {
                ErrorKind::Invalid
            }
            Self::Missing | Self::MetaLost | Self::StartLost => ErrorKind::Corrupt,
            Self::Version { .. } | Self::Io { .. } => ErrorKind::Fatal,
        }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Whether an error says that the disk or the quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
