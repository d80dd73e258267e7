//! What a group is at the moment, how far behind it is, and why it makes no progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use duramen_group::{
    CommittedOffset, Explainer, Group, GroupEpoch, GroupName, Holding, Member as GroupMember,
    MemberEpoch, MemberId, PartitionBounds, Phase, Reason, Sessions,
};
use duramen_types::{Offset, PartitionId, TopicId, TopicPartition};

use super::bounds::{self, Answers, Bounds, Questions};
use super::shard::Shard;
use crate::error::BrokerError;
use crate::member::Member;

/// A group as it stands.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    /// Its name.
    pub group: GroupName,
    /// Where it is.
    pub phase: Phase,
    /// Counts changes of members, subscriptions and topics.
    pub epoch: GroupEpoch,
    /// The latest member epoch.
    pub fence: MemberEpoch,
    /// Its shard.
    pub shard: PartitionId,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// Partitions that are read, committed, or both.
    pub partitions: Vec<GroupPartition>,
    /// Why it makes no progress.
    pub reasons: Vec<Reason>,
    /// Names of the topics in it that exist.
    pub names: BTreeMap<TopicId, String>,
}

/// A member as it stands.
#[derive(Clone, Debug)]
pub struct MemberDescription {
    /// Its id.
    pub id: MemberId,
    /// What the group knows of it.
    pub member: GroupMember,
    /// What it reads.
    pub granted: Vec<TopicPartition>,
    /// What it has to give back.
    pub revoked: Vec<TopicPartition>,
    /// How long ago it was heard of, and when its session ends.
    pub session: Option<(Duration, Duration)>,
}

/// A partition of a group.
#[derive(Clone, Debug)]
pub struct GroupPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// Who reads it.
    pub holder: Option<MemberId>,
    /// Who ought to.
    pub target: Option<MemberId>,
    /// The committed offset.
    pub committed: Option<CommittedOffset>,
    /// First offset kept and high watermark, if its leader could be asked.
    pub bounds: Option<(Offset, Offset)>,
    /// How far behind the group is.
    pub lag: Option<Lag>,
    /// Why it makes no progress; `None` if its leader could not be asked and nothing else is known.
    pub reason: Option<Reason>,
}

/// How far behind a group is in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records that it has not committed.
    pub records: u64,
    /// How long ago the first of them was appended.
    pub millis: u64,
}

impl GroupDescription {
    /// Records behind in all partitions, and the longest time.
    #[must_use]
    pub fn lag(&self) -> Lag {
        let lags = self.partitions.iter().filter_map(|partition| partition.lag);
        lags.fold(Lag::default(), |sum, lag| Lag {
            records: sum.records.saturating_add(lag.records),
            millis: sum.millis.max(lag.millis),
        })
    }

    /// A reason, with the names of topics.
    #[must_use]
    pub fn say(&self, reason: &Reason) -> String {
        reason.named(&self.names).to_string()
    }
}

/// Describes a group of a shard that this node coordinates.
pub(super) async fn describe(
    member: &Arc<Member>,
    shard: &Shard,
    name: &GroupName,
) -> Result<GroupDescription, BrokerError> {
    let questions = {
        let state = shard.state();
        let unknown = BrokerError::Group(duramen_group::Refusal::UnknownGroup);
        questions(state.group(name).ok_or(unknown)?)
    };
    let bounds = by_partition(&questions, &bounds::ask(member, &questions).await);
    let term = shard.term().ok_or(BrokerError::NoLeader)?;
    let described = shard.with_lead(term, |state, lead| {
        let group = state.group(name)?;
        let now = shard.now();
        let known = |partition: TopicPartition| {
            let Bounds { log_start, high_watermark, .. } = *bounds.get(&partition)?;
            Some(PartitionBounds { log_start, high_watermark })
        };
        let explainer = Explainer {
            state,
            sessions: Some((&lead.sessions, now)),
            now: shard.wall(),
            bounds: &known,
        };
        let partitions = partitions(group).into_iter().map(|partition| {
            let bounds = bounds.get(&partition);
            describe_partition(shard, &explainer, (name, group), partition, bounds)
        });
        let partitions: Vec<GroupPartition> = partitions.collect();
        let topics = partitions.iter().map(|partition| partition.partition.topic);
        Some(GroupDescription {
            group: name.clone(),
            phase: group.phase(),
            epoch: group.epoch(),
            fence: group.fence(),
            shard: shard.id,
            members: members(name, group, &lead.sessions, now),
            names: member.topic_names(topics),
            reasons: explainer.group(name),
            partitions,
        })
    });
    let described = described.ok_or(BrokerError::NoLeader)?;
    described.ok_or(BrokerError::Group(duramen_group::Refusal::UnknownGroup))
}

/// Where a group reads next in each of its partitions.
pub(super) fn questions(group: &Group) -> Questions {
    partitions(group).into_iter().map(|partition| (partition, next(group, partition))).collect()
}

fn next(group: &Group, partition: TopicPartition) -> Offset {
    group.committed(partition).map_or(Offset::ZERO, |found| found.offset)
}

/// What was answered to one group's questions.
pub(super) fn by_partition(
    questions: &Questions,
    answers: &Answers,
) -> BTreeMap<TopicPartition, Bounds> {
    let answered =
        |question: &(TopicPartition, Offset)| Some((question.0, *answers.get(question)?));
    questions.iter().filter_map(answered).collect()
}

/// The partitions that a group's members read, hold or once committed.
fn partitions(group: &Group) -> BTreeSet<TopicPartition> {
    let read = group.resolution().partitions.iter().flat_map(|(topic, count)| {
        let partition = |at| TopicPartition { topic: *topic, partition: PartitionId::new(at) };
        (0..*count).map(partition)
    });
    let held = group.holdings().map(|(partition, _)| partition);
    read.chain(held).chain(group.offsets().map(|(partition, _)| partition)).collect()
}

fn describe_partition(
    shard: &Shard,
    explainer: &Explainer<'_>,
    (name, group): (&GroupName, &Group),
    partition: TopicPartition,
    bounds: Option<&Bounds>,
) -> GroupPartition {
    let reason = explainer.partition(name, partition);
    // Nothing is known against it, and nothing for it either.
    let is_blind = bounds.is_none() && matches!(reason, Reason::Reading { .. });
    let committed = group.committed(partition).cloned();
    GroupPartition {
        partition,
        holder: group.holding(partition).map(|holding: &Holding| holding.member.clone()),
        target: group.target(partition).cloned(),
        lag: bounds.map(|bounds| lag(shard, bounds, committed.as_ref())),
        committed,
        bounds: bounds.map(|bounds| (bounds.log_start, bounds.high_watermark)),
        reason: (!is_blind).then_some(reason),
    }
}

pub(super) fn lag(shard: &Shard, bounds: &Bounds, committed: Option<&CommittedOffset>) -> Lag {
    let next = committed.map_or(Offset::ZERO, |found| found.offset).max(bounds.log_start);
    let millis = bounds.appended_at.map_or(0, |at| shard.wall().millis_since(at));
    Lag { records: bounds.high_watermark.distance_from(next), millis }
}

fn members(
    name: &GroupName,
    group: &Group,
    sessions: &Sessions,
    now: Duration,
) -> Vec<MemberDescription> {
    let mut assignments = group.assignments();
    let describe = |(id, member): (&MemberId, &GroupMember)| {
        let (granted, revoked) = assignments
            .remove(id)
            .map(|found| (found.granted.into_keys().collect(), found.revoked.into_iter().collect()))
            .unwrap_or_default();
        let session = sessions
            .session(name, id)
            .map(|(heard, end)| (now.saturating_sub(heard), end.saturating_sub(now)));
        MemberDescription { id: id.clone(), member: member.clone(), granted, revoked, session }
    };
    group.members().map(describe).collect()
}
