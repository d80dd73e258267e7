//! Followers that lag, hang and come new, while retention goes on.

use std::time::Duration;

use duramen_net::limits::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use duramen_types::LogIndex;

use super::cluster::{Cluster, PARTITION, hold_syncs};
use super::node::{address, replica};

#[test]
fn a_lagging_follower_gets_every_retained_record_at_its_offset() {
    let mut cluster = Cluster::of_three(1);
    cluster.write(40);
    let lagging = cluster.followers(PARTITION)[0];
    cluster.settle(PARTITION, &[1, 2, 3]);
    let had = cluster.group(lagging, PARTITION).log_tip().0;
    cluster.crash(lagging, None);
    cluster.write(100);
    let start = cluster.trim(PARTITION);
    assert!(start > had.next(), "the follower needs what is gone");
    cluster.write(60);
    cluster.start(lagging);
    cluster.check(&[1, 2, 3]);
    for node in 1..=3 {
        assert_eq!(cluster.log_start(node, PARTITION), start);
    }
}

#[test]
fn a_follower_that_is_down_does_not_hold_retention_back() {
    let mut cluster = Cluster::of_three(2);
    let followers = cluster.followers(PARTITION);
    cluster.write(20);
    cluster.crash(followers[0], None);
    for _ in 0..3 {
        cluster.write(50);
        let start = cluster.trim(PARTITION);
        let leader = cluster.leader(PARTITION);
        cluster.until_starts_at(leader, PARTITION, start);
        cluster.until_starts_at(followers[1], PARTITION, start);
    }
    cluster.start(followers[0]);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_follower_that_hangs_holds_retention_back_only_until_its_stream_ends() {
    let mut cluster = Cluster::of_three(3);
    let hung = cluster.followers(PARTITION)[0];
    cluster.write(40);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let had = cluster.group(hung, PARTITION).log_tip().0;
    let leader = cluster.leader(PARTITION);
    let term = cluster.group(leader, PARTITION).status().term;
    // The link of entries hangs, the one of heartbeats does not.
    cluster.node(leader).gate.hang_busiest(&address(hung));
    let since = cluster.elapsed();
    cluster.write(60);
    let start = cluster.trim(PARTITION);
    cluster.until_starts_at(leader, PARTITION, start);
    let took = cluster.elapsed() - since;
    let connection = KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT;
    assert!(took < connection, "the stream did it, not its connection: {took:?}");
    assert_eq!(cluster.group(hung, PARTITION).log_tip().0, had, "nothing got through");
    assert_eq!(cluster.group(leader, PARTITION).status().term, term, "all were in touch");
    cluster.write(20);
    cluster.node(leader).gate.release();
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_follower_whose_disk_hangs_does_not_hold_retention_back() {
    let mut cluster = Cluster::of_three(8);
    cluster.write(40);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let leader = cluster.leader(PARTITION);
    let hung = cluster.followers(PARTITION)[0];
    let held = hold_syncs(&mut cluster, hung);
    cluster.write(60);
    let start = cluster.trim(PARTITION);
    cluster.until_starts_at(leader, PARTITION, start);
    let lag = cluster.group(leader, PARTITION).replication().unwrap()[&replica(hung, 1)];
    assert!(lag.matched.is_none_or(|matched| matched < start), "it has not answered: {lag:?}");
    drop(held);
    cluster.write(20);
    cluster.check(&[1, 2, 3]);
    cluster.until_starts_at(hung, PARTITION, start);
}

#[test]
fn a_follower_whose_whole_network_hangs_heals_by_itself() {
    let mut cluster = Cluster::of_three(4);
    let hung = cluster.followers(PARTITION)[0];
    cluster.write(20);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let others: Vec<u64> = (1..=3).filter(|node| *node != hung).collect();
    cluster.cut(hung, &others);
    cluster.write(60);
    let start = cluster.trim(PARTITION);
    for node in &others {
        cluster.until_starts_at(*node, PARTITION, start);
    }
    cluster.pass(Duration::from_secs(15));
    cluster.heal(hung, &others);
    cluster.write(20);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_trim_is_not_held_back_by_a_stream_that_is_busy() {
    let mut cluster = Cluster::of_three(5);
    let leader = cluster.leader(PARTITION);
    let mut pending = Vec::new();
    for round in 0..6 {
        pending.push(cluster.start_writing(leader, PARTITION, 60));
        if round > 0 {
            cluster.until("a segment that may go", |cluster| {
                cluster.group(leader, PARTITION).trim_target(None, Some(0)).is_some()
            });
            cluster.trim(PARTITION);
        }
    }
    for (first, pending) in pending {
        let outcomes = cluster.wait(pending);
        assert_eq!(cluster.note(first, &outcomes), 60);
    }
    cluster.write(60);
    let start = cluster.trim(PARTITION);
    cluster.check(&[1, 2, 3]);
    for node in 1..=3 {
        cluster.until_starts_at(node, PARTITION, start);
    }
}

#[test]
fn a_scrub_reads_what_was_there_when_the_replica_was_opened_and_ends() {
    let mut cluster = Cluster::of_three(8);
    cluster.write(60);
    let node = cluster.followers(PARTITION)[0];
    cluster.stop(node);
    cluster.start(node);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let opened = cluster.group(node, PARTITION).end_when_opened();
    cluster.write(60);
    cluster.settle(PARTITION, &[1, 2, 3]);
    assert!(opened < cluster.group(node, PARTITION).log_end());
    let (end, unknown) = cluster.call(node, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        let mut next = LogIndex::ZERO;
        while let Some(after) = group.scrub(next, opened, 1).await.unwrap() {
            assert!(after > next);
            next = after;
        }
        // What the log does not have is not waited for.
        let beyond = group.log_end().saturating_add(9);
        (next, group.scrub(group.log_end(), beyond, 1).await.unwrap())
    });
    assert_eq!((end, unknown), (opened, None));
}

#[test]
fn trims_that_follow_each_other_closely_are_all_carried_out() {
    let mut cluster = Cluster::of_three(7);
    cluster.write(100);
    let leader = cluster.leader(PARTITION);
    let group = cluster.group(leader, PARTITION);
    let ends: Vec<_> = group.segments().iter().map(|one| one.last_index.next()).collect();
    let ends: Vec<_> = ends[..ends.len() - 1].to_vec();
    assert!(ends.len() > 3);
    let (last, term) = (ends[ends.len() - 1], group.status().term);
    drop(group);
    cluster.call(leader, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        let proposed = ends.into_iter().map(|end| group.propose_log_start(end, term));
        futures::future::try_join_all(proposed).await.unwrap();
    });
    for node in 1..=3 {
        cluster.until_starts_at(node, PARTITION, last);
    }
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_new_learner_of_a_wholly_trimmed_log_gets_what_is_left() {
    let mut cluster = Cluster::new(6, 4);
    cluster.form(PARTITION, &[1, 2, 3]);
    cluster.write(50);
    let leader = cluster.leader(PARTITION);
    // The active segment is sealed too, so that all records may go.
    cluster.group(leader, PARTITION).replica.log.roll().unwrap();
    let start = cluster.trim(PARTITION);
    cluster.until_starts_at(leader, PARTITION, start);
    let end = cluster.group(leader, PARTITION).replica.log.end_index();
    assert_eq!(end, start.next(), "all but the trim itself is gone");
    cluster.place(PARTITION, 4, 1);
    cluster.call(leader, |host| async move {
        host.group(PARTITION).unwrap().add_learner(replica(4, 1)).await.unwrap();
    });
    cluster.check(&[1, 2, 3, 4]);
    assert!(cluster.log_start(4, PARTITION) >= start);
    assert!(cluster.group(4, PARTITION).membership().learners.contains(&replica(4, 1)));
    cluster.write(30);
    cluster.check(&[1, 2, 3, 4]);
    let lag = cluster.group(leader, PARTITION).replication().unwrap()[&replica(4, 1)];
    assert_eq!(lag.matched, Some(cluster.group(leader, PARTITION).log_tip().0));
}
