//! Clusters on disks that forget: a few rounds, and the proof that a loss would be seen.

use std::path::PathBuf;

use duramen_tests::powercut::{PowercutOptions, control, forget_metadata, run};
use duramen_tests::processes::{say, size};

use crate::can_mount;

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("DURAMEN_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_duramen-under-test").into(), PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    if !can_mount("nothing_acknowledged_is_lost_when_the_power_goes") {
        return;
    }
    let rounds = size("DURAMEN_POWERCUT_ROUNDS", 2);
    let options = PowercutOptions { rounds, ..PowercutOptions::new(program()) };
    let (figures, findings) = run(&options).await.unwrap();
    say(format_args!("power cuts: {}", figures.to_line()));
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_disks_lie_the_loss_is_noticed() {
    if !can_mount("when_all_disks_lie_the_loss_is_noticed") {
        return;
    }
    let (figures, findings) = control(&program(), 1).await.unwrap();
    say(format_args!("all disks lie: {}", figures.to_line()));
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_forgot_metadata_ends_and_joins_anew() {
    if !can_mount("a_node_that_forgot_metadata_ends_and_joins_anew") {
        return;
    }
    forget_metadata(&program(), 1).await.unwrap();
}
