//! Producers that go on whatever happens to the cluster, and note what they are told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duramen_checker::{Micros, OpId, Sent};
use duramen_client::{
    Client, ClientError, Delivery, ErrorKind, PartitionId, Producer, ProducerOptions,
    ProducerRecord,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{DEADLINE, Fate, History, Outcome, Placed, eventually};

/// Wait before a producer that could not be made is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How much is produced.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Partitions, one producer each.
    pub partitions: u32,
    /// Records of each that may be under way.
    pub window: usize,
    /// Bytes of a value, at least.
    pub value_bytes: usize,
    /// The number of each producer's first record: of two loads of one topic one goes on where the
    /// other ended.
    pub first: u64,
    /// The number that no record of a producer reaches.
    pub end: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { partitions: 1, window: 8, value_bytes: 40, first: 0, end: u64::MAX }
    }
}

/// Producers under way.
#[derive(Debug)]
pub struct Load {
    history: Arc<Mutex<History>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts a producer for each partition.
    #[must_use]
    pub fn start(client: &Client, topic: &str, options: LoadOptions) -> Self {
        let history = Arc::new(Mutex::default());
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for partition in 0..options.partitions {
            let feeder = Feeder {
                client: client.clone(),
                topic: topic.to_owned(),
                partition,
                options,
                history: Arc::clone(&history),
                stop: stop.subscribe(),
                number: options.first,
            };
            tasks.spawn(feeder.run());
        }
        Self { history, stop, tasks }
    }

    /// What the producers were told so far.
    #[must_use]
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }

    /// Waits until so many records of each partition are acknowledged in addition to those so far.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_acknowledged(&self, partitions: u32, more: usize) -> Outcome {
        let counts = |history: &History| -> Vec<usize> {
            let count = |partition| {
                let sent = history.of(partition);
                sent.filter(|sent| matches!(sent.fate, Fate::Acknowledged(_))).count()
            };
            (0..partitions).map(count).collect()
        };
        let before = counts(&lock(&self.history));
        eventually(&format!("{more} more records of each partition"), async || {
            let now = counts(&lock(&self.history));
            let enough = now.iter().zip(&before).all(|(now, before)| *now >= before + more);
            if enough { Ok(()) } else { Err(format!("{before:?}, then {now:?}").into()) }
        })
        .await
    }

    /// Waits until a record of each partition was acknowledged after a moment of the time of
    /// histories, and says how long after it the last of the partitions had its first.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_served(&self, partitions: u32, since: Micros) -> Outcome<Duration> {
        eventually("every partition acknowledges", async || {
            let history = lock(&self.history);
            let mut worst = since;
            for partition in 0..partitions {
                let is_acknowledged = |sent: &Sent| matches!(sent.fate, Fate::Acknowledged(_));
                let acknowledged = history.of(partition).filter(is_acknowledged);
                let later = acknowledged.filter_map(|sent| sent.completed.filter(|at| *at > since));
                worst = worst.max(later.min().ok_or_else(|| format!("not {partition}"))?);
            }
            Ok(Duration::from_micros(worst - since))
        })
        .await
    }

    /// Waits for the first record of a partition that a leader of a later epoch acknowledged, and
    /// says how long before it the last one of the earlier epochs was.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_failover(&self, partition: u32, epoch: u64) -> Outcome<Duration> {
        eventually(&format!("partition {partition} has a leader after {epoch}"), async || {
            let history = lock(&self.history);
            let mut last = None;
            for sent in history.of(partition) {
                let (Fate::Acknowledged(placed), Some(at)) = (sent.fate, sent.completed) else {
                    continue;
                };
                if placed.epoch > epoch {
                    let last = last.ok_or("nothing was acknowledged before")?;
                    return Ok(Duration::from_micros(at.saturating_sub(last)));
                }
                last = Some(at);
            }
            Err("nothing is acknowledged".into())
        })
        .await
    }

    /// Stops the producers, waits for what is under way, and gives what they were told.
    ///
    /// # Errors
    /// A producer's task failed.
    pub async fn finish(mut self) -> Outcome<History> {
        self.stop.send_replace(true);
        self.wait_done().await?;
        Ok(self.history())
    }

    /// Waits until every producer has sent all its records, and gives what they were told.
    ///
    /// # Errors
    /// A producer's task failed, or not in time.
    pub async fn complete(mut self) -> Outcome<History> {
        tokio::time::timeout(DEADLINE, self.wait_done()).await??;
        Ok(self.history())
    }

    async fn wait_done(&mut self) -> Outcome {
        while let Some(joined) = self.tasks.join_next().await {
            joined?;
        }
        Ok(())
    }
}

/// The producer of one partition.
struct Feeder {
    client: Client,
    topic: String,
    partition: u32,
    options: LoadOptions,
    history: Arc<Mutex<History>>,
    stop: watch::Receiver<bool>,
    number: u64,
}

impl Feeder {
    async fn run(mut self) {
        while !self.is_over() {
            match self.client.producer(&self.topic, ProducerOptions::default()).await {
                // It ends with the first error: another producer takes over.
                Ok(producer) => self.feed(&producer).await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow() || self.number >= self.options.end
    }

    async fn feed(&mut self, producer: &Producer) {
        let mut window = VecDeque::new();
        let mut healthy = true;
        while healthy && !self.is_over() {
            while window.len() < self.options.window && !self.is_over() && healthy {
                let value = self.value();
                let send = lock(&self.history).send(self.partition, value.as_bytes());
                let record = ProducerRecord::new(value);
                let record = record.partition(PartitionId::new(self.partition));
                match producer.send(record).await {
                    Ok(delivery) => window.push_back((send, delivery)),
                    Err(error) => {
                        lock(&self.history).settle(send, fate_of(&error));
                        healthy = false;
                    }
                }
            }
            if let Some((send, delivery)) = window.pop_front() {
                healthy &= self.settle(send, delivery).await;
            }
        }
        self.settle_all(&mut window).await;
    }

    fn value(&mut self) -> String {
        let name = format!("{}-{}-", self.partition, self.number);
        self.number += 1;
        let width = self.options.value_bytes;
        format!("{name:=<width$}")
    }

    async fn settle_all(&self, window: &mut VecDeque<(OpId, Delivery)>) {
        while let Some((send, delivery)) = window.pop_front() {
            self.settle(send, delivery).await;
        }
    }

    /// Waits for one record's outcome; says whether the producer can go on.
    async fn settle(&self, send: OpId, delivery: Delivery) -> bool {
        let (fate, healthy) = match delivery.await {
            Ok(stored) => {
                let (offset, epoch) = (Some(stored.offset.get()), stored.leader_epoch.get());
                (Fate::Acknowledged(Placed { offset, epoch }), true)
            }
            Err(error) => (fate_of(&error), false),
        };
        lock(&self.history).settle(send, fate);
        healthy
    }
}

fn fate_of(error: &ClientError) -> Fate {
    match error.kind() {
        ErrorKind::UnknownOutcome => Fate::Unknown,
        _ => Fate::Failed,
    }
}
