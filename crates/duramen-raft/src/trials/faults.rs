//! Disks that refuse: the replica stops rather than lies, and the others go on.

use std::time::Duration;

use duramen_env::{CrashMode, DiskCall, Fault};

use super::cluster::{Cluster, PARTITION, hold_syncs};

/// Lets a fault hit a follower while records are written, and sees that it stops.
fn follower_stops(seed: u64, fault: Fault) -> (Cluster, u64) {
    let mut cluster = Cluster::of_three(seed);
    cluster.write(30);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let hits = cluster.node(node).disk.faults_hit();
    cluster.node(node).disk.inject(fault);
    cluster.write(30);
    assert!(cluster.node(node).disk.faults_hit() > hits, "the fault was met");
    cluster.until("the replica stopped", |cluster| cluster.group(node, PARTITION).status().stopped);
    let reason = cluster.node(node).stop_reason().expect("the node is to stop");
    assert!(reason.contains("log"), "{reason}");
    (cluster, node)
}

#[test]
fn a_follower_whose_append_fails_stops() {
    let fault = Fault::new(DiskCall::Write).path_contains(".log");
    let (mut cluster, node) = follower_stops(61, fault);
    cluster.write(20);
    cluster.crash(node, None);
    cluster.start(node);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_follower_whose_sync_fails_stops_and_comes_back_without_what_was_not_synced() {
    let fault = Fault::new(DiskCall::Sync).path_contains(".log").lying();
    let (mut cluster, node) = follower_stops(62, fault);
    cluster.write(20);
    cluster.crash(node, Some(CrashMode::KeepAll));
    cluster.start(node);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_follower_whose_vote_cannot_be_saved_stops() {
    let mut cluster = Cluster::of_three(63);
    cluster.write(30);
    let leader = cluster.leader(PARTITION);
    let voter = cluster.followers(PARTITION)[0];
    cluster.node(voter).disk.inject(Fault::new(DiskCall::Sync).path_contains("hardstate"));
    cluster.crash(leader, None);
    cluster.until("the node is to stop", |cluster| cluster.node(voter).stop_reason().is_some());
    cluster
        .until("the replica stopped", |cluster| cluster.group(voter, PARTITION).status().stopped);
    cluster.start(leader);
    cluster.write(10);
    cluster.crash(voter, None);
    cluster.start(voter);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_whose_sync_fails_stops_and_another_one_serves() {
    let mut cluster = Cluster::of_three(64);
    cluster.write(30);
    let leader = cluster.leader(PARTITION);
    cluster.node(leader).disk.inject(Fault::new(DiskCall::Sync).path_contains(".log").lying());
    let (first, pending) = cluster.start_writing(leader, PARTITION, 20);
    let outcomes = cluster.wait(pending);
    // Those that both followers had were committed without it.
    cluster.note(first, &outcomes);
    cluster.until("the node is to stop", |cluster| cluster.node(leader).stop_reason().is_some());
    // Who waits for a change of its status hears of it.
    let seen = cluster.group(leader, PARTITION).status();
    if !seen.stopped {
        cluster.call(leader, move |host| async move {
            host.group(PARTITION).unwrap().status_changed(seen).await
        });
    }
    let status = cluster.group(leader, PARTITION).status();
    assert!(status.stopped && !status.is_leader && status.leader.is_none(), "{status:?}");
    assert_eq!(cluster.group(leader, PARTITION).serving_term(), None);
    cluster.crash(leader, Some(CrashMode::KeepNone));
    cluster.write(20);
    cluster.start(leader);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_full_disk_does_not_stop_the_node() {
    let mut cluster = Cluster::of_three(65);
    cluster.write(30);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    cluster.call(node, |host| async move { host.set_disk_full(true) });
    cluster.write(30);
    let leader = cluster.leader(PARTITION);
    let term = cluster.group(leader, PARTITION).status().term;
    cluster.pass(Duration::from_secs(3));
    let group = cluster.group(node, PARTITION);
    assert!(!group.status().stopped);
    assert!(group.log_tip() != cluster.group(leader, PARTITION).log_tip());
    assert_eq!(cluster.group(leader, PARTITION).status().term, term, "it still hears the leader");
    drop(group);
    cluster.call(node, |host| async move { host.set_disk_full(false) });
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_clean_shutdown_with_writes_on_their_way_is_no_failure() {
    let mut cluster = Cluster::of_three(66);
    for _ in 0..3 {
        let leader = cluster.leader(PARTITION);
        let (first, pending) = cluster.start_writing(leader, PARTITION, 40);
        cluster.call(leader, |host| async move { host.shutdown().await });
        let outcomes = cluster.wait(pending);
        cluster.note(first, &outcomes);
        assert_eq!(cluster.node(leader).stop_reason(), None, "nothing failed");
        cluster.crash(leader, None);
        cluster.start(leader);
        cluster.check(&[1, 2, 3]);
    }
}

#[test]
fn a_shutdown_that_overtakes_a_sync_is_no_failure() {
    let mut cluster = Cluster::of_three(67);
    cluster.write(20);
    let node = cluster.followers(PARTITION)[0];
    let held = hold_syncs(&mut cluster, node);
    cluster.write(20);
    let log = std::sync::Arc::clone(&cluster.group(node, PARTITION).replica.log);
    assert!(log.unsynced_bytes() > 0, "a sync is due");
    cluster.call(node, |host| async move { host.shutdown().await });
    drop(held);
    cluster.pass(Duration::from_millis(100));
    assert_eq!(cluster.node(node).stop_reason(), None);
    drop(log);
    cluster.crash(node, Some(CrashMode::KeepNone));
    cluster.start(node);
    cluster.check(&[1, 2, 3]);
}
