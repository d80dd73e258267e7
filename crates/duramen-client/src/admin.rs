//! Topics and the cluster: create, alter, delete, list, describe.

pub(crate) mod groups;

use std::collections::BTreeMap;
use std::sync::Arc;

use duramen_proto::v1::{self, ErrorCode, ReplacementState};
use duramen_types::{ClusterId, NodeId, Offset, PartitionId, Term, TopicId};

use crate::cluster::Cluster;
use crate::retry::Attempts;
use crate::{ClientError, PartitionOffsets, Start};

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: u32,
    replication_factor: u32,
    config: BTreeMap<String, String>,
    validate_only: bool,
}

impl NewTopic {
    /// A topic of this name: one partition, on three nodes or as many as there are.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// How many partitions.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions, ..self }
    }

    /// How many replicas each partition has.
    #[must_use]
    pub fn replication_factor(self, replication_factor: u32) -> Self {
        Self { replication_factor, ..self }
    }

    /// Sets a configuration key.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Check everything, create nothing.
    #[must_use]
    pub fn validate_only(self) -> Self {
        Self { validate_only: true, ..self }
    }
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The name.
    pub name: String,
    /// The id; another topic of the same name later has another one.
    pub id: TopicId,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// The partitions, in order.
    pub partitions: Vec<PartitionDescription>,
    /// All keys, with the values in force.
    pub config: Vec<ConfigEntry>,
}

/// A partition as one node describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The partition.
    pub id: PartitionId,
    /// Its leader, if known.
    pub leader: Option<NodeId>,
    /// The leader's epoch.
    pub leader_epoch: Term,
    /// The nodes that hold it.
    pub replicas: Vec<NodeId>,
    /// Replicas that are known to be caught up; empty unless the leader answered.
    pub in_sync: Vec<NodeId>,
    /// The first record kept, if the answering node holds the partition.
    pub log_start_offset: Option<Offset>,
    /// One past the last record that can be read, if the answering node holds the partition.
    pub high_watermark: Option<Offset>,
    /// The replacement of one of its replicas, if there is one.
    pub replacement: Option<ReplacementDescription>,
    /// What is wrong with the answering node's replica, if it takes no part.
    pub problem: Option<String>,
}

/// A replica that is to take another one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacementDescription {
    /// The node of the replica that goes.
    pub from: NodeId,
    /// The node of the one that comes; the same one where a lost or damaged replica is replaced.
    pub to: NodeId,
    /// How far it is.
    pub state: ReplacementState,
    /// Log entries that the new one lacks, if the leader answered and knows.
    pub lag_entries: Option<u64>,
}

/// A move of a replica between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaMove {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The node that has the replica.
    pub from: NodeId,
    /// The node that is to have it; it must have none of the partition.
    pub to: NodeId,
}

/// One configuration key of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// Whether it was set for this topic; otherwise it is the default.
    pub explicit: bool,
    /// What it does.
    pub documentation: String,
}

/// The cluster as one node describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The id, given when the cluster was formed.
    pub id: ClusterId,
    /// The nodes.
    pub nodes: Vec<NodeDescription>,
    /// The node that answered.
    pub this_node: NodeId,
    /// The leader of the metadata group, if known.
    pub controller: Option<NodeId>,
    /// Number of topics.
    pub topics: u32,
    /// Number of partitions.
    pub partitions: u32,
    /// Partitions on the answering node that have no leader now.
    pub leaderless_partitions: u32,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// The node.
    pub id: NodeId,
    /// `host:port` for clients.
    pub address: String,
    /// `host:port` of metrics and health; empty if off.
    pub http_address: String,
    /// `host:port` for other nodes.
    pub peer_address: String,
    /// The rack or zone.
    pub rack: String,
    /// The version it runs.
    pub version: String,
    /// Whether it votes in the metadata group.
    pub metadata_voter: bool,
    /// Whether the answering node has heard from it lately.
    pub alive: bool,
    /// Partitions it leads.
    pub leaders: u32,
    /// Partitions it holds.
    pub replicas: u32,
}

/// Calls on topics and the cluster. Every call may go to any node; what a call changed is seen by
/// all later calls of the same [`Client`](crate::Client), whichever node they meet.
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::NewTopic;
///
/// let admin = client.admin();
/// let topic = NewTopic::new("orders").partitions(6).config("retention.ms", "86400000");
/// println!("created {}", admin.create_topic(topic).await?.id);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

impl Admin {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Creates a topic.
    ///
    /// If an attempt's outcome was not known and the next one finds a topic of the name with the
    /// same number of partitions, that topic counts as the one created.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `TOPIC_EXISTS`, `INVALID_TOPIC_NAME`, `INVALID_CONFIG` or
    /// `NOT_ENOUGH_NODES`; [`ClientError::Timeout`].
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicDescription, ClientError> {
        let request = v1::CreateTopicRequest {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            config: topic.config.into_iter().collect(),
            validate_only: topic.validate_only,
        };
        let mut attempts = Attempts::new("create the topic", self.cluster.options.request_timeout);
        let result = self
            .cluster
            .call_any_counted(&mut attempts, |node| {
                let request = request.clone();
                async move { node.admin().create_topic(request).await }
            })
            .await;
        match result {
            Err(error) if error.code() == Some(ErrorCode::TopicExists) && attempts.maybe_done() => {
                let found = self.describe_topic(&topic.name).await?;
                let same = found.partitions.len() as u64 == u64::from(topic.partitions.max(1));
                if same { Ok(found) } else { Err(error) }
            }
            result => self.topic_reply(result?),
        }
    }

    /// Changes a topic's configuration: sets some keys, and takes others back to their default.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; [`ClientError::Refused`] with `INVALID_CONFIG`.
    pub async fn alter_topic(
        &self,
        name: &str,
        set: BTreeMap<String, String>,
        unset: Vec<String>,
    ) -> Result<TopicDescription, ClientError> {
        let request = v1::AlterTopicRequest {
            name: name.to_owned(),
            set: set.into_iter().collect(),
            unset,
            validate_only: false,
        };
        let result = self
            .cluster
            .call_any("alter the topic", |node| {
                let request = request.clone();
                async move { node.admin().alter_topic(request).await }
            })
            .await;
        self.topic_reply(result.map_err(|error| named(name, error))?)
    }

    /// Deletes the topic that has the name now, and no other that may get the name meanwhile.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; [`ClientError::TopicRecreated`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let pinned = self.cluster.pin_topic(name).await?;
        let request = v1::DeleteTopicRequest { name: name.to_owned(), id: pinned.id_bytes() };
        let mut attempts = Attempts::new("delete the topic", self.cluster.options.request_timeout);
        let result = self
            .cluster
            .call_any_counted(&mut attempts, |node| {
                let request = request.clone();
                async move { node.admin().delete_topic(request).await }
            })
            .await;
        match result {
            Ok(answer) => {
                self.cluster.saw_metadata_index(answer.metadata_index);
                Ok(())
            }
            // An earlier attempt has done it.
            Err(error)
                if attempts.maybe_done()
                    && matches!(
                        error.code(),
                        Some(ErrorCode::UnknownTopic | ErrorCode::UnknownTopicId)
                    ) =>
            {
                Ok(())
            }
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicId) => {
                Err(pinned.recreated(&[]))
            }
            Err(error) => Err(named(name, error)),
        }
    }

    /// Begins to move a replica to another node. The move goes on by itself, whoever fails
    /// meanwhile: [`Admin::describe_topic`] says how far it is. Begun already is fine.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; [`ClientError::Refused`] with `INVALID_REQUEST` if the one
    /// node has no replica, the other has one, or another replica is being replaced.
    pub async fn move_replica(&self, to: &ReplicaMove) -> Result<TopicDescription, ClientError> {
        self.start_move(to, false).await
    }

    /// Gives a move up: the new replica goes. Refused once the new replica may vote.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`]; [`ClientError::Refused`] with `INVALID_REQUEST`.
    pub async fn cancel_move(&self, to: &ReplicaMove) -> Result<TopicDescription, ClientError> {
        self.start_move(to, true).await
    }

    async fn start_move(
        &self,
        replica: &ReplicaMove,
        cancel: bool,
    ) -> Result<TopicDescription, ClientError> {
        let request = v1::MoveReplicaRequest {
            topic: replica.topic.clone(),
            partition: replica.partition.get(),
            from: replica.from.get(),
            to: replica.to.get(),
            cancel,
            metadata_index: self.cluster.metadata_index(),
        };
        let mut attempts = Attempts::new("move the replica", self.cluster.options.request_timeout);
        let result = self
            .cluster
            .call_any_counted(&mut attempts, |node| {
                let request = request.clone();
                async move { node.admin().move_replica(request).await }
            })
            .await;
        match result {
            // An earlier attempt has done it: there is nothing left to do or to give up.
            Err(error)
                if error.code() == Some(ErrorCode::InvalidRequest) && attempts.maybe_done() =>
            {
                let found = self.describe_topic(&replica.topic).await?;
                let partition = found.partitions.iter().find(|p| p.id == replica.partition);
                let is_done = partition.is_some_and(|partition| {
                    let holder = if cancel { replica.from } else { replica.to };
                    partition.replacement.is_none() && partition.replicas.contains(&holder)
                });
                if is_done { Ok(found) } else { Err(error) }
            }
            result => self.topic_reply(result.map_err(|error| named(&replica.topic, error))?),
        }
    }

    /// All topics, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, ClientError> {
        let cluster = &self.cluster;
        let answer = cluster
            .call_any("list topics", |node| async move {
                let metadata_index = cluster.metadata_index();
                node.admin().list_topics(v1::ListTopicsRequest { metadata_index }).await
            })
            .await?;
        cluster.saw_metadata_index(answer.metadata_index);
        let mut topics =
            answer.topics.into_iter().map(describe).collect::<Result<Vec<_>, ClientError>>()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`].
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        describe(self.cluster.describe_topic(&Arc::from(name)).await?)
    }

    /// The cluster.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let answer = self.cluster.describe_cluster().await?;
        Ok(ClusterDescription {
            id: Cluster::cluster_id(&answer),
            nodes: answer.nodes.into_iter().map(describe_node).collect(),
            this_node: NodeId::new(answer.this_node),
            controller: some_node(answer.controller),
            topics: answer.topics,
            partitions: answer.partitions,
            leaderless_partitions: answer.leaderless_partitions,
        })
    }

    /// Where positions of a topic's partitions are, as their leaders say. No positions = all
    /// partitions at their end.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`].
    pub async fn list_offsets(
        &self,
        topic: &str,
        positions: &BTreeMap<PartitionId, Start>,
    ) -> Result<BTreeMap<PartitionId, PartitionOffsets>, ClientError> {
        let topic = self.cluster.pin_topic(topic).await?;
        if !positions.is_empty() {
            return self.cluster.list_offsets(&topic, positions).await;
        }
        let ends = (0..topic.partitions).map(|id| (PartitionId::new(id), Start::Last(0)));
        self.cluster.list_offsets(&topic, &ends.collect()).await
    }

    fn topic_reply(&self, reply: v1::TopicReply) -> Result<TopicDescription, ClientError> {
        self.cluster.saw_metadata_index(reply.metadata_index);
        describe(reply.topic.ok_or(ClientError::Protocol { what: "no topic" })?)
    }
}

/// The error with the topic's name in it.
fn named(name: &str, error: ClientError) -> ClientError {
    match error.code() {
        Some(ErrorCode::UnknownTopic) => ClientError::UnknownTopic { topic: name.into() },
        _ => error,
    }
}

fn some_node(id: u64) -> Option<NodeId> {
    Some(NodeId::new(id)).filter(|id| *id != NodeId::ZERO)
}

/// The id of a topic; none for one that was only validated.
fn topic_id(id: &[u8]) -> Result<TopicId, ClientError> {
    if id.is_empty() {
        return Ok(TopicId::NIL);
    }
    TopicId::from_slice(id).ok_or(ClientError::Protocol { what: "topic id is not 16 bytes" })
}

pub(crate) fn describe(topic: v1::Topic) -> Result<TopicDescription, ClientError> {
    let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId::new).collect();
    let partitions = topic.partitions.into_iter().map(|partition| PartitionDescription {
        id: PartitionId::new(partition.id),
        leader: some_node(partition.leader),
        leader_epoch: Term::new(partition.leader_epoch),
        replicas: nodes(partition.replicas),
        in_sync: nodes(partition.in_sync),
        log_start_offset: partition.log_start_offset.map(Offset::new),
        high_watermark: partition.high_watermark.map(Offset::new),
        replacement: partition.replacement.map(ReplacementDescription::from),
        problem: Some(partition.problem).filter(|problem| !problem.is_empty()),
    });
    let config = topic.config.into_iter().map(|entry| ConfigEntry {
        name: entry.name,
        value: entry.value,
        explicit: entry.explicit,
        documentation: entry.documentation,
    });
    Ok(TopicDescription {
        id: topic_id(&topic.id)?,
        name: topic.name,
        replication_factor: topic.replication_factor,
        partitions: partitions.collect(),
        config: config.collect(),
    })
}

impl From<v1::Replacement> for ReplacementDescription {
    fn from(told: v1::Replacement) -> Self {
        Self {
            from: NodeId::new(told.from),
            to: NodeId::new(told.to),
            state: told.state(),
            lag_entries: told.lag_entries,
        }
    }
}

pub(crate) fn describe_node(node: v1::ClusterNode) -> NodeDescription {
    let reach = node.node.unwrap_or_default();
    NodeDescription {
        id: NodeId::new(reach.id),
        address: reach.address,
        http_address: reach.http_address,
        peer_address: node.peer_address,
        rack: reach.rack,
        version: node.version,
        metadata_voter: node.metadata_voter,
        alive: node.alive,
        leaders: node.leaders,
        replicas: node.replicas,
    }
}

#[cfg(test)]
mod tests;
