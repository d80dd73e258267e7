//! What a coordinator says of a group.

use std::time::Duration;

use duramen_proto::v1;
use duramen_types::{NodeId, Offset, Term, Timestamp};

use super::{GroupOffset, GroupPhase, NamedPartition};
use crate::ClientError;

/// A group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The name.
    pub group: String,
    /// Where it is.
    pub phase: GroupPhase,
    /// Counts changes of members, subscriptions and topics.
    pub epoch: u64,
    /// The latest member epoch. Give it to [`GroupAdmin::reset`](super::GroupAdmin::reset) to be
    /// sure that nothing changed in between.
    pub fence: u64,
    /// The coordinator, if it said who it is.
    pub coordinator: Option<NodeId>,
    /// The shard that the group is in.
    pub shard: u32,
    /// The members.
    pub members: Vec<GroupMember>,
    /// Partitions that are read, were committed, or both.
    pub partitions: Vec<GroupPartition>,
    /// Why the group makes no progress; empty if nothing known is in its way.
    pub reasons: Vec<GroupReason>,
    /// Records behind, over all partitions whose lag is known.
    pub lag_records: u64,
    /// The longest that a record waits.
    pub lag_max: Duration,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its instance, if it is a static member.
    pub instance_id: Option<String>,
    /// The name of the program.
    pub client: String,
    /// Its rack or zone.
    pub rack: String,
    /// What it wants to read.
    pub subscription: GroupSubscription,
    /// Its epoch.
    pub epoch: u64,
    /// How long it may be silent.
    pub session: Duration,
    /// How long it may take to give a partition back.
    pub revocation: Duration,
    /// A static member that said that it will be back.
    pub away: bool,
    /// What it reads.
    pub granted: Vec<NamedPartition>,
    /// What it has to give back.
    pub revoked: Vec<NamedPartition>,
    /// How long ago it was heard of.
    pub heard_ago: Option<Duration>,
    /// When its session ends if nothing more is heard of it.
    pub expires_in: Option<Duration>,
}

/// What a member of a group wants to read: topics by name, whether they exist or not, and those
/// whose whole names match a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSubscription {
    /// Topics by name.
    pub topics: Vec<String>,
    /// A regular expression in Rust's syntax (crate `regex`), at most 1,000 bytes.
    pub pattern: Option<String>,
}

impl GroupSubscription {
    /// These topics.
    #[must_use]
    pub fn topics<S: Into<String>>(topics: impl IntoIterator<Item = S>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), pattern: None }
    }

    /// All topics whose whole names match.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self { topics: Vec::new(), pattern: Some(pattern.into()) }
    }

    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        if self.topics.is_empty() && self.pattern.as_deref().is_none_or(str::is_empty) {
            let rule = "name at least one topic or a pattern";
            return Err(ClientError::InvalidOption { option: "subscription", rule });
        }
        Ok(())
    }

    pub(crate) fn to_wire(&self) -> v1::Subscription {
        let pattern = self.pattern.clone().unwrap_or_default();
        v1::Subscription { topics: self.topics.clone(), pattern }
    }
}

/// A partition of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    /// The partition.
    pub partition: NamedPartition,
    /// The member that reads it.
    pub holder: Option<String>,
    /// The member that ought to.
    pub target: Option<String>,
    /// How far the group has come.
    pub committed: Option<CommittedOffset>,
    /// The first record kept, if the partition's leader could be asked.
    pub log_start_offset: Option<Offset>,
    /// One past the last record that can be read, if the leader could be asked.
    pub high_watermark: Option<Offset>,
    /// Records that the group has before it.
    pub lag_records: Option<u64>,
    /// How long ago the first of them was appended; zero if there is none.
    pub lag: Option<Duration>,
    /// Why it makes no progress, or that nothing is in its way.
    pub reason: Option<GroupReason>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Leader epoch of the record before it; zero = not known.
    pub leader_epoch: Term,
    /// What the client kept with it.
    pub metadata: String,
    /// When it was committed, by the coordinator's clock.
    pub committed_at: Timestamp,
}

/// Why something makes no progress, or that nothing is in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReason {
    /// A word for programs, such as `no-members`, `waits-for-revocation`, `reading`.
    pub code: String,
    /// One line for people.
    pub text: String,
}

impl GroupDescription {
    pub(crate) fn from_wire(wire: v1::DescribeGroupResponse) -> Result<Self, ClientError> {
        let phase = wire.phase().into();
        let members = wire.members.into_iter().map(GroupMember::from_wire);
        let partitions = wire.partitions.into_iter().map(GroupPartition::from_wire);
        Ok(Self {
            group: wire.group,
            phase,
            epoch: wire.epoch,
            fence: wire.fence,
            coordinator: wire.coordinator.map(|node| NodeId::new(node.id)),
            shard: wire.shard,
            members: members.collect::<Result<_, _>>()?,
            partitions: partitions.collect::<Result<_, _>>()?,
            reasons: wire.reasons.into_iter().filter_map(reason).collect(),
            lag_records: wire.lag_records,
            lag_max: Duration::from_millis(wire.lag_ms_max),
        })
    }

    /// Whether exactly this is committed.
    pub(super) fn has_committed(&self, asked: &GroupOffset) -> bool {
        let same = |found: &NamedPartition| {
            let id = asked.partition.topic_id;
            found.partition == asked.partition.partition
                && (found.topic_id == id || (id.is_nil() && found.topic == asked.partition.topic))
        };
        let found = self.partitions.iter().find(|found| same(&found.partition));
        let committed = found.and_then(|found| found.committed.as_ref());
        committed.is_some_and(|committed| committed.offset == asked.offset)
    }
}

impl GroupMember {
    fn from_wire(wire: v1::GroupMember) -> Result<Self, ClientError> {
        let named = |wire: Vec<v1::TopicPartition>| {
            wire.iter().map(NamedPartition::from_wire).collect::<Result<Vec<_>, _>>()
        };
        let subscription = wire.subscription.unwrap_or_default();
        Ok(Self {
            member_id: wire.member_id,
            instance_id: some(wire.instance_id),
            client: wire.client,
            rack: wire.rack,
            subscription: GroupSubscription {
                topics: subscription.topics,
                pattern: some(subscription.pattern),
            },
            epoch: wire.epoch,
            session: Duration::from_millis(wire.session_ms.into()),
            revocation: Duration::from_millis(wire.revocation_ms.into()),
            away: wire.away,
            granted: named(wire.granted)?,
            revoked: named(wire.revoked)?,
            heard_ago: wire.heard_ago_ms.map(Duration::from_millis),
            expires_in: wire.expires_in_ms.map(Duration::from_millis),
        })
    }
}

impl GroupPartition {
    fn from_wire(wire: v1::GroupPartition) -> Result<Self, ClientError> {
        Ok(Self {
            partition: NamedPartition::from_wire(&wire.partition.unwrap_or_default())?,
            holder: some(wire.holder),
            target: some(wire.target),
            committed: wire.committed.map(CommittedOffset::from),
            log_start_offset: wire.log_start_offset.map(Offset::new),
            high_watermark: wire.high_watermark.map(Offset::new),
            lag_records: wire.lag_records,
            lag: wire.lag_ms.map(Duration::from_millis),
            reason: wire.reason.and_then(reason),
        })
    }
}

impl From<v1::CommittedOffset> for CommittedOffset {
    fn from(wire: v1::CommittedOffset) -> Self {
        Self {
            offset: Offset::new(wire.offset),
            leader_epoch: Term::new(wire.leader_epoch),
            metadata: wire.metadata,
            committed_at: Timestamp::from_millis(wire.committed_at),
        }
    }
}

/// Empty text stands for none.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn reason(wire: v1::Reason) -> Option<GroupReason> {
    let reason = GroupReason { code: wire.code, text: wire.text };
    Some(reason).filter(|reason| !reason.code.is_empty())
}
