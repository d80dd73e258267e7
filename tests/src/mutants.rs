//! Bugs planted on purpose: each must be found, and this says how soon.
//!
//! A *detector* is another program of this package, run with one seed and the bug planted. A bug is
//! run from several starting seeds; from each, seed after seed until the detector fails. The median
//! of those counts is the figure. The same first seeds without the bug are the control: what fails
//! there is something else.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use duramen_env::planted::Planted;
use serde_json::{Value, json};

use crate::campaign::{Figures, Finding, progress};

/// A program that finds bugs, one seed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// The simulation of a whole cluster.
    Simulation,
    /// Power cuts and failing calls at every point of a trace of each durable thing.
    CrashPoints,
    /// A few hundred damaged files.
    Corruption,
}

/// Files that are damaged under one seed: a few of every kind and damage.
const FILES: &str = "400";

impl Detector {
    /// The one that must find a bug.
    #[must_use]
    pub const fn of(bug: Planted) -> Self {
        match bug {
            Planted::SkipFsync
            | Planted::RetryFailedSync
            | Planted::SkipChainCheck
            | Planted::TrimAboveCommit => Self::CrashPoints,
            Planted::TruncateOnBadChecksum => Self::Corruption,
            Planted::AcknowledgeBeforeSync
            | Planted::ServeAboveHighWatermark
            | Planted::ForgetProducers
            | Planted::ReuseReplicaId
            | Planted::VoteWhenDamaged
            | Planted::ForgetVote
            | Planted::AcknowledgeWithoutMajority => Self::Simulation,
        }
    }

    /// Its name: what follows `cargo xtask`.
    const fn name(self) -> &'static str {
        match self {
            Self::Simulation => "sim",
            Self::CrashPoints => "crashpoints",
            Self::Corruption => "corrupt",
        }
    }

    /// The program's own arguments for one seed.
    fn arguments(self, seed: u64) -> Vec<String> {
        let seed = seed.to_string();
        let words: &[&str] = match self {
            Self::Simulation => &["run", &seed],
            Self::CrashPoints => &["--traces", "1", "--stop", "--seed", &seed],
            Self::Corruption => &["--files", FILES, "--stop", "--seed", &seed],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The command that runs one seed.
    fn repeat(self, seed: u64) -> String {
        match self {
            Self::Simulation => format!("cargo xtask sim --seeds 1 --from {seed}"),
            Self::CrashPoints | Self::Corruption => {
                format!("cargo xtask {} {}", self.name(), self.arguments(seed).join(" "))
            }
        }
    }
}

/// How much is tried.
#[derive(Clone, Debug)]
pub struct Size {
    /// The bugs.
    pub bugs: Vec<Planted>,
    /// Starting points for each bug; odd, so that there is a median.
    pub starts: u64,
    /// Seeds from each starting point until the bug counts as missed.
    pub seeds: u64,
    /// The first seed.
    pub from: u64,
}

/// What was tried with one bug.
struct Hunt {
    /// Seeds until it was found, sorted; those that missed it are not among them.
    counts: Vec<u64>,
    missed: Option<u64>,
    /// What the detector said first.
    symptom: String,
}

/// Plants every bug and lets its detector look for it.
///
/// # Errors
/// A detector cannot be started.
pub fn run(size: &Size) -> std::io::Result<(Figures, Vec<Finding>)> {
    let mut figures = Figures::default();
    let mut findings = Vec::new();
    let mut by_bug = serde_json::Map::new();
    let mut caught = 0;
    for bug in &size.bugs {
        let hunt = hunt(*bug, size)?;
        let median = hunt.counts.get(hunt.counts.len() / 2).copied();
        if let Some(from) = hunt.missed {
            let (name, seeds, detector) = (bug.name(), size.seeds, Detector::of(*bug).name());
            findings.push(Finding {
                what: format!("{name} was not found by {detector} in {seeds} seeds"),
                repeat: format!(
                    "cargo xtask mutants --bug {name} --starts 1 --from {from} --seeds {seeds}"
                ),
            });
        } else {
            caught += 1;
        }
        progress(format_args!(
            "{}: seeds until found {:?}: {}",
            bug.name(),
            hunt.counts,
            hunt.symptom
        ));
        let detector = Detector::of(*bug).name();
        let entry = json!({ "by": detector, "median_seeds": median, "counts": hunt.counts });
        by_bug.insert(bug.name().to_owned(), entry);
    }
    let control = control(size)?;
    findings.extend(control.iter().cloned());
    figures.set("planted", size.bugs.len()).set("caught", caught);
    figures.set("failed_without_a_bug", control.len()).set("bugs", Value::Object(by_bug));
    Ok((figures, findings))
}

fn hunt(bug: Planted, size: &Size) -> std::io::Result<Hunt> {
    let mut hunt = Hunt { counts: Vec::new(), missed: None, symptom: String::new() };
    for start in 0..size.starts {
        let first = size.from + start * size.seeds;
        let mut found = None;
        for seed in first..first + size.seeds {
            let output = detect(Detector::of(bug), seed, Some(bug))?;
            if !output.status.success() {
                found = Some(seed - first + 1);
                if hunt.symptom.is_empty() {
                    hunt.symptom = symptom(&output);
                }
                break;
            }
        }
        match found {
            Some(count) => hunt.counts.push(count),
            None => hunt.missed = Some(first),
        }
    }
    hunt.counts.sort_unstable();
    Ok(hunt)
}

/// The first seed of each starting point, without any bug.
fn control(size: &Size) -> std::io::Result<Vec<Finding>> {
    let detectors: BTreeSet<Detector> = size.bugs.iter().map(|bug| Detector::of(*bug)).collect();
    let mut findings = Vec::new();
    for detector in detectors {
        for start in 0..size.starts {
            let seed = size.from + start * size.seeds;
            let output = detect(detector, seed, None)?;
            if !output.status.success() {
                findings.push(Finding {
                    what: format!("without a bug: {}", symptom(&output)),
                    repeat: detector.repeat(seed),
                });
            }
        }
    }
    Ok(findings)
}

/// Runs one seed; the programs are beside this one.
fn detect(detector: Detector, seed: u64, bug: Option<Planted>) -> std::io::Result<Output> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name(format!("duramen-{}", detector.name()));
    let mut command = Command::new(program);
    command.args(detector.arguments(seed)).stdin(Stdio::null());
    if let Some(bug) = bug {
        command.args(["--planted", bug.name()]);
    }
    command.output()
}

/// The first line that says what failed.
fn symptom(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("FAILED") || line.contains("panicked"));
    line.or_else(|| text.lines().last()).unwrap_or("no word").chars().take(300).collect()
}
