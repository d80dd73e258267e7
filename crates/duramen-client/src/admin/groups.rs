//! Consumer groups as an operator sees them: list, describe, reset, delete.

mod describe;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duramen_proto::v1::{self, ErrorCode};
use duramen_types::{Offset, PartitionId, Term, TopicId};

use crate::ClientError;
use crate::cluster::{Cluster, of_group};
use crate::retry::{Attempts, Backoff};

pub use describe::{
    CommittedOffset, GroupDescription, GroupMember, GroupPartition, GroupReason, GroupSubscription,
};
pub use plan::{Clamp, ExportedOffset, ResetPlan, ResetScope, ResetStep, ResetTo, SkipReason};

/// A partition with the name of its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPartition {
    /// The topic; empty if it was deleted.
    pub topic: Arc<str>,
    /// Its id. [`TopicId::NIL`] in a request = whatever topic has the name now.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
}

impl NamedPartition {
    /// A partition of whatever topic has the name now.
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionId) -> Self {
        Self { topic: topic.into(), topic_id: TopicId::NIL, partition }
    }

    pub(crate) fn from_wire(wire: &v1::TopicPartition) -> Result<Self, ClientError> {
        // A refusal may echo a request without an id.
        let topic_id = match wire.topic_id.is_empty() {
            true => TopicId::NIL,
            false => TopicId::from_slice(&wire.topic_id)
                .ok_or(ClientError::Protocol { what: "topic id is not 16 bytes" })?,
        };
        let partition = PartitionId::new(wire.partition);
        Ok(Self { topic: wire.topic.as_str().into(), topic_id, partition })
    }

    pub(crate) fn to_wire(&self) -> v1::TopicPartition {
        let id = Some(self.topic_id).filter(|id| !id.is_nil());
        v1::TopicPartition {
            topic_id: id.map(|id| id.as_bytes().to_vec().into()).unwrap_or_default(),
            topic: self.topic.to_string(),
            partition: self.partition.get(),
        }
    }
}

impl std::fmt::Display for NamedPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.topic.is_empty() {
            return write!(f, "{}-{}", self.topic_id, self.partition);
        }
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// An offset to be committed or reset to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The partition.
    pub partition: NamedPartition,
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Leader epoch of the record before it; zero = not known.
    pub leader_epoch: Term,
    /// Kept with it, at most 4,096 bytes.
    pub metadata: String,
}

impl GroupOffset {
    /// An offset without leader epoch and metadata.
    #[must_use]
    pub const fn new(partition: NamedPartition, offset: Offset) -> Self {
        Self { partition, offset, leader_epoch: Term::ZERO, metadata: String::new() }
    }

    pub(crate) fn to_wire(&self) -> v1::OffsetCommit {
        v1::OffsetCommit {
            partition: Some(self.partition.to_wire()),
            offset: self.offset.get(),
            leader_epoch: self.leader_epoch.get(),
            metadata: self.metadata.clone(),
        }
    }
}

/// A partition that was refused while others were not.
#[derive(Clone, Debug)]
pub struct RefusedPartition {
    /// The partition.
    pub partition: NamedPartition,
    /// Why.
    pub error: ClientError,
}

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPhase {
    /// The node said something that this client does not know.
    Unknown,
    /// No members.
    Empty,
    /// Who reads what is being worked out.
    Assigning,
    /// Partitions are on their way from one member to another.
    Reconciling,
    /// Every partition is where it ought to be.
    Stable,
}

impl From<v1::GroupPhase> for GroupPhase {
    fn from(phase: v1::GroupPhase) -> Self {
        match phase {
            v1::GroupPhase::Unspecified => Self::Unknown,
            v1::GroupPhase::Empty => Self::Empty,
            v1::GroupPhase::Assigning => Self::Assigning,
            v1::GroupPhase::Reconciling => Self::Reconciling,
            v1::GroupPhase::Stable => Self::Stable,
        }
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The name.
    pub group: String,
    /// Where it is.
    pub phase: GroupPhase,
    /// Number of members.
    pub members: u32,
    /// Number of committed offsets.
    pub offsets: u32,
}

/// The groups of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupList {
    /// By name.
    pub groups: Vec<ListedGroup>,
    /// Shards that no node answered for: their groups are missing.
    pub shards_missing: Vec<u32>,
    /// How many shards there are; 0 before the first group.
    pub shard_count: u32,
}

/// Calls on consumer groups. Each goes to the group's coordinator, wherever it is by then.
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{ResetScope, ResetTo};
///
/// let groups = client.groups();
/// println!("{} records behind", groups.describe("billing").await?.lag_records);
/// let plan = groups.plan_reset("billing", &ResetScope::All, &ResetTo::Earliest).await?;
/// groups.apply(&plan, false).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GroupAdmin {
    cluster: Arc<Cluster>,
}

impl GroupAdmin {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// All groups, by name. Shards whose coordinators did not answer are named.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] or [`ClientError::Connection`] if no node answered at all,
    /// [`ClientError::Refused`] with `DENIED`.
    pub async fn list(&self) -> Result<GroupList, ClientError> {
        let mut backoff = Backoff::default();
        let mut list = self.list_once().await?;
        // A shard is without a leader for about a second: that is worth a few more questions.
        for _ in 0..8 {
            if list.shards_missing.is_empty() {
                break;
            }
            tokio::time::sleep(backoff.next(self.cluster.random())).await;
            let next = self.list_once().await?;
            if next.shards_missing.len() <= list.shards_missing.len() {
                list = next;
            }
        }
        Ok(list)
    }

    async fn list_once(&self) -> Result<GroupList, ClientError> {
        let mut groups = BTreeMap::new();
        let mut shards = BTreeSet::new();
        let mut shard_count = 0;
        let mut failure = None;
        let mut answered = false;
        for answer in self.cluster.list_groups_everywhere().await? {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            answered = true;
            shard_count = answer.shard_count.max(shard_count);
            shards.extend(answer.shards);
            for group in answer.groups {
                let phase = group.phase().into();
                let (members, offsets) = (group.members, group.offsets);
                let name = group.group.clone();
                groups.insert(name, ListedGroup { group: group.group, phase, members, offsets });
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(GroupList {
                groups: groups.into_values().collect(),
                shards_missing: (0..shard_count).filter(|id| !shards.contains(id)).collect(),
                shard_count,
            }),
        }
    }

    /// A group with its members, offsets and lag, and why it makes no progress.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `UNKNOWN_GROUP`; [`ClientError::Timeout`].
    pub async fn describe(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let group = Arc::from(group);
        let mut attempts = self.attempts("describe the group");
        let answer = self
            .cluster
            .call_coordinator(&mut attempts, &group, |node| {
                let request = v1::DescribeGroupRequest { group: group.to_string() };
                async move { node.group().describe_group(request).await }
            })
            .await?;
        GroupDescription::from_wire(answer)
    }

    /// Sets committed offsets, also back, while members read. With the `fence` of a description
    /// nothing is done if the group has changed since; without, the group is made if there is none.
    /// Gives the new fence.
    ///
    /// # Errors
    /// [`ClientError::GroupChanged`]; [`ClientError::Refused`] with `UNKNOWN_TOPIC`,
    /// `UNKNOWN_PARTITION`, `GROUP_LIMIT`.
    pub async fn reset(
        &self,
        group: &str,
        offsets: &[GroupOffset],
        fence: Option<u64>,
    ) -> Result<u64, ClientError> {
        let name: Arc<str> = Arc::from(group);
        let request = v1::ResetOffsetsRequest {
            group: group.to_owned(),
            offsets: offsets.iter().map(GroupOffset::to_wire).collect(),
            fence,
        };
        let mut attempts = self.attempts("reset offsets");
        let result = self
            .cluster
            .call_coordinator(&mut attempts, &name, |node| {
                let request = request.clone();
                async move { node.group().reset_offsets(request).await }
            })
            .await;
        match result {
            Ok(answer) => Ok(answer.fence),
            // What has moved the fence may be an earlier attempt of this very call.
            Err(error)
                if attempts.maybe_done() && error.code() == Some(ErrorCode::GroupChanged) =>
            {
                let found = self.describe(group).await?;
                let is_done = offsets.iter().all(|offset| found.has_committed(offset));
                if is_done { Ok(found.fence) } else { Err(of_group(&name, error)) }
            }
            Err(error) => Err(of_group(&name, error)),
        }
    }

    /// Commits for a consumer that is no member, while the group has none. Gives what was refused;
    /// all else is committed.
    ///
    /// # Errors
    /// [`ClientError::GroupChanged`] if `fence` has moved on; [`ClientError::Refused`] with
    /// `GROUP_IN_USE` while the group has members.
    pub async fn commit(
        &self,
        group: &str,
        offsets: &[GroupOffset],
        fence: Option<u64>,
    ) -> Result<Vec<RefusedPartition>, ClientError> {
        let name: Arc<str> = Arc::from(group);
        let request = v1::CommitOffsetsRequest {
            group: group.to_owned(),
            offsets: offsets.iter().map(GroupOffset::to_wire).collect(),
            fence,
        };
        let mut attempts = self.attempts("commit offsets");
        let answer = self
            .cluster
            .call_coordinator(&mut attempts, &name, |node| {
                let request = request.clone();
                async move { node.group().commit_offsets(request).await }
            })
            .await
            .map_err(|error| of_group(&name, error))?;
        refused(&name, answer.refused)
    }

    /// Deletes committed offsets of partitions that no member reads. Gives what was refused.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `UNKNOWN_GROUP`.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[NamedPartition],
    ) -> Result<Vec<RefusedPartition>, ClientError> {
        let name: Arc<str> = Arc::from(group);
        let request = v1::DeleteOffsetsRequest {
            group: group.to_owned(),
            partitions: partitions.iter().map(NamedPartition::to_wire).collect(),
        };
        let mut attempts = self.attempts("delete offsets");
        let answer = self
            .cluster
            .call_coordinator(&mut attempts, &name, |node| {
                let request = request.clone();
                async move { node.group().delete_offsets(request).await }
            })
            .await
            .map_err(|error| of_group(&name, error))?;
        refused(&name, answer.refused)
    }

    /// Deletes a group without members.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `UNKNOWN_GROUP` or `GROUP_IN_USE`.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let name: Arc<str> = Arc::from(group);
        let mut attempts = self.attempts("delete the group");
        let result = self
            .cluster
            .call_coordinator(&mut attempts, &name, |node| {
                let request = v1::DeleteGroupRequest { group: group.to_owned() };
                async move { node.group().delete_group(request).await }
            })
            .await;
        done_before(&attempts, result.map(drop), ErrorCode::UnknownGroup)
    }

    /// Removes a member as if its session had ended.
    ///
    /// # Errors
    /// [`ClientError::GroupFenced`] with `UNKNOWN_MEMBER`; [`ClientError::Refused`] with
    /// `UNKNOWN_GROUP`.
    pub async fn remove_member(&self, group: &str, member_id: &str) -> Result<(), ClientError> {
        let name: Arc<str> = Arc::from(group);
        let request =
            v1::RemoveMemberRequest { group: group.to_owned(), member_id: member_id.to_owned() };
        let mut attempts = self.attempts("remove the member");
        let result = self
            .cluster
            .call_coordinator(&mut attempts, &name, |node| {
                let request = request.clone();
                async move { node.group().remove_member(request).await }
            })
            .await;
        let result = done_before(&attempts, result.map(drop), ErrorCode::UnknownMember);
        result.map_err(|error| of_group(&name, error))
    }

    fn attempts(&self, what: &'static str) -> Attempts {
        Attempts::new(what, self.cluster.options.request_timeout)
    }
}

/// Takes a refusal for success if an earlier attempt can have been the cause of it.
fn done_before(
    attempts: &Attempts,
    result: Result<(), ClientError>,
    code: ErrorCode,
) -> Result<(), ClientError> {
    match result {
        Err(error) if attempts.maybe_done() && error.code() == Some(code) => Ok(()),
        result => result,
    }
}

/// What was refused, with typed errors.
fn refused(
    group: &Arc<str>,
    wire: Vec<v1::PartitionError>,
) -> Result<Vec<RefusedPartition>, ClientError> {
    let one = |refused: v1::PartitionError| {
        let partition = NamedPartition::from_wire(&refused.partition.unwrap_or_default())?;
        let error = partition_error(group, refused.error.unwrap_or_default());
        Ok(RefusedPartition { partition, error })
    };
    wire.into_iter().map(one).collect()
}

/// A partition's refusal as a caller sees it.
pub(crate) fn partition_error(group: &Arc<str>, error: v1::Error) -> ClientError {
    of_group(group, ClientError::Refused { code: error.code(), message: error.message.into() })
}
