//! Consumer groups of clusters of real processes: who reads what, what is committed, why nothing
//! moves.
//!
//! `DURAMEN_PROGRAM` names another program to test, such as a release build.

#[path = "groups/command_line.rs"]
mod command_line;
#[path = "groups/explain.rs"]
mod explain;
#[path = "groups/load.rs"]
mod load;
#[path = "groups/metrics.rs"]
mod metrics;
#[path = "groups/protocol.rs"]
mod protocol;

use std::path::PathBuf;

use duramen_client::{Client, NewTopic};
use duramen_proto::v1;
use duramen_tests::processes::{Cluster, Outcome, Wire, coordinator, refused};

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("DURAMEN_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_duramen-under-test").into(), PathBuf::from)
}

/// Three nodes, a client, and a topic of so many partitions.
async fn cluster_with(topic: &str, partitions: u32) -> Outcome<(Cluster, Client)> {
    let cluster = Cluster::start(&program(), 3).await?;
    let client = cluster.client().await?;
    let topic = NewTopic::new(topic).partitions(partitions).replication_factor(3);
    client.admin().create_topic(topic).await?;
    Ok((cluster, client))
}

/// A group as its coordinator describes it.
async fn describe(
    cluster: &Cluster,
    group: &str,
) -> Outcome<Result<v1::DescribeGroupResponse, v1::Error>> {
    let (_, mut wire) = coordinator(cluster, group).await?;
    let request = v1::DescribeGroupRequest { group: group.to_owned() };
    match wire.groups.describe_group(request).await {
        Ok(described) => Ok(Ok(described.into_inner())),
        Err(status) => Ok(Err(refused(&status)?)),
    }
}

/// Appends so many small records to a partition.
async fn produce(cluster: &Cluster, topic: &str, partition: u32, records: usize) -> Outcome {
    let values: Vec<String> = (0..records).map(|at| format!("value {at}")).collect();
    produce_values(cluster, topic, partition, &values).await
}

/// Appends these values to a partition.
async fn produce_values(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    values: &[String],
) -> Outcome {
    let leader = cluster.leader(topic, duramen_client::PartitionId::new(partition)).await?.0;
    let node = cluster.nodes.iter().find(|node| node.id == leader).ok_or("no such node")?;
    let mut wire: Wire = node.wire();
    for value in values {
        wire.produce(topic, partition, value).await?.map_err(|error| error.message)?;
    }
    Ok(())
}

/// Commits an offset of partition 0 for a group without members.
async fn commit(cluster: &Cluster, group: &str, topic: &str, offset: u64) -> Outcome {
    let (_, mut wire) = coordinator(cluster, group).await?;
    let offsets = vec![offset_of(topic, 0, offset)];
    let group = group.to_owned();
    let request = v1::CommitOffsetsRequest { group, offsets, fence: None };
    let answer = wire.groups.commit_offsets(request).await?.into_inner();
    if answer.refused.is_empty() { Ok(()) } else { Err(format!("{answer:?}").into()) }
}

/// A commit or reset of one offset.
fn offset_of(topic: &str, partition: u32, offset: u64) -> v1::OffsetCommit {
    let partition =
        v1::TopicPartition { topic: topic.to_owned(), partition, ..v1::TopicPartition::default() };
    v1::OffsetCommit { partition: Some(partition), offset, ..v1::OffsetCommit::default() }
}
