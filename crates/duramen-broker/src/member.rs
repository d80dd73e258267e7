//! A node that belongs to a running cluster: its replicas and what keeps them.

mod disk;
mod gauges;
mod join;
mod peers;
mod reconcile;
mod repair;
mod replace;
mod retention;
mod scrub;
mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use duramen_env::Env;
use duramen_env::planted::{Planted, is_planted};
use duramen_log::LogOptions;
use duramen_metadata::{Node, Topic};
use duramen_raft::{FailStop, GroupId, RaftHost};
use duramen_types::{MetadataIndex, NodeId, PartitionId, ReplicaId, TopicId, TopicPartition};
use tokio::sync::{Notify, watch};
use tonic::service::Routes;

use crate::broker::{Broker, NodeError, StartOptions};
use crate::error::BrokerError;
use crate::groups;
use crate::limits;
use crate::metadata::{MetadataCopy, MetadataWriter};
use crate::partition::PartitionHandle;
use crate::producer_ids::ProducerIds;

/// How the log of the metadata group behaves: small segments, since snapshots trim it.
pub(crate) fn metadata_log() -> LogOptions {
    LogOptions { segment_bytes: 16 << 20, ..LogOptions::default() }
}

/// How the log of a partition of a topic behaves.
pub(crate) fn partition_log(topic: &Topic) -> LogOptions {
    if topic.is_internal() {
        // Snapshots trim it, and nobody reads far behind its end.
        return LogOptions { tail_cache_bytes: 256 << 10, ..metadata_log() };
    }
    let config = topic.config();
    LogOptions {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        ..LogOptions::default()
    }
}

/// A node that belongs to a running cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) env: Env,
    pub(crate) host: Arc<RaftHost>,
    pub(crate) writer: MetadataWriter,
    pub(crate) options: StartOptions,
    pub(crate) producer_ids: ProducerIds,
    fail_stop: FailStop,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<PartitionHandle>>>,
    /// Replicas that take no part, and why.
    problems: RwLock<BTreeMap<(TopicPartition, ReplicaId), String>>,
    /// What the metadata said when files of replaced replicas were last looked for.
    swept: watch::Sender<MetadataIndex>,
    /// The copy of the metadata has everything that earlier lives of this node did.
    is_fresh: AtomicBool,
    registered: AtomicBool,
    /// Where learners of the metadata group are that are not registered yet: only who took them in
    /// was told.
    joining: Mutex<BTreeMap<ReplicaId, NodeId>>,
    /// A replica was found damaged while it was open.
    damage: Notify,
}

/// A partition as a call names it, found.
pub(crate) struct Found {
    pub(crate) topic: Arc<Topic>,
    pub(crate) id: TopicPartition,
}

impl Member {
    pub(crate) fn new(
        env: Env,
        host: Arc<RaftHost>,
        writer: MetadataWriter,
        options: StartOptions,
        fail_stop: FailStop,
    ) -> Arc<Self> {
        Arc::new(Self {
            env,
            host,
            producer_ids: ProducerIds::new(writer.clone()),
            writer,
            options,
            fail_stop,
            partitions: RwLock::new(BTreeMap::new()),
            problems: RwLock::new(BTreeMap::new()),
            swept: watch::Sender::new(MetadataIndex::ZERO),
            is_fresh: AtomicBool::new(false),
            registered: AtomicBool::new(false),
            joining: Mutex::new(BTreeMap::new()),
            damage: Notify::new(),
        })
    }

    pub(crate) fn metadata(&self) -> &MetadataCopy {
        &self.writer.copy
    }

    /// Whether the cluster's metadata names this node as it is.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    /// This node as the metadata is to name it.
    fn node(&self) -> Node {
        let local = self.host.local();
        Node {
            id: local.node,
            incarnation: local.incarnation,
            client_address: self.options.client_address.clone(),
            peer_address: self.options.peer_address.clone(),
            http_address: self.options.http_address.clone(),
            rack: self.options.rack.clone(),
            version: self.options.version.clone(),
        }
    }

    pub(crate) fn peer_routes(self: &Arc<Self>) -> Routes {
        let handler = peers::Handler::new(Arc::clone(self));
        self.host.peer_routes(Arc::new(handler))
    }

    /// Keeps the node a working member; returns only when it cannot go on.
    pub(crate) async fn keep(self: &Arc<Self>, broker: &Broker) -> Result<(), NodeError> {
        tokio::select! {
            biased;
            failed = join::run(self, broker) => failed,
            failed = self.metadata_stopped() => failed,
            () = reconcile::run(self) => Ok(()),
            () = replace::run(self) => Ok(()),
            () = retention::run(self) => Ok(()),
            () = scrub::run(self) => Ok(()),
            () = disk::run(self) => Ok(()),
            () = gauges::run(self) => Ok(()),
            () = voters::run(self) => Ok(()),
            () = groups::keep_metrics(self) => Ok(()),
        }
    }

    /// Waits until the replica of the metadata stops by itself; then the node cannot go on. If that
    /// is because its log is damaged, the next start is to begin without it.
    async fn metadata_stopped(&self) -> Result<(), NodeError> {
        let Some(group) = self.host.group(GroupId::Metadata) else {
            return std::future::pending().await;
        };
        let mut interval = tokio::time::interval(limits::STOPPED_INTERVAL);
        while !group.status().stopped {
            interval.tick().await;
        }
        let mut reason = "the replica of the metadata stopped".to_owned();
        if let Some(damage) = group.damage() {
            reason = format!("{reason}: {damage}");
            if let Err(error) = self.host.give_up_metadata().await {
                tracing::error!(%error, "could not put the damaged metadata aside");
            }
        }
        Err(NodeError::Failed(reason))
    }

    /// Stops all replicas, cleanly.
    pub(crate) async fn shutdown(&self) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.host.shutdown().await;
    }

    /// Finds the topic that a call names; an id that is not nil must be the topic's own.
    pub(crate) fn find_topic(&self, name: &str, id: TopicId) -> Result<Arc<Topic>, BrokerError> {
        let state = self.metadata().state();
        let topic =
            if name.is_empty() && !id.is_nil() { state.topic_by_id(id) } else { state.topic(name) };
        let topic =
            topic.ok_or_else(|| BrokerError::UnknownTopic { name: name.to_owned() })?.clone();
        if !id.is_nil() && topic.id != id {
            return Err(BrokerError::TopicReplaced { name: name.to_owned(), current: topic.id });
        }
        Ok(topic)
    }

    /// Finds the partition that a call names.
    pub(crate) fn find(
        &self,
        name: &str,
        id: TopicId,
        partition: PartitionId,
    ) -> Result<Found, BrokerError> {
        let topic = self.find_topic(name, id)?;
        if topic.partition(partition).is_none() {
            let (name, partitions) = (topic.name.clone(), topic.partitions.len());
            return Err(BrokerError::UnknownPartition { name, partition, partitions });
        }
        let id = TopicPartition { topic: topic.id, partition };
        Ok(Found { topic, id })
    }

    /// As [`Self::find`], for calls that read or write records: a topic of ours holds none.
    pub(crate) fn find_for_clients(
        &self,
        name: &str,
        id: TopicId,
        partition: PartitionId,
    ) -> Result<Found, BrokerError> {
        let found = self.find(name, id, partition)?;
        if found.topic.is_internal() {
            return Err(BrokerError::invalid("topic", "one that holds records"));
        }
        Ok(found)
    }

    /// The names of topics that exist.
    pub(crate) fn topic_names(
        &self,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> BTreeMap<TopicId, String> {
        let topics: BTreeSet<TopicId> = topics.into_iter().collect();
        let state = self.metadata().state();
        let named = |id: TopicId| Some((id, state.topic_by_id(id)?.name.clone()));
        topics.into_iter().filter_map(named).collect()
    }

    /// This node's replica of a partition, if it takes part.
    pub(crate) fn partition(&self, id: TopicPartition) -> Option<Arc<PartitionHandle>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn partitions(&self) -> Vec<(TopicPartition, Arc<PartitionHandle>)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(id, handle)| (*id, Arc::clone(handle))).collect()
    }

    /// What is wrong with this node's replica of a partition, and what can be done.
    pub(crate) fn problem(&self, id: TopicPartition) -> Option<String> {
        let reason = {
            let problems = self.problems.read().unwrap_or_else(PoisonError::into_inner);
            let first = (id, ReplicaId::ZERO);
            let last = (id, ReplicaId::new(u64::MAX));
            problems.range(first..=last).next().map(|(_, reason)| reason.clone())
        }?;
        let way_out = repair::way_out(&self.metadata().state(), id);
        Some(format!("{reason}; {way_out}"))
    }

    pub(crate) fn is_out(&self, id: TopicPartition, replica: ReplicaId) -> bool {
        let problems = self.problems.read().unwrap_or_else(PoisonError::into_inner);
        problems.contains_key(&(id, replica))
    }

    /// Notes that a replica is damaged: it takes no part from now on.
    pub(crate) fn take_out(&self, id: TopicPartition, replica: ReplicaId, problem: String) {
        if is_planted(Planted::VoteWhenDamaged) {
            return;
        }
        let mut problems = self.problems.write().unwrap_or_else(PoisonError::into_inner);
        if problems.insert((id, replica), problem.clone()).as_ref() != Some(&problem) {
            tracing::error!(partition = %id, %replica, problem, "a replica takes no part");
        }
        drop(problems);
        self.damage.notify_one();
    }

    pub(crate) fn problem_count(&self) -> usize {
        self.problems.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// This node's replica of a partition, if it leads and may serve; otherwise an error that says
    /// where to go.
    pub(crate) fn led(&self, found: &Found) -> Result<Arc<PartitionHandle>, BrokerError> {
        let Some(handle) = self.partition(found.id) else {
            // Said plainly, not as a redirect: if all replicas are damaged, somebody has to say so.
            if let Some(reason) = self.problem(found.id) {
                return Err(BrokerError::CorruptReplica { reason });
            }
            return Err(self.elsewhere(found).unwrap_or(BrokerError::NoLeader));
        };
        if handle.group.serving_term().is_some() {
            return Ok(handle);
        }
        let status = handle.group.status();
        let is_heard = handle.group.leader_silent_for() < limits::LEADER_SILENCE;
        let leader = status.leader.filter(|_| !status.is_leader && is_heard);
        let Some(leader) = leader else {
            // The one that is to take a damaged one's place waits for a majority in vain.
            return Err(match self.problem(found.id) {
                Some(reason) if !status.is_leader => BrokerError::CorruptReplica { reason },
                _ => BrokerError::NoLeader,
            });
        };
        let node = self.node_of_replica(found, leader).map(Box::new);
        Err(BrokerError::NotLeader { leader: node, leader_epoch: status.term })
    }

    fn node_of_replica(&self, found: &Found, replica: ReplicaId) -> Option<Node> {
        let partition = found.topic.partition(found.id.partition)?;
        let node = partition.member(replica)?.node;
        self.metadata().state().node(node).cloned()
    }

    /// Where to ask when this node has no replica: another one that should have.
    fn elsewhere(&self, found: &Found) -> Option<BrokerError> {
        let own = self.host.local().node;
        let partition = found.topic.partition(found.id.partition)?;
        let others = partition.members().filter(|replica| replica.node != own);
        let nodes: Vec<_> = others.map(|replica| replica.node).collect();
        let up = nodes.iter().find(|node| self.host.is_node_up(**node));
        let node = *up.or(nodes.first())?;
        let leader = self.metadata().state().node(node).cloned().map(Box::new);
        Some(BrokerError::NotLeader { leader, leader_epoch: duramen_types::Term::ZERO })
    }

    /// The leader of a partition as this node knows it.
    pub(crate) fn leader_of(&self, found: &Found) -> Option<(NodeId, duramen_types::Term)> {
        let handle = self.partition(found.id)?;
        let status = handle.group.status();
        let node = self.node_of_replica(found, status.leader?)?;
        Some((node.id, status.term))
    }

    /// The node that leads the metadata group, if known.
    pub(crate) fn controller(&self) -> Option<NodeId> {
        let leader = self.host.group(GroupId::Metadata)?.status().leader?;
        self.metadata().state().node_of_incarnation(leader).map(|node| node.id)
    }
}
