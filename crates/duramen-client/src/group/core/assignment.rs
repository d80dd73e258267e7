//! Following assignments: what stays is not disturbed, what is new begins, what goes is given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duramen_proto::v1;
use duramen_types::{Offset, PartitionId, TopicId, TopicPartition};
use tokio::time::Instant;

use super::Core;
use crate::NamedPartition;
use crate::group::event::GroupEvent;
use crate::group::part::{Part, StartPart};

/// What happened to whom.
#[derive(Default)]
struct Changes {
    granted: Vec<NamedPartition>,
    revoked: Vec<NamedPartition>,
    released: Vec<NamedPartition>,
    lost: Vec<NamedPartition>,
    reset: Vec<NamedPartition>,
    start: Vec<StartPart>,
}

impl Core {
    /// Takes over an assignment, if it is the latest; gives the partitions to start.
    pub(super) fn assigned(
        &mut self,
        now: Instant,
        assignment: v1::MemberAssignment,
    ) -> Vec<StartPart> {
        let Some(link) = &mut self.link else { return Vec::new() };
        let first = !std::mem::replace(&mut link.answered, true);
        let (fresh, first_join) = (link.fresh, link.first_join);
        if first {
            link.next_heartbeat = now;
        }
        if assignment.epoch < self.epoch {
            return Vec::new();
        }
        self.take_times(&assignment);
        if first && fresh {
            // Who joins is written down by a majority. Who goes on may be told so by a coordinator
            // that is none any more: only a heartbeat says for how long it is sure.
            self.lease.confirm(first_join, self.session, Duration::ZERO);
            self.events.push(GroupEvent::Joined { member_id: self.member_id.clone() });
        }
        self.epoch = assignment.epoch;
        let mut changes = Changes::default();
        self.take_revoked(&assignment, &mut changes);
        self.take_granted(assignment.granted, &mut changes);
        let grown = self.credit.share(self.options.buffer_bytes, self.parts.len());
        if grown {
            self.parts.values().for_each(|part| part.slot.poke());
        }
        self.tell(changes)
    }

    fn take_times(&mut self, assignment: &v1::MemberAssignment) {
        let millis = |told: u32| Some(Duration::from_millis(told.into())).filter(|t| !t.is_zero());
        self.session = millis(assignment.session_ms).unwrap_or(self.session);
        // Two may be lost before the session ends, whatever the coordinator asks for.
        let most = self.session / 3;
        self.heartbeat = millis(assignment.heartbeat_ms).unwrap_or(most).min(most);
    }

    /// Stops what is revoked, and drops what is neither granted nor revoked any more.
    fn take_revoked(&mut self, assignment: &v1::MemberAssignment, changes: &mut Changes) {
        let revoked: BTreeMap<TopicPartition, ()> =
            assignment.revoked.iter().filter_map(key).map(|key| (key, ())).collect();
        let granted: BTreeMap<TopicPartition, ()> = assignment
            .granted
            .iter()
            .filter_map(|granted| granted.partition.as_ref().and_then(key))
            .map(|key| (key, ()))
            .collect();
        self.revoked.retain(|key, _| revoked.contains_key(key));
        for key in revoked.keys() {
            self.revoked.entry(*key).or_insert(assignment.epoch);
            if let Some(part) = self.parts.get_mut(key).filter(|part| !part.revoked) {
                part.revoked = true;
                part.stop();
                changes.revoked.push(part.name.clone());
            }
        }
        let is_gone =
            |key: &TopicPartition| !revoked.contains_key(key) && !granted.contains_key(key);
        let gone: Vec<TopicPartition> = self.parts.keys().copied().filter(is_gone).collect();
        for key in gone {
            if let Some(part) = self.remove(key) {
                let list = if part.revoked { &mut changes.released } else { &mut changes.lost };
                list.push(part.name.clone());
            }
        }
    }

    fn take_granted(&mut self, granted: Vec<v1::GrantedPartition>, changes: &mut Changes) {
        for granted in granted {
            let Some(partition) = &granted.partition else { continue };
            let Some(key) = key(partition) else { continue };
            let known = self.parts.get(&key);
            if known.is_some_and(|part| part.since == granted.since && !part.revoked) {
                continue;
            }
            let name = NamedPartition {
                topic: Arc::from(partition.topic.as_str()),
                topic_id: key.topic,
                partition: key.partition,
            };
            let old = self.remove(key);
            match &old {
                Some(part) if !part.revoked => changes.reset.push(name.clone()),
                _ => changes.granted.push(name.clone()),
            }
            self.lives += 1;
            let committed = granted.committed.map(|committed| Offset::new(committed.offset));
            let waker = &self.waker;
            let mut part = Part::new(name.clone(), granted.since, self.lives, committed, waker);
            part.paused = old.is_some_and(|old| old.paused);
            part.slot.set_paused(part.paused);
            let slot = Arc::clone(&part.slot);
            changes.start.push(StartPart { key, life: self.lives, name, slot, committed });
            self.parts.insert(key, part);
        }
    }

    fn remove(&mut self, key: TopicPartition) -> Option<Part> {
        let mut part = self.parts.remove(&key)?;
        part.stop();
        self.held -= part.progress.held();
        Some(part)
    }

    fn tell(&mut self, changes: Changes) -> Vec<StartPart> {
        let tell = |partitions: Vec<NamedPartition>, event: fn(Vec<_>) -> GroupEvent| {
            if !partitions.is_empty() {
                self.events.push(event(partitions));
            }
        };
        tell(changes.released, GroupEvent::Released);
        tell(changes.lost, GroupEvent::Lost);
        tell(changes.revoked, GroupEvent::Revoked);
        tell(changes.granted, GroupEvent::Granted);
        for partition in changes.reset {
            self.events.push(GroupEvent::Reset(partition));
        }
        self.waker.wake();
        changes.start
    }
}

/// The partition; `None` if its topic id makes no sense.
fn key(wire: &v1::TopicPartition) -> Option<TopicPartition> {
    let topic = TopicId::from_slice(&wire.topic_id)?;
    Some(TopicPartition { topic, partition: PartitionId::new(wire.partition) })
}
