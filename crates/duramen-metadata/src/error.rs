//! Errors of planning and of reading stored bytes.

use duramen_types::TopicId;

use crate::config::ConfigKey;
use crate::limits::{NAME_BYTES_MAX, PARTITIONS_MAX, RESERVED_PREFIX};

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again: the state may have changed.
    Retry,
    /// The caller is stale: refresh, or stop.
    Fenced,
    /// The request is wrong and stays so.
    Invalid,
    /// Stored or received bytes are damaged.
    Corrupt,
    /// The node must stop.
    Fatal,
}

/// Why a request cannot become a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The cluster has no id yet.
    #[error("the cluster is not formed yet")]
    NotFormed,
    /// The name breaks the rule.
    #[error(
        "topic name {name:?} is not allowed: 1 to {NAME_BYTES_MAX} of the characters \
         A-Z a-z 0-9 . _ -, not \".\" or \"..\""
    )]
    InvalidName {
        /// The name.
        name: Box<str>,
    },
    /// The name is kept for Duramen.
    #[error("topic name {name:?} is not allowed: {RESERVED_PREFIX} is reserved")]
    ReservedName {
        /// The name.
        name: Box<str>,
    },
    /// The name is taken.
    #[error("topic {name:?} exists already")]
    TopicExists {
        /// The name.
        name: Box<str>,
        /// The topic that has it.
        topic: TopicId,
    },
    /// There is no topic of this name.
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name.
        name: Box<str>,
    },
    /// The topic of this name has another id.
    #[error("topic {name:?} was deleted and created again, as {current}")]
    TopicReplaced {
        /// The name.
        name: Box<str>,
        /// The topic that has it.
        current: TopicId,
    },
    /// Too many partitions.
    #[error("{asked} partitions are too many: a topic has at most {PARTITIONS_MAX}")]
    TooManyPartitions {
        /// What was asked for.
        asked: u32,
    },
    /// More replicas than nodes.
    #[error("{asked} replicas need {asked} nodes, there are {nodes}")]
    NotEnoughNodes {
        /// What was asked for.
        asked: u32,
        /// The nodes that are known.
        nodes: usize,
    },
    /// A key or value of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl PlanError {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFormed => ErrorKind::Retry,
            Self::TopicReplaced { .. } => ErrorKind::Fenced,
            Self::InvalidName { .. }
            | Self::ReservedName { .. }
            | Self::TopicExists { .. }
            | Self::UnknownTopic { .. }
            | Self::TooManyPartitions { .. }
            | Self::NotEnoughNodes { .. }
            | Self::Config(_) => ErrorKind::Invalid,
        }
    }
}

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("there is no configuration key {key:?}{}", did_you_mean(*.nearest))]
    UnknownKey {
        /// What was given.
        key: Box<str>,
        /// The key that was probably meant.
        nearest: Option<ConfigKey>,
    },
    /// The value cannot be read or is out of range.
    #[error("{value:?} is not a value of {key}: expected {}", .key.expected())]
    BadValue {
        /// The key.
        key: ConfigKey,
        /// What was given.
        value: Box<str>,
    },
    /// A segment must hold the largest batch.
    #[error(
        "max.message.bytes {max_message_bytes} is larger than segment.bytes {segment_bytes}: \
         a segment must hold the largest batch"
    )]
    MessageLargerThanSegment {
        /// The value of `max.message.bytes` that would be in force.
        max_message_bytes: u32,
        /// The value of `segment.bytes` that would be in force.
        segment_bytes: u64,
    },
}

fn did_you_mean(nearest: Option<ConfigKey>) -> String {
    nearest.map(|key| format!(", did you mean {key}?")).unwrap_or_default()
}

/// Why bytes are not a command, an outcome or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a message of the format.
    #[error("could not decode the metadata message")]
    Malformed(#[from] prost::DecodeError),
    /// Written by a later Duramen.
    #[error("format version {found} is not known here")]
    UnknownVersion {
        /// The version.
        found: u32,
    },
    /// A command, outcome or code that a later Duramen wrote.
    #[error("{what} is not known here")]
    Unknown {
        /// What it is.
        what: &'static str,
    },
    /// A field has a value that no writer writes.
    #[error("{field} is missing or out of range")]
    Field {
        /// The field.
        field: &'static str,
    },
}

impl DecodeError {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed(_) | Self::Field { .. } => ErrorKind::Corrupt,
            Self::UnknownVersion { .. } | Self::Unknown { .. } => ErrorKind::Fatal,
        }
    }
}
