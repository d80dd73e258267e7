//! Groups with a state machine, as the metadata group: full snapshots, then trims.

use bytes::Bytes;
use duramen_env::CrashMode;
use duramen_proto::internal as pb;
use duramen_types::{LogIndex, Offset, Timestamp};

use super::cluster::{Cluster, PARTITION};
use super::content::value;
use super::node::replica;
use crate::GroupId;
use crate::limits;
use crate::network::answer;
use crate::replica::lock;
use crate::snapshot::SnapshotFile;
use crate::types::{LogId, StoredMembership};
use crate::wire::{self, WireError};

const GROUP: GroupId = GroupId::Metadata;

fn write(cluster: &mut Cluster, count: u64) {
    let leader = cluster.leader(GROUP);
    let (_, pending) = cluster.start_writing(leader, GROUP, count);
    for outcome in cluster.wait(pending) {
        let applied = outcome.unwrap();
        assert_eq!(applied.outcome, applied.index.get().to_string(), "the outcome is its own");
    }
}

/// Waits until nodes are equal, and checks that their state is exactly what was written.
fn check(cluster: &mut Cluster, nodes: &[u64], written: u64) {
    cluster.settle(GROUP, nodes);
    let expected: Vec<Bytes> = (0..written).map(|number| value(number).into()).collect();
    for node in nodes {
        let book = lock(&cluster.node(*node).book).clone();
        assert!(*lock(&book) == expected, "{} lines on node {node}", lock(&book).len());
        assert_eq!(cluster.node(*node).stop_reason(), None);
    }
}

/// Lets a node write a snapshot, and waits until its log is trimmed behind it.
fn snapshot(cluster: &mut Cluster, node: u64) -> LogIndex {
    let before = cluster.log_start(node, GROUP);
    cluster.call(node, |host| async move {
        host.group(GROUP).unwrap().raft().trigger().snapshot().await.unwrap();
    });
    cluster.until("the log is trimmed", |cluster| cluster.log_start(node, GROUP) > before);
    cluster.log_start(node, GROUP)
}

#[test]
fn a_new_learner_gets_the_whole_state() {
    let written = limits::ENTRIES_KEPT_BEHIND_SNAPSHOT + 300;
    let mut cluster = Cluster::new(81, 4);
    cluster.form(GROUP, &[1, 2, 3]);
    write(&mut cluster, written);
    check(&mut cluster, &[1, 2, 3], written);
    let leader = cluster.leader(GROUP);
    let start = snapshot(&mut cluster, leader);
    assert!(start > LogIndex::new(200));
    cluster.place(GROUP, 4, 1);
    cluster.call(leader, |host| async move {
        host.group(GROUP).unwrap().add_learner(replica(4, 1)).await.unwrap();
    });
    check(&mut cluster, &[1, 2, 3, 4], written);
    assert!(cluster.log_start(4, GROUP) > start, "it began with the snapshot");
    write(&mut cluster, 20);
    check(&mut cluster, &[1, 2, 3, 4], written + 20);
}

#[test]
fn a_state_survives_restarts_with_and_without_a_snapshot() {
    let written = limits::ENTRIES_KEPT_BEHIND_SNAPSHOT + 200;
    let mut cluster = Cluster::new(82, 3);
    cluster.form(GROUP, &[1, 2, 3]);
    write(&mut cluster, 50);
    for node in 1..=3 {
        cluster.crash(node, Some(CrashMode::KeepNone));
    }
    for node in 1..=3 {
        cluster.start(node);
    }
    check(&mut cluster, &[1, 2, 3], 50);
    write(&mut cluster, written - 50);
    check(&mut cluster, &[1, 2, 3], written);
    for node in 1..=3 {
        snapshot(&mut cluster, node);
    }
    write(&mut cluster, 30);
    check(&mut cluster, &[1, 2, 3], written + 30);
    for (node, mode) in [(1, Some(CrashMode::KeepNone)), (2, None), (3, None)] {
        if node == 3 {
            cluster.stop(node);
        } else {
            cluster.crash(node, mode);
        }
        cluster.start(node);
        check(&mut cluster, &[1, 2, 3], written + 30);
    }
    for node in 1..=3 {
        cluster.crash(node, Some(CrashMode::KeepRandom));
    }
    for node in 1..=3 {
        cluster.start(node);
    }
    write(&mut cluster, 10);
    check(&mut cluster, &[1, 2, 3], written + 40);
}

#[test]
fn a_follower_that_lags_behind_the_snapshot_gets_the_whole_state() {
    let written = limits::ENTRIES_KEPT_BEHIND_SNAPSHOT + 400;
    let mut cluster = Cluster::new(83, 3);
    cluster.form(GROUP, &[1, 2, 3]);
    write(&mut cluster, 100);
    check(&mut cluster, &[1, 2, 3], 100);
    let lagging = cluster.followers(GROUP)[0];
    cluster.crash(lagging, None);
    write(&mut cluster, written - 100);
    let leader = cluster.leader(GROUP);
    assert!(snapshot(&mut cluster, leader) > LogIndex::new(110));
    cluster.start(lagging);
    check(&mut cluster, &[1, 2, 3], written);
    // And again right after it installed one: the files of before are in nobody's way.
    cluster.crash(lagging, Some(CrashMode::KeepNone));
    cluster.start(lagging);
    write(&mut cluster, 10);
    check(&mut cluster, &[1, 2, 3], written + 10);
}

#[test]
fn a_power_cut_at_any_point_of_installing_a_snapshot_leaves_a_whole_state() {
    for (turn, mode) in CrashMode::ALL.into_iter().enumerate() {
        let mut points = (1 + turn as u64..200).step_by(5);
        let ended = points.find(|point| !is_cut_while_installing(*point, mode)).unwrap();
        assert!(ended > 10, "nearly nothing was tried");
    }
}

/// Tries one point; answers whether the power was cut before all was done.
fn is_cut_while_installing(point: u64, mode: CrashMode) -> bool {
    let mut cluster = Cluster::new(200 + point, 3);
    cluster.form(GROUP, &[1, 2, 3]);
    write(&mut cluster, 10);
    cluster.settle(GROUP, &[1, 2, 3]);
    let lagging = cluster.followers(GROUP)[0];
    cluster.crash(lagging, None);
    write(&mut cluster, 30);
    let leader = cluster.leader(GROUP);
    let applied = cluster.group(leader, GROUP).log_tip().0;
    let term = cluster.group(leader, GROUP).status().term;
    cluster.call(leader, move |host| async move {
        let group = host.group(GROUP).unwrap();
        group.raft().trigger().snapshot().await.unwrap();
        let last = LogId::new_term_index(term.get(), applied.get());
        group.raft().wait(None).snapshot(last, "the snapshot is there").await.unwrap();
        group.raft().trigger().purge_log(applied.get()).await.unwrap();
    });
    cluster.until_starts_at(leader, GROUP, applied.next());
    write(&mut cluster, 10);
    cluster.node(lagging).disk.crash_after(point, mode);
    cluster.start_or_fail(lagging);
    let tip = cluster.group(leader, GROUP).log_tip();
    cluster.until("the end or a power cut", |cluster| {
        cluster.node(lagging).disk.is_down()
            || cluster.try_group(lagging, GROUP).is_some_and(|group| group.log_tip() == tip)
    });
    let cut = cluster.node(lagging).disk.is_down();
    cluster.node(lagging).disk.cancel_crash();
    cluster.crash(lagging, None);
    cluster.start(lagging);
    assert_eq!(cluster.node(lagging).refusal(GROUP), None, "point {point}, {mode:?}");
    check(&mut cluster, &[1, 2, 3], 50);
    cut
}

#[test]
fn a_snapshot_that_cannot_be_read_is_refused_and_the_group_goes_on() {
    for (seed, id) in [(86, GROUP), (87, PARTITION)] {
        let mut cluster = Cluster::new(seed, 3);
        cluster.form(id, &[1, 2, 3]);
        let leader = cluster.leader(id);
        let follower = cluster.followers(id)[0];
        cluster.settle(id, &[1, 2, 3]);
        let vote = cluster.group(leader, id).vote();
        let tip = cluster.group(leader, id).log_tip().0.get();
        let last = LogId::new_term_index(vote.leader_id.term, tip + 10);
        let snapshot = SnapshotFile {
            last_log_id: Some(last),
            membership: StoredMembership::default(),
            next_offset: Offset::ZERO,
            chain: 7,
            append_time: Timestamp::EPOCH,
            state: Bytes::from_static(&[0xff; 9]),
        };
        let earlier = LogId::new_term_index(vote.leader_id.term, tip + 9);
        let other =
            SnapshotFile { last_log_id: Some(earlier), state: Bytes::new(), ..snapshot.clone() };
        let half = snapshot.encode().slice(..10);
        for data in [Bytes::from_static(b"no snapshot"), half, snapshot.encode(), other.encode()] {
            let call = pb::SnapshotCall {
                vote: Some(wire::vote_to_wire(&vote)),
                last_log_id: Some(wire::log_id_to_wire(last)),
                membership: Some(wire::membership_to_wire(&snapshot.membership)),
                data,
            };
            let answer = cluster.call(follower, move |host| async move {
                let group = host.group(id).unwrap();
                answer(&group, Some(pb::raft_call::Call::Snapshot(call))).await
            });
            let refused = WireError::Invalid { part: "snapshot" }.to_string();
            assert_eq!(answer, Err(refused));
        }
        let (_, pending) = cluster.start_writing(leader, id, 5);
        assert!(cluster.wait(pending).iter().all(Result::is_ok));
        cluster.settle(id, &[1, 2, 3]);
        assert!(!cluster.group(follower, id).status().stopped);
    }
}
