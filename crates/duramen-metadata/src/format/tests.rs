//! The bytes of every command and of a small snapshot, and decoders against any bytes.

use std::fmt::Write;

use duramen_types::{MetadataIndex, PartitionId, ProducerId, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::command::{
    AdvanceReplacement, Command, FormedMark, NewTopic, ReplaceReplica, ReplacementStep, TopicChange,
};
use crate::outcome::{Outcome, Refusal};
use crate::state::State;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn commands() -> Vec<Command> {
    let topic = TopicId::from_bytes([0xaa; 16]);
    let settings = Settings::from([("retention.ms".into(), "1000".into())]);
    let replica = Replica { node: NodeId::new(1), id: ReplicaId::new(7), formed: false };
    vec![
        Command::FormCluster { cluster: ClusterId::from_bytes([0xcc; 16]) },
        Command::RegisterNode(Node {
            id: NodeId::new(1),
            incarnation: ReplicaId::new(0x1122_3344_5566_7788),
            client_address: "a:1".into(),
            peer_address: "a:2".into(),
            http_address: "a:3".into(),
            rack: "r".into(),
            version: "1".into(),
        }),
        Command::CreateTopic(NewTopic {
            name: "t".into(),
            id: topic,
            replication_factor: 1,
            partitions: vec![Partition { replicas: vec![replica], ..Partition::default() }],
            settings: settings.clone(),
            created_at: Timestamp::from_millis(5),
        }),
        Command::AlterTopic(TopicChange {
            name: "t".into(),
            topic,
            set: settings,
            unset: vec!["segment.ms".into()],
        }),
        Command::MarkFormed(vec![
            FormedMark { topic, partition: PartitionId::new(0), replica: None },
            FormedMark { topic, partition: PartitionId::new(0), replica: Some(ReplicaId::new(7)) },
        ]),
        Command::AllocateProducers { count: 300 },
        Command::DeleteTopic { name: "t".into(), topic },
        Command::ReplaceReplica(ReplaceReplica {
            topic,
            partition: PartitionId::new(0),
            old: ReplicaId::new(7),
            new: Replica { id: ReplicaId::new(8), ..replica },
            instead_of: Some(ReplicaId::new(9)),
        }),
        Command::AdvanceReplacement(AdvanceReplacement {
            topic,
            partition: PartitionId::new(0),
            old: ReplicaId::new(7),
            new: ReplicaId::new(8),
            step: ReplacementStep::Promote,
        }),
    ]
}

const GOLDEN_COMMANDS: [&str; 9] = [
    "080112120a10cccccccccccccccccccccccccccccccc",
    "08011a2008011188776655443322111a03613a312203613a322a03613a333201723a0131",
    "0801223e0a01741210aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1801220d0a0b080111070000000000\
     00002a140a0c726574656e74696f6e2e6d73120431303030300a",
    "08012a370a01741210aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1a140a0c726574656e74696f6e2e6d\
     73120431303030220a7365676d656e742e6d73",
    "08013a310a120a10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0a1b0a10aaaaaaaaaaaaaaaaaaaaaaaa\
     aaaaaaaa190700000000000000",
    "0801420308ac02",
    "080132150a01741210aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "08014a310a10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa190700000000000000220b0801110800000000000000290900000000000000",
    "080152260a10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1907000000000000002108000000000000002801",
];

#[test]
fn the_bytes_of_every_command_are_pinned() {
    for (command, golden) in commands().into_iter().zip(GOLDEN_COMMANDS) {
        assert_eq!(hex(&command.encode()), golden, "{command:?}");
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

const GOLDEN_SNAPSHOT: &str = "080110061a10cccccccccccccccccccccccccccccccc222008011188776655443322111a03613a31\
     2203613a322a03613a333201723a013132420a01741210aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa18\
     0122110a0d0801110700000000000000180110012a140a0c726574656e74696f6e2e6d7312043130\
     3030300a40ac02";

#[test]
fn the_bytes_of_a_snapshot_are_pinned() {
    let mut state = State::default();
    for (index, command) in (1..).zip(commands()).take(6) {
        let outcome = state.apply(MetadataIndex::new(index), &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    assert_eq!(hex(&state.encode()), GOLDEN_SNAPSHOT);
    assert_eq!(State::decode(&state.encode()), Ok(state));
}

#[test]
fn a_snapshot_has_replacements_and_removed_replicas() {
    let mut state = State::default();
    let replace = |new, instead_of| {
        Command::ReplaceReplica(ReplaceReplica {
            topic: TopicId::from_bytes([0xaa; 16]),
            partition: PartitionId::new(0),
            old: ReplicaId::new(7),
            new: Replica { node: NodeId::new(1), id: ReplicaId::new(new), formed: false },
            instead_of,
        })
    };
    let mut all = commands();
    all.truncate(6);
    all.extend([replace(8, None), replace(9, Some(ReplicaId::new(8)))]);
    for (index, command) in (1..).zip(all) {
        let outcome = state.apply(MetadataIndex::new(index), &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let read = State::decode(&state.encode()).unwrap();
    assert!(read.is_removed(ReplicaId::new(8)));
    assert_eq!(read, state);
}

#[test]
fn every_outcome_comes_back() {
    let topic = TopicId::from_bytes([3; 16]);
    let cluster = ClusterId::from_bytes([4; 16]);
    let node = NodeId::new(9);
    let outcomes = [
        Outcome::ClusterFormed { cluster },
        Outcome::NodeRegistered { previous: None },
        Outcome::NodeRegistered { previous: Some(ReplicaId::new(u64::MAX)) },
        Outcome::TopicCreated { topic },
        Outcome::TopicAltered { topic },
        Outcome::TopicDeleted { topic },
        Outcome::MarksSet { unknown: 2 },
        Outcome::ProducersAllocated { first: ProducerId::new(5), count: 10 },
        Outcome::Refused(Refusal::NotFormed),
        Outcome::Refused(Refusal::AlreadyFormed { cluster }),
        Outcome::Refused(Refusal::InvalidNode),
        Outcome::Refused(Refusal::IncarnationInUse { node }),
        Outcome::Refused(Refusal::IncarnationRetired),
        Outcome::Refused(Refusal::TopicExists { topic }),
        Outcome::Refused(Refusal::TopicIdUsed),
        Outcome::Refused(Refusal::UnknownTopic),
        Outcome::Refused(Refusal::TopicReplaced { current: topic }),
        Outcome::Refused(Refusal::UnknownNode { node }),
        Outcome::Refused(Refusal::BadPlacement { partition: PartitionId::new(1) }),
        Outcome::Refused(Refusal::ProducersExhausted),
        Outcome::ReplacementSet { replica: ReplicaId::new(5) },
        Outcome::Refused(Refusal::UnknownReplica { replica: ReplicaId::new(5) }),
        Outcome::Refused(Refusal::ReplacementUnderWay { replica: ReplicaId::new(u64::MAX) }),
        Outcome::Refused(Refusal::BadReplacement),
        Outcome::Refused(Refusal::NoReplacement),
        Outcome::Refused(Refusal::ReplacementPromoting),
    ];
    for outcome in outcomes {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn a_later_version_is_refused() {
    let later = proto::MetadataCommand { version: 2, command: None };
    let found = Command::decode(&prost::Message::encode_to_vec(&later));
    assert_eq!(found, Err(DecodeError::UnknownVersion { found: 2 }));
    let unknown = proto::MetadataCommand { version: 1, command: None };
    let found = Command::decode(&prost::Message::encode_to_vec(&unknown));
    assert!(matches!(found, Err(DecodeError::Unknown { .. })));
}

#[test]
fn a_snapshot_that_breaks_an_invariant_is_refused() {
    let state = |edit: fn(&mut proto::MetadataSnapshot)| {
        let topic = proto::CreateTopic {
            name: "t".into(),
            topic_id: encode_id(&[1; 16]),
            ..proto::CreateTopic::default()
        };
        let node = proto::MetadataNode { id: 1, incarnation: 5, ..Default::default() };
        let mut snapshot = proto::MetadataSnapshot {
            version: VERSION,
            topics: vec![topic],
            nodes: vec![node],
            ..proto::MetadataSnapshot::default()
        };
        edit(&mut snapshot);
        State::decode(&prost::Message::encode_to_vec(&snapshot))
    };
    let bad = |field| Err(DecodeError::Field { field });
    assert!(state(|_| {}).is_ok());
    let replacement = |s: &mut proto::MetadataSnapshot, old, new| {
        let replica =
            |node_id, replica_id| proto::MetadataReplica { node_id, replica_id, formed: false };
        s.topics[0].partitions.push(proto::MetadataPartition {
            replicas: vec![replica(1, 7), replica(2, 8)],
            formed: true,
            replacement: Some(proto::MetadataReplacement {
                old_replica_id: old,
                new_replica: Some(replica(1, new)),
                promoting: false,
            }),
        });
    };
    let with = |old, new| {
        let mut snapshot =
            proto::MetadataSnapshot { version: VERSION, ..proto::MetadataSnapshot::default() };
        snapshot.topics.push(proto::CreateTopic {
            name: "t".into(),
            topic_id: encode_id(&[1; 16]),
            ..proto::CreateTopic::default()
        });
        replacement(&mut snapshot, old, new);
        State::decode(&prost::Message::encode_to_vec(&snapshot))
    };
    assert!(with(7, 9).is_ok());
    assert_eq!(with(5, 9), bad("replacement"), "of a replica that is not there");
    assert_eq!(with(7, 8), bad("replacement"), "by a replica that is there");
    assert_eq!(with(8, 9), bad("replacement"), "on a node that has another");
    assert_eq!(state(|s| s.topics.push(s.topics[0].clone())), bad("topics"));
    assert_eq!(state(|s| s.deleted_topics.push(encode_id(&[1; 16]))), bad("topics"));
    assert_eq!(state(|s| s.topics[0].topic_id.clear()), bad("topic_id"));
    assert_eq!(state(|s| s.nodes.push(s.nodes[0].clone())), bad("nodes"));
    assert_eq!(state(|s| s.retired_incarnations.push(5)), bad("nodes"));
    assert_eq!(state(|s| s.nodes[0].id = 0), bad("nodes"));
    assert_eq!(state(|s| s.cluster_id = encode_id(&[1; 16]).slice(1..)), bad("cluster_id"));
    assert_eq!(state(|s| s.next_producer_id = u64::MAX), bad("next_producer_id"));
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes: Vec<u8>) {
        drop((Command::decode(&bytes), Outcome::decode(&bytes), State::decode(&bytes)));
    }

    #[test]
    fn decoders_take_damaged_bytes(which in 0..9usize, at: prop::sample::Index, byte: u8) {
        let mut bytes = commands()[which].encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(command) = Command::decode(&bytes) {
            State::default().apply(MetadataIndex::new(1), &command);
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }
}
