//! What a group consumer gives: a record, and the word that it is processed.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duramen_types::{Offset, Term, TopicPartition};

use super::shared::Shared;
use crate::ConsumerRecord;

/// A record that was handed out by a [`GroupConsumer`](super::GroupConsumer).
#[derive(Debug)]
pub struct GroupRecord {
    record: ConsumerRecord,
    leader_epoch: Term,
    ticket: Ticket,
}

impl GroupRecord {
    pub(super) const fn new(record: ConsumerRecord, leader_epoch: Term, ticket: Ticket) -> Self {
        Self { record, leader_epoch, ticket }
    }

    /// The epoch of the leader that appended it.
    #[must_use]
    pub const fn leader_epoch(&self) -> Term {
        self.leader_epoch
    }

    /// It is processed and may be committed. Again, or after the partition was lost, it does
    /// nothing.
    pub fn done(&self) {
        self.ticket.done();
    }

    /// Whether the consumer surely still has the partition: before an effect that must not happen
    /// twice. After the session's end somebody else may read the record.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.ticket.is_current()
    }

    /// The record, and what says that it is processed.
    #[must_use]
    pub fn into_parts(self) -> (ConsumerRecord, Ticket) {
        (self.record, self.ticket)
    }
}

impl Deref for GroupRecord {
    type Target = ConsumerRecord;

    fn deref(&self) -> &ConsumerRecord {
        &self.record
    }
}

/// Says that a record is processed. With [`Processing::Explicit`](super::Processing::Explicit),
/// dropping it without gives the record up.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    key: TopicPartition,
    life: u64,
    offset: Offset,
    /// Whether dropping it says anything.
    explicit: bool,
    settled: AtomicBool,
}

impl Ticket {
    pub(super) fn new(
        shared: &Arc<Shared>,
        (key, life, offset): (TopicPartition, u64, Offset),
        explicit: bool,
    ) -> Self {
        let (shared, settled) = (Arc::clone(shared), AtomicBool::new(false));
        Self { shared, key, life, offset, explicit, settled }
    }

    /// The record is processed.
    pub fn done(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.shared.done(self.key, self.life, self.offset);
        }
    }

    /// As [`GroupRecord::is_current`].
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.is_current(self.key, self.life)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.explicit && !self.settled.swap(true, Ordering::Relaxed) {
            self.shared.give_up(self.key, self.life, self.offset);
        }
    }
}
