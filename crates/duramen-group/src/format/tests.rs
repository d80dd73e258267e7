//! Golden bytes, round trips, damage.

use std::collections::BTreeMap;

use duramen_types::{MetadataIndex, Offset, Term, Timestamp, TopicId};
use proptest::prelude::*;

use super::*;
use crate::command::{Action, Change, Command, Committer, ExpiryCause, Join, OffsetCommit};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::name::{GroupName, InstanceId, MemberId};
use crate::outcome::{Bound, Outcome, Refusal, Text};
use crate::state::State;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId::from_bytes([topic; 16]),
        partition: PartitionId::new(partition),
    }
}

fn member() -> MemberId {
    MemberId::new("m").unwrap()
}

fn resolution() -> Resolution {
    let topic = TopicId::from_bytes([0xaa; 16]);
    Resolution {
        index: MetadataIndex::new(300),
        names: BTreeMap::from([("t".into(), Some(topic)), ("u".into(), None)]),
        patterns: BTreeMap::from([("t.*".into(), [topic].into())]),
        partitions: BTreeMap::from([(topic, 3)]),
    }
}

/// One of each kind; in this order all that are about group `g` take effect.
fn commands() -> Vec<Command> {
    let epoch = MemberEpoch::new(2);
    let mut subscription = Subscription::to_names(["t", "u"]);
    let join = Join {
        member: member(),
        instance: InstanceId::new("i"),
        client: "c".into(),
        rack: "r".into(),
        subscription: subscription.clone(),
        session_ms: 10_000,
        revocation_ms: 60_000,
    };
    subscription.pattern = Some("t.*".into());
    let offsets = || {
        vec![OffsetCommit {
            partition: at(0xaa, 1),
            offset: Offset::new(300),
            leader_epoch: Some(Term::new(7)),
            metadata: "x".into(),
        }]
    };
    let target = BTreeMap::from([(member(), vec![at(0xaa, 0), at(0xaa, 1), at(0xaa, 2)])]);
    let committer = Committer::Member { member: member(), epoch: MemberEpoch::new(4) };
    let actions = [
        Action::Join(join),
        Action::Subscribe { member: member(), epoch, subscription },
        Action::Resolve(resolution()),
        Action::Assign { epoch: GroupEpoch::new(4), target },
        Action::Commit { committer, offsets: offsets() },
        Action::Reset { fence: Some(MemberEpoch::new(4)), offsets: offsets() },
        Action::Acknowledge { member: member(), epoch: MemberEpoch::new(5) },
        Action::DeleteOffsets { partitions: vec![at(1, 7), at(1, 3)] },
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
    let group = GroupName::new("g").unwrap();
    let about = |action| Command {
        at: Timestamp::from_millis(5),
        change: Change::Group { group: group.clone(), action },
    };
    let mut all: Vec<Command> = actions.into_iter().map(about).collect();
    let topics = vec![TopicId::from_bytes([1; 16])];
    let change = Change::ForgetTopics { index: MetadataIndex::new(1), topics };
    all.push(Command { at: Timestamp::from_millis(-5), change });
    all
}

const GOLDEN_COMMANDS: [&str; 14] = [
    "010a010167016d01016901630172020174017500904ee0d403",
    "010a020167016d0202017401750103742e2a",
    "010a060167ac0202017401aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0175000103742e2a01aaaaaaaaaaaa\
     aaaaaaaaaaaaaaaaaaaa01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa03",
    "010a0701670401016d03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa03000202",
    "010a08016701016d0401aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0102ac0201070178",
    "010a090167010401aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0102ac0201070178",
    "010a050167016d05",
    "010a0a01670201010101010101010101010101010101020e07",
    "010a030167016d0501",
    "010a040167016d0500",
    "010a080167000001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0102ac0201070178",
    "010a0c016700",
    "010a0b0167",
    "010900010101010101010101010101010101010101",
];

#[test]
fn the_bytes_of_every_command_are_pinned() {
    for (command, golden) in commands().into_iter().zip(GOLDEN_COMMANDS) {
        assert_eq!(hex(&command.encode()), golden, "{command:?}");
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

/// The state after so many of the commands.
fn state(count: usize) -> State {
    let mut state = State::default();
    for command in commands().iter().take(count) {
        let outcome = state.apply(command).outcome;
        assert!(!matches!(outcome, Outcome::Refused(_)), "{command:?}: {outcome:?}");
    }
    state
}

const GOLDEN_SNAPSHOT: &str = "010a00000101670404050a01016d0101690163017202017401750103742e2a904ee0d403020500ac0202\
     017401aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0175000103742e2a01aaaaaaaaaaaaaaaaaaaaaaaaaaaa\
     aaaa01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0303aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0300020200\
     000003aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0300020200040000050000040001aaaaaaaaaaaaaaaaaa\
     aaaaaaaaaaaaaa0102ac02010701780a";

#[test]
fn the_bytes_of_a_snapshot_are_pinned() {
    let state = state(6);
    assert_eq!(hex(&state.encode()), GOLDEN_SNAPSHOT);
    assert_eq!(State::decode(&state.encode()), Ok(state));
}

#[test]
fn a_state_comes_back_after_every_command() {
    for count in 0..=commands().len() - 2 {
        let state = state(count);
        assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}

fn outcomes() -> Vec<Outcome> {
    let epoch = MemberEpoch::new(300);
    let group_epoch = GroupEpoch::new(u64::MAX);
    let refusals = [
        Refusal::UnknownGroup,
        Refusal::UnknownMember,
        Refusal::WrongEpoch { current: epoch },
        Refusal::NotHeld,
        Refusal::Behind { committed: Offset::new(9) },
        Refusal::GroupChanged { fence: epoch },
        Refusal::HasMembers,
        Refusal::PartitionInUse,
        Refusal::NotIdle,
        Refusal::StaleMetadata { known: MetadataIndex::new(1) },
        Refusal::StaleTarget { current: group_epoch },
        Refusal::BadTarget,
        Refusal::BadResolution,
        Refusal::OtherInstance,
        Refusal::BadTime,
    ];
    let texts = [Text::OffsetMetadata, Text::Subscription, Text::Label];
    let bounds = [
        Bound::Groups,
        Bound::Members,
        Bound::ShardMembers,
        Bound::Topics,
        Bound::Partitions,
        Bound::Offsets,
        Bound::ShardOffsets,
        Bound::ShardText,
    ];
    let refusals: Vec<Refusal> = refusals
        .into_iter()
        .chain(texts.map(|field| Refusal::TooLong { field }))
        .chain(bounds.map(|what| Refusal::TooMany { what }))
        .collect();
    let refused: Vec<_> = (0..).zip(&refusals).map(|(p, refusal)| (at(p, 5), *refusal)).collect();
    let mut outcomes = vec![
        Outcome::Joined { epoch },
        Outcome::Subscribed { epoch },
        Outcome::Left,
        Outcome::Expired,
        Outcome::Acknowledged { freed: 3 },
        Outcome::Resolved { epoch: group_epoch },
        Outcome::Assigned { moving: 4 },
        Outcome::Committed { refused: refused.clone() },
        Outcome::Reset { fence: epoch },
        Outcome::OffsetsDeleted { refused },
        Outcome::Deleted,
        Outcome::TopicsForgotten { offsets: u64::MAX },
    ];
    outcomes.extend(refusals.into_iter().map(Outcome::Refused));
    outcomes
}

#[test]
fn every_outcome_comes_back_and_says_something() {
    for outcome in outcomes() {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome.clone()));
        if let Outcome::Refused(refusal) = outcome {
            assert!(!refusal.to_string().is_empty());
            let _kind = refusal.kind();
        }
    }
}

#[test]
fn a_later_version_and_what_is_not_known_are_refused() {
    assert_eq!(Command::decode(&[2]), Err(DecodeError::UnknownVersion { found: 2 }));
    assert_eq!(State::decode(&[]), Err(DecodeError::Truncated));
    let unknown = Outcome::decode(&[1, 99]);
    assert_eq!(unknown, Err(DecodeError::Unknown { what: "outcome", found: 99 }));
    let left_over = Outcome::decode(&[1, 3, 0]);
    assert_eq!(left_over, Err(DecodeError::LeftOver { bytes: 1 }));
    // A number of eleven bytes, one beyond 64 bits, and a list longer than what is there.
    for number in [&[0xff; 11][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
        let found = Reader::new(number).number();
        assert_eq!(found, Err(DecodeError::Field { field: "number" }));
    }
    assert_eq!(Reader::new(&[5, 0, 0, 0]).count(1), Err(DecodeError::Truncated));
    let mut huge = Writer::default();
    huge.number(u64::MAX);
    assert_eq!(Reader::new(&huge.finish()).count(17), Err(DecodeError::Truncated));
}

#[test]
fn a_snapshot_that_breaks_an_invariant_is_refused() {
    let broken = |edit: fn(&mut crate::Group)| {
        let mut state = state(6);
        state.groups.values_mut().for_each(edit);
        State::decode(&state.encode()).map(|_| ())
    };
    let bad = |field| Err(DecodeError::Field { field });
    assert_eq!(broken(|_| {}), Ok(()));
    assert_eq!(broken(|group| group.target_epoch = group.epoch.next()), bad("epoch"));
    assert_eq!(broken(|group| group.fence = MemberEpoch::NEVER), bad("epoch"));
    assert_eq!(broken(|group| group.fence = MemberEpoch::new(1)), bad("member"));
    assert_eq!(broken(|group| group.target.clear()), bad("holding"));
    assert_eq!(broken(|group| group.resolution.partitions.clear()), bad("resolution"));
    let stranger = |group: &mut crate::Group| {
        group.target.insert(at(9, 9), MemberId::new("nobody").unwrap());
    };
    assert_eq!(broken(stranger), bad("place"));
    let twin = |group: &mut crate::Group| {
        let twin = group.members[&member()].clone();
        group.members.insert(MemberId::new("n").unwrap(), twin);
    };
    assert_eq!(broken(twin), bad("member"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..Default::default() })]

    #[test]
    fn numbers_come_back(number: u64, signed: i64) {
        let mut to = Writer::default();
        to.number(number);
        to.signed(signed);
        let bytes = to.finish();
        let mut from = Reader::new(&bytes);
        prop_assert_eq!((from.number(), from.signed()), (Ok(number), Ok(signed)));
        prop_assert_eq!(from.finish(), Ok(()));
    }

    #[test]
    fn decoders_take_any_bytes(bytes: Vec<u8>) {
        let mut bytes = bytes;
        drop((Command::decode(&bytes), Outcome::decode(&bytes), State::decode(&bytes)));
        bytes.insert(0, VERSION);
        drop((Command::decode(&bytes), Outcome::decode(&bytes), State::decode(&bytes)));
    }

    #[test]
    fn a_damaged_command_is_refused_or_is_another_one(
        which in 0..14_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = commands()[which].encode();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(command) = Command::decode(&bytes) {
            for count in [0, 6, 9] {
                let mut state = state(count);
                let applied = state.apply(&command);
                prop_assert_eq!(Outcome::decode(&applied.outcome.encode()), Ok(applied.outcome));
                prop_assert_eq!(State::decode(&state.encode()), Ok(state));
            }
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        bytes.truncate(cut.index(bytes.len()));
        let _verdict = Command::decode(&bytes);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_goes_on(
        count in 1..10_usize,
        place: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut bytes = state(count).encode();
        prop_assert!(State::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(mut state) = State::decode(&bytes) {
            for command in commands() {
                state.apply(&command);
            }
            prop_assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }
}
