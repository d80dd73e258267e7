//! A consumer whose process stands still for longer than its session.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use duramen_client::{
    Client, ClientError, GroupEvent, GroupOptions, GroupRecord, NewTopic, PartitionId,
};

use tokio::task::JoinSet;

use super::{TOPIC, client_of, stable, subscription};
use crate::processes::{Cluster, Outcome};

const GROUP: &str = "zombie";
const SESSION: Duration = Duration::from_millis(1_500);

/// Records before it stands still.
const RECORDS: u32 = 200;

/// What a consumer found when its process went on.
#[derive(Debug)]
struct Woken {
    /// Whether it took itself for a member before it was told anything.
    sure: bool,
    /// What became of a commit of what it had processed before.
    commit: Result<Vec<Result<(), ClientError>>, ClientError>,
    /// Whether the record that it had still counted as its own.
    current: bool,
    /// Under which id it was a member before, and when it was handed the next record.
    ids: (String, String),
}

/// A consumer stands still past its session and goes on: it can commit nothing, and is handed
/// nothing before it is a member again.
///
/// # Errors
/// In words, what it could do.
#[expect(clippy::disallowed_methods, reason = "a thread that stands still must be the test's own")]
pub async fn zombie(program: &Path) -> Outcome {
    let cluster = Cluster::start(program, 3).await?;
    let client = cluster.client().await?;
    client.admin().create_topic(NewTopic::new(TOPIC).partitions(2).replication_factor(3)).await?;
    produce(&client, RECORDS).await?;
    let (frozen, is_frozen) = tokio::sync::oneshot::channel();
    let (go_on, told) = mpsc::sync_channel(1);
    let nodes = cluster.addresses();
    // A thread with a runtime of its own stands for a process.
    let sleeper = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(sleep_past_session(&nodes, frozen, &told))
    });
    is_frozen.await?;

    // Another one takes over, from the first record on: the first one has committed nothing.
    let options = GroupOptions { session: SESSION, ..GroupOptions::default() };
    let mut other = client.group_consumer(GROUP, subscription(), options).await?;
    stable(&client, GROUP, 1).await?;
    let mut seen = 0;
    while seen < RECORDS {
        let record = other.next().await.ok_or("the other ended")??;
        record.done();
        seen += 1;
    }
    let before = client.groups().describe(GROUP).await?;
    go_on.send(())?;
    produce(&client, 50).await?;
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        while let Some(Ok(record)) = other.next().await {
            record.done();
        }
    });
    let woken = tokio::task::spawn_blocking(move || sleeper.join())
        .await?
        .map_err(|_panic| "the sleeper panicked")??;
    reading.abort_all();

    if woken.sure || woken.current {
        return Err(format!("it took itself for a member: {woken:?}").into());
    }
    if woken.commit.as_ref().is_ok_and(|all| all.iter().any(Result::is_ok)) {
        return Err(format!("it could commit: {woken:?}").into());
    }
    if woken.ids.0 == woken.ids.1 {
        return Err("it was handed a record as the member that it was".into());
    }
    let after = client.groups().describe(GROUP).await?;
    for (was, is) in before.partitions.iter().zip(&after.partitions) {
        let offset = |of: &duramen_client::GroupPartition| of.committed.as_ref().map(|c| c.offset);
        if offset(was) > offset(is) {
            return Err(format!("a commit went back: {was:?}, then {is:?}").into());
        }
    }
    cluster.passed();
    Ok(())
}

async fn sleep_past_session(
    nodes: &[String],
    frozen: tokio::sync::oneshot::Sender<()>,
    told: &mpsc::Receiver<()>,
) -> Outcome<Woken> {
    let client = client_of(nodes).await?;
    let options = GroupOptions { session: SESSION, ..GroupOptions::default() };
    let mut consumer = client.group_consumer(GROUP, subscription(), options.explicit()).await?;
    let before = consumer.member_id();
    let mut held: Vec<GroupRecord> = Vec::new();
    for _ in 0..10 {
        held.push(consumer.next().await.ok_or("it ended")??);
    }
    // Nothing of this thread runs until the other one has taken over: no heartbeat either.
    let _told = frozen.send(());
    told.recv()?;
    let sure = consumer.is_sure();
    let current = held.iter().any(GroupRecord::is_current);
    held.iter().for_each(GroupRecord::done);
    let commit = consumer.commit().await;
    let commit = commit.map(|all| all.into_iter().map(|one| one.result).collect());
    let lost = async {
        while let Some(event) = consumer.events().next().await {
            if matches!(event, GroupEvent::Lost(_)) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), lost).await?;
    let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await?;
    next.ok_or("it ended")??.done();
    let ids = (before, consumer.member_id());
    consumer.close().await?;
    Ok(Woken { sure, commit, current, ids })
}

async fn produce(client: &Client, records: u32) -> Outcome {
    let producer = client.producer(TOPIC, duramen_client::ProducerOptions::default()).await?;
    for number in 0..records {
        let mut record = duramen_client::ProducerRecord::new(format!("record {number}"));
        record.partition = Some(PartitionId::new(number % 2));
        producer.send(record).await?.await?;
    }
    Ok(producer.close().await?)
}
