//! Calls on the cluster: which node to ask, and asking again.

mod coordinator;
mod node;
mod produce_stream;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use duramen_env::{Env, Random};
use duramen_proto::v1::{self, ErrorCode};
use duramen_types::{ClusterId, Offset, PartitionId, ProducerEpoch, ProducerId, Term, TopicId};
use tonic::Status;

use crate::ClientError;
use crate::failure::Failure;
use crate::limits;
use crate::metadata::Metadata;
use crate::options::{ClientOptions, PartitionOffsets, Start};
use crate::retry::Attempts;

pub(crate) use coordinator::of_group;
pub(crate) use node::Node;
pub(crate) use produce_stream::{Answer, ProduceStream};

/// A topic as a producer or consumer found it: it stands by this id.
#[derive(Clone, Debug)]
pub(crate) struct PinnedTopic {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

impl PinnedTopic {
    /// The id as requests carry it.
    pub(crate) fn id_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    /// The error for a topic that is not this one any more.
    pub(crate) fn recreated(&self, current: &[u8]) -> ClientError {
        ClientError::TopicRecreated {
            topic: Arc::clone(&self.name),
            expected: self.id,
            current: TopicId::from_slice(current),
        }
    }

    /// A failure as the topic's user sees it.
    pub(crate) fn error(&self, partition: PartitionId, failure: Failure) -> ClientError {
        let Failure::Refused(error) = failure else { return failure.into_error() };
        let topic = Arc::clone(&self.name);
        match error.code() {
            ErrorCode::UnknownTopic => ClientError::UnknownTopic { topic },
            ErrorCode::UnknownPartition => ClientError::UnknownPartition { topic, partition },
            ErrorCode::UnknownTopicId => self.recreated(&error.current_topic_id),
            _ => Failure::Refused(error).into_error(),
        }
    }
}

/// What all parts of one client share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) options: ClientOptions,
    metadata: Mutex<Metadata>,
    /// The newest metadata that an answer spoke of; later calls ask for at least that.
    metadata_index: AtomicU64,
    nodes: Mutex<BTreeMap<Arc<str>, Arc<Node>>>,
    streams: Mutex<BTreeMap<Arc<str>, Arc<ProduceStream>>>,
    /// Where the coordinators of groups were last.
    coordinators: Mutex<coordinator::Coordinators>,
    /// Which of the addresses calls to any node go to; moves on after a failure.
    preferred: AtomicUsize,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    pub(crate) fn new(env: Env, options: ClientOptions) -> Self {
        // Clients begin with different nodes.
        let begin = usize::try_from(env.random.below(1 << 16)).unwrap_or(0);
        Self {
            env,
            options,
            metadata: Mutex::default(),
            metadata_index: AtomicU64::new(0),
            nodes: Mutex::default(),
            streams: Mutex::default(),
            coordinators: Mutex::default(),
            preferred: AtomicUsize::new(begin),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.env.random
    }

    /// The newest metadata index that an answer spoke of.
    pub(crate) fn metadata_index(&self) -> u64 {
        self.metadata_index.load(Ordering::Acquire)
    }

    pub(crate) fn saw_metadata_index(&self, index: u64) {
        self.metadata_index.fetch_max(index, Ordering::AcqRel);
    }

    /// The connections to an address.
    pub(crate) fn node(&self, address: &Arc<str>) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(address) {
            return Arc::clone(node);
        }
        let node = Arc::new(Node::new(&self.env, address, &self.options.client_id));
        nodes.insert(Arc::clone(address), Arc::clone(&node));
        node
    }

    /// The produce stream to an address; a new one if the last has ended.
    pub(crate) fn produce_stream(&self, address: &Arc<str>) -> Arc<ProduceStream> {
        let node = self.node(address);
        let mut streams = lock(&self.streams);
        if let Some(stream) = streams.get(address).filter(|stream| !stream.has_ended()) {
            return Arc::clone(stream);
        }
        let stream = Arc::new(ProduceStream::open(&self.env, node));
        streams.insert(Arc::clone(address), Arc::clone(&stream));
        stream
    }

    /// Some node that may be alive: the seeds and all nodes that they told of, in turn.
    fn any_address(&self) -> Arc<str> {
        let metadata = lock(&self.metadata);
        let mut addresses: Vec<Arc<str>> = metadata.addresses().map(Arc::clone).collect();
        drop(metadata);
        for seed in &self.options.seeds {
            if !addresses.iter().any(|address| **address == **seed) {
                addresses.push(Arc::from(seed.as_str()));
            }
        }
        let turn = self.preferred.load(Ordering::Relaxed);
        let turn = turn.checked_rem(addresses.len()).unwrap_or(0);
        addresses.get(turn).map_or_else(|| Arc::from(""), Arc::clone)
    }

    /// Calls any node, again and elsewhere while that may help.
    pub(crate) async fn call_any<T, F, C>(
        &self,
        what: &'static str,
        call: C,
    ) -> Result<T, ClientError>
    where
        C: Fn(Arc<Node>) -> F,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut attempts = Attempts::new(what, self.options.request_timeout);
        self.call_any_counted(&mut attempts, call).await
    }

    /// As [`call_any`](Self::call_any), for callers that want to know of earlier attempts.
    pub(crate) async fn call_any_counted<T, F, C>(
        &self,
        attempts: &mut Attempts,
        call: C,
    ) -> Result<T, ClientError>
    where
        C: Fn(Arc<Node>) -> F,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        loop {
            let node = self.node(&self.any_address());
            match attempt(attempts, &node, call(Arc::clone(&node))).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if !failure.is_about_load() {
                        self.preferred.fetch_add(1, Ordering::Relaxed);
                    }
                    attempts.again(failure, self.random()).await?;
                }
            }
        }
    }

    /// Describes the cluster and remembers its nodes.
    pub(crate) async fn describe_cluster(
        &self,
    ) -> Result<v1::DescribeClusterResponse, ClientError> {
        let mut attempts = self.describing("describe the cluster");
        let answer = self
            .call_any_counted(&mut attempts, |node| async move {
                let metadata_index = self.metadata_index();
                node.admin().describe_cluster(v1::DescribeClusterRequest { metadata_index }).await
            })
            .await?;
        self.saw_metadata_index(answer.metadata_index);
        lock(&self.metadata).apply_cluster(&answer);
        Ok(answer)
    }

    /// Describes a topic and remembers its partitions.
    pub(crate) async fn describe_topic(&self, name: &Arc<str>) -> Result<v1::Topic, ClientError> {
        let mut attempts = self.describing("describe the topic");
        let answer = self
            .call_any_counted(&mut attempts, |node| async move {
                let request = v1::DescribeTopicRequest {
                    name: name.to_string(),
                    metadata_index: self.metadata_index(),
                };
                node.admin().describe_topic(request).await
            })
            .await
            .map_err(|error| self.unknown_topic(name, error))?;
        self.saw_metadata_index(answer.metadata_index);
        let topic = answer.topic.ok_or(ClientError::Protocol { what: "no topic" })?;
        lock(&self.metadata)
            .apply_topic(&topic)
            .ok_or(ClientError::Protocol { what: "topic id is not 16 bytes" })?;
        Ok(topic)
    }

    fn describing(&self, what: &'static str) -> Attempts {
        Attempts::new(what, self.options.request_timeout).each(limits::DESCRIBE_ATTEMPT)
    }

    fn unknown_topic(&self, name: &Arc<str>, error: ClientError) -> ClientError {
        if error.code() == Some(ErrorCode::UnknownTopic) {
            lock(&self.metadata).forget_topic(name);
            return ClientError::UnknownTopic { topic: Arc::clone(name) };
        }
        error
    }

    /// Looks a topic up; from then on its id is part of every request.
    pub(crate) async fn pin_topic(&self, name: &str) -> Result<PinnedTopic, ClientError> {
        let name = Arc::from(name);
        self.describe_topic(&name).await?;
        let known = lock(&self.metadata).topic(&name);
        let (id, partitions) = known
            .filter(|(_, partitions)| *partitions > 0)
            .ok_or(ClientError::Protocol { what: "topic without partitions" })?;
        Ok(PinnedTopic { name, id, partitions })
    }

    /// Learns anew who leads a topic's partitions, unless somebody else just did.
    ///
    /// # Errors
    /// Also if the topic is no longer the one pinned.
    pub(crate) async fn refresh(&self, topic: &PinnedTopic) -> Result<(), ClientError> {
        let before = lock(&self.metadata).version(&topic.name);
        let _turn = self.refreshing.lock().await;
        if lock(&self.metadata).version(&topic.name) == before {
            self.describe_cluster().await?;
            self.describe_topic(&topic.name).await?;
        }
        match lock(&self.metadata).topic(&topic.name) {
            Some((id, _)) if id != topic.id => Err(topic.recreated(id.as_bytes())),
            _ => Ok(()),
        }
    }

    /// Asks other nodes than the silent one whether it still leads a partition; whether another
    /// node does.
    pub(crate) async fn is_led_elsewhere(
        &self,
        topic: &PinnedTopic,
        partition: PartitionId,
        silent: &Arc<str>,
    ) -> Result<bool, ClientError> {
        if self.any_address() == *silent {
            self.preferred.fetch_add(1, Ordering::Relaxed);
        }
        self.refresh(topic).await?;
        Ok(self.route(topic, partition, 0) != *silent)
    }

    /// The address to try for a partition after so many failures in a row.
    pub(crate) fn route(
        &self,
        topic: &PinnedTopic,
        partition: PartitionId,
        failures: u32,
    ) -> Arc<str> {
        let known = lock(&self.metadata).route(&topic.name, partition, failures);
        known.unwrap_or_else(|| self.any_address())
    }

    /// Follows the redirect in a failure; whether there was one that is news.
    pub(crate) fn follow_redirect(
        &self,
        topic: &PinnedTopic,
        partition: PartitionId,
        failure: &Failure,
    ) -> bool {
        let Failure::Refused(error) = failure else { return false };
        let Some(leader) = error.leader.as_ref() else { return false };
        error.code() == ErrorCode::NotLeader
            && lock(&self.metadata).learn_leader(&topic.name, partition, leader, error.leader_epoch)
    }

    /// Draws a producer id.
    pub(crate) async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let answer = self
            .call_any("draw a producer id", |node| async move {
                node.log().init_producer(v1::InitProducerRequest {}).await
            })
            .await?;
        let epoch = u16::try_from(answer.producer_epoch)
            .map_err(|_| ClientError::Protocol { what: "producer epoch over 16 bits" })?;
        Ok((ProducerId::new(answer.producer_id), ProducerEpoch::new(epoch)))
    }

    /// Asks the leaders where positions are.
    pub(crate) async fn list_offsets(
        &self,
        topic: &PinnedTopic,
        positions: &BTreeMap<PartitionId, Start>,
    ) -> Result<BTreeMap<PartitionId, PartitionOffsets>, ClientError> {
        let mut attempts = Attempts::new("list offsets", self.options.request_timeout);
        let mut found = BTreeMap::new();
        let mut failures = 0;
        let mut damaged = 0;
        loop {
            let mut by_node: BTreeMap<Arc<str>, Vec<(PartitionId, Start)>> = BTreeMap::new();
            for (partition, start) in positions.iter().filter(|(p, _)| !found.contains_key(*p)) {
                let address = self.route(topic, *partition, failures);
                by_node.entry(address).or_default().push((*partition, *start));
            }
            if by_node.is_empty() {
                return Ok(found);
            }
            let mut last = None;
            for (address, asked) in by_node {
                let node = self.node(&address);
                let call = self.list_offsets_on(topic, &node, &asked);
                match attempt(&attempts, &node, call).await {
                    Ok(answer) => {
                        let failure = self.take_offsets(topic, answer, &mut found)?;
                        last = failure.or(last);
                    }
                    Err(failure) => last = Some(failure),
                }
            }
            let Some(failure) = last else { continue };
            let partition = positions.keys().next().copied().unwrap_or_default();
            damaged = if failure.is_damage() { damaged + 1 } else { 0 };
            if !failure.is_transient() || damaged > limits::DAMAGED_ANSWERS_MAX {
                return Err(topic.error(partition, failure));
            }
            attempts.again(failure, self.random()).await?;
            self.refresh(topic).await?;
            failures += 1;
        }
    }

    async fn list_offsets_on(
        &self,
        topic: &PinnedTopic,
        node: &Node,
        asked: &[(PartitionId, Start)],
    ) -> Result<tonic::Response<v1::ListOffsetsResponse>, Status> {
        let partitions = asked.iter().map(|(partition, start)| v1::PartitionPosition {
            partition: partition.get(),
            position: Some((*start).into()),
        });
        let request = v1::ListOffsetsRequest {
            topic: topic.name.to_string(),
            topic_id: topic.id_bytes(),
            partitions: partitions.collect(),
            metadata_index: self.metadata_index(),
        };
        node.log().list_offsets(request).await
    }

    /// Takes over the offsets that were found; gives the last failure among the others.
    fn take_offsets(
        &self,
        topic: &PinnedTopic,
        answer: v1::ListOffsetsResponse,
        found: &mut BTreeMap<PartitionId, PartitionOffsets>,
    ) -> Result<Option<Failure>, ClientError> {
        let mut last = None;
        for offsets in answer.partitions {
            let partition = PartitionId::new(offsets.partition);
            let Some(error) = offsets.error else {
                let offsets = PartitionOffsets {
                    offset: Offset::new(offsets.offset),
                    log_start_offset: Offset::new(offsets.log_start_offset),
                    high_watermark: Offset::new(offsets.high_watermark),
                    leader_epoch: Term::new(offsets.leader_epoch),
                };
                found.insert(partition, offsets);
                continue;
            };
            let failure = Failure::Refused(Box::new(error));
            if !failure.is_transient() {
                return Err(topic.error(partition, failure));
            }
            self.follow_redirect(topic, partition, &failure);
            last = Some(failure);
        }
        Ok(last)
    }

    /// The cluster's id as a description of it says.
    pub(crate) fn cluster_id(answer: &v1::DescribeClusterResponse) -> ClusterId {
        ClusterId::from_slice(&answer.cluster_id).unwrap_or(ClusterId::NIL)
    }
}

/// One call on one node, bounded in time.
async fn attempt<T>(
    attempts: &Attempts,
    node: &Node,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(attempts.attempt_deadline(), call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failure::from_status(&status, node.address())),
        Err(_elapsed) => Err(Failure::Lost(node.no_answer())),
    }
}
