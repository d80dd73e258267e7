//! Clusters of real processes on loopback, killed and damaged: what was acknowledged stays.
//!
//! Sizes are small here; `DURAMEN_ROUNDS` and `DURAMEN_POWER_ROUNDS` make them larger, and
//! `DURAMEN_PROGRAM` names another program to test, such as a release build.

#[path = "cluster/failover.rs"]
mod failover;

use std::path::PathBuf;

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("DURAMEN_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_duramen-under-test").into(), PathBuf::from)
}
