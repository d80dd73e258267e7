//! Very many groups: what they take of memory, how fast they commit, how soon they are back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duramen_client::{Client, GroupOffset, NamedPartition, NewTopic, Offset, PartitionId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{TOPIC, millis};
use crate::campaign::{Figures, Finding};
use crate::processes::{Cluster, Outcome, eventually};

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct ManyOptions {
    /// Groups.
    pub groups: u64,
    /// Offsets of each.
    pub offsets: u32,
    /// Commits under way at a time.
    pub under_way: u64,
    /// Times that every group commits.
    pub times: u64,
}

fn group_name(number: u64) -> String {
    format!("group-{number:06}")
}

/// Makes groups by committing, measures, and starts all nodes again.
///
/// # Errors
/// The cluster or a client did not come up, or a commit failed.
pub async fn many(program: &Path, options: ManyOptions) -> Outcome<(Figures, Vec<Finding>)> {
    let mut cluster = Cluster::start(program, 3).await?;
    let client = cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(options.offsets).replication_factor(3);
    client.admin().create_topic(topic).await?;
    let listed = client.admin().describe_topic(TOPIC).await?;
    let partition = |id| NamedPartition {
        topic: TOPIC.into(),
        topic_id: listed.id,
        partition: PartitionId::new(id),
    };
    let partitions: Arc<[NamedPartition]> = (0..options.offsets).map(partition).collect();
    // The shards are made by the first group.
    let first = [GroupOffset::new(partitions[0].clone(), Offset::ZERO)];
    eventually("the first commit", async || {
        Ok(client.groups().commit(&group_name(0), &first, None).await.map(drop)?)
    })
    .await?;
    let before = resident(&cluster)?;

    let began = Instant::now();
    let took = commit_all(&client, &partitions, options).await?;
    let spent = millis(began.elapsed()).max(1);
    let after = resident(&cluster)?;

    cluster.terminate_all().await?;
    let stopped = Instant::now();
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let ready = stopped.elapsed();
    eventually("all groups are back", async || {
        let list = client.groups().list().await?;
        let groups = list.groups.len() as u64;
        if list.shards_missing.is_empty() && groups == options.groups {
            return Ok(());
        }
        Err(format!("{groups} groups, missing {:?}", list.shards_missing).into())
    })
    .await?;
    let back = stopped.elapsed();

    let commits = took.len() as u64;
    let last = took.len().saturating_sub(1);
    let at = |hundredths: usize| took.get(last * hundredths / 100).copied().unwrap_or_default();
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let grown = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before));
    let mut figures = Figures::default();
    figures
        .set("groups", options.groups)
        .set("offsets_each", options.offsets)
        .set("commits", commits)
        .set("commits_per_s", commits * 1_000 / spent)
        .set("commit_p50_us", micros(at(50)))
        .set("commit_p99_us", micros(at(99)))
        .set("commit_max_us", micros(at(100)))
        .set("grown_mb_per_node_max", grown.max().unwrap_or(0) >> 20)
        .set("ready_after_restart_ms", millis(ready))
        .set("groups_back_after_restart_ms", millis(back));
    cluster.passed();
    Ok((figures, Vec::new()))
}

/// Every group commits every offset, as often as it is to; gives how long each commit took, the
/// shortest first.
async fn commit_all(
    client: &Client,
    partitions: &Arc<[NamedPartition]>,
    options: ManyOptions,
) -> Outcome<Vec<Duration>> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..options.under_way {
        let (client, partitions, next) =
            (client.clone(), Arc::clone(partitions), Arc::clone(&next));
        tasks.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.groups * options.times {
                    return Outcome::Ok(took);
                }
                let offset = Offset::new(number / options.groups);
                let offsets: Vec<GroupOffset> =
                    partitions.iter().map(|of| GroupOffset::new(of.clone(), offset)).collect();
                let started = Instant::now();
                let name = group_name(number % options.groups);
                let refused = client.groups().commit(&name, &offsets, None).await?;
                if !refused.is_empty() {
                    return Err(format!("{refused:?}").into());
                }
                took.push(started.elapsed());
            }
        });
    }
    let mut took: Vec<Duration> = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done??);
    }
    took.sort_unstable();
    Ok(took)
}

/// Memory of each node, in bytes.
fn resident(cluster: &Cluster) -> Outcome<Vec<u64>> {
    cluster.nodes.iter().map(crate::processes::Node::resident_bytes).collect()
}
