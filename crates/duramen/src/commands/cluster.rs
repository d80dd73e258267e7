//! `duramen cluster`: what the cluster looks like.

use clap::{Args, Subcommand};
use duramen_client::{ClusterDescription, NodeDescription};
use serde::Serialize;

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::{output, table};

const EXAMPLES: &str = "\
Examples:
  duramen cluster describe
  duramen cluster describe --json | jq '.nodes[] | select(.alive | not)'";

/// The cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the nodes, as one of them sees them
    #[command(after_help = EXAMPLES)]
    Describe(DescribeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs one of the commands.
pub(crate) async fn run(command: ClusterCommand, context: Context) -> Result<(), CliError> {
    let ClusterCommand::Describe(args) = command;
    let cluster = args.client.connect(&context).await?.admin().describe_cluster().await?;
    if context.json {
        return output::json(&ClusterJson::new(cluster));
    }
    let controller = table::or_dash(cluster.controller);
    let ClusterDescription { id, this_node, topics, partitions, leaderless_partitions, .. } =
        &cluster;
    output::line(&format!("cluster {id}, as node {this_node} sees it"))?;
    output::line(&format!(
        "controller {controller}; {topics} topics, {partitions} partitions, \
         {leaderless_partitions} without a leader on node {this_node}\n"
    ))?;
    let rows = cluster.nodes.into_iter().map(row);
    let header =
        ["NODE", "ALIVE", "VOTER", "LEADS", "HOLDS", "ADDRESS", "PEERS", "HTTP", "RACK", "VERSION"];
    table::print(&header, rows.collect())
}

fn row(node: NodeDescription) -> Vec<String> {
    let yes_no = |yes| String::from(if yes { "yes" } else { "no" });
    let text = |text: String| if text.is_empty() { "-".into() } else { text };
    vec![
        node.id.to_string(),
        yes_no(node.alive),
        yes_no(node.metadata_voter),
        node.leaders.to_string(),
        node.replicas.to_string(),
        node.address,
        text(node.peer_address),
        text(node.http_address),
        text(node.rack),
        text(node.version),
    ]
}

#[derive(Debug, Serialize)]
struct ClusterJson {
    cluster_id: String,
    this_node: u64,
    controller: Option<u64>,
    topics: u32,
    partitions: u32,
    leaderless_partitions: u32,
    nodes: Vec<NodeJson>,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    node: u64,
    grpc: String,
    http: String,
    peer: String,
    rack: String,
    version: String,
    alive: bool,
    metadata_voter: bool,
    leaders: u32,
    replicas: u32,
}

impl ClusterJson {
    fn new(cluster: ClusterDescription) -> Self {
        let nodes = cluster.nodes.into_iter().map(|node| NodeJson {
            node: node.id.get(),
            grpc: node.address,
            http: node.http_address,
            peer: node.peer_address,
            rack: node.rack,
            version: node.version,
            alive: node.alive,
            metadata_voter: node.metadata_voter,
            leaders: node.leaders,
            replicas: node.replicas,
        });
        Self {
            cluster_id: cluster.id.to_string(),
            this_node: cluster.this_node.get(),
            controller: cluster.controller.map(|node| node.get()),
            topics: cluster.topics,
            partitions: cluster.partitions,
            leaderless_partitions: cluster.leaderless_partitions,
            nodes: nodes.collect(),
        }
    }
}
