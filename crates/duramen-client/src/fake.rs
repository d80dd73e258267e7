//! A cluster of fake nodes on loopback, in this process, with real sequence checks and faults on
//! demand: what the client's promises are tested against.

mod group_service;
pub(crate) mod groups;
mod memory;
mod service;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Env, Random, SeededRandom, TaskHandle};
use duramen_net::{ServerOptions, serve};
use duramen_proto::v1::admin_service_server::AdminServiceServer;
use duramen_proto::v1::group_service_server::GroupServiceServer;
use duramen_proto::v1::log_service_server::LogServiceServer;
use duramen_proto::v1::{self, ErrorCode};
use duramen_record::{Batch, BatchBuilder, Compression, RecordRef, split_batches, stamp};
use duramen_types::{Offset, Term, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tonic::service::Routes;

use crate::{Client, ClientOptions};

/// What goes wrong with one produce request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: it is served.
    None,
    /// Not stored, refused.
    Refuse(ErrorCode),
    /// Stored, and then refused all the same.
    StoreAndRefuse(ErrorCode),
    /// Not stored, and the stream ends.
    Drop,
    /// Stored, and the stream ends before the answer.
    StoreAndDrop,
    /// Stored, and never answered.
    StoreAndForget,
    /// Not stored, and never answered.
    Forget,
    /// Served once there is a permit.
    Hold(Arc<Semaphore>),
}

/// What goes wrong with one fetch stream.
#[derive(Clone, Debug)]
pub(crate) enum FetchFault {
    /// It ends after so many answers.
    End(u32),
    /// It ends with a refusal after so many answers.
    Refuse(u32, ErrorCode),
    /// One byte of the batch after so many answers is another.
    Corrupt(u32),
    /// Its first answer begins with the first batch, whatever was asked for.
    Earlier,
    /// It opens once there is a permit.
    Hold(Arc<Semaphore>),
}

/// What a producer wrote last.
#[derive(Clone, Debug, Default)]
struct ProducerState {
    epoch: u16,
    /// First and last sequence and base offset of the last five requests.
    runs: VecDeque<(u32, u32, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct FakePartition {
    pub(crate) leader: u64,
    pub(crate) epoch: u64,
    pub(crate) log_start: u64,
    pub(crate) next: u64,
    pub(crate) batches: Vec<Batch>,
    producers: BTreeMap<u64, ProducerState>,
}

#[derive(Debug)]
pub(crate) struct FakeTopic {
    pub(crate) id: [u8; 16],
    pub(crate) partitions: Vec<FakePartition>,
    pub(crate) config: BTreeMap<String, String>,
}

/// Everything the fake nodes know and are to do.
#[derive(Debug, Default)]
pub(crate) struct State {
    addresses: BTreeMap<u64, String>,
    pub(crate) topics: BTreeMap<String, FakeTopic>,
    metadata_index: u64,
    next_producer: u64,
    topics_made: u8,
    /// For produce requests, in the order in which they come.
    pub(crate) faults: VecDeque<Fault>,
    /// A value whose record is too large, and with it its request.
    pub(crate) too_large: Option<&'static str>,
    pub(crate) fetch_faults: VecDeque<FetchFault>,
    /// For admin calls: refused before or after they take effect.
    pub(crate) admin_faults: VecDeque<Fault>,
    /// Whether a refusal names the leader.
    pub(crate) silent_about_leaders: bool,
    /// Produce requests seen, with the metadata index they carry.
    pub(crate) produce_requests: Vec<u64>,
    /// First sequences of these requests.
    pub(crate) produce_sequences: Vec<u32>,
    /// How often a topic was described.
    pub(crate) describes: u32,
    /// Bytes sent on fetch streams.
    pub(crate) fetched_bytes: u64,
    pub(crate) fetch_streams: u32,
    pub(crate) groups: BTreeMap<String, groups::FakeGroup>,
    pub(crate) shard_count: u32,
    pub(crate) coordinator_questions: u32,
}

/// The first sequence of a request, if it has one.
fn first_sequence(request: &v1::ProduceRequest) -> Option<u32> {
    let Some(v1::produce_request::Payload::Batches(bytes)) = &request.payload else { return None };
    let batch = split_batches(bytes.clone()).next()?.ok()?;
    batch.header().producer.map(|producer| producer.base_sequence.get())
}

impl FakePartition {
    /// Appends as a leader does, or says why not.
    fn append(&mut self, bytes: &Bytes) -> Result<v1::ProduceAck, ErrorCode> {
        let batches: Vec<Batch> = split_batches(bytes.clone())
            .collect::<Result<_, _>>()
            .map_err(|_| ErrorCode::CorruptBatch)?;
        let mut count = 0;
        for batch in &batches {
            batch.view().validate_produced().map_err(|_| ErrorCode::CorruptBatch)?;
            let next = batch.header().producer.map(|producer| producer.base_sequence.get());
            let first = batches[0].header().producer.map(|producer| producer.base_sequence.get());
            if next != first.map(|first| first + count) {
                return Err(ErrorCode::InvalidRequest);
            }
            count += batch.header().record_count;
        }
        let mut base = self.next;
        let mut duplicate = false;
        if let Some(producer) = batches[0].header().producer {
            let first = producer.base_sequence.get();
            let last = producer.base_sequence.advance(count - 1).get();
            let known = self.producers.get(&producer.id.get());
            if known.is_none() && first != 0 {
                return Err(ErrorCode::UnknownProducer);
            }
            let state = self.producers.entry(producer.id.get()).or_default();
            if producer.epoch.get() < state.epoch {
                return Err(ErrorCode::ProducerFenced);
            }
            let found = state.runs.iter().find(|(f, l, _)| *f <= first && last <= *l);
            if let Some((known, _, offset)) = found {
                (base, duplicate) = (*offset + u64::from(first - known), true);
            } else {
                let due = state.runs.back().map_or(0, |(_, last, _)| last + 1);
                if first != due {
                    return Err(ErrorCode::OutOfOrderSequence);
                }
                state.runs.push_back((first, last, base));
                while state.runs.len() > 5 {
                    state.runs.pop_front();
                }
            }
        }
        if !duplicate {
            for batch in batches {
                let mut stored = batch.bytes().to_vec();
                stamp(&mut stored, Offset::new(self.next), Term::new(self.epoch)).unwrap();
                self.next += u64::from(batch.header().record_count);
                self.batches.push(Batch::parse(stored.into()).unwrap());
            }
        }
        Ok(v1::ProduceAck {
            base_offset: base,
            last_offset: base + u64::from(count) - 1,
            append_time: 1_000,
            leader_epoch: self.epoch,
            log_start_offset: self.log_start,
            duplicate,
            synced_replicas: 3,
            replicas: 3,
        })
    }

    /// Every value stored, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        let mut values = Vec::new();
        for batch in &self.batches {
            let payload = batch.payload(1 << 24).unwrap();
            for record in batch.records(&payload) {
                values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }
}

impl State {
    fn describe(&self, name: &str) -> Option<v1::Topic> {
        let topic = self.topics.get(name)?;
        let partitions = topic.partitions.iter().enumerate().map(|(id, partition)| v1::Partition {
            id: u32::try_from(id).unwrap(),
            leader: if self.silent_about_leaders { 0 } else { partition.leader },
            leader_epoch: if self.silent_about_leaders { 0 } else { partition.epoch },
            replicas: self.addresses.keys().copied().collect(),
            log_start_offset: Some(partition.log_start),
            high_watermark: Some(partition.next),
            in_sync: Vec::new(),
            ..v1::Partition::default()
        });
        let config = topic.config.iter().map(|(name, value)| v1::ConfigEntry {
            name: name.clone(),
            value: value.clone(),
            explicit: true,
            documentation: String::new(),
        });
        Some(v1::Topic {
            name: name.into(),
            id: topic.id.to_vec().into(),
            replication_factor: 3,
            partitions: partitions.collect(),
            config: config.collect(),
        })
    }

    pub(crate) fn create(&mut self, name: &str, partitions: u32) {
        self.topics_made += 1;
        self.metadata_index += 1;
        let nodes: Vec<u64> = self.addresses.keys().copied().collect();
        let partitions = (0..partitions as usize).map(|id| FakePartition {
            leader: nodes[id % nodes.len()],
            epoch: 1,
            ..FakePartition::default()
        });
        let topic = FakeTopic {
            id: [self.topics_made; 16],
            partitions: partitions.collect(),
            config: BTreeMap::new(),
        };
        self.topics.insert(name.into(), topic);
    }

    pub(crate) fn partition(&mut self, topic: &str, partition: u32) -> &mut FakePartition {
        &mut self.topics.get_mut(topic).unwrap().partitions[partition as usize]
    }

    /// The partition, if `node` leads it and the topic is the one meant.
    fn led(
        &mut self,
        node: u64,
        topic: &str,
        id: &[u8],
        partition: u32,
    ) -> Result<&mut FakePartition, v1::Error> {
        let error = |code: ErrorCode| v1::Error { code: code.into(), ..v1::Error::default() };
        let addresses = &self.addresses;
        let found = self.topics.get_mut(topic).ok_or_else(|| error(ErrorCode::UnknownTopic))?;
        if !id.is_empty() && id != found.id {
            let current_topic_id = found.id.to_vec().into();
            return Err(v1::Error { current_topic_id, ..error(ErrorCode::UnknownTopicId) });
        }
        let found = found.partitions.get_mut(partition as usize);
        let found = found.ok_or_else(|| error(ErrorCode::UnknownPartition))?;
        if found.leader != node {
            let leader = addresses.get(&found.leader).map(|address| v1::Node {
                id: found.leader,
                address: address.clone(),
                ..v1::Node::default()
            });
            return Err(v1::Error {
                leader: leader.filter(|_| !self.silent_about_leaders),
                leader_epoch: found.epoch,
                ..error(ErrorCode::NotLeader)
            });
        }
        Ok(found)
    }
}

/// A small number drawn from a seed.
pub(crate) fn draw(random: &SeededRandom, bound: u32) -> u32 {
    u32::try_from(random.below(bound.into())).unwrap()
}

/// What the nodes share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something in the state has changed.
    changed: Notify,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fake cluster. Dropping it stops its listeners.
pub(crate) struct Fake {
    pub(crate) env: Env,
    pub(crate) shared: Arc<Shared>,
    _servers: Vec<TaskHandle<()>>,
}

impl Fake {
    /// So many nodes, listening.
    pub(crate) async fn start(nodes: u64) -> Self {
        Self::start_in(Env::real(), nodes).await
    }

    /// As [`with_topic`](Self::with_topic), on a network in memory: for tests with paused time.
    pub(crate) async fn in_memory(nodes: u64, partitions: u32) -> Self {
        let net = Arc::new(memory::MemoryNet::default());
        let fake = Self::start_in(Env { net, ..Env::real() }, nodes).await;
        fake.lock().create("t", partitions);
        fake
    }

    async fn start_in(env: Env, nodes: u64) -> Self {
        let env = Env { random: Arc::new(SeededRandom::new(7)), ..env };
        let shared = Arc::new(Shared::default());
        let mut servers = Vec::new();
        for id in 1..=nodes {
            let listener = env.net.listen("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            shared.lock().addresses.insert(id, address);
            let node = service::FakeNode { id, env: env.clone(), shared: Arc::clone(&shared) };
            let log = LogServiceServer::new(node.clone()).max_decoding_message_size(32 << 20);
            let routes = Routes::new(AdminServiceServer::new(node.clone()))
                .add_service(GroupServiceServer::new(node))
                .add_service(log);
            let server =
                serve(listener.into(), routes, ServerOptions::default(), std::future::pending());
            servers.push(env.tasks.critical("fake-node", async move {
                server.await.unwrap();
            }));
        }
        Self { env, shared, _servers: servers }
    }

    /// So many nodes with one topic, `t`, of so many partitions.
    pub(crate) async fn with_topic(nodes: u64, partitions: u32) -> Self {
        let fake = Self::start(nodes).await;
        fake.lock().create("t", partitions);
        fake
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    pub(crate) fn options(&self) -> ClientOptions {
        let seeds: Vec<String> = self.lock().addresses.values().cloned().collect();
        ClientOptions { request_timeout: Duration::from_secs(10), ..ClientOptions::new(seeds) }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::with_env(self.env.clone(), self.options()).await.unwrap()
    }

    /// Makes a node known whose address nobody listens at.
    pub(crate) async fn add_dead_node(&self, id: u64) {
        let listener = self.env.net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        self.lock().addresses.insert(id, address);
    }

    /// Waits until topics were described so often.
    pub(crate) async fn until_described(&self, times: u32) {
        loop {
            let changed = self.shared.changed.notified();
            if self.lock().describes >= times {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn move_leader(&self, partition: u32, to: u64) {
        let mut state = self.lock();
        let partition = state.partition("t", partition);
        partition.leader = to;
        partition.epoch += 1;
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Stores values in one batch of topic `t`, as another client would.
    pub(crate) fn store(&self, partition: u32, values: &[&str], compression: Compression) {
        let mut builder = BatchBuilder::new(compression);
        let mut state = self.lock();
        let partition = state.partition("t", partition);
        for (i, value) in values.iter().enumerate() {
            let offset = i64::try_from(partition.next).unwrap() + i64::try_from(i).unwrap();
            let timestamp = 100 * offset;
            let record = RecordRef {
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                timestamp: Timestamp::from_millis(timestamp),
            };
            builder.append(record, [].into_iter()).unwrap();
        }
        partition.append(&builder.finish(None).unwrap()).unwrap();
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// The values stored in a partition of topic `t`, in order.
    pub(crate) fn values(&self, partition: u32) -> Vec<String> {
        self.lock().partition("t", partition).values()
    }

    /// Forgets what all producers wrote to a partition.
    pub(crate) fn forget_producers(&self, partition: u32) {
        self.lock().partition("t", partition).producers.clear();
    }

    pub(crate) fn fence_producers(&self, partition: u32) {
        for state in self.lock().partition("t", partition).producers.values_mut() {
            state.epoch += 1;
        }
    }
}
