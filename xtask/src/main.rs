//! What a developer and CI run: `cargo xtask check`, `fix` or `tidy`, and the long test programs.
//!
//! `check` writes nothing but build output; `fix` writes. CI runs `check` and nothing that a
//! developer cannot run.

mod campaigns;
mod steps;
mod tidy;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check  format, tidy, clippy, tests, documentation, licenses; writes nothing
  fix    formats and applies what clippy can repair
  tidy   the rules that no other tool checks; fast

long test programs, built in release; each has --help, --json, and prints its figures last:

  sim          whole clusters in one thread under a seed, with faults
  crashpoints  power cuts and failing calls at every point of everything durable
  corrupt      damage in every region of every kind of file
  chaos        clusters of real processes: kill, pause, cut, fill
  powercut     real processes on a disk that forgets what was not synced
  groups       consumer groups: churn, moves, processes that stand still
  mutants      bugs planted on purpose, each of which must be found
  fuzz         every decoder of bytes from disk or network";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    let root = root();
    if let Some(campaign) = campaigns::find(&command) {
        return campaigns::run(&root, campaign, &arguments);
    }
    let command = if arguments.is_empty() { command } else { String::new() };
    let passed = match command.as_str() {
        "check" => steps::run(&root, &steps::CHECK),
        "fix" => steps::run(&root, &steps::FIX),
        "tidy" => steps::run(&root, &steps::TIDY),
        _ => {
            say(USAGE);
            false
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The workspace's directory.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Prints a line. A closed pipe is nobody's error.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
