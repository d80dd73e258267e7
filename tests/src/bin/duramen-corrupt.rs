//! Damages every region of every kind of file that a node writes, and checks what it makes of it.

use std::process::ExitCode;

use clap::Parser;
use duramen_tests::campaign::{Ending, progress};
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
    #[command(flatten)]
    ending: Ending,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(code) = arguments.ending.plant() {
        return code;
    }
    let files = arguments.files;
    let from = arguments.seed.map_or(arguments.from, |seed| seed.saturating_mul(files));
    let options = Options { files, from, stop_early: arguments.ending.stop };
    let mut outcome = run(&options, &mut |case| progress(format_args!("case {case}")));
    if arguments.table {
        for ((region, damage), classes) in &outcome.table {
            let classes: Vec<String> =
                classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
            progress(format_args!("{region:<34} {damage:<26} {}", classes.join(", ")));
        }
    }
    if let Some(files) = outcome.files_to_first {
        outcome.figures.set("files_to_first_finding", files);
    }
    arguments.ending.finish(&outcome.figures, outcome.findings)
}
