//! A follower that retention has left behind comes back without a hole.

use duramen_client::{ErrorCode, PartitionId};
use duramen_tests::processes::{Cluster, Load, LoadOptions, Outcome, eventually, say};

use crate::{check_histories, cluster_with, small_segments, verify_all};

const TOPIC: &str = "rings";

/// Offsets of the only partition as a node's own replica has them: first kept, and end.
async fn offsets(cluster: &mut Cluster, node: u64) -> Outcome<(u64, u64)> {
    let topic = cluster.node(node).wire().describe_topic(TOPIC).await?;
    let partition = topic.partitions.first().ok_or("a topic without partitions")?;
    let start = partition.log_start_offset.ok_or("no replica here")?;
    Ok((start, partition.high_watermark.ok_or("no replica here")?))
}

/// Waits until all nodes have the same offsets, and gives them.
async fn settled(cluster: &mut Cluster) -> Outcome<(u64, u64)> {
    let ids: Vec<u64> = cluster.nodes.iter().map(|node| node.id).collect();
    eventually("all replicas have the same offsets", async || {
        let mut all = Vec::new();
        for id in &ids {
            all.push(offsets(cluster, *id).await?);
        }
        match all.first() {
            Some(first) if all.iter().all(|other| other == first) => Ok(*first),
            _ => Err(format!("{all:?}").into()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_the_log_start_comes_back_without_a_hole() {
    let topic = small_segments(TOPIC).config("retention.bytes", "128KiB");
    let (mut cluster, client) = cluster_with(topic).await.unwrap();
    let options = LoadOptions { value_bytes: 1_000, ..LoadOptions::default() };
    let load = Load::start(&client, TOPIC, options);
    load.wait_acknowledged(1, 60).await.unwrap();

    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    let follower = if leader == 1 { 2 } else { 1 };
    cluster.node(follower).terminate().await.unwrap();
    let (_, end) = offsets(&mut cluster, leader).await.unwrap();
    let trimmed = eventually("retention passes the follower's end", async || {
        match offsets(&mut cluster, leader).await? {
            (start, _) if start > end => Ok(start),
            found => Err(format!("{found:?}, and the follower ends at {end}").into()),
        }
    });
    let start = trimmed.await.unwrap();

    // What is trimmed is refused, with what is kept.
    let refusal = cluster.node(leader).wire().fetch(TOPIC, 0, 0).await.unwrap().unwrap_err();
    assert_eq!(refusal.code(), ErrorCode::OffsetOutOfRange);
    assert!(refusal.log_start_offset >= Some(start), "{refusal:?}");

    cluster.node(follower).start().unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    load.wait_acknowledged(1, 30).await.unwrap();
    let history = load.finish().await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    say(format_args!("follower ended at {end}, log starts at {start}: {counts:?}"));

    let (start, end) = settled(&mut cluster).await.unwrap();
    cluster.kill_all().await.unwrap();
    let verified = verify_all(&cluster).await.unwrap();
    check_histories(&verified);
    let partitions = verified.findings.iter().filter(|found| found.partition != "metadata");
    let partitions: Vec<_> = partitions.collect();
    assert_eq!(partitions.len(), 3);
    for found in &partitions {
        assert_eq!(found.offsets, (start, end), "{found:?}");
        assert_eq!((found.indexes, &found.chain), (partitions[0].indexes, &partitions[0].chain));
    }
    cluster.passed();
}
