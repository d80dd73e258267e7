//! `cargo xtask powercut`: power cuts of clusters of real processes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use duramen_tests::campaign::{finish, progress};
use duramen_tests::faultfs::FaultFs;
use duramen_tests::powercut::{PowercutOptions, Target, control, run};

/// Cuts the power of real nodes under load, each with its data on a disk that forgets what was not
/// synced, and looks whether everything acknowledged is still there. Needs the right to mount.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo xtask powercut --rounds 50
  cargo xtask powercut --rounds 1 --from 17 --seed 3   one round again
  cargo xtask powercut --control                       all disks lie: must find a loss")]
struct Arguments {
    /// Rounds, about 5 seconds each
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// The number of the first round
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
    nodes: u16,
    /// What strikes whom, and what cuts keep
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds of one kind only: all, majority, one, leader, liar, failed_sync
    #[arg(long, value_name = "KIND")]
    only: Option<Target>,
    /// Let all disks lie, and fail unless the loss is noticed
    #[arg(long)]
    control: bool,
    /// The figures as one JSON object
    #[arg(long)]
    json: bool,
    /// The program to test [default: duramen-under-test beside this one]
    #[arg(long, env = "DURAMEN_PROGRAM")]
    program: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(reason) = FaultFs::available() {
        progress(format_args!("SKIPPED: {reason}"));
        return ExitCode::SUCCESS;
    }
    let program = arguments.program.unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("duramen-under-test")
    });
    let options = PowercutOptions {
        program,
        nodes: arguments.nodes,
        rounds: arguments.rounds,
        from: arguments.from,
        seed: arguments.seed,
        only: arguments.only,
    };
    let done = if arguments.control {
        control(&options.program, options.seed).await
    } else {
        run(&options).await
    };
    match done {
        Ok((figures, findings)) => finish(&figures, &findings, arguments.json),
        Err(error) => {
            progress(format_args!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}
