//! Power cuts at every point of what a replica does to its disk: it always comes back, with all
//! that it had acknowledged.

use duramen_env::CrashMode;

use super::cluster::{Cluster, PARTITION};
use super::node::replica;

/// More changes of the disk than any of the actions makes.
const POINTS_MAX: u64 = 400;

/// Runs a story again and again, cutting the power of one node after one more change of its disk
/// each time, until the story ends before the cut. `step` leaves points out, to save time.
fn sweep(
    modes: &[CrashMode],
    step: usize,
    prepare: impl Fn(&mut Cluster) -> u64,
    act: impl Fn(&mut Cluster, u64),
) {
    for (turn, mode) in modes.iter().enumerate() {
        let mut points = (1 + turn as u64..POINTS_MAX).step_by(step);
        let ended = points.find(|point| !is_cut(*point, *mode, &prepare, &act));
        let ended = ended.expect("the story ends");
        assert!(ended > 3 * step as u64, "nearly nothing was tried: {ended}");
    }
}

/// Tries one point; answers whether the power was cut before the story ended.
fn is_cut(
    point: u64,
    mode: CrashMode,
    prepare: &impl Fn(&mut Cluster) -> u64,
    act: &impl Fn(&mut Cluster, u64),
) -> bool {
    let mut cluster = Cluster::new(100 + point, 4);
    cluster.form(PARTITION, &[1, 2, 3]);
    let node = prepare(&mut cluster);
    cluster.node(node).disk.crash_after(point, mode);
    act(&mut cluster, node);
    let cut = cluster.node(node).disk.is_down();
    cluster.node(node).disk.cancel_crash();
    cluster.crash(node, None);
    cluster.start(node);
    assert_eq!(cluster.node(node).refusal(PARTITION), None, "point {point}, {mode:?}");
    cluster.write(5);
    cluster.check(&[1, 2, 3]);
    cut
}

/// Lets a story go on until the node is done or its power is cut.
fn until_done(cluster: &mut Cluster, node: u64, done: impl Fn(&Cluster) -> bool) {
    cluster.until("the end or a power cut", |cluster| {
        cluster.node(node).disk.is_down() || done(cluster)
    });
}

const MODES: [CrashMode; 2] = [CrashMode::KeepNone, CrashMode::KeepRandom];

#[test]
fn while_a_follower_writes_records() {
    let prepare = |cluster: &mut Cluster| cluster.followers(PARTITION)[0];
    sweep(&MODES, 7, prepare, |cluster, node| {
        cluster.write(25);
        cluster.write(25);
        until_done(cluster, node, |cluster| {
            let end = cluster.group(node, PARTITION).replica.log.durable_index();
            end.is_some_and(|end| end.get() > 50)
        });
    });
}

#[test]
fn while_a_follower_trims() {
    let prepare = |cluster: &mut Cluster| {
        cluster.write(60);
        cluster.settle(PARTITION, &[1, 2, 3]);
        cluster.followers(PARTITION)[0]
    };
    sweep(&CrashMode::ALL, 2, prepare, |cluster, node| {
        let start = cluster.trim(PARTITION);
        until_done(cluster, node, |cluster| cluster.log_start(node, PARTITION) == start);
    });
}

#[test]
fn while_a_follower_installs_a_snapshot() {
    let prepare = |cluster: &mut Cluster| {
        cluster.write(10);
        cluster.settle(PARTITION, &[1, 2, 3]);
        let node = cluster.followers(PARTITION)[0];
        cluster.crash(node, None);
        cluster.write(60);
        let start = cluster.trim(PARTITION);
        let leader = cluster.leader(PARTITION);
        cluster.until_starts_at(leader, PARTITION, start);
        node
    };
    sweep(&CrashMode::ALL, 4, prepare, |cluster, node| {
        // The cut may come while it starts.
        cluster.start_or_fail(node);
        let leader = cluster.leader(PARTITION);
        let end = cluster.group(leader, PARTITION).log_tip();
        until_done(cluster, node, |cluster| {
            cluster.try_group(node, PARTITION).is_some_and(|group| group.log_tip() == end)
        });
    });
}

#[test]
fn while_a_replica_truncates() {
    let prepare = |cluster: &mut Cluster| {
        cluster.write(20);
        cluster.settle(PARTITION, &[1, 2, 3]);
        let old = cluster.leader(PARTITION);
        let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
        cluster.cut(old, &others);
        drop(cluster.start_writing(old, PARTITION, 40));
        cluster.leader_but(PARTITION, old);
        cluster.write(10);
        old
    };
    sweep(&CrashMode::ALL, 3, prepare, |cluster, node| {
        let others: Vec<u64> = (1..=3).filter(|other| *other != node).collect();
        cluster.heal(node, &others);
        let leader = cluster.leader_but(PARTITION, node);
        let end = cluster.group(leader, PARTITION).log_tip();
        until_done(cluster, node, |cluster| cluster.group(node, PARTITION).log_tip() == end);
    });
}

#[test]
fn while_a_leader_changes_the_voters() {
    let prepare = |cluster: &mut Cluster| {
        cluster.write(20);
        cluster.place(PARTITION, 4, 1);
        cluster.leader(PARTITION)
    };
    sweep(&[CrashMode::KeepNone], 2, prepare, |cluster, node| {
        let change = cluster.spawn(node, |host| async move {
            let group = host.group(PARTITION).unwrap();
            group.add_learner(replica(4, 1)).await?;
            let voters = (1..=4).map(|node| replica(node, 1)).collect();
            group.change_voters(&voters).await
        });
        until_done(cluster, node, |_| change.is_ready());
    });
}
