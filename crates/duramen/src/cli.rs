//! The command line: global options and the list of commands.

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{bench, cluster, consume, dev, dump, group, produce, replay, topic, verify};
use crate::context::Context;
use crate::error::CliError;
use crate::logging::LogFormat;
use crate::server;

const EXAMPLES: &str = "\
Examples:
  duramen dev                                          three nodes on this machine
  duramen topic create quakes --partitions 6 --replicas 3
  duramen produce quakes --file quakes.ndjson --key-field id
  duramen consume quakes --last 3

Exit codes: 0 done, 1 failed, 2 wrong usage. Results go to stdout; progress and logs to stderr.";

/// A distributed replicated log: one binary, acknowledged records are on a majority of disks.
#[derive(Debug, Parser)]
#[command(name = "duramen", version, after_help = EXAMPLES)]
#[command(propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What is logged: a level, or filters such as "info,duramen_raft=debug"; RUST_LOG otherwise
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Say more on stderr
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster on this machine, with no configuration
    Dev(dev::DevArgs),
    /// Run one node
    Server(server::ServerArgs),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write records from a file or stdin
    Produce(produce::ProduceArgs),
    /// Read records
    Consume(consume::ConsumeArgs),
    /// Look at consumer groups, move their offsets, delete them
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Read a range again, into another topic or to stdout
    Replay(replay::ReplayArgs),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Check the files of a data directory
    Verify(verify::VerifyArgs),
    /// Show what a segment file holds
    Dump(dump::DumpArgs),
    /// Measure
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

impl Command {
    /// Runs the command.
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        // A server's configuration says how it logs; everything else logs as the flags say.
        if !matches!(self, Self::Server(_)) {
            context.init_logging()?;
        }
        match self {
            Self::Dev(args) => Box::pin(dev::run(args, context)).await,
            Self::Server(args) => Box::pin(server::run(args, context)).await,
            Self::Topic(command) => Box::pin(topic::run(command, context)).await,
            Self::Produce(args) => Box::pin(produce::run(args, context)).await,
            Self::Consume(args) => Box::pin(consume::run(args, context)).await,
            Self::Group(command) => Box::pin(group::run(command, context)).await,
            Self::Replay(args) => Box::pin(replay::run(args, context)).await,
            Self::Cluster(command) => Box::pin(cluster::run(command, context)).await,
            Self::Verify(args) => verify::run(args, &context),
            Self::Dump(args) => dump::run(&args, &context),
            Self::Bench(command) => Box::pin(bench::run(command, context)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        let mut without = Vec::new();
        let mut waiting = vec![Cli::command()];
        while let Some(command) = waiting.pop() {
            let has_children = command.get_subcommands().next().is_some();
            if !has_children && command.get_after_help().is_none() {
                without.push(command.get_name().to_owned());
            }
            waiting.extend(command.get_subcommands().cloned());
        }
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let cli = Cli::parse_from(["duramen", "topic", "list", "--json"]);
        assert!(cli.global.json);
    }

    #[test]
    fn wrong_usage_has_exit_code_2() {
        let error = Cli::try_parse_from(["duramen", "topic", "create"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
