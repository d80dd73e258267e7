//! `cargo xtask chaos`: clusters of real processes under kills, freezes, cuts and full disks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use duramen_tests::campaign::{Figures, Finding, finish, progress};
use duramen_tests::chaos::campaign::{RunOptions, run};
use duramen_tests::chaos::{LoadOptions, Nemesis, Network, namespaces, scenarios};

const EXAMPLES: &str = "\
Examples:
  cargo xtask chaos --rounds 200
  cargo xtask chaos --rounds 50 --nodes 5 --nemeses kill-leader,cut-ring --seed 7 --json
  cargo xtask chaos --rounds 50 --network namespaces
  cargo xtask chaos --scenario nats-7567
  cargo xtask chaos --scenario all

DURAMEN_PROGRAM names another program to test than the one built beside this.";

/// Strikes clusters of real processes under load, and checks that nothing acknowledged is lost.
#[derive(Debug, Parser)]
#[command(name = "duramen-chaos", after_help = EXAMPLES)]
struct Arguments {
    /// Rounds: one strike each
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=5))]
    nodes: u16,
    /// What is drawn follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these [default: all that can be had here]
    #[arg(long, value_enum, value_delimiter = ',')]
    nemeses: Vec<Nemesis>,
    /// What lies between the nodes
    #[arg(long, value_enum, default_value_t)]
    network: Network,
    /// Rounds between two full audits
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    audit_every: u64,
    /// Plays scenarios instead of rounds: their names, or "all"
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    scenario: Vec<String>,
    /// How often a scenario is played that can be played again and again
    #[arg(long, default_value_t = 2)]
    turns: usize,
    /// Figures as one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.network == Network::Namespaces && !namespaces::is_inside() {
        return match namespaces::available().and_then(|()| namespaces::enter().map_err(text)) {
            Ok(code) => code.into(),
            Err(error) => fail(&error),
        };
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(strike(&arguments)),
        Err(error) => fail(&text(error)),
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn fail(error: &str) -> ExitCode {
    progress(format_args!("duramen-chaos: {error}"));
    ExitCode::FAILURE
}

async fn strike(arguments: &Arguments) -> ExitCode {
    let (figures, findings) = if arguments.scenario.is_empty() {
        rounds(arguments).await
    } else {
        scenarios::play(&program(), &arguments.scenario, arguments.turns).await
    };
    finish(&figures, &findings, arguments.json)
}

async fn rounds(arguments: &Arguments) -> (Figures, Vec<Finding>) {
    let chosen = arguments.nemeses.clone();
    let options = RunOptions {
        program: program(),
        nodes: arguments.nodes,
        rounds: arguments.rounds,
        seed: arguments.seed,
        nemeses: if chosen.is_empty() { Nemesis::all() } else { chosen },
        audit_every: arguments.audit_every,
        load: LoadOptions::default(),
        network: arguments.network,
    };
    let run = run(&options).await;
    (run.figures(&options), run.findings)
}

/// The program under test.
fn program() -> PathBuf {
    let beside = || {
        let this = std::env::current_exe().unwrap_or_default();
        this.with_file_name("duramen-under-test")
    };
    std::env::var_os("DURAMEN_PROGRAM").map_or_else(beside, PathBuf::from)
}
