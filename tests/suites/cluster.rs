//! Clusters of real processes on loopback, killed, wiped and damaged: what was acknowledged stays,
//! what cannot be done is refused in words.
//!
//! Sizes are small here; `DURAMEN_ROUNDS`, `DURAMEN_FREEZES` and `DURAMEN_POWER_ROUNDS` make them
//! larger.
//! `DURAMEN_PROGRAM` names another program to test, such as a release build.

#[path = "cluster/anew.rs"]
mod anew;
#[path = "cluster/bench.rs"]
mod bench;
#[path = "cluster/command_line.rs"]
mod command_line;
#[path = "cluster/damage.rs"]
mod damage;
#[path = "cluster/deployment.rs"]
mod deployment;
#[path = "cluster/dev.rs"]
mod dev;
#[path = "cluster/failover.rs"]
mod failover;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/moves.rs"]
mod moves;
#[path = "cluster/requests.rs"]
mod requests;
#[path = "cluster/retention.rs"]
mod retention;
#[path = "cluster/seeds.rs"]
mod seeds;

use std::collections::BTreeMap;
use std::path::PathBuf;

use duramen_client::{Client, NewTopic};
use duramen_tests::processes::{Cluster, Finding, Outcome, Verified};

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("DURAMEN_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_duramen-under-test").into(), PathBuf::from)
}

/// Three nodes, a client, and a topic on all of them.
async fn cluster_with(topic: NewTopic) -> Outcome<(Cluster, Client)> {
    let cluster = Cluster::start(&program(), 3).await?;
    let client = cluster.client().await?;
    client.admin().create_topic(topic.replication_factor(3)).await?;
    Ok((cluster, client))
}

/// A topic of one partition whose segments are so small that it soon has many.
fn small_segments(name: &str) -> NewTopic {
    NewTopic::new(name).config("segment.bytes", "64KiB").config("max.message.bytes", "16KiB")
}

/// The replicas of each partition have one history, and none has a hole.
fn check_histories(verified: &Verified) {
    assert!(verified.sound, "{verified:?}");
    let mut equal = 0;
    let mut ends = BTreeMap::<(&str, u64), &Finding>::new();
    for finding in &verified.findings {
        let (start, end) = finding.offsets;
        assert_eq!(finding.records, end - start, "a hole in {finding:?}");
        let place = (finding.partition.as_str(), finding.indexes.1);
        if let Some(other) = ends.insert(place, finding) {
            assert_eq!(finding.chain, other.chain, "{finding:?} and {other:?}");
            equal += 1;
        }
    }
    assert!(equal > 0, "no two replicas end at the same entry: {verified:?}");
}

/// What `verify` says of the directories of all nodes.
async fn verify_all(cluster: &Cluster) -> Outcome<Verified> {
    let dirs: Vec<_> = cluster.nodes.iter().map(|node| node.dir.as_path()).collect();
    cluster.tool().verify(&dirs).await
}
