//! Records that are out, and positions that were moved.

use std::sync::Arc;

use duramen_types::{Offset, PartitionId, Term, TopicPartition};

use super::Core;
use crate::group::event::GroupEvent;
use crate::group::part::{Part, Stage};
use crate::group::progress::Progress;

impl Core {
    /// A record is processed, if it is of the part's present life. Whether there is something to
    /// be told to the coordinator.
    pub(in crate::group) fn done(
        &mut self,
        key: TopicPartition,
        life: u64,
        offset: Offset,
    ) -> bool {
        self.settle(key, life, |part| part.progress.done(offset))
    }

    /// A record will never be processed here.
    pub(in crate::group) fn give_up(
        &mut self,
        key: TopicPartition,
        life: u64,
        offset: Offset,
    ) -> bool {
        let events = Arc::clone(&self.events);
        self.settle(key, life, |part| {
            let given_up = part.progress.give_up(offset);
            if given_up {
                events.push(GroupEvent::GivenUp { partition: part.name.clone(), offset });
            }
            given_up
        })
    }

    fn settle(
        &mut self,
        key: TopicPartition,
        life: u64,
        settle: impl FnOnce(&mut Part) -> bool,
    ) -> bool {
        let Some(part) = self.parts.get_mut(&key).filter(|part| part.life == life) else {
            return false;
        };
        let before = part.progress.held();
        if !settle(part) {
            return false;
        }
        let was_full = self.held >= self.options.unprocessed_max;
        self.held = self.held - before + part.progress.held();
        if was_full {
            self.waker.wake();
        }
        part.revoked && part.progress.unprocessed() == 0
    }

    /// Goes on elsewhere in a partition: what is out of it says nothing any more.
    pub(in crate::group) fn moved(&mut self, key: TopicPartition, to: Offset) -> bool {
        let Some(part) = self.parts.get_mut(&key).filter(|part| !part.revoked && !part.void) else {
            return false;
        };
        self.lives += 1;
        self.held -= part.progress.held();
        let committed = part.progress.last_committed();
        part.life = self.lives;
        part.progress = Progress::new(to, Term::ZERO, committed);
        part.stage = Stage::Ready;
        true
    }

    /// The partition of that name, if it is granted.
    pub(in crate::group) fn find(&self, topic: &str, partition: PartitionId) -> Option<&Part> {
        let is = |part: &&Part| &*part.name.topic == topic && part.name.partition == partition;
        self.parts.values().filter(|part| !part.revoked).find(is)
    }
}
