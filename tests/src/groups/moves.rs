//! What a move of partitions costs: how long those that move stand still, and that the others do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duramen_client::{GroupDescription, GroupOptions, NewTopic};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::feed::Feed;
use super::{TOPIC, client_of, millis, stable, subscription};
use crate::campaign::{Figures, Finding};
use crate::processes::{Cluster, Outcome};

const GROUP: &str = "moves";

/// Records a second for each partition: two of them lie this far apart when nothing happens.
const PER_PARTITION: u64 = 50;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct MoveOptions {
    /// Partitions of the topic.
    pub partitions: u32,
    /// Members before one more joins.
    pub members: usize,
    /// How long is measured before and after each change, in seconds.
    pub seconds: u64,
    /// The session of all members.
    pub session: Duration,
    /// How long a partition may stand still, the session of a killed member not counted; `None`
    /// where other load makes that mean nothing.
    pub gap_max: Option<Duration>,
}

/// When the last record of each partition was processed, and the longest gap between two.
#[derive(Debug, Default)]
struct Gaps {
    last: BTreeMap<u32, Instant>,
    longest: BTreeMap<u32, Duration>,
}

type SharedGaps = Arc<Mutex<Gaps>>;

fn note(gaps: &SharedGaps, partition: u32) {
    let mut gaps = gaps.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if let Some(before) = gaps.last.insert(partition, now) {
        let longest = gaps.longest.entry(partition).or_default();
        *longest = (now - before).max(*longest);
    }
}

/// The longest gaps since the last call, that from the last record until now included.
fn take(gaps: &SharedGaps) -> BTreeMap<u32, Duration> {
    let mut gaps = gaps.lock().unwrap_or_else(PoisonError::into_inner);
    let mut longest = std::mem::take(&mut gaps.longest);
    for (partition, last) in &gaps.last {
        let longest = longest.entry(*partition).or_default();
        *longest = last.elapsed().max(*longest);
    }
    longest
}

/// A member that processes until it is told how to end: well, or without a word.
struct Runner {
    end: oneshot::Sender<bool>,
    task: JoinSet<Outcome>,
}

impl Runner {
    async fn start(nodes: &[String], session: Duration, gaps: &SharedGaps) -> Outcome<Self> {
        let client = client_of(nodes).await?;
        let options = GroupOptions { session, ..GroupOptions::default() };
        let mut consumer = client.group_consumer(GROUP, subscription(), options).await?;
        let (end, mut ended) = oneshot::channel();
        let gaps = Arc::clone(gaps);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    leaves = &mut ended => {
                        if leaves.unwrap_or(false) {
                            consumer.close().await?;
                        }
                        return Ok(());
                    }
                    next = consumer.next() => {
                        let record = next.ok_or("the consumer ended by itself")??;
                        note(&gaps, record.partition.get());
                    }
                }
            }
        });
        Ok(Self { end, task })
    }

    async fn end(mut self, leaves: bool) -> Outcome {
        // It may have ended by itself, which is what the task says then.
        let _told = self.end.send(leaves);
        self.task.join_next().await.ok_or("it never ran")??
    }
}

/// Who reads each partition.
fn holders(described: &GroupDescription) -> BTreeMap<u32, String> {
    let held = described.partitions.iter().filter_map(|partition| {
        Some((partition.partition.partition.get(), partition.holder.clone()?))
    });
    held.collect()
}

/// The partitions that have another reader than before.
fn changed(before: &BTreeMap<u32, String>, after: &BTreeMap<u32, String>) -> BTreeSet<u32> {
    let changed =
        before.iter().filter(|(partition, holder)| after.get(*partition) != Some(*holder));
    changed.map(|(partition, _)| *partition).collect()
}

/// The longest of some partitions, in milliseconds.
fn longest(gaps: &BTreeMap<u32, Duration>, of: impl Fn(u32) -> bool) -> u64 {
    let of = gaps.iter().filter(|(partition, _)| of(**partition));
    of.map(|(_, gap)| millis(*gap)).max().unwrap_or(0)
}

/// A member joins a stable group; then one of its members is killed.
///
/// # Errors
/// The cluster or a client did not come up, or the group does not get stable.
pub async fn moves(program: &Path, options: MoveOptions) -> Outcome<(Figures, Vec<Finding>)> {
    let cluster = Cluster::start(program, 3).await?;
    let client = cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(options.partitions).replication_factor(3);
    client.admin().create_topic(topic).await?;
    let per_second = PER_PARTITION * u64::from(options.partitions);
    let feed = Feed::start(client.clone(), options.partitions, per_second, u64::MAX);
    let gaps = SharedGaps::default();
    let nodes = cluster.addresses();
    let mut runners = Vec::new();
    for _ in 0..options.members {
        runners.push(Runner::start(&nodes, options.session, &gaps).await?);
    }
    let before = holders(&stable(&client, GROUP, options.members).await?);
    let measured = Duration::from_secs(options.seconds);
    drop(take(&gaps));
    tokio::time::sleep(measured).await;
    let quiet = take(&gaps);

    runners.push(Runner::start(&nodes, options.session, &gaps).await?);
    let joined = stable(&client, GROUP, options.members + 1).await?;
    tokio::time::sleep(measured).await;
    let at_join = take(&gaps);
    let after = holders(&joined);
    let moved = changed(&before, &after);

    let killed = runners.swap_remove(0);
    killed.end(false).await?;
    let gone = stable(&client, GROUP, options.members).await?;
    tokio::time::sleep(measured).await;
    let at_kill = take(&gaps);
    let taken = changed(&after, &holders(&gone));
    for runner in runners {
        runner.end(true).await?;
    }
    feed.stop().await?;

    let mut figures = Figures::default();
    figures
        .set("partitions", options.partitions)
        .set("members", options.members as u64)
        .set("moved", moved.len() as u64)
        .set("session_ms", millis(options.session))
        .set("killed_moved", taken.len() as u64);
    let gaps = [
        ("quiet_gap_max_ms", longest(&quiet, |_| true), Duration::ZERO),
        ("moved_gap_max_ms", longest(&at_join, |of| moved.contains(&of)), Duration::ZERO),
        ("kept_gap_max_ms", longest(&at_join, |of| !moved.contains(&of)), Duration::ZERO),
        ("killed_gap_max_ms", longest(&at_kill, |of| taken.contains(&of)), options.session),
        ("killed_kept_gap_max_ms", longest(&at_kill, |of| !taken.contains(&of)), Duration::ZERO),
    ];
    let mut problems = Vec::new();
    for (name, gap, session) in gaps {
        figures.set(name, gap);
        let most = options.gap_max.map(|most| millis(session + most));
        if let Some(most) = most.filter(|most| gap > *most) {
            problems.push(format!("{name} is {gap}, and {most} is enough"));
        }
    }
    let fair = usize::try_from(options.partitions)? / (options.members + 1);
    if moved.len() > fair {
        problems.push(format!("{} partitions moved, and {fair} are enough", moved.len()));
    }
    let repeat = "cargo xtask groups moves".to_owned();
    let finding = |what| Finding { what, repeat: repeat.clone() };
    let findings: Vec<Finding> = problems.into_iter().map(finding).collect();
    if findings.is_empty() {
        cluster.passed();
    }
    Ok((figures, findings))
}
