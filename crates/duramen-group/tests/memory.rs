//! What groups take in memory.

use std::collections::BTreeMap;

use duramen_group::{
    Action, Change, Command, Committer, GroupName, Join, MemberId, OffsetCommit, Outcome, Racks,
    Resolution, State, Subscription, UniformSticky,
};
use duramen_types::{MetadataIndex, Offset, PartitionId, Timestamp, TopicId, TopicPartition};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

fn apply(state: &mut State, group: &GroupName, action: Action) {
    let change = Change::Group { group: group.clone(), action };
    // As it comes from the log.
    let bytes = Command { at: Timestamp::from_millis(1), change }.encode();
    let command = Command::decode(&bytes).expect("own bytes");
    let outcome = state.apply(&command).outcome;
    assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

fn offsets(topic: u8, count: u32) -> Vec<OffsetCommit> {
    let topic = TopicId::from_bytes([topic; 16]);
    let offset = |partition| OffsetCommit {
        partition: TopicPartition { topic, partition: PartitionId::new(partition) },
        offset: Offset::new(1_000_000),
        leader_epoch: None,
        metadata: "".into(),
    };
    (0..count).map(offset).collect()
}

/// One test, for the allocator counts what all threads take.
#[test]
fn ten_thousand_groups_take_less_than_thirty_megabytes() {
    let idle = measure("10,000 groups without members, 10 offsets each", |state| {
        for number in 0..10_000 {
            let group = GroupName::new(&format!("group-{number:06}")).expect("a name");
            let committer = Committer::Standalone { fence: None };
            apply(state, &group, Action::Commit { committer, offsets: offsets(1, 10) });
        }
    });
    assert!(idle <= 30 * MIB, "{idle} bytes");
    let active =
        measure("10,000 groups with a member that reads and commits 10 partitions", |state| {
            for number in 0..10_000 {
                let group = GroupName::new(&format!("group-{number:06}")).expect("a name");
                active(state, &group, number);
            }
        });
    assert!(active <= 60 * MIB, "{active} bytes");
}

fn active(state: &mut State, group: &GroupName, number: u32) {
    let member = MemberId::new(&format!("consumer-{number:032}")).expect("an id");
    let join = Join {
        member: member.clone(),
        instance: None,
        client: "consumer".into(),
        rack: "a".into(),
        subscription: Subscription::to_names(["orders"]),
        session_ms: 10_000,
        revocation_ms: 60_000,
    };
    apply(state, group, Action::Join(join));
    let topic = TopicId::from_bytes([1; 16]);
    let resolution = Resolution {
        index: MetadataIndex::new(1),
        names: BTreeMap::from([("orders".into(), Some(topic))]),
        patterns: BTreeMap::new(),
        partitions: BTreeMap::from([(topic, 10)]),
    };
    apply(state, group, Action::Resolve(resolution));
    let target = state.plan_assign(group, &UniformSticky, &Racks::new());
    apply(state, group, target.expect("a target is due"));
    let epoch = state.group(group).and_then(|group| group.member(&member)).expect("a member").epoch;
    let committer = Committer::Member { member, epoch };
    apply(state, group, Action::Commit { committer, offsets: offsets(1, 10) });
}

/// The bytes that a state takes; says so, and what its snapshot takes.
#[expect(clippy::print_stdout, reason = "what a test measured")]
fn measure(what: &str, fill: impl FnOnce(&mut State)) -> usize {
    let before = MEMORY.current_usage();
    let mut state = State::default();
    fill(&mut state);
    let taken = MEMORY.current_usage() - before;
    let bytes = state.encode();
    println!("{what}: {taken} bytes, {} in a snapshot", bytes.len());
    let restored = State::decode(&bytes).expect("own bytes");
    assert_eq!(restored, state);
    drop((state, bytes));
    let restored_takes = MEMORY.current_usage() - before;
    println!("{what}, restored: {restored_takes} bytes");
    taken.max(restored_takes)
}
