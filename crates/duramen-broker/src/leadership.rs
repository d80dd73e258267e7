//! Leadership handed on: a partition's leader makes another replica the leader.

use duramen_raft::Group;
use duramen_types::{PartitionId, ReplicaId, TopicId, TopicPartition};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;

impl Broker {
    /// Hands the leadership of a partition, or of all partitions without a name, on from this node
    /// to the replica that is furthest. Gives the partitions that another replica leads now.
    ///
    /// # Errors
    /// [`BrokerError`]; `NotLeader` or `NoLeader` if this node does not lead the partition named.
    pub async fn hand_over(
        &self,
        caller: &Caller,
        partition: Option<(&str, PartitionId)>,
    ) -> Result<Vec<TopicPartition>, BrokerError> {
        let resource = partition.map_or(Resource::Cluster, |(topic, _)| Resource::Topic(topic));
        let member = self.admit(caller, Operation::Lead, resource)?;
        let led = match partition {
            Some((topic, partition)) => {
                let found = member.find(topic, TopicId::NIL, partition)?;
                vec![(found.id, member.led(&found)?)]
            }
            None => {
                let mut all = member.partitions();
                all.retain(|(_, handle)| handle.group.serving_term().is_some());
                all
            }
        };
        let mut moved = Vec::new();
        for (id, handle) in led {
            let Some(to) = successor(&handle.group) else { continue };
            match handle.group.transfer_leader(to).await {
                Ok(()) => moved.push(id),
                Err(error) => tracing::info!(partition = %id, %error, "leadership stays"),
            }
        }
        Ok(moved)
    }
}

/// The other voter that lacks the fewest entries, the one with the lowest number among equals.
fn successor(group: &Group) -> Option<ReplicaId> {
    let voters = group.membership().voters;
    let others = group.replication()?.into_iter();
    let others = others.filter(|(id, _)| *id != group.replica() && voters.contains(id));
    others.min_by_key(|(id, lag)| (lag.entries, lag.silent_for, *id)).map(|(id, _)| id)
}
