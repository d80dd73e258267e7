//! What all clients of a run write into: one history, and what of it a round waits for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duramen_checker::{Call, History, Key, OpId, Outcome, Placed, Process, Record};
use tokio::time::Instant;

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records of which nobody knows whether they are stored.
    pub unknown: u64,
    /// Records that were refused.
    pub refused: u64,
    /// Records that were read, each time they were.
    pub read: u64,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    counts: Counts,
    /// Of each partition, when the latest of the records that are acknowledged was sent.
    served: BTreeMap<Key, Instant>,
}

/// A history that several clients write. Clones write the same.
#[derive(Clone, Debug)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
    processes: Arc<AtomicU32>,
    begin: Instant,
}

/// A send whose outcome is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    op: OpId,
    key: Key,
    at: Instant,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { state: Arc::default(), processes: Arc::default(), begin: Instant::now() }
    }
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A number for another client.
    pub(super) fn process(&self) -> Process {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands the history to whoever reads or adds to it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut History) -> T) -> T {
        act(&mut self.lock().history)
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// A copy of the history as it is now.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().history.clone()
    }

    /// The partitions of which no record that was sent after this is acknowledged.
    pub(super) fn unserved(&self, keys: u32, since: Instant) -> Vec<Key> {
        let state = self.lock();
        let is_served = |key: &Key| state.served.get(key).is_some_and(|sent| *sent >= since);
        (0..keys).filter(|key| !is_served(key)).collect()
    }

    /// A value is sent.
    pub(super) fn sending(&self, process: Process, key: Key, value: u64) -> Pending {
        let (now, at) = (self.now(), Instant::now());
        let op = self.with(|history| history.invoke(process, now, Call::Send(&[(key, value)])));
        Pending { op, key, at }
    }

    /// It is stored.
    pub(super) fn acknowledged(&self, pending: Pending, offset: u64, epoch: u64) {
        let now = self.now();
        let mut state = self.lock();
        let placed = Placed { offset: Some(offset), epoch };
        state.history.complete(pending.op, now, Outcome::Sent(&[placed]));
        state.counts.acknowledged += 1;
        let served = state.served.entry(pending.key).or_insert(pending.at);
        *served = pending.at.max(*served);
    }

    /// It is not stored, or nobody knows.
    pub(super) fn not_acknowledged(&self, pending: Pending, is_unknown: bool) {
        let now = self.now();
        let mut state = self.lock();
        let outcome = if is_unknown { Outcome::Unknown } else { Outcome::Failed };
        state.history.complete(pending.op, now, outcome);
        let counts = &mut state.counts;
        *(if is_unknown { &mut counts.unknown } else { &mut counts.refused }) += 1;
    }

    /// A client asks for something else than to send or to poll, and has it.
    pub(super) fn done(&self, process: Process, call: Call<'_>) {
        let now = self.now();
        self.with(|history| {
            let op = history.invoke(process, now, call);
            history.complete(op, now, Outcome::Done);
        });
    }

    /// A client begins to poll.
    pub(super) fn polling(&self, process: Process) -> OpId {
        let now = self.now();
        self.with(|history| history.invoke(process, now, Call::Poll))
    }

    /// The poll gave these records, and these high watermarks came with them.
    pub(super) fn polled(&self, poll: OpId, records: &[Record], watermarks: &[(Key, u64)]) {
        let now = self.now();
        let mut state = self.lock();
        state.history.complete(poll, now, Outcome::Polled(records));
        for (key, high_watermark) in watermarks {
            state.history.answered_watermark(poll, *key, *high_watermark);
        }
        state.counts.read += u64::try_from(records.len()).unwrap_or(0);
    }
}

/// How long a wait of the harness goes between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(10);
