//! When a cluster of this machine can be used.

use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterPlan, NodePlan};
use crate::context::Context;
use crate::direct::DirectAdmin;
use crate::error::CliError;
use crate::limits;

/// Partitions and replicas of the topic that a usable cluster could create.
const PARTITIONS: u32 = 6;
const REPLICAS_MAX: u32 = 3;

/// Waits until every node sees every other alive and a topic could be created and written.
pub(crate) async fn wait_ready(
    context: &Context,
    plan: &ClusterPlan,
    patience: Duration,
) -> Result<(), CliError> {
    let deadline = Instant::now() + patience;
    for node in &plan.nodes {
        let admin = DirectAdmin::new(&context.env, &node.grpc, limits::READY_CALL);
        while let Err(reason) = look(&admin, plan).await {
            if Instant::now() >= deadline {
                return Err(timed_out(node, &reason, patience));
            }
            tokio::time::sleep(limits::READY_INTERVAL).await;
        }
    }
    Ok(())
}

/// Whether a node sees a usable cluster; otherwise what it waits for.
async fn look(admin: &DirectAdmin, plan: &ClusterPlan) -> Result<(), String> {
    let cluster = admin.describe_cluster().await?;
    let alive = cluster.nodes.iter().filter(|node| node.alive).count();
    if alive < plan.nodes.len() {
        return Err(format!("{alive} of {} nodes are alive", plan.nodes.len()));
    }
    if cluster.controller == 0 {
        return Err("the metadata group has no leader".into());
    }
    let replicas = u32::try_from(plan.nodes.len()).unwrap_or(REPLICAS_MAX).min(REPLICAS_MAX);
    admin.could_create(PARTITIONS, replicas).await
}

fn timed_out(node: &NodePlan, reason: &str, patience: Duration) -> CliError {
    CliError::Failed(format!(
        "the cluster was not usable within {}s: node {}: {reason}; its log is {}",
        patience.as_secs(),
        node.id,
        node.dir.join("log").display()
    ))
}
