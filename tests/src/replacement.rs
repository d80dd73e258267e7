//! The replacement of a replica, with somebody crashed at a chosen moment of it.
//!
//! Four simulated nodes, a partition on three of them. A replica is lost, rots, is moved, or forgets
//! what its disk said was synced, while records are produced; a while after its replacement began the power of one node is cut. In the
//! end the partition has three replicas in sync, the old id is gone from every disk, and every
//! acknowledged record is read back where it was said to be.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, StartOptions};
use duramen_client::{
    Client, ClientOptions, ConsumerOptions, NewTopic, ProducerOptions, ProducerRecord, ReplicaMove,
    Start,
};
use duramen_env::{Corruption, CrashMode, Disk as _, DiskCall, Env, Fault, SimDisk, TokioClock};
use duramen_group::UniformSticky;
use duramen_net::Channel;
use duramen_proto::v1;
use duramen_proto::v1::admin_service_client::AdminServiceClient;
use duramen_types::{NodeId, PartitionId, Timestamp};
use futures::StreamExt as _;

use crate::simulation::SimError;

/// Where simulated time begins: 2026-01-01T00:00:00Z.
const EPOCH: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// A run that takes longer than this in simulated time has failed.
const DURATION_MAX: Duration = Duration::from_secs(60);

/// How long a node stays without power.
const DOWN: Duration = Duration::from_millis(700);

/// How long a node's answer is waited for.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// Records acknowledged while a disk lies.
const LIES: usize = 5;

const TOPIC: &str = "rings";
const NODES: u64 = 4;
const DATA: &str = "/data";
const PARTITIONS: &str = "/data/partitions";

/// What happens to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its directory is gone.
    Lost,
    /// A bit of a sealed segment flips.
    Rotten,
    /// The whole data directory of its node is gone.
    Wiped,
    /// An operator moves it away.
    Moved,
    /// Its disk lied about syncs, and its node loses power.
    Liar,
}

/// Whose power is cut while it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The partition's leader.
    Leader,
    /// The node of the new replica.
    Target,
    /// A replica that stays and does not lead.
    Follower,
    /// The leader of the metadata group.
    Controller,
    /// All nodes at once.
    All,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Rotten, Self::Wiped, Self::Moved, Self::Liar];
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Leader, Self::Target, Self::Follower, Self::Controller, Self::All];
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// What happens to the replica.
    pub loss: Loss,
    /// Whose power is cut.
    pub victim: Victim,
    /// How long after the replacement was first seen.
    pub after: Duration,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, loss, victim, after } = self;
        write!(f, "seed {seed}: {loss:?}, {victim:?} cut after {}ms", after.as_millis())
    }
}

/// What the client and the driver of a run share.
#[derive(Default)]
struct Shared {
    acknowledged: BTreeMap<u64, String>,
    /// Leader, nodes of the replicas and nodes of a replacement, as last described.
    leader: u64,
    controller: u64,
    replicas: Vec<u64>,
    replacement: Option<(u64, u64)>,
    in_sync: usize,
    /// A replacement was seen since the loss.
    seen: bool,
    /// What the client is to do next; it goes up.
    phase: u32,
    move_to: Option<(u64, u64)>,
    done: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("acknowledged", &self.acknowledged.len())
            .field("leader", &self.leader)
            .field("controller", &self.controller)
            .field("replicas", &self.replicas)
            .field("replacement", &self.replacement)
            .field("in_sync", &self.in_sync)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

type Handle = Rc<RefCell<Shared>>;

fn name(node: u64) -> String {
    format!("node{node}")
}

fn seeds() -> Vec<String> {
    (1..=NODES).map(|node| format!("{}:7650", name(node))).collect()
}

/// Runs one node until its power is cut. `boot` makes each life draw other numbers: an id that was
/// drawn once must not be drawn again.
async fn run_node(seed: u64, node: u64, boot: u64, disk: SimDisk) -> Result<(), SimError> {
    let clock = Arc::new(TokioClock::new(EPOCH));
    let drawn = seed.wrapping_mul(31).wrapping_add(node).wrapping_add(boot << 32);
    let env = Env::sim(drawn, &disk, clock);
    let options = StartOptions {
        node: NodeId::new(node),
        dir: PathBuf::from(DATA),
        seeds: seeds(),
        client_address: format!("{}:7650", name(node)),
        peer_address: format!("{}:7652", name(node)),
        http_address: String::new(),
        rack: String::new(),
        version: "sim".to_owned(),
        disk_reserve_bytes: 0,
        snapshot_entries: None,
        group_shards: None,
        group_assignor: &UniformSticky,
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

/// The nodes, their disks, and what the client sees.
struct Run {
    case: Case,
    sim: turmoil::Sim<'static>,
    disks: Vec<SimDisk>,
    shared: Handle,
}

/// Runs a case to its end; gives the number of records acknowledged.
///
/// # Errors
/// What any part of the run said, or which promise was broken.
pub fn run(case: Case) -> Result<usize, SimError> {
    duramen_raft::seed_elections(case.seed);
    let mut sim = turmoil::Builder::new()
        .simulation_duration(DURATION_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(3))
        .tcp_capacity(65_536)
        .rng_seed(case.seed)
        .build();
    let disks: Vec<SimDisk> =
        (1..=NODES).map(|node| SimDisk::new(case.seed.wrapping_add(node))).collect();
    for (node, disk) in (1..=NODES).zip(&disks) {
        let (disk, boots) = (disk.clone(), Cell::new(0));
        sim.host(name(node), move || {
            boots.set(boots.get() + 1);
            run_node(case.seed, node, boots.get(), disk.clone())
        });
    }
    let shared = Handle::default();
    let of_client = Rc::clone(&shared);
    sim.client("client", async move {
        client(case.seed, of_client).await.map_err(|error| error.to_string().into())
    });
    let mut run = Run { case, sim, disks, shared };
    run.drive()?;
    let acknowledged = run.shared.borrow().acknowledged.len();
    Ok(acknowledged)
}

impl Run {
    fn drive(&mut self) -> Result<(), SimError> {
        self.until("a first phase of records", |shared| {
            shared.phase == 1 && shared.leader != 0 && shared.in_sync >= 3
        })?;
        let replicas = self.shared.borrow().replicas.clone();
        let leader = self.shared.borrow().leader;
        // A follower, or, half of the time, the leader itself. Who leads has nobody to notice what
        // it forgets; another one leads when it comes back.
        let follower = replicas.iter().copied().find(|node| *node != leader);
        let is_leader = self.case.seed.is_multiple_of(2) && self.case.loss != Loss::Liar;
        let lost = if is_leader { leader } else { follower.unwrap_or(leader) };
        let old = self.replica_dir(lost)?;
        self.lose(lost, &old)?;
        self.shared.borrow_mut().phase = 2;
        self.until("a replacement", |shared| shared.seen)?;
        self.pass(self.case.after)?;
        self.strike(lost)?;
        self.shared.borrow_mut().phase = 3;
        self.until("the end", |shared| shared.done)?;
        for (node, disk) in (1..).zip(&self.disks) {
            if disk.exists(&old)? {
                return Err(
                    format!("{}: {} is still on node {node}", self.case, old.display()).into()
                );
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), SimError> {
        self.sim.step().map(|_| ()).map_err(|error| format!("{}: {error}", self.case).into())
    }

    fn pass(&mut self, time: Duration) -> Result<(), SimError> {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step()?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Shared) -> bool) -> Result<(), SimError> {
        while !holds(&self.shared.borrow()) {
            if self.sim.elapsed() + Duration::from_secs(1) > DURATION_MAX {
                let shared = self.shared.borrow();
                return Err(format!("{}: waited for ever for {what}: {shared:?}", self.case).into());
            }
            self.step()?;
        }
        Ok(())
    }

    fn disk(&self, node: u64) -> Result<&SimDisk, SimError> {
        Ok(self.disks.get(usize::try_from(node - 1)?).ok_or("no such node")?)
    }

    /// Where the only partition replica of a node is.
    fn replica_dir(&self, node: u64) -> Result<PathBuf, SimError> {
        let entries = self.disk(node)?.list(Path::new(PARTITIONS));
        let entries = entries.map_err(|error| format!("replicas of node {node}: {error}"))?;
        let entry = entries.first().ok_or("the node has no replica")?;
        Ok(Path::new(PARTITIONS).join(&entry.name))
    }

    fn cut(&mut self, node: u64) -> Result<(), SimError> {
        self.sim.crash(name(node));
        let disk = self.disk(node)?;
        disk.crash(CrashMode::KeepRandom);
        disk.reopen();
        Ok(())
    }

    /// Lets a node lose its replica.
    fn lose(&mut self, node: u64, replica: &Path) -> Result<(), SimError> {
        if self.case.loss == Loss::Moved {
            let replicas = self.shared.borrow().replicas.clone();
            let spare = (1..=NODES).find(|other| !replicas.contains(other)).ok_or("no spare")?;
            self.shared.borrow_mut().move_to = Some((node, spare));
            return Ok(());
        }
        if self.case.loss == Loss::Liar {
            return self.forget(node, replica);
        }
        self.cut(node)?;
        let disk = self.disk(node)?;
        match self.case.loss {
            Loss::Lost => disk
                .remove_dir_all(replica)
                .map_err(|error| format!("{} of node {node}: {error}", replica.display()))?,
            Loss::Wiped => disk.remove_dir_all(Path::new(DATA))?,
            Loss::Rotten => {
                let segments = disk.list(replica)?;
                let mut segments = segments.iter().filter(|entry| entry.name.ends_with(".log"));
                let first = segments.next().ok_or("no segment")?;
                disk.corrupt(&replica.join(&first.name), 400, Corruption::FlipBit(3))?;
            }
            Loss::Moved | Loss::Liar => {}
        }
        self.sim.bounce(name(node));
        Ok(())
    }

    /// Lets the disk of a node lie about its replica for a while, and cuts its power.
    fn forget(&mut self, node: u64, replica: &Path) -> Result<(), SimError> {
        let disk = self.disk(node)?.clone();
        let path = replica.to_string_lossy();
        disk.inject(Fault::new(DiskCall::Sync).path_contains(&path).times(u64::MAX).ignored());
        let before = self.shared.borrow().acknowledged.len();
        self.until("records that the disk lied about", |shared| {
            shared.acknowledged.len() >= before + LIES && shared.in_sync >= 3
        })?;
        self.sim.crash(name(node));
        disk.crash(CrashMode::KeepNone);
        disk.clear_faults();
        disk.reopen();
        self.sim.bounce(name(node));
        Ok(())
    }

    /// Cuts somebody's power, for a while.
    fn strike(&mut self, lost: u64) -> Result<(), SimError> {
        let victims = {
            let shared = self.shared.borrow();
            let target = shared.replacement.map_or(lost, |(_, to)| to);
            let follower = shared
                .replicas
                .iter()
                .find(|node| **node != shared.leader && **node != lost && **node != target);
            match self.case.victim {
                Victim::Leader => vec![shared.leader],
                Victim::Target => vec![target],
                Victim::Follower => follower.copied().into_iter().collect(),
                Victim::Controller => vec![shared.controller],
                Victim::All => (1..=NODES).collect(),
            }
        };
        let victims: Vec<u64> = victims.into_iter().filter(|node| *node != 0).collect();
        for node in &victims {
            self.cut(*node)?;
        }
        self.pass(DOWN)?;
        for node in &victims {
            self.sim.bounce(name(*node));
        }
        Ok(())
    }
}

async fn client(seed: u64, shared: Handle) -> Result<(), SimError> {
    let disk = SimDisk::new(seed);
    let env = Env::sim(seed, &disk, Arc::new(TokioClock::new(EPOCH)));
    let client = loop {
        match Client::with_env(env.clone(), ClientOptions::new(seeds())).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    while client.admin().describe_cluster().await?.nodes.len() < 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let topic = NewTopic::new(TOPIC)
        .replication_factor(3)
        .config("segment.bytes", "64KiB")
        .config("max.message.bytes", "16KiB");
    client.admin().create_topic(topic).await?;
    let watching = watch(&env, &client, &shared);
    let working = work(&client, &shared);
    tokio::select! {
        biased;
        watched = watching => watched,
        worked = working => worked,
    }
}

/// Looks at the partition again and again, and moves it when asked to.
async fn watch(env: &Env, client: &Client, shared: &Handle) -> Result<(), SimError> {
    loop {
        let order = shared.borrow_mut().move_to.take();
        if let Some((from, to)) = order {
            let replica = ReplicaMove {
                topic: TOPIC.to_owned(),
                partition: PartitionId::new(0),
                from: NodeId::new(from),
                to: NodeId::new(to),
            };
            client.admin().move_replica(&replica).await?;
            shared.borrow_mut().seen = true;
        }
        if let Ok(cluster) = client.admin().describe_cluster().await {
            shared.borrow_mut().controller = cluster.controller.map_or(0, |node| node.get());
        }
        let asked = futures::future::join_all((1..=NODES).map(|node| ask(env, node))).await;
        note(&mut shared.borrow_mut(), asked.into_iter().flatten());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a node says of the partition: as of which metadata index, and what.
async fn ask(env: &Env, node: u64) -> Option<(u64, u64, v1::Partition)> {
    let address = format!("{}:7650", name(node));
    let mut client = AdminServiceClient::new(Channel::new(env, &address));
    let request = v1::DescribeTopicRequest { name: TOPIC.to_owned(), metadata_index: 0 };
    let answer = tokio::time::timeout(ANSWER_MAX, client.describe_topic(request)).await;
    let reply = answer.ok()?.ok()?.into_inner();
    let partition = reply.topic?.partitions.into_iter().next()?;
    Some((node, reply.metadata_index, partition))
}

/// Takes the newest metadata and the newest leader's word.
fn note(shared: &mut Shared, told: impl Iterator<Item = (u64, u64, v1::Partition)>) {
    let mut newest = 0;
    let mut epoch = 0;
    for (node, index, partition) in told {
        if partition.leader == node && partition.leader_epoch >= epoch {
            epoch = partition.leader_epoch;
            shared.leader = node;
            shared.in_sync = partition.in_sync.len();
        }
        if index >= newest {
            newest = index;
            shared.replicas = partition.replicas;
            shared.replacement = partition.replacement.map(|now| (now.from, now.to));
        }
    }
    shared.seen |= shared.replacement.is_some();
}

/// Produces until the run is settled, then reads everything.
async fn work(client: &Client, shared: &Handle) -> Result<(), SimError> {
    let producer = client.producer(TOPIC, ProducerOptions::default()).await?;
    let mut number = 0_u32;
    let mut settled = 0;
    loop {
        // Large enough that segments fill.
        let value = format!("{number}-{}", "x".repeat(3_000));
        let record = ProducerRecord::new(value.clone()).partition(PartitionId::new(0));
        let delivered = producer.send(record).await?.await?;
        shared.borrow_mut().acknowledged.insert(delivered.offset.get(), value);
        number += 1;
        {
            let mut shared = shared.borrow_mut();
            if shared.phase == 0 && number >= 80 {
                shared.phase = 1;
            }
            let whole = shared.replacement.is_none() && shared.in_sync >= 3;
            settled = if shared.phase == 3 && whole { settled + 1 } else { 0 };
        }
        if settled >= 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    producer.close().await?;
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(TOPIC, options).await?;
    let mut read = BTreeMap::new();
    while let Some(record) = consumer.next().await {
        let record = record?;
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        read.insert(record.offset.get(), value.into_owned());
    }
    if read != shared.borrow().acknowledged {
        return Err("what is read is not what was acknowledged".into());
    }
    shared.borrow_mut().done = true;
    Ok(())
}
