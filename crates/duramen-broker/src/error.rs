//! Why a use case was refused, typed; each listener maps this once to its own wire.

use std::time::Duration;

use duramen_group::{ErrorKind as GroupErrorKind, Refusal as GroupRefusal};
use duramen_metadata::{Node, PlanError, Refusal, ReplaceError};
use duramen_raft::ProposeError;
use duramen_record::BatchError;
use duramen_types::{Offset, PartitionId, ProducerEpoch, Sequence, Term, TopicId};

use crate::limits;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again, here or at the leader named.
    Retry,
    /// The caller is stale: it must look again at what it knows.
    Fenced,
    /// The request is wrong and will stay wrong.
    Invalid,
    /// The replica here is damaged.
    Corrupt,
    /// The node cannot go on.
    Fatal,
}

/// Why a use case was refused.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The node does not belong to a running cluster yet.
    #[error("this node is starting: {reason}")]
    Starting {
        /// What it waits for.
        reason: String,
    },
    /// The node is going down.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// The request is malformed.
    #[error("{field} is not valid: {rule}")]
    InvalidRequest {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
    /// No topic of that name.
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// The topic of that name is another one.
    #[error("topic {name:?} was deleted and created again, as {current}")]
    TopicReplaced {
        /// The name.
        name: String,
        /// The topic that has it now.
        current: TopicId,
    },
    /// No such partition.
    #[error("topic {name:?} has {partitions} partitions, and no partition {partition}")]
    UnknownPartition {
        /// The topic.
        name: String,
        /// What was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: usize,
    },
    /// Another node leads.
    #[error("this node does not lead the partition{}", led_by(.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Box<Node>>,
        /// The term this is about.
        leader_epoch: Term,
    },
    /// Nobody leads at the moment.
    #[error("the partition has no leader at the moment")]
    NoLeader,
    /// The member opened another stream, which is the one that counts.
    #[error("the member has another stream: one that was opened after this one")]
    StreamReplaced,
    /// Not enough of the cluster can be reached.
    #[error("could not change the metadata: {reason}")]
    MetadataUnavailable {
        /// Why.
        reason: String,
    },
    /// It may or may not have happened.
    #[error("could not learn the outcome in time; a retry under the same sequence is safe")]
    UnknownOutcome,
    /// The time allowed passed before anything was done.
    #[error("could not be done within {}ms", .0.as_millis())]
    Deadline(Duration),
    /// The offset is not in the log.
    #[error("offset {offset} is not in the log: it has {log_start_offset} to {high_watermark}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First kept.
        log_start_offset: Offset,
        /// One past the last committed.
        high_watermark: Offset,
    },
    /// A batch does not hold together.
    #[error("could not accept the batch")]
    Batch(#[from] BatchError),
    /// A batch is too large.
    #[error("a batch of {bytes} bytes is more than max.message.bytes, {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// A record cannot be given in plain form.
    #[error(
        "the record at offset {offset} has {headers} headers, and an answer in plain form at most \
         {} records and headers: read it as a batch",
        limits::PLAIN_ITEMS_MAX
    )]
    TooManyHeaders {
        /// Where it is.
        offset: Offset,
        /// How many it has.
        headers: usize,
    },
    /// The producer's sequence has a gap.
    #[error("sequence {found} where {expected} is due")]
    OutOfOrderSequence {
        /// What came.
        found: Sequence,
        /// What was due.
        expected: Sequence,
    },
    /// A newer epoch of the producer is there.
    #[error("the producer was replaced by its epoch {current}")]
    ProducerFenced {
        /// That epoch.
        current: ProducerEpoch,
    },
    /// The producer is not remembered.
    #[error("the producer is not known here any more: get a new producer id")]
    UnknownProducer,
    /// Too much is waiting.
    #[error("too much is waiting in the partition: slow down")]
    Overloaded,
    /// No room for records.
    #[error(
        "the disk is nearly full: free space, lower retention.ms or retention.bytes, or add disks"
    )]
    DiskFull,
    /// The replica is damaged or lost.
    #[error("the replica here takes no part: {reason}")]
    CorruptReplica {
        /// What is wrong with it.
        reason: String,
    },
    /// Stored data could not be read.
    #[error("could not read stored data: {reason}")]
    Storage {
        /// What the log said.
        reason: String,
    },
    /// The topic request breaks a rule.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The move of a replica breaks a rule.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The metadata group refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The group refused.
    #[error(transparent)]
    Group(GroupRefusal),
    /// The caller may not.
    #[error("{who} may not {what}")]
    Denied {
        /// Who asked.
        who: String,
        /// For what.
        what: &'static str,
    },
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn led_by(leader: &Option<Box<Node>>) -> String {
    leader.as_ref().map_or_else(String::new, |node| format!("; node {} does", node.id))
}

impl BrokerError {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Starting { .. }
            | Self::ShuttingDown
            | Self::NotLeader { .. }
            | Self::NoLeader
            | Self::StreamReplaced
            | Self::MetadataUnavailable { .. }
            | Self::UnknownOutcome
            | Self::Deadline(_)
            | Self::Overloaded
            | Self::DiskFull => ErrorKind::Retry,
            Self::TopicReplaced { .. }
            | Self::ProducerFenced { .. }
            | Self::UnknownProducer
            | Self::OutOfOrderSequence { .. } => ErrorKind::Fenced,
            Self::CorruptReplica { .. } => ErrorKind::Corrupt,
            Self::Storage { .. } => ErrorKind::Fatal,
            Self::InvalidRequest { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Batch(_)
            | Self::TooLarge { .. }
            | Self::TooManyHeaders { .. }
            | Self::Plan(_)
            | Self::Replace(_)
            | Self::Refused(_)
            | Self::Denied { .. } => ErrorKind::Invalid,
            Self::Group(refusal) => match refusal.kind() {
                GroupErrorKind::Retry => ErrorKind::Retry,
                GroupErrorKind::Fenced => ErrorKind::Fenced,
                GroupErrorKind::Invalid => ErrorKind::Invalid,
                GroupErrorKind::Corrupt => ErrorKind::Corrupt,
                GroupErrorKind::Fatal => ErrorKind::Fatal,
            },
        }
    }

    /// How long to wait before another try.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::Overloaded => limits::OVERLOADED_RETRY,
            Self::Starting { .. }
            | Self::NoLeader
            | Self::StreamReplaced
            | Self::MetadataUnavailable { .. } => limits::NO_LEADER_RETRY,
            Self::DiskFull => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn invalid(field: &'static str, rule: impl Into<String>) -> Self {
        Self::InvalidRequest { field, rule: rule.into() }
    }
}

impl From<ProposeError> for BrokerError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } | ProposeError::Stopped => Self::NoLeader,
            ProposeError::Unknown => Self::UnknownOutcome,
        }
    }
}
