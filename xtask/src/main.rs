//! What a developer and CI run: `cargo xtask check`, `fix` or `tidy`.
//!
//! `check` writes nothing but build output; `fix` writes. CI runs `check` and nothing that a
//! developer cannot run.

mod steps;
mod tidy;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check  format, tidy, clippy, tests, documentation, licenses; writes nothing
  fix    formats and applies what clippy can repair
  tidy   the rules that no other tool checks; fast";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = match (arguments.next(), arguments.next()) {
        (Some(command), None) => command,
        _ => String::new(),
    };
    let root = root();
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
