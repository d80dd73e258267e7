//! Moves the leadership of a partition from one node to another.

use duramen_types::{NodeId, PartitionId, TopicId};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;

impl Broker {
    /// Hands the leadership of a partition that this node leads to another node's replica, and
    /// waits until it leads. Writes are refused meanwhile.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::HandOver`] if the other one does not take over.
    pub async fn hand_over(
        &self,
        caller: &Caller,
        topic: &str,
        partition: PartitionId,
        to: NodeId,
    ) -> Result<(), BrokerError> {
        let member = self.admit(caller, Operation::Move, Resource::Topic(topic))?;
        let found = member.find(topic, TopicId::NIL, partition)?;
        let replica = found.topic.partition(partition).and_then(|placed| placed.replica_on(to));
        let Some(replica) = replica else {
            return Err(BrokerError::invalid("to", "name a node that has a replica"));
        };
        let leader = member.led(&found)?;
        Ok(leader.group.transfer_leader(replica.id).await?)
    }
}
