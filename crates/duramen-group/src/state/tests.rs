//! Stories of groups.

use std::collections::BTreeMap;

use duramen_types::{MetadataIndex, Offset, PartitionId, Term, TopicId, TopicPartition};

use super::*;
use crate::assign::UniformSticky;
use crate::command::{ExpiryCause, Join, OffsetCommit};
use crate::group::Phase;
use crate::limits::{
    GROUP_MEMBERS_MAX, NAME_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, SUBSCRIBED_NAMES_MAX,
};
use crate::name::{InstanceId, MemberId};
use crate::outcome::{Removal, Text};
use crate::subscription::{Resolution, Subscription};

pub(crate) fn topic(number: u8) -> TopicId {
    TopicId::from_bytes([number; 16])
}

pub(crate) fn at(number: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(number), partition: PartitionId::new(partition) }
}

pub(crate) fn name() -> GroupName {
    GroupName::new("g").unwrap()
}

pub(crate) fn id(text: &str) -> MemberId {
    MemberId::new(text).unwrap()
}

pub(crate) fn join(member: &str) -> Join {
    Join {
        member: id(member),
        instance: None,
        client: "c".into(),
        rack: "r".into(),
        subscription: Subscription::to_names(["t1"]),
        session_ms: 10_000,
        revocation_ms: 60_000,
    }
}

pub(crate) fn commit_of(partition: TopicPartition, offset: u64) -> OffsetCommit {
    OffsetCommit {
        partition,
        offset: Offset::new(offset),
        leader_epoch: Some(Term::new(3)),
        metadata: "m".into(),
    }
}

/// Applies actions on one group, one after the other.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) state: State,
    pub(crate) now: i64,
    pub(crate) effects: Vec<Effect>,
}

impl Log {
    pub(crate) fn apply(&mut self, action: Action) -> Outcome {
        self.change(Change::Group { group: name(), action })
    }

    pub(crate) fn change(&mut self, change: Change) -> Outcome {
        let applied = self.state.apply(&Command { at: Timestamp::from_millis(self.now), change });
        self.effects = applied.effects;
        applied.outcome
    }

    fn refused(&mut self, action: Action) -> Refusal {
        let before = self.state.clone();
        let Outcome::Refused(refusal) = self.apply(action) else { panic!("not refused") };
        let unchanged = State { clock: before.clock, ..self.state.clone() };
        assert_eq!(unchanged, before, "a refused command changed the state");
        refusal
    }

    pub(crate) fn group(&self) -> &Group {
        self.state.group(&name()).unwrap()
    }

    pub(crate) fn epoch(&self, member: &str) -> MemberEpoch {
        self.group().member(&id(member)).unwrap().epoch
    }

    pub(crate) fn join(&mut self, member: &str) {
        let outcome = self.apply(Action::Join(join(member)));
        assert!(matches!(outcome, Outcome::Joined { .. }), "{outcome:?}");
    }

    /// Says that topic `t1` has so many partitions.
    pub(crate) fn resolve(&mut self, index: u64, count: u32) -> Outcome {
        self.apply(Action::Resolve(Resolution {
            index: MetadataIndex::new(index),
            names: BTreeMap::from([("t1".into(), Some(topic(1)))]),
            patterns: BTreeMap::new(),
            partitions: BTreeMap::from([(topic(1), count)]),
        }))
    }

    pub(crate) fn assign(&mut self) -> Outcome {
        let planned = self.state.plan_assign(&name(), &UniformSticky, &Racks::new());
        self.apply(planned.expect("a target is due"))
    }

    pub(crate) fn acknowledge(&mut self, member: &str) -> Outcome {
        let epoch = self.epoch(member);
        self.apply(Action::Acknowledge { member: id(member), epoch })
    }

    pub(crate) fn commit(&mut self, member: &str, epoch: MemberEpoch, offset: u64) -> Vec<Refusal> {
        let committer = Committer::Member { member: id(member), epoch };
        let offsets = vec![commit_of(at(1, 0), offset)];
        match self.apply(Action::Commit { committer, offsets }) {
            Outcome::Committed { refused } => refused.into_iter().map(|(_, why)| why).collect(),
            Outcome::Refused(refusal) => vec![refusal],
            other => panic!("{other:?}"),
        }
    }

    fn standalone(&mut self, fence: Option<MemberEpoch>, offset: u64) -> Outcome {
        let committer = Committer::Standalone { fence };
        self.apply(Action::Commit { committer, offsets: vec![commit_of(at(1, 0), offset)] })
    }

    pub(crate) fn reads(&self, member: &str) -> Vec<u32> {
        let granted = self.group().assignment(&id(member)).unwrap().granted;
        granted.keys().map(|partition| partition.partition.get()).collect()
    }

    fn committed(&self) -> u64 {
        self.group().committed(at(1, 0)).unwrap().offset.get()
    }
}

/// A group of one member that reads four partitions.
pub(crate) fn one_reader() -> Log {
    let mut log = Log::default();
    log.join("a");
    log.resolve(1, 4);
    assert_eq!(log.assign(), Outcome::Assigned { moving: 0 });
    log
}

#[test]
fn a_first_member_gets_everything_at_once() {
    let mut log = Log::default();
    log.join("a");
    let due = Effect::ResolutionDue { group: name() };
    assert!(
        log.effects.contains(&due) && log.effects.contains(&Effect::TargetDue { group: name() })
    );
    assert_eq!(log.group().phase(), Phase::Assigning);
    log.resolve(1, 4);
    assert_eq!(log.effects, [Effect::TargetDue { group: name() }]);
    log.assign();
    assert_eq!(log.effects, [Effect::AssignmentChanged { group: name(), member: id("a") }]);
    assert_eq!(log.reads("a"), [0, 1, 2, 3]);
    assert_eq!(log.group().phase(), Phase::Stable);
}

#[test]
fn a_partition_moves_only_when_it_was_given_back_and_others_do_not_stop() {
    let mut log = one_reader();
    let before = log.epoch("a");
    log.join("b");
    assert_eq!(log.assign(), Outcome::Assigned { moving: 2 });
    assert_eq!(log.group().phase(), Phase::Reconciling);
    assert_eq!((log.reads("a"), log.reads("b")), (vec![0, 1], vec![]));
    let told = log.group().assignment(&id("a")).unwrap();
    assert_eq!(told.revoked.len(), 2);
    // What stays is known by the same epoch, so that it is not read anew, and an old epoch commits.
    assert_eq!(told.granted[&at(1, 0)], before);
    assert!(log.epoch("a") > before);
    assert_eq!(log.commit("a", before, 7), []);
    // An acknowledgement from before it was told changes nothing.
    let stale = Action::Acknowledge { member: id("a"), epoch: before };
    assert_eq!(log.apply(stale), Outcome::Acknowledged { freed: 0 });
    assert_eq!(log.acknowledge("a"), Outcome::Acknowledged { freed: 2 });
    assert_eq!(log.reads("b"), [2, 3]);
    assert_eq!(log.acknowledge("a"), Outcome::Acknowledged { freed: 0 });
    assert_eq!(log.group().phase(), Phase::Stable);
}

#[test]
fn what_a_member_leaves_or_loses_goes_to_others_at_the_next_target() {
    let mut log = one_reader();
    log.join("b");
    log.assign();
    log.acknowledge("a");
    let epoch = log.epoch("b");
    log.apply(Action::Leave { member: id("b"), epoch, returns: false });
    assert_eq!(log.group().phase(), Phase::Assigning);
    log.assign();
    assert_eq!(log.reads("a"), [0, 1, 2, 3]);
    let again = Action::Leave { member: id("b"), epoch, returns: false };
    assert_eq!(log.apply(again), Outcome::Left, "now or since an earlier try");
}

#[test]
fn a_member_that_does_not_give_back_is_expired_and_the_next_one_reads() {
    let mut log = one_reader();
    log.join("b");
    log.assign();
    let expire = |epoch| Action::Expire { member: id("a"), epoch, cause: ExpiryCause::Revocation };
    let current = log.epoch("a");
    let stale = expire(MemberEpoch::new(current.get() - 1));
    assert_eq!(log.refused(stale), Refusal::WrongEpoch { current });
    assert_eq!(log.apply(expire(current)), Outcome::Expired);
    assert_eq!(log.reads("b"), [2, 3], "what was to be its own at once");
    let reason = Removal::Expired(ExpiryCause::Revocation);
    let gone = Effect::MemberRemoved { group: name(), member: id("a"), reason };
    assert!(log.effects.contains(&gone));
    log.assign();
    assert_eq!(log.reads("b"), [0, 1, 2, 3]);
    assert_eq!(log.refused(expire(current)), Refusal::UnknownMember);
    assert_eq!(log.commit("a", current, 9), [Refusal::UnknownMember]);
}

#[test]
fn a_repeated_join_changes_nothing() {
    let mut log = one_reader();
    let before = log.group().clone();
    log.join("a");
    assert_eq!(*log.group(), before);
    let other = Join { instance: InstanceId::new("i"), ..join("a") };
    assert_eq!(log.refused(Action::Join(other)), Refusal::OtherInstance);
}

#[test]
fn a_member_that_comes_again_under_its_id_is_fenced_from_its_earlier_life() {
    let mut log = one_reader();
    let old = log.epoch("a");
    log.apply(Action::Leave { member: id("a"), epoch: old, returns: false });
    log.join("a");
    log.assign();
    let current = log.epoch("a");
    assert!(current > old);
    assert_eq!(log.commit("a", old, 1), [Refusal::WrongEpoch { current }]);
    let late = Action::Leave { member: id("a"), epoch: old, returns: false };
    assert_eq!(log.refused(late), Refusal::WrongEpoch { current });
}

#[test]
fn a_static_member_comes_back_and_nothing_moves() {
    let mut log = Log::default();
    let with = |member: &str| Join { instance: InstanceId::new("i"), ..join(member) };
    log.apply(Action::Join(with("a")));
    log.join("b");
    log.resolve(1, 4);
    log.assign();
    let (had, group_epoch, epoch) = (log.reads("a"), log.group().epoch(), log.epoch("a"));
    log.apply(Action::Leave { member: id("a"), epoch, returns: true });
    assert_eq!(log.commit("a", epoch, 1), [Refusal::UnknownMember]);
    assert_eq!(log.group().epoch(), group_epoch);
    log.apply(Action::Join(with("c")));
    assert_eq!((log.reads("c"), log.group().epoch()), (had.clone(), group_epoch));
    assert_eq!(log.group().phase(), Phase::Stable);
    // Also without a farewell; the process that is still there is fenced.
    log.apply(Action::Join(with("d")));
    assert_eq!(log.reads("d"), had);
    let reason = Removal::TakenOver;
    let gone = Effect::MemberRemoved { group: name(), member: id("c"), reason };
    assert!(log.effects.contains(&gone));
    assert_eq!(log.commit("c", log.group().fence(), 1), [Refusal::UnknownMember]);
    assert_eq!(log.group().member_of_instance(&InstanceId::new("i").unwrap()), Some(&id("d")));
}

#[test]
fn a_takeover_while_a_target_is_on_its_way_makes_another_one_due() {
    let mut log = Log::default();
    let with = |member: &str| Join { instance: InstanceId::new("i"), ..join(member) };
    log.apply(Action::Join(with("a")));
    log.resolve(1, 4);
    let under_way = log.state.plan_assign(&name(), &UniformSticky, &Racks::new()).unwrap();
    let current = log.group().epoch();
    log.apply(Action::Join(with("c")));
    assert_eq!(log.group().epoch(), current, "it reads what the earlier life read");
    let due = Effect::TargetDue { group: name() };
    assert_eq!(log.effects.iter().filter(|effect| **effect == due).count(), 1);
    assert_eq!(log.refused(under_way), Refusal::StaleTarget { current });
    log.assign();
    assert_eq!((log.group().phase(), log.reads("c")), (Phase::Stable, vec![0, 1, 2, 3]));
    // With nothing due, or under the id that it had, what is on its way is good.
    log.apply(Action::Join(with("d")));
    assert!(!log.effects.contains(&due));
    log.join("b");
    let epoch = log.epoch("d");
    log.apply(Action::Leave { member: id("d"), epoch, returns: true });
    let under_way = log.state.plan_assign(&name(), &UniformSticky, &Racks::new()).unwrap();
    log.apply(Action::Join(with("d")));
    assert!(!log.effects.contains(&due));
    assert!(matches!(log.apply(under_way), Outcome::Assigned { .. }));
}

#[test]
fn who_goes_makes_due_what_could_not_be_looked_up_with_it() {
    let mut log = one_reader();
    let wants = |member, names: &[&str]| {
        let subscription = Subscription::to_names(names.iter().copied());
        Action::Join(Join { subscription, ..join(member) })
    };
    // What `b` matches is too much: of `c` nothing is learned with it.
    log.apply(wants("b", &["t2"]));
    log.apply(wants("c", &["t3"]));
    let mut whole = Resolution { index: MetadataIndex::new(2), ..Resolution::default() };
    for (number, count) in [(1, 4), (2, u32::MAX), (3, 1)] {
        whole.names.insert(format!("t{number}").into(), Some(topic(number)));
        whole.partitions.insert(topic(number), count);
    }
    let refusal = log.refused(Action::Resolve(whole.clone()));
    assert_eq!(refusal, Refusal::TooMany { what: Bound::Partitions });
    let epoch = log.epoch("b");
    log.apply(Action::Leave { member: id("b"), epoch, returns: false });
    assert!(!log.group().is_resolved());
    assert!(log.effects.contains(&Effect::ResolutionDue { group: name() }));
    whole.names.remove("t2");
    whole.partitions.remove(&topic(2));
    log.apply(Action::Resolve(whole));
    log.assign();
    assert_eq!(log.group().assignment(&id("c")).unwrap().granted.len(), 1);
}

#[test]
fn a_target_is_taken_only_as_it_was_computed() {
    let mut log = one_reader();
    let current = log.group().epoch();
    let target = |partitions: Vec<TopicPartition>| BTreeMap::from([(id("a"), partitions)]);
    let assign = |epoch, target| Action::Assign { epoch, target };
    let stale = assign(GroupEpoch::new(current.get() - 1), target(vec![]));
    assert_eq!(log.refused(stale), Refusal::StaleTarget { current });
    for bad in [vec![at(1, 4)], vec![at(2, 0)], vec![at(1, 0), at(1, 0)]] {
        assert_eq!(log.refused(assign(current, target(bad))), Refusal::BadTarget);
    }
    let unknown = assign(current, BTreeMap::from([(id("x"), vec![])]));
    assert_eq!(log.refused(unknown), Refusal::StaleTarget { current });
}

#[test]
fn metadata_does_not_go_back() {
    let mut log = one_reader();
    let known = MetadataIndex::new(5);
    log.resolve(5, 6);
    let epoch = log.group().epoch();
    assert_eq!(log.resolve(4, 4), Outcome::Refused(Refusal::StaleMetadata { known }));
    assert_eq!(log.resolve(6, 6), Outcome::Resolved { epoch }, "nothing new, nothing to assign");
    let mut torn = Resolution { index: MetadataIndex::new(9), ..Resolution::default() };
    torn.names.insert("t1".into(), Some(topic(7)));
    assert_eq!(log.refused(Action::Resolve(torn)), Refusal::BadResolution);
}

#[test]
fn a_subscription_changes_once_and_in_order() {
    let mut log = one_reader();
    let first = log.epoch("a");
    let subscribe = |epoch, names: &[&str]| {
        let subscription = Subscription::to_names(names.iter().copied());
        Action::Subscribe { member: id("a"), epoch, subscription }
    };
    let outcome = log.apply(subscribe(first, &["t1", "t2"]));
    let current = log.epoch("a");
    assert_eq!(outcome, Outcome::Subscribed { epoch: current });
    assert!(log.effects.contains(&Effect::ResolutionDue { group: name() }));
    assert_eq!(log.apply(subscribe(first, &["t1", "t2"])), outcome, "the answer was lost");
    assert_eq!(log.refused(subscribe(first, &["t3"])), Refusal::WrongEpoch { current });
    assert_eq!(log.commit("a", first, 4), [], "what it reads is not disturbed");
}

#[test]
fn offsets_do_not_go_back_but_by_a_reset() {
    let mut log = one_reader();
    let epoch = log.epoch("a");
    assert_eq!(log.commit("a", epoch, 10), []);
    assert_eq!(log.commit("a", epoch, 10), [], "again");
    let committed = Offset::new(10);
    assert_eq!(log.commit("a", epoch, 9), [Refusal::Behind { committed }]);
    let found = log.group().committed(at(1, 0)).unwrap();
    assert_eq!((found.leader_epoch, &*found.metadata), (Some(Term::new(3)), "m"));
    let future = MemberEpoch::new(epoch.get() + 1);
    assert_eq!(log.commit("a", future, 20), [Refusal::WrongEpoch { current: epoch }]);

    let fence = log.group().fence();
    let reset = |fence| Action::Reset { fence, offsets: vec![commit_of(at(1, 0), 2)] };
    let outcome = log.apply(reset(Some(fence)));
    let current = log.epoch("a");
    assert_eq!(outcome, Outcome::Reset { fence: current });
    assert_eq!(log.effects, [Effect::AssignmentChanged { group: name(), member: id("a") }]);
    assert_eq!(log.refused(reset(Some(fence))), Refusal::GroupChanged { fence: current });
    // The owner knows the partition by another epoch now, the others by the same.
    let told = log.group().assignment(&id("a")).unwrap();
    assert_eq!((told.granted[&at(1, 0)], told.granted[&at(1, 1)]), (current, epoch));
    assert_eq!(log.commit("a", epoch, 11), [Refusal::NotHeld], "it was read before the reset");
    assert_eq!(log.committed(), 2);
    assert_eq!(log.commit("a", current, 3), []);
}

#[test]
fn a_reset_voids_the_last_commit_of_who_gives_back() {
    let mut log = one_reader();
    log.join("b");
    log.assign();
    let moving = log.group().assignment(&id("a")).unwrap().revoked.first().copied().unwrap();
    let offsets = vec![commit_of(moving, 2)];
    log.apply(Action::Reset { fence: None, offsets });
    let epoch = log.epoch("a");
    let committer = Committer::Member { member: id("a"), epoch };
    let outcome = log.apply(Action::Commit { committer, offsets: vec![commit_of(moving, 9)] });
    assert_eq!(outcome, Outcome::Committed { refused: vec![(moving, Refusal::NotHeld)] });
    log.acknowledge("a");
    assert_eq!(log.group().holding(moving).unwrap().member, id("b"));
    assert_eq!(log.group().committed(moving).unwrap().offset, Offset::new(2));
}

#[test]
fn who_is_no_member_commits_only_while_nobody_is() {
    let mut log = Log::default();
    assert_eq!(log.standalone(None, 5), Outcome::Committed { refused: vec![] });
    let fence = log.group().fence();
    assert_eq!(log.standalone(Some(fence), 6), Outcome::Committed { refused: vec![] });
    log.join("a");
    assert_eq!(log.standalone(None, 7), Outcome::Refused(Refusal::HasMembers));
    let epoch = log.epoch("a");
    log.apply(Action::Leave { member: id("a"), epoch, returns: false });
    let current = log.group().fence();
    let changed = Refusal::GroupChanged { fence: current };
    assert_eq!(log.standalone(Some(fence), 7), Outcome::Refused(changed));
    assert_eq!(log.standalone(Some(current), 7), Outcome::Committed { refused: vec![] });
}

#[test]
fn what_is_deleted_stays_deleted() {
    let mut log = one_reader();
    let epoch = log.epoch("a");
    log.commit("a", epoch, 4);
    let delete = || Action::DeleteOffsets { partitions: vec![at(1, 0)] };
    let refused = vec![(at(1, 0), Refusal::PartitionInUse)];
    assert_eq!(log.apply(delete()), Outcome::OffsetsDeleted { refused });
    assert_eq!(log.refused(Action::Delete), Refusal::HasMembers);
    log.apply(Action::Leave { member: id("a"), epoch, returns: false });
    let fence = log.group().fence();
    assert_eq!(log.apply(delete()), Outcome::OffsetsDeleted { refused: vec![] });
    assert!(log.group().committed(at(1, 0)).is_none());
    let fenced = log.standalone(Some(fence), 4);
    assert!(matches!(fenced, Outcome::Refused(Refusal::GroupChanged { .. })));
    let fence = log.group().fence();
    assert_eq!(log.apply(Action::Delete), Outcome::Deleted);
    assert_eq!(log.effects, [Effect::GroupRemoved { group: name() }]);
    assert_eq!(log.standalone(Some(fence), 4), Outcome::Refused(Refusal::UnknownGroup));
    assert_eq!(log.refused(Action::Delete), Refusal::UnknownGroup);
    assert_eq!(log.state.size, Size::default());
    // A group of the same name takes nothing for its own that was said to the deleted one.
    log.join("a");
    assert!(log.group().fence() > fence);
    let current = log.epoch("a");
    assert_eq!(log.commit("a", epoch, 9), [Refusal::WrongEpoch { current }]);
}

#[test]
fn a_group_is_retired_only_if_it_was_idle_all_the_time() {
    let mut log = one_reader();
    let epoch = log.epoch("a");
    log.commit("a", epoch, 4);
    let retire = || Action::Retire { idle_ms: 1_000 };
    log.now = 5_000;
    assert_eq!(log.refused(retire()), Refusal::NotIdle);
    log.apply(Action::Leave { member: id("a"), epoch, returns: false });
    log.now = 5_900;
    log.standalone(None, 5);
    log.now = 6_800;
    assert_eq!(log.refused(retire()), Refusal::NotIdle, "it was committed to 900 ms ago");
    // A coordinator whose clock is behind does not turn time back.
    log.now = 100;
    assert_eq!(log.refused(retire()), Refusal::NotIdle);
    log.now = 6_900;
    let now = Timestamp::from_millis(log.now);
    assert_eq!(log.state.idle_groups(now, 1_000).count(), 1);
    assert_eq!(log.apply(retire()), Outcome::Deleted);
    assert!(log.state.group(&name()).is_none());
}

#[test]
fn a_deleted_topic_is_forgotten_everywhere() {
    let mut log = one_reader();
    let epoch = log.epoch("a");
    log.commit("a", epoch, 4);
    let index = MetadataIndex::new(9);
    let forget = Change::ForgetTopics { index, topics: vec![topic(1)] };
    assert_eq!(log.change(forget.clone()), Outcome::TopicsForgotten { offsets: 1 });
    assert_eq!((log.reads("a"), log.state.size.offsets), (vec![], 0));
    assert_eq!(log.commit("a", epoch, 5), [Refusal::NotHeld], "not even on its way out");
    assert!(matches!(log.resolve(8, 4), Outcome::Refused(Refusal::StaleMetadata { .. })));
    assert_eq!(log.change(forget), Outcome::TopicsForgotten { offsets: 0 });
}

#[test]
fn everything_has_a_limit() {
    let mut log = Log::default();
    let long = |bytes: usize| "x".repeat(bytes);
    let mut wrong = |join: Join| log.refused(Action::Join(join));
    let names: Vec<String> = (0..=SUBSCRIBED_NAMES_MAX).map(|n| n.to_string()).collect();
    let subscription = Subscription::to_names(names.iter().map(String::as_str));
    let too_long = |field| Refusal::TooLong { field };
    assert_eq!(wrong(Join { subscription, ..join("a") }), too_long(Text::Subscription));
    let name_too_long = long(NAME_BYTES_MAX + 1);
    let subscription = Subscription::to_names([name_too_long.as_str()]);
    assert_eq!(wrong(Join { subscription, ..join("a") }), too_long(Text::Subscription));
    assert_eq!(wrong(Join { rack: long(256).into(), ..join("a") }), too_long(Text::Label));
    assert_eq!(wrong(Join { session_ms: 10, ..join("a") }), Refusal::BadTime);
    assert_eq!(wrong(Join { revocation_ms: u32::MAX, ..join("a") }), Refusal::BadTime);
    let mut log = one_reader();
    let metadata = long(OFFSET_METADATA_BYTES_MAX + 1).into();
    let offsets = vec![OffsetCommit { metadata, ..commit_of(at(1, 0), 1) }];
    let epoch = log.epoch("a");
    let committer = Committer::Member { member: id("a"), epoch };
    let refused = vec![(at(1, 0), too_long(Text::OffsetMetadata))];
    let outcome = log.apply(Action::Commit { committer, offsets: offsets.clone() });
    assert_eq!(outcome, Outcome::Committed { refused });
    let reset = Action::Reset { fence: None, offsets };
    assert_eq!(log.refused(reset), too_long(Text::OffsetMetadata));
    for number in 1..GROUP_MEMBERS_MAX {
        log.join(&number.to_string());
    }
    let one_more = Action::Join(join("one more"));
    assert_eq!(log.refused(one_more), Refusal::TooMany { what: Bound::Members });
    let partitions = log.resolve(2, 200_000);
    assert_eq!(partitions, Outcome::Refused(Refusal::TooMany { what: Bound::Partitions }));
}

#[test]
fn the_shard_has_limits_too() {
    let mut log = one_reader();
    let true_size = log.state.size;
    log.state.size = LIMIT;
    assert_eq!(log.refused(Action::Join(join("b"))), Refusal::TooMany { what: Bound::ShardText });
    log.state.size = Size { text_bytes: 0, ..LIMIT };
    assert_eq!(
        log.refused(Action::Join(join("b"))),
        Refusal::TooMany { what: Bound::ShardMembers }
    );
    let epoch = log.epoch("a");
    let full = Refusal::TooMany { what: Bound::ShardOffsets };
    assert_eq!(log.commit("a", epoch, 4), [full]);
    log.state.size = true_size;
    assert_eq!(log.commit("a", epoch, 4), []);
    assert_eq!(log.state.size, Size { members: 1, offsets: 1, text_bytes: 1 + 1 + 2 + 2 + 1 });
}
