//! The producer: batches records per partition and delivers each exactly once, in order.

mod accumulator;
mod delivery;
mod options;
mod pace;
mod sealed;
mod settle;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use duramen_env::TaskHandle;
use duramen_record::{HeaderRef, RecordRef, partition_for_key, record_bytes};
use duramen_types::{PartitionId, ProducerEpoch, ProducerId, TopicId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::ClientError;
use crate::cluster::{Cluster, PinnedTopic};
use accumulator::{Accumulator, Append};
use sealed::Taken;
use worker::Worker;

pub use delivery::{Delivery, RecordMetadata};
pub use options::{ProducerOptions, ProducerRecord};

/// A producer for one topic. Clones share everything; dropping the last one abandons what is still
/// waiting, so [`flush`](Self::flush) or [`close`](Self::close) first.
///
/// A record goes to the partition it names; else to that of its key's hash, which is Kafka's; else
/// to one that changes with every batch.
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{Compression, ProducerOptions, ProducerRecord};
///
/// let options = ProducerOptions { compression: Compression::Lz4, ..ProducerOptions::default() };
/// let producer = client.producer("orders", options).await?;
/// let mut deliveries = Vec::new();
/// for i in 0..1000 {
///     deliveries.push(producer.send(ProducerRecord::new(format!("value {i}"))).await?);
/// }
/// for delivery in deliveries {
///     println!("stored at {}", delivery.await?.offset);
/// }
/// producer.close().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    workers: Arc<Mutex<Vec<TaskHandle<()>>>>,
}

/// What the handle and the workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    cluster: Arc<Cluster>,
    topic: PinnedTopic,
    options: ProducerOptions,
    /// The producer id that workers begin with; `None` if not idempotent.
    identity: Option<(ProducerId, ProducerEpoch)>,
    cells: Vec<Cell>,
    /// Bytes that may still be taken in.
    room: Arc<Semaphore>,
    sticky: Mutex<Sticky>,
    closed: AtomicBool,
    /// Why nothing can be sent any more.
    dead: OnceLock<ClientError>,
    /// Flushes under way; while there are any, no batch lingers.
    flushes: AtomicU64,
}

/// One partition, between the senders and its worker.
#[derive(Debug, Default)]
struct Cell {
    accumulator: Mutex<Accumulator>,
    wake: Notify,
    started: AtomicBool,
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partition of records without a key: the same until its batch is closed.
#[derive(Debug, Default)]
struct Sticky {
    partition: u32,
    batch: Option<u64>,
}

impl Producer {
    pub(crate) async fn new(
        cluster: Arc<Cluster>,
        topic: &str,
        options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        options.validate()?;
        let topic = cluster.pin_topic(topic).await?;
        let identity = if options.idempotent { Some(cluster.init_producer().await?) } else { None };
        let shared = Shared {
            cells: (0..topic.partitions).map(|_| Cell::default()).collect(),
            room: Arc::new(Semaphore::new(options.in_flight_bytes)),
            cluster,
            topic,
            options,
            identity,
            sticky: Mutex::default(),
            closed: AtomicBool::new(false),
            dead: OnceLock::new(),
            flushes: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), workers: Arc::default() })
    }

    /// The id of the topic, pinned when the producer was made.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.shared.topic.id
    }

    /// Number of partitions of the topic.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.shared.topic.partitions
    }

    /// Bytes of records that can be taken in now without waiting.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.shared.room.available_permits()
    }

    /// Takes a record in, waiting while [`ProducerOptions::in_flight_bytes`] are under way, and
    /// gives its delivery: a future of where the record is stored, or why it is not.
    ///
    /// Records of one partition are stored in the order in which `send` took them in. A delivery
    /// that is dropped unawaited is delivered all the same. Cancel safe: a record is taken in when
    /// the call returns, not before.
    ///
    /// # Errors
    /// [`ClientError::RecordTooLarge`], [`ClientError::UnknownPartition`], [`ClientError::Closed`],
    /// or what has put an end to this producer ([`ErrorKind::Fenced`](crate::ErrorKind::Fenced)).
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let shared = &*self.shared;
        shared.check_open()?;
        let bytes = record_bytes(record.key.as_deref(), record.value.as_deref(), headers(&record));
        let limit = shared.options.record_bytes_max;
        if bytes > limit {
            return Err(ClientError::RecordTooLarge { bytes, limit });
        }
        let taken = Taken::take(&shared.room, bytes.min(shared.options.in_flight_bytes)).await;
        // Waiting may have taken long.
        shared.check_open()?;
        self.append(&record, bytes, taken)
    }

    fn append(
        &self,
        record: &ProducerRecord,
        bytes: usize,
        taken: Taken<'_>,
    ) -> Result<Delivery, ClientError> {
        let shared = &self.shared;
        let timestamp = record.timestamp.unwrap_or_else(|| shared.cluster.env.clock.now());
        let plain =
            RecordRef { key: record.key.as_deref(), value: record.value.as_deref(), timestamp };
        let place = shared.place(record, bytes)?;
        let partition = PartitionId::new(place);
        let cell = usize::try_from(place).ok().and_then(|place| shared.cells.get(place));
        let cell = cell.ok_or_else(|| shared.unknown_partition(partition))?;
        let Append { delivery, wake } = cell.lock().append(
            partition,
            plain,
            headers(record),
            (taken, bytes),
            &shared.options,
        )?;
        if wake {
            self.start(partition, cell);
            cell.wake.notify_one();
        }
        Ok(delivery)
    }

    /// Starts the partition's worker with its first record.
    fn start(&self, partition: PartitionId, cell: &Cell) {
        if cell.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let worker = Worker::new(Arc::clone(&self.shared), partition);
        let task = self.shared.cluster.env.tasks.critical("client-producer", worker.run());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Sends everything taken in so far without lingering, and waits until each of these records
    /// has its outcome. Their deliveries say which; this waits for success and failure alike, for
    /// [`ProducerOptions::delivery_timeout`] at most.
    pub async fn flush(&self) {
        let shared = &*self.shared;
        let _flush = Flush::begin(shared);
        for cell in &shared.cells {
            cell.wake.notify_one();
        }
        for cell in &shared.cells {
            let outcomes = cell.lock().unresolved();
            for outcome in outcomes {
                outcome.wait().await;
            }
        }
    }

    /// Flushes and closes, for all clones: later sends fail.
    ///
    /// # Errors
    /// What has put an end to this producer earlier.
    pub async fn close(self) -> Result<(), ClientError> {
        self.shared.closed.store(true, Ordering::Release);
        self.flush().await;
        self.shared.dead.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), ClientError> {
        if let Some(error) = self.dead.get() {
            return Err(error.clone());
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(ClientError::Closed { what: "producer" });
        }
        Ok(())
    }

    fn unknown_partition(&self, partition: PartitionId) -> ClientError {
        ClientError::UnknownPartition { topic: Arc::clone(&self.topic.name), partition }
    }

    /// Whether batches should go out at once.
    fn is_flushing(&self) -> bool {
        self.flushes.load(Ordering::Acquire) > 0 || self.closed.load(Ordering::Acquire)
    }

    /// The partition of a record.
    fn place(&self, record: &ProducerRecord, bytes: usize) -> Result<u32, ClientError> {
        let count = self.topic.partitions;
        match (record.partition, &record.key) {
            (Some(partition), _) if partition.get() < count => Ok(partition.get()),
            (Some(partition), _) => Err(self.unknown_partition(partition)),
            // There is nothing to choose.
            (None, _) if count == 1 => Ok(0),
            (None, Some(key)) => Ok(partition_for_key(key, count).get()),
            (None, None) => Ok(self.sticky_place(bytes)),
        }
    }

    /// The sticky partition: another one once its batch is closed, or too full for the record.
    fn sticky_place(&self, bytes: usize) -> u32 {
        let batch_of = |place: u32| {
            let cell = usize::try_from(place).ok().and_then(|place| self.cells.get(place));
            cell.map_or(0, |cell| cell.lock().batch_number(bytes, &self.options))
        };
        let mut sticky = self.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        if sticky.batch == Some(batch_of(sticky.partition)) {
            return sticky.partition;
        }
        let count = u64::from(self.topic.partitions);
        let random = self.cluster.random();
        // Any partition at first, any other one later.
        let next = match sticky.batch {
            None => random.below(count),
            Some(_) => (u64::from(sticky.partition) + 1 + random.below(count - 1)) % count,
        };
        sticky.partition = u32::try_from(next).unwrap_or(0);
        sticky.batch = Some(batch_of(sticky.partition));
        sticky.partition
    }
}

/// Counts a flush as under way while it lives.
struct Flush<'a>(&'a Shared);

impl<'a> Flush<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.flushes.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.0.flushes.fetch_sub(1, Ordering::AcqRel);
    }
}

fn headers(record: &ProducerRecord) -> impl ExactSizeIterator<Item = HeaderRef<'_>> + Clone {
    record
        .headers
        .iter()
        .map(|header| HeaderRef { key: header.key.as_bytes(), value: header.value.as_deref() })
}

/// When something that began at `since` and may take `limit` is over; never, if that is beyond
/// what a clock can say.
fn end_of(since: Instant, limit: std::time::Duration) -> Instant {
    const FAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
    since + limit.min(FAR)
}
