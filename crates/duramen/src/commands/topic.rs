//! `duramen topic`: create, list, describe, alter and delete topics, and move their replicas.

mod moves;

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use duramen_client::{
    Admin, ErrorCode, NewTopic, NodeId, Offset, PartitionDescription, PartitionId,
    ReplacementDescription, Term, TopicDescription,
};
use duramen_proto::v1;
use futures::future::join_all;
use serde::Serialize;

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::direct::DirectAdmin;
use crate::error::CliError;
use crate::{limits, output, table};

const CREATE: &str = "\
Examples:
  duramen topic create quakes --partitions 6 --replicas 3
  duramen topic create quakes --config retention.ms=7d --config retention.bytes=10GiB";

const LIST: &str = "\
Examples:
  duramen topic list
  duramen topic list --json | jq -r '.[].name'";

const DESCRIBE: &str = "\
Examples:
  duramen topic describe quakes
  duramen topic describe quakes --json | jq '.partitions[] | {partition, leader}'";

const ALTER: &str = "\
Examples:
  duramen topic alter quakes --config retention.ms=1d
  duramen topic alter quakes --reset retention.ms";

const DELETE: &str = "\
Example:
  duramen topic delete quakes";

const MOVE: &str = "\
Examples:
  duramen topic move quakes --partition 0 --from 1 --to 4
  duramen topic move quakes --partition 0 --from 1 --to 4 --no-wait
  duramen topic move quakes --partition 0 --from 1 --to 4 --cancel";

/// Topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    #[command(after_help = CREATE)]
    Create(CreateArgs),
    /// List the topics
    #[command(after_help = LIST)]
    List(ListArgs),
    /// Show a topic, its partitions and its configuration
    #[command(after_help = DESCRIBE)]
    Describe(NameArgs),
    /// Change the configuration of a topic
    #[command(after_help = ALTER)]
    Alter(AlterArgs),
    /// Move a replica of a partition to another node
    #[command(after_help = MOVE)]
    Move(moves::MoveArgs),
    /// Delete a topic and its records, for good
    #[command(after_help = DELETE)]
    Delete(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// 1 to 249 of A-Z a-z 0-9 . _ -
    name: String,
    /// How many partitions
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// On how many nodes each partition is; 3, or as many as there are, if not given
    #[arg(long, short, default_value_t = 0)]
    replicas: u32,
    /// A configuration key and its value
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Succeed if there is a topic of that name
    #[arg(long)]
    if_not_exists: bool,
    /// Check everything, create nothing
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The topic
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AlterArgs {
    /// The topic
    name: String,
    /// A configuration key and its new value
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[arg(required_unless_present = "reset")]
    config: Vec<(String, String)>,
    /// A configuration key that goes back to its default
    #[arg(long, value_name = "KEY")]
    reset: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Reads `KEY=VALUE`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("give KEY=VALUE, such as retention.ms=7d".into()),
    }
}

/// Runs one of the commands.
pub(crate) async fn run(command: TopicCommand, context: Context) -> Result<(), CliError> {
    match command {
        TopicCommand::Create(args) => create(args, &context).await,
        TopicCommand::List(args) => list(&args, &context).await,
        TopicCommand::Describe(args) => describe(&args, &context).await,
        TopicCommand::Alter(args) => alter(args, &context).await,
        TopicCommand::Move(args) => moves::run(args, &context).await,
        TopicCommand::Delete(args) => delete(&args, &context).await,
    }
}

async fn create(args: CreateArgs, context: &Context) -> Result<(), CliError> {
    let admin = args.client.connect(context).await?.admin();
    let mut topic =
        NewTopic::new(&args.name).partitions(args.partitions).replication_factor(args.replicas);
    for (key, value) in args.config {
        topic = topic.config(key, value);
    }
    if args.validate_only {
        topic = topic.validate_only();
    }
    let (described, verb) = match admin.create_topic(topic).await {
        Ok(described) if args.validate_only => (described, "could create"),
        Ok(described) => (described, "created"),
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicExists) => {
            (admin.describe_topic(&args.name).await?, "there is already")
        }
        Err(error) => return Err(error.into()),
    };
    if context.json {
        return output::json(&TopicJson::new(described));
    }
    let TopicDescription { name, id, replication_factor, partitions, .. } = described;
    let count = partitions.len();
    output::line(&format!("{verb} {name}: {count} x {replication_factor}, id {id}"))
}

async fn list(args: &ListArgs, context: &Context) -> Result<(), CliError> {
    let topics = args.client.connect(context).await?.admin().list_topics().await?;
    if context.json {
        return output::json(&topics.into_iter().map(TopicJson::new).collect::<Vec<_>>());
    }
    let rows = topics.into_iter().map(|topic| {
        let leaderless = topic.partitions.iter().filter(|p| p.leader.is_none()).count();
        vec![
            topic.name,
            topic.partitions.len().to_string(),
            topic.replication_factor.to_string(),
            leaderless.to_string(),
            topic.id.to_string(),
        ]
    });
    table::print(&["TOPIC", "PARTITIONS", "REPLICAS", "LEADERLESS", "ID"], rows.collect())
}

async fn describe(args: &NameArgs, context: &Context) -> Result<(), CliError> {
    let admin = args.client.connect(context).await?.admin();
    let mut topic = admin.describe_topic(&args.name).await?;
    let problems = ask_nodes(context, &admin, &mut topic).await;
    if context.json {
        return output::json(&TopicJson::with_problems(topic, &problems));
    }
    print(&topic, &problems)
}

async fn alter(args: AlterArgs, context: &Context) -> Result<(), CliError> {
    let admin = args.client.connect(context).await?.admin();
    let set: BTreeMap<String, String> = args.config.into_iter().collect();
    let topic = admin.alter_topic(&args.name, set, args.reset).await?;
    if context.json {
        return output::json(&TopicJson::new(topic));
    }
    let rows = topic.config.into_iter().filter(|entry| entry.explicit);
    let rows: Vec<Vec<String>> = rows.map(|entry| vec![entry.name, entry.value]).collect();
    output::line(&format!("altered {}; set for it now:", topic.name))?;
    table::print(&["KEY", "VALUE"], rows)
}

async fn delete(args: &NameArgs, context: &Context) -> Result<(), CliError> {
    args.client.connect(context).await?.admin().delete_topic(&args.name).await?;
    if context.json {
        return output::json(&serde_json::json!({ "deleted": args.name }));
    }
    output::line(&format!("deleted {}", args.name))
}

/// What nodes say is wrong with their replicas: partition, node, reason.
type Problems = Vec<(PartitionId, NodeId, String)>;

/// Fills in what only leaders know: where their partitions begin and end, and which replicas are
/// caught up; gives what is wrong with replicas, as their nodes say. What nobody says in time stays
/// as the answering node knows it.
async fn ask_nodes(context: &Context, admin: &Admin, topic: &mut TopicDescription) -> Problems {
    let mut problems = Problems::new();
    let Ok(cluster) = admin.describe_cluster().await else { return problems };
    let holders: BTreeSet<NodeId> = topic
        .partitions
        .iter()
        .flat_map(|p| p.leader.into_iter().chain(p.replicas.clone()))
        .collect();
    let nodes = cluster.nodes.iter().filter(|node| node.alive && holders.contains(&node.id));
    let asked = nodes.map(|node| async {
        let admin = DirectAdmin::new(&context.env, &node.address, limits::DESCRIBE_LEADER);
        (node.id, admin.describe_topic(&topic.name).await)
    });
    for (node, answer) in join_all(asked).await {
        let Ok(Some(theirs)) = answer else { continue };
        if theirs.id != topic.id.as_bytes()[..] {
            continue;
        }
        for told in theirs.partitions {
            let known = topic.partitions.iter_mut().find(|known| known.id.get() == told.id);
            let Some(known) = known else { continue };
            if !told.problem.is_empty() {
                problems.push((known.id, node, told.problem.clone()));
            }
            if told.leader == node.get() {
                take_leaders_word(known, node, told);
            }
        }
    }
    problems.sort();
    problems
}

fn take_leaders_word(known: &mut PartitionDescription, node: NodeId, told: v1::Partition) {
    known.leader = Some(node);
    known.leader_epoch = Term::new(told.leader_epoch);
    known.in_sync = told.in_sync.into_iter().map(NodeId::new).collect();
    known.log_start_offset = told.log_start_offset.map(Offset::new);
    known.high_watermark = told.high_watermark.map(Offset::new);
    known.replacement = told.replacement.map(ReplacementDescription::from);
}

fn print(topic: &TopicDescription, problems: &Problems) -> Result<(), CliError> {
    let TopicDescription { name, id, replication_factor, partitions, config } = topic;
    let count = partitions.len();
    output::line(&format!("{name}: {count} x {replication_factor}, id {id}\n"))?;
    let rows = partitions.iter().map(|partition| {
        vec![
            partition.id.to_string(),
            table::or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            table::list(&partition.replicas),
            if partition.in_sync.is_empty() { "-".into() } else { table::list(&partition.in_sync) },
            table::or_dash(partition.log_start_offset),
            table::or_dash(partition.high_watermark),
        ]
    });
    let header = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "START", "END"];
    table::print(&header, rows.collect())?;
    for partition in partitions {
        if let Some(replacement) = &partition.replacement {
            let said = moves::describe(replacement);
            output::line(&format!("partition {}: {said}", partition.id))?;
        }
    }
    for (partition, node, problem) in problems {
        output::line(&format!(
            "partition {partition}: the replica on node {node} takes no part: {problem}"
        ))?;
    }
    output::line("")?;
    let rows = config.iter().map(|entry| {
        let origin = if entry.explicit { "topic" } else { "default" };
        vec![entry.name.clone(), entry.value.clone(), origin.into()]
    });
    table::print(&["KEY", "VALUE", "SET BY"], rows.collect())
}

/// A topic as JSON.
#[derive(Debug, Serialize)]
struct TopicJson {
    name: String,
    id: String,
    replication_factor: u32,
    partitions: Vec<PartitionJson>,
    config: Vec<ConfigJson>,
}

#[derive(Debug, Serialize)]
struct PartitionJson {
    partition: u32,
    leader: Option<u64>,
    leader_epoch: u64,
    replicas: Vec<u64>,
    in_sync: Vec<u64>,
    log_start_offset: Option<u64>,
    high_watermark: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<moves::ReplacementJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    problems: BTreeMap<u64, String>,
}

#[derive(Debug, Serialize)]
struct ConfigJson {
    name: String,
    value: String,
    explicit: bool,
    documentation: String,
}

impl TopicJson {
    fn new(topic: TopicDescription) -> Self {
        Self::with_problems(topic, &Problems::new())
    }

    fn with_problems(topic: TopicDescription, problems: &Problems) -> Self {
        let config = topic.config.into_iter().map(|entry| ConfigJson {
            name: entry.name,
            value: entry.value,
            explicit: entry.explicit,
            documentation: entry.documentation,
        });
        Self {
            name: topic.name,
            id: topic.id.to_string(),
            replication_factor: topic.replication_factor,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionJson::new(partition, problems))
                .collect(),
            config: config.collect(),
        }
    }
}

impl PartitionJson {
    fn new(partition: &PartitionDescription, problems: &Problems) -> Self {
        let own = problems.iter().filter(|(id, _, _)| *id == partition.id);
        Self {
            partition: partition.id.get(),
            leader: partition.leader.map(|node| node.get()),
            leader_epoch: partition.leader_epoch.get(),
            replicas: partition.replicas.iter().map(|node| node.get()).collect(),
            in_sync: partition.in_sync.iter().map(|node| node.get()).collect(),
            log_start_offset: partition.log_start_offset.map(|offset| offset.get()),
            high_watermark: partition.high_watermark.map(|offset| offset.get()),
            replacement: partition.replacement.as_ref().map(moves::ReplacementJson::new),
            problems: own.map(|(_, node, problem)| (node.get(), problem.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_split_at_the_first_equals_sign() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_pair("a="), Ok(("a".into(), String::new())));
        assert!(parse_pair("a").is_err());
        assert!(parse_pair("=b").is_err());
    }
}
