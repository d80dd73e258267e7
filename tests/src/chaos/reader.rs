//! Consumers that read while all goes on, and the reader of the end, who reads everything.

use std::collections::BTreeMap;
use std::time::Duration;

use duramen_checker::{Call, Key, Process, ProducedBatch, Record};
use duramen_client::{
    Client, ClientError, Consumer, ConsumerBatch, ConsumerOptions, Offset, PartitionId, Start,
};
use futures::FutureExt as _;
use tokio::sync::watch;

use super::producer::decode;
use super::recorder::Recorder;
use crate::processes::Outcome;

/// Wait before a consumer that could not be made is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// How long a poll waits for its first record.
const POLL: Duration = Duration::from_millis(200);

/// Batches that one poll gives at most.
const BATCHES_MAX: usize = 16;

/// Polls after which a reader that jumps goes back in one partition.
const POLLS_BETWEEN_JUMPS: u64 = 50;

/// How many records it goes back: some segments, and not so much that it does nothing else.
const JUMP_RECORDS: u64 = 3_000;

/// Stands for bytes that nobody sent, which the checker does not find among the sends.
const GARBAGE: u64 = u64::MAX;

/// A consumer of all partitions.
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) keys: u32,
    pub(super) recorder: Recorder,
    pub(super) process: Process,
    pub(super) stop: watch::Receiver<bool>,
    /// Jumps back in a partition now and then.
    pub(super) jumps: bool,
}

impl Reader {
    /// Reads from the first record on until it is stopped.
    pub(super) async fn run(self) {
        let mut positions = BTreeMap::<Key, u64>::new();
        let keys: Vec<Key> = (0..self.keys).collect();
        self.recorder.done(self.process, Call::Assign { keys: &keys, from_start: true });
        while !self.is_over() {
            let starts = |key: &Key| {
                let start = positions.get(key).copied().map(Offset::new);
                (PartitionId::new(*key), start.map_or(Start::First, Start::Offset))
            };
            let options =
                ConsumerOptions { starts: keys.iter().map(starts).collect(), ..Default::default() };
            match self.client.consumer(&self.topic, options).await {
                // A consumer that fails is made again where it was: the process goes on.
                Ok(consumer) => self.read(consumer, &mut positions).await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    async fn read(&self, mut consumer: Consumer, positions: &mut BTreeMap<Key, u64>) {
        let mut polls = 0;
        while !self.is_over() {
            let poll = self.recorder.polling(self.process);
            let (batches, failure) = poll_once(&mut consumer).await;
            let records: Vec<_> = batches.iter().flat_map(records_of).collect();
            for record in &records {
                positions.insert(record.key, record.offset + 1);
            }
            let watermarks = watermarks(&consumer, self.keys);
            self.recorder.polled(poll, &records, &watermarks);
            if failure.is_some() {
                return;
            }
            polls += 1;
            if self.jumps && polls % POLLS_BETWEEN_JUMPS == 0 {
                let key = Key::try_from(polls / POLLS_BETWEEN_JUMPS).unwrap_or(0) % self.keys;
                let back = positions.get(&key).copied().unwrap_or(0).saturating_sub(JUMP_RECORDS);
                let start = Start::Offset(Offset::new(back));
                if consumer.seek(PartitionId::new(key), start).await.is_err() {
                    return;
                }
                positions.insert(key, back);
                self.recorder.done(self.process, Call::Seek(key));
            }
        }
    }
}

/// What is there now, or comes within a moment.
async fn poll_once(consumer: &mut Consumer) -> (Vec<ConsumerBatch>, Option<ClientError>) {
    let mut batches = Vec::new();
    let Ok(mut next) = tokio::time::timeout(POLL, consumer.next_batch()).await else {
        return (batches, None);
    };
    loop {
        match next {
            Some(Ok(batch)) => batches.push(batch),
            Some(Err(error)) => return (batches, Some(error)),
            None => return (batches, None),
        }
        if batches.len() == BATCHES_MAX {
            return (batches, None);
        }
        match consumer.next_batch().now_or_never() {
            Some(more) => next = more,
            None => return (batches, None),
        }
    }
}

fn records_of(batch: &ConsumerBatch) -> Vec<Record> {
    let key = batch.partition().get();
    let record = |view: duramen_record::RecordView<'_>| Record {
        key,
        offset: view.offset.get(),
        value: view.value.and_then(decode).unwrap_or(GARBAGE),
    };
    batch.views().map(record).collect()
}

fn watermarks(consumer: &Consumer, keys: u32) -> Vec<(Key, u64)> {
    let watermark = |key| {
        let known = consumer.high_watermark(PartitionId::new(key)).ok()?;
        Some((key, known.get())).filter(|(_, known)| *known > 0)
    };
    (0..keys).filter_map(watermark).collect()
}

/// Reads all partitions from the first record up to the high watermark of now, into the history;
/// gives the batches that the log has.
///
/// # Errors
/// The topic cannot be read.
pub(super) async fn read_all(
    client: &Client,
    topic: &str,
    recorder: &Recorder,
) -> Outcome<Vec<ProducedBatch>> {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(topic, options).await?;
    let keys: Vec<Key> = consumer.partitions().map(PartitionId::get).collect();
    let process = recorder.process();
    recorder.done(process, Call::Assign { keys: &keys, from_start: true });
    let mut stored = Vec::new();
    loop {
        let poll = recorder.polling(process);
        let next = consumer.next_batch().await.transpose()?;
        let records = next.as_ref().map(records_of).unwrap_or_default();
        recorder.polled(poll, &records, &[]);
        let Some(batch) = next else { return Ok(stored) };
        stored.extend(produced(&batch));
    }
}

/// The batch as an idempotent producer stored it.
fn produced(batch: &ConsumerBatch) -> Option<ProducedBatch> {
    let header = batch.batch().header();
    let stamp = header.producer?;
    Some(ProducedBatch {
        producer: stamp.id.get(),
        epoch: stamp.epoch.get().into(),
        key: batch.partition().get(),
        sequence: stamp.base_sequence.get(),
        records: header.record_count,
        offset: header.base_offset.get(),
    })
}
