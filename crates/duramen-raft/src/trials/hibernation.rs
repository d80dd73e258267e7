//! Groups without work: they cost no heartbeats, stay with their leader, find another one if it is
//! gone, and are there at once when something is to be written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use duramen_types::{ReplicaId, Term, Timestamp};

use super::cluster::{Cluster, PARTITION};
use super::node::{address, replica};
use crate::entry::encode_log_start;
use crate::hibernation::Stage;
use crate::{Proposal, ProposalKind, limits};

const NODES: [u64; 3] = [1, 2, 3];

fn hibernate(cluster: &Cluster, nodes: &[u64]) -> bool {
    nodes
        .iter()
        .all(|node| cluster.try_group(*node, PARTITION).is_some_and(|group| group.hibernates()))
}

fn until_asleep(cluster: &mut Cluster, nodes: &[u64]) {
    cluster.until("the group hibernates", |cluster| hibernate(cluster, nodes));
}

fn term(cluster: &Cluster, node: u64) -> Term {
    cluster.group(node, PARTITION).status().term
}

/// Asked on the node: elsewhere is another clock.
fn led_ago(cluster: &mut Cluster, node: u64) -> Option<Duration> {
    cluster.call(node, |host| async move { host.group(PARTITION).unwrap().led_ago() })
}

/// Three nodes whose group hibernates, and its leader.
fn asleep(seed: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::of_three(seed);
    cluster.write(10);
    until_asleep(&mut cluster, &NODES);
    let leader = cluster.leader(PARTITION);
    (cluster, leader)
}

#[test]
fn a_group_without_work_hibernates_with_its_leader_and_takes_records_at_once() {
    let (mut cluster, leader) = asleep(61);
    let before = term(&cluster, leader);
    let log = |cluster: &Cluster, node| Arc::clone(&cluster.group(node, PARTITION).replica.log);
    cluster.until("nothing is kept in memory", |cluster| {
        NODES.iter().map(|node| log(cluster, *node)).all(|log| {
            let last = log.end_index().prev().unwrap();
            !log.is_cached(last)
        })
    });
    for _ in 0..600 {
        cluster.pass(Duration::from_millis(100));
        // What a coordinator promises to its members hangs on this.
        assert!(led_ago(&mut cluster, leader).unwrap() < limits::ELECTION_TIMEOUT_MIN);
        assert!(hibernate(&cluster, &NODES));
    }
    let answered = cluster
        .call(leader, |host| async move { host.group(PARTITION).unwrap().answered_ago().unwrap() });
    assert!(answered > Duration::from_secs(59), "no heartbeat went out");
    for node in NODES {
        assert_eq!(term(&cluster, node), before);
    }
    let started = cluster.elapsed();
    cluster.write(10);
    assert!(cluster.elapsed() - started < Duration::from_millis(100));
    assert_eq!(term(&cluster, leader), before);
    cluster.until("all are awake", |cluster| {
        NODES.iter().all(|node| !cluster.group(*node, PARTITION).hibernates())
    });
    until_asleep(&mut cluster, &NODES);
    cluster.check(&NODES);
}

#[test]
fn a_hibernating_group_whose_leader_is_gone_finds_another_one() {
    let (mut cluster, leader) = asleep(62);
    cluster.crash(leader, None);
    let gone = cluster.elapsed();
    let next = cluster.leader_but(PARTITION, leader);
    assert!(cluster.elapsed() - gone < 3 * limits::ELECTION_TIMEOUT_MAX);
    cluster.write(10);
    cluster.pass(2 * limits::HIBERNATE_AFTER);
    let rest: Vec<u64> = NODES.into_iter().filter(|node| *node != leader).collect();
    assert!(!hibernate(&cluster, &rest), "a member is missing");
    cluster.start(leader);
    until_asleep(&mut cluster, &NODES);
    assert_eq!(cluster.leader(PARTITION), next);
    cluster.check(&NODES);
}

/// The process stops serving and its machine goes on: beats for other groups still come.
#[test]
fn a_hibernating_group_whose_leading_replica_is_closed_finds_another_one() {
    let (mut cluster, leader) = asleep(63);
    cluster.call(leader, |host| async move { host.close_group(PARTITION).await });
    cluster.until("another leader", |cluster| {
        cluster.try_leader(PARTITION).is_some_and(|node| node != leader)
    });
    cluster.write(10);
}

#[test]
fn a_follower_that_comes_back_is_heard_of_and_hibernates_again() {
    let (mut cluster, leader) = asleep(64);
    let before = term(&cluster, leader);
    let follower = cluster.followers(PARTITION)[0];
    cluster.crash(follower, None);
    cluster.until("the leader is awake", |cluster| !cluster.group(leader, PARTITION).hibernates());
    cluster.start(follower);
    until_asleep(&mut cluster, &NODES);
    assert_eq!((cluster.leader(PARTITION), term(&cluster, leader)), (leader, before));
    cluster.check(&NODES);
}

#[test]
fn a_follower_that_hears_its_hibernating_leader_no_more_disturbs_nobody() {
    let (mut cluster, leader) = asleep(65);
    let before = term(&cluster, leader);
    let follower = cluster.followers(PARTITION)[0];
    cluster.cut(leader, &[follower]);
    cluster.pass(Duration::from_secs(10));
    assert_eq!((cluster.leader(PARTITION), term(&cluster, leader)), (leader, before));
    cluster.write(5);
    cluster.heal(leader, &[follower]);
    until_asleep(&mut cluster, &NODES);
    assert_eq!((cluster.leader(PARTITION), term(&cluster, leader)), (leader, before));
    cluster.check(&NODES);
}

#[test]
fn a_hibernating_leader_that_is_cut_off_takes_nothing_and_follows_afterwards() {
    let (mut cluster, leader) = asleep(66);
    let others = cluster.followers(PARTITION);
    cluster.cut(leader, &others);
    let (first, lost) = cluster.start_writing(leader, PARTITION, 3);
    let next = cluster.leader_but(PARTITION, leader);
    cluster.write(5);
    cluster.pass(limits::ELECTION_TIMEOUT_MAX);
    let ago = led_ago(&mut cluster, leader);
    assert!(ago.is_none_or(|ago| ago > limits::ELECTION_TIMEOUT_MAX), "it is sure of nothing");
    cluster.heal(leader, &others);
    let outcomes = cluster.wait(lost);
    assert_eq!(cluster.note(first, &outcomes), 0, "{outcomes:?}");
    until_asleep(&mut cluster, &NODES);
    assert_eq!(cluster.leader(PARTITION), next);
    cluster.check(&NODES);
}

#[test]
fn a_link_that_hangs_wakes_the_groups_that_hibernate_on_it() {
    let (mut cluster, leader) = asleep(67);
    let follower = cluster.followers(PARTITION)[0];
    let before = cluster.group(leader, PARTITION).status();
    // The urgent one: it has carried all beats.
    cluster.pass(Duration::from_secs(120));
    cluster.node(leader).gate.hang_busiest(&address(follower));
    cluster.until("the leader is awake", |cluster| !cluster.group(leader, PARTITION).hibernates());
    cluster.node(leader).gate.release();
    cluster.write(5);
    until_asleep(&mut cluster, &NODES);
    assert_eq!(cluster.group(leader, PARTITION).status(), before);
    cluster.check(&NODES);
}

#[test]
fn leadership_and_members_of_a_hibernating_group_change() {
    let mut cluster = Cluster::new(68, 4);
    cluster.form(PARTITION, &NODES);
    cluster.write(10);
    until_asleep(&mut cluster, &NODES);
    let leader = cluster.leader(PARTITION);
    let next = cluster.followers(PARTITION)[0];
    cluster.call(leader, move |host| async move {
        host.group(PARTITION).unwrap().transfer_leader(replica(next, 1)).await.unwrap();
    });
    assert_eq!(cluster.leader(PARTITION), next);
    until_asleep(&mut cluster, &NODES);
    cluster.place(PARTITION, 4, 1);
    cluster.call(next, |host| async move {
        host.group(PARTITION).unwrap().add_learner(replica(4, 1)).await.unwrap();
    });
    until_asleep(&mut cluster, &[1, 2, 3, 4]);
    let voters: BTreeSet<ReplicaId> =
        (1..=4).filter(|node| *node != leader).map(|node| replica(node, 1)).collect();
    let wanted = voters.clone();
    cluster.call(next, move |host| async move {
        host.group(PARTITION).unwrap().change_voters(&wanted).await.unwrap();
    });
    let rest: Vec<u64> = (1..=4).filter(|node| *node != leader).collect();
    until_asleep(&mut cluster, &rest);
    cluster.write(5);
    cluster.check(&rest);
}

#[test]
fn a_group_of_one_hibernates_too() {
    let mut cluster = Cluster::new(69, 1);
    cluster.form(PARTITION, &[1]);
    cluster.write(5);
    until_asleep(&mut cluster, &[1]);
    assert_eq!(cluster.group(1, PARTITION).led_ago(), Some(Duration::ZERO));
    cluster.write(5);
    cluster.check(&[1]);
}

/// It found its group awake, and then the members were asked.
#[test]
fn what_is_proposed_while_members_are_asked_is_applied_by_all_of_them() {
    let mut cluster = Cluster::of_three(70);
    cluster.write(10);
    let leader = cluster.leader(PARTITION);
    cluster.until("the members are asked", |cluster| {
        cluster.group(leader, PARTITION).hibernation().stage() == Stage::Asking
    });
    cluster.call(leader, |host| async move {
        let group = host.group(PARTITION).unwrap();
        let index = group.replica.log.start().first_index;
        let proposal = Proposal {
            kind: ProposalKind::LogStart(index),
            payload: encode_log_start(index),
            records: 0,
            max_timestamp: Timestamp::MIN,
        };
        group.raft().client_write(proposal).await.unwrap();
    });
    cluster.settle(PARTITION, &NODES);
    until_asleep(&mut cluster, &NODES);
    cluster.check(&NODES);
}
