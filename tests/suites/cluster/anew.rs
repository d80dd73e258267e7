//! Nodes whose own files are damaged, metadata or votes: they put them aside, join anew under another
//! incarnation, and found nothing where a majority is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use duramen_client::{NewTopic, PartitionId};
use duramen_env::{Disk, RealDisk};
use duramen_raft::VoteStore;
use duramen_tests::processes::{
    Cluster, Load, LoadOptions, Outcome, eventually, flip_bit, segments,
};
use duramen_types::{ClusterId, NodeId};

use crate::{check_histories, cluster_with, verify_all};

const TOPIC: &str = "rings";

/// The middle of the first record of the vote file, behind its head.
const FIRST_VOTE: u64 = 1024 + 32;

/// Damages the metadata log of a node that does not run.
async fn damage_metadata(cluster: &mut Cluster, id: u64) -> Outcome {
    let dir = cluster.node(id).dir.join("metadata");
    let segment = segments(&dir)?.pop().ok_or("no segment")?;
    let end = cluster.tool().end_of_frames(&segment).await?;
    flip_bit(&segment, end / 2)
}

/// Damages the first vote of a node that does not run.
fn damage_votes(dir: &Path) -> Outcome {
    flip_bit(&dir.join("hardstate"), FIRST_VOTE)
}

/// Puts a sound file without votes in the place of node 2's.
fn forget_votes(dir: &Path, cluster: &[u8]) -> Outcome {
    let cluster = ClusterId::from_slice(cluster).ok_or("no cluster")?;
    std::fs::remove_file(dir.join("hardstate"))?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    VoteStore::open(&disk, dir, (cluster, NodeId::new(2)), false, u64::MAX)?;
    Ok(())
}

/// The directories into which a node put files aside.
fn quarantines(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("quarantine-") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Waits until all nodes vote on the metadata, each by its current incarnation.
async fn wait_voters(cluster: &mut Cluster) -> Outcome {
    eventually("all nodes vote on the metadata", async || {
        let known = cluster.node(1).wire().describe_cluster().await?.nodes;
        let voters = known.iter().filter(|node| node.metadata_voter && node.alive).count();
        if voters == 3 { Ok(()) } else { Err(format!("{voters} voters").into()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_damaged_metadata_joins_anew_and_keeps_its_replicas() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    load.wait_acknowledged(1, 30).await.unwrap();
    let old = cluster.node(2).wire().identify().await.unwrap();
    let replicas = cluster.node(2).replica_dirs().unwrap();
    cluster.node(2).terminate().await.unwrap();
    damage_metadata(&mut cluster, 2).await.unwrap();
    cluster.node(2).clear_log().unwrap();
    cluster.node(2).start().unwrap();
    cluster.node(2).wait_ready().await.unwrap();

    let now = cluster.node(2).wire().identify().await.unwrap();
    assert_ne!(now.incarnation, old.incarnation);
    assert_eq!(now.cluster_id, old.cluster_id);
    assert_eq!(cluster.node(2).replica_dirs().unwrap(), replicas, "they have ids of their own");
    assert!(cluster.node(2).log().unwrap().contains("joins its cluster anew"));
    let aside = quarantines(&cluster.node(2).dir).unwrap();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].join("metadata").is_dir() && aside[0].join("identity.json").is_file());
    wait_voters(&mut cluster).await.unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    load.wait_acknowledged(1, 30).await.unwrap();
    load.finish().await.unwrap().check(&client, TOPIC).await.unwrap();
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_a_vote_puts_everything_aside_and_gets_new_replicas() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    load.wait_acknowledged(1, 30).await.unwrap();
    // Flipped, without any vote, gone: in the second case only the logs know that there were votes.
    for round in 0..3 {
        let old = cluster.node(2).wire().identify().await.unwrap();
        let replicas = cluster.node(2).replica_dirs().unwrap();
        cluster.node(2).terminate().await.unwrap();
        let dir = cluster.node(2).dir.clone();
        let votes = dir.join("hardstate");
        match round {
            0 => damage_votes(&dir).unwrap(),
            1 => forget_votes(&dir, &old.cluster_id).unwrap(),
            _ => std::fs::remove_file(&votes).unwrap(),
        }
        cluster.node(2).start().unwrap();
        cluster.node(2).wait_ready().await.unwrap();
        let now = cluster.node(2).wire().identify().await.unwrap();
        assert_ne!(now.incarnation, old.incarnation, "round {round}");
        let node = cluster.node(2);
        eventually("the replica is replaced", async || {
            let dirs = node.replica_dirs()?;
            let is_new = dirs.len() == 1 && !replicas.contains(&dirs[0]);
            if is_new { Ok(()) } else { Err(format!("{dirs:?}").into()) }
        })
        .await
        .unwrap();
        assert_eq!(quarantines(&dir).unwrap().len(), round + 1);
        wait_voters(&mut cluster).await.unwrap();
        cluster.wait_in_sync(TOPIC, 3).await.unwrap();
        load.wait_acknowledged(1, 30).await.unwrap();
    }
    load.finish().await.unwrap().check(&client, TOPIC).await.unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    cluster.terminate_all().await.unwrap();
    check_histories(&verify_all(&cluster).await.unwrap());
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_lost_its_votes_founds_nothing_and_waits() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let options = LoadOptions { end: 50, ..LoadOptions::default() };
    Load::start(&client, TOPIC, options).complete().await.unwrap();
    let cluster_id = cluster.node(3).wire().identify().await.unwrap().cluster_id;
    cluster.terminate_all().await.unwrap();
    for id in [1, 2] {
        damage_votes(&cluster.node(id).dir).unwrap();
    }
    cluster.start_all().unwrap();
    for id in [1, 2] {
        let node = cluster.node(id);
        eventually("the node waits for a majority", async || match node.health().await? {
            Err(reason) if reason.contains("needs a majority") => Ok(()),
            other => Err(format!("{other:?}").into()),
        })
        .await
        .unwrap();
        assert_eq!(node.wire().identify().await.unwrap().cluster_id, cluster_id);
        let aside = quarantines(&node.dir).unwrap();
        assert!(aside[0].join("partitions").is_dir() && aside[0].join("hardstate").is_file());
    }
    for node in &cluster.nodes {
        let answer = node.wire().produce(TOPIC, PartitionId::new(0).get(), "beside").await.unwrap();
        assert!(answer.is_err(), "node {} acknowledged: {answer:?}", node.id);
    }
    cluster.passed();
}
