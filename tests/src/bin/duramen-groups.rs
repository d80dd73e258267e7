//! `cargo xtask groups`: consumer groups of real clusters, at size.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use duramen_tests::campaign::{Figures, finish, progress};
use duramen_tests::groups::{ChurnOptions, ManyOptions, MoveOptions, churn, many, moves, zombie};

/// Consumers of a group come, go, crash and stand still while coordinators are killed.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo xtask groups churn --records 1000000 --seconds 60 --coordinator-kills 5
  cargo xtask groups moves --partitions 60 --members 5
  cargo xtask groups many --groups 10000 --offsets 10
  cargo xtask groups zombie")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The figures as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// The program to test [default: duramen-under-test beside this one]
    #[arg(long, global = true, env = "DURAMEN_PROGRAM")]
    program: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Consumers come and go at random: every record is processed
    Churn {
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        #[arg(long, default_value_t = 12)]
        partitions: u32,
        #[arg(long, default_value_t = 6)]
        consumers: u64,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        #[arg(long, default_value_t = 2)]
        coordinator_kills: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A member joins, another one is killed: how long do partitions stand still
    Moves {
        #[arg(long, default_value_t = 60)]
        partitions: u32,
        #[arg(long, default_value_t = 5)]
        members: usize,
        /// Measured before and after each change
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long, default_value_t = 3)]
        session_seconds: u64,
        /// A partition may stand still for so long, beside the session of a killed member
        #[arg(long, default_value_t = 1_000)]
        gap_max_ms: u64,
    },
    /// Very many groups: memory, commits, restart
    Many {
        #[arg(long, default_value_t = 10_000)]
        groups: u64,
        /// Offsets of each group
        #[arg(long, default_value_t = 10)]
        offsets: u32,
        /// Commits under way at a time
        #[arg(long, default_value_t = 64)]
        under_way: u64,
        /// Times that every group commits
        #[arg(long, default_value_t = 2)]
        times: u64,
    },
    /// A consumer stands still past its session, and goes on
    Zombie,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let program = arguments.program.unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("duramen-under-test")
    });
    let done = match arguments.what {
        What::Churn { records, partitions, consumers, seconds, coordinator_kills, seed } => {
            let options =
                ChurnOptions { records, partitions, consumers, seconds, coordinator_kills, seed };
            churn(&program, options).await
        }
        What::Moves { partitions, members, seconds, session_seconds, gap_max_ms } => {
            let session = Duration::from_secs(session_seconds);
            let gap_max = Some(Duration::from_millis(gap_max_ms));
            moves(&program, MoveOptions { partitions, members, seconds, session, gap_max }).await
        }
        What::Many { groups, offsets, under_way, times } => {
            many(&program, ManyOptions { groups, offsets, under_way, times }).await
        }
        What::Zombie => {
            let mut figures = Figures::default();
            figures.set("zombies", 1).set("committed", 0);
            zombie(&program).await.map(|()| (figures, Vec::new()))
        }
    };
    match done {
        Ok((figures, findings)) => finish(&figures, &findings, arguments.json),
        Err(error) => {
            progress(format_args!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}
