//! Consumers come, go and crash, coordinators are killed: every record is processed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duramen_client::{
    Client, GroupConsumer, GroupEvent, GroupEvents, GroupOptions, GroupPhase, NewTopic, PartitionId,
};
use duramen_env::{Random, SeededRandom};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::book::{Book, Tenure};
use super::feed::Feed;
use super::{TOPIC, client_of, subscription};
use crate::campaign::{Figures, Finding, progress};
use crate::processes::{Cluster, Outcome, eventually};

const GROUP: &str = "churn";

/// The session of every consumer: how long the partitions of a crashed one wait.
const SESSION: Duration = Duration::from_secs(3);

/// After the churn everything is processed within this time.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct ChurnOptions {
    /// Records in all.
    pub records: u64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Consumers at a time.
    pub consumers: u64,
    /// How long they come and go, in seconds.
    pub seconds: u64,
    /// How often the coordinator is killed meanwhile.
    pub coordinator_kills: u64,
    /// Who does what when follows from it.
    pub seed: u64,
}

/// What all consumers share.
#[derive(Default)]
struct Shared {
    book: Book,
    over: AtomicBool,
    joins: AtomicU64,
    leaves: AtomicU64,
    crashes: AtomicU64,
    lost: AtomicU64,
    disorder: AtomicU64,
    /// What was processed and not committed before a crash or the end of a membership, as an upper
    /// bound.
    uncommitted: AtomicU64,
    problems: Mutex<Vec<String>>,
}

impl Shared {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn problem(&self, what: String) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// Runs a cluster of three under churn.
///
/// # Errors
/// The cluster or a client did not come up, or the records could not be produced.
pub async fn churn(program: &Path, options: ChurnOptions) -> Outcome<(Figures, Vec<Finding>)> {
    let mut cluster = Cluster::start(program, 3).await?;
    let client = cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(options.partitions).replication_factor(3);
    client.admin().create_topic(topic).await?;

    let shared = Arc::new(Shared::default());
    let seconds = options.seconds.max(1);
    let began = Instant::now();
    let per_second = options.records.div_ceil(seconds).max(1);
    let feed = Feed::start(client.clone(), options.partitions, per_second, options.records);
    let mut consumers = JoinSet::new();
    for slot in 0..options.consumers {
        let random = SeededRandom::new(options.seed * 1_000 + slot);
        consumers.spawn(consume(Arc::clone(&shared), cluster.addresses(), random));
    }
    let mut watching = JoinSet::new();
    watching.spawn(watch(Arc::clone(&shared), client.clone()));

    let kills = kill_coordinators(&mut cluster, &client, options, began).await?;
    tokio::time::sleep_until(began + Duration::from_secs(seconds)).await;
    let sent = feed.finish().await?;
    let ends = ends(&client).await?;
    let drained = drain(&shared, &ends).await;
    shared.over.store(true, Ordering::Relaxed);
    while let Some(consumer) = consumers.join_next().await {
        consumer?;
    }
    let stable_checks = watching.join_next().await.transpose()?.unwrap_or(0);
    let (figures, findings) = report(&options, &shared, sent, &ends, (kills, stable_checks));
    if drained.is_ok() && findings.is_empty() {
        cluster.passed();
    }
    Ok((figures, findings))
}

/// Kills the node that coordinates the group, again and again.
async fn kill_coordinators(
    cluster: &mut Cluster,
    client: &Client,
    options: ChurnOptions,
    began: Instant,
) -> Outcome<u64> {
    let every =
        Duration::from_secs(options.seconds) / u32::try_from(options.coordinator_kills + 1)?;
    for kill in 1..=options.coordinator_kills {
        tokio::time::sleep_until(began + every * u32::try_from(kill)?).await;
        let node = eventually("the group has a coordinator", async || {
            let described = client.groups().describe(GROUP).await?;
            Ok(described.coordinator.ok_or("none named")?)
        })
        .await?;
        cluster.node_named(node).kill().await?;
        progress(format_args!("node {node}, which coordinates the group, is killed"));
        cluster.node_named(node).start()?;
        cluster.wait_ready().await?;
    }
    Ok(options.coordinator_kills)
}

/// One past the last record of each partition.
async fn ends(client: &Client) -> Outcome<BTreeMap<u32, u64>> {
    let listed = client.admin().list_offsets(TOPIC, &BTreeMap::new()).await?;
    let end = |(id, at): (PartitionId, duramen_client::PartitionOffsets)| {
        (id.get(), at.high_watermark.get())
    };
    Ok(listed.into_iter().map(end).collect())
}

async fn drain(shared: &Shared, ends: &BTreeMap<u32, u64>) -> Outcome {
    let until = Instant::now() + DRAINED_WITHIN;
    while shared.book.missing(ends) > 0 {
        if Instant::now() > until {
            return Err("not everything was processed in time".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn report(
    options: &ChurnOptions,
    shared: &Shared,
    sent: u64,
    ends: &BTreeMap<u32, u64>,
    (kills, stable_checks): (u64, u64),
) -> (Figures, Vec<Finding>) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = shared.book.counts();
    let (missing, duplicates) = (shared.book.missing(ends), counts.processed - counts.distinct);
    let mut figures = Figures::default();
    figures
        .set("records", sent)
        .set("partitions", options.partitions)
        .set("seconds", options.seconds)
        .set("coordinator_kills", kills)
        .set("joins", of(&shared.joins))
        .set("leaves", of(&shared.leaves))
        .set("crashes", of(&shared.crashes))
        .set("processed", counts.processed)
        .set("missing", missing)
        .set("out_of_order", of(&shared.disorder))
        .set("duplicates", duplicates)
        .set("duplicates_max", of(&shared.uncommitted))
        .set("memberships_lost", of(&shared.lost))
        .set("stable_checks", stable_checks);
    let mut problems = shared.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if missing > 0 {
        problems.push(format!("{missing} records were processed by nobody"));
    }
    if of(&shared.disorder) > 0 {
        problems.push("records of one partition came out of order".to_owned());
    }
    if duplicates > of(&shared.uncommitted) {
        let most = of(&shared.uncommitted);
        problems.push(format!("{duplicates} duplicates, and only {most} were not committed"));
    }
    if stable_checks == 0 {
        problems.push("the group was never seen stable".to_owned());
    }
    let repeat = format!("cargo xtask groups churn --seed {}", options.seed);
    let finding = |what| Finding { what, repeat: repeat.clone() };
    (figures, problems.into_iter().map(finding).collect())
}

/// Looks at the group all the while: whenever it is stable, every partition has the reader that it
/// ought to have. Gives how often it was.
async fn watch(shared: Arc<Shared>, client: Client) -> u64 {
    let mut seen = 0;
    while !shared.over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Ok(described) = client.groups().describe(GROUP).await else { continue };
        if described.phase != GroupPhase::Stable {
            continue;
        }
        seen += 1;
        let members: BTreeSet<&str> =
            described.members.iter().map(|member| member.member_id.as_str()).collect();
        for partition in &described.partitions {
            let holder = partition.holder.as_deref();
            if holder.is_none_or(|holder| !members.contains(holder))
                || partition.holder != partition.target
            {
                shared.problem(format!("stable, and yet {partition:?}"));
            }
        }
    }
    seen
}

/// One consumer after the other, until all is over.
async fn consume(shared: Arc<Shared>, nodes: Vec<String>, random: SeededRandom) {
    while !shared.over.load(Ordering::Relaxed) {
        let life = Duration::from_millis(1_500 + random.below(7_000));
        let crashes = random.below(3) == 0;
        if let Err(error) = live(&shared, &nodes, life, crashes).await {
            progress(format_args!("a consumer ended: {error}"));
        }
    }
}

async fn live(shared: &Shared, nodes: &[String], life: Duration, crashes: bool) -> Outcome {
    let client = client_of(nodes).await?;
    let options = GroupOptions { session: SESSION, ..GroupOptions::default() };
    let mut consumer = client.group_consumer(GROUP, subscription(), options).await?;
    Shared::add(&shared.joins, 1);
    let events = consumer.events();
    let mut tenure = Tenure::default();
    let read = read(shared, &mut consumer, &mut tenure, Instant::now() + life).await;
    if read.is_ok() && crashes && !shared.over.load(Ordering::Relaxed) {
        Shared::add(&shared.crashes, 1);
        let id = consumer.member_id();
        drop(consumer);
        follow(shared, &events, &mut tenure);
        Shared::add(&shared.uncommitted, uncommitted(&client, &id, &tenure).await);
        return Ok(());
    }
    let ended = match read {
        Ok(()) => consumer.close().await.map_err(Into::into),
        Err(error) => Err(error),
    };
    follow(shared, &events, &mut tenure);
    if ended.is_ok() {
        Shared::add(&shared.leaves, 1);
    } else {
        Shared::add(&shared.uncommitted, tenure.beyond(|_| 0));
    }
    ended
}

/// Processes records until it is time.
async fn read(
    shared: &Shared,
    consumer: &mut GroupConsumer,
    tenure: &mut Tenure,
    end: Instant,
) -> Outcome {
    while !shared.over.load(Ordering::Relaxed) && Instant::now() < end {
        let wake = end.min(Instant::now() + Duration::from_millis(200));
        let Ok(next) = tokio::time::timeout_at(wake, consumer.next()).await else { continue };
        let record = next.ok_or("the consumer ended by itself")??;
        follow(shared, &consumer.events(), tenure);
        let (partition, offset) = (record.partition.get(), record.offset.get());
        shared.book.note(partition, offset);
        if !tenure.note(partition, offset) {
            Shared::add(&shared.disorder, 1);
        }
        record.done();
    }
    Ok(())
}

/// Follows what happened to the consumer's partitions before the record that came last. What was
/// given back was committed before; of what was lost nobody knows.
fn follow(shared: &Shared, events: &GroupEvents, tenure: &mut Tenure) {
    while let Some(event) = events.try_next() {
        match event {
            GroupEvent::Granted(partitions) | GroupEvent::Released(partitions) => {
                for of in partitions {
                    tenure.forget(of.partition.get());
                }
            }
            GroupEvent::Lost(partitions) => {
                Shared::add(&shared.lost, u64::from(!partitions.is_empty()));
                for of in partitions {
                    Shared::add(&shared.uncommitted, tenure.forget(of.partition.get()));
                }
            }
            GroupEvent::Fenced { partition: of, .. } => {
                Shared::add(&shared.uncommitted, tenure.forget(of.partition.get()));
            }
            _ => {}
        }
    }
}

/// What a crashed consumer had processed beyond what is committed: no more than that may be
/// processed again. As long as it is a member, nobody else has gone on.
async fn uncommitted(client: &Client, member_id: &str, tenure: &Tenure) -> u64 {
    let described = client.groups().describe(GROUP).await.ok();
    let described = described
        .filter(|described| described.members.iter().any(|member| member.member_id == member_id));
    let Some(described) = described else { return tenure.beyond(|_| 0) };
    tenure.beyond(|partition| {
        let mut all = described.partitions.iter();
        let found = all.find(|of| of.partition.partition.get() == partition);
        let committed = found.and_then(|found| found.committed.as_ref());
        committed.map_or(0, |committed| committed.offset.get())
    })
}
