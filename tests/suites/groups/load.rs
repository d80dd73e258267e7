//! Groups under load, in little; `cargo xtask groups` does it at size.

use std::time::Duration;

use duramen_tests::groups::{ChurnOptions, MoveOptions, churn, moves, zombie};
use duramen_tests::processes::{say, size};

use crate::program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_processed_while_consumers_and_coordinators_come_and_go() {
    let options = ChurnOptions {
        records: size("DURAMEN_RECORDS", 20_000),
        partitions: 12,
        consumers: 6,
        seconds: size("DURAMEN_SECONDS", 8),
        coordinator_kills: 1,
        seed: 1,
    };
    let (figures, findings) = churn(&program(), options).await.unwrap();
    say(format_args!("groups under churn: {}", figures.to_line()));
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_must_move_moves() {
    let session = Duration::from_secs(2);
    let options = MoveOptions { partitions: 12, members: 3, seconds: 1, session, gap_max: None };
    let (figures, findings) = moves(&program(), options).await.unwrap();
    say(format_args!("a member joins, another is killed: {}", figures.to_line()));
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_commits_nothing_and_is_handed_nothing() {
    zombie(&program()).await.unwrap();
}
