//! A run of many rounds: nemesis on, load goes on, nemesis off, all partitions serve again; now and
//! then a full audit.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;
use duramen_client::{Client, NewTopic};
use duramen_env::{Random, SeededRandom};
use tokio::time::Instant;

use super::{
    Arena, ArenaOptions, Audit, Counts, Disks, Load, LoadOptions, Nemesis, Network, Recorder,
    Tally, audit, strike,
};
use crate::campaign::{Figures, Finding, progress};
use crate::processes::Outcome;

const TOPIC: &str = "chaos";

/// A partition that does not serve within this time after a nemesis let go is dead.
const SERVING_MAX: Duration = Duration::from_secs(60);

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The program under test.
    pub program: PathBuf,
    /// Nodes, 3 to 5.
    pub nodes: u16,
    /// Rounds; one strike each.
    pub rounds: u64,
    /// What is drawn follows from it; what processes make of it does not.
    pub seed: u64,
    /// Each strikes once before one strikes again.
    pub nemeses: Vec<Nemesis>,
    /// Rounds between two full audits. There is one at the end, too.
    pub audit_every: u64,
    /// How much is produced and read.
    pub load: LoadOptions,
    /// What lies between the nodes.
    pub network: Network,
}

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// Strikes and recoveries.
    pub tally: Tally,
    /// What the clients were told.
    pub counts: Counts,
    /// What the last audit found, which looks at everything since the beginning.
    pub audit: Audit,
    /// What must not have happened.
    pub findings: Vec<Finding>,
    /// Where the data of a failed run are.
    pub kept: Option<PathBuf>,
}

impl RunOptions {
    /// The command that does the same again.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { seed, rounds, nodes, network, .. } = self;
        let network = network.to_possible_value();
        let network = network.as_ref().map_or("", |value| value.get_name());
        let nemeses: Vec<_> = self.nemeses.iter().map(ToString::to_string).collect();
        let nemeses = nemeses.join(",");
        format!(
            "cargo xtask chaos --seed {seed} --rounds {rounds} --nodes {nodes} --network {network} \
             --nemeses {nemeses}"
        )
    }
}

/// Does it. A nemesis that cannot be had here is skipped with a notice.
pub async fn run(options: &RunOptions) -> Run {
    let mut possible = options.clone();
    possible.nemeses.retain(|nemesis| match nemesis.hindrance(options.network) {
        Some(why) => {
            progress(format_args!("SKIPPED: {nemesis}: {why}"));
            false
        }
        None => true,
    });
    let mut run = Run::default();
    if possible.nemeses.is_empty() {
        return run;
    }
    let finding = |what: String| Finding { what, repeat: options.command() };
    let arena = ArenaOptions {
        program: options.program.clone(),
        nodes: options.nodes,
        disks: disks(&possible),
        network: options.network,
    };
    let mut arena = match Arena::start(&arena).await {
        Ok(arena) => arena,
        Err(error) => {
            run.findings.push(finding(format!("the cluster did not start: {error}")));
            return run;
        }
    };
    if let Err(error) = rounds(&possible, &mut arena, &mut run).await {
        run.findings.push(finding(format!("after {} rounds: {error}", run.rounds)));
    }
    run.findings.extend(run.audit.findings().into_iter().map(finding));
    if run.rounds == options.rounds {
        let idle = run.tally.idle();
        let idle = idle.iter().map(|nemesis| finding(format!("{nemesis} came to nothing")));
        run.findings.extend(idle);
    }
    if run.findings.is_empty() {
        arena.cluster.passed();
    } else {
        let kept = arena.keep();
        progress(format_args!("the data of the failed run are in {}", kept.display()));
        run.kept = Some(kept);
    }
    run
}

/// The disks that the nemeses need.
fn disks(options: &RunOptions) -> Disks {
    if options.nemeses.iter().any(|nemesis| nemesis.needs_power()) {
        Disks::Powered(options.seed)
    } else if options.nemeses.contains(&Nemesis::DiskFull) {
        Disks::SmallLast
    } else {
        Disks::Plain
    }
}

async fn rounds(options: &RunOptions, arena: &mut Arena, run: &mut Run) -> Outcome {
    let partitions = options.load.partitions;
    let client = arena.create_topic(NewTopic::new(TOPIC).partitions(partitions)).await?;
    let recorder = Recorder::default();
    let deck = SeededRandom::new(options.seed);
    let mut left = Vec::new();
    let mut load = Load::start(arena, &client, TOPIC, &recorder, options.load);
    load.wait_serving(Instant::now(), SERVING_MAX).await?;
    for number in 1..=options.rounds {
        let nemesis = next(&deck, &mut left, &options.nemeses);
        let outcome = round(options, arena, &load, (number, nemesis), run).await;
        run.counts = recorder.counts();
        outcome.map_err(|error| format!("{nemesis}: {error}"))?;
        run.rounds = number;
        let is_last = number == options.rounds;
        if is_last || number % options.audit_every == 0 {
            load.finish().await?;
            full_audit(arena, &client, &recorder, run).await?;
            if is_last || !run.audit.findings().is_empty() {
                return Ok(());
            }
            let all = arena.ids().into_iter().collect();
            arena.start_nodes(&all)?;
            arena.cluster.wait_ready().await?;
            load = Load::start(arena, &client, TOPIC, &recorder, options.load);
        }
    }
    Ok(())
}

/// The next nemesis: each once, in an order that is drawn, then all again.
fn next(deck: &SeededRandom, left: &mut Vec<Nemesis>, all: &[Nemesis]) -> Nemesis {
    if left.is_empty() {
        left.extend_from_slice(all);
    }
    let count = u64::try_from(left.len()).unwrap_or(1);
    left.swap_remove(usize::try_from(deck.below(count)).unwrap_or(0))
}

async fn round(
    options: &RunOptions,
    arena: &mut Arena,
    load: &Load,
    (number, nemesis): (u64, Nemesis),
    run: &mut Run,
) -> Outcome {
    let begin = Instant::now();
    // Of its own, so that how much one round draws does not change the next.
    let random = SeededRandom::new(options.seed.rotate_left(32) ^ number);
    let leaders = arena.leaders(TOPIC, options.load.partitions).await?;
    let blow = strike(arena, nemesis, leaders, &random).await?;
    // The strike lasts: what is waited for is time.
    tokio::time::sleep(blow.hold).await;
    let lifted = Instant::now();
    let felt = blow.lift(arena).await?;
    let recovery = load.wait_serving(lifted, SERVING_MAX).await?;
    run.tally.count(nemesis, felt, blow.hit_leader, recovery);
    blow.settle(arena).await?;
    for node in &mut arena.cluster.nodes {
        if let Some(status) = node.has_died()? {
            return Err(format!("node {} ended by itself: {status}", node.id).into());
        }
    }
    arena.cluster.wait_in_sync(TOPIC, arena.replicas()).await?;
    arena.trust_sound();
    progress(format_args!(
        "round {number}: {nemesis} of {:?}{} for {} ms, served after {} ms, round {} ms",
        blow.targets,
        if blow.hit_leader { ", a leader," } else { "" },
        blow.hold.as_millis(),
        recovery.as_millis(),
        begin.elapsed().as_millis(),
    ));
    Ok(())
}

async fn full_audit(
    arena: &mut Arena,
    client: &Client,
    recorder: &Recorder,
    run: &mut Run,
) -> Outcome {
    let begin = Instant::now();
    let audited = audit(arena, client, TOPIC, recorder).await;
    run.counts = recorder.counts();
    run.audit = audited?;
    let Audit { report, alike, .. } = &run.audit;
    progress(format_args!(
        "audit after round {}: {} acknowledged, {alike} pairs of replicas alike, {} kinds of \
         anomaly, in {} ms",
        run.rounds,
        run.counts.acknowledged,
        report.failures(),
        begin.elapsed().as_millis(),
    ));
    Ok(())
}

impl Run {
    /// The figures of the run.
    pub fn figures(&self, options: &RunOptions) -> Figures {
        let mut figures = Figures::default();
        let (median, worst) = self.tally.recovery();
        figures
            .set("rounds", self.rounds)
            .set("nodes", options.nodes)
            .set("seed", options.seed)
            .set("acknowledged", self.counts.acknowledged)
            .set("unknown", self.counts.unknown)
            .set("refused", self.counts.refused)
            .set("read", self.counts.read)
            .set("lost", self.audit.lost())
            .set("duplicated", self.audit.duplicated())
            .set("reordered", self.audit.reordered())
            .set("replica_pairs_alike", self.audit.alike)
            .set("recovery_median_ms", median)
            .set("recovery_worst_ms", worst)
            .set("nemeses", self.tally.figures());
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nemesis_strikes_once_before_one_strikes_again() {
        let deck = SeededRandom::new(7);
        let all = Nemesis::all();
        let mut left = Vec::new();
        for _ in 0..3 {
            let mut drawn: Vec<_> = all.iter().map(|_| next(&deck, &mut left, &all)).collect();
            drawn.sort_unstable();
            assert_eq!(drawn, all);
        }
    }
}
