//! Restarts, in good order and not: what was acknowledged is there, and nothing else is made up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use duramen_env::{CrashMode, Disk as _, DiskCall, Fault};
use duramen_types::LogIndex;

use super::cluster::{Cluster, PARTITION, hold_syncs};
use super::node::replica;
use crate::Group;
use crate::checkpoint;
use crate::tracker::{Checkpoint, Tracker};
use crate::types::LogId;

/// Where a node's replica of the partition is.
fn dir(cluster: &Cluster, node: u64) -> PathBuf {
    let host = cluster.node(node).host().unwrap();
    host.replica_dir(PARTITION, replica(node, 1))
}

fn applied_end(group: &Group) -> LogIndex {
    group.progress().borrow().applied_end
}

/// Stops a follower, does something to its files, and starts it while the others are cut off, so
/// that what it knows by itself can be seen. Answers where it had applied to and where its log
/// ended.
fn restart_alone(
    cluster: &mut Cluster,
    node: u64,
    end: impl FnOnce(&mut Cluster, u64),
    meanwhile: impl FnOnce(&Cluster, &Path),
) -> (LogIndex, LogIndex) {
    let others: Vec<u64> = (1..=3).filter(|other| *other != node).collect();
    let dir = dir(cluster, node);
    end(cluster, node);
    meanwhile(cluster, &dir);
    cluster.cut(node, &others);
    cluster.start(node);
    cluster.until("the replica is open", |cluster| cluster.try_group(node, PARTITION).is_some());
    let group = cluster.group(node, PARTITION);
    let found = (applied_end(&group), group.replica.log.end_index());
    drop(group);
    cluster.heal(node, &others);
    found
}

fn remove_checkpoints(cluster: &Cluster, node: u64, dir: &Path) -> usize {
    let disk = &cluster.node(node).disk;
    let entries = disk.list(dir).unwrap();
    let checkpoints = entries.iter().filter(|entry| entry.name.starts_with("checkpoint-"));
    checkpoints.map(|entry| disk.remove_file(&dir.join(&entry.name)).unwrap()).count()
}

#[test]
fn a_clean_restart_applies_nothing_again() {
    let mut cluster = Cluster::of_three(21);
    cluster.write(100);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let before = cluster.group(node, PARTITION).replica.log.end_index();
    let (applied, end) = restart_alone(&mut cluster, node, Cluster::stop, |_, _| {});
    assert_eq!((applied, end), (before, before));
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_killed_replica_goes_on_from_its_last_checkpoint() {
    let mut cluster = Cluster::of_three(22);
    cluster.write(100);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let kill = |cluster: &mut Cluster, node| cluster.crash(node, None);
    let (applied, end) = restart_alone(&mut cluster, node, kill, |_, _| {});
    assert!(applied > LogIndex::ZERO && applied <= end, "{applied} of {end}");
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_replica_without_checkpoints_applies_its_log_again() {
    let mut cluster = Cluster::of_three(23);
    cluster.write(100);
    let start = cluster.trim(PARTITION);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    cluster.until_starts_at(node, PARTITION, start);
    cluster.write(40);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let before = cluster.group(node, PARTITION).replica.log.end_index();
    let kill = |cluster: &mut Cluster, node| cluster.crash(node, None);
    let (applied, end) = restart_alone(&mut cluster, node, kill, |cluster, dir| {
        assert!(remove_checkpoints(cluster, node, dir) > 0);
    });
    assert!(applied >= start, "{applied} is before the log start {start}");
    assert_eq!(end, before, "nothing of the log is gone");
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
    assert_eq!(cluster.log_start(node, PARTITION), start);
}

#[test]
fn a_power_loss_takes_nothing_that_was_synced() {
    for (seed, mode) in (24..).zip(CrashMode::ALL) {
        let mut cluster = Cluster::of_three(seed);
        cluster.write(100);
        cluster.settle(PARTITION, &[1, 2, 3]);
        let node = cluster.followers(PARTITION)[0];
        let durable = cluster.group(node, PARTITION).replica.log.durable_index().unwrap();
        let cut = move |cluster: &mut Cluster, node| cluster.crash(node, Some(mode));
        let (applied, end) = restart_alone(&mut cluster, node, cut, |_, _| {});
        assert!(applied <= end && end > durable, "{applied} {end} {durable}");
        cluster.write(10);
        cluster.check(&[1, 2, 3]);
    }
}

#[test]
fn applied_and_committed_beyond_the_durable_log_do_not_cost_the_log() {
    let mut cluster = Cluster::of_three(31);
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let synced = cluster.group(node, PARTITION).replica.log.durable_index().unwrap();
    let held = hold_syncs(&mut cluster, node);
    cluster.write(60);
    let target = cluster.leader(PARTITION);
    let end = cluster.group(target, PARTITION).replica.log.end_index();
    cluster.until("the follower applied what it has not synced", |cluster| {
        applied_end(&cluster.group(node, PARTITION)) == end
    });
    let durable = cluster.group(node, PARTITION).replica.log.durable_index().unwrap();
    assert_eq!(durable, synced, "its syncs are held back");
    let cut = |cluster: &mut Cluster, node| cluster.crash(node, Some(CrashMode::KeepNone));
    let (applied, found) = restart_alone(&mut cluster, node, cut, |_, _| {});
    drop(held);
    assert_eq!(found, synced.next(), "exactly what was synced is there");
    assert!(applied <= found);
    assert_eq!(cluster.log_start(node, PARTITION), LogIndex::ZERO, "nothing was thrown away");
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_checkpoint_from_beyond_the_log_is_left_aside() {
    let mut cluster = Cluster::of_three(32);
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let end = cluster.group(node, PARTITION).replica.log.end_index();
    let owner = cluster.group(node, PARTITION).replica.log.identity();
    let kill = |cluster: &mut Cluster, node| cluster.crash(node, None);
    let forge = |cluster: &Cluster, dir: &Path| {
        let checkpoint = Checkpoint {
            log_id: LogId::new_term_index(1, end.get() + 500),
            chain: 1,
            end_offset: duramen_types::Offset::new(9_000),
            tracker: Tracker::default(),
        };
        checkpoint::save(&cluster.node(node).disk, dir, owner, &checkpoint).unwrap();
    };
    let (applied, found) = restart_alone(&mut cluster, node, kill, forge);
    assert!(applied <= end);
    assert_eq!(found, end);
    assert_eq!(cluster.log_start(node, PARTITION), LogIndex::ZERO);
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_whose_own_sync_lagged_does_not_come_back_in_its_term_with_other_entries() {
    let mut cluster = Cluster::of_three(33);
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let leader = cluster.leader(PARTITION);
    let term = cluster.group(leader, PARTITION).status().term;
    let synced = cluster.group(leader, PARTITION).replica.log.durable_index().unwrap();
    let held = hold_syncs(&mut cluster, leader);
    // Both followers have them on disk: they are committed.
    cluster.write(10);
    let durable = cluster.group(leader, PARTITION).replica.log.durable_index().unwrap();
    assert_eq!(durable, synced);
    cluster.crash(leader, Some(CrashMode::KeepNone));
    drop(held);
    cluster.start(leader);
    let new = cluster.leader(PARTITION);
    assert!(cluster.group(new, PARTITION).status().term > term, "elected, not restored");
    cluster.write(30);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_voter_that_lost_its_log_is_refused_and_comes_back_as_another() {
    let mut cluster = Cluster::of_three(34);
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let node = cluster.followers(PARTITION)[0];
    let dir = dir(&cluster, node);
    cluster.crash(node, None);
    cluster.node(node).disk.remove_dir_all(&dir).unwrap();
    cluster.start(node);
    assert!(cluster.try_group(node, PARTITION).is_none());
    let refusal = cluster.node(node).refusal(PARTITION).unwrap();
    assert!(refusal.contains("Lost"), "{refusal}");
    cluster.write(10);
    cluster.place(PARTITION, node, 2);
    let leader = cluster.leader(PARTITION);
    let stays: BTreeSet<_> =
        (1..=3).filter(|other| *other != node).map(|other| replica(other, 1)).collect();
    cluster.call(leader, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        group.add_learner(replica(node, 2)).await.unwrap();
        let voters = stays.into_iter().chain([replica(node, 2)]).collect();
        group.change_voters(&voters).await.unwrap();
    });
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_log_of_another_replica_is_refused() {
    let mut cluster = Cluster::of_three(35);
    cluster.write(10);
    let node = cluster.followers(PARTITION)[0];
    let from = dir(&cluster, node);
    let to = cluster.node(node).host().unwrap().replica_dir(PARTITION, replica(node, 2));
    cluster.crash(node, None);
    cluster.node(node).disk.rename(&from, &to).unwrap();
    crate::replica::lock(&cluster.node(node).plans).get_mut(&PARTITION).unwrap().replica =
        replica(node, 2);
    cluster.start(node);
    assert!(cluster.try_group(node, PARTITION).is_none());
    let refusal = cluster.node(node).refusal(PARTITION).unwrap();
    assert!(refusal.contains("Lost") && refusal.contains("WrongReplica"), "{refusal}");
}

#[test]
fn all_nodes_restart_at_once_and_nothing_acknowledged_is_lost() {
    let modes = [None].into_iter().chain(CrashMode::ALL.map(Some));
    for (seed, mode) in (40..).zip(modes) {
        let mut cluster = Cluster::of_three(seed);
        for _ in 0..3 {
            cluster.write(40);
            let leader = cluster.leader(PARTITION);
            // Cut in the middle of writes.
            let end = cluster.group(leader, PARTITION).replica.log.end_index();
            let (_, pending) = cluster.start_writing(leader, PARTITION, 40);
            cluster.until("some are on their way", |cluster| {
                cluster.group(leader, PARTITION).replica.log.end_index() > end
            });
            for node in 1..=3 {
                cluster.crash(node, mode);
            }
            drop(pending);
            for node in 1..=3 {
                cluster.start(node);
            }
            cluster.check(&[1, 2, 3]);
        }
        cluster.write(20);
        cluster.check(&[1, 2, 3]);
    }
}

#[test]
fn nodes_restart_one_after_the_other_while_records_are_written() {
    for (seed, mode) in (50..).zip([None, Some(CrashMode::KeepNone), Some(CrashMode::KeepRandom)]) {
        let mut cluster = Cluster::of_three(seed);
        for round in 0..6 {
            let node = round % 3 + 1;
            let leader = cluster.leader(PARTITION);
            let (first, pending) = cluster.start_writing(leader, PARTITION, 30);
            if round % 2 == 0 {
                cluster.crash(node, mode);
            } else {
                cluster.stop(node);
            }
            if leader != node {
                let outcomes = cluster.wait(pending);
                cluster.note(first, &outcomes);
            }
            cluster.write(20);
            cluster.start(node);
            cluster.check(&[1, 2, 3]);
        }
    }
}

#[test]
fn a_log_that_cannot_be_looked_at_is_not_taken_for_lost() {
    let mut cluster = Cluster::of_three(37);
    cluster.write(10);
    let node = cluster.followers(PARTITION)[0];
    let dir = dir(&cluster, node);
    cluster.crash(node, None);
    let fault = Fault::new(DiskCall::List).path_contains(dir.to_str().unwrap());
    cluster.node(node).disk.inject(fault);
    cluster.start(node);
    assert!(cluster.try_group(node, PARTITION).is_none());
    let refusal = cluster.node(node).refusal(PARTITION).unwrap();
    assert!(refusal.starts_with("Io"), "{refusal}");
    cluster.crash(node, None);
    cluster.start(node);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_removed_replica_does_not_come_back_with_the_power() {
    let mut cluster = Cluster::of_three(38);
    cluster.write(10);
    let node = cluster.followers(PARTITION)[0];
    let gone = replica(node, 1);
    let dir = dir(&cluster, node);
    cluster.call(node, move |host| async move {
        host.remove_replica(PARTITION, gone).await.unwrap();
    });
    cluster.crash(node, Some(CrashMode::KeepNone));
    assert!(!cluster.node(node).disk.exists(&dir).unwrap());
    cluster.start(node);
    assert!(cluster.node(node).refusal(PARTITION).unwrap().starts_with("Lost"));
}

/// What nobody waits for is written all the same, soon after each sync and not only at the end.
#[test]
fn a_process_that_is_killed_has_written_its_indexes() {
    let mut cluster = Cluster::of_three(48);
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    for node in 1..=3 {
        let sealed =
            cluster.group(node, PARTITION).segments().iter().filter(|one| one.sealed).count();
        assert!(sealed > 2);
        let dir = dir(&cluster, node);
        cluster.crash(node, None);
        let files = cluster.node(node).disk.list(&dir).unwrap();
        let written = files.iter().filter(|file| file.name.ends_with(".index")).count();
        // The last one may have been on its way.
        assert!(written + 1 >= sealed, "{written} indexes of {sealed} segments");
    }
}
