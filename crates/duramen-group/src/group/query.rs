//! Questions to a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duramen_types::{Timestamp, TopicId, TopicPartition};

use super::Group;
use crate::assign::{AssignInput, MemberInput};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::holdings::Holding;
use crate::member::Member;
use crate::name::{InstanceId, MemberId};
use crate::offsets::CommittedOffset;
use crate::outcome::Refusal;
use crate::subscription::{Resolution, Subscription};

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has no members.
    Empty,
    /// A target is due for its present members, subscriptions and topics.
    Assigning,
    /// Partitions are on their way from one member to another.
    Reconciling,
    /// Every partition is where it ought to be.
    Stable,
}

/// What one member is told: it reads what is granted and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAssignment {
    /// Its epoch. The client follows the highest one that it has seen, and names it in what it
    /// says.
    pub epoch: MemberEpoch,
    /// What it reads. If the epoch beside a partition is not the one that the client knows it by,
    /// it drops its position and reads the committed offset.
    pub granted: BTreeMap<TopicPartition, MemberEpoch>,
    /// What it has to give back: stop, commit, acknowledge the epoch.
    pub revoked: BTreeSet<TopicPartition>,
}

impl Group {
    /// The group epoch.
    #[must_use]
    pub fn epoch(&self) -> GroupEpoch {
        self.epoch
    }

    /// The latest member epoch. It also moves when offsets are reset or deleted.
    #[must_use]
    pub fn fence(&self) -> MemberEpoch {
        self.fence
    }

    /// Where the group is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.members.is_empty() {
            Phase::Empty
        } else if self.target_epoch != self.epoch {
            Phase::Assigning
        } else if self.holdings.iter().any(|(_, holding)| holding.revoked.is_some()) {
            Phase::Reconciling
        } else {
            Phase::Stable
        }
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    /// The member that has a static instance.
    #[must_use]
    pub fn member_of_instance(&self, instance: &InstanceId) -> Option<&MemberId> {
        self.instances.get(instance)
    }

    /// Since when the group has no members and no commits; the beginning or the last commit of one
    /// that has members means nothing.
    #[must_use]
    pub fn idle_since(&self) -> Timestamp {
        self.idle_since
    }

    /// Whether the group had no members and no commits for so long, in milliseconds.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp, idle_ms: u64) -> bool {
        self.members.is_empty() && now.millis_since(self.idle_since) >= idle_ms
    }

    /// What is known of the subscriptions.
    #[must_use]
    pub fn resolution(&self) -> &Resolution {
        &self.resolution
    }

    /// Whether all subscriptions are looked up in the metadata.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.members.values().all(|member| self.resolution.covers(&member.subscription))
    }

    /// The names and patterns to look up for the next [`Resolution`].
    #[must_use]
    pub fn subscriptions(&self) -> (BTreeSet<Arc<str>>, BTreeSet<Arc<str>>) {
        let all = || self.members.values().map(|member| &member.subscription);
        let names = all().flat_map(|subscription| subscription.names.iter().cloned()).collect();
        (names, all().filter_map(|subscription| subscription.pattern.clone()).collect())
    }

    /// Who holds a partition.
    #[must_use]
    pub fn holding(&self, partition: TopicPartition) -> Option<&Holding> {
        self.holdings.get(partition)
    }

    /// All partitions that somebody holds.
    pub fn holdings(&self) -> impl Iterator<Item = (TopicPartition, &Holding)> {
        self.holdings.iter()
    }

    /// Who ought to hold a partition.
    #[must_use]
    pub fn target(&self, partition: TopicPartition) -> Option<&MemberId> {
        self.target.get(&partition)
    }

    /// What a member is to be told; `None` if there is no such member. Looks at all partitions of
    /// the group: whoever tells many members at once takes [`Self::assignments`].
    #[must_use]
    pub fn assignment(&self, id: &MemberId) -> Option<MemberAssignment> {
        let mut assignment = MemberAssignment::empty(self.members.get(id)?.epoch);
        let held = self.holdings.iter().filter(|(_, holding)| holding.member == *id);
        held.for_each(|(partition, holding)| assignment.add(partition, holding));
        Some(assignment)
    }

    /// What every member is to be told.
    #[must_use]
    pub fn assignments(&self) -> BTreeMap<MemberId, MemberAssignment> {
        let empty = |(id, member): (&MemberId, &Member)| {
            (id.clone(), MemberAssignment::empty(member.epoch))
        };
        let mut all: BTreeMap<_, _> = self.members.iter().map(empty).collect();
        for (partition, holding) in self.holdings.iter() {
            if let Some(assignment) = all.get_mut(&holding.member) {
                assignment.add(partition, holding);
            }
        }
        all
    }

    /// A committed offset.
    #[must_use]
    pub fn committed(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(partition)
    }

    /// All committed offsets, by partition.
    pub fn offsets(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.offsets.iter()
    }

    /// Checks that a member is there and can have seen an epoch.
    ///
    /// # Errors
    /// [`Refusal::UnknownMember`] if it left, was expired or is away, [`Refusal::WrongEpoch`] if
    /// the epoch is of another life or later than its own.
    pub fn check_member(&self, id: &MemberId, epoch: MemberEpoch) -> Result<&Member, Refusal> {
        let member = self.members.get(id).filter(|member| !member.away);
        let member = member.ok_or(Refusal::UnknownMember)?;
        if (member.joined..=member.epoch).contains(&epoch) {
            Ok(member)
        } else {
            Err(Refusal::WrongEpoch { current: member.epoch })
        }
    }

    /// What an assignor needs to know; members with equal subscriptions share their topics.
    #[must_use]
    pub fn assign_input(&self) -> AssignInput<'_> {
        let mut known: Vec<(&Subscription, Arc<BTreeSet<TopicId>>)> = Vec::new();
        let mut members = BTreeMap::new();
        for (id, member) in &self.members {
            let same = known.iter().rev().find(|(other, _)| **other == member.subscription);
            let topics = match same {
                Some((_, topics)) => Arc::clone(topics),
                None => {
                    let topics = Arc::new(self.resolution.topics_of(&member.subscription));
                    known.push((&member.subscription, Arc::clone(&topics)));
                    topics
                }
            };
            let instance = member.instance.as_ref();
            members.insert(id, MemberInput { instance, rack: &member.rack, topics });
        }
        AssignInput { members, partitions: &self.resolution.partitions, current: &self.target }
    }
}

impl MemberAssignment {
    fn empty(epoch: MemberEpoch) -> Self {
        Self { epoch, granted: BTreeMap::new(), revoked: BTreeSet::new() }
    }

    fn add(&mut self, partition: TopicPartition, holding: &Holding) {
        if holding.revoked.is_some() {
            self.revoked.insert(partition);
        } else {
            self.granted.insert(partition, holding.since);
        }
    }
}
