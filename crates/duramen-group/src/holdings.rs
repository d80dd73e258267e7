//! Who holds which partition: the heart of a group.
//!
//! ```text
//!             target is M            target is not M          M acknowledges, leaves, is expired
//!  free ───────────────────▶ granted ───────────────▶ revoked ──────────────────────────▶ free
//!    ▲                          │ M leaves, is expired                                      │
//!    └──────────────────────────┴───────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants, by the shape of the map: a partition has at most one holder, and a revoked one is
//! still its holder's. It becomes another's only through *free*. A member is told what is granted
//! to it, and may still be reading what is revoked until it says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use duramen_types::{TopicId, TopicPartition};

use crate::epoch::MemberEpoch;
use crate::name::MemberId;

/// A partition in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub member: MemberId,
    /// The epoch at which the member has to read the committed offset: when it got the partition,
    /// or when the offset was reset. Commits that name an earlier epoch are refused.
    /// [`MemberEpoch::NEVER`] after a reset of a revoked partition, which takes no more commits.
    pub since: MemberEpoch,
    /// The epoch at which it was revoked, if it was.
    pub revoked: Option<MemberEpoch>,
}

/// The partitions in members' hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings(BTreeMap<TopicPartition, Holding>);

/// Where partitions ought to be.
pub(crate) type Target = BTreeMap<TopicPartition, MemberId>;

impl Holdings {
    pub(crate) fn get(&self, partition: TopicPartition) -> Option<&Holding> {
        self.0.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Holding)> {
        self.0.iter().map(|(partition, holding)| (*partition, holding))
    }

    /// Puts back what a snapshot has. `false` if the partition is in it twice.
    pub(crate) fn restore(&mut self, partition: TopicPartition, holding: Holding) -> bool {
        self.0.insert(partition, holding).is_none()
    }

    /// Revokes what is not where it ought to be, grants what is free. Gives the members whose
    /// assignment has changed; their epoch is now `epoch`.
    pub(crate) fn reconcile(&mut self, target: &Target, epoch: MemberEpoch) -> BTreeSet<MemberId> {
        let mut changed = BTreeSet::new();
        for (partition, holding) in &mut self.0 {
            if holding.revoked.is_none() && target.get(partition) != Some(&holding.member) {
                holding.revoked = Some(epoch);
                changed.insert(holding.member.clone());
            }
        }
        for (partition, member) in target {
            if !self.0.contains_key(partition) {
                let granted = Holding { member: member.clone(), since: epoch, revoked: None };
                self.0.insert(*partition, granted);
                changed.insert(member.clone());
            }
        }
        changed
    }

    /// Frees what was revoked from a member at `epoch` or before. Gives the number.
    pub(crate) fn acknowledge(&mut self, member: &MemberId, epoch: MemberEpoch) -> usize {
        let before = self.0.len();
        self.0.retain(|_, holding| {
            holding.member != *member || holding.revoked.is_none_or(|revoked| revoked > epoch)
        });
        before - self.0.len()
    }

    /// Frees all that a member holds.
    pub(crate) fn release(&mut self, member: &MemberId) {
        self.0.retain(|_, holding| holding.member != *member);
    }

    /// Gives what is granted to `old` to `new`; frees what is revoked from it.
    pub(crate) fn take_over(&mut self, old: &MemberId, new: &MemberId, epoch: MemberEpoch) {
        self.0.retain(|_, holding| holding.member != *old || holding.revoked.is_none());
        for holding in self.0.values_mut().filter(|holding| holding.member == *old) {
            holding.member = new.clone();
            holding.since = epoch;
        }
    }

    /// Makes the holder of a partition read its committed offset again: commits that name an epoch
    /// before `epoch` are refused from now on. Gives the member that has to be told.
    pub(crate) fn fence(
        &mut self,
        partition: TopicPartition,
        epoch: MemberEpoch,
    ) -> Option<MemberId> {
        let holding = self.0.get_mut(&partition)?;
        if holding.revoked.is_some() {
            // Whoever gives it back knows nothing of the reset, and its last commit is void.
            holding.since = MemberEpoch::NEVER;
            return None;
        }
        holding.since = epoch;
        Some(holding.member.clone())
    }

    /// Ends commits for a topic that was deleted.
    pub(crate) fn void(&mut self, topic: TopicId) {
        let of_topic = self.0.iter_mut().filter(|(partition, _)| partition.topic == topic);
        of_topic.for_each(|(_, holding)| holding.since = MemberEpoch::NEVER);
    }

    /// For each member that has something to give back, the epoch of what it was told first.
    pub(crate) fn oldest_revocations(&self) -> BTreeMap<MemberId, MemberEpoch> {
        let mut oldest: BTreeMap<MemberId, MemberEpoch> = BTreeMap::new();
        for holding in self.0.values() {
            if let Some(revoked) = holding.revoked {
                let entry = oldest.entry(holding.member.clone()).or_insert(revoked);
                *entry = revoked.min(*entry);
            }
        }
        oldest
    }
}
