//! Processes a topic as one member of a group, many records at a time, those of one key in order:
//! `group GROUP TOPIC`. Start it twice and the two share the partitions.
//!
//! The servers are in `DURAMEN_SERVERS`, separated by commas.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};

use duramen_client::{Client, ClientOptions, GroupOptions, GroupRecord, GroupSubscription};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const WORKERS: u64 = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::var("DURAMEN_SERVERS").unwrap_or_else(|_| "127.0.0.1:7650".into());
    let mut arguments = std::env::args().skip(1);
    let group = arguments.next().ok_or("usage: group GROUP TOPIC")?;
    let topic = arguments.next().ok_or("usage: group GROUP TOPIC")?;

    // Each worker takes its records one after the other, and says of each when it is done. What is
    // committed is everything before the first record that is not done, in whatever order they end.
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for worker in 0..WORKERS {
        let (queue, mut records) = mpsc::channel::<GroupRecord>(16);
        queues.push(queue);
        workers.spawn(async move {
            while let Some(record) = records.recv().await {
                println!("worker {worker}: {}-{}", record.partition, record.offset);
                record.done();
            }
        });
    }

    let client = Client::connect(ClientOptions::new(servers.split(','))).await?;
    let topics = GroupSubscription::topics([topic]);
    let options = GroupOptions::default().explicit();
    let mut consumer = client.group_consumer(&group, topics, options).await?;
    loop {
        let record = tokio::select! {
            record = consumer.next() => record,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(record) = record.transpose()? else { break };
        // The same key is always the same worker's; when its queue is full, all wait.
        let mut hasher = DefaultHasher::new();
        record.key.hash(&mut hasher);
        let worker = usize::try_from(hasher.finish() % WORKERS)?;
        queues[worker].send(record).await?;
    }
    // The workers end with their queues; then everything is done and can be committed.
    drop(queues);
    while workers.join_next().await.is_some() {}
    consumer.close().await?;
    Ok(())
}
