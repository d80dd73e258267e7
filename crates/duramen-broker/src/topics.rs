//! Topics: create, alter, delete, list, describe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duramen_metadata::{
    Command, ConfigKey, Outcome, Topic, TopicRequest, plan_alter_topic, plan_create_topic,
    plan_delete_topic,
};
use duramen_types::{MetadataIndex, NodeId, Offset, PartitionId, ProducerId, Term, TopicId};
use duramen_types::{ReplicaId, TopicPartition};

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits;
use crate::member::{Found, Member};
use crate::moves::ReplacementDescription;

/// A topic as it stands.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// Its partitions, from 0 on.
    pub partitions: Vec<PartitionDescription>,
    /// All known keys.
    pub config: Vec<ConfigValue>,
}

/// A partition as this node sees it.
#[derive(Clone, Debug)]
pub struct PartitionDescription {
    /// Its number.
    pub id: PartitionId,
    /// Who leads it, and in which term, if known here.
    pub leader: Option<(NodeId, Term)>,
    /// Nodes that have a replica.
    pub replicas: Vec<NodeId>,
    /// Replicas that are caught up; known on the leader only.
    pub in_sync: Vec<NodeId>,
    /// First offset kept and high watermark of this node's replica, if it has one.
    pub offsets: Option<(Offset, Offset)>,
    /// The replacement of one of its replicas, if there is one.
    pub replacement: Option<ReplacementDescription>,
    /// What is wrong with this node's replica, if it takes no part.
    pub problem: Option<String>,
}

/// One configuration key of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigValue {
    /// The key.
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// Whether it was set for this topic.
    pub explicit: bool,
    /// What it does.
    pub documentation: &'static str,
}

/// Entries that a follower may be behind and count as caught up.
const IN_SYNC_LAG_MAX: u64 = 16;

/// How long a follower may be silent and count as caught up: a few heartbeats.
const IN_SYNC_SILENCE_MAX: Duration = Duration::from_secs(1);

impl Broker {
    /// Creates a topic and waits, for a while, until its partitions are formed.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn create_topic(
        &self,
        caller: &Caller,
        mut request: TopicRequest,
        validate_only: bool,
    ) -> Result<(TopicDescription, MetadataIndex), BrokerError> {
        let name = request.name.clone();
        let member = self.admit(caller, Operation::Create, Resource::Topic(&name))?;
        let command = {
            let state = member.metadata().state();
            let down = state.nodes().filter(|node| !member.host.is_node_up(node.id));
            request.avoid = down.map(|node| node.id).collect();
            let now = member.env.clock.now();
            plan_create_topic(&state, &request, now, &mut || member.env.random.next_u64())?
        };
        if validate_only {
            let Command::CreateTopic(new) = command else { return Err(unexpected(&command)) };
            let topic = Arc::new(Topic::from(new));
            return Ok((describe(member, &topic), member.metadata().applied()));
        }
        let (index, outcome) = member.writer.propose(&command).await?;
        let Outcome::TopicCreated { topic } = outcome else { return Err(refused(outcome)) };
        let index = wait_formed(member, topic, index).await;
        let topic = member.find_topic(&name, topic)?;
        Ok((describe(member, &topic), index))
    }

    /// Changes a topic's configuration.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn alter_topic(
        &self,
        caller: &Caller,
        name: &str,
        set: &BTreeMap<String, String>,
        unset: &[String],
        validate_only: bool,
    ) -> Result<(TopicDescription, MetadataIndex), BrokerError> {
        let member = self.admit(caller, Operation::Alter, Resource::Topic(name))?;
        let command = plan_alter_topic(&member.metadata().state(), name, set, unset)?;
        let mut index = member.metadata().applied();
        if !validate_only {
            let (at, outcome) = member.writer.propose(&command).await?;
            let Outcome::TopicAltered { .. } = outcome else { return Err(refused(outcome)) };
            index = at;
        }
        let topic = member.find_topic(name, TopicId::NIL)?;
        Ok((describe(member, &topic), index))
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete_topic(
        &self,
        caller: &Caller,
        name: &str,
        id: TopicId,
    ) -> Result<MetadataIndex, BrokerError> {
        let member = self.admit(caller, Operation::Delete, Resource::Topic(name))?;
        let command = plan_delete_topic(&member.metadata().state(), name, id)?;
        let (index, outcome) = member.writer.propose(&command).await?;
        match outcome {
            Outcome::TopicDeleted { .. } => Ok(index),
            outcome => Err(refused(outcome)),
        }
    }

    /// All topics, by id.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn list_topics(
        &self,
        caller: &Caller,
        index: MetadataIndex,
    ) -> Result<(Vec<TopicDescription>, MetadataIndex), BrokerError> {
        let operation = Operation::DescribeCluster;
        let member = self.admit_at(caller, operation, Resource::Cluster, index).await?;
        let topics: Vec<_> = member.metadata().state().topics().cloned().collect();
        let described = topics.iter().map(|topic| describe(member, topic)).collect();
        Ok((described, member.metadata().applied()))
    }

    /// One topic.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn describe_topic(
        &self,
        caller: &Caller,
        name: &str,
        index: MetadataIndex,
    ) -> Result<(TopicDescription, MetadataIndex), BrokerError> {
        let resource = Resource::Topic(name);
        let member = self.admit_at(caller, Operation::Describe, resource, index).await?;
        let topic = member.find_topic(name, TopicId::NIL)?;
        Ok((describe(member, &topic), member.metadata().applied()))
    }

    /// Draws a producer id that no producer ever had.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn init_producer(&self, caller: &Caller) -> Result<ProducerId, BrokerError> {
        let member = self.admit(caller, Operation::DescribeCluster, Resource::Cluster)?;
        member.producer_ids.next().await
    }
}

pub(crate) fn refused(outcome: Outcome) -> BrokerError {
    match outcome {
        Outcome::Refused(refusal) => refusal.into(),
        other => BrokerError::MetadataUnavailable { reason: format!("answered {other:?}") },
    }
}

fn unexpected(command: &Command) -> BrokerError {
    BrokerError::MetadataUnavailable { reason: format!("planned {command:?}") }
}

/// Waits until all partitions of a topic are formed, or a while has passed; they will be.
pub(crate) async fn wait_formed(
    member: &Member,
    topic: TopicId,
    created: MetadataIndex,
) -> MetadataIndex {
    let formed = || {
        let state = member.metadata().state();
        state.topic_by_id(topic).is_none_or(|topic| topic.partitions.iter().all(|p| p.formed))
    };
    let mut changes = member.metadata().changes();
    let waited = changes.wait_for(|_| formed());
    match tokio::time::timeout(limits::FORM_WAIT, waited).await {
        Ok(Ok(index)) => *index,
        Ok(Err(_)) | Err(_) => created,
    }
}

pub(crate) fn describe(member: &Member, topic: &Arc<Topic>) -> TopicDescription {
    let partitions = topic.partitions().map(|(id, partition)| {
        let found = Found {
            topic: Arc::clone(topic),
            id: TopicPartition { topic: topic.id, partition: id },
        };
        PartitionDescription {
            id,
            leader: member.leader_of(&found),
            replicas: partition.replicas.iter().map(|replica| replica.node).collect(),
            in_sync: in_sync(member, &found),
            offsets: member.partition(found.id).map(|handle| {
                let progress = *handle.group.progress().borrow();
                (progress.log_start_offset, progress.high_watermark)
            }),
            replacement: ReplacementDescription::of(member, &found),
            problem: member.problem(found.id),
        }
    });
    let config = ConfigKey::ALL.iter().map(|key| ConfigValue {
        name: key.name(),
        value: key.value_in(&topic.settings),
        explicit: topic.settings.contains_key(key.name()),
        documentation: key.documentation(),
    });
    TopicDescription {
        name: topic.name.clone(),
        id: topic.id,
        replication_factor: topic.replication_factor,
        partitions: partitions.collect(),
        config: config.collect(),
    }
}

/// Nodes whose replicas are caught up, if this node leads.
fn in_sync(member: &Member, found: &Found) -> Vec<NodeId> {
    let Some(handle) = member.partition(found.id) else { return Vec::new() };
    if handle.group.serving_term().is_none() {
        return Vec::new();
    }
    let own = handle.group.replica();
    let replication = handle.group.replication().unwrap_or_default();
    let caught_up: Vec<ReplicaId> = replication
        .iter()
        .filter(|(_, lag)| {
            let answers = lag.silent_for.is_some_and(|silent| silent <= IN_SYNC_SILENCE_MAX);
            answers && lag.entries <= IN_SYNC_LAG_MAX
        })
        .map(|(id, _)| *id)
        .collect();
    let partition = found.topic.partition(found.id.partition);
    let replicas = partition.into_iter().flat_map(|partition| &partition.replicas);
    let in_sync = replicas.filter(|held| held.id == own || caught_up.contains(&held.id));
    in_sync.map(|held| held.node).collect()
}
