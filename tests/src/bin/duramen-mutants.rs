//! Plants bugs and counts the seeds until each is found: `cargo xtask mutants`.

use std::process::ExitCode;

use clap::Parser;
use duramen_env::planted::Planted;
use duramen_tests::campaign::{finish, progress};
use duramen_tests::mutants::{Size, run};

/// Plants bugs on purpose, one after the other, and counts the seeds until each is found.
///
/// A bug that is not found is a hole in the tests. Needs a build with the feature `planted`, which
/// `cargo xtask mutants` makes.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  cargo xtask mutants\n  \
    cargo xtask mutants --bug forget-vote --starts 9\n  cargo xtask mutants --json")]
struct Arguments {
    /// Only this bug; may be given again. All of them by default.
    #[arg(long = "bug", value_parser = parse_bug)]
    bugs: Vec<Planted>,
    /// Starting points for each bug; the figure is the median over them.
    #[arg(long, default_value_t = 5)]
    starts: u64,
    /// Seeds from each starting point until the bug counts as missed.
    #[arg(long, default_value_t = 40)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// The figures as one JSON object.
    #[arg(long)]
    json: bool,
}

fn parse_bug(name: &str) -> Result<Planted, String> {
    let names: Vec<_> = Planted::ALL.iter().map(|bug| bug.name()).collect();
    Planted::parse(name).ok_or_else(|| format!("no such bug; there are {}", names.join(", ")))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bugs = match arguments.bugs.as_slice() {
        [] => Planted::ALL.to_vec(),
        chosen => chosen.to_vec(),
    };
    let size = Size {
        bugs,
        starts: arguments.starts.max(1),
        seeds: arguments.seeds.max(1),
        from: arguments.from,
    };
    match run(&size) {
        Ok((figures, findings)) => finish(&figures, &findings, arguments.json),
        Err(error) => {
            progress(format_args!("could not start a detector beside this program: {error}"));
            ExitCode::FAILURE
        }
    }
}
