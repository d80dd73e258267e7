//! Power loss for real processes: the disk that forgets what was not synced, and clusters on it.
//!
//! Where no file system can be mounted through FUSE every test here says so and does nothing.
//! `DURAMEN_POWERCUT_ROUNDS` makes the clusters' part longer; `DURAMEN_PROGRAM` names another
//! program to test, such as a release build.

#[path = "powercut/cluster.rs"]
mod cluster;
#[path = "powercut/disk.rs"]
mod disk;

use duramen_tests::faultfs::FaultFs;
use duramen_tests::processes::say;

/// Whether disks can be mounted here; says so if not.
fn can_mount(test: &str) -> bool {
    match FaultFs::available() {
        Ok(()) => true,
        Err(reason) => {
            say(format_args!("SKIPPED {test}: {reason}"));
            false
        }
    }
}
