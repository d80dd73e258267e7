//! Followers whose disks lied about syncs, and followers that only look like it.

use std::collections::BTreeSet;
use std::time::Duration;

use duramen_env::{CrashMode, DiskCall, Fault};
use duramen_types::ReplicaId;

use super::cluster::{Cluster, PARTITION};
use super::node::replica;
use crate::GroupId;
use crate::types::{LogId, Vote};

/// Writes entries of a group through its leader; all are acknowledged.
fn write(cluster: &mut Cluster, id: GroupId, count: u64) {
    if id == PARTITION {
        return cluster.write(count);
    }
    let leader = cluster.leader(id);
    let (_, pending) = cluster.start_writing(leader, id, count);
    assert!(cluster.wait(pending).iter().all(Result::is_ok));
}

/// Lets the disk of a follower lie while entries are written, and cuts its power: what it
/// acknowledged meanwhile is lost. Answers the leader and the follower.
fn lie(cluster: &mut Cluster, id: GroupId) -> (u64, u64) {
    write(cluster, id, 30);
    cluster.settle(id, &[1, 2, 3]);
    let leader = cluster.leader(id);
    let liar = cluster.followers(id)[0];
    let disk = cluster.node(liar).disk.clone();
    disk.inject(Fault::new(DiskCall::Sync).path_contains(".log").times(u64::MAX).ignored());
    // Few, so that no segment is sealed meanwhile: half a sealed one would be found damaged.
    write(cluster, id, 5);
    cluster.settle(id, &[1, 2, 3]);
    let told = cluster.group(liar, id).log_tip().0;
    cluster.crash(liar, Some(CrashMode::KeepNone));
    disk.clear_faults();
    cluster.start(liar);
    assert!(cluster.group(liar, id).log_tip().0 < told, "it lost something");
    cluster.liars.insert(replica(liar, 1));
    cluster.until("the loss is noticed", |cluster| lost(cluster, leader, id) == [replica(liar, 1)]);
    (leader, liar)
}

fn lost(cluster: &Cluster, node: u64, id: GroupId) -> Vec<ReplicaId> {
    cluster.group(node, id).losses().iter().map(|loss| loss.replica).collect()
}

#[test]
fn a_follower_that_lost_what_it_acknowledged_is_found_out_and_can_be_replaced() {
    let mut cluster = Cluster::of_three(91);
    let (leader, liar) = lie(&mut cluster, PARTITION);
    let term = cluster.group(leader, PARTITION).status().term;
    let loss = cluster.group(leader, PARTITION).losses()[0];
    assert!(loss.term == term && loss.missing <= loss.acknowledged, "{loss:?}");
    cluster.write(10);
    let status = cluster.group(leader, PARTITION).status();
    assert!(status.is_leader && status.term == term, "{status:?}");
    // What its node does when it is told to make another one.
    cluster.call(liar, |host| async move { host.close_group(PARTITION).await });
    cluster.place(PARTITION, liar, 2);
    let stays = (1..=3).filter(|node| *node != liar).map(|node| replica(node, 1));
    let voters: BTreeSet<_> = stays.chain([replica(liar, 2)]).collect();
    cluster.call(leader, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        group.add_learner(replica(liar, 2)).await.unwrap();
        group.change_voters(&voters).await.unwrap();
    });
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn who_is_told_of_its_loss_stops_and_says_why() {
    for (seed, id) in [(94, PARTITION), (95, GroupId::Metadata)] {
        let mut cluster = Cluster::new(seed, 3);
        cluster.form(id, &[1, 2, 3]);
        let (leader, liar) = lie(&mut cluster, id);
        cluster.until("it stopped", |cluster| cluster.group(liar, id).status().stopped);
        let damage = cluster.group(liar, id).damage().expect("it says why");
        assert!(damage.contains("acknowledged log index"), "{damage}");
        // Nobody can stop a replica that has everything, nor can one that leads no more.
        let sound = (1..=3).find(|node| *node != leader && *node != liar).unwrap();
        let tip = cluster.group(sound, id).log_tip().0;
        let leading = cluster.group(leader, id).vote();
        let earlier = Vote { committed: false, ..leading };
        for (vote, index) in [(leading, tip.get()), (leading, 1), (earlier, tip.get() + 1)] {
            let missing = LogId::new_term_index(leading.leader_id.term, index);
            let gave_up = cluster.call(sound, move |host| async move {
                host.group(id).unwrap().give_up(&vote, missing).await
            });
            assert!(!gave_up, "{vote} {missing}");
        }
        write(&mut cluster, id, 5);
        cluster.settle(id, &[leader, sound]);
    }
}

#[test]
fn who_lost_what_it_acknowledged_makes_no_majority() {
    let mut cluster = Cluster::of_three(92);
    let (leader, liar) = lie(&mut cluster, PARTITION);
    let sound = (1..=3).find(|node| *node != leader && *node != liar).unwrap();
    cluster.cut(sound, &[leader, liar]);
    let (first, pending) = cluster.start_writing(leader, PARTITION, 5);
    cluster.pass(Duration::from_secs(5));
    let serving = cluster.try_leader(PARTITION);
    assert!(!pending.is_ready() || serving.is_none(), "nothing can be committed");
    cluster.heal(sound, &[leader, liar]);
    let outcomes = cluster.wait(pending);
    cluster.note(first, &outcomes);
    cluster.write(10);
    cluster.check(&[leader, sound]);
}

#[test]
fn a_follower_that_cut_its_end_on_the_word_of_another_leader_lost_nothing() {
    let all = [1, 2, 3, 4, 5];
    let mut cluster = Cluster::new(93, 5);
    cluster.form(PARTITION, &all);
    cluster.write(20);
    cluster.settle(PARTITION, &all);
    let leader = cluster.leader(PARTITION);
    let follower = cluster.followers(PARTITION)[0];
    let others: Vec<u64> =
        all.into_iter().filter(|node| *node != leader && *node != follower).collect();
    cluster.cut(leader, &others);
    cluster.cut(follower, &others);
    let before = cluster.group(follower, PARTITION).log_tip();
    let (first, pending) = cluster.start_writing(leader, PARTITION, 5);
    cluster.until("the two have what a majority has not", |cluster| {
        let matched = |node| cluster.group(node, PARTITION).log_tip();
        matched(follower).0.get() == before.0.get() + 5 && matched(follower) == matched(leader)
    });
    cluster.leader_but(PARTITION, leader);
    cluster.write(10);
    cluster.heal(leader, &others);
    cluster.heal(follower, &others);
    let outcomes = cluster.wait(pending);
    assert_eq!(cluster.note(first, &outcomes), 0, "they were cut");
    cluster.check(&all);
    let now = cluster.leader(PARTITION);
    let to = replica(leader, 1);
    cluster.call(now, move |host| async move {
        host.group(PARTITION).unwrap().transfer_leader(to).await.unwrap();
    });
    cluster.until("it leads again", |cluster| cluster.try_leader(PARTITION) == Some(leader));
    cluster.write(10);
    cluster.check(&all);
}
