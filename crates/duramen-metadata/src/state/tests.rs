//! Stories of the metadata group, and random histories.

use duramen_types::{Timestamp, TopicPartition};

use super::*;
use crate::command::{AdvanceReplacement, ReplaceReplica, ReplacementStep};
use crate::config::Settings;
use crate::topic::Replica;

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

fn node(id: u64, incarnation: u64) -> Node {
    Node {
        id: NodeId::new(id),
        incarnation: ReplicaId::new(incarnation),
        client_address: format!("n{id}:9093"),
        peer_address: format!("n{id}:9094"),
        http_address: String::new(),
        rack: String::new(),
        version: "0.1.0".into(),
    }
}

fn topic_id(number: u8) -> TopicId {
    TopicId::from_bytes([number; 16])
}

fn new_topic(name: &str, id: u8, nodes: &[u64]) -> NewTopic {
    let replica = |node: &u64| Replica {
        node: NodeId::new(*node),
        id: ReplicaId::new(1000 + node),
        formed: false,
    };
    let replicas = nodes.iter().map(replica).collect();
    let partition = Partition { replicas, ..Partition::default() };
    NewTopic {
        name: name.into(),
        id: topic_id(id),
        replication_factor: u32::try_from(nodes.len()).unwrap(),
        partitions: vec![partition.clone(), partition],
        settings: Settings::new(),
        created_at: Timestamp::from_millis(1_700_000_000_000),
    }
}

/// Applies commands one after the other.
struct Log {
    state: State,
    index: u64,
}

impl Log {
    fn new() -> Self {
        Self { state: State::default(), index: 0 }
    }

    /// A formed cluster of three nodes with incarnations 11 to 13.
    fn formed() -> Self {
        let mut log = Self::new();
        log.apply(Command::FormCluster { cluster: CLUSTER });
        for id in 1..=3 {
            log.apply(Command::RegisterNode(node(id, 10 + id)));
        }
        log
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        self.state.apply(MetadataIndex::new(self.index), &command)
    }

    fn refused(&mut self, command: Command) -> Refusal {
        let before = self.state.clone();
        let Outcome::Refused(refusal) = self.apply(command) else { panic!("not refused") };
        let after = State { applied: before.applied, ..self.state.clone() };
        assert_eq!(after, before, "a refused command changed the state");
        refusal
    }
}

#[test]
fn nothing_happens_before_the_cluster_is_formed() {
    let mut log = Log::new();
    assert_eq!(log.refused(Command::RegisterNode(node(1, 11))), Refusal::NotFormed);
    let form = Command::FormCluster { cluster: CLUSTER };
    assert_eq!(log.apply(form.clone()), Outcome::ClusterFormed { cluster: CLUSTER });
    assert_eq!(log.apply(form), Outcome::ClusterFormed { cluster: CLUSTER });
    let other = Command::FormCluster { cluster: ClusterId::from_bytes([2; 16]) };
    assert_eq!(log.refused(other), Refusal::AlreadyFormed { cluster: CLUSTER });
}

#[test]
fn a_wiped_node_comes_back_under_a_new_incarnation_only() {
    let mut log = Log::formed();
    let outcome = log.apply(Command::RegisterNode(node(2, 99)));
    assert_eq!(outcome, Outcome::NodeRegistered { previous: Some(ReplicaId::new(12)) });
    assert!(log.state.is_retired(ReplicaId::new(12)));
    assert_eq!(log.state.node_of_incarnation(ReplicaId::new(99)).unwrap().id, NodeId::new(2));
    let old = Command::RegisterNode(node(2, 12));
    assert_eq!(log.refused(old), Refusal::IncarnationRetired);
    let copied = Command::RegisterNode(node(4, 99));
    assert_eq!(log.refused(copied), Refusal::IncarnationInUse { node: NodeId::new(2) });
    assert_eq!(log.refused(Command::RegisterNode(node(0, 5))), Refusal::InvalidNode);
}

#[test]
fn a_topic_is_created_once_and_found_by_name_and_id() {
    let mut log = Log::formed();
    let create = Command::CreateTopic(new_topic("orders", 1, &[1, 2, 3]));
    assert_eq!(log.apply(create.clone()), Outcome::TopicCreated { topic: topic_id(1) });
    assert_eq!(log.apply(create), Outcome::TopicCreated { topic: topic_id(1) });
    assert_eq!(log.state.topic("orders").unwrap().id, topic_id(1));
    assert_eq!(log.state.topic_by_id(topic_id(1)).unwrap().name, "orders");
    assert_eq!((log.state.topic_count(), log.state.partition_count()), (1, 2));
    assert_eq!(log.state.replicas_on(NodeId::new(2)).count(), 2);
    let again = Command::CreateTopic(new_topic("orders", 2, &[1]));
    assert_eq!(log.refused(again), Refusal::TopicExists { topic: topic_id(1) });
    let same_id = Command::CreateTopic(new_topic("other", 1, &[1]));
    assert_eq!(log.refused(same_id), Refusal::TopicIdUsed);
}

#[test]
fn a_placement_is_checked_again_when_it_is_applied() {
    let mut log = Log::formed();
    let on_missing = Command::CreateTopic(new_topic("a", 1, &[1, 7]));
    assert_eq!(log.refused(on_missing), Refusal::UnknownNode { node: NodeId::new(7) });
    let first = Refusal::BadPlacement { partition: PartitionId::new(0) };
    assert_eq!(log.refused(Command::CreateTopic(new_topic("a", 1, &[2, 2]))), first);
    assert_eq!(log.refused(Command::CreateTopic(new_topic("a", 1, &[]))), first);
    let none = NewTopic { partitions: Vec::new(), ..new_topic("a", 1, &[1]) };
    assert_eq!(log.refused(Command::CreateTopic(none)), first);
}

#[test]
fn a_topic_created_again_is_another_one() {
    let mut log = Log::formed();
    let delete = |id| Command::DeleteTopic { name: "a".into(), topic: topic_id(id) };
    log.apply(Command::CreateTopic(new_topic("a", 1, &[1])));
    assert_eq!(log.apply(delete(1)), Outcome::TopicDeleted { topic: topic_id(1) });
    assert_eq!(log.apply(delete(1)), Outcome::TopicDeleted { topic: topic_id(1) });
    assert!(log.state.is_deleted(topic_id(1)));
    assert_eq!(log.refused(delete(2)), Refusal::UnknownTopic);
    let revived = Command::CreateTopic(new_topic("a", 1, &[1]));
    assert_eq!(log.refused(revived), Refusal::TopicIdUsed);
    log.apply(Command::CreateTopic(new_topic("a", 2, &[1])));
    assert_eq!(log.refused(delete(3)), Refusal::TopicReplaced { current: topic_id(2) });
    assert_eq!(log.apply(delete(1)), Outcome::TopicDeleted { topic: topic_id(1) });
    assert_eq!(log.state.topic("a").unwrap().id, topic_id(2), "a late retry spares it");
}

#[test]
fn settings_are_set_and_unset() {
    let mut log = Log::formed();
    log.apply(Command::CreateTopic(new_topic("a", 1, &[1])));
    let change = |set: &[(&str, &str)], unset: &[&str]| {
        Command::AlterTopic(TopicChange {
            name: "a".into(),
            topic: topic_id(1),
            set: set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            unset: unset.iter().map(|key| (*key).into()).collect(),
        })
    };
    log.apply(change(&[("retention.ms", "1000"), ("segment.ms", "5")], &[]));
    assert_eq!(log.state.topic("a").unwrap().config().retention_ms, Some(1000));
    log.apply(change(&[("segment.ms", "6")], &["retention.ms", "segment.ms"]));
    let config = log.state.topic("a").unwrap().config();
    assert_eq!((config.retention_ms, config.segment_ms), (Some(604_800_000), 6));
}

#[test]
fn a_formed_log_is_marked_for_good() {
    let mut log = Log::formed();
    let mut topic = new_topic("a", 1, &[1, 2]);
    topic.partitions[1].formed = true;
    log.apply(Command::CreateTopic(topic));
    let id = TopicPartition { topic: topic_id(1), partition: PartitionId::new(1) };
    assert!(!log.state.partition(id).unwrap().formed, "a new topic has nothing formed");
    let mark = |topic, partition, replica: Option<u64>| FormedMark {
        topic: topic_id(topic),
        partition: PartitionId::new(partition),
        replica: replica.map(ReplicaId::new),
    };
    let marks = vec![
        mark(1, 1, Some(1002)),
        mark(1, 1, None),
        mark(1, 1, Some(5)),
        mark(1, 2, None),
        mark(2, 0, None),
    ];
    assert_eq!(log.apply(Command::MarkFormed(marks)), Outcome::MarksSet { unknown: 3 });
    let partition = log.state.partition(id).unwrap();
    let formed: Vec<bool> = partition.replicas.iter().map(|replica| replica.formed).collect();
    assert_eq!((partition.formed, formed), (true, vec![false, true]));
}

#[test]
fn producer_ids_are_never_given_twice_and_end() {
    let mut log = Log::formed();
    let mut take = |count| log.apply(Command::AllocateProducers { count });
    let block = |first, count| Outcome::ProducersAllocated { first: ProducerId::new(first), count };
    assert_eq!(take(1000), block(0, 1000));
    assert_eq!(take(5), block(1000, 5));
    assert_eq!(take(u64::MAX), Outcome::Refused(Refusal::ProducersExhausted));
    assert_eq!(take(PRODUCER_ID_END - 1005), block(1005, PRODUCER_ID_END - 1005));
    assert_eq!(take(1), Outcome::Refused(Refusal::ProducersExhausted));
}

#[test]
fn a_limited_memory_forgets_the_oldest() {
    let mut memory = Remembered::default();
    for number in [3, 1, 2, 1] {
        memory.push(number, 2);
    }
    assert_eq!(memory.iter().collect::<Vec<_>>(), [1, 2]);
    assert!(!memory.contains(&3));
}

fn place() -> TopicPartition {
    TopicPartition { topic: topic_id(1), partition: PartitionId::new(1) }
}

/// A replacement in partition 1 of topic 1.
fn replace(old: u64, node: u64, new: u64, instead_of: Option<u64>) -> Command {
    Command::ReplaceReplica(ReplaceReplica {
        topic: topic_id(1),
        partition: PartitionId::new(1),
        old: ReplicaId::new(old),
        new: Replica { node: NodeId::new(node), id: ReplicaId::new(new), formed: true },
        instead_of: instead_of.map(ReplicaId::new),
    })
}

fn advance(old: u64, new: u64, step: ReplacementStep) -> Command {
    Command::AdvanceReplacement(AdvanceReplacement {
        topic: topic_id(1),
        partition: PartitionId::new(1),
        old: ReplicaId::new(old),
        new: ReplicaId::new(new),
        step,
    })
}

fn set(replica: u64) -> Outcome {
    Outcome::ReplacementSet { replica: ReplicaId::new(replica) }
}

/// Four nodes, and a topic on the first three.
fn log_with_topic() -> Log {
    let mut log = Log::formed();
    log.apply(Command::RegisterNode(node(4, 14)));
    log.apply(Command::CreateTopic(new_topic("a", 1, &[1, 2, 3])));
    log
}

fn replicas(log: &Log) -> Vec<(u64, u64)> {
    let partition = log.state.partition(place()).unwrap();
    partition.replicas.iter().map(|held| (held.node.get(), held.id.get())).collect()
}

#[test]
fn a_replaced_replica_keeps_its_place_and_each_step_can_be_repeated() {
    use ReplacementStep::{Finish, Promote};
    let mut log = log_with_topic();
    for _ in 0..2 {
        assert_eq!(log.apply(replace(1001, 4, 7, None)), set(7));
    }
    let partition = log.state.partition(place()).unwrap();
    assert!(!partition.replacement.unwrap().new.formed, "nothing of it is formed yet");
    assert_eq!(partition.served_on(NodeId::new(4)).unwrap().id, ReplicaId::new(7));
    assert_eq!(partition.served_on(NodeId::new(1)).unwrap().id, ReplicaId::new(1001));
    let mark = FormedMark {
        topic: topic_id(1),
        partition: PartitionId::new(1),
        replica: Some(ReplicaId::new(7)),
    };
    assert_eq!(log.apply(Command::MarkFormed(vec![mark])), Outcome::MarksSet { unknown: 0 });
    assert_eq!(log.refused(advance(1001, 7, Finish)), Refusal::NoReplacement);
    for step in [Promote, Promote, Finish, Finish, Promote] {
        assert_eq!(log.apply(advance(1001, 7, step)), set(7), "{step:?}");
    }
    assert_eq!(replicas(&log), [(4, 7), (2, 1002), (3, 1003)]);
    let partition = log.state.partition(place()).unwrap();
    assert_eq!((partition.replacement, partition.replicas[0].formed), (None, true));
    assert!(log.state.is_removed(ReplicaId::new(1001)));
    assert_eq!(log.apply(replace(1001, 4, 7, None)), set(7), "a late retry");
    let gone = Refusal::UnknownReplica { replica: ReplicaId::new(1001) };
    assert_eq!(log.refused(replace(1001, 1, 8, None)), gone);
    assert_eq!(
        log.refused(replace(7, 1, 1001, None)),
        Refusal::BadReplacement,
        "an id used before"
    );
}

#[test]
fn one_replica_of_a_partition_is_replaced_at_a_time_and_on_a_node_of_its_own() {
    let mut log = log_with_topic();
    assert_eq!(log.refused(replace(1001, 2, 7, None)), Refusal::BadReplacement);
    assert_eq!(log.refused(replace(1001, 1, 1002, None)), Refusal::BadReplacement);
    assert_eq!(log.refused(replace(1001, 1, 0, None)), Refusal::BadReplacement);
    assert_eq!(
        log.refused(replace(1001, 9, 7, None)),
        Refusal::UnknownNode { node: NodeId::new(9) }
    );
    assert_eq!(log.refused(replace(1001, 1, 7, Some(6))), Refusal::NoReplacement);
    log.apply(replace(1001, 1, 7, None));
    let under_way = Refusal::ReplacementUnderWay { replica: ReplicaId::new(7) };
    assert_eq!(log.refused(replace(1002, 2, 8, None)), under_way);
    assert_eq!(log.refused(replace(1002, 2, 8, Some(7))), under_way);
    assert_eq!(log.refused(replace(1001, 1, 8, Some(6))), under_way);
}

#[test]
fn a_new_replica_can_be_given_up_until_it_may_vote() {
    use ReplacementStep::{Cancel, Promote};
    let mut log = log_with_topic();
    log.apply(replace(1001, 4, 7, None));
    assert_eq!(log.apply(replace(1001, 4, 8, Some(7))), set(8));
    assert!(log.state.is_removed(ReplicaId::new(7)));
    assert_eq!(log.refused(advance(1001, 7, Promote)), Refusal::NoReplacement);
    for _ in 0..2 {
        assert_eq!(log.apply(advance(1001, 8, Cancel)), set(8));
    }
    assert_eq!(log.refused(advance(1001, 8, Promote)), Refusal::NoReplacement);
    assert_eq!(replicas(&log), [(1, 1001), (2, 1002), (3, 1003)]);
    log.apply(replace(1001, 4, 9, None));
    log.apply(advance(1001, 9, Promote));
    assert_eq!(log.refused(advance(1001, 9, Cancel)), Refusal::ReplacementPromoting);
    let under_way = Refusal::ReplacementUnderWay { replica: ReplicaId::new(9) };
    assert_eq!(log.refused(replace(1001, 4, 10, Some(9))), under_way);
}

mod random {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn command() -> impl Strategy<Value = Command> {
        let name = proptest::sample::select(vec!["a", "b", "c"]);
        let id = 0..4u8;
        let new = (name.clone(), id.clone(), vec(0..5u64, 0..4))
            .prop_map(|(name, id, nodes)| Command::CreateTopic(new_topic(name, id, &nodes)));
        let alter = (name.clone(), id.clone(), 0..3u8).prop_map(|(name, id, value)| {
            Command::AlterTopic(TopicChange {
                name: name.into(),
                topic: topic_id(id),
                set: Settings::from([("retention.ms".into(), value.to_string())]),
                unset: vec!["segment.ms".into()],
            })
        });
        let mark = (id.clone(), 0..3u32, proptest::option::of(1000..1005u64)).prop_map(
            |(id, partition, replica)| {
                Command::MarkFormed(vec![FormedMark {
                    topic: topic_id(id),
                    partition: PartitionId::new(partition),
                    replica: replica.map(ReplicaId::new),
                }])
            },
        );
        let small = || (0..4u64).prop_map(|n| [1001, 1002, 7, 8][usize::try_from(n).unwrap()]);
        let replaced = (small(), 0..5u64, small(), proptest::option::of(small()))
            .prop_map(|(old, node, new, instead_of)| replace(old, node, new, instead_of));
        let step = proptest::sample::select(vec![
            ReplacementStep::Promote,
            ReplacementStep::Finish,
            ReplacementStep::Cancel,
        ]);
        let advanced =
            (small(), small(), step).prop_map(|(old, new, step)| advance(old, new, step));
        prop_oneof![
            6 => replaced,
            6 => advanced,
            1 => (1..3u8).prop_map(|n| Command::FormCluster {
                cluster: ClusterId::from_bytes([n; 16]),
            }),
            4 => (0..5u64, 0..8u64).prop_map(|(id, inc)| Command::RegisterNode(node(id, inc))),
            6 => new,
            2 => alter,
            3 => (name, id).prop_map(|(name, id)| Command::DeleteTopic {
                name: name.into(),
                topic: topic_id(id),
            }),
            2 => mark,
            1 => (0..10u64).prop_map(|count| Command::AllocateProducers { count }),
        ]
    }

    /// What holds of the partition whose replicas are replaced, whatever happened.
    fn check_replacements(state: &State) -> Result<(), TestCaseError> {
        for (id, partition) in state.partitions().filter(|(id, _)| *id == place()) {
            let members: Vec<_> = partition.members().collect();
            let ids: BTreeSet<_> = members.iter().map(|held| held.id).collect();
            prop_assert_eq!(ids.len(), members.len(), "an id twice in {}", id);
            prop_assert!(ids.iter().all(|id| !state.is_removed(*id)), "a removed id is back");
            let nodes: BTreeSet<_> = partition.replicas.iter().map(|held| held.node).collect();
            prop_assert_eq!(nodes.len(), partition.replicas.len(), "a node twice in {}", id);
            if let Some(now) = partition.replacement {
                prop_assert!(partition.replica_ids().contains(&now.old));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn replacements_keep_the_placement_valid(commands in vec(command(), 0..120)) {
            let mut log = log_with_topic();
            for command in commands {
                let before = log.state.clone();
                let outcome = log.apply(command);
                check_replacements(&log.state)?;
                if let Outcome::Refused(_) = outcome {
                    let after = State { applied: before.applied, ..log.state.clone() };
                    prop_assert_eq!(after, before, "a refused command changed the state");
                }
            }
        }

        #[test]
        fn a_state_from_a_snapshot_goes_on_as_the_original(
            before in vec(command(), 0..40),
            after in vec(command(), 0..20),
        ) {
            let mut log = Log::new();
            log.apply(Command::FormCluster { cluster: CLUSTER });
            for command in before {
                log.apply(command);
            }
            let state = State::decode(&log.state.encode()).unwrap();
            prop_assert_eq!(&state, &log.state);
            let mut restored = Log { state, index: log.index };
            for command in after {
                let decoded = Command::decode(&command.encode()).unwrap();
                let outcome = restored.apply(decoded);
                prop_assert_eq!(outcome, log.apply(command));
                prop_assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
            }
            prop_assert_eq!(restored.state.encode(), log.state.encode());
        }
    }
}
