//! Assignors: who ought to read which partition.
//!
//! An assignor runs at the coordinator, not in apply: what it finds travels in a command and is
//! only checked there. So versions of Duramen may assign differently, and what an assignor looks at
//! beyond the state (racks) needs no replication.

mod deal;
mod flow;
mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use duramen_types::{PartitionId, TopicId, TopicPartition};

use crate::name::{InstanceId, MemberId};

pub use range::Range;
pub use uniform::UniformSticky;

/// What an assignor knows of a group.
#[derive(Clone, Debug)]
pub struct AssignInput<'a> {
    /// The members.
    pub members: BTreeMap<&'a MemberId, MemberInput<'a>>,
    /// The number of partitions of each topic.
    pub partitions: &'a BTreeMap<TopicId, u32>,
    /// The target until now. It may name members that are gone, and partitions.
    pub current: &'a BTreeMap<TopicPartition, MemberId>,
}

/// What an assignor knows of a member.
#[derive(Clone, Debug)]
pub struct MemberInput<'a> {
    /// Its instance, if it is static.
    pub instance: Option<&'a InstanceId>,
    /// Where it is; empty if unknown.
    pub rack: &'a str,
    /// The topics that it reads. All of them exist.
    pub topics: Arc<BTreeSet<TopicId>>,
}

/// Where the replicas of partitions are, as far as known.
pub type Racks = BTreeMap<TopicPartition, Vec<Arc<str>>>;

/// The partitions of each member.
pub type Assignment = BTreeMap<MemberId, Vec<TopicPartition>>;

/// Decides who ought to read which partition.
///
/// Pure: equal inputs give equal results. Every partition that some member reads is given to
/// exactly one of those that do, and every member is named, if only with nothing.
pub trait Assignor: Debug + Send + Sync {
    /// Its name in configuration: `uniform`.
    fn name(&self) -> &'static str;

    /// The partitions of each member.
    fn assign(&self, input: &AssignInput<'_>, racks: &Racks) -> Assignment;
}

/// All of them.
pub const ASSIGNORS: [&dyn Assignor; 2] = [&UniformSticky, &Range];

/// The assignor of this name.
#[must_use]
pub fn assignor(name: &str) -> Option<&'static dyn Assignor> {
    ASSIGNORS.into_iter().find(|assignor| assignor.name() == name)
}

/// How many partitions an assignment takes from a member that could keep them.
#[must_use]
pub fn moves(input: &AssignInput<'_>, assignment: &Assignment) -> usize {
    let given = assignment.iter().flat_map(|(member, partitions)| {
        partitions.iter().map(move |partition| (*partition, member))
    });
    let is_moved = |(partition, member): &(TopicPartition, &MemberId)| {
        input.owner(*partition).is_some_and(|owner| owner != *member)
    };
    given.filter(is_moved).count()
}

impl AssignInput<'_> {
    /// Who has a partition now and could keep it.
    #[must_use]
    pub fn owner(&self, partition: TopicPartition) -> Option<&MemberId> {
        let owner = self.current.get(&partition)?;
        let reads = self.members.get(owner)?.topics.contains(&partition.topic);
        reads.then_some(owner)
    }

    /// The topics that some member reads, each with the places of its members in the order of
    /// `members`.
    pub(crate) fn readers(&self) -> BTreeMap<TopicId, Vec<usize>> {
        let mut readers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (place, member) in self.members.values().enumerate() {
            for topic in member.topics.iter() {
                readers.entry(*topic).or_default().push(place);
            }
        }
        readers
    }

    /// The partitions of a topic.
    pub(crate) fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = TopicPartition> {
        let count = self.partitions.get(&topic).copied().unwrap_or(0);
        (0..count).map(move |at| TopicPartition { topic, partition: PartitionId::new(at) })
    }

    /// The places of members in the order of `members`.
    pub(crate) fn places(&self) -> BTreeMap<&MemberId, usize> {
        self.members.keys().enumerate().map(|(place, id)| (*id, place)).collect()
    }

    /// Names the members of what each place got.
    pub(crate) fn named(&self, mut given: Vec<Vec<TopicPartition>>) -> Assignment {
        given.iter_mut().for_each(|partitions| partitions.sort_unstable());
        self.members.keys().map(|id| (*id).clone()).zip(given).collect()
    }
}

#[cfg(test)]
mod tests;
