//! A consumer that believes what it is told.

use std::collections::BTreeMap;

use duramen_types::{Offset, TopicPartition};

use crate::{InstanceId, MemberAssignment, MemberEpoch, MemberId, Subscription};

/// What a client knows.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: MemberId,
    pub(super) instance: Option<InstanceId>,
    pub(super) alive: bool,
    pub(super) epoch: MemberEpoch,
    /// What it reads: the epoch by which it knows the partition, and how far it has read.
    pub(super) reading: BTreeMap<TopicPartition, (MemberEpoch, Offset)>,
    pub(super) wants: Subscription,
}

impl Client {
    /// Follows what it is told, unless it knows better. Gives the epoch to acknowledge, if any.
    pub(super) fn follow(
        &mut self,
        told: &MemberAssignment,
        committed: impl Fn(TopicPartition) -> Offset,
    ) -> Option<MemberEpoch> {
        if !self.alive || told.epoch < self.epoch {
            return None;
        }
        self.epoch = told.epoch;
        self.reading.retain(|partition, (since, _)| told.granted.get(partition) == Some(since));
        for (partition, since) in &told.granted {
            self.reading.entry(*partition).or_insert_with(|| (*since, committed(*partition)));
        }
        (!told.revoked.is_empty()).then_some(told.epoch)
    }

    /// Stops: it was told that it is no member any more, or leaves, or crashes.
    pub(super) fn stop(&mut self) {
        self.alive = false;
        self.reading.clear();
    }
}
