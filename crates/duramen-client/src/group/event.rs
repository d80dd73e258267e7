//! What happens to a group consumer, for whoever wants to know, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_types::Offset;
use tokio::sync::Notify;

use crate::{ClientError, NamedPartition, limits};

/// Something that happened to a group consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GroupEvent {
    /// It is a member under this id.
    Joined {
        /// The id.
        member_id: String,
    },
    /// It reads these partitions from now on.
    Granted(Vec<NamedPartition>),
    /// It gives these back: nothing more of them is handed out; when what was handed out is
    /// processed it is committed, and the next member goes on.
    Revoked(Vec<NamedPartition>),
    /// These were given back.
    Released(Vec<NamedPartition>),
    /// These are lost, with what was not committed: somebody else may read them already.
    Lost(Vec<NamedPartition>),
    /// The offset of this one was reset: it goes on at what is committed now.
    Reset(NamedPartition),
    /// The position was no longer kept, and it goes on elsewhere.
    Jumped {
        /// The partition.
        partition: NamedPartition,
        /// The position.
        from: Offset,
        /// Where it goes on.
        to: Offset,
    },
    /// A commit of this partition was refused: what was read of it is void.
    Fenced {
        /// The partition.
        partition: NamedPartition,
        /// Why.
        error: ClientError,
    },
    /// A record was dropped unprocessed: nothing more of its partition is committed.
    GivenUp {
        /// The partition.
        partition: NamedPartition,
        /// The record.
        offset: Offset,
    },
    /// A commit failed and is tried again.
    CommitFailed(ClientError),
    /// The coordinator is not reached; it goes on trying. Nothing is handed out any more once the
    /// session may have ended. The first refusals of a join are not told: a group that nobody was
    /// in may have to wait for its coordinator.
    Disconnected(ClientError),
    /// So many events were not read in time and are gone.
    Missed(u64),
}

/// The events of one consumer. The latest are kept; what is not read in time is counted.
#[derive(Clone, Debug)]
pub struct GroupEvents(pub(super) Arc<EventQueue>);

impl GroupEvents {
    /// The next event; `None` once the consumer is closed or dropped. Cancel safe.
    pub async fn next(&self) -> Option<GroupEvent> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.0.lock();
                if let Some(event) = state.pop() {
                    return Some(event);
                }
                if state.ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The next event if there is one.
    #[must_use]
    pub fn try_next(&self) -> Option<GroupEvent> {
        self.0.lock().pop()
    }
}

/// Told of what happens, in order; every method does nothing unless it is written. Nothing waits
/// for it: heartbeats and hand-out go on meanwhile.
pub trait RebalanceListener: Send + 'static {
    /// See [`GroupEvent::Granted`].
    fn granted(&mut self, _partitions: &[NamedPartition]) {}

    /// See [`GroupEvent::Revoked`].
    fn revoked(&mut self, _partitions: &[NamedPartition]) {}

    /// See [`GroupEvent::Lost`].
    fn lost(&mut self, _partitions: &[NamedPartition]) {}

    /// See [`GroupEvent::Reset`].
    fn reset(&mut self, _partition: &NamedPartition) {}

    /// See [`GroupEvent::Fenced`].
    fn fenced(&mut self, _partition: &NamedPartition, _error: &ClientError) {}

    /// Every event, those above included.
    fn event(&mut self, _event: &GroupEvent) {}
}

/// Tells a listener of events until they end.
pub(super) async fn listen(events: GroupEvents, mut listener: impl RebalanceListener) {
    while let Some(event) = events.next().await {
        match &event {
            GroupEvent::Granted(partitions) => listener.granted(partitions),
            GroupEvent::Revoked(partitions) => listener.revoked(partitions),
            GroupEvent::Lost(partitions) => listener.lost(partitions),
            GroupEvent::Reset(partition) => listener.reset(partition),
            GroupEvent::Fenced { partition, error } => listener.fenced(partition, error),
            _ => {}
        }
        listener.event(&event);
    }
}

/// Events that wait to be read.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    state: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<GroupEvent>,
    missed: u64,
    ended: bool,
}

impl Queue {
    fn pop(&mut self) -> Option<GroupEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.events.pop_front(),
            missed => Some(GroupEvent::Missed(missed)),
        }
    }
}

impl EventQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: GroupEvent) {
        tracing::debug!(?event, "group consumer");
        let mut state = self.lock();
        if state.events.len() >= limits::EVENTS_MAX {
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_waiters();
    }
}
