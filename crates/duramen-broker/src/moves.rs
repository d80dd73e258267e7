//! Moves of replicas between nodes, and what becomes of them and of repairs.

use duramen_metadata::{Outcome, plan_cancel_move, plan_move_replica};
use duramen_types::{MetadataIndex, NodeId, PartitionId, TopicId};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::member::{Found, Member};
use crate::topics::{TopicDescription, describe, refused};

/// A move of a replica, as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The node that has the replica.
    pub from: NodeId,
    /// The node that is to have it.
    pub to: NodeId,
    /// Give this move up instead.
    pub cancel: bool,
    /// Wait until this much of the metadata is known here.
    pub metadata_index: MetadataIndex,
}

/// A replica that is to take another one's place, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacementDescription {
    /// The node of the replica that goes.
    pub from: NodeId,
    /// The node of the one that comes; the same one for a repair.
    pub to: NodeId,
    /// How far it is.
    pub state: ReplacementState,
    /// Log entries that the new one lacks; known on the leader only.
    pub lag_entries: Option<u64>,
}

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacementState {
    /// The new replica's node has not made it yet.
    Creating,
    /// The new replica receives the log.
    CatchingUp,
    /// The new replica is whole, and is about to vote or does.
    Promoting,
}

impl ReplacementDescription {
    pub(crate) fn of(member: &Member, found: &Found) -> Option<Self> {
        let partition = found.topic.partition(found.id.partition)?;
        let now = partition.replacement?;
        let from = partition.member(now.old)?.node;
        let state = match (now.new.formed, now.promoting) {
            (_, true) => ReplacementState::Promoting,
            (true, false) => ReplacementState::CatchingUp,
            (false, false) => ReplacementState::Creating,
        };
        let replication = member.partition(found.id).and_then(|open| open.group.replication());
        let lag = replication.and_then(|all| all.get(&now.new.id).copied());
        let lag_entries = lag.filter(|lag| lag.matched.is_some()).map(|lag| lag.entries);
        Some(Self { from, to: now.new.node, state, lag_entries })
    }
}

impl Broker {
    /// Begins to move a replica, or gives a move up. What was begun goes on by itself.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn move_replica(
        &self,
        caller: &Caller,
        request: &MoveRequest,
    ) -> Result<(TopicDescription, MetadataIndex), BrokerError> {
        let name = request.topic.as_str();
        let (resource, index) = (Resource::Topic(name), request.metadata_index);
        let member = self.admit_at(caller, Operation::Move, resource, index).await?;
        member.find(name, TopicId::NIL, request.partition)?;
        let (place, nodes) = ((name, request.partition), (request.from, request.to));
        let command = {
            let state = member.metadata().state();
            if request.cancel {
                Some(plan_cancel_move(&state, place, nodes)?)
            } else {
                let mut random = || member.env.random.next_u64();
                plan_move_replica(&state, place, nodes, &mut random)?
            }
        };
        let mut index = member.metadata().applied();
        if let Some(command) = command {
            let (at, outcome) = member.writer.propose(&command).await?;
            let Outcome::ReplacementSet { .. } = outcome else { return Err(refused(outcome)) };
            member.metadata().wait_for(at).await?;
            index = at;
        }
        let topic = member.find_topic(name, TopicId::NIL)?;
        Ok((describe(member, &topic), index))
    }
}
