//! A whole cluster in one thread under one seed: the real broker, Raft, gRPC and SDK on simulated
//! disks, clocks and network.
//!
//! A run founds a cluster of three, produces, cuts the power of a leader while it produces, brings
//! it back, reads everything and compares. What happened is a trace of text lines: the same seed
//! gives the same trace, in any process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, StartOptions};
use duramen_client::{
    Client, ClientOptions, ConsumerOptions, NewTopic, ProducerOptions, ProducerRecord, Start,
};
use duramen_env::{CrashMode, Env, SimDisk, TokioClock};
use duramen_types::{NodeId, PartitionId, Timestamp};
use futures::StreamExt as _;

/// Where simulated time begins: 2026-01-01T00:00:00Z.
const EPOCH: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// A run that takes longer than this in simulated time has failed.
const DURATION_MAX: Duration = Duration::from_secs(300);

const TOPIC: &str = "rings";

/// Any failure of a simulated host or client.
pub type SimError = Box<dyn std::error::Error>;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Records produced in each of the two phases.
    pub records: u32,
}

/// What a run saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Events in their order, with simulated time.
    pub trace: Vec<String>,
    /// Records acknowledged: value by partition and offset.
    pub acknowledged: BTreeMap<(u32, u64), String>,
    /// Records read back at the end.
    pub read: BTreeMap<(u32, u64), String>,
}

type Shared = Rc<RefCell<Report>>;

fn note(shared: &Shared, event: impl std::fmt::Display) {
    let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
    shared.borrow_mut().trace.push(format!("{at} {event}"));
}

fn name(node: u64) -> String {
    format!("node{node}")
}

fn seeds() -> Vec<String> {
    (1..=3).map(|node| format!("{}:7650", name(node))).collect()
}

/// Runs one node until it is stopped or its power is cut.
async fn run_node(seed: u64, node: u64, disk: SimDisk) -> Result<(), SimError> {
    let clock = Arc::new(TokioClock::new(EPOCH));
    let env = Env::sim(seed.wrapping_mul(31).wrapping_add(node), &disk, clock);
    let options = StartOptions {
        node: NodeId::new(node),
        dir: PathBuf::from("/data"),
        seeds: seeds(),
        client_address: format!("{}:7650", name(node)),
        peer_address: format!("{}:7652", name(node)),
        http_address: String::new(),
        rack: String::new(),
        version: "sim".to_owned(),
        disk_reserve_bytes: 0,
    };
    let broker = Broker::open(&env, options)?;
    let clients = Arc::from(env.net.listen("0.0.0.0:7650").await?);
    let peers = Arc::from(env.net.listen("0.0.0.0:7652").await?);
    let serving =
        duramen_grpc::serve(&env, clients, Arc::clone(&broker), std::future::pending::<()>());
    tokio::select! {
        biased;
        ran = broker.run(peers) => ran?,
        served = serving => served?,
    }
    Ok(())
}

/// Runs a scenario to its end.
///
/// # Errors
/// What any part of the run said.
pub fn run(scenario: Scenario) -> Result<Report, SimError> {
    duramen_raft::seed_elections(scenario.seed);
    let shared: Shared = Rc::default();
    let mut sim = turmoil::Builder::new()
        .simulation_duration(DURATION_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(3))
        .tcp_capacity(65_536)
        .rng_seed(scenario.seed)
        .build();
    let disks: Vec<SimDisk> =
        (1..=3).map(|node| SimDisk::new(scenario.seed.wrapping_add(node))).collect();
    for (node, disk) in (1..=3).zip(&disks) {
        let disk = disk.clone();
        sim.host(name(node), move || run_node(scenario.seed, node, disk.clone()));
    }
    let client_report = Rc::clone(&shared);
    sim.client("client", async move {
        client(scenario, client_report).await.map_err(|error| error.to_string().into())
    });
    // The power of node 1, the first leader of partition 0, is cut in the middle of the second
    // phase and comes back later.
    let mut cut = false;
    let mut back = false;
    while !sim.step()? {
        let acknowledged = shared.borrow().acknowledged.len();
        let half = usize::try_from(scenario.records + scenario.records / 2)?;
        if !cut && acknowledged >= half {
            cut = true;
            sim.crash(name(1));
            disks[0].crash(CrashMode::KeepRandom);
            disks[0].reopen();
            let at = sim.elapsed().as_millis();
            shared.borrow_mut().trace.push(format!("{at} power of node 1 cut"));
        }
        if cut && !back && acknowledged >= 2 * usize::try_from(scenario.records)? {
            back = true;
            sim.bounce(name(1));
            let at = sim.elapsed().as_millis();
            shared.borrow_mut().trace.push(format!("{at} node 1 back"));
        }
    }
    drop(sim);
    let report = shared.borrow().clone();
    Ok(report)
}

async fn client(scenario: Scenario, shared: Shared) -> Result<(), SimError> {
    let disk = SimDisk::new(scenario.seed);
    let env = Env::sim(scenario.seed, &disk, Arc::new(TokioClock::new(EPOCH)));
    let client = connect(&env).await?;
    while client.admin().describe_cluster().await?.nodes.len() < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    note(&shared, "three nodes");
    let topic = NewTopic::new(TOPIC).partitions(scenario.partitions).replication_factor(3);
    let topic = client.admin().create_topic(topic).await?;
    note(&shared, format_args!("created {}", topic.id));
    for phase in 0..2 {
        produce(&client, scenario, phase, &shared).await?;
    }
    read(&client, &shared).await
}

/// Connects as soon as a node is there.
async fn connect(env: &Env) -> Result<Client, SimError> {
    loop {
        match Client::with_env(env.clone(), ClientOptions::new(seeds())).await {
            Ok(client) => return Ok(client),
            Err(error) if turmoil::sim_elapsed().is_some_and(|e| e > DURATION_MAX / 4) => {
                return Err(error.into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn produce(
    client: &Client,
    scenario: Scenario,
    phase: u32,
    shared: &Shared,
) -> Result<(), SimError> {
    let producer = client.producer(TOPIC, ProducerOptions::default()).await?;
    for number in 0..scenario.records {
        let partition = number % scenario.partitions;
        let value = format!("{phase}-{number}");
        let record = ProducerRecord::new(value.clone()).partition(PartitionId::new(partition));
        let delivered = producer.send(record).await?.await?;
        let offset = delivered.offset.get();
        note(shared, format_args!("ack {value} at {partition}/{offset}"));
        shared.borrow_mut().acknowledged.insert((partition, offset), value);
    }
    producer.close().await?;
    Ok(())
}

async fn read(client: &Client, shared: &Shared) -> Result<(), SimError> {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(TOPIC, options).await?;
    while let Some(record) = consumer.next().await {
        let record = record?;
        let value = record.value.as_deref().unwrap_or_default();
        let value = String::from_utf8_lossy(value).into_owned();
        let place = (record.partition.get(), record.offset.get());
        note(shared, format_args!("read {value} at {}/{}", place.0, place.1));
        shared.borrow_mut().read.insert(place, value);
    }
    Ok(())
}
