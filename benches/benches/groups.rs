//! What groups cost at their coordinator: a commit, a target, a restart.

#![expect(clippy::unwrap_used, reason = "names that are short")]

use duramen_group::{
    Action, Change, Command, Committer, GroupName, Join, MemberId, OffsetCommit, Racks, Resolution,
    State, Subscription, UniformSticky,
};
use duramen_types::{MetadataIndex, Offset, PartitionId, Timestamp, TopicId, TopicPartition};

fn main() {
    divan::main();
}

const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

fn partition(at: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionId::new(at) }
}

fn group(number: u32) -> GroupName {
    GroupName::new(&format!("group-{number:06}")).unwrap()
}

fn commit(number: u32, offset: u64, offsets: u32) -> Command {
    let commit = |at| OffsetCommit {
        partition: partition(at),
        offset: Offset::new(offset),
        leader_epoch: None,
        metadata: "".into(),
    };
    let offsets = (0..offsets).map(commit).collect();
    let action = Action::Commit { committer: Committer::Standalone { fence: None }, offsets };
    let change = Change::Group { group: group(number), action };
    Command { at: Timestamp::from_millis(1), change }
}

/// One shard of sixteen of a cluster with 10,000 groups of ten offsets.
fn shard() -> State {
    let mut state = State::default();
    for number in 0..625 {
        state.apply(&commit(number, 1, 10));
    }
    state
}

/// A commit of ten offsets, applied.
#[divan::bench]
fn apply_commit(bencher: divan::Bencher<'_, '_>) {
    let mut state = shard();
    let mut offset = 1;
    bencher.bench_local(|| {
        offset += 1;
        state.apply(&commit(300, offset, 10))
    });
}

/// What a shard writes as its snapshot.
#[divan::bench]
fn encode_shard(bencher: divan::Bencher<'_, '_>) {
    let state = shard();
    bencher.bench_local(|| state.encode());
}

/// What a shard reads when it starts.
#[divan::bench]
fn decode_shard(bencher: divan::Bencher<'_, '_>) {
    let bytes = shard().encode();
    bencher.bench_local(|| State::decode(&bytes));
}

/// The target of a group, after one more member joined.
#[divan::bench(args = [(6, 60), (100, 1_000), (1_000, 10_000)])]
fn assign(bencher: divan::Bencher<'_, '_>, (members, partitions): (u32, u32)) {
    let (mut state, name) = (State::default(), group(0));
    let apply = |state: &mut State, action| {
        let change = Change::Group { group: group(0), action };
        state.apply(&Command { at: Timestamp::from_millis(1), change });
    };
    for member in 0..members {
        let join = Join {
            member: MemberId::new(&format!("member-{member:04}")).unwrap(),
            instance: None,
            client: "".into(),
            rack: "".into(),
            subscription: Subscription::to_names(["t"]),
            session_ms: 10_000,
            revocation_ms: 10_000,
        };
        apply(&mut state, Action::Join(join));
        if member + 2 == members {
            let resolution = Resolution {
                index: MetadataIndex::new(1),
                names: [("t".into(), Some(TOPIC))].into(),
                partitions: [(TOPIC, partitions)].into(),
                ..Resolution::default()
            };
            apply(&mut state, Action::Resolve(resolution));
            if let Some(action) = state.plan_assign(&name, &UniformSticky, &Racks::new()) {
                apply(&mut state, action);
            }
        }
    }
    bencher.bench_local(|| state.plan_assign(&name, &UniformSticky, &Racks::new()));
}
