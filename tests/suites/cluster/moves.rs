//! Replicas are moved between nodes while records are produced, whoever dies meanwhile.

use std::time::Duration;

use duramen_client::{Admin, NewTopic, NodeId, PartitionId, ReplicaMove};
use duramen_tests::processes::{Cluster, Load, LoadOptions, Outcome, eventually};

use crate::{check_histories, program, verify_all};

const TOPIC: &str = "rings";

/// Four nodes and a topic of one partition with some replicas.
async fn cluster_of_four(replicas: u32) -> Outcome<(Cluster, duramen_client::Client)> {
    let cluster = Cluster::start(&program(), 4).await?;
    let client = cluster.client().await?;
    let topic = NewTopic::new(TOPIC).replication_factor(replicas);
    client.admin().create_topic(topic).await?;
    Ok((cluster, client))
}

/// The nodes of the partition's replicas, in their order.
async fn holders(admin: &Admin) -> Outcome<Vec<u64>> {
    let topic = admin.describe_topic(TOPIC).await?;
    Ok(topic.partitions[0].replicas.iter().map(|node| node.get()).collect())
}

async fn spare(admin: &Admin) -> Outcome<u64> {
    let holders = holders(admin).await?;
    Ok((1..=4).find(|node| !holders.contains(node)).ok_or("no spare node")?)
}

fn from_to(from: u64, to: u64) -> ReplicaMove {
    ReplicaMove {
        topic: TOPIC.to_owned(),
        partition: PartitionId::new(0),
        from: NodeId::new(from),
        to: NodeId::new(to),
    }
}

/// Waits until a move is over, one way or the other.
async fn wait_over(admin: &Admin) -> Outcome {
    eventually("the move is over", async || {
        match admin.describe_topic(TOPIC).await?.partitions[0].replacement {
            None => Ok(()),
            Some(now) => Err(format!("{now:?}").into()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_is_moved_under_load_and_nothing_is_lost() {
    let (mut cluster, client) = cluster_of_four(3).await.unwrap();
    let admin = client.admin();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    load.wait_acknowledged(1, 30).await.unwrap();
    for _ in 0..3 {
        // The leader goes: the hardest one.
        let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
        let to = spare(&admin).await.unwrap();
        let place = holders(&admin).await.unwrap().iter().position(|node| *node == leader);
        let moved = from_to(leader, to);
        for _ in 0..2 {
            admin.move_replica(&moved).await.unwrap();
        }
        wait_over(&admin).await.unwrap();
        let now = holders(&admin).await.unwrap();
        assert_eq!(
            now.iter().position(|node| *node == to),
            place,
            "it took another place: {now:?}"
        );
        let left = cluster.node(leader);
        eventually("the old replica's files are gone", async || {
            let dirs = left.replica_dirs()?;
            if dirs.is_empty() { Ok(()) } else { Err(format!("{dirs:?}").into()) }
        })
        .await
        .unwrap();
        load.wait_acknowledged(1, 30).await.unwrap();
    }
    let history = load.finish().await.unwrap();
    history.check(&client, TOPIC).await.unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    cluster.terminate_all().await.unwrap();
    check_histories(&verify_all(&cluster).await.unwrap());
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_goes_on_when_leader_and_target_are_killed_in_the_middle() {
    let (mut cluster, client) = cluster_of_four(3).await.unwrap();
    let admin = client.admin();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    load.wait_acknowledged(1, 30).await.unwrap();
    for round in 0..3 {
        let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
        let to = spare(&admin).await.unwrap();
        let from = if round == 0 { leader } else { holders(&admin).await.unwrap()[round] };
        admin.move_replica(&from_to(from, to)).await.unwrap();
        let victim = if round == 1 { to } else { leader };
        cluster.node(victim).kill().await.unwrap();
        cluster.node(victim).start().unwrap();
        wait_over(&admin).await.unwrap();
        assert!(holders(&admin).await.unwrap().contains(&to));
        cluster.node(victim).wait_ready().await.unwrap();
        cluster.wait_in_sync(TOPIC, 3).await.unwrap();
        load.wait_acknowledged(1, 30).await.unwrap();
    }
    let history = load.finish().await.unwrap();
    history.check(&client, TOPIC).await.unwrap();
    cluster.wait_in_sync(TOPIC, 3).await.unwrap();
    cluster.terminate_all().await.unwrap();
    check_histories(&verify_all(&cluster).await.unwrap());
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_a_dead_node_can_be_given_up_and_an_only_replica_can_be_moved() {
    let (mut cluster, client) = cluster_of_four(1).await.unwrap();
    let admin = client.admin();
    let options = LoadOptions { end: 100, ..LoadOptions::default() };
    let mut history = Load::start(&client, TOPIC, options).complete().await.unwrap();
    let from = holders(&admin).await.unwrap()[0];
    let to = spare(&admin).await.unwrap();
    cluster.node(to).kill().await.unwrap();
    admin.move_replica(&from_to(from, to)).await.unwrap();
    let second = (1..=4).find(|node| ![from, to].contains(node)).unwrap();
    let refused = admin.move_replica(&from_to(from, second)).await.unwrap_err();
    assert!(refused.to_string().contains("being replaced already"), "{refused}");
    admin.cancel_move(&from_to(from, to)).await.unwrap();
    assert_eq!(holders(&admin).await.unwrap(), [from]);

    admin.move_replica(&from_to(from, second)).await.unwrap();
    wait_over(&admin).await.unwrap();
    assert_eq!(holders(&admin).await.unwrap(), [second]);
    let options = LoadOptions { first: 100, end: 200, ..options };
    history.extend(Load::start(&client, TOPIC, options).complete().await.unwrap());
    let counts = history.check(&client, TOPIC).await.unwrap();
    assert_eq!(counts.acknowledged, 200);

    cluster.node(to).start().unwrap();
    cluster.node(to).wait_ready().await.unwrap();
    let node = cluster.node(to);
    let settled = eventually("what was made of the given up replica is gone", async || {
        let dirs = node.replica_dirs()?;
        if dirs.is_empty() { Ok(()) } else { Err(format!("{dirs:?}").into()) }
    });
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap().unwrap();
    cluster.passed();
}
