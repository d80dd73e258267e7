//! Bytes of the vote file: a head of two slots, then records of 64 bytes back to back, little-endian,
//! then zeros. A slot is a sector of 512 bytes, which a disk writes whole or not at all.
//!
//! ```text
//! slot:
//! 0            8                24     32        40         508   512
//! +------------+----------------+------+---------+----------+-----+
//! | "DHSHEAD1" | cluster (UUID) | node | durable | zeros    | crc |
//! +------------+----------------+------+---------+----------+-----+
//! ```
//! `durable`: records known to be durable; the higher one of
//! the sound slots counts. The slots are written in turn after each sync, themselves not synced.
//! CRC-32 over the 508 bytes before it.
//!
//! ```text
//! record:
//! 0        4               20          24        32     40          48        56      57     60    64
//! +--------+---------------+-----------+---------+------+-----------+---------+-------+------+-----+
//! | "DHS1" | topic (UUID)  | partition | replica | term | voted for | durable | flags | zero | crc |
//! +--------+---------------+-----------+---------+------+-----------+---------+-------+------+-----+
//! ```
//! `durable`: records known to be durable when this one was written. Flags: 1 = the vote is
//! committed (its holder leads), 2 = the replica is gone, 4 = the metadata group. CRC-32 over the
//! 60 bytes before it.

use std::collections::BTreeMap;

use duramen_types::{ClusterId, NodeId, PartitionId, ReplicaId, TopicId, TopicPartition};
use openraft::vote::leader_id_std::LeaderId;

use crate::types::{GroupId, Vote};

/// Length of a record.
pub(crate) const RECORD_BYTES: u64 = 64;
/// Length of a slot of the head.
pub(crate) const SLOT_BYTES: u64 = 512;
/// Length of the head: where the records begin.
pub(crate) const HEAD_BYTES: u64 = 2 * SLOT_BYTES;

const HEAD_MAGIC: [u8; 8] = *b"DHSHEAD1";
const MAGIC: [u8; 4] = *b"DHS1";
const COMMITTED: u8 = 1;
const GONE: u8 = 2;
const METADATA: u8 = 4;

/// The last vote of each replica.
pub(crate) type Votes = BTreeMap<(GroupId, ReplicaId), Vote>;

/// Whose file it is; a node that begins anew under another incarnation may keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// What a slot of the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) owner: Owner,
    pub(crate) durable: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; 512] {
        let mut bytes = [0; 512];
        bytes[0..8].copy_from_slice(&HEAD_MAGIC);
        bytes[8..24].copy_from_slice(self.owner.cluster.as_bytes());
        bytes[24..32].copy_from_slice(&self.owner.node.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..508]);
        bytes[508..512].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a slot; `None` if it does not check.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (hashed, crc) = bytes.first_chunk::<512>()?.split_last_chunk::<4>()?;
        let (magic, rest) = hashed.split_first_chunk::<8>()?;
        let (cluster, rest) = rest.split_first_chunk::<16>()?;
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (durable, _) = rest.split_first_chunk::<8>()?;
        if *magic != HEAD_MAGIC || crc32fast::hash(hashed) != u32::from_le_bytes(*crc) {
            return None;
        }
        let cluster = ClusterId::from_bytes(*cluster);
        let owner = Owner { cluster, node: NodeId::new(u64::from_le_bytes(*node)) };
        Some(Self { owner, durable: u64::from_le_bytes(*durable) })
    }
}

/// One place for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// All zeros: nothing was written here, or it did not reach the disk.
    Empty,
    Valid(Record),
    /// Written once, and not what was written.
    Damaged,
}

impl Slot {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Empty;
        }
        Record::decode(bytes).map_or(Self::Damaged, Self::Valid)
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        match self {
            Self::Valid(record) => Some(record),
            Self::Empty | Self::Damaged => None,
        }
    }
}

/// One saved vote, or that a replica is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) vote: Option<Vote>,
    pub(crate) durable: u64,
}

impl Record {
    /// Takes the record into a map of live votes.
    pub(crate) fn apply(&self, live: &mut Votes) {
        match self.vote {
            Some(vote) => live.insert((self.group, self.replica), vote),
            None => live.remove(&(self.group, self.replica)),
        };
    }

    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut flags = 0;
        let (topic, partition) = match self.group {
            GroupId::Metadata => {
                flags |= METADATA;
                (TopicId::NIL, 0)
            }
            GroupId::Partition(id) => (id.topic, id.partition.get()),
        };
        let (mut term, mut voted_for) = (0, 0);
        match self.vote {
            Some(vote) => {
                term = vote.leader_id.term;
                voted_for = vote.leader_id.voted_for;
                if vote.committed {
                    flags |= COMMITTED;
                }
            }
            None => flags |= GONE,
        }
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..20].copy_from_slice(topic.as_bytes());
        bytes[20..24].copy_from_slice(&partition.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.replica.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&term.to_le_bytes());
        bytes[40..48].copy_from_slice(&voted_for.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.durable.to_le_bytes());
        bytes[56] = flags;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a record; `None` if it does not check.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (topic, rest) = rest.split_first_chunk::<16>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (replica, rest) = rest.split_first_chunk::<8>()?;
        let (term, rest) = rest.split_first_chunk::<8>()?;
        let (voted_for, rest) = rest.split_first_chunk::<8>()?;
        let (durable, rest) = rest.split_first_chunk::<8>()?;
        let (flags, rest) = rest.split_first_chunk::<4>()?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || crc32fast::hash(bytes.get(..60)?) != u32::from_le_bytes(*crc) {
            return None;
        }
        let flags = flags[0];
        let group = if flags & METADATA == 0 {
            let topic = TopicId::from_bytes(*topic);
            let partition = PartitionId::new(u32::from_le_bytes(*partition));
            GroupId::Partition(TopicPartition { topic, partition })
        } else {
            GroupId::Metadata
        };
        let vote = (flags & GONE == 0).then(|| Vote {
            leader_id: LeaderId {
                term: u64::from_le_bytes(*term),
                voted_for: u64::from_le_bytes(*voted_for),
            },
            committed: flags & COMMITTED != 0,
        });
        let replica = ReplicaId::new(u64::from_le_bytes(*replica));
        Some(Self { group, replica, vote, durable: u64::from_le_bytes(*durable) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_record_are_pinned() {
        let group = GroupId::Partition(TopicPartition {
            topic: TopicId::from_bytes([0xab; 16]),
            partition: PartitionId::new(3),
        });
        let leader_id = LeaderId { term: 7, voted_for: 0x0102 };
        let vote = Some(Vote { leader_id, committed: true });
        let record = Record { group, replica: ReplicaId::new(9), vote, durable: 5 };
        let bytes = record.encode();
        let mut expected = Vec::new();
        expected.extend(b"DHS1");
        expected.extend([0xab; 16]);
        expected.extend([3, 0, 0, 0]);
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0, 0, 0]);
        assert_eq!(bytes[..60], expected[..]);
        assert_eq!(Record::decode(&bytes), Some(record));
    }

    #[test]
    fn the_bytes_of_a_slot_are_pinned() {
        let cluster = ClusterId::from_bytes([0xcd; 16]);
        let head = Head { owner: Owner { cluster, node: NodeId::new(0x0102) }, durable: 7 };
        let bytes = head.encode();
        let mut expected = b"DHSHEAD1".to_vec();
        expected.extend([0xcd; 16]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        expected.resize(508, 0);
        assert_eq!(bytes[..508], expected[..]);
        assert_eq!(Head::decode(&bytes), Some(head));
        for bit in 0..4096 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let record =
            Record { group: GroupId::Metadata, replica: ReplicaId::new(1), vote: None, durable: 0 };
        for bit in 0..512 {
            let mut bytes = record.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&bytes), None, "bit {bit}");
        }
    }
}
