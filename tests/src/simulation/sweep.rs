//! Runs many seeds, each in a process of its own, and adds up what they counted.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::fault::{FaultKind, Tally};
use super::outcome::Outcome;
use super::plan::FAULTS_MIN;
use crate::campaign::{Figures, Finding, progress};

/// A process that takes longer than this is ended, and its seed has failed.
const WALL_MAX: Duration = Duration::from_secs(600);

/// The last bytes of what a process said that are shown.
const SAID_BYTES_MAX: usize = 4_000;

/// Progress is shown after so many seeds.
const SHOW_EVERY: u64 = 25;

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The program that runs one seed: `PROGRAM run SEED --json`.
    pub program: PathBuf,
    /// How many seeds.
    pub seeds: u64,
    /// The first one.
    pub from: u64,
    /// The kinds of fault; empty is all.
    pub faults: Vec<FaultKind>,
    /// Processes at a time.
    pub jobs: usize,
}

impl Sweep {
    fn faults_argument(&self) -> Option<String> {
        let names: Vec<_> = self.faults.iter().map(|kind| kind.name()).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    fn repeat(&self, seed: u64) -> String {
        let faults = self.faults_argument().map(|list| format!(" --faults {list}"));
        format!("cargo xtask sim --seeds 1 --from {seed}{}", faults.unwrap_or_default())
    }
}

/// What all seeds came to so far.
#[derive(Default)]
struct Sum {
    passed: u64,
    run: u64,
    cpu_ms: u64,
    figures: std::collections::BTreeMap<&'static str, u64>,
    acknowledged_min: Option<u64>,
    served_max_ms: u64,
    converged_max_ms: u64,
    faults: Tally,
    findings: Vec<Finding>,
}

/// Runs a sweep to its end; a seed that fails stops nothing.
///
/// # Errors
/// If no runtime can be made to run processes.
pub fn sweep(sweep: &Sweep) -> std::io::Result<(Figures, Vec<Finding>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = duramen_env::RealClock::new();
    let sum = runtime.block_on(async {
        let seeds = sweep.from..sweep.from.saturating_add(sweep.seeds);
        let runs = futures::stream::iter(seeds)
            .map(|seed| async move { (seed, run_one(sweep, seed).await) })
            .buffer_unordered(sweep.jobs.max(1));
        let mut runs = std::pin::pin!(runs);
        let mut sum = Sum::default();
        while let Some((seed, ran)) = runs.next().await {
            sum.add(sweep, seed, ran);
            if sum.run.is_multiple_of(SHOW_EVERY) {
                let (run, failed) = (sum.run, sum.run - sum.passed);
                progress(format_args!("{run} of {} seeds, {failed} failed", sweep.seeds));
            }
        }
        sum
    });
    let wall = duramen_env::Clock::monotonic(&started);
    Ok((sum.figures(wall), sum.findings))
}

/// Runs one seed in a process of its own: what it counted and how long it computed, or what it said
/// before it failed.
async fn run_one(sweep: &Sweep, seed: u64) -> Result<(Outcome, u64), String> {
    let mut command = tokio::process::Command::new(&sweep.program);
    command.args(["run", &seed.to_string(), "--json"]);
    if let Some(list) = sweep.faults_argument() {
        command.args(["--faults", &list]);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(WALL_MAX, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("could not be run: {error}")),
        Err(_) => return Err(format!("was not done after {} s", WALL_MAX.as_secs())),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().next_back().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let outcome = last.as_ref().and_then(Outcome::from_json);
    match (outcome, last) {
        (Some(outcome), Some(value)) => Ok((outcome, value["cpu_ms"].as_u64().unwrap_or(0))),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let from = said.len().saturating_sub(SAID_BYTES_MAX);
            let tail = said.get(from..).unwrap_or_default();
            Err(format!("ended with {}: {tail}", output.status))
        }
    }
}

impl Sum {
    fn add(&mut self, sweep: &Sweep, seed: u64, ran: Result<(Outcome, u64), String>) {
        self.run += 1;
        let problems = match ran {
            Ok((outcome, cpu_ms)) => self.add_outcome(sweep, outcome, cpu_ms),
            Err(said) => vec![said],
        };
        if problems.is_empty() {
            self.passed += 1;
            return;
        }
        let finding = Finding {
            what: format!("seed {seed}: {}", problems.join("; ")),
            repeat: sweep.repeat(seed),
        };
        progress(format_args!("FAILED: {}", finding.what));
        self.findings.push(finding);
    }

    /// Adds what a run counted; gives what it found.
    fn add_outcome(&mut self, sweep: &Sweep, outcome: Outcome, cpu_ms: u64) -> Vec<String> {
        let figures = outcome.figures;
        let mut problems = outcome.findings;
        let kinds = if sweep.faults.is_empty() { FaultKind::ALL.len() } else { sweep.faults.len() };
        let faults_min = u64::try_from(FAULTS_MIN.as_millis()).unwrap_or(u64::MAX);
        if problems.is_empty() {
            let lacks = figures.lacks(kinds, faults_min);
            problems.extend(lacks.map(|lack| format!("the plan was too easy or too hard: {lack}")));
        }
        self.cpu_ms += cpu_ms;
        for (name, value) in [
            ("virtual_ms", figures.virtual_ms),
            ("acknowledged", figures.acknowledged),
            ("refused", figures.refused),
            ("unknown", figures.unknown),
            ("read", figures.read),
            ("leaders", figures.leaders),
            ("truncations", figures.truncations),
            ("restarts", figures.losses.restarts),
            ("stopped", figures.losses.stopped),
            ("power_majority", figures.losses.power_majority),
            ("power_all", figures.losses.power_all),
            ("replaced", figures.losses.replaced),
        ] {
            *self.figures.entry(name).or_default() += value;
        }
        let least = self.acknowledged_min.unwrap_or(u64::MAX).min(figures.acknowledged);
        self.acknowledged_min = Some(least);
        self.served_max_ms = self.served_max_ms.max(figures.served_ms);
        self.converged_max_ms = self.converged_max_ms.max(figures.converged_ms);
        self.faults.add(&figures.faults);
        problems
    }

    fn figures(&self, wall: Duration) -> Figures {
        let of = |name: &str| self.figures.get(name).copied().unwrap_or(0);
        let fault = |kind: FaultKind| {
            let count = self.faults.of(kind);
            let text = format!("{}/{}", count.effective, count.on_leader);
            (kind.name().to_owned(), Value::String(text))
        };
        let faults: Map<String, Value> = FaultKind::ALL.into_iter().map(fault).collect();
        let cpu_s = self.cpu_ms / 1_000;
        let per_hour = (self.run * 3_600_000).checked_div(self.cpu_ms).unwrap_or(0);
        let mut figures = Figures::default();
        figures.set("seeds", self.run).set("passed", self.passed);
        figures.set("failed", self.run - self.passed);
        figures.set("virtual_s", of("virtual_ms") / 1_000);
        figures.set("acknowledged", of("acknowledged"));
        figures.set("acknowledged_min", self.acknowledged_min.unwrap_or(0));
        for name in ["unknown", "refused", "read", "leaders", "truncations", "restarts", "stopped"]
        {
            figures.set(name, of(name));
        }
        figures.set("power_majority", of("power_majority")).set("power_all", of("power_all"));
        figures.set("replaced", of("replaced"));
        figures.set("faults_and_on_leader", json!(faults));
        figures.set("served_max_ms", self.served_max_ms);
        figures.set("converged_max_ms", self.converged_max_ms);
        figures.set("cpu_s", cpu_s).set("seeds_per_cpu_hour", per_hour);
        figures.set("wall_s", wall.as_secs());
        figures
    }
}
