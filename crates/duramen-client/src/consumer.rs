//! The consumer: records of explicit partitions, each once and in order.

pub(crate) mod fetcher;
mod options;
mod record;
pub(crate) mod slot;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use duramen_env::TaskHandle;
use duramen_types::{Offset, PartitionId, TopicId};
use futures::Stream;

use crate::cluster::{Cluster, PinnedTopic};
use crate::{ClientError, Start};
use fetcher::{Credit, Fetcher};
use slot::{Ready, Slot};

pub use options::{ConsumerOptions, End, OutOfRange};
pub use record::{ConsumerBatch, ConsumerRecord, ConsumerRecords};

/// A consumer of partitions of one topic: a [`Stream`] of records, or of batches by
/// [`next_batch`](Self::next_batch). Within a partition records come once each, in the order of
/// their offsets; among partitions in turn. It ends when every partition has come to its
/// [`End`], or has failed.
///
/// An error concerns one partition, which stops; the others go on, and a [`seek`](Self::seek)
/// starts it again.
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{ConsumerOptions, Start};
/// use futures::StreamExt;
///
/// let options = ConsumerOptions::default().start(Start::Last(10));
/// let mut consumer = client.consumer("orders", options).await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}-{}: {:?}", record.partition, record.offset, record.value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    cluster: Arc<Cluster>,
    topic: PinnedTopic,
    slots: Vec<Arc<Slot>>,
    waker: Arc<futures::task::AtomicWaker>,
    /// Which slot has the next turn.
    turn: usize,
    /// The batch that the stream of records is in the middle of.
    current: Option<ConsumerRecords>,
    _fetchers: Vec<TaskHandle<()>>,
}

impl Consumer {
    pub(crate) async fn new(
        cluster: Arc<Cluster>,
        topic: &str,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        options.validate()?;
        let topic = cluster.pin_topic(topic).await?;
        let starts = starts(&topic, &options)?;
        let begins = resolve(&cluster, &topic, &starts).await?;
        let ends = ends(&cluster, &topic, &starts, &options.end).await?;

        let credit = Credit::default();
        credit.share(options.buffer_bytes, starts.len());
        let waker = Arc::new(futures::task::AtomicWaker::new());
        let mut slots = Vec::with_capacity(starts.len());
        let mut fetchers = Vec::with_capacity(starts.len());
        for (partition, start) in &starts {
            let begin = begins.get(partition).copied().unwrap_or_default();
            let end = ends.get(partition).copied();
            let slot = Arc::new(Slot::new(*partition, begin, end, Arc::clone(&waker)));
            slot.begin(begin, *start == Start::First);
            let fetcher = Fetcher {
                cluster: Arc::clone(&cluster),
                topic: topic.clone(),
                slot: Arc::clone(&slot),
                credit: credit.clone(),
                out_of_range: options.out_of_range,
            };
            fetchers.push(cluster.env.tasks.critical("client-fetcher", fetcher.run()));
            slots.push(slot);
        }
        Ok(Self { cluster, topic, slots, waker, turn: 0, current: None, _fetchers: fetchers })
    }

    /// The id of the topic, pinned when the consumer was made.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic.id
    }

    /// The partitions it reads.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.slots.iter().map(|slot| slot.partition())
    }

    /// The next batch with at least one record to give; `None` when every partition is at its end
    /// or has failed. Cancel safe.
    pub async fn next_batch(&mut self) -> Option<Result<ConsumerBatch, ClientError>> {
        std::future::poll_fn(|context| self.poll_next_batch(context)).await
    }

    /// As [`next_batch`](Self::next_batch), polled.
    pub fn poll_next_batch(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<ConsumerBatch, ClientError>>> {
        if let Some(current) = self.current.take() {
            let rest = current.into_batch();
            if rest.has_records() {
                return Poll::Ready(Some(Ok(rest)));
            }
        }
        self.waker.register(context.waker());
        let mut all_over = true;
        for step in 0..self.slots.len() {
            let place = (self.turn + step) % self.slots.len();
            let Some(slot) = self.slots.get(place) else { continue };
            loop {
                match slot.pop(&self.topic) {
                    Ready::Batch(batch) if !batch.has_records() => {}
                    Ready::Batch(batch) => {
                        self.turn = place + 1;
                        return Poll::Ready(Some(Ok(*batch)));
                    }
                    Ready::Failed(error) => {
                        self.turn = place + 1;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Ready::NotYet => {
                        all_over = false;
                        break;
                    }
                    Ready::Over => break,
                }
            }
        }
        if all_over { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Where the next record of a partition is sought: one past the last given.
    ///
    /// # Errors
    /// [`ClientError::UnknownPartition`] if it is not one of this consumer's.
    pub fn position(&self, partition: PartitionId) -> Result<Offset, ClientError> {
        let slot = self.slot(partition)?;
        match &self.current {
            Some(current) if current.is_of(partition) => Ok(current.next_offset()),
            _ => Ok(slot.position()),
        }
    }

    /// One past the last record of a partition that could be read when its leader last answered.
    ///
    /// # Errors
    /// As [`position`](Self::position).
    pub fn high_watermark(&self, partition: PartitionId) -> Result<Offset, ClientError> {
        Ok(self.slot(partition)?.high_watermark())
    }

    /// Goes on elsewhere in a partition; also starts one again that has failed. What was buffered of
    /// it is dropped, its end stays.
    ///
    /// # Errors
    /// [`ClientError::UnknownPartition`], or no answer in time about where the position is.
    pub async fn seek(&mut self, partition: PartitionId, start: Start) -> Result<(), ClientError> {
        let slot = Arc::clone(self.slot(partition)?);
        let asked = BTreeMap::from([(partition, start)]);
        let found = resolve(&self.cluster, &self.topic, &asked).await?;
        let begin = found.get(&partition).copied().unwrap_or_default();
        self.current.take_if(|current| current.is_of(partition));
        slot.begin(begin, start == Start::First);
        Ok(())
    }

    /// Gives nothing of a partition until it is resumed. It is fetched until its buffer is full.
    ///
    /// # Errors
    /// As [`position`](Self::position).
    pub fn pause(&mut self, partition: PartitionId) -> Result<(), ClientError> {
        let slot = Arc::clone(self.slot(partition)?);
        slot.set_paused(true);
        if let Some(current) = self.current.take_if(|current| current.is_of(partition)) {
            slot.put_back(current.into_batch());
        }
        Ok(())
    }

    /// Goes on with a partition that was paused.
    ///
    /// # Errors
    /// As [`position`](Self::position).
    pub fn resume(&mut self, partition: PartitionId) -> Result<(), ClientError> {
        self.slot(partition)?.set_paused(false);
        Ok(())
    }

    fn slot(&self, partition: PartitionId) -> Result<&Arc<Slot>, ClientError> {
        self.slots.iter().find(|slot| slot.partition() == partition).ok_or_else(|| {
            ClientError::UnknownPartition { topic: Arc::clone(&self.topic.name), partition }
        })
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.current.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(record)));
            }
            self.current = None;
            match self.poll_next_batch(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(batch))) => self.current = Some(batch.into_iter()),
            }
        }
    }
}

/// The partitions to read and where each starts.
fn starts(
    topic: &PinnedTopic,
    options: &ConsumerOptions,
) -> Result<BTreeMap<PartitionId, Start>, ClientError> {
    let all = (0..topic.partitions).map(|id| (PartitionId::new(id), options.start));
    let mut starts: BTreeMap<PartitionId, Start> = match &options.partitions {
        None => all.collect(),
        Some(partitions) => partitions.iter().map(|id| (*id, options.start)).collect(),
    };
    starts.extend(options.starts.iter().map(|(id, start)| (*id, *start)));
    match starts.keys().find(|id| id.get() >= topic.partitions) {
        None => Ok(starts),
        Some(partition) => Err(ClientError::UnknownPartition {
            topic: Arc::clone(&topic.name),
            partition: *partition,
        }),
    }
}

/// Turns starts into offsets once, so that no later retry can land elsewhere.
async fn resolve(
    cluster: &Cluster,
    topic: &PinnedTopic,
    starts: &BTreeMap<PartitionId, Start>,
) -> Result<BTreeMap<PartitionId, Offset>, ClientError> {
    let mut begins = BTreeMap::new();
    let mut asked = BTreeMap::new();
    for (partition, start) in starts {
        match start {
            Start::Offset(offset) => drop(begins.insert(*partition, *offset)),
            _ => drop(asked.insert(*partition, *start)),
        }
    }
    if !asked.is_empty() {
        let found = cluster.list_offsets(topic, &asked).await?;
        begins.extend(found.into_iter().map(|(partition, found)| (partition, found.offset)));
    }
    Ok(begins)
}

async fn ends(
    cluster: &Cluster,
    topic: &PinnedTopic,
    starts: &BTreeMap<PartitionId, Start>,
    end: &End,
) -> Result<BTreeMap<PartitionId, Offset>, ClientError> {
    match end {
        End::Never => Ok(BTreeMap::new()),
        End::Offsets(offsets) => Ok(offsets.clone()),
        End::HighWatermark => {
            let asked = starts.keys().map(|partition| (*partition, Start::Last(0)));
            let found = cluster.list_offsets(topic, &asked.collect()).await?;
            Ok(found.into_iter().map(|(id, found)| (id, found.high_watermark)).collect())
        }
    }
}
