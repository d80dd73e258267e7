//! When a cluster of this machine can be used.

use std::time::Duration;

use duramen_client::{Client, ClientError, ClientOptions, NewTopic};
use tokio::time::Instant;

use super::{ClusterPlan, NodePlan};
use crate::context::Context;
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
        loop {
            let reason = match look(context, plan, node).await {
                Ok(None) => break,
                Ok(Some(reason)) => reason,
                Err(error) => CliError::from(error).full_text(),
            };
            if Instant::now() >= deadline {
                return Err(CliError::Failed(format!(
                    "the cluster was not usable within {}s: node {}: {reason}; its log is {}",
                    patience.as_secs(),
                    node.id,
                    node.dir.join("log").display()
                )));
            }
            tokio::time::sleep(limits::READY_INTERVAL).await;
        }
    }
    Ok(())
}

/// What a node still waits for.
async fn look(
    context: &Context,
    plan: &ClusterPlan,
    node: &NodePlan,
) -> Result<Option<String>, ClientError> {
    let options = ClientOptions {
        request_timeout: limits::READY_CALL,
        client_id: "duramen-cli".into(),
        ..ClientOptions::new([node.grpc.clone()])
    };
    let client = Client::with_env(context.env.clone(), options).await?;
    let admin = client.admin();
    let cluster = admin.describe_cluster().await?;
    let alive = cluster.nodes.iter().filter(|node| node.alive).count();
    if alive < plan.nodes.len() {
        return Ok(Some(format!("{alive} of {} nodes are alive", plan.nodes.len())));
    }
    if cluster.controller.is_none() {
        return Ok(Some("the metadata group has no leader".into()));
    }
    let replicas = u32::try_from(plan.nodes.len()).unwrap_or(REPLICAS_MAX).min(REPLICAS_MAX);
    let topic = NewTopic::new("readiness").partitions(PARTITIONS).replication_factor(replicas);
    match admin.create_topic(topic.validate_only()).await {
        Err(error) if error.code() == Some(duramen_client::ErrorCode::TopicExists) => Ok(None),
        created => created.map(|_| None),
    }
}
