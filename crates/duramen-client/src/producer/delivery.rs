//! The outcome of a batch, shared by the deliveries of its records.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use duramen_types::{Offset, PartitionId, Term, Timestamp};
use tokio::sync::Notify;

use crate::ClientError;

/// Where a record is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: PartitionId,
    /// The record's offset.
    pub offset: Offset,
    /// The record's own timestamp.
    pub timestamp: Timestamp,
    /// The leader's clock when it appended the record.
    pub append_time: Timestamp,
    /// The epoch of that leader.
    pub leader_epoch: Term,
}

/// Where a batch is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchAck {
    pub(super) base_offset: Offset,
    pub(super) append_time: Timestamp,
    pub(super) leader_epoch: Term,
}

/// What became of a batch, once it is known.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Set while the wakers are locked: who finds it empty under that lock is woken. Thousands of
    /// deliveries look at it, most of them when it is known.
    result: OnceLock<Result<BatchAck, ClientError>>,
    wakers: Mutex<Vec<Waker>>,
    resolved: Notify,
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_resolved(&self) -> bool {
        self.result.get().is_some()
    }

    /// The wakers of those who wait, or the result.
    fn pending(&self) -> Result<MutexGuard<'_, Vec<Waker>>, &Result<BatchAck, ClientError>> {
        if let Some(result) = self.result.get() {
            return Err(result);
        }
        let wakers = self.lock();
        self.result.get().map_or(Ok(wakers), Err)
    }

    /// Waits until it is known.
    pub(super) async fn wait(&self) {
        loop {
            let resolved = self.resolved.notified();
            tokio::pin!(resolved);
            resolved.as_mut().enable();
            if self.is_resolved() {
                return;
            }
            resolved.await;
        }
    }

    /// The first result stays.
    fn resolve(&self, result: Result<BatchAck, ClientError>) {
        let mut waiting = self.lock();
        if self.result.set(result).is_err() {
            return;
        }
        let wakers = std::mem::take(&mut *waiting);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
        self.resolved.notify_waiters();
    }
}

/// Owner of an outcome: whoever drops it unresolved says that the producer is closed.
#[derive(Debug, Default)]
pub(super) struct Completer(Arc<Outcome>);

impl Completer {
    pub(super) const fn outcome(&self) -> &Arc<Outcome> {
        &self.0
    }

    pub(super) fn complete(self, result: Result<BatchAck, ClientError>) {
        self.0.resolve(result);
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        self.0.resolve(Err(ClientError::Closed { what: "producer" }));
    }
}

/// The delivery of one record: a future of where it is stored, or why it is not.
#[derive(Debug)]
#[must_use = "a delivery says whether the record is stored"]
pub struct Delivery {
    pub(super) outcome: Arc<Outcome>,
    pub(super) partition: PartitionId,
    /// The record's place in its batch.
    pub(super) index: u32,
    pub(super) timestamp: Timestamp,
    /// Where this delivery's waker is among the outcome's.
    pub(super) waker: Option<usize>,
}

impl Delivery {
    /// The partition that the record goes to.
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outcome, partition, index, timestamp, waker } = self.get_mut();
        let stored = |ack: &BatchAck| RecordMetadata {
            partition: *partition,
            offset: ack.base_offset.saturating_add((*index).into()),
            timestamp: *timestamp,
            append_time: ack.append_time,
            leader_epoch: ack.leader_epoch,
        };
        let mut state = match outcome.pending() {
            Ok(state) => state,
            Err(result) => return Poll::Ready(result.as_ref().map(stored).map_err(Clone::clone)),
        };
        match waker.and_then(|place| state.get_mut(place)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                *waker = Some(state.len());
                state.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}
