//! What replicas read from their small files and from their peers, for the fuzzer.

mod peer;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_env::{Disk, OpenMode, SimDisk};
use duramen_log::LogIdentity;
use duramen_types::{
    ClusterId, LogIndex, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, ReplicaId,
    Sequence, Timestamp, TopicId, TopicPartition,
};
use openraft::vote::leader_id_std::LeaderId;

use crate::hard_state::format::{Head, Owner, Record};
use crate::hard_state::{recover, scan};
use crate::producers::{BatchId, Check};
use crate::snapshot::SnapshotFile;
use crate::tracker::{Checkpoint, Tracker};
use crate::types::{GroupId, LogId, Membership, StoredMembership, Vote};
use crate::{checkpoint, entry, wire};

/// Everything that a replica reads from its own files, and every message of a peer.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "raft-vote",
        run: |bytes| round_trip(bytes, Record::decode, Record::encode),
        seeds: || records().chunks_exact(64).map(<[u8]>::to_vec).collect(),
        seal: Some(seal_records),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "raft-vote-file",
        run: vote_file,
        seeds: || vec![votes(), [votes(), vec![0; 128]].concat()],
        seal: Some(seal_votes),
        memory: MemoryLimit { base: 64 << 10, per_byte: 64 },
    },
    Decoder {
        name: "raft-checkpoint-file",
        run: |bytes| {
            let decode = |bytes: &[u8]| checkpoint::decode(bytes, OWNER).map(<[u8]>::to_vec);
            let encode = |payload: &Vec<u8>| checkpoint::encode(payload, OWNER);
            round_trip(bytes, decode, |payload| encode(payload).unwrap_or_default())
        },
        seeds: || checkpoint::encode(b"payload", OWNER).into_iter().collect(),
        seal: Some(seal_checkpoint),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "raft-checkpoint",
        run: |bytes| round_trip(bytes, Checkpoint::decode, Checkpoint::encode),
        seeds: || vec![saved().encode()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "raft-replica-state",
        run: replica_state,
        seeds: || vec![tracker().encode().to_vec()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "raft-membership",
        run: |bytes| {
            let decode = |bytes: &[u8]| wire::decode_membership(bytes).ok();
            round_trip(bytes, decode, wire::encode_membership)
        },
        seeds: || vec![wire::encode_membership(&membership()).to_vec()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "raft-log-start",
        run: |bytes| {
            round_trip(bytes, entry::decode_log_start, |index| entry::encode_log_start(*index))
        },
        seeds: || vec![entry::encode_log_start(LogIndex::new(9)).to_vec()],
        seal: None,
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "raft-snapshot",
        run: snapshot,
        seeds: || vec![snapshot_file().encode().to_vec()],
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "raft-peer-frame",
        run: peer::frame,
        seeds: peer::frames,
        seal: Some(peer::seal),
        memory: MemoryLimit::MESSAGES,
    },
];

const OWNER: LogIdentity =
    LogIdentity { cluster: ClusterId::from_bytes([0xcd; 16]), replica: ReplicaId::new(9) };

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, voted_for: 0x0102 }, committed: term.is_multiple_of(2) }
}

fn partition() -> GroupId {
    GroupId::Partition(TopicPartition {
        topic: TopicId::from_bytes([0xab; 16]),
        partition: PartitionId::new(3),
    })
}

fn membership() -> Membership {
    let configs = vec![[1, 2, 3].into(), [2, 3, 4].into()];
    Membership::new(configs, BTreeSet::from([1, 2, 3, 4, 5])).unwrap_or_default()
}

fn stored_membership() -> StoredMembership {
    StoredMembership::new(Some(LogId::new_term_index(2, 7)), membership())
}

fn tracker() -> Tracker {
    let mut tracker = Tracker { membership: stored_membership(), ..Tracker::default() };
    for batch in 0..7_u32 {
        let id = BatchId {
            producer: ProducerId::new(u64::from(batch % 2) + 1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(batch / 2 * 10),
            records: 10,
        };
        let offset = Offset::new(u64::from(batch) * 10);
        tracker.producers.appended(&id, offset, Timestamp::from_millis(batch.into()));
    }
    tracker
}

fn saved() -> Checkpoint {
    Checkpoint {
        log_id: LogId::new_term_index(3, 40),
        chain: 7,
        end_offset: Offset::new(80),
        tracker: tracker(),
    }
}

fn snapshot_file() -> SnapshotFile {
    SnapshotFile {
        last_log_id: Some(LogId::new_term_index(3, 40)),
        membership: stored_membership(),
        next_offset: Offset::new(80),
        chain: 7,
        append_time: Timestamp::from_millis(1_700_000_000_000),
        state: tracker().encode(),
    }
}

/// A vote file as it grows.
fn votes() -> Vec<u8> {
    let owner = Owner { cluster: OWNER.cluster, node: NodeId::new(9) };
    let slot = |durable| Head { owner, durable }.encode().to_vec();
    [slot(2), slot(1), records()].concat()
}

fn records() -> Vec<u8> {
    let record = |group, vote, durable| Record { group, replica: ReplicaId::new(9), vote, durable };
    let records = [
        record(GroupId::Metadata, Some(vote(1)), 0),
        record(partition(), Some(vote(4)), 1),
        record(partition(), None, 2),
    ];
    records.iter().flat_map(Record::encode).collect()
}

fn seal_votes(bytes: &mut [u8]) {
    let Some((head, records)) = bytes.split_first_chunk_mut::<1024>() else { return };
    for slot in head.chunks_exact_mut(512) {
        let crc = crc32fast::hash(&slot[..508]);
        slot[508..].copy_from_slice(&crc.to_le_bytes());
    }
    seal_records(records);
}

fn seal_records(bytes: &mut [u8]) {
    for record in bytes.chunks_exact_mut(64) {
        // What was never written stays so.
        if record.iter().any(|byte| *byte != 0) {
            let crc = crc32fast::hash(&record[..60]);
            record[60..].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

fn seal_checkpoint(bytes: &mut [u8]) {
    let Some((head, payload)) = bytes.split_first_chunk_mut::<12>() else { return };
    let crc = crc32fast::hash(payload);
    head[8..].copy_from_slice(&crc.to_le_bytes());
}

fn vote_file(bytes: &[u8]) -> Verdict {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("/hardstate"), OpenMode::CreateNew);
    let Ok(file) = file.and_then(|file| file.write_at(bytes, 0).map(|()| file)) else {
        return Verdict::Broken("the simulated disk refused a file");
    };
    let Ok((heads, slots)) = scan(&*file) else { return Verdict::Broken("a file cannot be read") };
    let Some(durable) = heads.iter().flatten().map(|head| head.durable).max() else {
        return Verdict::Refused;
    };
    match recover(&slots, durable) {
        Err(_) => Verdict::Refused,
        Ok((live, written)) => {
            let records = || slots.iter().filter_map(|slot| slot.record());
            if durable > written || records().any(|record| record.durable > written) {
                Verdict::Broken("a durable vote is forgotten")
            } else if live.len() as u64 > written {
                Verdict::Broken("more votes than records")
            } else {
                Verdict::Accepted
            }
        }
    }
}

fn replica_state(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| Tracker::decode(bytes).ok();
    if let Some(mut tracker) = decode(bytes) {
        for producer in 0..4 {
            let batch = BatchId {
                producer: ProducerId::new(producer),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(40),
                records: 5,
            };
            if tracker.producers.check(&batch) == Check::UnknownProducer {
                continue;
            }
            tracker.producers.appended(&batch, Offset::new(7), Timestamp::EPOCH);
        }
    }
    round_trip(bytes, decode, Tracker::encode)
}

fn snapshot(bytes: &[u8]) -> Verdict {
    if let Some(snapshot) = SnapshotFile::decode(bytes) {
        // What installing one computes, for either kind of group.
        if snapshot.end_index() == LogIndex::ZERO && snapshot.last_log_id.is_some() {
            return Verdict::Broken("a snapshot ends before its last entry");
        }
        for is_partition in [false, true] {
            let start = snapshot.log_start(is_partition);
            drop(SnapshotFile::of_log_start(&start));
        }
    }
    round_trip(bytes, SnapshotFile::decode, |snapshot| -> Bytes { snapshot.encode() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted_also_after_it_was_sealed() {
        for decoder in DECODERS {
            let seeds = (decoder.seeds)();
            assert!(!seeds.is_empty(), "{}", decoder.name);
            for mut seed in seeds {
                assert_eq!((decoder.run)(&seed), Verdict::Accepted, "{}", decoder.name);
                let Some(seal) = decoder.seal else { continue };
                let before = seed.clone();
                seal(&mut seed);
                assert_eq!(seed, before, "sealing changes nothing that is sound: {}", decoder.name);
            }
        }
    }
}
