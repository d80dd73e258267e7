//! Damages every region of every kind of file that a node writes, and checks what it makes of it.

use std::process::ExitCode;

use clap::Parser;
use duramen_tests::campaign::{Finding, finish, progress};
use duramen_tests::corrupt::{Options, run};

/// Damages files in every region and every way; opens, reads and verifies everything: damage is
/// always detected, never served, and never taken for a torn write where it was acknowledged.
#[derive(Debug, Parser)]
#[command(
    name = "duramen-corrupt",
    after_help = "Examples:\n  \
        cargo xtask corrupt --files 20000\n  \
        cargo xtask corrupt --files 20000 --table\n  \
        cargo xtask corrupt --files 1 --from 4711"
)]
struct Arguments {
    /// How many cases; a damage that changes nothing is a case but not a file.
    #[arg(long, default_value_t = 4000)]
    files: u64,
    /// The first case.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Begin at case SEED times FILES, so that each seed damages other files.
    #[arg(long, conflicts_with = "from")]
    seed: Option<u64>,
    /// Print what each damage of each region came to.
    #[arg(long)]
    table: bool,
    /// Give this process a bug first; needs a build with the feature `planted`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Findings printed; more are only counted.
    #[arg(long, default_value_t = 20)]
    findings: usize,
    /// Stop at the first finding.
    #[arg(long)]
    stop: bool,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(bug) = &arguments.planted
        && let Err(error) = duramen_tests::guard::plant(bug)
    {
        progress(error);
        return ExitCode::FAILURE;
    }
    let files = arguments.files;
    let from = arguments.seed.map_or(arguments.from, |seed| seed.saturating_mul(files));
    let options = Options { files, from, stop_early: arguments.stop };
    let mut outcome = run(&options, &mut |case| progress(format_args!("case {case}")));
    if arguments.table {
        for ((region, damage), classes) in &outcome.table {
            let classes: Vec<String> =
                classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
            progress(format_args!("{region:<34} {damage:<26} {}", classes.join(", ")));
        }
    }
    let count = outcome.findings.len();
    if let Some(files) = outcome.files_to_first {
        outcome.figures.set("files_to_first_finding", files);
    }
    if count > arguments.findings {
        outcome.findings.truncate(arguments.findings);
        let what = format!("and {} more", count - arguments.findings);
        outcome.findings.push(Finding { what, repeat: "the commands above".into() });
    }
    finish(&outcome.figures, &outcome.findings, arguments.json)
}
