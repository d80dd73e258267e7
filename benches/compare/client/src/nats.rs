//! Work for NATS JetStream, through async-nats. A partition is a stream of its own.

mod sender;

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull, push};
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::{Client, ConnectOptions, jetstream};
use futures::StreamExt;
use futures::future::try_join_all;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::payload::Payloads;
use crate::received::Received;
use crate::report::{Counted, Tally, Window, meter};
use crate::schedule::Schedule;
use crate::{Error, Load};
use sender::Sender;

/// How long the cluster may take to come up.
const READY: Duration = Duration::from_secs(60);

/// How long a consumer waits before it looks around.
const LOOK: Duration = Duration::from_millis(50);

/// How long a consumer may wait for records that are there.
const STALLED: Duration = Duration::from_secs(30);

/// Records asked for at once; below the capacity of a subscription, beyond which they are dropped.
const PULL_RECORDS: usize = 20_000;

/// Measures.
pub(crate) fn produce(load: &Load) -> Result<Counted, Error> {
    Runtime::new()?.block_on(async {
        let server = create_streams(load).await?;
        let window = Window::new(load);
        let sender = Sender::new(connect(&server).await?, load, window).await?;
        let metering = meter(window, &load.pids);
        let mut payloads = Payloads::new(load.size());
        let mut number = 0;
        while !window.is_over() {
            sender.send(number, payloads.next()).await;
            number += 1;
        }
        let (tally, _) = sender.finish().await;
        Ok(Counted { tally, metered: metering.read()? })
    })
}

/// Measures.
pub(crate) fn consume(load: &Load) -> Result<Counted, Error> {
    Runtime::new()?.block_on(async {
        let server = create_streams(load).await?;
        let counts = preload(&server, load).await?;
        let window = Window::new(load);
        let metering = meter(window, &load.pids);
        let context = jetstream::new(connect(&server).await?);
        let mut tally = Tally::new();
        while !window.is_over() && tally.error.is_none() {
            let passes = (0..load.partitions)
                .zip(&counts)
                .map(|(partition, count)| pass(&context, partition, *count, window));
            match try_join_all(passes).await {
                Ok(records) => tally.records += records.iter().sum::<u64>(),
                Err(error) => tally.fail(error.to_string()),
            }
        }
        Ok(Counted { tally, metered: metering.read()? })
    })
}

/// Measures.
pub(crate) fn e2e(load: &Load) -> Result<Counted, Error> {
    let runtime = Runtime::new()?;
    let server = runtime.block_on(create_streams(load))?;
    let client = runtime.block_on(connect(&server))?;
    let mut messages = runtime.block_on(follow(client))?;
    let client = runtime.block_on(connect(&server))?;
    let schedule = Schedule::new(load);
    let sender = runtime.block_on(Sender::new(client, load, schedule.window()))?;
    let metering = meter(schedule.window(), &load.pids);
    let flight = sender.flight();
    let receiving = runtime.spawn(async move {
        let mut received = Received::new(schedule);
        while !received.is_over(flight.finished(), Instant::now()) {
            match timeout(LOOK, messages.next()).await {
                Ok(Some(Ok(message))) => received.take(&message.payload),
                Ok(Some(Err(error))) => received.fail(error.to_string()),
                Ok(None) => {
                    received.fail("the subscription has ended");
                    break;
                }
                Err(_) => {}
            }
        }
        received
    });
    let mut payloads = Payloads::new(load.size());
    // On this thread, which sleeps more precisely than the runtime's timers.
    schedule.beat(|number| runtime.block_on(sender.send(number, payloads.next_numbered(number))));
    let (sent, acknowledged) = runtime.block_on(sender.finish());
    let tally = runtime.block_on(receiving)?.finish(&sent, acknowledged);
    Ok(Counted { tally, metered: metering.read()? })
}

fn stream(partition: u32) -> String {
    format!("bench-{partition}")
}

async fn connect(server: &str) -> Result<Client, Error> {
    Ok(ConnectOptions::new().ignore_discovered_servers().connect(server).await?)
}

/// Creates the streams as soon as the cluster can; answers the server that leads the first of
/// them, to which clients then connect: NATS forwards from any other.
async fn create_streams(load: &Load) -> Result<String, Error> {
    let deadline = Instant::now() + READY;
    loop {
        match try_create_streams(load).await {
            Ok(server) => return Ok(server),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn try_create_streams(load: &Load) -> Result<String, Error> {
    let context = jetstream::new(connect(&load.servers[0]).await?);
    let mut leader = 0;
    for partition in (0..load.partitions).rev() {
        let config = Config {
            name: stream(partition),
            subjects: vec![stream(partition)],
            storage: StorageType::File,
            num_replicas: usize::try_from(load.replicas)?,
            ..Config::default()
        };
        let mut stream = context.get_or_create_stream(config).await?;
        // Nodes are named by their place in the list.
        let cluster = stream.info().await?.cluster.as_ref().filter(|_| load.servers.len() > 1);
        if let Some(cluster) = cluster {
            let name = cluster.leader.as_deref().ok_or("no leader yet")?;
            leader = load
                .servers
                .iter()
                .zip(1..)
                .position(|(_, id)| name == format!("n{id}"))
                .ok_or("a leader that is not among the servers")?;
            let in_sync = cluster.replicas.iter().filter(|replica| replica.current).count() + 1;
            if in_sync < usize::try_from(load.replicas)? {
                return Err("not all replicas are in sync".into());
            }
        }
    }
    Ok(load.servers[leader].clone())
}

/// Writes what will be read; answers how many records that is for each partition.
async fn preload(server: &str, load: &Load) -> Result<Vec<u64>, Error> {
    let count = load.preload();
    let sender = Sender::new(connect(server).await?, load, Window::new(load)).await?;
    let mut payloads = Payloads::new(load.size());
    for number in 0..count {
        sender.send(number, payloads.next()).await;
    }
    let (tally, _) = sender.finish().await;
    if let Some(error) = tally.error {
        return Err(error.into());
    }
    Ok(load.preloads())
}

/// Reads a partition once, or until the window is over; answers how many records count.
async fn pass(
    context: &jetstream::Context,
    partition: u32,
    count: u64,
    window: Window,
) -> Result<u64, Error> {
    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = context.create_consumer_on_stream(config, stream(partition)).await?;
    let mut messages = consumer.stream().max_messages_per_batch(PULL_RECORDS).messages().await?;
    let mut records = 0;
    for _ in 0..count {
        let message =
            timeout(STALLED, messages.next()).await?.ok_or("the consumer has ended")??;
        let now = Instant::now();
        if now >= window.end {
            break;
        }
        // What a user would do at least: look at every record.
        records += u64::from(window.contains(now) && !message.payload.is_empty());
    }
    Ok(records)
}

/// A consumer that gets every record as soon as it is there.
async fn follow(client: Client) -> Result<push::Ordered, Error> {
    let deliver_subject = client.new_inbox();
    let config = push::OrderedConfig { deliver_subject, ..push::OrderedConfig::default() };
    let consumer = jetstream::new(client).create_consumer_on_stream(config, stream(0)).await?;
    Ok(consumer.messages().await?)
}
