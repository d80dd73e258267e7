//! What the handle of a group consumer, its tasks and its records share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_types::{Offset, Term, TopicPartition};
use futures::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore};

use super::core::Core;
use super::part::{self, Stage, StartPart, Terms};
use super::progress::Progress;
use crate::limits;

/// What the parts of one group consumer share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) terms: Terms,
    /// Wakes whoever asks for records.
    pub(super) waker: Arc<AtomicWaker>,
    /// Tells the member's task that there is something to say or do.
    pub(super) changed: Notify,
    /// Tells whoever waits for the first assignment.
    pub(super) joined: Notify,
    /// Callers that may wait for a commit.
    pub(super) commit_turns: Semaphore,
}

impl Shared {
    pub(super) fn new(core: Core, terms: Terms, waker: Arc<AtomicWaker>) -> Self {
        Self {
            core: Mutex::new(core),
            terms,
            waker,
            changed: Notify::new(),
            joined: Notify::new(),
            commit_turns: Semaphore::new(limits::COMMIT_WAITERS),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the tasks of partitions that were granted.
    pub(super) fn start(self: &Arc<Self>, parts: Vec<StartPart>) {
        for start in parts {
            let (key, life) = (start.key, start.life);
            let run = part::run(self.terms.clone(), Arc::downgrade(self), start);
            let task = self.terms.cluster.env.tasks.critical("client-group-partition", run);
            // If it is gone again its task goes with the handle.
            if let Some(part) = self.lock().parts.get_mut(&key).filter(|part| part.life == life) {
                part.task = Some(task);
            }
        }
    }

    /// A partition's place is known; `initial` is to be committed before records are given.
    /// Whether it is still to begin there.
    pub(super) fn located(&self, start: &StartPart, initial: Option<(Offset, Term)>) -> bool {
        let mut core = self.lock();
        let is_same = |part: &&mut part::Part| part.life == start.life && !part.revoked;
        let Some(part) = core.parts.get_mut(&start.key).filter(is_same) else { return false };
        if let Some((offset, leader_epoch)) = initial {
            part.progress = Progress::new(offset, leader_epoch, None);
            part.stage = Stage::Initial;
            drop(core);
            self.changed.notify_one();
        }
        true
    }

    /// A record is processed.
    pub(super) fn done(&self, key: TopicPartition, life: u64, offset: Offset) {
        if self.lock().done(key, life, offset) {
            self.changed.notify_one();
        }
    }

    /// A record was dropped unprocessed.
    pub(super) fn give_up(&self, key: TopicPartition, life: u64, offset: Offset) {
        if self.lock().give_up(key, life, offset) {
            self.changed.notify_one();
        }
    }

    /// Whether the position that a record was read from still stands.
    pub(super) fn is_current(&self, key: TopicPartition, life: u64) -> bool {
        let core = self.lock();
        let sure = core.lease.is_sure(tokio::time::Instant::now());
        sure && core.parts.get(&key).is_some_and(|part| part.life == life && !part.void)
    }

    /// Stops everything without a word to the coordinator.
    pub(super) fn abandon(&self) {
        self.lock().end();
        self.changed.notify_one();
    }
}
