//! Producers, consumers and observers of one topic, all at once, as long as they are wanted.

use std::time::Duration;

use duramen_checker::Key;
use duramen_client::{Client, ProducerOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Arena;
use super::observer::Observer;
use super::producer::Feeder;
use super::reader::Reader;
use super::recorder::{LOOK, Recorder};
use crate::processes::Outcome;

/// Bytes that close a batch of every third producer: a few records, so that several batches are
/// under way and those that are sent again could come out of order.
const SMALL_BATCH_BYTES: usize = 200;

/// How long every third producer waits for an answer: shorter than most strikes, so that it does not
/// learn what became of its records.
const IMPATIENCE: Duration = Duration::from_millis(1_000);

/// How much is produced and read.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Partitions of the topic, one producer each.
    pub partitions: u32,
    /// Records of each that may be under way.
    pub window: usize,
    /// Wait of each between two records, so that long runs do not fill the disk.
    pub pace: Duration,
    /// Consumers of all partitions; every second one jumps back now and then.
    pub readers: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { partitions: 3, window: 8, pace: Duration::from_millis(2), readers: 2 }
    }
}

/// Clients under way.
#[derive(Debug)]
pub struct Load {
    recorder: Recorder,
    partitions: u32,
    stop: watch::Sender<bool>,
    producers: JoinSet<u64>,
    others: JoinSet<()>,
}

impl Load {
    /// Starts the clients of a topic; what they see goes into the recorder.
    #[must_use]
    pub fn start(
        arena: &Arena,
        client: &Client,
        topic: &str,
        recorder: &Recorder,
        options: LoadOptions,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let mut producers = JoinSet::new();
        for key in 0..options.partitions {
            let process = recorder.process();
            let feeder = Feeder {
                client: client.clone(),
                topic: topic.to_owned(),
                key,
                options: producer_options(key),
                window: options.window,
                pace: options.pace,
                recorder: recorder.clone(),
                process,
                stop: stop.subscribe(),
                // Like no other producer's, of this load or another.
                next: u64::from(process) << 32,
            };
            producers.spawn(feeder.run());
        }
        let mut others = JoinSet::new();
        for number in 0..options.readers {
            let reader = Reader {
                client: client.clone(),
                topic: topic.to_owned(),
                keys: options.partitions,
                recorder: recorder.clone(),
                process: recorder.process(),
                stop: stop.subscribe(),
                jumps: number % 2 == 1,
            };
            others.spawn(reader.run());
        }
        for node in &arena.cluster.nodes {
            let observer = Observer {
                node: node.id,
                wire: node.wire(),
                lives: arena.lives(),
                topic: topic.to_owned(),
                recorder: recorder.clone(),
                stop: stop.subscribe(),
            };
            others.spawn(observer.run());
        }
        let (recorder, partitions) = (recorder.clone(), options.partitions);
        Self { recorder, partitions, stop, producers, others }
    }

    /// Waits until a record of each partition that was sent after a moment is acknowledged; says
    /// how long after that moment this was.
    ///
    /// # Errors
    /// Not within the time given: the partitions that do not serve.
    pub async fn wait_serving(&self, since: Instant, within: Duration) -> Outcome<Duration> {
        loop {
            let unserved = self.recorder.unserved(self.partitions, since);
            let waited = since.elapsed();
            if unserved.is_empty() {
                return Ok(waited);
            }
            if waited > within {
                return Err(dead(&unserved, within).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops all clients and waits for what is under way.
    ///
    /// # Errors
    /// A client's task failed.
    pub async fn finish(mut self) -> Outcome {
        self.stop.send_replace(true);
        while let Some(joined) = self.producers.join_next().await {
            joined?;
        }
        while let Some(joined) = self.others.join_next().await {
            joined?;
        }
        Ok(())
    }
}

fn dead(unserved: &[Key], within: Duration) -> String {
    format!("partitions {unserved:?} do not serve again within {} s", within.as_secs())
}

/// Producers of three kinds, in turn: as they are, with small batches, and impatient.
fn producer_options(key: Key) -> ProducerOptions {
    match key % 3 {
        0 => ProducerOptions::default(),
        1 => ProducerOptions { delivery_timeout: IMPATIENCE, ..ProducerOptions::default() },
        _ => ProducerOptions {
            linger: Duration::ZERO,
            batch_bytes: SMALL_BATCH_BYTES,
            ..ProducerOptions::default()
        },
    }
}
