//! Planning of replacements: repairs of lost replicas and moves that an operator asks for.

use duramen_types::{NodeId, PartitionId, ReplicaId, TopicId, TopicPartition};

use crate::command::{AdvanceReplacement, Command, ReplaceReplica, ReplacementStep};
use crate::error::ErrorKind;
use crate::state::State;
use crate::topic::{Partition, Replica};

/// Replicas below which the loss of one leaves no majority to bring in another.
const REPAIRABLE_MIN: usize = 3;

/// Why a replica cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// No such topic or partition.
    #[error("there is no partition {partition} of topic {name:?}")]
    UnknownPartition {
        /// The topic's name.
        name: Box<str>,
        /// The partition.
        partition: PartitionId,
    },
    /// The node holds no replica of the partition.
    #[error("node {node} has no replica of the partition")]
    NoReplica {
        /// The node.
        node: NodeId,
    },
    /// The node holds a replica of the partition already.
    #[error("node {node} has a replica of the partition already")]
    HasReplica {
        /// The node.
        node: NodeId,
    },
    /// There is no such node.
    #[error("there is no node {node}")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// Another replica of the partition is being replaced; one at a time.
    #[error("a replica of the partition is being replaced already, by one on node {node}")]
    UnderWay {
        /// The node of the new one.
        node: NodeId,
    },
    /// There is nothing to be given up.
    #[error("no replica of the partition is being moved from node {from} to node {to}")]
    NoMove {
        /// The node of the old one.
        from: NodeId,
        /// The node of the new one.
        to: NodeId,
    },
}

impl ReplaceError {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Plans the replacement of a lost or damaged replica by a new one on the same node. `None` if
/// there is nothing to do now: it is being replaced, another one is, or what is left is no
/// majority, which alone can bring in a new replica.
pub fn plan_repair(
    state: &State,
    id: TopicPartition,
    lost: ReplicaId,
    random: &mut dyn FnMut() -> u64,
) -> Option<Command> {
    let partition = state.partition(id)?;
    let (old, node, instead_of) = match partition.replacement {
        // The new one is lost before it voted: yet another takes its place.
        Some(now) if now.new.id == lost && !now.promoting => (now.old, now.new.node, Some(lost)),
        Some(_) => return None,
        None => {
            let held = partition.replicas.iter().find(|held| held.id == lost)?;
            if !partition.formed || partition.replicas.len() < REPAIRABLE_MIN {
                return None;
            }
            (lost, held.node, None)
        }
    };
    let new = draw(state, partition, node, random);
    let (topic, partition) = (id.topic, id.partition);
    Some(Command::ReplaceReplica(ReplaceReplica { topic, partition, old, new, instead_of }))
}

/// Plans the move of a replica to a node that has none of the partition. `None` if it is under way
/// already.
///
/// # Errors
/// [`ReplaceError`].
pub fn plan_move_replica(
    state: &State,
    (name, id): (&str, PartitionId),
    (from, to): (NodeId, NodeId),
    random: &mut dyn FnMut() -> u64,
) -> Result<Option<Command>, ReplaceError> {
    let (topic, partition) = find(state, name, id)?;
    state.node(to).ok_or(ReplaceError::UnknownNode { node: to })?;
    let held = partition.replica_on(from).ok_or(ReplaceError::NoReplica { node: from })?;
    if partition.replica_on(to).is_some() {
        return Err(ReplaceError::HasReplica { node: to });
    }
    if let Some(now) = partition.replacement {
        if now.old == held.id && now.new.node == to {
            return Ok(None);
        }
        return Err(ReplaceError::UnderWay { node: now.new.node });
    }
    let new = draw(state, partition, to, random);
    let (old, instead_of) = (held.id, None);
    let replace = ReplaceReplica { topic, partition: id, old, new, instead_of };
    Ok(Some(Command::ReplaceReplica(replace)))
}

/// Plans to give up a move.
///
/// # Errors
/// [`ReplaceError`].
pub fn plan_cancel_move(
    state: &State,
    (name, id): (&str, PartitionId),
    (from, to): (NodeId, NodeId),
) -> Result<Command, ReplaceError> {
    let (topic, partition) = find(state, name, id)?;
    let none = ReplaceError::NoMove { from, to };
    let old = partition.replica_on(from).ok_or(none.clone())?.id;
    let now = partition.replacement.filter(|now| now.old == old && now.new.node == to);
    let new = now.ok_or(none)?.new.id;
    let step = ReplacementStep::Cancel;
    Ok(Command::AdvanceReplacement(AdvanceReplacement { topic, partition: id, old, new, step }))
}

fn find<'a>(
    state: &'a State,
    name: &str,
    partition: PartitionId,
) -> Result<(TopicId, &'a Partition), ReplaceError> {
    let found = state.topic(name).and_then(|topic| Some((topic.id, topic.partition(partition)?)));
    found.ok_or_else(|| ReplaceError::UnknownPartition { name: name.into(), partition })
}

/// A replica under an id that the metadata has not seen.
fn draw(
    state: &State,
    partition: &Partition,
    node: NodeId,
    random: &mut dyn FnMut() -> u64,
) -> Replica {
    let mut id = ReplicaId::new(random());
    while id == ReplicaId::ZERO || partition.member(id).is_some() || state.is_removed(id) {
        id = ReplicaId::new(id.get().wrapping_add(1));
    }
    Replica { node, id, formed: false }
}
