//! Between the messages of groups and the broker's requests, field by field.

use std::collections::BTreeMap;

use duramen_broker::{
    Assignment, Broker, BrokerError, GroupDescription, GroupList, GroupPartition, JoinRequest,
    MemberDescription,
};
use duramen_group::{
    CommittedOffset, GroupName, InstanceId, Join, MemberEpoch, MemberId, OffsetCommit, Phase,
    Reason, Refusal, Subscription,
};
use duramen_proto::v1;
use duramen_types::{Offset, PartitionId, Term, TopicId, TopicPartition};

use crate::error;
use crate::translate::{invalid, topic_id, topic_id_to_wire};

const NAME_RULE: &str = "1 to 249 bytes without control characters";

pub(super) fn group_name(text: &str) -> Result<GroupName, BrokerError> {
    GroupName::new(text).ok_or_else(|| invalid("group", NAME_RULE))
}

pub(super) fn member_id(text: &str) -> Result<MemberId, BrokerError> {
    MemberId::new(text).ok_or_else(|| invalid("member_id", NAME_RULE))
}

fn instance_id(text: &str) -> Result<Option<InstanceId>, BrokerError> {
    if text.is_empty() {
        return Ok(None);
    }
    InstanceId::new(text).map(Some).ok_or_else(|| invalid("instance_id", NAME_RULE))
}

pub(super) fn subscription(wire: Option<v1::Subscription>) -> Result<Subscription, BrokerError> {
    let wire = wire.ok_or_else(|| invalid("subscription", "topics or a pattern"))?;
    let subscription = Subscription {
        names: wire.topics.iter().map(|name| name.as_str().into()).collect(),
        pattern: (!wire.pattern.is_empty()).then(|| wire.pattern.as_str().into()),
    };
    if subscription.is_valid() {
        Ok(subscription)
    } else {
        Err(BrokerError::Group(Refusal::TooLong { field: duramen_group::Text::Subscription }))
    }
}

pub(crate) fn join(wire: v1::JoinGroup) -> Result<JoinRequest, BrokerError> {
    let or = |given: u32, usual: u32| if given == 0 { usual } else { given };
    Ok(JoinRequest {
        group: group_name(&wire.group)?,
        join: Join {
            member: member_id(&wire.member_id)?,
            instance: instance_id(&wire.instance_id)?,
            client: wire.client.into(),
            rack: wire.rack.into(),
            subscription: subscription(wire.subscription)?,
            session_ms: or(wire.session_ms, duramen_broker::limits::SESSION_MS),
            revocation_ms: or(wire.revocation_ms, duramen_broker::limits::REVOCATION_MS),
        },
        epoch: MemberEpoch::new(wire.epoch),
    })
}

pub(super) fn partition_from_wire(
    broker: &Broker,
    wire: &v1::TopicPartition,
) -> Result<TopicPartition, BrokerError> {
    let id = topic_id(&wire.topic_id)?;
    broker.group_partition(&wire.topic, id, PartitionId::new(wire.partition))
}

pub(super) fn partition_to_wire(
    names: &BTreeMap<TopicId, String>,
    partition: TopicPartition,
) -> v1::TopicPartition {
    v1::TopicPartition {
        topic_id: topic_id_to_wire(partition.topic),
        topic: names.get(&partition.topic).cloned().unwrap_or_default(),
        partition: partition.partition.get(),
    }
}

pub(super) fn commits(
    broker: &Broker,
    wire: Vec<v1::OffsetCommit>,
) -> Result<Vec<OffsetCommit>, BrokerError> {
    let max = duramen_broker::limits::COMMIT_OFFSETS_MAX;
    if wire.len() > max {
        return Err(invalid("offsets", &format!("at most {max}")));
    }
    let commit = |wire: v1::OffsetCommit| {
        let partition = wire.partition.ok_or_else(|| invalid("partition", "set"))?;
        Ok(OffsetCommit {
            partition: partition_from_wire(broker, &partition)?,
            offset: Offset::new(wire.offset),
            leader_epoch: (wire.leader_epoch != 0).then(|| Term::new(wire.leader_epoch)),
            metadata: wire.metadata.into(),
        })
    };
    wire.into_iter().map(commit).collect()
}

pub(super) fn refused(
    broker: &Broker,
    refused: &[(TopicPartition, Refusal)],
) -> Vec<v1::PartitionError> {
    let names = broker.topic_names(refused.iter().map(|(partition, _)| partition.topic));
    let to_wire = |(partition, refusal): &(TopicPartition, Refusal)| v1::PartitionError {
        partition: Some(partition_to_wire(&names, *partition)),
        error: Some(error::group_refusal(*refusal)),
    };
    refused.iter().map(to_wire).collect()
}

fn committed(committed: &CommittedOffset) -> v1::CommittedOffset {
    v1::CommittedOffset {
        offset: committed.offset.get(),
        leader_epoch: committed.leader_epoch.map_or(0, Term::get),
        metadata: committed.metadata.to_string(),
        committed_at: committed.at.as_millis(),
    }
}

pub(super) fn assignment(assignment: &Assignment) -> v1::MemberAssignment {
    let names = &assignment.names;
    let granted = assignment.granted.iter().map(|granted| v1::GrantedPartition {
        partition: Some(partition_to_wire(names, granted.partition)),
        since: granted.since.get(),
        committed: granted.committed.as_ref().map(committed),
    });
    let revoked = assignment.revoked.iter();
    v1::MemberAssignment {
        epoch: assignment.epoch.get(),
        granted: granted.collect(),
        revoked: revoked.map(|partition| partition_to_wire(names, *partition)).collect(),
        session_ms: assignment.session_ms,
        revocation_ms: assignment.revocation_ms,
        // Two may be lost and the session still goes on.
        heartbeat_ms: assignment.session_ms / 3,
    }
}

const fn phase(phase: Phase) -> v1::GroupPhase {
    match phase {
        Phase::Empty => v1::GroupPhase::Empty,
        Phase::Assigning => v1::GroupPhase::Assigning,
        Phase::Reconciling => v1::GroupPhase::Reconciling,
        Phase::Stable => v1::GroupPhase::Stable,
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn list(list: GroupList) -> v1::ListGroupsResponse {
    let groups = list.groups.into_iter().map(|group| v1::ListedGroup {
        group: group.group.to_string(),
        phase: phase(group.phase).into(),
        members: count(group.members),
        offsets: count(group.offsets),
    });
    v1::ListGroupsResponse {
        groups: groups.collect(),
        shards: list.shards.into_iter().map(PartitionId::get).collect(),
        shard_count: count(list.shard_count),
    }
}

pub(super) fn description(
    group: &GroupDescription,
    coordinator: Option<v1::Node>,
) -> v1::DescribeGroupResponse {
    let lag = group.lag();
    v1::DescribeGroupResponse {
        group: group.group.to_string(),
        phase: phase(group.phase).into(),
        epoch: group.epoch.get(),
        fence: group.fence.get(),
        coordinator,
        shard: group.shard.get(),
        members: group.members.iter().map(|member| described_member(group, member)).collect(),
        partitions: group
            .partitions
            .iter()
            .map(|found| described_partition(group, found))
            .collect(),
        reasons: group.reasons.iter().map(|found| reason(group, found)).collect(),
        lag_records: lag.records,
        lag_ms_max: lag.millis,
    }
}

fn described_member(group: &GroupDescription, found: &MemberDescription) -> v1::GroupMember {
    let member = &found.member;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let text = |text: &std::sync::Arc<str>| text.to_string();
    let partitions = |of: &[TopicPartition]| {
        of.iter().map(|partition| partition_to_wire(&group.names, *partition)).collect()
    };
    v1::GroupMember {
        member_id: found.id.to_string(),
        instance_id: member.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        client: member.client.to_string(),
        rack: member.rack.to_string(),
        subscription: Some(v1::Subscription {
            topics: member.subscription.names.iter().map(text).collect(),
            pattern: member.subscription.pattern.as_ref().map(text).unwrap_or_default(),
        }),
        epoch: member.epoch.get(),
        session_ms: member.session_ms,
        revocation_ms: member.revocation_ms,
        away: member.away,
        granted: partitions(&found.granted),
        revoked: partitions(&found.revoked),
        heard_ago_ms: found.session.map(|(heard, _)| millis(heard)),
        expires_in_ms: found.session.map(|(_, left)| millis(left)),
    }
}

fn described_partition(group: &GroupDescription, found: &GroupPartition) -> v1::GroupPartition {
    let id = |id: &Option<MemberId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    let unknown = || v1::Reason {
        code: "no-leader".to_owned(),
        text: "the leader of the partition could not be asked".to_owned(),
    };
    v1::GroupPartition {
        partition: Some(partition_to_wire(&group.names, found.partition)),
        holder: id(&found.holder),
        target: id(&found.target),
        committed: found.committed.as_ref().map(committed),
        log_start_offset: found.bounds.map(|(start, _)| start.get()),
        high_watermark: found.bounds.map(|(_, end)| end.get()),
        lag_records: found.lag.map(|lag| lag.records),
        lag_ms: found.lag.map(|lag| lag.millis),
        reason: Some(found.reason.as_ref().map_or_else(unknown, |found| reason(group, found))),
    }
}

fn reason(group: &GroupDescription, found: &Reason) -> v1::Reason {
    v1::Reason { code: code(found).to_owned(), text: group.say(found) }
}

const fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::UnknownGroup => "unknown-group",
        Reason::NoMembers { .. } => "no-members",
        Reason::NotResolved => "not-resolved",
        Reason::NothingMatches => "nothing-matches",
        Reason::NotSubscribed { .. } => "not-subscribed",
        Reason::UnknownPartition { .. } => "unknown-partition",
        Reason::TargetDue => "target-due",
        Reason::WaitsForRevocation { .. } => "waits-for-revocation",
        Reason::Silent { .. } => "silent",
        Reason::Away { .. } => "away",
        Reason::Fenced { .. } => "fenced",
        Reason::Idle { .. } => "idle",
        Reason::NeverCommitted { .. } => "never-committed",
        Reason::BelowLogStart { .. } => "below-log-start",
        Reason::PastEnd { .. } => "past-end",
        Reason::AtEnd { .. } => "at-end",
        Reason::Reading { .. } => "reading",
    }
}
