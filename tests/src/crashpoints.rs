//! Crash-point exhaustion: power cuts after every call that changes the disk, in seeded traces over
//! everything durable that a node has, and failing calls; what recovery makes of each.
//!
//! A *subject* is one durable thing under one configuration: [`SUBJECTS`] lists them, and a new
//! write path of the log is one more entry. A *trace* tells a subject's story under a seed. A
//! *point* is the moment after one mutating call of a trace; it is crashed in every mode, with
//! several draws where the mode draws.

mod identity;
mod log;
mod node;
mod subject;
mod sweep;
mod votes;

use duramen_env::DiskCall;
use duramen_log::LogOptions;

use crate::campaign::{Figures, Finding};

pub use subject::{Expected, Found, Step, Story, Subject, Wrong, WrongKind};
pub use sweep::{FaultKind, Only, Sweep, Tally};

/// Everything durable, each with its write paths.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        name: "log-small-segments",
        operations: 200,
        stride: 1,
        quiet: true,
        begin: |seed| log::begin(seed, small_segments()),
    },
    Subject {
        name: "log-extents",
        operations: 200,
        stride: 1,
        quiet: true,
        begin: |seed| log::begin(seed, extents()),
    },
    Subject {
        name: "log-bounded-flight",
        operations: 200,
        stride: 1,
        quiet: true,
        begin: |seed| log::begin(seed, bounded_flight()),
    },
    Subject { name: "votes", operations: 200, stride: 1, quiet: true, begin: votes::begin },
    // Each recovery starts a whole node.
    Subject { name: "node", operations: 200, stride: 16, quiet: false, begin: node::begin },
    Subject { name: "identity", operations: 30, stride: 1, quiet: true, begin: identity::begin },
];

/// Segments of a few frames: rolls, seals, index files and trims everywhere.
pub(crate) fn small_segments() -> LogOptions {
    LogOptions {
        segment_bytes: 1500,
        tail_cache_bytes: 600,
        extent_bytes_min: 4096,
        extent_bytes_max: 8192,
        index_interval_bytes: 256,
        ..LogOptions::default()
    }
}

/// Segments of many frames that grow by extents, and payloads that are written without a copy.
fn extents() -> LogOptions {
    LogOptions {
        segment_bytes: 96 << 10,
        extent_bytes_min: 4096,
        extent_bytes_max: 32 << 10,
        ..small_segments()
    }
}

/// So little in flight that appends sync by themselves, and recovery must tell it from damage.
fn bounded_flight() -> LogOptions {
    LogOptions { inflight_bytes_max: 3000, segment_bytes: 4000, ..small_segments() }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many seeds; each runs a trace of every subject.
    pub traces: u64,
    /// The first seed.
    pub from: u64,
    /// Only the subject of this name.
    pub subject: Option<String>,
    /// Only this point or fault of each trace.
    pub only: Option<Only>,
    /// Failing calls tried of each kind and trace, spread evenly; 0 is all.
    pub faults_max: u64,
    /// Stop at the first trace with a finding.
    pub stop_early: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (subject, only) = (None, None);
        Self { traces: 10, from: 0, subject, only, faults_max: 12, stop_early: false }
    }
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was counted.
    pub figures: Figures,
    /// What must not have happened.
    pub findings: Vec<Finding>,
    /// Traces run, over all subjects.
    pub traces: u64,
    /// The count of traces up to and with the first that had a finding.
    pub traces_to_first: Option<u64>,
}

/// Runs traces; `progress` hears of each seed that is done.
pub fn run(options: &Options, progress: &mut dyn FnMut(u64, &Tally)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut total = Tally::default();
    let mut by_subject = serde_json::Map::new();
    let wanted =
        |subject: &&Subject| options.subject.as_ref().is_none_or(|name| name == subject.name);
    'seeds: for seed in options.from..options.from.saturating_add(options.traces) {
        for subject in SUBJECTS.iter().filter(wanted) {
            let mut sweep = Sweep::new(*subject, seed, options.only, options.faults_max);
            sweep.run();
            outcome.traces += 1;
            let (tally, findings) = sweep.finish();
            total.add(&tally);
            let before = by_subject.get(subject.name).and_then(serde_json::Value::as_u64);
            let tried = before.unwrap_or(0) + tally.tried;
            by_subject.insert(subject.name.into(), tried.into());
            outcome.findings.extend(findings);
            if !outcome.findings.is_empty() {
                outcome.traces_to_first.get_or_insert(outcome.traces);
                if options.stop_early {
                    break 'seeds;
                }
            }
        }
        progress(seed, &total);
    }
    total.report(outcome.traces, &mut outcome.figures);
    outcome.figures.set("tried_by_subject", by_subject);
    outcome
}

/// The name of a call in commands: `sync-dir`.
fn call_name(call: DiskCall) -> &'static str {
    match call {
        DiskCall::Open => "open",
        DiskCall::CreateDir => "create-dir",
        DiskCall::List => "list",
        DiskCall::Stat => "stat",
        DiskCall::Rename => "rename",
        DiskCall::Remove => "remove",
        DiskCall::SyncDir => "sync-dir",
        DiskCall::Read => "read",
        DiskCall::Write => "write",
        DiskCall::Sync => "sync",
        DiskCall::Allocate => "allocate",
        DiskCall::SetLen => "set-len",
        DiskCall::Map => "map",
    }
}
