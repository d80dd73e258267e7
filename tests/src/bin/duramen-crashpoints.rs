//! Cuts the power at every point of seeded traces over everything durable that a node has.

use std::process::ExitCode;

use clap::Parser;
use duramen_tests::campaign::{Ending, progress};
use duramen_tests::crashpoints::{FaultKind, Only, Options, SUBJECTS, Tally, run};

/// Cuts the power after every call that changes the disk, lets calls fail, and checks what
/// recovery makes of it: nothing acknowledged is lost, nothing comes back, and a power cut is
/// never taken for damage.
#[derive(Debug, Parser)]
#[command(
    name = "duramen-crashpoints",
    after_help = "Examples:\n  \
        cargo xtask crashpoints --traces 200\n  \
        cargo xtask crashpoints --traces 1 --from 17 --subject votes --only point:132\n  \
        cargo xtask crashpoints --list"
)]
struct Arguments {
    /// How many seeds; each tells a trace of every subject.
    #[arg(long, default_value_t = 20)]
    traces: u64,
    /// The first seed.
    #[arg(long, alias = "seed", default_value_t = 0)]
    from: u64,
    /// Only this subject.
    #[arg(long)]
    subject: Option<String>,
    /// Only this point or fault of each trace, from all sides: `point:132`, `sync-lies:7`.
    #[arg(long)]
    only: Option<Only>,
    /// Failing calls of each kind that are tried in a trace, spread evenly; 0 is all.
    #[arg(long, default_value_t = 6)]
    faults: u64,
    /// Name subjects and faults, and do nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    ending: Ending,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        SUBJECTS.iter().for_each(|subject| progress(subject.name));
        FaultKind::ALL.iter().for_each(progress);
        return ExitCode::SUCCESS;
    }
    if let Err(code) = arguments.ending.plant() {
        return code;
    }
    let options = Options {
        traces: arguments.traces,
        from: arguments.from,
        subject: arguments.subject,
        only: arguments.only,
        faults_max: arguments.faults,
        stop_early: arguments.ending.stop,
    };
    let mut outcome = run(&options, &mut |seed, tally: &Tally| {
        if (seed + 1) % 10 == 0 {
            progress(format_args!("seed {seed}: {} crashes recovered from", tally.tried));
        }
    });
    if let Some(traces) = outcome.traces_to_first {
        outcome.figures.set("traces_to_first_finding", traces);
    }
    arguments.ending.finish(&outcome.figures, outcome.findings)
}
