//! The long test programs: built in release, then run with the arguments as they are.

use std::path::Path;
use std::process::ExitCode;

use crate::say;
use crate::steps::cargo_command;

/// One of them.
pub(crate) struct Campaign {
    name: &'static str,
    binary: &'static str,
    /// Arguments before those that were given.
    before: &'static [&'static str],
    features: &'static str,
}

const fn campaign(name: &'static str, binary: &'static str) -> Campaign {
    Campaign { name, binary, before: &[], features: "" }
}

const ALL: [Campaign; 8] = [
    Campaign { before: &["sweep"], ..campaign("sim", "duramen-sim") },
    campaign("crashpoints", "duramen-crashpoints"),
    campaign("corrupt", "duramen-corrupt"),
    campaign("chaos", "duramen-chaos"),
    campaign("powercut", "duramen-powercut"),
    campaign("groups", "duramen-groups"),
    Campaign { features: "planted", ..campaign("mutants", "duramen-mutants") },
    campaign("fuzz", "duramen-fuzz"),
];

/// How cargo builds and runs the package of the campaigns.
const PACKAGE: [&str; 6] =
    ["--locked", "--quiet", "--profile", "campaign", "--package", "duramen-tests"];

/// The campaign of this name.
pub(crate) fn find(name: &str) -> Option<&'static Campaign> {
    ALL.iter().find(|campaign| campaign.name == name)
}

/// Builds and runs a campaign; it prints for itself and its exit code is this program's.
pub(crate) fn run(root: &Path, campaign: &Campaign, arguments: &[String]) -> ExitCode {
    // All programs together: campaigns start others of the package as their workers.
    let mut building = cargo_command(root);
    building.arg("build").args(PACKAGE).args(["--bins", "--features", campaign.features]);
    match building.status() {
        Ok(status) if status.success() => {}
        Ok(_) => return ExitCode::FAILURE,
        Err(error) => {
            say(&format!("could not run cargo: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let mut running = cargo_command(root);
    running.arg("run").args(PACKAGE).args(["--features", campaign.features]);
    running.args(["--bin", campaign.binary, "--"]).args(campaign.before).args(arguments);
    match running.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("could not run cargo: {error}"));
            ExitCode::FAILURE
        }
    }
}
