//! One partition between its fetcher and the consumer.
//!
//! Invariants, for one session (from one seek to the next):
//! `position <= base of the first queued batch's remainder <= … <= where the fetcher goes on`, and
//! the bytes queued are at most the credit given, plus one answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_record::Batch;
use duramen_types::{Offset, PartitionId};
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use super::record::ConsumerBatch;
use crate::ClientError;
use crate::cluster::PinnedTopic;

/// One partition.
#[derive(Debug)]
pub(crate) struct Slot {
    partition: PartitionId,
    end: Option<Offset>,
    state: Mutex<State>,
    /// Tells the fetcher of a new session and of bytes taken. Whoever is told must look at the
    /// state before waiting again, since one waiter may use up what another waits for.
    changed: Notify,
    /// Tells the consumer.
    waker: Arc<AtomicWaker>,
}

#[derive(Debug, Default)]
struct State {
    session: Session,
    position: Offset,
    high_watermark: Offset,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// Bytes taken since the fetcher last asked.
    taken_bytes: u64,
    paused: bool,
    /// The fetcher has everything there is to fetch in this session.
    complete: bool,
    error: Option<ClientError>,
    /// The last time that the position was not kept: where it was, and where the fetcher went on.
    jump: Option<(Offset, Offset)>,
}

/// From one seek to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    number: u64,
    pub(crate) begin: Offset,
    /// Whether `begin` stands for the first record kept, wherever that is by now.
    pub(crate) at_first: bool,
}

/// A batch waiting for the consumer.
#[derive(Debug)]
struct Queued {
    batch: Batch,
    from: Offset,
    until: Offset,
}

/// What the consumer finds.
pub(crate) enum Ready {
    Batch(Box<ConsumerBatch>),
    Failed(ClientError),
    /// Something may come.
    NotYet,
    /// Nothing will come.
    Over,
}

/// What the fetcher finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The session goes on; so many bytes were taken since the last question.
    More(u64),
    /// There is another session.
    Other,
}

impl Slot {
    pub(crate) fn new(
        partition: PartitionId,
        position: Offset,
        end: Option<Offset>,
        waker: Arc<AtomicWaker>,
    ) -> Self {
        let state = State { position, ..State::default() };
        Self { partition, end, state: Mutex::new(state), changed: Notify::new(), waker }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(crate) const fn end(&self) -> Option<Offset> {
        self.end
    }

    pub(crate) fn position(&self) -> Offset {
        self.lock().position
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.lock().high_watermark
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        self.waker.wake();
    }

    /// Begins a new session.
    pub(crate) fn begin(&self, begin: Offset, at_first: bool) {
        let mut state = self.lock();
        state.session = Session { number: state.session.number + 1, begin, at_first };
        state.position = begin;
        state.queue.clear();
        state.queued_bytes = 0;
        state.taken_bytes = 0;
        state.error = None;
        state.jump = None;
        state.complete = self.end.is_some_and(|end| end <= begin);
        drop(state);
        self.changed.notify_one();
        self.waker.wake();
    }

    /// The next thing for the consumer. A batch that cannot be opened ends the session.
    pub(crate) fn pop(&self, topic: &PinnedTopic) -> Ready {
        let mut state = self.lock();
        if state.paused {
            return Ready::NotYet;
        }
        let Some(queued) = state.queue.pop_front() else {
            return match state.error.take() {
                Some(error) => Ready::Failed(error),
                None if state.complete => Ready::Over,
                None => Ready::NotYet,
            };
        };
        let bytes = queued.batch.bytes().len() as u64;
        state.queued_bytes -= bytes;
        state.taken_bytes += bytes;
        let from = queued.from;
        let range = (from, queued.until);
        match ConsumerBatch::open(&topic.name, self.partition, queued.batch, range) {
            Ok(batch) => {
                state.position = batch.next_offset().max(state.position);
                drop(state);
                self.changed.notify_one();
                Ready::Batch(Box::new(batch))
            }
            Err(source) => {
                state.queue.clear();
                state.queued_bytes = 0;
                state.complete = true;
                state.session.number += 1;
                drop(state);
                self.changed.notify_one();
                let topic = Arc::clone(&topic.name);
                let partition = self.partition;
                Ready::Failed(ClientError::CorruptBatch { topic, partition, offset: from, source })
            }
        }
    }

    /// Gives back the rest of a batch, to be first again.
    pub(crate) fn put_back(&self, rest: ConsumerBatch) {
        let mut state = self.lock();
        let (batch, from, until) = rest.into_parts();
        let bytes = batch.bytes().len() as u64;
        state.queued_bytes += bytes;
        state.taken_bytes = state.taken_bytes.saturating_sub(bytes);
        state.position = from;
        state.queue.push_front(Queued { batch, from, until });
    }

    /// The session to fetch for; waits while there is nothing to fetch.
    pub(crate) async fn wanted_session(&self) -> Session {
        loop {
            {
                let state = self.lock();
                if !state.complete {
                    return state.session;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the consumer has done something.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the consumer has done since the last question.
    pub(crate) fn wanted(&self, session: Session) -> Wanted {
        let mut state = self.lock();
        if state.session.number == session.number {
            Wanted::More(std::mem::take(&mut state.taken_bytes))
        } else {
            Wanted::Other
        }
    }

    /// Whether the session is still the one wanted; the bytes taken stay counted.
    pub(crate) fn is_current(&self, session: Session) -> bool {
        self.lock().session.number == session.number
    }

    /// Begins the count of bytes taken anew and gives the bytes that still wait.
    pub(crate) fn recount(&self) -> u64 {
        let mut state = self.lock();
        state.taken_bytes = 0;
        state.queued_bytes
    }

    /// Queues a batch; whether the session is still the one wanted.
    pub(crate) fn push(&self, session: Session, batch: Batch, from: Offset) -> bool {
        let mut state = self.lock();
        if state.session.number != session.number {
            return false;
        }
        state.queued_bytes += batch.bytes().len() as u64;
        let until = self.end.unwrap_or(Offset::new(u64::MAX));
        state.queue.push_back(Queued { batch, from, until });
        drop(state);
        self.waker.wake();
        true
    }

    pub(crate) fn saw_high_watermark(&self, high_watermark: Offset) {
        let mut state = self.lock();
        state.high_watermark = state.high_watermark.max(high_watermark);
    }

    /// The position was not kept: the fetcher has gone on elsewhere.
    pub(crate) fn jumped(&self, session: Session, from: Offset, to: Offset) {
        let mut state = self.lock();
        if state.session.number == session.number {
            state.jump = Some((from, to));
        }
    }

    /// Where the position was and is since it was last not kept, once.
    pub(crate) fn take_jump(&self) -> Option<(Offset, Offset)> {
        self.lock().jump.take()
    }

    /// Ends the session: nothing is queued any more.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.session.number += 1;
        state.queue.clear();
        state.queued_bytes = 0;
        state.error = None;
        state.complete = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Fails the present session, before anything was fetched.
    pub(crate) fn fail(&self, error: ClientError) {
        let session = self.lock().session;
        self.finish(session, Some(error));
    }

    /// Tells the fetcher to look at its credit.
    pub(crate) fn poke(&self) {
        self.changed.notify_one();
    }

    /// The fetcher is done with the session, by its end or an error.
    pub(crate) fn finish(&self, session: Session, error: Option<ClientError>) {
        let mut state = self.lock();
        if state.session.number == session.number {
            state.complete = true;
            state.error = error;
        }
        drop(state);
        self.waker.wake();
    }
}
