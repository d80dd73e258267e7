//! The bytes of the metadata group: commands, outcomes, snapshots.

use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_metadata::{
    AdvanceReplacement, Command, FormedMark, NewTopic, Node, Outcome, Partition, Refusal,
    ReplaceReplica, ReplacementStep, Replica, Settings, State, TopicChange,
};
use duramen_types::{
    ClusterId, MetadataIndex, NodeId, PartitionId, ProducerId, ReplicaId, Timestamp, TopicId,
};

/// What the metadata log and its snapshots hold, and what a leader answers.
pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "metadata-command",
        run: command,
        seeds: || commands().iter().map(|command| command.encode().to_vec()).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "metadata-outcome",
        run: |bytes| round_trip(bytes, |bytes| Outcome::decode(bytes).ok(), Outcome::encode),
        seeds: || outcomes().iter().map(|outcome| outcome.encode().to_vec()).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "metadata-snapshot",
        run: snapshot,
        seeds: || vec![State::default().encode().to_vec(), state().encode().to_vec()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
];

/// Reads a command and applies it to a cluster; what comes of it can be stored.
fn command(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| Command::decode(bytes).ok();
    if let Some(command) = decode(bytes) {
        for mut state in [State::default(), state()] {
            let outcome = state.apply(MetadataIndex::new(100), &command);
            if Outcome::decode(&outcome.encode()) != Ok(outcome) {
                return Verdict::Broken("an outcome does not survive its encoding");
            }
            if State::decode(&state.encode()) != Ok(state) {
                return Verdict::Broken("an applied command makes a state that cannot be read");
            }
        }
    }
    round_trip(bytes, decode, Command::encode)
}

/// Reads a snapshot and goes on from it.
fn snapshot(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| State::decode(bytes).ok();
    if let Some(mut state) = decode(bytes) {
        for command in commands() {
            if let Some(next) = state.applied().get().checked_add(1) {
                state.apply(MetadataIndex::new(next), &command);
            }
        }
        if State::decode(&state.encode()) != Ok(state) {
            return Verdict::Broken("a state that goes on from a snapshot cannot be read");
        }
    }
    round_trip(bytes, decode, State::encode)
}

/// A cluster with one topic.
fn state() -> State {
    let mut state = State::default();
    let commands = commands().into_iter();
    let stays = commands.filter(|command| !matches!(command, Command::DeleteTopic { .. }));
    for (index, command) in (1..).zip(stays) {
        state.apply(MetadataIndex::new(index), &command);
    }
    state
}

/// One command of each kind; in this order every one takes effect.
fn commands() -> Vec<Command> {
    let topic = TopicId::from_bytes([0xaa; 16]);
    let settings = Settings::from([("retention.ms".into(), "1000".into())]);
    let replica = Replica { node: NodeId::new(1), id: ReplicaId::new(7), formed: false };
    let partition = PartitionId::new(0);
    let node = Node {
        id: NodeId::new(1),
        incarnation: ReplicaId::new(0x1122_3344_5566_7788),
        client_address: "a:1".into(),
        peer_address: "a:2".into(),
        http_address: "a:3".into(),
        rack: "r".into(),
        version: "1".into(),
    };
    let mark = |replica| FormedMark { topic, partition, replica };
    vec![
        Command::FormCluster { cluster: ClusterId::from_bytes([0xcc; 16]) },
        Command::RegisterNode(node.clone()),
        Command::RegisterNode(Node { id: NodeId::new(2), incarnation: ReplicaId::new(5), ..node }),
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
        Command::MarkFormed(vec![mark(None), mark(Some(ReplicaId::new(7)))]),
        Command::ReplaceReplica(ReplaceReplica {
            topic,
            partition,
            old: ReplicaId::new(7),
            new: Replica { node: NodeId::new(2), id: ReplicaId::new(8), formed: false },
            instead_of: None,
        }),
        Command::AdvanceReplacement(AdvanceReplacement {
            topic,
            partition,
            old: ReplicaId::new(7),
            new: ReplicaId::new(8),
            step: ReplacementStep::Promote,
        }),
        Command::AllocateProducers { count: 300 },
        Command::DeleteTopic { name: "t".into(), topic },
    ]
}

fn outcomes() -> Vec<Outcome> {
    let topic = TopicId::from_bytes([3; 16]);
    let cluster = ClusterId::from_bytes([4; 16]);
    let node = NodeId::new(9);
    let refusals = [
        Refusal::NotFormed,
        Refusal::AlreadyFormed { cluster },
        Refusal::IncarnationInUse { node },
        Refusal::TopicExists { topic },
        Refusal::TopicReplaced { current: topic },
        Refusal::UnknownNode { node },
        Refusal::BadPlacement { partition: PartitionId::new(1) },
    ];
    let mut outcomes = vec![
        Outcome::ClusterFormed { cluster },
        Outcome::NodeRegistered { previous: Some(ReplicaId::new(u64::MAX)) },
        Outcome::TopicCreated { topic },
        Outcome::TopicAltered { topic },
        Outcome::TopicDeleted { topic },
        Outcome::MarksSet { unknown: 2 },
        Outcome::ProducersAllocated { first: ProducerId::new(5), count: 10 },
    ];
    outcomes.extend(refusals.map(Outcome::Refused));
    outcomes
}
