//! Who leads: elections, hand-overs, leaders that are cut off or removed.

use std::collections::BTreeSet;
use std::time::Duration;

use duramen_types::{LogIndex, ReplicaId, Term};

use super::cluster::{Cluster, PARTITION};
use super::node::{address, replica};
use crate::limits;
use crate::{ChangeError, ProposeError, TransferError};

#[test]
fn a_removed_leader_finishes_its_removal_and_steps_down() {
    let mut cluster = Cluster::of_three(11);
    cluster.write(30);
    let removed = cluster.leader(PARTITION);
    let rest: Vec<u64> = (1..=3).filter(|node| *node != removed).collect();
    let voters: BTreeSet<ReplicaId> = rest.iter().map(|node| replica(*node, 1)).collect();
    let wanted = voters.clone();
    cluster.call(removed, move |host| async move {
        host.group(PARTITION).unwrap().change_voters(&wanted).await.unwrap();
    });
    let leader = cluster.leader_but(PARTITION, removed);
    assert_eq!(cluster.group(leader, PARTITION).membership().voters, voters);
    cluster.write(30);
    let term = cluster.group(leader, PARTITION).status().term;
    // The removed one is not told, runs on, and must not disturb.
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.group(leader, PARTITION).status().term, term);
    cluster.check(&rest);
}

#[test]
fn a_replica_moves_to_another_node() {
    let mut cluster = Cluster::new(12, 4);
    cluster.form(PARTITION, &[1, 2, 3]);
    cluster.write(60);
    let start = cluster.trim(PARTITION);
    let leaving = cluster.followers(PARTITION)[0];
    let leader = cluster.leader(PARTITION);
    let staying: BTreeSet<ReplicaId> =
        (1..=3).filter(|node| *node != leaving).map(|node| replica(node, 1)).collect();
    let voters: BTreeSet<ReplicaId> = staying.into_iter().chain([replica(4, 1)]).collect();
    let too_early = voters.clone();
    let early = cluster.call(leader, move |host| async move {
        host.group(PARTITION).unwrap().change_voters(&too_early).await
    });
    assert_eq!(early, Err(ChangeError::NotMember { replica: replica(4, 1) }));
    cluster.place(PARTITION, 4, 1);
    cluster.call(leader, |host| async move {
        host.group(PARTITION).unwrap().add_learner(replica(4, 1)).await.unwrap();
    });
    cluster.until("the learner has it all", |cluster| {
        let lag = cluster.group(leader, PARTITION).replication().unwrap();
        lag.get(&replica(4, 1)).is_some_and(|lag| lag.matched.is_some() && lag.entries == 0)
    });
    let wanted = voters.clone();
    cluster.call(leader, move |host| async move {
        host.group(PARTITION).unwrap().change_voters(&wanted).await.unwrap();
    });
    assert_eq!(cluster.group(leader, PARTITION).membership().voters, voters);
    let gone = replica(leaving, 1);
    cluster.call(leaving, move |host| async move {
        host.remove_replica(PARTITION, gone).await.unwrap();
        assert!(!host.has_replica(PARTITION, gone).unwrap());
    });
    cluster.write(30);
    let holders: Vec<u64> = (1..=4).filter(|node| *node != leaving).collect();
    cluster.check(&holders);
    assert!(cluster.log_start(4, PARTITION) >= start);
}

#[test]
fn a_change_of_voters_that_its_leader_left_half_done_is_finished_by_the_next() {
    let mut cluster = Cluster::new(13, 4);
    cluster.form(PARTITION, &[1, 2, 3]);
    cluster.place(PARTITION, 4, 1);
    cluster.write(30);
    let leader = cluster.leader(PARTITION);
    cluster.call(leader, |host| async move {
        host.group(PARTITION).unwrap().add_learner(replica(4, 1)).await.unwrap();
    });
    cluster.settle(PARTITION, &[1, 2, 3, 4]);
    let leaving = (1..=3).find(|node| *node != leader).unwrap();
    let from: BTreeSet<ReplicaId> = (1..=3).map(|node| replica(node, 1)).collect();
    let mut to = from.clone();
    to.remove(&replica(leaving, 1));
    to.insert(replica(4, 1));
    let change = |cluster: &mut Cluster, node, (from, to): (&BTreeSet<_>, &BTreeSet<_>)| {
        let (from, to) = (from.clone(), to.clone());
        cluster.spawn(node, move |host| async move {
            host.group(PARTITION).unwrap().change_voters_from(&from, &to).await
        })
    };
    let cut_short = change(&mut cluster, leader, (&from, &to));
    cluster.until("the new voters and the old ones decide together", |cluster| {
        cluster.group(4, PARTITION).membership().voters.len() == 4
    });
    cluster.crash(leader, None);
    drop(cut_short);
    let next = cluster.leader_but(PARTITION, leader);
    assert!(!cluster.group(next, PARTITION).is_membership_settled());
    let finished = change(&mut cluster, next, (&from, &to));
    assert_eq!(cluster.wait(finished), Ok(()));
    cluster.start(leader);
    let now = cluster.leader(PARTITION);
    let back = change(&mut cluster, now, (&from, &from));
    assert_eq!(cluster.wait(back), Err(ChangeError::Outdated), "it is not what it was meant for");
    let holders: Vec<u64> = (1..=4).filter(|node| *node != leaving).collect();
    cluster.write(10);
    cluster.check(&holders);
    assert_eq!(cluster.group(now, PARTITION).membership().voters, to);
}

#[test]
fn leadership_is_handed_over_and_writes_go_on() {
    let mut cluster = Cluster::of_three(13);
    cluster.write(30);
    for _ in 0..3 {
        cluster.settle(PARTITION, &[1, 2, 3]);
        let leader = cluster.leader(PARTITION);
        let target = cluster.followers(PARTITION)[1];
        let to = replica(target, 1);
        cluster.call(leader, move |host| async move {
            host.group(PARTITION).unwrap().transfer_leader(to).await.unwrap();
        });
        assert_eq!(cluster.leader(PARTITION), target);
        cluster.write(10);
    }
    cluster.check(&[1, 2, 3]);
    let follower = cluster.followers(PARTITION)[0];
    let leader = replica(cluster.leader(PARTITION), 1);
    let refused = cluster.call(follower, move |host| async move {
        host.group(PARTITION).unwrap().transfer_leader(leader).await
    });
    assert_eq!(refused, Err(TransferError::NotLeader { leader: Some(leader) }));
}

#[test]
fn leadership_is_not_handed_to_a_replica_that_is_down_or_lacks_entries() {
    let mut cluster = Cluster::of_three(14);
    cluster.write(10);
    let leader = cluster.leader(PARTITION);
    let [behind, down] = cluster.followers(PARTITION)[..] else { panic!("two followers") };
    let try_transfer = move |cluster: &mut Cluster, target| {
        let to = replica(target, 1);
        let refused = cluster.call(leader, move |host| async move {
            host.group(PARTITION).unwrap().transfer_leader(to).await
        });
        (refused, to)
    };
    cluster.node(leader).gate.hang_busiest(&address(behind));
    cluster.write(limits::TRANSFER_LAG_ENTRIES_MAX + 10);
    let (refused, _) = try_transfer(&mut cluster, behind);
    assert!(matches!(refused, Err(TransferError::Behind { .. })), "{refused:?}");
    cluster.node(leader).gate.release();
    cluster.settle(PARTITION, &[1, 2, 3]);
    cluster.crash(down, None);
    cluster.pass(limits::ELECTION_TIMEOUT_MIN);
    let (refused, to) = try_transfer(&mut cluster, down);
    assert_eq!(refused, Err(TransferError::Silent { to }));
    cluster.write(10);
    assert_eq!(cluster.leader(PARTITION), leader, "nothing was tried");
}

#[test]
fn after_a_failed_hand_over_another_leader_is_found() {
    let mut cluster = Cluster::of_three(15);
    cluster.write(30);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let leader = cluster.leader(PARTITION);
    let target = cluster.followers(PARTITION)[0];
    let others: Vec<u64> = (1..=3).filter(|node| *node != target).collect();
    let term = cluster.group(leader, PARTITION).status().term;
    // The leader has not noticed yet that nothing gets to the target.
    cluster.cut(target, &others);
    let to = replica(target, 1);
    let failed = cluster.call(leader, move |host| async move {
        host.group(PARTITION).unwrap().transfer_leader(to).await
    });
    assert_eq!(failed, Err(TransferError::TimedOut { to }));
    cluster.until("a leader of a new term", |cluster| {
        others.iter().any(|node| {
            cluster.group(*node, PARTITION).serving_term().is_some_and(|serving| serving > term)
        })
    });
    cluster.write(20);
    cluster.heal(target, &others);
    cluster.write(20);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_that_was_cut_off_steps_down_and_drops_what_was_not_committed() {
    let mut cluster = Cluster::of_three(16);
    cluster.write(30);
    let old = cluster.leader(PARTITION);
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    cluster.cut(old, &others);
    let (first, lost) = cluster.start_writing(old, PARTITION, 20);
    let new = cluster.leader_but(PARTITION, old);
    assert!(cluster.group(old, PARTITION).replica.log.end_index() > LogIndex::new(50), "taken");
    cluster.write(30);
    let (late, refused) = cluster.start_writing(old, PARTITION, 5);
    let refused = cluster.wait(refused);
    assert!(
        refused.iter().all(|one| matches!(one, Err(ProposeError::NotLeader { .. }))),
        "{refused:?}"
    );
    assert_eq!(cluster.note(late, &refused), 0);
    cluster.heal(old, &others);
    let lost = cluster.wait(lost);
    assert_eq!(cluster.note(first, &lost), 0);
    assert!(lost.iter().all(|one| *one.as_ref().unwrap_err() == ProposeError::Unknown));
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
    assert!(!cluster.group(old, PARTITION).status().is_leader || cluster.leader(PARTITION) == old);
    assert!(cluster.group(new, PARTITION).status().term > Term::new(1));
}

#[test]
fn a_follower_that_campaigns_does_not_disturb_a_healthy_leader() {
    let mut cluster = Cluster::of_three(17);
    cluster.write(10);
    let leader = cluster.leader(PARTITION);
    let status = cluster.group(leader, PARTITION).status();
    for follower in cluster.followers(PARTITION) {
        for _ in 0..3 {
            cluster.call(follower, |host| async move {
                host.group(PARTITION).unwrap().raft().trigger().elect(true).await.unwrap();
            });
            cluster.pass(Duration::from_millis(200));
        }
    }
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.group(leader, PARTITION).status(), status);
    cluster.write(10);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn an_idle_group_keeps_its_leader() {
    let mut cluster = Cluster::of_three(18);
    let leader = cluster.leader(PARTITION);
    let status = cluster.group(leader, PARTITION).status();
    cluster.pass(Duration::from_secs(20));
    assert_eq!(cluster.group(leader, PARTITION).status(), status);
    // The lease holds too: the first write after the pause is taken.
    cluster.write(1);
}

/// A campaign that voters refuse, because they heard of the dead leader a moment ago, would cost as
/// much time again.
#[test]
fn a_leader_that_dies_is_followed_by_the_first_that_campaigns() {
    for seed in 0..8 {
        let mut cluster = Cluster::of_three(190 + seed);
        cluster.write(10);
        let dead = cluster.leader(PARTITION);
        cluster.crash(dead, None);
        let died = cluster.elapsed();
        cluster.leader_but(PARTITION, dead);
        let took = cluster.elapsed() - died;
        assert!(took < limits::ELECTION_TIMEOUT_MAX + limits::HEARTBEAT_INTERVAL, "{took:?}");
    }
}

#[test]
fn a_group_that_finds_no_campaign_left_in_a_tick_has_its_turn_a_few_ticks_later() {
    let mut cluster = Cluster::of_three(20);
    let follower = cluster.followers(PARTITION)[0];
    cluster.call(follower, |host| async move {
        let group = host.group(PARTITION).unwrap();
        let now = tokio::time::Instant::now();
        let tick = |after: Duration, mut campaigns| {
            assert!(!group.tick(now + after, &mut campaigns), "it does not lead");
            campaigns
        };
        let (heard, patience) = group.waits_ms();
        let due = limits::ELECTION_TIMEOUT_MAX;
        assert_eq!(tick(due, 0), 0);
        let (still_heard, longer) = group.waits_ms();
        assert_eq!(still_heard, heard, "it did not campaign");
        let more = Duration::from_millis(longer - patience);
        assert!(!more.is_zero() && more <= limits::TICK * 4, "{more:?}");
        assert_eq!(tick(due + more, 2), 1, "its turn has come");
        // It waits anew then, for as long as it draws.
        let (_, anew) = group.waits_ms();
        assert!(Duration::from_millis(anew) <= limits::ELECTION_TIMEOUT_MAX);
    });
    cluster.write(1);
}
