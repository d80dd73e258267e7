//! Idempotent producers: their sequences have no gap in any log, and every replica knows them.

use duramen_env::CrashMode;
use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::cluster::{Cluster, PARTITION};
use super::content::stamped;
use super::node::replica;
use crate::types::Applied;
use crate::{BatchId, Check, Proposal};

const PRODUCER: u64 = 5;

fn id(base_sequence: u32, records: u32) -> BatchId {
    BatchId {
        producer: ProducerId::new(PRODUCER),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(base_sequence),
        records,
    }
}

/// Proposes through the leader, without the check that its broker would make before.
fn propose(cluster: &mut Cluster, proposal: Proposal) -> Applied {
    let leader = cluster.leader(PARTITION);
    cluster.call(leader, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        let term = group.serving_term().unwrap();
        group.propose(proposal, term).await.unwrap().outcome().await.unwrap()
    })
}

fn check_everywhere(cluster: &mut Cluster, batch: &BatchId, expected: Check) {
    cluster.settle(PARTITION, &[1, 2, 3]);
    for node in 1..=3 {
        let found = cluster.group(node, PARTITION).check_producer(batch);
        assert_eq!(found, expected, "node {node}, {batch:?}");
    }
}

#[test]
fn a_batch_whose_predecessor_was_refused_is_rejected_by_every_replica_alike() {
    let mut cluster = Cluster::of_three(71);
    let first = propose(&mut cluster, stamped(PRODUCER, 0, &[0, 1, 2]));
    assert!(!first.rejected);
    // Sequences 3 and 4 never got into the log.
    let gap = propose(&mut cluster, stamped(PRODUCER, 5, &[5]));
    assert!(gap.rejected);
    let next = propose(&mut cluster, stamped(PRODUCER, 3, &[3, 4]));
    assert!(!next.rejected);
    assert_eq!(next.base_offset, Offset::new(3), "what was rejected took no offset");
    let again = propose(&mut cluster, stamped(PRODUCER, 3, &[3, 4]));
    assert!(again.rejected, "a duplicate is not appended twice");
    check_everywhere(&mut cluster, &id(3, 2), Check::Duplicate(Offset::new(3)));
    check_everywhere(&mut cluster, &id(5, 1), Check::Next);
    cluster.write(5);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn producers_survive_restarts_trims_and_a_change_of_leader() {
    let mut cluster = Cluster::of_three(72);
    for batch in 0..5 {
        propose(&mut cluster, stamped(PRODUCER, batch, &[u64::from(batch)]));
    }
    let known = Check::Duplicate(Offset::new(4));
    cluster.write(60);
    check_everywhere(&mut cluster, &id(4, 1), known);
    let start = cluster.trim(PARTITION);
    for node in 1..=3 {
        cluster.until_starts_at(node, PARTITION, start);
    }
    check_everywhere(&mut cluster, &id(4, 1), known);
    let leader = cluster.leader(PARTITION);
    let target = cluster.followers(PARTITION)[0];
    cluster.call(leader, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        group.transfer_leader(replica(target, 1)).await.unwrap();
    });
    check_everywhere(&mut cluster, &id(4, 1), known);
    for (node, mode) in [(1, None), (2, Some(CrashMode::KeepNone)), (3, None)] {
        if mode.is_some() {
            cluster.crash(node, mode);
        } else {
            cluster.stop(node);
        }
        cluster.start(node);
        check_everywhere(&mut cluster, &id(4, 1), known);
    }
    let next = propose(&mut cluster, stamped(PRODUCER, 5, &[5]));
    assert!(!next.rejected);
    let duplicate = propose(&mut cluster, stamped(PRODUCER, 5, &[5]));
    assert!(duplicate.rejected);
    cluster.check(&[1, 2, 3]);
}

/// Several proposals as one entry, as a leader makes one of what waits.
fn together(proposals: Vec<Proposal>) -> Proposal {
    let payloads: Vec<_> = proposals.iter().map(|one| &one.payload[..]).collect();
    let records = proposals.iter().map(|one| one.records).sum();
    Proposal { payload: payloads.concat().into(), records, ..stamped(PRODUCER, 0, &[0]) }
}

#[test]
fn batches_in_a_row_are_remembered_as_one_and_found_one_by_one_on_every_replica() {
    let mut cluster = Cluster::of_three(75);
    let other = PRODUCER + 1;
    // Far more batches than runs that are remembered.
    let batches = (0..20).map(|batch| stamped(PRODUCER, batch * 2, &[0, 1])).collect();
    propose(&mut cluster, together(batches));
    let mixed = vec![
        stamped(PRODUCER, 40, &[0]),
        stamped(other, 0, &[0, 1, 2]),
        stamped(PRODUCER, 41, &[0]),
    ];
    assert!(!propose(&mut cluster, together(mixed)).rejected);
    let check = |cluster: &mut Cluster| {
        for batch in 0..20 {
            let known = Check::Duplicate(Offset::new(batch * 2));
            check_everywhere(cluster, &id(u32::try_from(batch).unwrap() * 2, 2), known);
        }
        check_everywhere(cluster, &id(0, 40), Check::Duplicate(Offset::ZERO));
        check_everywhere(cluster, &id(41, 1), Check::Duplicate(Offset::new(44)));
        // The two of the second entry do not lie next to each other, nor to the first.
        let expected = Sequence::new(42);
        check_everywhere(cluster, &id(40, 2), Check::OutOfOrder { expected });
        check_everywhere(cluster, &id(38, 3), Check::OutOfOrder { expected });
        check_everywhere(cluster, &id(42, 1), Check::Next);
    };
    check(&mut cluster);
    for node in 1..=3 {
        cluster.crash(node, Some(CrashMode::KeepNone));
        cluster.start(node);
    }
    check(&mut cluster);
    // With a gap within it, or a part of it twice, an entry is refused as a whole.
    for second in [43, 45] {
        let odd = vec![stamped(PRODUCER, 42, &[0, 1]), stamped(PRODUCER, second, &[0])];
        assert!(propose(&mut cluster, together(odd)).rejected, "{second}");
    }
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_follower_that_comes_new_after_a_trim_knows_the_producers() {
    let mut cluster = Cluster::of_three(73);
    propose(&mut cluster, stamped(PRODUCER, 0, &[0]));
    cluster.settle(PARTITION, &[1, 2, 3]);
    let lagging = cluster.followers(PARTITION)[0];
    cluster.crash(lagging, None);
    propose(&mut cluster, stamped(PRODUCER, 1, &[1, 2]));
    cluster.write(80);
    let start = cluster.trim(PARTITION);
    let leader = cluster.leader(PARTITION);
    cluster.until_starts_at(leader, PARTITION, start);
    cluster.start(lagging);
    check_everywhere(&mut cluster, &id(1, 2), Check::Duplicate(Offset::new(1)));
    check_everywhere(&mut cluster, &id(3, 1), Check::Next);
}

#[test]
fn what_is_truncated_is_taken_out_of_the_producers_too() {
    let mut cluster = Cluster::of_three(74);
    propose(&mut cluster, stamped(PRODUCER, 0, &[0]));
    cluster.write(10);
    cluster.settle(PARTITION, &[1, 2, 3]);
    let old = cluster.leader(PARTITION);
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    cluster.cut(old, &others);
    let term = cluster.group(old, PARTITION).status().term;
    let lost = cluster.spawn(old, move |host| async move {
        let group = host.group(PARTITION).unwrap();
        let proposed = group.propose(stamped(PRODUCER, 1, &[1]), term).await.unwrap();
        proposed.outcome().await.map(|_| ())
    });
    cluster.until("the cut-off leader appended it", |cluster| {
        cluster.group(old, PARTITION).check_producer(&id(2, 1)) == Check::Next
    });
    cluster.leader_but(PARTITION, old);
    cluster.write(20);
    cluster.heal(old, &others);
    assert!(cluster.wait(lost).is_err());
    check_everywhere(&mut cluster, &id(1, 1), Check::Next);
    let retried = propose(&mut cluster, stamped(PRODUCER, 1, &[1]));
    assert!(!retried.rejected);
    check_everywhere(&mut cluster, &id(1, 1), Check::Duplicate(retried.base_offset));
    cluster.check(&[1, 2, 3]);
}
