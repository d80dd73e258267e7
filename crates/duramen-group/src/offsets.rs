//! The committed offsets of one group.

use std::collections::BTreeMap;

use duramen_types::{Offset, Term, Timestamp, TopicId, TopicPartition};

use crate::command::OffsetCommit;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group will read.
    pub offset: Offset,
    /// The leader epoch of the record before it, if the client knew it.
    pub leader_epoch: Option<Term>,
    /// What the client keeps with it.
    pub metadata: Box<str>,
    /// When it was committed, by the coordinator's clock.
    pub at: Timestamp,
}

/// The committed offsets of a group, by partition.
///
/// Invariant: `metadata_bytes` is the sum over all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    metadata_bytes: usize,
}

impl Offsets {
    pub(crate) fn get(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.offsets.iter().map(|(partition, committed)| (*partition, committed))
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of metadata strings.
    pub(crate) fn metadata_bytes(&self) -> usize {
        self.metadata_bytes
    }

    pub(crate) fn set(&mut self, commit: &OffsetCommit, at: Timestamp) {
        let committed = CommittedOffset {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.clone(),
            at,
        };
        self.insert(commit.partition, committed);
    }

    pub(crate) fn insert(&mut self, partition: TopicPartition, committed: CommittedOffset) {
        self.metadata_bytes += committed.metadata.len();
        if let Some(before) = self.offsets.insert(partition, committed) {
            self.metadata_bytes -= before.metadata.len();
        }
    }

    pub(crate) fn remove(&mut self, partition: TopicPartition) {
        if let Some(before) = self.offsets.remove(&partition) {
            self.metadata_bytes -= before.metadata.len();
        }
    }

    /// Removes all of a topic and tells how many there were.
    pub(crate) fn remove_topic(&mut self, topic: TopicId) -> usize {
        let of_topic = |partition: &&TopicPartition| partition.topic == topic;
        let first = TopicPartition { topic, partition: duramen_types::PartitionId::ZERO };
        let gone: Vec<TopicPartition> =
            self.offsets.range(first..).map(|(key, _)| key).take_while(of_topic).copied().collect();
        gone.iter().for_each(|partition| self.remove(*partition));
        gone.len()
    }
}
