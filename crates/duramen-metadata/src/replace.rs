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

#[cfg(test)]
mod tests {
    use duramen_types::{ClusterId, MetadataIndex, Timestamp};

    use super::*;
    use crate::command::{FormedMark, NewTopic};
    use crate::config::Settings;
    use crate::topic::Node;

    const ID: TopicPartition =
        TopicPartition { topic: TopicId::from_bytes([1; 16]), partition: PartitionId::new(0) };

    /// Four nodes and a topic on the first few; its group is formed.
    fn state(replicas: u64) -> State {
        let mut commands = vec![Command::FormCluster { cluster: ClusterId::from_bytes([1; 16]) }];
        commands.extend((1..=4).map(|id| {
            Command::RegisterNode(Node {
                id: NodeId::new(id),
                incarnation: ReplicaId::new(100 + id),
                client_address: String::new(),
                peer_address: String::new(),
                http_address: String::new(),
                rack: String::new(),
                version: String::new(),
            })
        }));
        let replica = |node| Replica {
            node: NodeId::new(node),
            id: ReplicaId::new(1000 + node),
            formed: false,
        };
        let replicas = (1..=replicas).map(replica).collect();
        commands.push(Command::CreateTopic(NewTopic {
            name: "a".into(),
            id: ID.topic,
            replication_factor: 3,
            partitions: vec![Partition { replicas, ..Partition::default() }],
            settings: Settings::new(),
            created_at: Timestamp::EPOCH,
        }));
        let (topic, partition) = (ID.topic, ID.partition);
        commands.push(Command::MarkFormed(vec![FormedMark { topic, partition, replica: None }]));
        let mut state = State::default();
        for (index, command) in (1..).zip(commands) {
            state.apply(MetadataIndex::new(index), &command);
        }
        state
    }

    fn apply(state: &mut State, command: &Command) {
        let index = MetadataIndex::new(state.applied().get() + 1);
        let outcome = state.apply(index, command);
        assert!(!matches!(outcome, crate::Outcome::Refused(_)), "{outcome:?}");
    }

    fn repair(state: &State, lost: u64, random: u64) -> Option<ReplaceReplica> {
        match plan_repair(state, ID, ReplicaId::new(lost), &mut || random) {
            Some(Command::ReplaceReplica(replace)) => Some(replace),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    fn step(new: u64, step: ReplacementStep) -> Command {
        let (topic, partition) = (ID.topic, ID.partition);
        let (old, new) = (ReplicaId::new(1002), ReplicaId::new(new));
        Command::AdvanceReplacement(AdvanceReplacement { topic, partition, old, new, step })
    }

    #[test]
    fn a_lost_replica_is_replaced_on_its_node_under_a_new_id() {
        let mut state = state(3);
        let planned = repair(&state, 1002, 1001).unwrap();
        assert_eq!(planned.new.node, NodeId::new(2));
        assert_eq!(planned.new.id, ReplicaId::new(1004), "an id that is there is passed over");
        assert_eq!(repair(&state, 0, 5), None);
        apply(&mut state, &Command::ReplaceReplica(planned));
        assert_eq!(repair(&state, 1002, 5), None, "it is under way");
        assert_eq!(repair(&state, 1001, 5), None, "one at a time");
        let again = repair(&state, 1004, 5).unwrap();
        assert_eq!((again.old.get(), again.instead_of), (1002, Some(ReplicaId::new(1004))));
        apply(&mut state, &Command::ReplaceReplica(again));
        apply(&mut state, &step(5, ReplacementStep::Promote));
        assert_eq!(repair(&state, 5, 6), None, "what may vote is replaced after it is in place");
        apply(&mut state, &step(5, ReplacementStep::Finish));
        assert_eq!(repair(&state, 5, 6).unwrap().old, ReplicaId::new(5));
    }

    #[test]
    fn without_a_majority_nothing_is_replaced() {
        assert_eq!(repair(&state(2), 1002, 5), None);
        assert_eq!(repair(&state(1), 1001, 5), None);
    }

    #[test]
    fn a_move_goes_to_a_node_that_has_none_and_can_be_given_up() {
        let mut state = state(3);
        let node = NodeId::new;
        let id = PartitionId::new(0);
        let plan = |state: &State, from, to| {
            plan_move_replica(state, ("a", id), (node(from), node(to)), &mut || 77)
        };
        assert_eq!(plan(&state, 1, 2), Err(ReplaceError::HasReplica { node: node(2) }));
        assert_eq!(plan(&state, 1, 1), Err(ReplaceError::HasReplica { node: node(1) }));
        assert_eq!(plan(&state, 4, 1), Err(ReplaceError::NoReplica { node: node(4) }));
        assert_eq!(plan(&state, 1, 9), Err(ReplaceError::UnknownNode { node: node(9) }));
        let command = plan(&state, 1, 4).unwrap().unwrap();
        apply(&mut state, &command);
        assert_eq!(plan(&state, 1, 4), Ok(None), "it is under way");
        assert_eq!(plan(&state, 2, 4), Err(ReplaceError::UnderWay { node: node(4) }));
        let cancel =
            |state: &State, from, to| plan_cancel_move(state, ("a", id), (node(from), node(to)));
        assert!(matches!(cancel(&state, 2, 4), Err(ReplaceError::NoMove { .. })));
        let command = cancel(&state, 1, 4).unwrap();
        apply(&mut state, &command);
        assert!(matches!(cancel(&state, 1, 4), Err(ReplaceError::NoMove { .. })));
        let missing = plan_move_replica(&state, ("b", id), (node(1), node(4)), &mut || 7);
        assert!(matches!(missing, Err(ReplaceError::UnknownPartition { .. })));
    }
}
