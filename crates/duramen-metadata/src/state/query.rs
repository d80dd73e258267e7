//! Questions to the metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use duramen_types::{ClusterId, MetadataIndex, NodeId, ReplicaId, TopicId, TopicPartition};

use super::State;
use crate::placement::Candidate;
use crate::topic::{Node, Partition, Replica, Topic};

impl State {
    /// The index of the last entry applied.
    #[must_use]
    pub fn applied(&self) -> MetadataIndex {
        self.applied
    }

    /// The cluster's id; `None` while it is not formed.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The node that has an incarnation now, which is its id in the metadata group.
    #[must_use]
    pub fn node_of_incarnation(&self, incarnation: ReplicaId) -> Option<&Node> {
        self.nodes.values().find(|node| node.incarnation == incarnation)
    }

    /// Whether an incarnation was replaced by a later one: it must stop.
    #[must_use]
    pub fn is_retired(&self, incarnation: ReplicaId) -> bool {
        self.retired.contains(&incarnation)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// A topic by its id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// The number of topics.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions.len()).sum()
    }

    /// Whether a topic was deleted: what a node still has of it goes. The memory is limited to the
    /// last [`crate::DELETED_TOPICS_MAX`]. An id that is neither here nor deleted is of a topic
    /// that this node does not know yet, or of one deleted long ago.
    #[must_use]
    pub fn is_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// Whether a replica was replaced or given up: its files go. The memory is limited to the last
    /// [`crate::REMOVED_REPLICAS_MAX`].
    #[must_use]
    pub fn is_removed(&self, replica: ReplicaId) -> bool {
        self.removed.contains(&replica)
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, id: TopicPartition) -> Option<&Partition> {
        self.topics.get(&id.topic)?.partition(id.partition)
    }

    /// All partitions, by topic id.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.topics.values().flat_map(|topic| {
            topic.partitions().map(|(id, partition)| {
                (TopicPartition { topic: topic.id, partition: id }, partition)
            })
        })
    }

    /// The replicas on a node, by topic id.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (TopicPartition, &Replica)> {
        self.partitions().filter_map(move |(id, partition)| Some((id, partition.replica_on(node)?)))
    }

    /// The nodes as candidates for new replicas, by id.
    #[must_use]
    pub fn candidates(&self, avoid: &BTreeSet<NodeId>) -> Vec<Candidate> {
        let candidate = |node: &Node| Candidate {
            node: node.id,
            rack: node.rack.clone(),
            replicas: 0,
            leaders: 0,
            avoid: avoid.contains(&node.id),
        };
        let mut candidates: Vec<Candidate> = self.nodes.values().map(candidate).collect();
        for (_, partition) in self.partitions() {
            for (at, replica) in partition.members().enumerate() {
                if let Ok(found) = candidates.binary_search_by_key(&replica.node, |c| c.node) {
                    candidates[found].replicas += 1;
                    candidates[found].leaders += u64::from(at == 0);
                }
            }
        }
        candidates
    }
}
