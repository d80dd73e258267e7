//! Nodes whose directories were wiped: they never found a second cluster, never acknowledge
//! anything in the place of what was lost, and join as new members where a majority is left.

use std::path::PathBuf;
use std::time::Duration;

use duramen_client::{Client, ClientOptions, ErrorCode, NewTopic, PartitionId};
use duramen_tests::processes::{Cluster, Fate, History, Load, LoadOptions, Outcome, eventually};

use crate::cluster_with;

const TOPIC: &str = "rings";

/// What a node that must not found a cluster says.
const REASON: &str = "data directory is new";

/// Kills a node and puts its directory aside; says where.
async fn wipe(cluster: &mut Cluster, id: u64) -> Outcome<PathBuf> {
    let node = cluster.node(id);
    node.kill().await?;
    let aside = node.dir.with_extension("aside");
    std::fs::rename(&node.dir, &aside)?;
    Ok(aside)
}

/// Puts the directory of a node back that does not run.
fn restore(cluster: &mut Cluster, id: u64) -> Outcome {
    let dir = &cluster.node(id).dir;
    std::fs::remove_dir_all(dir)?;
    Ok(std::fs::rename(dir.with_extension("aside"), dir)?)
}

/// Every node refuses a record; what each said is noted as what it is.
async fn refuse_all(cluster: &Cluster, history: &mut History, attempt: &str) -> Outcome {
    for node in &cluster.nodes {
        let value = format!("{attempt} to node {}", node.id);
        let send = history.send(0, value.as_bytes());
        let refusal = match node.wire().produce(TOPIC, 0, &value).await? {
            Ok(ack) => return Err(format!("{value} was acknowledged: {ack:?}").into()),
            Err(refusal) => refusal,
        };
        let fate = match refusal.code() {
            ErrorCode::UnknownOutcome | ErrorCode::Deadline => Fate::Unknown,
            ErrorCode::Unavailable | ErrorCode::NotLeader => Fate::Failed,
            code => return Err(format!("{value}: {code:?}: {}", refusal.message).into()),
        };
        history.settle(send, fate);
    }
    Ok(())
}

/// The wiped nodes wait, say why, and belong to the old cluster or none.
async fn check_they_wait(cluster: &mut Cluster, cluster_id: &[u8]) -> Outcome {
    for id in [1, 2] {
        let node = cluster.node(id);
        eventually(&format!("node {id} says why it waits"), async || match node.health().await? {
            Err(reason) if reason.contains(REASON) => Ok(()),
            other => Err(format!("{other:?}").into()),
        })
        .await?;
        eventually(&format!("the log of node {id} says so too"), async || {
            if node.log()?.contains(REASON) { Ok(()) } else { Err("it does not".into()) }
        })
        .await?;
        let found = node.wire().identify().await?.cluster_id;
        assert!(found.is_empty() || found == cluster_id, "node {id} is of another cluster");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wiped_seeds_of_three_found_no_second_cluster() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let options = LoadOptions { end: 100, ..LoadOptions::default() };
    let mut history = Load::start(&client, TOPIC, options).complete().await.unwrap();
    let cluster_id = cluster.node(3).wire().identify().await.unwrap().cluster_id;

    for id in [1, 2] {
        wipe(&mut cluster, id).await.unwrap();
        cluster.node(id).clear_log().unwrap();
    }
    cluster.start_all().unwrap();
    check_they_wait(&mut cluster, &cluster_id).await.unwrap();
    refuse_all(&cluster, &mut history, "beside one member").await.unwrap();

    // Not while the last member is away, nor when it comes back.
    cluster.node(3).kill().await.unwrap();
    check_they_wait(&mut cluster, &cluster_id).await.unwrap();
    cluster.node(3).start().unwrap();
    eventually("node 3 answers", async || {
        let found = cluster.node(3).wire().identify().await?.cluster_id;
        if found == cluster_id { Ok(()) } else { Err("it has another cluster".into()) }
    })
    .await
    .unwrap();
    check_they_wait(&mut cluster, &cluster_id).await.unwrap();
    refuse_all(&cluster, &mut history, "beside a restarted member").await.unwrap();

    // As they were told: the directories are restored, and nothing was lost.
    for id in [1, 2] {
        cluster.node(id).terminate().await.unwrap();
        restore(&mut cluster, id).unwrap();
    }
    cluster.start_all().unwrap();
    cluster.wait_ready().await.unwrap();
    cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    history.check(&client, TOPIC).await.unwrap();
    cluster.passed();
}

/// Nodes that node 1 knows as voters of the metadata group.
async fn voters(cluster: &mut Cluster) -> Outcome<Vec<u64>> {
    let known = cluster.node(1).wire().describe_cluster().await?.nodes;
    let voters = known.into_iter().filter(|node| node.metadata_voter && node.alive);
    Ok(voters.filter_map(|known| known.node.map(|node| node.id)).collect())
}

/// The wiped node takes part again as somebody new.
async fn check_it_joined(cluster: &mut Cluster, old: u64, replicas: &[PathBuf]) -> Outcome {
    let node = cluster.node(2);
    node.wait_ready().await?;
    let incarnation = node.wire().identify().await?.incarnation;
    assert_ne!(incarnation, old, "a wiped directory is a new incarnation");
    eventually("the lost replica is replaced by another", async || {
        let dirs = node.replica_dirs()?;
        let out = node.metric("duramen_replicas_out").await?;
        let is_none_out = out.is_some_and(|count| count.abs() < f64::EPSILON);
        let is_said = node.log()?.contains("a replica takes no part");
        if dirs.len() == replicas.len() && is_none_out && is_said {
            return Ok(());
        }
        Err(format!("{dirs:?}; duramen_replicas_out is {out:?}; said: {is_said}").into())
    })
    .await?;
    let dirs = node.replica_dirs()?;
    assert!(dirs.iter().all(|dir| !replicas.contains(dir)), "{dirs:?} was made anew");
    cluster.wait_in_sync(TOPIC, 3).await?;
    let node = cluster.node(2);
    assert!(node.replica_dirs()?.iter().all(|dir| !replicas.contains(dir)));
    eventually("the new incarnation votes on the metadata", async || {
        let voters = voters(cluster).await?;
        if voters == [1, 2, 3] { Ok(()) } else { Err(format!("{voters:?}").into()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_joins_as_a_new_member() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    load.wait_acknowledged(1, 30).await.unwrap();
    let old = cluster.node(2).wire().identify().await.unwrap();
    let replicas = cluster.node(2).replica_dirs().unwrap();
    assert_eq!(replicas.len(), 1);

    wipe(&mut cluster, 2).await.unwrap();
    cluster.node(2).clear_log().unwrap();
    cluster.node(2).start().unwrap();
    check_it_joined(&mut cluster, old.incarnation, &replicas).await.unwrap();
    load.wait_acknowledged(1, 30).await.unwrap();
    let cluster_id = cluster.node(2).wire().identify().await.unwrap().cluster_id;
    assert_eq!(cluster_id, old.cluster_id);

    // It votes in deed: without node 3 it is half of what is left.
    cluster.node(3).kill().await.unwrap();
    let others = cluster.addresses().into_iter().take(2);
    let request_timeout = Duration::from_secs(5);
    let options = ClientOptions { request_timeout, ..ClientOptions::new(others) };
    let other = Client::connect(options).await.unwrap();
    eventually("two of three voters create a topic", async || {
        let topic = NewTopic::new("later").replication_factor(2);
        match other.admin().create_topic(topic).await {
            // An earlier attempt may have done it.
            Err(error) if error.code() != Some(ErrorCode::TopicExists) => Err(error.into()),
            _ => Ok(()),
        }
    })
    .await
    .unwrap();
    cluster.node(3).start().unwrap();
    cluster.node(3).wait_ready().await.unwrap();
    load.wait_acknowledged(1, 30).await.unwrap();
    let history = load.finish().await.unwrap();
    history.check(&client, TOPIC).await.unwrap();
    cluster.passed();
}
