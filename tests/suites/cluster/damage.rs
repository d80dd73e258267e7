//! Damaged files: a torn end is cut, damage before it is found, never served and never "repaired"
//! by forgetting.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use duramen_client::{
    Client, ClientOptions, ConsumerOptions, ErrorCode, ErrorKind, NewTopic, PartitionId, Start,
};
use duramen_proto::v1::fetch_response::Data;
use duramen_tests::processes::{
    Cluster, History, Load, LoadOptions, Outcome, Wire, append_garbage, eventually, flip_bit,
    segments,
};
use futures::StreamExt as _;

use crate::{check_histories, cluster_with, small_segments, verify_all};

const TOPIC: &str = "rings";

/// The only partition replica of a node.
fn replica(cluster: &mut Cluster, node: u64) -> Outcome<PathBuf> {
    let dirs = cluster.node(node).replica_dirs()?;
    Ok(dirs.into_iter().next().ok_or("no replica")?)
}

async fn follower(cluster: &Cluster) -> Outcome<u64> {
    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await?;
    Ok(if leader == 1 { 2 } else { 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_is_cut() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let options = LoadOptions { end: 100, ..LoadOptions::default() };
    let mut history = Load::start(&client, TOPIC, options).complete().await.unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();

    let follower = follower(&cluster).await.unwrap();
    cluster.node(follower).kill().await.unwrap();
    let dir = replica(&mut cluster, follower).unwrap();
    let segment = segments(&dir).unwrap().pop().unwrap();
    let end = cluster.tool().end_of_frames(&segment).await.unwrap();
    append_garbage(&segment, end).unwrap();
    let torn = cluster.tool().verify(&[&dir]).await.unwrap();
    assert!(torn.sound && torn.findings[0].torn, "a torn end is no damage: {torn:?}");

    cluster.node(follower).start().unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    let options = LoadOptions { first: 100, end: 200, ..options };
    history.extend(Load::start(&client, TOPIC, options).complete().await.unwrap());
    let counts = history.check(&client, TOPIC).await.unwrap();
    assert_eq!(counts.acknowledged, 200);
    cluster.terminate_all().await.unwrap();
    let verified = verify_all(&cluster).await.unwrap();
    check_histories(&verified);
    assert!(verified.findings.iter().all(|finding| !finding.torn), "{verified:?}");
    cluster.passed();
}

/// A cluster whose partition has several sealed segments, and what is in it.
async fn cluster_with_segments() -> Outcome<(Cluster, Client, History)> {
    let (cluster, client) = cluster_with(small_segments(TOPIC)).await?;
    let options = LoadOptions { value_bytes: 1_000, end: 300, ..LoadOptions::default() };
    let history = Load::start(&client, TOPIC, options).complete().await?;
    cluster.wait_in_sync(TOPIC, 3).await?;
    Ok((cluster, client, history))
}

/// Flips a bit in the middle of a node's second segment, which is sealed, and shows that `verify`
/// finds it. Gives the segment and what it holds now.
async fn damage(cluster: &mut Cluster, node: u64) -> Outcome<(PathBuf, Vec<u8>)> {
    let dir = replica(cluster, node)?;
    let segments = segments(&dir)?;
    assert!(segments.len() > 3, "the second segment is sealed and in the middle: {segments:?}");
    let path = segments[1].clone();
    flip_bit(&path, std::fs::metadata(&path)?.len() / 2)?;
    let verified = cluster.tool().verify(&[&dir]).await?;
    assert!(!verified.sound && !verified.findings[0].problems.is_empty(), "{verified:?}");
    let bytes = std::fs::read(&path)?;
    Ok((path, bytes))
}

/// Waits until a node's damaged replica is replaced: its files are gone, and another replica of the
/// node is in the place of it.
async fn wait_replaced(cluster: &mut Cluster, node: u64, damaged: &Path) -> Outcome {
    let node = cluster.node(node);
    eventually("the damaged replica is replaced", async || {
        let dirs = node.replica_dirs()?;
        let out = node.metric("duramen_replicas_out").await?;
        let is_none_out = out.is_some_and(|count| count.abs() < f64::EPSILON);
        if dirs.len() == 1 && dirs[0] != damaged && is_none_out {
            return Ok(());
        }
        Err(format!("{dirs:?}; duramen_replicas_out is {out:?}").into())
    })
    .await?;
    cluster.wait_in_sync(TOPIC, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_a_flipped_bit_takes_no_part_and_is_replaced() {
    let (mut cluster, client, mut history) = cluster_with_segments().await.unwrap();
    let victim = follower(&cluster).await.unwrap();
    let damaged = replica(&mut cluster, victim).unwrap();
    cluster.node(victim).terminate().await.unwrap();
    damage(&mut cluster, victim).await.unwrap();
    cluster.node(victim).clear_log().unwrap();
    cluster.node(victim).start().unwrap();
    cluster.node(victim).wait_ready().await.unwrap();

    // It says what is wrong and serves nothing; the others serve, all of it.
    let node = cluster.node(victim);
    eventually("the damage is said", async || {
        let log = node.log()?;
        let is_said = log.contains("a replica takes no part") && log.contains("damaged");
        if is_said { Ok(()) } else { Err("it is not in the log".into()) }
    })
    .await
    .unwrap();
    let refusal = node.wire().fetch(TOPIC, 0, 0).await.unwrap().unwrap_err();
    let is_elsewhere = [ErrorCode::NotLeader, ErrorCode::CorruptReplica].contains(&refusal.code());
    assert!(is_elsewhere, "{refusal:?}");
    let options =
        LoadOptions { value_bytes: 1_000, first: 300, end: 400, ..LoadOptions::default() };
    history.extend(Load::start(&client, TOPIC, options).complete().await.unwrap());
    wait_replaced(&mut cluster, victim, &damaged).await.unwrap();

    // The new one counts: with it and one other, records are acknowledged.
    let other = (1..=3).find(|id| *id != victim).unwrap();
    cluster.node(other).kill().await.unwrap();
    let options =
        LoadOptions { value_bytes: 1_000, first: 400, end: 500, ..LoadOptions::default() };
    history.extend(Load::start(&client, TOPIC, options).complete().await.unwrap());
    cluster.node(other).start().unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    assert_eq!(counts.acknowledged, 500);
    cluster.terminate_all().await.unwrap();
    let verified = verify_all(&cluster).await.unwrap();
    assert!(verified.sound, "{verified:?}");
    check_histories(&verified);
    cluster.passed();
}

/// Whether this is what was acknowledged at this offset.
fn was_acknowledged(history: &History, offset: u64, value: Option<Bytes>) -> bool {
    history.was_acknowledged(0, offset, &value.unwrap_or_default())
}

/// Fetches from one node until it refuses; says why. Everything given is as it was acknowledged.
async fn fetch_until_refused(mut wire: Wire, history: &History) -> Outcome<ErrorCode> {
    let mut next = 0;
    loop {
        let answer = match wire.fetch(TOPIC, 0, next).await? {
            Ok(answer) => answer,
            Err(refusal) => return Ok(refusal.code()),
        };
        let Some(Data::Records(given)) = answer.data else { return Err("no records".into()) };
        for record in given.records {
            assert!(was_acknowledged(history, record.offset, record.value), "{}", record.offset);
        }
        if answer.next_offset == next {
            return Err(format!("nothing at {next}, and no word why").into());
        }
        next = answer.next_offset;
    }
}

/// Reads from the first record on until an error; every record given is as it was acknowledged.
async fn read_until_error(client: &Client, history: &History) -> Outcome<(u64, ErrorKind)> {
    let options = ConsumerOptions::default().start(Start::First);
    let mut consumer = client.consumer(TOPIC, options).await?;
    let mut given = 0;
    while let Some(record) = consumer.next().await {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Ok((given, error.kind())),
        };
        assert_eq!(record.offset.get(), given, "a record was passed over");
        assert!(was_acknowledged(history, given, record.value), "{given} is another record");
        given += 1;
    }
    Err("the consumer came to an end".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_all_replicas_is_an_error_and_never_wrong_data() {
    let (mut cluster, _, history) = cluster_with_segments().await.unwrap();
    cluster.terminate_all().await.unwrap();
    let mut damaged = Vec::new();
    for node in 1..=3 {
        damaged.push(damage(&mut cluster, node).await.unwrap());
    }
    cluster.start_all().unwrap();
    cluster.wait_ready().await.unwrap();
    eventually("a node says what is wrong", async || {
        let mut codes = Vec::new();
        for node in &cluster.nodes {
            codes.push(fetch_until_refused(node.wire(), &history).await?);
        }
        let is_said = codes.contains(&ErrorCode::CorruptReplica);
        if is_said { Ok(()) } else { Err(format!("{codes:?}").into()) }
    })
    .await
    .unwrap();

    let request_timeout = Duration::from_secs(10);
    let options = ClientOptions { request_timeout, ..ClientOptions::new(cluster.addresses()) };
    let client = Client::connect(options).await.unwrap();
    let read = tokio::time::timeout(4 * request_timeout, read_until_error(&client, &history));
    let answer = read.await.expect("a reader of a damaged partition is told so");
    match answer {
        Ok((given, kind)) => {
            assert!(given < 300, "the damaged record was passed over");
            assert_eq!(kind, ErrorKind::Corrupt, "after {given} records");
        }
        // It is told before the first record.
        Err(error) => {
            let error = error.downcast::<duramen_client::ClientError>().expect("a client's error");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("damaged"), "it does not say where: {error}");
        }
    }
    // No majority could bring in new replicas: what is left is kept for whoever can use it.
    for (path, bytes) in damaged {
        assert!(std::fs::read(&path).unwrap() == bytes, "{} was changed", path.display());
    }
    cluster.passed();
}
