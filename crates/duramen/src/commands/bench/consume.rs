//! How much can be read: consumers that read everything again and again.

use std::path::Path;

use duramen_client::{Client, ClientError, ConsumerOptions, PartitionId, ProducerRecord, Start};
use futures::future::join_all;
use tokio::time::Instant;

use super::payload::Payloads;
use super::report::{Counted, Latencies, Report, latencies, record};
use super::usage::Usage;
use super::{Bench, ConsumeArgs};
use crate::error::CliError;
use crate::{limits, numbers, output};

/// What one consumer counted.
struct Tally {
    records: u64,
    latencies: Latencies,
    error: Option<ClientError>,
}

impl Counted {
    fn take(&mut self, tally: Tally) {
        self.records += tally.records;
        self.errors += u64::from(tally.error.is_some());
        self.error = self.error.take().or(tally.error.map(|error| error.to_string()));
        self.latencies.add(&tally.latencies).expect("histograms of the same bounds add up");
    }
}

/// Measures.
pub(super) async fn run(bench: &Bench, args: &ConsumeArgs) -> Result<Report, CliError> {
    let wanted = args.preload_mb.saturating_mul(1_000_000) / u64::from(bench.args.size);
    let count = wanted.max(u64::from(bench.args.partitions));
    output::note(&format!("writing {} records", numbers::grouped(count)));
    preload(bench, count).await?;
    if args.cold {
        return cold(bench, args).await;
    }
    bench.describe("consume");
    let mut clients = Vec::new();
    for _ in 0..args.consumers {
        clients.push(bench.client().await?);
    }
    let begin = Instant::now() + bench.warmup();
    let end = begin + bench.measured();
    let tasks = &bench.context.env.tasks;
    let readers = clients.into_iter().map(|client| {
        tasks.critical("bench-consumer", read(client, bench.topic.clone(), (begin, end)))
    });
    let readers: Vec<_> = readers.collect();
    tokio::time::sleep_until(begin).await;
    let (before, began) = (Usage::now(&bench.pids), Instant::now());
    tokio::time::sleep_until(end).await;
    let (after, took) = (Usage::now(&bench.pids), began.elapsed());
    let mut counted =
        Counted { records: 0, took, latencies: latencies(), errors: 0, error: None, before, after };
    let tallies = join_all(readers.into_iter().map(|reader| reader.join())).await;
    tallies.into_iter().flatten().for_each(|tally| counted.take(tally));
    Ok(Report::new("consume", bench, &counted))
}

/// Everything once, from the disk.
async fn cold(bench: &Bench, args: &ConsumeArgs) -> Result<Report, CliError> {
    if let Some(dir) = &bench.data {
        drop_cached(dir)
            .map_err(|source| CliError::System { action: "drop cached pages", source })?;
    }
    bench.describe("consume once, cold");
    let mut clients = Vec::new();
    for _ in 0..args.consumers {
        clients.push(bench.client().await?);
    }
    let (begin, never) = (Instant::now(), Instant::now() + limits::BENCH_PASS);
    let before = Usage::now(&bench.pids);
    let tasks = &bench.context.env.tasks;
    let topic = &bench.topic;
    let readers = clients.into_iter().map(|client| {
        let topic = topic.clone();
        tasks.critical("bench-consumer", async move {
            let mut tally = Tally { records: 0, latencies: latencies(), error: None };
            let pass = pass(&client, &topic, (begin, never), &mut tally).await;
            tally.error = pass.err();
            tally
        })
    });
    let readers: Vec<_> = readers.collect();
    let tallies = join_all(readers.into_iter().map(|reader| reader.join())).await;
    let (after, took) = (Usage::now(&bench.pids), begin.elapsed());
    let mut counted =
        Counted { records: 0, took, latencies: latencies(), errors: 0, error: None, before, after };
    tallies.into_iter().flatten().for_each(|tally| counted.take(tally));
    Ok(Report::new("consume-cold", bench, &counted))
}

/// Has the system forget what it holds of all files below a directory. They are synced first, for
/// what is not on the disk yet is not forgotten.
fn drop_cached(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cached(&path)?;
        } else if path.is_file() {
            let file = std::fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Writes so many records, the same number to each partition.
async fn preload(bench: &Bench, count: u64) -> Result<(), CliError> {
    let client = bench.client().await?;
    let producer = client.producer(&bench.topic, bench.producer_options(5)).await?;
    let size = usize::try_from(bench.args.size).unwrap_or(usize::MAX);
    let mut payloads = Payloads::new(bench.args.seed, size);
    let partitions = u64::from(bench.args.partitions);
    let mut last = Vec::new();
    for number in 0..count {
        let partition = u32::try_from(number % partitions).unwrap_or(0);
        let record = ProducerRecord::new(payloads.next()).partition(PartitionId::new(partition));
        let delivery = producer.send(record).await?;
        // Later records of a partition are stored only if the earlier ones are.
        if number + partitions >= count {
            last.push(delivery);
        }
    }
    producer.flush().await;
    for delivery in last {
        delivery.await?;
    }
    Ok(producer.close().await?)
}

/// One consumer, until the window is over.
async fn read(client: Client, topic: String, (begin, end): (Instant, Instant)) -> Tally {
    let mut tally = Tally { records: 0, latencies: latencies(), error: None };
    while Instant::now() < end && tally.error.is_none() {
        let pass = pass(&client, &topic, (begin, end), &mut tally).await;
        tally.error = pass.err();
    }
    tally
}

/// Reads everything once.
async fn pass(
    client: &Client,
    topic: &str,
    (begin, end): (Instant, Instant),
    tally: &mut Tally,
) -> Result<(), ClientError> {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(topic, options).await?;
    let mut asked = Instant::now();
    while let Some(batch) = consumer.next_batch().await {
        let batch = batch?;
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        // What a user would do at least: look at every record.
        let records = batch.views().map(|record| u64::from(record.value.is_some())).sum::<u64>();
        if now >= begin {
            tally.records += records;
            record(&mut tally.latencies, now - asked);
        }
        asked = Instant::now();
    }
    Ok(())
}
