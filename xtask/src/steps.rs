//! The steps of each command, run one after the other until one fails.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::say;
use crate::tidy;

/// One step.
pub(crate) struct Step {
    name: &'static str,
    work: Work,
}

enum Work {
    /// `cargo` with these arguments and these environment variables.
    Cargo(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// The same, if the cargo subcommand of this name is installed.
    IfInstalled(&'static str, &'static [&'static str]),
    /// The rules of `tidy`.
    Tidy,
}

const STEP_TIDY: Step = Step { name: "tidy", work: Work::Tidy };

/// `cargo xtask check`: the quick steps first. `--locked` keeps Cargo.lock as it is.
pub(crate) const CHECK: [Step; 6] = [
    Step { name: "format", work: Work::Cargo(&["fmt", "--all", "--check"], &[]) },
    STEP_TIDY,
    Step {
        name: "clippy",
        work: Work::Cargo(
            &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
            &[],
        ),
    },
    Step { name: "tests", work: Work::Cargo(&["test", "--locked", "--workspace"], &[]) },
    Step {
        name: "documentation",
        work: Work::Cargo(
            &["doc", "--locked", "--workspace", "--no-deps"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
    },
    Step {
        name: "licenses and advisories",
        work: Work::IfInstalled("deny", &["deny", "--locked", "check"]),
    },
];

/// `cargo xtask fix`.
pub(crate) const FIX: [Step; 2] = [
    Step {
        name: "clippy --fix",
        work: Work::Cargo(
            &["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"],
            &[],
        ),
    },
    Step { name: "format", work: Work::Cargo(&["fmt", "--all"], &[]) },
];

/// `cargo xtask tidy`.
pub(crate) const TIDY: [Step; 1] = [STEP_TIDY];

/// What came of a step.
enum Result {
    Passed,
    Failed,
    /// Not run, for this reason.
    Skipped(String),
}

/// Runs steps until one fails; whether none did.
pub(crate) fn run(root: &Path, steps: &[Step]) -> bool {
    for step in steps {
        say(&format!("==> {}", step.name));
        #[expect(clippy::disallowed_methods, reason = "tells a person how long it took")]
        let start = Instant::now();
        let result = step.work.run(root);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Result::Passed => say(&format!("    {} passed, {seconds:.1} s", step.name)),
            Result::Skipped(reason) => say(&format!("    {} SKIPPED: {reason}", step.name)),
            Result::Failed => {
                say(&format!("    {} FAILED, {seconds:.1} s", step.name));
                return false;
            }
        }
    }
    true
}

impl Work {
    fn run(&self, root: &Path) -> Result {
        match self {
            Self::Cargo(arguments, variables) => cargo(root, arguments, variables),
            Self::IfInstalled(name, arguments) => {
                if is_installed(name) {
                    cargo(root, arguments, &[])
                } else {
                    Result::Skipped(format!("cargo-{name} is not installed"))
                }
            }
            Self::Tidy => match tidy::run(root) {
                Ok(findings) if findings.is_empty() => Result::Passed,
                Ok(findings) => {
                    findings.iter().for_each(|finding| say(&finding.to_string()));
                    Result::Failed
                }
                Err(error) => {
                    say(&format!("could not look: {error}"));
                    Result::Failed
                }
            },
        }
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo_command(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}

fn cargo(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result {
    let mut command = cargo_command(root);
    command.args(arguments).envs(variables.iter().copied());
    match command.status() {
        Ok(status) if status.success() => Result::Passed,
        Ok(_) => Result::Failed,
        Err(error) => {
            say(&format!("could not run cargo: {error}"));
            Result::Failed
        }
    }
}

fn is_installed(subcommand: &str) -> bool {
    let mut command = Command::new(format!("cargo-{subcommand}"));
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
