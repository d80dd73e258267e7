//! Power cuts of clusters of real processes under load, each node's data on a disk that forgets
//! what was not synced.
//!
//! A round strikes the power of all nodes, of a majority, of one or of a leader, or lets one disk
//! lie about syncs or fail one; then the processes are killed, the power comes back, and every
//! partition must serve again by itself. After each round the whole topic is read back: everything
//! acknowledged must be there, once, at its offset, in order.
//!
//! What is drawn depends on the seed and the number of the round only. The processes themselves
//! run in real time, so a repeated round is alike and not the same.

mod control;
mod machines;
mod metadata;
mod plan;
mod round;
mod tally;

use std::path::PathBuf;

use duramen_client::NewTopic;

use crate::campaign::{Figures, Finding, progress};
use crate::faultfs::FaultFs;
use crate::processes::{Failure, Load, LoadOptions, Outcome};

use machines::Machines;
use round::Round;
use tally::Tally;

pub use control::control;
pub use metadata::forget_metadata;
pub use plan::Target;

/// Where records go.
const TOPIC: &str = "rings";

/// Partitions, so that each of three nodes leads one.
const PARTITIONS: u32 = 3;

/// Rounds that one cluster lives through. A round reads everything back, so that a cluster that
/// lived for ever would take ever longer.
const ROUNDS_PER_CLUSTER: u64 = 25;

/// What is run.
#[derive(Clone, Debug)]
pub struct PowercutOptions {
    /// The `duramen` program.
    pub program: PathBuf,
    /// Nodes of a cluster, at least three.
    pub nodes: u16,
    /// Rounds.
    pub rounds: u64,
    /// The number of the first round, to repeat a later one.
    pub from: u64,
    /// Decides what strikes whom, and what cuts keep.
    pub seed: u64,
    /// Rounds of this kind only.
    pub only: Option<Target>,
}

impl PowercutOptions {
    /// Ten rounds with three nodes.
    #[must_use]
    pub const fn new(program: PathBuf) -> Self {
        Self { program, nodes: 3, rounds: 10, from: 0, seed: 1, only: None }
    }

    fn repeat(&self, round: u64) -> String {
        let (nodes, seed) = (self.nodes, self.seed);
        let only = self.only.map(|only| format!(" --only {}", only.name())).unwrap_or_default();
        format!(
            "cargo xtask powercut --rounds 1 --from {round} --nodes {nodes} --seed {seed}{only}"
        )
    }
}

/// Runs all rounds, or those until the first that fails.
///
/// # Errors
/// No disk can be mounted here, or a cluster cannot be started.
pub async fn run(options: &PowercutOptions) -> Outcome<(Figures, Vec<Finding>)> {
    FaultFs::available()?;
    let mut tally = Tally::default();
    let mut findings = Vec::new();
    let end = options.from + options.rounds;
    let mut next = options.from;
    while next < end && findings.is_empty() {
        let rounds = next..end.min(next + ROUNDS_PER_CLUSTER);
        next = rounds.end;
        live(options, rounds, &mut tally, &mut findings).await?;
    }
    Ok((tally.figures(), findings))
}

/// The rounds of one cluster.
async fn live(
    options: &PowercutOptions,
    rounds: std::ops::Range<u64>,
    tally: &mut Tally,
    findings: &mut Vec<Finding>,
) -> Outcome {
    let seed = plan::seed_of(options.seed, rounds.start);
    let mut machines = Machines::start(&options.program, options.nodes, seed).await?;
    let client = machines.cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(PARTITIONS).replication_factor(3);
    client.admin().create_topic(topic).await?;
    let mut round = Round { client, history: crate::processes::History::default(), sent: 0 };
    for number in rounds {
        let strike = plan::draw(options, number);
        let lived = round.live(&mut machines, strike, tally).await;
        let failure = match lived {
            Ok(None) => None,
            Ok(Some(what)) => Some(what),
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = failure {
            let what = format!("round {number} ({strike}): {what}");
            findings.push(Finding { what, repeat: options.repeat(number) });
            break;
        }
        progress(format_args!("round {number}: {strike}: {}", tally.last()));
    }
    tally.count_disks(&machines.counts());
    machines.end(findings.is_empty());
    Ok(())
}

/// Load on all partitions, its records numbered from here on.
fn load(client: &duramen_client::Client, first: u64) -> Load {
    let options =
        LoadOptions { partitions: PARTITIONS, value_bytes: 100, first, ..LoadOptions::default() };
    Load::start(client, TOPIC, options)
}

/// A failure in words.
fn failure(what: impl Into<String>) -> Failure {
    Failure::from(what.into())
}
