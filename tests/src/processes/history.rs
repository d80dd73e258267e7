//! What producers were told, and whether the cluster keeps to it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use duramen_checker::{
    Call, Fate, Key, Micros, Observation, OpId, Options, Record, Report, Sent, Value,
};
use duramen_client::{Client, ConsumerOptions, PartitionOffsets, Start};
use futures::StreamExt as _;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::Outcome;

/// The process that reads everything in the end; producers have the numbers of their partitions.
const READER: u32 = u32::MAX;

/// Who asks for offsets before that, and after it: maybe another leader, so somebody else.
const OBSERVERS: [u32; 2] = [1, 2];

/// The values sent to one topic, each like no other, and what their producers were told. Times
/// are those since the first of them.
#[derive(Clone, Debug, Default)]
pub struct History {
    log: duramen_checker::History,
}

/// What [`History::check`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were acknowledged; those that retention has not trimmed were read.
    pub acknowledged: u64,
    /// Records of unknown outcome that turned out to be stored.
    pub unknown_stored: u64,
    /// Records of unknown outcome that are not stored, or trimmed.
    pub unknown_lost: u64,
}

/// Stands for the bytes of a value.
fn value_of(bytes: &[u8]) -> Value {
    xxh3_64(bytes)
}

/// The time of histories: since the first question for it in this program.
pub fn now() -> Micros {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    Micros::try_from(elapsed.as_micros()).unwrap_or(Micros::MAX)
}

impl History {
    /// A value is about to be sent to a partition, after those that were sent there before.
    pub fn send(&mut self, partition: u32, value: &[u8]) -> OpId {
        self.log.invoke(partition, now(), Call::Send(&[(partition, value_of(value))]))
    }

    /// The producer is told what became of a value.
    pub fn settle(&mut self, send: OpId, fate: Fate) {
        let time = now();
        match fate {
            Fate::Acknowledged(placed) => {
                self.log.complete(send, time, duramen_checker::Outcome::Sent(&[placed]));
            }
            Fate::Failed => self.log.complete(send, time, duramen_checker::Outcome::Failed),
            Fate::Unknown => self.log.complete(send, time, duramen_checker::Outcome::Unknown),
        }
    }

    /// Goes on with what later producers of the same topic were told.
    pub fn extend(&mut self, later: Self) {
        self.log.extend(later.log);
    }

    /// The values of a partition, in the order in which they were sent.
    pub fn of(&self, partition: u32) -> impl Iterator<Item = Sent> + '_ {
        self.log.sent().filter(move |sent| sent.key == partition)
    }

    /// Whether a value was acknowledged at this offset.
    #[must_use]
    pub fn was_acknowledged(&self, partition: u32, offset: u64, value: &[u8]) -> bool {
        let value = value_of(value);
        self.of(partition).any(|sent| {
            let is_there =
                |fate| matches!(fate, Fate::Acknowledged(at) if at.offset == Some(offset));
            sent.value == value && is_there(sent.fate)
        })
    }

    /// Reads the whole topic back and checks what was told and what is there. What retention has
    /// trimmed is left out.
    ///
    /// # Errors
    /// The topic cannot be read.
    ///
    /// # Panics
    /// If the cluster did not keep to what it said.
    pub async fn check(&self, client: &Client, topic: &str) -> Outcome<Counts> {
        let report = self.judge(client, topic).await?;
        assert!(report.is_sound(), "{topic}: {report}");
        Ok(Counts {
            acknowledged: report.figures.acknowledged,
            unknown_stored: report.figures.unknown_stored,
            unknown_lost: report.figures.unknown_unseen,
        })
    }

    /// As [`check`](Self::check), with all that was found in the answer.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub async fn judge(&self, client: &Client, topic: &str) -> Outcome<Report> {
        let mut log = self.log.clone();
        read_all(&mut log, client, topic).await?;
        Ok(duramen_checker::check(&log, &Options::default()))
    }

    /// Values that were acknowledged, and those of unknown outcome, over all partitions.
    #[must_use]
    pub fn fates(&self) -> (u64, u64) {
        let mut fates = (0, 0);
        for sent in self.log.sent() {
            match sent.fate {
                Fate::Acknowledged(_) => fates.0 += 1,
                Fate::Unknown => fates.1 += 1,
                Fate::Failed => {}
            }
        }
        fates
    }
}

/// Reads a topic from the beginning to the end, and notes what it gave.
async fn read_all(log: &mut duramen_checker::History, client: &Client, topic: &str) -> Outcome {
    let starts = observe(OBSERVERS[0], log, client, topic).await?;
    let keys: Vec<Key> = starts.keys().copied().collect();
    let assign = log.invoke(READER, now(), Call::Assign { keys: &keys, from_start: true });
    log.complete(assign, now(), duramen_checker::Outcome::Done);
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let poll = log.invoke(READER, now(), Call::Poll);
    let mut consumer = client.consumer(topic, options).await?;
    let mut records = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record?;
        let (key, offset) = (record.partition.get(), record.offset.get());
        if starts.get(&key) > Some(&offset) {
            return Err(format!("{topic}: {key} gave {offset}, which is trimmed").into());
        }
        let value = value_of(&record.value.unwrap_or_default());
        records.push(Record { key, offset, value });
    }
    log.complete(poll, now(), duramen_checker::Outcome::Polled(&records));
    // Retention may have trimmed more meanwhile, and nothing else may be missing at the front.
    observe(OBSERVERS[1], log, client, topic).await?;
    Ok(())
}

/// Notes the offsets of all partitions; gives where their logs begin.
async fn observe(
    observer: u32,
    log: &mut duramen_checker::History,
    client: &Client,
    topic: &str,
) -> Outcome<BTreeMap<Key, u64>> {
    let found = client.admin().list_offsets(topic, &BTreeMap::new()).await?;
    let mut starts = BTreeMap::new();
    for (id, offsets) in found {
        let PartitionOffsets { log_start_offset, high_watermark, .. } = offsets;
        let what = Observation {
            log_start: Some(log_start_offset.get()),
            high_watermark: Some(high_watermark.get()),
            leader_epoch: None,
        };
        log.observe(observer, id.get(), what);
        starts.insert(id.get(), log_start_offset.get());
    }
    Ok(starts)
}
