//! What can go wrong for a user of the client, and what to do about it.

use std::sync::Arc;
use std::time::Duration;

use duramen_proto::v1::ErrorCode;
use duramen_record::{BatchError, BuildError};
use duramen_types::{Offset, PartitionId, TopicId};
use thiserror::Error;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It did not happen and may work later: try again.
    Retry,
    /// It may or may not have happened: look before trying again.
    UnknownOutcome,
    /// What this producer or consumer stood on is gone (a newer epoch, a re-created topic): make a
    /// new one.
    Fenced,
    /// The request cannot work as it is: change it.
    Invalid,
    /// Stored or received data is damaged: the operator must know.
    Corrupt,
    /// This client, producer or consumer was closed.
    Closed,
}

/// Why a call, a delivery or a read failed. Cheap to clone: one cause may fail many records.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An option has a value that it cannot have.
    #[error("option {option}: {rule}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A node refused; the code says why, the message what to do.
    #[error("refused ({}): {message}", code.as_str_name())]
    Refused {
        /// The reason.
        code: ErrorCode,
        /// The node's words.
        message: Arc<str>,
    },
    /// There is no topic of that name.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// The name.
        topic: Arc<str>,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
    },
    /// The topic was deleted and created again since this producer or consumer was made.
    #[error("topic {topic} was re-created: it is no longer {expected}")]
    TopicRecreated {
        /// The name.
        topic: Arc<str>,
        /// The id it had.
        expected: TopicId,
        /// The id it has now, if known.
        current: Option<TopicId>,
    },
    /// The position lies outside of what the partition keeps.
    #[error("offset {offset} of {topic}-{partition} is out of range")]
    OffsetOutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
        /// The first record kept, if the node said so.
        log_start_offset: Option<Offset>,
        /// One past the last record, if the node said so.
        high_watermark: Option<Offset>,
    },
    /// A record is larger than `record_bytes_max`.
    #[error("record of about {bytes} bytes is over the limit of {limit}")]
    RecordTooLarge {
        /// Its size in a batch, at most.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A record cannot be put into a batch.
    #[error("could not build a batch")]
    Build(#[from] BuildError),
    /// A fetched batch fails its checksum or makes no sense.
    #[error("batch of {topic}-{partition} at {offset} is damaged")]
    CorruptBatch {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// The position of the reader.
        offset: Offset,
        /// What is wrong.
        #[source]
        source: BatchError,
    },
    /// The server no longer knows the producer's sequence of this partition, and the batch had been
    /// sent before: it may or may not be stored.
    #[error("producer state of {topic}-{partition} was lost on the server")]
    SequenceLost {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// What the server said.
        code: ErrorCode,
    },
    /// A node answered that the outcome is not known, or the connection broke, and the call cannot
    /// be repeated safely.
    #[error("outcome of {what} is not known")]
    UnknownOutcome {
        /// The operation.
        what: &'static str,
        /// Why.
        #[source]
        source: Option<Arc<ClientError>>,
    },
    /// No success within the time allowed.
    #[error("could not {what} within {}ms", after.as_millis())]
    Timeout {
        /// The operation.
        what: &'static str,
        /// The time allowed.
        after: Duration,
        /// Whether it may have happened nevertheless.
        maybe_done: bool,
        /// The last thing that went wrong.
        #[source]
        last: Option<Arc<ClientError>>,
    },
    /// The connection could not be made, or broke.
    #[error("could not talk to {address}: {reason}")]
    Connection {
        /// The node's address.
        address: Arc<str>,
        /// What happened.
        reason: Arc<str>,
    },
    /// A node's answer makes no sense.
    #[error("answer of a node makes no sense: {what}")]
    Protocol {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The membership or the partition is this consumer's no more: what was read of it and not
    /// committed is read again by whoever has it now.
    #[error("{group} no longer gives this to the consumer ({})", code.as_str_name())]
    GroupFenced {
        /// The group.
        group: Arc<str>,
        /// What the coordinator said.
        code: ErrorCode,
    },
    /// The group has changed since it was described: describe it again and plan anew.
    #[error("group {group} has changed meanwhile")]
    GroupChanged {
        /// The group.
        group: Arc<str>,
    },
    /// A record was out for longer than
    /// [`GroupOptions::max_processing`](crate::GroupOptions::max_processing) and no other was asked
    /// for: the consumer has left its group so that others go on. The next call joins anew.
    #[error("{topic}-{partition} at {offset} was processed for over {}ms", after.as_millis())]
    ProcessingTimeout {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// The first record that is still out.
        offset: Offset,
        /// The time allowed.
        after: Duration,
    },
    /// The partition is not one that the consumer reads now.
    #[error("{topic}-{partition} is not assigned to this consumer")]
    NotAssigned {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
    },
    /// It was closed, or dropped with the record still waiting.
    #[error("the {what} is closed")]
    Closed {
        /// Producer or consumer.
        what: &'static str,
    },
}

impl ClientError {
    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { code, .. } => refused_kind(*code),
            Self::InvalidOption { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::RecordTooLarge { .. }
            | Self::NotAssigned { .. }
            | Self::Build(_) => ErrorKind::Invalid,
            Self::TopicRecreated { .. } | Self::GroupFenced { .. } | Self::GroupChanged { .. } => {
                ErrorKind::Fenced
            }
            Self::CorruptBatch { .. } | Self::Protocol { .. } => ErrorKind::Corrupt,
            Self::SequenceLost { .. } | Self::UnknownOutcome { .. } => ErrorKind::UnknownOutcome,
            Self::Timeout { maybe_done: true, .. } => ErrorKind::UnknownOutcome,
            Self::Timeout { .. } | Self::Connection { .. } | Self::ProcessingTimeout { .. } => {
                ErrorKind::Retry
            }
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }

    /// The server's code, if a server refused.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. }
            | Self::SequenceLost { code, .. }
            | Self::GroupFenced { code, .. } => Some(*code),
            Self::GroupChanged { .. } => Some(ErrorCode::GroupChanged),
            Self::UnknownTopic { .. } => Some(ErrorCode::UnknownTopic),
            Self::UnknownPartition { .. } => Some(ErrorCode::UnknownPartition),
            Self::TopicRecreated { .. } => Some(ErrorCode::UnknownTopicId),
            Self::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            _ => None,
        }
    }
}

const fn refused_kind(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::NotLeader
        | ErrorCode::Unavailable
        | ErrorCode::Overloaded
        | ErrorCode::Storage
        | ErrorCode::Deadline
        | ErrorCode::ShuttingDown
        | ErrorCode::DiskFull => ErrorKind::Retry,
        ErrorCode::UnknownOutcome => ErrorKind::UnknownOutcome,
        ErrorCode::ProducerFenced
        | ErrorCode::UnknownTopicId
        | ErrorCode::UnknownMember
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::PartitionNotHeld
        | ErrorCode::OffsetBehind
        | ErrorCode::GroupChanged => ErrorKind::Fenced,
        ErrorCode::CorruptBatch | ErrorCode::CorruptReplica => ErrorKind::Corrupt,
        ErrorCode::Unspecified
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownTopic
        | ErrorCode::UnknownPartition
        | ErrorCode::OffsetOutOfRange
        | ErrorCode::RecordTooLarge
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::UnknownProducer
        | ErrorCode::TopicExists
        | ErrorCode::InvalidTopicName
        | ErrorCode::InvalidConfig
        | ErrorCode::NotEnoughNodes
        | ErrorCode::Denied
        | ErrorCode::UnsupportedCompression
        | ErrorCode::UnknownGroup
        | ErrorCode::GroupInUse
        | ErrorCode::GroupLimit => ErrorKind::Invalid,
    }
}
