//! What the metadata log holds: one command an entry, with everything drawn in it.

use duramen_types::{ClusterId, PartitionId, ReplicaId, Timestamp, TopicId};

use crate::config::Settings;
use crate::topic::{Node, Partition, Replica, Topic};

/// A change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives the cluster its id, once. Every other command needs it.
    FormCluster {
        /// The id.
        cluster: ClusterId,
    },
    /// Adds a node, or changes its addresses or its incarnation.
    RegisterNode(Node),
    /// Creates a topic.
    CreateTopic(NewTopic),
    /// Changes a topic's settings.
    AlterTopic(TopicChange),
    /// Deletes a topic.
    DeleteTopic {
        /// Its name.
        name: String,
        /// Its id, so that a topic created again under the name is spared.
        topic: TopicId,
    },
    /// Records that logs and Raft groups were created, once and for all.
    MarkFormed(Vec<FormedMark>),
    /// Begins to replace a replica.
    ReplaceReplica(ReplaceReplica),
    /// Takes a replacement one step further.
    AdvanceReplacement(AdvanceReplacement),
    /// Takes a block of producer ids.
    AllocateProducers {
        /// How many.
        count: u64,
    },
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id, never used before.
    pub id: TopicId,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// Its partitions with their replicas; nothing is formed yet.
    pub partitions: Vec<Partition>,
    /// What was set for it.
    pub settings: Settings,
    /// When it was created.
    pub created_at: Timestamp,
}

impl From<NewTopic> for Topic {
    fn from(new: NewTopic) -> Self {
        Self {
            name: new.name,
            id: new.id,
            replication_factor: new.replication_factor,
            partitions: new.partitions,
            settings: new.settings,
            created_at: new.created_at,
        }
    }
}

/// A change of a topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChange {
    /// The topic's name.
    pub name: String,
    /// The topic's id, so that a topic created again under the name is spared.
    pub topic: TopicId,
    /// Keys and their new values.
    pub set: Settings,
    /// Keys that go back to their default; a key that is also set is set.
    pub unset: Vec<String>,
}

/// Something that was created once. To be committed after it is durable and before it is used: a
/// replica's log before its first vote, a Raft group when its first leader has committed its first
/// entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormedMark {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The replica whose log was created; `None` for the partition's Raft group.
    pub replica: Option<ReplicaId>,
}

/// The beginning of a replacement: the new replica is created by its node, as a learner first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaceReplica {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The replica to be replaced.
    pub old: ReplicaId,
    /// Where the new one is, and its id, never used before.
    pub new: Replica,
    /// The new replica of the replacement that this one supersedes; refused if it is another one.
    pub instead_of: Option<ReplicaId>,
}

/// A step of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvanceReplacement {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The replica that is replaced.
    pub old: ReplicaId,
    /// The new one.
    pub new: ReplicaId,
    /// What is to be done.
    pub step: ReplacementStep,
}

/// What is to be done with a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacementStep {
    /// The new replica is caught up: the voters are about to change, and it cannot be given up any
    /// more.
    Promote,
    /// The voters have changed for good: the new replica takes the old one's place, and the old
    /// one's files go.
    Finish,
    /// The new replica is given up; it never voted.
    Cancel,
}
