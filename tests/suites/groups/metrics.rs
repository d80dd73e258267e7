//! What a coordinator has in its metrics.

use duramen_tests::processes::{coordinator, eventually};

use crate::{cluster_with, commit, produce};

const TOPIC: &str = "rings";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_group_is_in_its_coordinators_metrics() {
    let (mut cluster, _client) = cluster_with(TOPIC, 1).await.unwrap();
    produce(&cluster, TOPIC, 0, 5).await.unwrap();
    commit(&cluster, "billing", TOPIC, 2).await.unwrap();
    let (coordinates, _) = coordinator(&cluster, "billing").await.unwrap();
    let node = cluster.node(coordinates);
    for (name, value) in [
        ("duramen_group_lag_records{group=\"billing\",topic=\"rings\",partition=\"0\"}", "3"),
        ("duramen_consumer_groups{shard=", "1"),
    ] {
        eventually(name, async || {
            let page = node.metrics().await?;
            let mut found = page.lines().filter(|line| line.starts_with(name));
            let is_told =
                found.any(|line| line.rsplit_once(' ').is_some_and(|(_, at)| at == value));
            if is_told { Ok(()) } else { Err(page.into()) }
        })
        .await
        .unwrap();
    }
    cluster.passed();
}
