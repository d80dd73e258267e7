//! What the subscriptions mean, and who ought to read what.

use std::collections::BTreeMap;

use duramen_types::{MetadataIndex, TopicId, TopicPartition};

use crate::epoch::GroupEpoch;
use crate::group::{Context, Group};
use crate::holdings::Target;
use crate::limits::{GROUP_PARTITIONS_MAX, GROUP_TOPICS_MAX};
use crate::name::MemberId;
use crate::outcome::{Bound, Outcome, Refusal};
use crate::subscription::Resolution;

impl Group {
    pub(super) fn resolve(&mut self, resolution: &Resolution) -> Result<Outcome, Refusal> {
        if resolution.index < self.resolution.index {
            return Err(Refusal::StaleMetadata { known: self.resolution.index });
        }
        if !resolution.is_whole() {
            return Err(Refusal::BadResolution);
        }
        let mut merged = self.resolution.clone();
        merged.merge(resolution);
        merged.prune(self.members.values().map(|member| &member.subscription));
        let matched: usize = merged.patterns.values().map(std::collections::BTreeSet::len).sum();
        if merged.partitions.len() > GROUP_TOPICS_MAX || matched > GROUP_PARTITIONS_MAX {
            return Err(Refusal::TooMany { what: Bound::Topics });
        }
        if merged.partition_count() > GROUP_PARTITIONS_MAX as u64 {
            return Err(Refusal::TooMany { what: Bound::Partitions });
        }
        if !merged.is_same_as(&self.resolution) {
            self.epoch = self.epoch.next();
        }
        self.resolution = merged;
        if self.members.is_empty() {
            self.target_epoch = self.epoch;
        }
        Ok(Outcome::Resolved { epoch: self.epoch })
    }

    pub(super) fn assign(
        &mut self,
        epoch: GroupEpoch,
        target: &BTreeMap<MemberId, Vec<TopicPartition>>,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        if epoch != self.epoch {
            return Err(Refusal::StaleTarget { current: self.epoch });
        }
        self.target = self.check_target(target)?;
        self.target_epoch = epoch;
        let is_elsewhere = |(partition, member): &(&TopicPartition, &MemberId)| {
            self.holdings.get(**partition).is_some_and(|holding| holding.member != **member)
        };
        let moving = self.target.iter().filter(is_elsewhere).count();
        self.settle(context);
        Ok(Outcome::Assigned { moving: u32::try_from(moving).unwrap_or(u32::MAX) })
    }

    fn check_target(
        &self,
        target: &BTreeMap<MemberId, Vec<TopicPartition>>,
    ) -> Result<Target, Refusal> {
        let input = self.assign_input();
        let mut checked = Target::new();
        for (id, partitions) in target {
            // A static member that was taken over since: the same epoch, another id.
            let member =
                input.members.get(id).ok_or(Refusal::StaleTarget { current: self.epoch })?;
            for partition in partitions {
                let count = input.partitions.get(&partition.topic).copied().unwrap_or(0);
                if partition.partition.get() >= count
                    || !member.topics.contains(&partition.topic)
                    || checked.insert(*partition, id.clone()).is_some()
                {
                    return Err(Refusal::BadTarget);
                }
            }
        }
        Ok(checked)
    }

    /// Forgets a topic that was deleted: its offsets, and that it is read. What members still hold
    /// of it is revoked, and takes no more commits. Gives the number of offsets.
    pub(crate) fn forget_topic(
        &mut self,
        topic: TopicId,
        index: MetadataIndex,
        context: &mut Context<'_>,
    ) -> usize {
        let of_topic = |partition: &TopicPartition| partition.topic == topic;
        if self.resolution.partitions.contains_key(&topic) || self.target.keys().any(of_topic) {
            self.resolution.forget(topic);
            self.resolution.index = self.resolution.index.max(index);
            self.target.retain(|partition, _| !of_topic(partition));
            self.epoch = self.epoch.next();
            self.settle(context);
        }
        self.holdings.void(topic);
        self.offsets.remove_topic(topic)
    }
}
