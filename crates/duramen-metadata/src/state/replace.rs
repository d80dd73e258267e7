//! The commands that replace a replica by a new one.

use std::sync::Arc;

use duramen_types::{PartitionId, ReplicaId, TopicId};

use super::State;
use crate::command::{AdvanceReplacement, ReplaceReplica, ReplacementStep};
use crate::limits::REMOVED_REPLICAS_MAX;
use crate::outcome::{Outcome, Refusal};
use crate::topic::{Partition, Replacement, Replica};

impl State {
    pub(super) fn replace(&mut self, command: &ReplaceReplica) -> Result<Outcome, Refusal> {
        let ReplaceReplica { topic, partition: id, old, new, instead_of } = *command;
        let done = Ok(Outcome::ReplacementSet { replica: new.id });
        let unknown = Refusal::UnknownReplica { replica: old };
        let partition = self.placed(topic, id).ok_or(unknown)?;
        if partition.replicas.iter().any(|held| held.id == new.id && held.node == new.node) {
            return done;
        }
        let current = partition.replacement;
        if current.is_some_and(|now| (now.old, now.new.id, now.new.node) == (old, new.id, new.node))
        {
            return done;
        }
        if !partition.replicas.iter().any(|held| held.id == old) {
            return Err(unknown);
        }
        match current {
            Some(now) if now.promoting || now.old != old || instead_of != Some(now.new.id) => {
                return Err(Refusal::ReplacementUnderWay { replica: now.new.id });
            }
            None if instead_of.is_some() => return Err(Refusal::NoReplacement),
            _ => {}
        }
        if !self.nodes.contains_key(&new.node) {
            return Err(Refusal::UnknownNode { node: new.node });
        }
        let clashes =
            |held: &Replica| held.id == new.id || (held.node == new.node && held.id != old);
        if new.id == ReplicaId::ZERO
            || self.removed.contains(&new.id)
            || partition.replicas.iter().any(clashes)
            || current.is_some_and(|now| now.new.id == new.id)
        {
            return Err(Refusal::BadReplacement);
        }
        let new = Replica { formed: false, ..new };
        let partition = self.placed_mut(topic, id).ok_or(unknown)?;
        partition.replacement = Some(Replacement { old, new, promoting: false });
        if let Some(superseded) = current {
            self.removed.push(superseded.new.id, REMOVED_REPLICAS_MAX);
        }
        done
    }

    pub(super) fn advance_replacement(
        &mut self,
        command: &AdvanceReplacement,
    ) -> Result<Outcome, Refusal> {
        let AdvanceReplacement { topic, partition: id, old, new, step } = *command;
        let done = Ok(Outcome::ReplacementSet { replica: new });
        let partition = self.placed(topic, id).ok_or(Refusal::NoReplacement)?;
        let current = partition.replacement.filter(|now| now.old == old && now.new.id == new);
        let Some(current) = current else {
            let over = match step {
                ReplacementStep::Promote | ReplacementStep::Finish => {
                    partition.replicas.iter().any(|held| held.id == new)
                        && self.removed.contains(&old)
                }
                ReplacementStep::Cancel => {
                    self.removed.contains(&new) && partition.member(new).is_none()
                }
            };
            return if over { done } else { Err(Refusal::NoReplacement) };
        };
        let gone = match step {
            ReplacementStep::Promote => None,
            ReplacementStep::Finish if current.promoting => Some(old),
            ReplacementStep::Cancel if !current.promoting => Some(new),
            ReplacementStep::Finish => return Err(Refusal::NoReplacement),
            ReplacementStep::Cancel => return Err(Refusal::ReplacementPromoting),
        };
        let partition = self.placed_mut(topic, id).ok_or(Refusal::NoReplacement)?;
        match step {
            ReplacementStep::Promote => {
                partition.replacement = Some(Replacement { promoting: true, ..current });
            }
            ReplacementStep::Finish => {
                partition.replacement = None;
                // In the old one's place: the first is the preferred leader.
                for held in partition.replicas.iter_mut().filter(|held| held.id == old) {
                    *held = current.new;
                }
            }
            ReplacementStep::Cancel => partition.replacement = None,
        }
        if let Some(gone) = gone {
            self.removed.push(gone, REMOVED_REPLICAS_MAX);
        }
        done
    }

    fn placed(&self, topic: TopicId, partition: PartitionId) -> Option<&Partition> {
        self.topics.get(&topic)?.partition(partition)
    }

    fn placed_mut(&mut self, topic: TopicId, partition: PartitionId) -> Option<&mut Partition> {
        let at = usize::try_from(partition.get()).ok()?;
        Arc::make_mut(self.topics.get_mut(&topic)?).partitions.get_mut(at)
    }
}
