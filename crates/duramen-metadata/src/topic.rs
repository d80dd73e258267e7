//! What the metadata holds: nodes, topics, partitions and their replicas.

use std::collections::BTreeSet;

use duramen_types::{NodeId, PartitionId, ReplicaId, Timestamp, TopicId};

use crate::config::{Settings, TopicConfig};
use crate::limits::GROUPS_TOPIC;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number, as the operator gave it.
    pub id: NodeId,
    /// The incarnation of its data directory; its id in the metadata group.
    pub incarnation: ReplicaId,
    /// `HOST:PORT` where clients reach it.
    pub client_address: String,
    /// `HOST:PORT` where nodes reach it.
    pub peer_address: String,
    /// `HOST:PORT` of metrics and health; empty if off.
    pub http_address: String,
    /// Where it stands, for spreading replicas; empty if nobody said.
    pub rack: String,
    /// The version of Duramen that it runs.
    pub version: String,
}

/// A replica's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The node that holds it.
    pub node: NodeId,
    /// Its incarnation; its id in the partition's Raft group.
    pub id: ReplicaId,
    /// Its log was created once: if it is missing it is lost, and must never begin anew.
    pub formed: bool,
}

/// A replica that is to take another one's place.
///
/// ```text
///  learner ──Promote──▶ promoting ──Finish──▶ in the old one's place
///     │
///     └──Cancel──▶ gone; superseded by another replacement of the same replica
/// ```
/// Until it is promoting the Raft group has it as a learner at most, so it can be given up. From
/// then on the voters change once and for all. No id is ever used again, so a leader that knows an
/// old state of the metadata cannot undo what a later one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The replica whose place it takes: one of the partition's.
    pub old: ReplicaId,
    /// The new one.
    pub new: Replica,
    /// It may be a voter of the partition's Raft group.
    pub promoting: bool,
}

/// A partition of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its replicas, at most one a node; the first is the preferred leader.
    pub replicas: Vec<Replica>,
    /// Its Raft group was initialized once, and must never be again.
    pub formed: bool,
    /// The one of its replicas that is being replaced, if any.
    pub replacement: Option<Replacement>,
}

impl Partition {
    /// The replica on a node.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }

    /// The replica that a node is to serve: the new one where one is being replaced on it.
    #[must_use]
    pub fn served_on(&self, node: NodeId) -> Option<&Replica> {
        let new = self.replacement.as_ref().map(|replacement| &replacement.new);
        new.filter(|new| new.node == node).or_else(|| self.replica_on(node))
    }

    /// All replicas, the new one of a replacement last.
    pub fn members(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().chain(self.replacement.as_ref().map(|replacement| &replacement.new))
    }

    /// A replica by its id, the new one of a replacement included.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Replica> {
        self.members().find(|replica| replica.id == id)
    }

    /// The ids of its replicas.
    #[must_use]
    pub fn replica_ids(&self) -> BTreeSet<ReplicaId> {
        self.replicas.iter().map(|replica| replica.id).collect()
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; a topic created again under the same name has another one.
    pub id: TopicId,
    /// Replicas asked for when it was created.
    pub replication_factor: u32,
    /// Its partitions; the index is the [`PartitionId`].
    pub partitions: Vec<Partition>,
    /// What was set for it; the rest has defaults.
    pub settings: Settings,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Topic {
    /// Whether its partitions are shards of consumer groups and hold no records.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.name == GROUPS_TOPIC
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> TopicConfig {
        TopicConfig::of(&self.settings)
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(usize::try_from(id.get()).ok()?)
    }

    /// The partitions with their ids.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        (0..).map(PartitionId::new).zip(&self.partitions)
    }
}
