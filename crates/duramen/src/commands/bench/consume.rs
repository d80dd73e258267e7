//! How much can be read: consumers that read everything again and again.

use std::path::Path;
use std::time::Duration;

use duramen_client::{Client, ClientError, ConsumerOptions, PartitionId, ProducerRecord, Start};
use tokio::time::Instant;

use super::payload::Payloads;
use super::report::Report;
use super::tally::{Counted, Tally, Window, record};
use super::{Bench, ConsumeArgs};
use crate::error::CliError;
use crate::{limits, numbers};

/// Measures.
pub(super) async fn run(bench: &Bench, args: &ConsumeArgs) -> Result<Report, CliError> {
    let wanted = args.preload_mb.saturating_mul(1_000_000) / u64::from(bench.args.size);
    let count = wanted.max(u64::from(bench.args.partitions));
    bench.say(&format!("writing {} records", numbers::grouped(count)));
    preload(bench, count).await?;
    if let Some(dir) = bench.data.as_ref().filter(|_| args.cold) {
        drop_cached(dir)
            .map_err(|source| CliError::System { action: "drop cached pages", source })?;
    }
    bench.describe(if args.cold { "consume once, cold" } else { "consume" });
    let mut clients = Vec::new();
    for _ in 0..args.consumers {
        clients.push(bench.client().await?);
    }
    let window =
        if args.cold { Window::new(Duration::ZERO, limits::BENCH_PASS) } else { bench.window() };
    let readers = clients.into_iter().map(|client| {
        let read = read(client, bench.topic.clone(), window, args.cold);
        bench.context.env.tasks.critical("bench-consumer", read)
    });
    let counted = Counted::of(readers.collect(), window, &bench.pids).await;
    Ok(Report::new(if args.cold { "consume-cold" } else { "consume" }, bench, &counted))
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
    let producer = client.producer(&bench.topic, bench.producer_options(5, 1)).await?;
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

/// One consumer: everything once, or again and again until the window is over.
async fn read(client: Client, topic: String, window: Window, once: bool) -> Tally {
    let mut tally = Tally::new();
    loop {
        if let Err(error) = pass(&client, &topic, window, &mut tally).await {
            tally.fail(&error);
            return tally;
        }
        if once || Instant::now() >= window.end {
            return tally;
        }
    }
}

/// Reads everything once, or until the window is over.
async fn pass(
    client: &Client,
    topic: &str,
    window: Window,
    tally: &mut Tally,
) -> Result<(), ClientError> {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(topic, options).await?;
    let mut asked = Instant::now();
    while let Some(batch) = consumer.next_batch().await {
        let batch = batch?;
        let now = Instant::now();
        if now >= window.end {
            return Ok(());
        }
        // What a user would do at least: look at every record.
        let records = batch.views().map(|record| u64::from(record.value.is_some())).sum::<u64>();
        if window.contains(now) {
            tally.records += records;
            record(&mut tally.latencies, now - asked);
        }
        asked = Instant::now();
    }
    Ok(())
}
