//! Leadership handed on: a partition's leader makes another replica the leader.

use duramen_raft::{Group, TransferError};
use duramen_types::{PartitionId, ReplicaId, TopicId, TopicPartition};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;

impl Broker {
    /// Hands the leadership of a partition, or of all partitions without a name, on from this node
    /// to the replica that is furthest. Gives the partitions that this node led, and whether another
    /// replica leads each of them now.
    ///
    /// # Errors
    /// [`BrokerError`]; `NotLeader` or `NoLeader` if this node does not lead the partition named.
    pub async fn hand_over(
        &self,
        caller: &Caller,
        partition: Option<(&str, PartitionId)>,
    ) -> Result<Vec<(TopicPartition, bool)>, BrokerError> {
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
        let mut moved = Vec::with_capacity(led.len());
        for (id, handle) in led {
            let transferred = match successor(&handle.group) {
                Some(to) => handle.group.transfer_leader(to).await,
                None => Err(TransferError::NotLeader { leader: None }),
            };
            if let Err(error) = &transferred {
                tracing::info!(partition = %id, %error, "leadership stays");
            }
            moved.push((id, transferred.is_ok()));
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
