//! kill -9 under load: of a leader, again and again, and of all nodes at once. And a good end.

use std::time::Duration;

use duramen_client::{
    Client, ConsumerOptions, NewTopic, PartitionId, ProducerOptions, ProducerRecord, Start,
};
use duramen_tests::processes::{Cluster, Load, LoadOptions, Outcome, say, size};
use futures::StreamExt as _;

use crate::{check_histories, cluster_with, verify_all};

const TOPIC: &str = "rings";
const PARTITIONS: u32 = 3;

/// Records of each partition that must be acknowledged before and between the blows.
const CALM: usize = 30;

async fn cluster_under_load() -> Outcome<(Cluster, Client, Load)> {
    let (cluster, client) = cluster_with(NewTopic::new(TOPIC).partitions(PARTITIONS)).await?;
    let options = LoadOptions { partitions: PARTITIONS, ..LoadOptions::default() };
    let load = Load::start(&client, TOPIC, options);
    load.wait_acknowledged(PARTITIONS, CALM).await?;
    Ok((cluster, client, load))
}

/// Kills the leader of a partition, waits for the next one, and brings the killed one back.
async fn round(cluster: &mut Cluster, load: &Load, number: u64) -> Outcome<Duration> {
    let partition = u32::try_from(number % u64::from(PARTITIONS))?;
    let (leader, epoch) = cluster.leader(TOPIC, PartitionId::new(partition)).await?;
    cluster.node(leader).kill().await?;
    let gap = load.wait_failover(partition, epoch).await?;
    // The others go on, and so does every partition that it led.
    load.wait_acknowledged(PARTITIONS, CALM).await?;
    cluster.node(leader).start()?;
    cluster.node(leader).wait_ready().await?;
    cluster.wait_in_sync(TOPIC, 3).await?;
    Ok(gap)
}

/// Freezes the leader of a partition until another one leads, and lets it go on.
async fn frozen_round(cluster: &mut Cluster, load: &Load, number: u64) -> Outcome<Duration> {
    let partition = u32::try_from(number % u64::from(PARTITIONS))?;
    let (leader, epoch) = cluster.leader(TOPIC, PartitionId::new(partition)).await?;
    cluster.node(leader).freeze()?;
    let gap = load.wait_failover(partition, epoch).await?;
    // It wakes up as a leader that nobody follows any more.
    cluster.node(leader).thaw()?;
    load.wait_acknowledged(PARTITIONS, CALM).await?;
    cluster.wait_in_sync(TOPIC, 3).await?;
    Ok(gap)
}

fn say_figures(what: &str, mut gaps: Vec<Duration>) {
    gaps.sort_unstable();
    let worst = gaps.last().copied().unwrap_or_default();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let (rounds, median, worst) = (gaps.len(), median.as_millis(), worst.as_millis());
    let best = gaps.first().copied().unwrap_or_default().as_millis();
    say(format_args!("{what}: {rounds} rounds, {best} ms, median {median} ms, worst {worst} ms"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_leaders_are_killed_again_and_again() {
    let (mut cluster, client, load) = cluster_under_load().await.unwrap();
    let mut gaps = Vec::new();
    for number in 0..size("DURAMEN_ROUNDS", 3) {
        gaps.push(round(&mut cluster, &load, number).await.unwrap());
    }
    let history = load.finish().await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    say_figures("failover after kill -9 of a leader", gaps);
    say(format_args!("{counts:?}"));
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_overwrites_nothing() {
    let (mut cluster, client, load) = cluster_under_load().await.unwrap();
    let mut gaps = Vec::new();
    for number in 0..size("DURAMEN_FREEZES", 1) {
        gaps.push(frozen_round(&mut cluster, &load, number).await.unwrap());
    }
    let history = load.finish().await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    say_figures("failover after SIGSTOP of a leader", gaps);
    say(format_args!("{counts:?}"));
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once() {
    let (mut cluster, client, load) = cluster_under_load().await.unwrap();
    for _ in 0..size("DURAMEN_POWER_ROUNDS", 1) {
        cluster.kill_all().await.unwrap();
        cluster.start_all().unwrap();
        cluster.wait_ready().await.unwrap();
        // Every partition serves again by itself.
        load.wait_acknowledged(PARTITIONS, CALM).await.unwrap();
    }
    let history = load.finish().await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    say(format_args!("kill -9 of all nodes at once: {counts:?}"));

    cluster.terminate_all().await.unwrap();
    let verified = verify_all(&cluster).await.unwrap();
    assert_eq!(verified.findings.len(), 3 * (1 + 3), "metadata and three partitions on each");
    check_histories(&verified);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_the_streams_that_its_clients_keep_open() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let producer = client.producer(TOPIC, ProducerOptions::default()).await.unwrap();
    producer.send(ProducerRecord::new("first")).await.unwrap().await.unwrap();
    let options = ConsumerOptions::default().start(Start::First);
    let mut consumer = client.consumer(TOPIC, options).await.unwrap();
    consumer.next().await.unwrap().unwrap();
    // Both streams are idle now, and stay open on the side of the clients.
    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    cluster.node(leader).terminate().await.unwrap();
    let log = cluster.node(leader).log().unwrap();
    assert!(!log.contains("clients kept their streams open"), "{log}");
    // The clients go on with the next leader.
    producer.send(ProducerRecord::new("second")).await.unwrap().await.unwrap();
    let read = consumer.next().await.unwrap().unwrap();
    assert_eq!(read.value.as_deref(), Some(b"second".as_slice()));
    cluster.passed();
}
