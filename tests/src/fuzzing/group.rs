//! The bytes of a group shard: commands, outcomes, snapshots.

use std::collections::BTreeMap;

use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_group::{
    Action, Bound, Change, Command, Committer, ExpiryCause, GroupEpoch, GroupName, InstanceId,
    Join, MemberEpoch, MemberId, OffsetCommit, Outcome, Refusal, Resolution, State, Subscription,
    Text,
};
use duramen_types::{MetadataIndex, Offset, PartitionId, Term, Timestamp, TopicId, TopicPartition};

/// What the log of a group shard and its snapshots hold, and what a coordinator answers.
pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "group-command",
        run: command,
        seeds: || commands().iter().map(Command::encode).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "group-outcome",
        run: |bytes| round_trip(bytes, |bytes| Outcome::decode(bytes).ok(), Outcome::encode),
        seeds: || outcomes().iter().map(Outcome::encode).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "group-snapshot",
        run: snapshot,
        seeds: || (0..=STAYS).map(|count| state(count).encode()).collect(),
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
];

/// So many of the commands leave a group.
const STAYS: usize = 7;

/// Reads a command and applies it; what comes of it can be stored.
fn command(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| Command::decode(bytes).ok();
    if let Some(command) = decode(bytes) {
        for mut state in [State::default(), state(STAYS)] {
            let outcome = state.apply(&command).outcome;
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
            state.apply(&command);
        }
        if State::decode(&state.encode()) != Ok(state) {
            return Verdict::Broken("a state that goes on from a snapshot cannot be read");
        }
    }
    round_trip(bytes, decode, State::encode)
}

/// The state after so many of the commands.
fn state(count: usize) -> State {
    let mut state = State::default();
    commands().iter().take(count).for_each(|command| {
        state.apply(command);
    });
    state
}

/// One command of each kind; in this order most of them take effect.
fn commands() -> Vec<Command> {
    let topic = TopicId::from_bytes([0xaa; 16]);
    let at = |partition| TopicPartition { topic, partition: PartitionId::new(partition) };
    let member = || MemberId::new("m").expect("an id");
    let epoch = MemberEpoch::new(2);
    let subscription = Subscription { pattern: Some("t.*".into()), ..Default::default() };
    let join = Join {
        member: member(),
        instance: InstanceId::new("i"),
        client: "c".into(),
        rack: "r".into(),
        subscription: Subscription::to_names(["t", "u"]),
        session_ms: 10_000,
        revocation_ms: 60_000,
    };
    let resolution = Resolution {
        index: MetadataIndex::new(300),
        names: BTreeMap::from([("t".into(), Some(topic)), ("u".into(), None)]),
        patterns: BTreeMap::from([("t.*".into(), [topic].into())]),
        partitions: BTreeMap::from([(topic, 3)]),
    };
    let offsets = || {
        vec![OffsetCommit {
            partition: at(1),
            offset: Offset::new(300),
            leader_epoch: Some(Term::new(7)),
            metadata: "x".into(),
        }]
    };
    let target = BTreeMap::from([(member(), vec![at(0), at(1), at(2)])]);
    let committer = Committer::Member { member: member(), epoch: MemberEpoch::new(4) };
    let actions = [
        Action::Join(join),
        Action::Subscribe { member: member(), epoch, subscription },
        Action::Resolve(resolution),
        Action::Assign { epoch: GroupEpoch::new(4), target },
        Action::Commit { committer, offsets: offsets() },
        Action::Reset { fence: Some(MemberEpoch::new(4)), offsets: offsets() },
        Action::Acknowledge { member: member(), epoch: MemberEpoch::new(5) },
        Action::DeleteOffsets { partitions: vec![at(7), at(3)] },
        Action::Leave { member: member(), epoch: MemberEpoch::new(5), returns: true },
        Action::Expire {
            member: member(),
            epoch: MemberEpoch::new(5),
            cause: ExpiryCause::Session,
        },
        Action::Commit { committer: Committer::Standalone { fence: None }, offsets: offsets() },
        Action::Retire { idle_ms: 0 },
        Action::Delete,
    ];
    let group = GroupName::new("g").expect("a name");
    let about = |action| Command {
        at: Timestamp::from_millis(5),
        change: Change::Group { group: group.clone(), action },
    };
    let mut all: Vec<Command> = actions.into_iter().map(about).collect();
    let change = Change::ForgetTopics { index: MetadataIndex::new(400), topics: vec![topic] };
    all.push(Command { at: Timestamp::from_millis(-5), change });
    all
}

fn outcomes() -> Vec<Outcome> {
    let epoch = MemberEpoch::new(300);
    let partition =
        TopicPartition { topic: TopicId::from_bytes([3; 16]), partition: PartitionId::new(9) };
    let refusals = [
        Refusal::UnknownMember,
        Refusal::WrongEpoch { current: epoch },
        Refusal::Behind { committed: Offset::new(9) },
        Refusal::StaleMetadata { known: MetadataIndex::new(1) },
        Refusal::StaleTarget { current: GroupEpoch::new(u64::MAX) },
        Refusal::TooLong { field: Text::OffsetMetadata },
        Refusal::TooMany { what: Bound::ShardText },
    ];
    let mut outcomes = vec![
        Outcome::Joined { epoch },
        Outcome::Left,
        Outcome::Assigned { moving: 4 },
        Outcome::Committed { refused: refusals.map(|refusal| (partition, refusal)).to_vec() },
        Outcome::TopicsForgotten { offsets: u64::MAX },
    ];
    outcomes.extend(refusals.map(Outcome::Refused));
    outcomes
}
