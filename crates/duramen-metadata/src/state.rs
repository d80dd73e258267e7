//! The state of the metadata group and the execution of its commands.

mod query;
mod replace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use duramen_types::{
    ClusterId, MetadataIndex, NodeId, PartitionId, ProducerId, ReplicaId, TopicId,
};

use crate::command::{Command, FormedMark, NewTopic, TopicChange};
use crate::limits::{
    DELETED_TOPICS_MAX, PARTITIONS_MAX, PRODUCER_ID_END, RETIRED_INCARNATIONS_MAX,
};
use crate::outcome::{Outcome, Refusal};
use crate::topic::{Node, Partition, Topic};

/// The metadata at one index. Cloning it shares the topics.
///
/// Invariants: `names` and `topics` name the same topics; no two nodes have one incarnation, and
/// none has a retired one; no topic has the id of a deleted one; a replacement's old replica is one
/// of its partition's and its new one is not; no replica has the id of a removed one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) applied: MetadataIndex,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) retired: Remembered<ReplicaId>,
    pub(crate) topics: BTreeMap<TopicId, Arc<Topic>>,
    pub(crate) names: BTreeMap<String, TopicId>,
    pub(crate) deleted: Remembered<TopicId>,
    pub(crate) next_producer: u64,
    pub(crate) removed: Remembered<ReplicaId>,
}

impl State {
    /// Executes one committed command. Total: any command gives an outcome, the same on every node
    /// in the same state, and one that is refused changes nothing but the index. Retries of a
    /// command that was executed are harmless, but for producer ids, which are then wasted.
    ///
    /// # Panics
    /// If the index goes back: the log would have been applied twice.
    pub fn apply(&mut self, index: MetadataIndex, command: &Command) -> Outcome {
        self.advance(index);
        self.execute(command).unwrap_or_else(Outcome::Refused)
    }

    /// Notes that an entry without a command (blank, membership) was applied.
    ///
    /// # Panics
    /// If the index goes back: the log would have been applied twice.
    pub fn advance(&mut self, index: MetadataIndex) {
        assert!(
            index > self.applied || self.applied == MetadataIndex::ZERO,
            "metadata applied up to {} cannot go back to {index}",
            self.applied
        );
        self.applied = index;
    }

    fn execute(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        if let Command::FormCluster { cluster } = command {
            return self.form(*cluster);
        }
        self.cluster.ok_or(Refusal::NotFormed)?;
        match command {
            Command::FormCluster { cluster } => self.form(*cluster),
            Command::RegisterNode(node) => self.register(node),
            Command::CreateTopic(topic) => self.create(topic),
            Command::AlterTopic(change) => self.alter(change),
            Command::DeleteTopic { name, topic } => self.delete(name, *topic),
            Command::MarkFormed(marks) => Ok(self.mark(marks)),
            Command::ReplaceReplica(replace) => self.replace(replace),
            Command::AdvanceReplacement(advance) => self.advance_replacement(advance),
            Command::AllocateProducers { count } => self.allocate(*count),
        }
    }

    fn form(&mut self, cluster: ClusterId) -> Result<Outcome, Refusal> {
        match self.cluster {
            Some(formed) if formed != cluster => Err(Refusal::AlreadyFormed { cluster: formed }),
            Some(_) | None => {
                self.cluster = Some(cluster);
                Ok(Outcome::ClusterFormed { cluster })
            }
        }
    }

    fn register(&mut self, node: &Node) -> Result<Outcome, Refusal> {
        if node.id == NodeId::ZERO || node.incarnation == ReplicaId::ZERO {
            return Err(Refusal::InvalidNode);
        }
        if self.retired.contains(&node.incarnation) {
            return Err(Refusal::IncarnationRetired);
        }
        if let Some(other) = self.node_of_incarnation(node.incarnation)
            && other.id != node.id
        {
            return Err(Refusal::IncarnationInUse { node: other.id });
        }
        let previous = self
            .nodes
            .insert(node.id, node.clone())
            .map(|before| before.incarnation)
            .filter(|incarnation| *incarnation != node.incarnation);
        if let Some(previous) = previous {
            self.retired.push(previous, RETIRED_INCARNATIONS_MAX);
        }
        Ok(Outcome::NodeRegistered { previous })
    }

    fn create(&mut self, new: &NewTopic) -> Result<Outcome, Refusal> {
        if let Some(topic) = self.names.get(&new.name) {
            // The same command again: its first try was committed after all.
            return if *topic == new.id {
                Ok(Outcome::TopicCreated { topic: new.id })
            } else {
                Err(Refusal::TopicExists { topic: *topic })
            };
        }
        if self.topics.contains_key(&new.id) || self.deleted.contains(&new.id) || new.id.is_nil() {
            return Err(Refusal::TopicIdUsed);
        }
        self.check_placement(&new.partitions)?;
        let mut topic = Topic::from(new.clone());
        for partition in &mut topic.partitions {
            partition.formed = false;
            partition.replacement = None;
            partition.replicas.iter_mut().for_each(|replica| replica.formed = false);
        }
        self.names.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, Arc::new(topic));
        Ok(Outcome::TopicCreated { topic: new.id })
    }

    fn check_placement(&self, partitions: &[Partition]) -> Result<(), Refusal> {
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        if !(1..=PARTITIONS_MAX).contains(&count) {
            return Err(Refusal::BadPlacement { partition: PartitionId::new(count) });
        }
        for (id, partition) in (0..).map(PartitionId::new).zip(partitions) {
            let replicas = &partition.replicas;
            let nodes: BTreeSet<NodeId> = replicas.iter().map(|replica| replica.node).collect();
            let ids: BTreeSet<ReplicaId> = replicas.iter().map(|replica| replica.id).collect();
            if replicas.is_empty()
                || nodes.len() != replicas.len()
                || ids.len() != replicas.len()
                || ids.contains(&ReplicaId::ZERO)
            {
                return Err(Refusal::BadPlacement { partition: id });
            }
            if let Some(node) = nodes.into_iter().find(|node| !self.nodes.contains_key(node)) {
                return Err(Refusal::UnknownNode { node });
            }
        }
        Ok(())
    }

    fn alter(&mut self, change: &TopicChange) -> Result<Outcome, Refusal> {
        let topic = self.named(&change.name, change.topic)?;
        topic.settings.retain(|key, _| !change.unset.contains(key));
        topic.settings.extend(change.set.clone());
        Ok(Outcome::TopicAltered { topic: change.topic })
    }

    fn delete(&mut self, name: &str, id: TopicId) -> Result<Outcome, Refusal> {
        if self.deleted.contains(&id) {
            return Ok(Outcome::TopicDeleted { topic: id });
        }
        self.named(name, id)?;
        self.names.remove(name);
        self.topics.remove(&id);
        self.deleted.push(id, DELETED_TOPICS_MAX);
        Ok(Outcome::TopicDeleted { topic: id })
    }

    /// The topic of this name, if it has this id.
    fn named(&mut self, name: &str, id: TopicId) -> Result<&mut Topic, Refusal> {
        let current = *self.names.get(name).ok_or(Refusal::UnknownTopic)?;
        if current != id {
            return Err(Refusal::TopicReplaced { current });
        }
        self.topics.get_mut(&id).map(Arc::make_mut).ok_or(Refusal::UnknownTopic)
    }

    fn mark(&mut self, marks: &[FormedMark]) -> Outcome {
        let mut unknown = 0;
        for mark in marks {
            if self.mark_one(mark).is_none() {
                unknown += 1;
            }
        }
        Outcome::MarksSet { unknown }
    }

    fn mark_one(&mut self, mark: &FormedMark) -> Option<()> {
        let at = usize::try_from(mark.partition.get()).ok()?;
        let topic = self.topics.get_mut(&mark.topic)?;
        // Looked up before make_mut: an unknown mark must not copy the topic.
        let partition = topic.partitions.get(at)?;
        match mark.replica {
            None => Arc::make_mut(topic).partitions.get_mut(at)?.formed = true,
            Some(id) => {
                partition.member(id)?;
                let partition = Arc::make_mut(topic).partitions.get_mut(at)?;
                let new = partition.replacement.as_mut().map(|replacement| &mut replacement.new);
                let mut members = partition.replicas.iter_mut().chain(new);
                members.find(|replica| replica.id == id)?.formed = true;
            }
        }
        Some(())
    }

    fn allocate(&mut self, count: u64) -> Result<Outcome, Refusal> {
        let first = self.next_producer;
        let end = first.checked_add(count).filter(|end| *end <= PRODUCER_ID_END);
        self.next_producer = end.ok_or(Refusal::ProducersExhausted)?;
        Ok(Outcome::ProducersAllocated { first: ProducerId::new(first), count })
    }
}

/// A set that remembers a limited number of members: those added last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered<T: Ord + Copy> {
    /// In the order of their adding.
    order: VecDeque<T>,
    members: BTreeSet<T>,
}

impl<T: Ord + Copy> Default for Remembered<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), members: BTreeSet::new() }
    }
}

impl<T: Ord + Copy> Remembered<T> {
    pub(crate) fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }

    /// Adds a member and forgets the oldest if there are then more than `most`.
    pub(crate) fn push(&mut self, member: T, most: usize) {
        if !self.members.insert(member) {
            return;
        }
        self.order.push_back(member);
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
    }

    /// The members in the order of their adding.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests;
