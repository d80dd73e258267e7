//! `duramen group`: look at consumer groups, move their offsets, delete them.

mod describe;
mod explain;
mod list;
mod offsets;
mod remove;
mod replay;
mod reset;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use duramen_client::{GroupPhase, NamedPartition};
use serde::Serialize;

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::partitions::topic_text;
use crate::time::TimeSpec;

const LIST: &str = "\
Examples:
  duramen group list
  duramen group list --json | jq -r '.groups[] | select(.phase != \"stable\").group'";

const DESCRIBE: &str = "\
Examples:
  duramen group describe billing
  duramen group describe billing --json | jq .lag_records";

const MEMBERS: &str = "\
Example:
  duramen group members billing";

const EXPLAIN: &str = "\
Examples:
  duramen group explain billing
  duramen group explain billing --topic quakes --partition 3

Says why the group makes no progress, the cause first, and what to do about it.";

const RESET: &str = "\
Examples:
  duramen group reset billing --to-earliest --dry-run
  duramen group reset billing --shift -100 --topic quakes
  duramen group reset billing --to-offset 42 --topic quakes --partition 3
  duramen group reset billing --to-time 2018-02-01T12:00:00Z
  duramen group reset billing --from-file offsets.json

Works while members read: they drop their positions and go on at the new ones, and nothing that was
read before can be committed any more. Offsets lie within what a partition keeps; the table says
where another one was asked for. Topics may be named that the group has not read yet.";

const DELETE: &str = "\
Examples:
  duramen group delete billing
  duramen group delete billing --offsets --topic quakes
  duramen group delete billing --offsets --topic quakes --partition 3";

const REMOVE: &str = "\
Example:
  duramen group remove billing 9b2f7c4e-5d0a-4c9e-8f57-0c1d2e3f4a5b

The member is gone as if its session had ended: others read its partitions at once. If its process
still lives it joins again; stop it before if it is not to.";

const EXPORT: &str = "\
Examples:
  duramen group export billing > offsets.json
  duramen group import billing-2 offsets.json";

const IMPORT: &str = "\
Examples:
  duramen group import billing offsets.json
  duramen group export billing | duramen group import billing-2 - --dry-run

The same as: duramen group reset GROUP --from-file FILE";

const REPLAY: &str = "\
Examples:
  duramen group replay billing quakes --since 2018-02-01 --until 2018-02-02
  duramen group replay billing quakes --from-offset 100 --to-offset 200 --rate 50 --json
  duramen group replay billing quakes --partition 3 --id again

Writes the range to stdout and leaves the group's own offsets alone. How far it is is committed in
a group of its own, GROUP.replay.ID, until it is done: interrupted, the same command goes on, and ends
where the first run would have. A record that was just written may come again after a crash.";

/// Consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups
    #[command(after_help = LIST)]
    List(ListArgs),
    /// Show a group, its partitions and how far it has come in each
    #[command(after_help = DESCRIBE)]
    Describe(NameArgs),
    /// Show the members of a group and what they read
    #[command(after_help = MEMBERS)]
    Members(NameArgs),
    /// Say why a group makes no progress, and what to do
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
    /// Move the committed offsets of a group, also back, also while it reads
    #[command(after_help = RESET)]
    Reset(ResetArgs),
    /// Delete a group without members, or some of its offsets
    #[command(after_help = DELETE)]
    Delete(DeleteArgs),
    /// Remove a member as if its session had ended
    #[command(after_help = REMOVE)]
    Remove(RemoveArgs),
    /// Write the committed offsets of a group to stdout, as JSON
    #[command(after_help = EXPORT)]
    Export(NameArgs),
    /// Set the committed offsets of a group to what was exported
    #[command(after_help = IMPORT)]
    Import(ImportArgs),
    /// Read a part of a topic once more, without a word to the group
    #[command(after_help = REPLAY)]
    Replay(replay::ReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The group
    group: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The group
    group: String,
    /// Only about partitions of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only about this partition
    #[arg(long, requires = "topic")]
    partition: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(crate) struct ResetArgs {
    /// The group
    group: String,
    /// To this offset of a topic's partitions
    #[arg(long, value_name = "N", group = "target", requires = "topic")]
    to_offset: Option<u64>,
    /// To the first record kept
    #[arg(long, group = "target")]
    to_earliest: bool,
    /// To the end
    #[arg(long, group = "target")]
    to_latest: bool,
    /// To the first record from which on none is older
    #[arg(long, value_name = "TIME", group = "target", value_parser = TimeSpec::parse)]
    to_time: Option<TimeSpec>,
    /// So many records forward, or back if negative
    #[arg(long, value_name = "N", group = "target", allow_negative_numbers = true)]
    shift: Option<i64>,
    /// To where it is: commits again what is committed
    #[arg(long, group = "target")]
    to_current: bool,
    /// To what was exported; - is stdin
    #[arg(long, value_name = "FILE", group = "target")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// What resets and imports have in common.
#[derive(Debug, Args)]
pub(crate) struct HowArgs {
    /// Only partitions of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long, requires = "topic")]
    partition: Option<u32>,
    /// Show what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also if members join or leave at that very moment; otherwise it is planned again then
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The group
    group: String,
    /// What `duramen group export` wrote; - is stdin
    file: PathBuf,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The group
    group: String,
    /// Delete only committed offsets, of partitions that no member reads
    #[arg(long, requires = "topic")]
    offsets: bool,
    /// Of this topic
    #[arg(long, requires = "offsets")]
    topic: Option<String>,
    /// Of this partition only
    #[arg(long, requires = "offsets")]
    partition: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The group
    group: String,
    /// The member's id, or its instance
    member: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs one of the commands.
pub(crate) async fn run(command: GroupCommand, context: Context) -> Result<(), CliError> {
    match command {
        GroupCommand::List(args) => list::run(&args, &context).await,
        GroupCommand::Describe(args) => describe::run(&args, &context).await,
        GroupCommand::Members(args) => describe::members(&args, &context).await,
        GroupCommand::Explain(args) => explain::run(&args, &context).await,
        GroupCommand::Reset(args) => reset::run(&args, &context).await,
        GroupCommand::Delete(args) => remove::delete(&args, &context).await,
        GroupCommand::Remove(args) => remove::remove(&args, &context).await,
        GroupCommand::Export(args) => offsets::export(&args, &context).await,
        GroupCommand::Replay(args) => replay::run(&args, &context).await,
        GroupCommand::Import(args) => reset::import(&args, &context).await,
    }
}

/// A phase in a word.
const fn phase(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Unknown => "unknown",
        GroupPhase::Empty => "empty",
        GroupPhase::Assigning => "assigning",
        GroupPhase::Reconciling => "reconciling",
        GroupPhase::Stable => "stable",
    }
}

/// A number of things, in the singular if it is one.
fn count(number: u64, what: &str) -> String {
    let number_text = crate::numbers::grouped(number);
    if number == 1 { format!("{number_text} {what}") } else { format!("{number_text} {what}s") }
}

/// A partition as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PartitionJson {
    topic: String,
    partition: u32,
}

impl PartitionJson {
    fn new(named: &NamedPartition) -> Self {
        Self { topic: topic_text(named), partition: named.partition.get() }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: GroupCommand,
    }

    fn parse(line: &str) -> Result<GroupCommand, String> {
        let words = std::iter::once("group").chain(line.split(' '));
        let parsed = Line::try_parse_from(words);
        parsed.map(|line| line.command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_reset_says_where_to_and_only_once() {
        assert!(parse("reset g").is_err());
        assert!(parse("reset g --to-earliest --to-latest").is_err());
        assert!(parse("reset g --to-offset 5").is_err(), "offsets of topics differ");
        assert!(parse("reset g --to-earliest --partition 5").is_err());
        let Ok(GroupCommand::Reset(args)) = parse("reset g --shift -5 --dry-run") else {
            panic!("a shift may go back")
        };
        assert_eq!((args.shift, args.how.dry_run), (Some(-5), true));
    }

    #[test]
    fn what_is_deleted_is_said_in_full() {
        assert!(parse("delete g").is_ok());
        assert!(parse("delete g --topic t").is_err());
        assert!(parse("delete g --offsets").is_err());
        assert!(parse("delete g --offsets --topic t --partition 1").is_ok());
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(1, "member"), "1 member");
        assert_eq!(count(1_200, "record"), "1,200 records");
    }
}
