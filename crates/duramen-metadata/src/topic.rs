//! What the metadata holds: nodes, topics, partitions and their replicas.

use duramen_types::{NodeId, PartitionId, ReplicaId, Timestamp, TopicId};

use crate::config::{Settings, TopicConfig};

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

/// A partition of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its replicas, at most one a node; the first is the preferred leader.
    pub replicas: Vec<Replica>,
    /// Its Raft group was initialized once, and must never be again.
    pub formed: bool,
}

impl Partition {
    /// The replica on a node.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
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
