//! A replay into a topic: each record once, also across interruptions.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use duramen_client::{
    Client, ClientError, Consumer, ConsumerOptions, ConsumerRecord, Delivery, End, Offset,
    PartitionId, Producer, ProducerOptions, ProducerRecord, Start, TopicDescription,
};
use duramen_record::partition_for_key;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pace::Pace;
use super::plan::Plan;
use super::source::Source;
use super::state::{self, Selection, State};
use super::tail::Tail;
use crate::context::Context;
use crate::error::CliError;
use crate::signals::Signals;
use crate::{limits, numbers, output};

/// A replay from one topic into another.
pub(super) struct Transfer {
    pub(super) context: Context,
    pub(super) client: Client,
    pub(super) source: TopicDescription,
    pub(super) target: TopicDescription,
    /// Where the state is kept.
    pub(super) path: PathBuf,
    pub(super) selection: Selection,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    /// Forget an earlier state.
    pub(super) restart: bool,
    /// Merge the source's partitions by timestamp.
    pub(super) merge: bool,
}

/// The ends of target partitions that are to be looked through.
type Tails = BTreeMap<u32, Tail<Consumer>>;

/// What was done.
#[derive(Debug, Serialize)]
struct Summary {
    from: String,
    to: String,
    /// Records written by this run.
    written: u64,
    /// Records that an interrupted run had written beyond its last note.
    found: u64,
    /// Records that are in the target from all runs of this replay.
    total: u64,
    resumed: bool,
    seconds: f64,
    records_per_s: f64,
}

impl Transfer {
    /// Replays until the ranges are done, something fails or a signal comes.
    pub(super) async fn run(self, pace: Pace, signals: &mut Signals) -> Result<(), CliError> {
        let disk = &*self.context.env.disk;
        let dir = state::parent(&self.path);
        disk.create_dir_all(dir).map_err(CliError::file("create", dir))?;
        let lock_path = self.path.with_extension("lock");
        let _lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                CliError::Failed("this replay is running already, in another process".into())
            }
            _ => CliError::file("lock", &lock_path)(error),
        })?;
        let (mut state, resumed) = self.state().await?;
        let tails = match state.is_exact {
            true => BTreeMap::new(),
            false => tokio::select! {
                tails = self.tails(&mut state) => tails?,
                () = signals.next() => return Err(CliError::Interrupted),
            },
        };
        state.is_exact = false;
        state.save(disk, &self.path)?;

        let source = Source::open(&self.client, &self.source.name, &state.plan, self.merge).await?;
        let options = ProducerOptions {
            record_bytes_max: limits::RECORD_BYTES_MAX,
            ..ProducerOptions::default()
        };
        let producer = self.client.producer(&self.target.name, options).await?;
        let partitions = producer.partitions();
        let mut feed =
            Feed { source, producer, tails, pace, by_key: self.selection.by_key, partitions };
        let (items, waiting) = mpsc::channel(limits::DELIVERIES);
        let mut keeper = Keeper { transfer: &self, state, written: 0, found: 0 };
        let clock = &self.context.env.clock;
        let start = clock.monotonic();
        let (fed, kept) =
            tokio::join!(Box::pin(feed.run(items, signals)), Box::pin(keeper.run(waiting)));
        let took = clock.monotonic().saturating_sub(start);
        // What an earlier run has written and this one has not come to is still to be looked for.
        keeper.state.is_exact = kept.is_ok() && feed.tails.values().all(Tail::is_exhausted);
        keeper.finish(kept.and(fed), resumed, took)
    }

    /// The state to go on from, and whether there was one.
    async fn state(&self) -> Result<(State, bool), CliError> {
        let disk = &*self.context.env.disk;
        let topics = (self.source.id, self.target.id);
        let cluster = self.client.cluster_id();
        if !self.restart
            && let Some(state) = State::load(disk, &self.path)?
        {
            state.check(cluster, topics, &self.selection, &self.path)?;
            let done = numbers::grouped(state.written);
            output::note(&format!("going on: {done} records of this replay are noted as written"));
            return Ok((state, true));
        }
        let plan =
            Plan::new(&self.client, &self.source, &self.selection, self.since, self.until).await?;
        let ends = self.target_ends().await?;
        let state = State::new(cluster, topics, self.selection.clone(), plan, ends);
        Ok((state, false))
    }

    async fn target_ends(&self) -> Result<BTreeMap<u32, u64>, CliError> {
        let found = self.client.admin().list_offsets(&self.target.name, &BTreeMap::new()).await?;
        let end = |(id, offsets): (PartitionId, duramen_client::PartitionOffsets)| {
            (id.get(), offsets.high_watermark.get())
        };
        Ok(found.into_iter().map(end).collect())
    }

    /// What was written to the target behind the noted watermarks, once nothing more arrives.
    async fn tails(&self, state: &mut State) -> Result<Tails, CliError> {
        let ends = self.settled_ends().await?;
        let mut tails = BTreeMap::new();
        for (partition, end) in ends {
            let noted = *state.watermarks.entry(partition).or_insert(end);
            if noted < end {
                let id = PartitionId::new(partition);
                let options = ConsumerOptions {
                    partitions: Some(vec![id]),
                    start: Start::Offset(Offset::new(noted)),
                    end: End::Offsets([(id, Offset::new(end))].into()),
                    ..ConsumerOptions::default()
                };
                let consumer = self.client.consumer(&self.target.name, options).await?;
                tails.insert(partition, Tail::new(consumer));
            }
        }
        Ok(tails)
    }

    /// Where the target's partitions end once that has not changed for a while.
    async fn settled_ends(&self) -> Result<BTreeMap<u32, u64>, CliError> {
        let mut ends = self.target_ends().await?;
        let mut since = Instant::now();
        while since.elapsed() < limits::SETTLE {
            tokio::time::sleep(limits::SETTLE / 10).await;
            let now = self.target_ends().await?;
            if now != ends {
                ends = now;
                since = Instant::now();
            }
        }
        Ok(ends)
    }
}

/// A due record on its way: where it comes from, and where it is or will be.
#[derive(Debug)]
struct Item {
    /// Source partition, and the offset behind the record.
    source: (u32, u64),
    /// Target partition.
    target: u32,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// An interrupted run has written it here.
    Found(Offset),
    /// It is under way.
    Sent(Delivery),
}

/// Reads, paces and sends.
struct Feed {
    source: Source,
    producer: Producer,
    tails: Tails,
    pace: Pace,
    by_key: bool,
    partitions: u32,
}

impl Feed {
    async fn run(
        &mut self,
        items: mpsc::Sender<Item>,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        let outcome = self.pump(items, signals).await;
        self.producer.flush().await;
        outcome
    }

    async fn pump(
        &mut self,
        items: mpsc::Sender<Item>,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        loop {
            let record = tokio::select! {
                biased;
                () = signals.next() => return Err(CliError::Interrupted),
                // A delivery has failed: what comes after it must not be stored without it.
                () = items.closed() => return Ok(()),
                record = self.source.next() => record?,
            };
            let Some(record) = record else { return Ok(()) };
            check_headers(&record)?;
            let target = self.route(&record);
            let source = (record.partition.get(), record.offset.get() + 1);
            let found = match self.tails.get_mut(&target) {
                Some(tail) => tail.find(&record).await?,
                None => None,
            };
            let place = match found {
                Some(offset) => Place::Found(offset),
                None => {
                    if let Some(due) = self.pace.due(record.timestamp) {
                        tokio::select! {
                            () = tokio::time::sleep_until(due) => {}
                            () = signals.next() => return Err(CliError::Interrupted),
                        }
                    }
                    Place::Sent(self.producer.send(produced(record, target)).await?)
                }
            };
            if items.send(Item { source, target, place }).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The partition of a record: its own, or that of its key. A record without a key keeps to the
    /// order of its source partition.
    fn route(&self, record: &ConsumerRecord) -> u32 {
        let own = record.partition.get();
        match &record.key {
            _ if !self.by_key => own,
            Some(key) => partition_for_key(key, self.partitions).get(),
            None => own.checked_rem(self.partitions).unwrap_or(0),
        }
    }
}

/// Refuses a record that could not be written as it is.
fn check_headers(record: &ConsumerRecord) -> Result<(), CliError> {
    let lossy = |key: &str| key.contains(char::REPLACEMENT_CHARACTER);
    match record.headers.iter().find(|header| lossy(&header.key)) {
        None => Ok(()),
        Some(_) => Err(CliError::Failed(format!(
            "the record at offset {} of partition {} has a header name that is not UTF-8: it could \
             not be written unchanged",
            record.offset, record.partition
        ))),
    }
}

fn produced(record: ConsumerRecord, target: u32) -> ProducerRecord {
    ProducerRecord {
        partition: Some(PartitionId::new(target)),
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp: Some(record.timestamp),
    }
}

/// Waits for the records in order and notes how far they are.
struct Keeper<'a> {
    transfer: &'a Transfer,
    state: State,
    written: u64,
    found: u64,
}

impl Keeper<'_> {
    async fn run(&mut self, mut waiting: mpsc::Receiver<Item>) -> Result<(), CliError> {
        let mut noted = Instant::now();
        let mut outcome: Result<(), ClientError> = Ok(());
        while let Some(item) = waiting.recv().await {
            if outcome.is_err() {
                // It is found in the target when the replay goes on.
                continue;
            }
            match settle(item.place).await {
                Ok((offset, was_found)) => {
                    self.state.stored(item.source, (item.target, offset.get() + 1));
                    self.found += u64::from(was_found);
                    self.written += u64::from(!was_found);
                }
                Err(error) => {
                    waiting.close();
                    outcome = Err(error);
                }
            }
            if noted.elapsed() >= limits::CHECKPOINT_INTERVAL {
                self.save()?;
                noted = Instant::now();
            }
        }
        Ok(outcome?)
    }

    fn save(&self) -> Result<(), CliError> {
        self.state.save(&*self.transfer.context.env.disk, &self.transfer.path)
    }

    /// Says what was done; a replay that is done forgets its state, another keeps it.
    fn finish(
        self,
        outcome: Result<(), CliError>,
        resumed: bool,
        took: Duration,
    ) -> Result<(), CliError> {
        if let Err(error) = outcome {
            self.save()?;
            output::note(&format!(
                "{} records are written; run the same command again to go on",
                numbers::grouped(self.state.written)
            ));
            return Err(error);
        }
        let (disk, path) = (&self.transfer.context.env.disk, &self.transfer.path);
        disk.remove_file(path).map_err(CliError::file("remove", path))?;
        let summary = Summary {
            from: self.transfer.source.name.clone(),
            to: self.transfer.target.name.clone(),
            written: self.written,
            found: self.found,
            total: self.state.written,
            resumed,
            seconds: took.as_secs_f64(),
            records_per_s: numbers::rounded(numbers::per_second(self.written, took)),
        };
        if self.transfer.context.json {
            return output::json(&summary);
        }
        let found = match summary.found {
            0 => String::new(),
            found => format!(", {} were there already", numbers::grouped(found)),
        };
        output::line(&format!(
            "{} records from {} into {} in {:.2} s ({} records/s){found}",
            numbers::grouped(summary.written),
            summary.from,
            summary.to,
            summary.seconds,
            numbers::grouped_rate(summary.records_per_s),
        ))
    }
}

/// Where a record is, once that is known, and whether it was there before.
async fn settle(place: Place) -> Result<(Offset, bool), ClientError> {
    match place {
        Place::Found(offset) => Ok((offset, true)),
        Place::Sent(delivery) => Ok((delivery.await?.offset, false)),
    }
}
