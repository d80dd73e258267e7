//! `duramen topic move`: moves a replica, and waits until it is moved.

use clap::Args;
use duramen_client::{
    Admin, NodeId, PartitionId, ReplacementDescription, ReplacementState, ReplicaMove,
    TopicDescription,
};
use serde::Serialize;

use super::{TopicJson, ask_nodes};
use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::{limits, output};

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The topic
    name: String,
    /// The partition
    #[arg(long, short)]
    partition: u32,
    /// The node that has the replica
    #[arg(long, value_name = "NODE")]
    from: u64,
    /// The node that is to have it
    #[arg(long, value_name = "NODE")]
    to: u64,
    /// Begin, and do not wait for the end; the move goes on by itself
    #[arg(long)]
    no_wait: bool,
    /// Give the move up instead; refused once the new replica may vote
    #[arg(long, conflicts_with = "no_wait")]
    cancel: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the command.
pub(super) async fn run(args: MoveArgs, context: &Context) -> Result<(), CliError> {
    let admin = args.client.connect(context).await?.admin();
    let replica = ReplicaMove {
        topic: args.name.clone(),
        partition: PartitionId::new(args.partition),
        from: NodeId::new(args.from),
        to: NodeId::new(args.to),
    };
    let (topic, verb) = if args.cancel {
        (admin.cancel_move(&replica).await?, "given up:")
    } else {
        let begun = admin.move_replica(&replica).await?;
        if args.no_wait {
            (begun, "begun:")
        } else {
            (wait(context, &admin, &replica).await?, "done:")
        }
    };
    if context.json {
        return output::json(&TopicJson::new(topic));
    }
    let ReplicaMove { topic, partition, from, to } = replica;
    output::line(&format!("{verb} move of {topic} partition {partition} from node {from} to {to}"))
}

/// Waits until a move is over, and says how far it is.
async fn wait(
    context: &Context,
    admin: &Admin,
    replica: &ReplicaMove,
) -> Result<TopicDescription, CliError> {
    let mut said = String::new();
    loop {
        let mut topic = admin.describe_topic(&replica.topic).await?;
        ask_nodes(context, admin, &mut topic).await;
        let partition = topic.partitions.iter().find(|p| p.id == replica.partition);
        let Some(partition) = partition else { return Err(gone(replica)) };
        let ours =
            partition.replacement.filter(|now| (now.from, now.to) == (replica.from, replica.to));
        let Some(ours) = ours else {
            let is_there = partition.replicas.contains(&replica.to);
            return if is_there { Ok(topic) } else { Err(gone(replica)) };
        };
        let progress = describe(&ours);
        if progress != said {
            output::note(&progress);
            said = progress;
        }
        tokio::time::sleep(limits::MOVE_INTERVAL).await;
    }
}

fn gone(replica: &ReplicaMove) -> CliError {
    let ReplicaMove { partition, to, .. } = replica;
    CliError::Failed(format!("the move of partition {partition} to node {to} was given up"))
}

/// How far a replacement is, in words.
pub(super) fn describe(replacement: &ReplacementDescription) -> String {
    let ReplacementDescription { from, to, state, lag_entries } = replacement;
    let what = if from == to {
        format!("a new replica on node {to} replaces a lost or damaged one")
    } else {
        format!("a replica moves from node {from} to node {to}")
    };
    let behind = lag_entries.map(|lag| format!(", {lag} entries behind")).unwrap_or_default();
    format!("{what}: {}{behind}", words(*state))
}

const fn words(state: ReplacementState) -> &'static str {
    match state {
        ReplacementState::Unspecified => "under way",
        ReplacementState::Creating => "creating",
        ReplacementState::CatchingUp => "catching up",
        ReplacementState::Promoting => "promoting",
    }
}

/// A replacement as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ReplacementJson {
    from: u64,
    to: u64,
    state: &'static str,
    lag_entries: Option<u64>,
}

impl ReplacementJson {
    pub(super) fn new(replacement: &ReplacementDescription) -> Self {
        let ReplacementDescription { from, to, state, lag_entries } = *replacement;
        Self { from: from.get(), to: to.get(), state: words(state), lag_entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_described_by_what_it_is_for() {
        let moved = ReplacementDescription {
            from: NodeId::new(1),
            to: NodeId::new(4),
            state: ReplacementState::CatchingUp,
            lag_entries: Some(7),
        };
        let expected = "a replica moves from node 1 to node 4: catching up, 7 entries behind";
        assert_eq!(describe(&moved), expected);
        let repaired = ReplacementDescription { from: NodeId::new(4), lag_entries: None, ..moved };
        let expected = "a new replica on node 4 replaces a lost or damaged one: catching up";
        assert_eq!(describe(&repaired), expected);
    }
}
