//! Consumer groups: each lives in a shard, whose leader coordinates it.
//!
//! The shards are the partitions of a topic of ours that holds no records: placement, moves and
//! replacement of their replicas are those of every partition. Their Raft groups have a state
//! machine, `duramen-group`'s; the topic is made when the first group is asked for.

mod bounds;
mod coordinator;
mod describe;
mod due;
mod metrics;
mod resolve;
mod session;
mod shard;

use std::sync::Arc;

use duramen_group::{
    Action, Committer, ExpiryCause, GroupName, MemberEpoch, MemberId, OffsetCommit, Outcome, Phase,
    Refusal,
};
use duramen_metadata::{
    GROUPS_TOPIC, Node, Outcome as Made, PlanError, REPLICATION_FACTOR_DEFAULT,
    Refusal as MetadataRefusal, plan_create_groups_topic,
};
use duramen_types::{PartitionId, Term, TopicId, TopicPartition};

pub(crate) use self::bounds::answer as answer_bounds;
pub(crate) use self::coordinator::ShardHandle;
pub use self::describe::{GroupDescription, GroupPartition, Lag, MemberDescription};
pub(crate) use self::metrics::run as keep_metrics;
pub use self::session::{Assignment, Beat, Done, Granted, GroupSession, JoinRequest, MemberAction};
pub(crate) use self::shard::{Shard, ShardCopy};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::member::Member;
use crate::topics::{refused, wait_formed};

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: GroupName,
    /// Where it is.
    pub phase: Phase,
    /// Its members.
    pub members: usize,
    /// Its committed offsets.
    pub offsets: usize,
}

/// The groups that a node coordinates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupList {
    /// The groups.
    pub groups: Vec<ListedGroup>,
    /// The shards that they are in, all that the node leads.
    pub shards: Vec<PartitionId>,
    /// How many shards there are; 0 before the first group.
    pub shard_count: usize,
}

/// The coordinator of a group, and the shard that it is in.
#[derive(Clone, Debug)]
pub struct Coordinator {
    /// The node.
    pub node: Node,
    /// The shard.
    pub shard: PartitionId,
}

/// A shard that this node coordinates.
struct Led {
    member: Arc<Member>,
    shard: Arc<Shard>,
    term: Term,
}

impl Broker {
    /// Says which node coordinates a group, whether there is such a group or not.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn find_coordinator(
        &self,
        caller: &Caller,
        group: &GroupName,
    ) -> Result<Coordinator, BrokerError> {
        let member = self.admit(caller, Operation::Describe, Resource::Group(group.as_str()))?;
        make_topic(member).await?;
        let shard = shard_of(member, group)?;
        match find(member, shard) {
            Ok(_) => {
                let own = member.metadata().state().node(member.host.local().node).cloned();
                own.map(|node| Coordinator { node, shard }).ok_or(BrokerError::NoLeader)
            }
            Err(BrokerError::NotLeader { leader: Some(node), .. }) => {
                Ok(Coordinator { node: *node, shard })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a member's stream.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn join_group(
        &self,
        caller: &Caller,
        request: JoinRequest,
    ) -> Result<GroupSession, BrokerError> {
        let led = self.group_led(caller, Operation::Join, &request.group).await?;
        if let Some(pattern) = &request.join.subscription.pattern {
            check_pattern(pattern)?;
        }
        GroupSession::open(&led.member, led.shard, request).await
    }

    /// The groups that this node coordinates.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn list_groups(&self, caller: &Caller) -> Result<GroupList, BrokerError> {
        let member = self.admit(caller, Operation::DescribeCluster, Resource::Cluster)?;
        let mut list = GroupList::default();
        if let Some(topic) = member.metadata().state().topic(GROUPS_TOPIC) {
            list.shard_count = topic.partitions.len();
        }
        for (_, handle) in member.partitions() {
            let Some(shard) = handle.shard().filter(|shard| shard.term().is_some()) else {
                continue;
            };
            list.shards.push(shard.id);
            let state = shard.state();
            list.groups.extend(state.groups().map(|(name, group)| ListedGroup {
                group: name.clone(),
                phase: group.phase(),
                members: group.members().count(),
                offsets: group.offsets().count(),
            }));
        }
        Ok(list)
    }

    /// A group with its lag, and why it makes no progress.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn describe_group(
        &self,
        caller: &Caller,
        group: &GroupName,
    ) -> Result<(GroupDescription, Option<Node>), BrokerError> {
        let led = self.group_led(caller, Operation::Describe, group).await?;
        let described = describe::describe(&led.member, &led.shard, group).await?;
        let own = led.member.metadata().state().node(led.member.host.local().node).cloned();
        Ok((described, own))
    }

    /// Commits offsets of a group without members; gives those refused.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn commit_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        offsets: Vec<OffsetCommit>,
        fence: Option<MemberEpoch>,
    ) -> Result<Vec<(TopicPartition, Refusal)>, BrokerError> {
        let action = Action::Commit { committer: Committer::Standalone { fence }, offsets };
        match self.act(caller, Operation::Commit, group, action).await? {
            Outcome::Committed { refused } => Ok(refused),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets offsets, also back; gives the fence then.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn reset_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        offsets: Vec<OffsetCommit>,
        fence: Option<MemberEpoch>,
    ) -> Result<MemberEpoch, BrokerError> {
        let action = Action::Reset { fence, offsets };
        match self.act(caller, Operation::Alter, group, action).await? {
            Outcome::Reset { fence } => Ok(fence),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes offsets that nobody uses; gives those refused.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Refusal)>, BrokerError> {
        let action = Action::DeleteOffsets { partitions };
        match self.act(caller, Operation::Delete, group, action).await? {
            Outcome::OffsetsDeleted { refused } => Ok(refused),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a group without members.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_group(
        &self,
        caller: &Caller,
        group: &GroupName,
    ) -> Result<(), BrokerError> {
        self.act(caller, Operation::Delete, group, Action::Delete).await.map(drop)
    }

    /// Removes a member as if its session had ended.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn remove_member(
        &self,
        caller: &Caller,
        group: &GroupName,
        member: MemberId,
    ) -> Result<(), BrokerError> {
        let led = self.group_led(caller, Operation::Alter, group).await?;
        let epoch = {
            let state = led.shard.state();
            let found = state.group(group).ok_or(BrokerError::Group(Refusal::UnknownGroup))?;
            found.member(&member).ok_or(BrokerError::Group(Refusal::UnknownMember))?.epoch
        };
        let action = Action::Expire { member, epoch, cause: ExpiryCause::Session };
        led.shard.propose(led.term, group, action).await.map(drop)
    }

    /// Names a partition of a topic as groups know it: a topic by name is what has the name now.
    ///
    /// # Errors
    /// [`BrokerError`] if there is no such partition.
    pub fn group_partition(
        &self,
        name: &str,
        id: TopicId,
        partition: PartitionId,
    ) -> Result<TopicPartition, BrokerError> {
        let member = self.member()?;
        if id.is_nil() {
            return Ok(member.find_for_clients(name, id, partition)?.id);
        }
        // It may be deleted, and its offsets still there.
        Ok(TopicPartition { topic: id, partition })
    }

    /// The names of topics that exist.
    #[must_use]
    pub fn topic_names(
        &self,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> std::collections::BTreeMap<TopicId, String> {
        self.member().map(|member| member.topic_names(topics)).unwrap_or_default()
    }

    async fn act(
        &self,
        caller: &Caller,
        operation: Operation,
        group: &GroupName,
        action: Action,
    ) -> Result<Outcome, BrokerError> {
        let led = self.group_led(caller, operation, group).await?;
        led.shard.propose(led.term, group, action).await
    }

    /// The shard of a group, if this node coordinates it.
    async fn group_led(
        &self,
        caller: &Caller,
        operation: Operation,
        group: &GroupName,
    ) -> Result<Led, BrokerError> {
        let member = self.admit(caller, operation, Resource::Group(group.as_str()))?;
        make_topic(member).await?;
        let shard = find(member, shard_of(member, group)?)?;
        let term = shard.term().ok_or(BrokerError::NoLeader)?;
        Ok(Led { member: Arc::clone(member), shard, term })
    }
}

/// Refuses a pattern that is none.
///
/// # Errors
/// [`BrokerError::InvalidRequest`].
pub(crate) fn check_pattern(pattern: &str) -> Result<(), BrokerError> {
    let invalid = |error| BrokerError::InvalidRequest { field: "pattern", rule: error };
    resolve::compile(pattern).map(drop).map_err(invalid)
}

fn unexpected(outcome: &Outcome) -> BrokerError {
    BrokerError::Storage { reason: format!("a group shard answered {outcome:?}") }
}

/// The shard that a group's name falls into.
fn shard_of(member: &Member, group: &GroupName) -> Result<PartitionId, BrokerError> {
    let state = member.metadata().state();
    let topic = state.topic(GROUPS_TOPIC).ok_or(BrokerError::NoLeader)?;
    let shards = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let hash = crc32fast::hash(group.as_str().as_bytes());
    Ok(PartitionId::new(hash.checked_rem(shards).unwrap_or(0)))
}

/// The shard, if this node coordinates it; otherwise an error that says where to go.
fn find(member: &Member, shard: PartitionId) -> Result<Arc<Shard>, BrokerError> {
    let found = member.find(GROUPS_TOPIC, TopicId::NIL, shard)?;
    let handle = member.led(&found)?;
    let shard = handle.shard().filter(|shard| shard.term().is_some());
    shard.map(Arc::clone).ok_or(BrokerError::NoLeader)
}

/// Makes the topic of the shards, if there is none.
async fn make_topic(member: &Member) -> Result<(), BrokerError> {
    if member.metadata().state().topic(GROUPS_TOPIC).is_some() {
        return Ok(());
    }
    let command = {
        let state = member.metadata().state();
        let replicas = usize::try_from(REPLICATION_FACTOR_DEFAULT).unwrap_or(usize::MAX);
        let wanted = member.writer.founders.len().min(replicas);
        if state.nodes().count() < wanted {
            let reason = format!("groups wait until {wanted} nodes are there");
            return Err(BrokerError::MetadataUnavailable { reason });
        }
        let down = state.nodes().filter(|node| !member.host.is_node_up(node.id));
        let avoid = down.map(|node| node.id).collect();
        let (now, shards) = (member.env.clock.now(), member.options.group_shards);
        let mut draw = || member.env.random.next_u64();
        match plan_create_groups_topic(&state, shards, avoid, now, &mut draw) {
            Err(PlanError::TopicExists { .. }) => return Ok(()),
            planned => planned?,
        }
    };
    let (index, outcome) = member.writer.propose(&command).await?;
    match outcome {
        Made::TopicCreated { topic } => {
            tracing::info!("the shards of consumer groups are made");
            wait_formed(member, topic, index).await;
            Ok(())
        }
        // Another node was faster.
        Made::Refused(MetadataRefusal::TopicExists { .. }) => Ok(()),
        outcome => Err(refused(outcome)),
    }
}
