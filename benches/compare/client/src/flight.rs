//! Records in flight: sent, and not acknowledged yet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::report::{Tally, Window};
use crate::{Error, Load};

/// How long records may take to be acknowledged after the end.
const FLUSH: Duration = Duration::from_secs(30);

/// Counts what becomes of a sender's records, and lets only so many be in flight.
pub(crate) struct Flight {
    window: Window,
    most: u32,
    /// A permit for each record that may still be sent.
    room: Semaphore,
    tally: Mutex<Tally>,
    /// Within the window or not.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

impl Flight {
    pub(crate) fn new(load: &Load, window: Window) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            window,
            most: load.in_flight,
            room: Semaphore::new(usize::try_from(load.in_flight)?),
            tally: Mutex::new(Tally::new()),
            acknowledged: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }))
    }

    /// Waits until one more record may be sent.
    pub(crate) async fn begin(&self) {
        if let Ok(permit) = self.room.acquire().await {
            // Given back when the answer is here.
            permit.forget();
        }
    }

    /// Records were answered: each took so long, or failed.
    pub(crate) fn end(&self, results: impl IntoIterator<Item = Result<Duration, String>>) {
        let is_counted = self.window.contains(Instant::now());
        let mut tally = self.tally();
        let mut ended = 0;
        for result in results {
            ended += 1;
            match result {
                Ok(took) => {
                    self.acknowledged.fetch_add(1, Ordering::AcqRel);
                    if is_counted {
                        tally.count(took);
                    }
                }
                Err(error) => tally.fail(error),
            }
        }
        drop(tally);
        self.room.add_permits(ended);
    }

    /// Waits for what is in flight; answers what was counted, and how many records were
    /// acknowledged within the window or not.
    pub(crate) async fn finish(&self) -> (Tally, u64) {
        let all = timeout(FLUSH, self.room.acquire_many(self.most)).await;
        let mut tally = std::mem::replace(&mut *self.tally(), Tally::new());
        if all.is_err() {
            let most = usize::try_from(self.most).unwrap_or(0);
            let missing = most.saturating_sub(self.room.available_permits());
            tally.fail(format!("{missing} records were not acknowledged"));
        }
        self.is_over.store(true, Ordering::Release);
        (tally, self.acknowledged.load(Ordering::Acquire))
    }

    /// How many records were acknowledged, once all are settled.
    pub(crate) fn finished(&self) -> Option<u64> {
        let is_over = self.is_over.load(Ordering::Acquire);
        is_over.then(|| self.acknowledged.load(Ordering::Acquire))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("a panic ends the process")
    }
}
