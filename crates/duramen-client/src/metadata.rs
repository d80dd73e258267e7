//! What the client knows of the cluster: addresses, topics, leaders. Pure; others keep it fresh.
//!
//! Leader epochs never go back for a topic id: what an old answer says of an older leader is
//! ignored.

use std::collections::BTreeMap;
use std::sync::Arc;

use duramen_proto::v1;
use duramen_types::{PartitionId, TopicId};

/// The cluster as far as known.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    nodes: BTreeMap<u64, Arc<str>>,
    topics: BTreeMap<Arc<str>, Topic>,
}

#[derive(Debug)]
struct Topic {
    id: TopicId,
    /// Counts the refreshes.
    version: u64,
    partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    leader: Option<u64>,
    leader_epoch: u64,
    replicas: Vec<u64>,
}

impl Partition {
    /// The leader if known, then the other replicas.
    fn candidates(&self) -> impl Iterator<Item = u64> {
        let others = self.replicas.iter().copied().filter(|node| Some(*node) != self.leader);
        self.leader.into_iter().chain(others)
    }
}

impl Metadata {
    /// Addresses of all nodes, in the order of their ids.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.values()
    }

    /// Takes over the nodes of a cluster description.
    pub(crate) fn apply_cluster(&mut self, cluster: &v1::DescribeClusterResponse) {
        let nodes = cluster.nodes.iter().filter_map(|node| node.node.as_ref());
        self.nodes = nodes
            .filter(|node| !node.address.is_empty())
            .map(|node| (node.id, Arc::from(node.address.as_str())))
            .collect();
    }

    /// Takes over a topic description; `None` if its id is malformed.
    pub(crate) fn apply_topic(&mut self, topic: &v1::Topic) -> Option<TopicId> {
        let id = TopicId::from_slice(&topic.id)?;
        let known = self.topics.remove(topic.name.as_str());
        let version = known.as_ref().map_or(1, |known| known.version + 1);
        let old = known.filter(|known| known.id == id).map(|known| known.partitions);
        let mut partitions: Vec<Partition> = Vec::with_capacity(topic.partitions.len());
        for (place, partition) in topic.partitions.iter().enumerate() {
            let mut fresh = Partition {
                leader: Some(partition.leader).filter(|leader| *leader != 0),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
            };
            let old = old.as_ref().and_then(|old| old.get(place));
            if let Some(old) = old.filter(|old| old.leader_epoch > fresh.leader_epoch) {
                fresh.leader = old.leader;
                fresh.leader_epoch = old.leader_epoch;
            }
            partitions.push(fresh);
        }
        let topic_name = Arc::from(topic.name.as_str());
        self.topics.insert(topic_name, Topic { id, version, partitions });
        Some(id)
    }

    /// Forgets a topic that is gone.
    pub(crate) fn forget_topic(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// The topic's id and number of partitions.
    pub(crate) fn topic(&self, name: &str) -> Option<(TopicId, u32)> {
        let topic = self.topics.get(name)?;
        Some((topic.id, u32::try_from(topic.partitions.len()).ok()?))
    }

    /// How often the topic was refreshed.
    pub(crate) fn version(&self, name: &str) -> u64 {
        self.topics.get(name).map_or(0, |topic| topic.version)
    }

    /// Takes over what a node that does not lead says of who does; whether it was news.
    pub(crate) fn learn_leader(
        &mut self,
        name: &str,
        partition: PartitionId,
        leader: &v1::Node,
        leader_epoch: u64,
    ) -> bool {
        if leader.id == 0 || leader.address.is_empty() {
            return false;
        }
        self.nodes.insert(leader.id, Arc::from(leader.address.as_str()));
        let Some(known) = self.partition_mut(name, partition) else { return false };
        if leader_epoch < known.leader_epoch {
            return false;
        }
        let news = known.leader != Some(leader.id);
        known.leader = Some(leader.id);
        known.leader_epoch = leader_epoch;
        news
    }

    /// The address to try for a partition: its leader first, its other replicas as failures add up.
    pub(crate) fn route(
        &self,
        name: &str,
        partition: PartitionId,
        failures: u32,
    ) -> Option<Arc<str>> {
        let place = usize::try_from(partition.get()).ok()?;
        let partition = self.topics.get(name)?.partitions.get(place)?;
        let addresses: Vec<&Arc<str>> =
            partition.candidates().filter_map(|node| self.nodes.get(&node)).collect();
        let turn = usize::try_from(failures).ok()?.checked_rem(addresses.len())?;
        addresses.get(turn).map(|address| Arc::clone(address))
    }

    fn partition_mut(&mut self, name: &str, partition: PartitionId) -> Option<&mut Partition> {
        let place = usize::try_from(partition.get()).ok()?;
        self.topics.get_mut(name)?.partitions.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> v1::Node {
        v1::Node { id, address: format!("node{id}:1"), ..v1::Node::default() }
    }

    fn topic(id: u8, leader: u64, leader_epoch: u64) -> v1::Topic {
        let partition = v1::Partition {
            leader,
            leader_epoch,
            replicas: vec![1, 2, 3],
            ..v1::Partition::default()
        };
        v1::Topic {
            name: "t".into(),
            id: vec![id; 16].into(),
            partitions: vec![partition],
            ..v1::Topic::default()
        }
    }

    fn metadata() -> Metadata {
        let mut metadata = Metadata::default();
        let nodes = (1..=3)
            .map(|id| v1::ClusterNode { node: Some(node(id)), ..v1::ClusterNode::default() });
        metadata.apply_cluster(&v1::DescribeClusterResponse {
            nodes: nodes.collect(),
            ..v1::DescribeClusterResponse::default()
        });
        metadata.apply_topic(&topic(7, 2, 5)).unwrap();
        metadata
    }

    fn routes(metadata: &Metadata) -> Vec<String> {
        let route = |failures| metadata.route("t", PartitionId::ZERO, failures);
        (0..4).filter_map(route).map(|address| address.to_string()).collect()
    }

    #[test]
    fn the_leader_comes_first_and_then_the_other_replicas_in_turn() {
        assert_eq!(routes(&metadata()), ["node2:1", "node1:1", "node3:1", "node2:1"]);
        assert_eq!(metadata().route("t", PartitionId::new(1), 0), None);
    }

    #[test]
    fn an_older_leader_epoch_is_not_news() {
        let mut metadata = metadata();
        assert!(!metadata.learn_leader("t", PartitionId::ZERO, &node(1), 4));
        metadata.apply_topic(&topic(7, 1, 4)).unwrap();
        assert_eq!(routes(&metadata)[0], "node2:1");
        assert!(metadata.learn_leader("t", PartitionId::ZERO, &node(3), 6));
        assert_eq!(routes(&metadata)[0], "node3:1");
    }

    #[test]
    fn a_topic_created_again_starts_its_epochs_afresh() {
        let mut metadata = metadata();
        metadata.apply_topic(&topic(8, 1, 1)).unwrap();
        assert_eq!(metadata.topic("t"), Some((TopicId::from_bytes([8; 16]), 1)));
        assert_eq!(routes(&metadata)[0], "node1:1");
    }
}
