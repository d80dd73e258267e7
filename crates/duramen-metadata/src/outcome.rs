//! What comes of a command: done, or refused for a reason that is the same on every node.

use duramen_types::{ClusterId, NodeId, PartitionId, ProducerId, ReplicaId, TopicId};

use crate::error::ErrorKind;

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster has this id, now or since an earlier try.
    ClusterFormed {
        /// The id.
        cluster: ClusterId,
    },
    /// The node is known.
    NodeRegistered {
        /// The incarnation that it had before, if that was another one: it is retired.
        previous: Option<ReplicaId>,
    },
    /// The topic exists, now or since an earlier try.
    TopicCreated {
        /// Its id.
        topic: TopicId,
    },
    /// The topic has the settings.
    TopicAltered {
        /// Its id.
        topic: TopicId,
    },
    /// The topic is gone, now or since an earlier try.
    TopicDeleted {
        /// Its id.
        topic: TopicId,
    },
    /// The marks are set.
    MarksSet {
        /// Marks left out because what they mark is not there: their topic was deleted.
        unknown: u32,
    },
    /// The replacement by this replica stands as it was asked for, now or since an earlier try.
    ReplacementSet {
        /// The new replica.
        replica: ReplicaId,
    },
    /// The producer ids from `first` on, `count` of them, are the caller's.
    ProducersAllocated {
        /// The first one.
        first: ProducerId,
        /// How many.
        count: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster has no id yet.
    #[error("the cluster is not formed yet")]
    NotFormed,
    /// The cluster has another id.
    #[error("the cluster is formed already, as {cluster}")]
    AlreadyFormed {
        /// The id it has.
        cluster: ClusterId,
    },
    /// Zero is not a node.
    #[error("node ids and incarnations begin at 1")]
    InvalidNode,
    /// Another node has the incarnation: its data directory was copied.
    #[error("node {node} has this incarnation: was its data directory copied?")]
    IncarnationInUse {
        /// The node that has it.
        node: NodeId,
    },
    /// The incarnation was replaced by a later one.
    #[error("this incarnation was replaced by a later one: an old data directory came back")]
    IncarnationRetired,
    /// The name is taken.
    #[error("the topic exists already")]
    TopicExists {
        /// The topic that has it.
        topic: TopicId,
    },
    /// The id is or was another topic's.
    #[error("the topic id was used before")]
    TopicIdUsed,
    /// There is no topic of this name.
    #[error("there is no such topic")]
    UnknownTopic,
    /// The topic of this name is another one.
    #[error("the topic was deleted and created again, as {current}")]
    TopicReplaced {
        /// The one that has the name now.
        current: TopicId,
    },
    /// A replica was placed on a node that is not there.
    #[error("there is no node {node}")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// A partition's replicas are none, or share a node or an id; or there are too few or too
    /// many partitions.
    #[error("the placement of partition {partition} is not valid")]
    BadPlacement {
        /// The partition.
        partition: PartitionId,
    },
    /// There are not that many producer ids left.
    #[error("not enough producer ids are left")]
    ProducersExhausted,
    /// The replica to be replaced is not there: its topic was deleted, or it was replaced before.
    #[error("the partition has no replica {replica}")]
    UnknownReplica {
        /// The replica.
        replica: ReplicaId,
    },
    /// Another replica of the partition is being replaced.
    #[error("a replica of the partition is being replaced already, by replica {replica}")]
    ReplacementUnderWay {
        /// The new one.
        replica: ReplicaId,
    },
    /// The new replica's id was used before, or its node has another replica of the partition.
    #[error("the replacement is not valid: its id was used before or its node has a replica")]
    BadReplacement,
    /// The replacement is not there any more: it was given up or superseded.
    #[error("there is no such replacement")]
    NoReplacement,
    /// The new replica may vote already: it cannot be given up.
    #[error("the new replica is about to vote or does: it cannot be given up any more")]
    ReplacementPromoting,
}

impl Refusal {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::NotFormed | Self::UnknownNode { .. } | Self::ReplacementUnderWay { .. } => {
                ErrorKind::Retry
            }
            Self::IncarnationRetired
            | Self::TopicReplaced { .. }
            | Self::UnknownReplica { .. }
            | Self::NoReplacement => ErrorKind::Fenced,
            Self::AlreadyFormed { .. }
            | Self::InvalidNode
            | Self::IncarnationInUse { .. }
            | Self::TopicExists { .. }
            | Self::TopicIdUsed
            | Self::UnknownTopic
            | Self::BadPlacement { .. }
            | Self::ProducersExhausted
            | Self::BadReplacement
            | Self::ReplacementPromoting => ErrorKind::Invalid,
        }
    }
}
