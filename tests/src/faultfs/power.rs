//! What the sessions of one disk share: lies, stalls and counts.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::FaultCounts;

/// The switches of a disk.
#[derive(Debug)]
pub(super) struct Power {
    state: Mutex<State>,
    /// Signaled when the stall changes or the power is cut.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    is_lying: bool,
    stall: Duration,
    /// How often the stall was changed or the power cut: a stalled sync waits for either.
    changes: u64,
    capacity_bytes: u64,
    counts: FaultCounts,
}

impl Power {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let state = State {
            is_lying: false,
            stall: Duration::ZERO,
            changes: 0,
            capacity_bytes,
            counts: FaultCounts::default(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_lying(&self, lying: bool) {
        self.lock().is_lying = lying;
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.lock().capacity_bytes
    }

    pub(super) fn set_stall(&self, stall: Duration) {
        self.lock().stall = stall;
        self.wake();
    }

    /// Ends the stalls of now.
    pub(super) fn wake(&self) {
        self.lock().changes += 1;
        self.changed.notify_all();
    }

    pub(super) fn count_cut(&self) {
        self.lock().counts.power_cuts += 1;
    }

    pub(super) fn count_failure(&self) {
        self.lock().counts.syncs_failed += 1;
    }

    pub(super) fn counts(&self) -> FaultCounts {
        self.lock().counts
    }

    /// Begins a sync: waits as long as syncs are stalled, and says whether it is to be done.
    pub(super) fn begin_sync(&self) -> bool {
        let mut state = self.lock();
        state.counts.syncs += 1;
        let (changes, stall) = (state.changes, state.stall);
        if !stall.is_zero() {
            let waiting = self.changed.wait_timeout_while(state, stall, |s| s.changes == changes);
            (state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_lying {
            state.counts.syncs_ignored += 1;
        }
        !state.is_lying
    }
}
