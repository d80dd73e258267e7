//! The cluster as this node sees it.

use std::collections::BTreeMap;

use duramen_metadata::Node;
use duramen_raft::GroupId;
use duramen_types::{ClusterId, MetadataIndex, NodeId, TopicPartition};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::member::Found;

/// The cluster as one node sees it.
#[derive(Clone, Debug)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster: ClusterId,
    /// Its nodes.
    pub nodes: Vec<NodeDescription>,
    /// The node that answers.
    pub this_node: NodeId,
    /// Leader of the metadata group, if known.
    pub controller: Option<NodeId>,
    /// What this is as of.
    pub metadata_index: MetadataIndex,
    /// Topics.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Partitions with a replica here of which no leader is known here.
    pub leaderless: usize,
}

/// A node as another sees it.
#[derive(Clone, Debug)]
pub struct NodeDescription {
    /// Where it is.
    pub node: Node,
    /// Whether it votes in the metadata group.
    pub metadata_voter: bool,
    /// Whether it can be reached from the answering node.
    pub alive: bool,
    /// Partitions it leads, as far as the answering node knows.
    pub leaders: usize,
    /// Replicas placed on it.
    pub replicas: usize,
}

impl Broker {
    /// The cluster as this node sees it.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn describe_cluster(
        &self,
        caller: &Caller,
        index: MetadataIndex,
    ) -> Result<ClusterDescription, BrokerError> {
        let operation = Operation::DescribeCluster;
        let member = self.admit_at(caller, operation, Resource::Cluster, index).await?;
        let state = member.metadata().state().clone();
        let voters = member
            .host
            .group(GroupId::Metadata)
            .map(|group| group.membership().voters)
            .unwrap_or_default();
        let mut leaders: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut leaderless = 0;
        for topic in state.topics() {
            for (partition, _) in topic.partitions() {
                let id = TopicPartition { topic: topic.id, partition };
                let found = Found { topic: topic.clone(), id };
                match member.leader_of(&found) {
                    Some((node, _)) => *leaders.entry(node).or_default() += 1,
                    None if member.partition(id).is_some() => leaderless += 1,
                    None => {}
                }
            }
        }
        let nodes = state.nodes().map(|node| NodeDescription {
            node: node.clone(),
            metadata_voter: voters.contains(&node.incarnation),
            alive: member.host.is_node_up(node.id),
            leaders: leaders.get(&node.id).copied().unwrap_or(0),
            replicas: state.replicas_on(node.id).count(),
        });
        Ok(ClusterDescription {
            cluster: member.writer.cluster,
            nodes: nodes.collect(),
            this_node: member.host.local().node,
            controller: member.controller(),
            metadata_index: state.applied(),
            topics: state.topic_count(),
            partitions: state.partition_count(),
            leaderless,
        })
    }
}
