//! A producer that counts what becomes of its records.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::{VALUE, stream};
use crate::report::{Tally, Window};
use crate::{Error, Load};

/// How long records may take to be acknowledged after the end.
const FLUSH: Duration = Duration::from_secs(30);

/// Sends pipelines as fast as the limit of records in flight allows.
pub(super) struct Sender {
    connection: MultiplexedConnection,
    keys: Vec<String>,
    in_flight: u32,
    /// Records of a pipeline; they are sent when there are so many.
    most: usize,
    is_transactional: bool,
    next: Batch,
    shared: Arc<Shared>,
}

/// Records that are sent together.
struct Batch {
    pipeline: Pipeline,
    /// When each of them was taken in.
    taken: Vec<Instant>,
}

struct Shared {
    window: Window,
    tally: Mutex<Tally>,
    /// For records in flight and for those that wait until their pipeline is full.
    room: Semaphore,
    /// Within the window or not.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

/// How far a sender is, for other tasks.
pub(super) struct Progress(Arc<Shared>);

impl Sender {
    /// Sends `records` at a time, or as many as may be in flight.
    pub(super) fn new(
        connection: MultiplexedConnection,
        load: &Load,
        records: usize,
        window: Window,
    ) -> Result<Self, Error> {
        let room = usize::try_from(load.in_flight)?;
        let shared = Arc::new(Shared {
            window,
            tally: Mutex::new(Tally::new()),
            room: Semaphore::new(room),
            acknowledged: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let most = records.min(room);
        // One record is none the better for it.
        let is_transactional = load.transactions && most > 1;
        let next = Batch::new(most, is_transactional);
        let keys = (0..load.partitions).map(stream).collect();
        let in_flight = load.in_flight;
        Ok(Self { connection, keys, in_flight, most, is_transactional, next, shared })
    }

    /// Sends a record; waits while too many are in flight.
    pub(super) async fn send(&mut self, number: u64, value: Bytes) {
        if let Ok(permit) = self.shared.room.acquire().await {
            // Given back when the answer is here.
            permit.forget();
        }
        let partitions = u64::try_from(self.keys.len()).unwrap_or(1);
        let partition = usize::try_from(number % partitions).unwrap_or(0);
        self.next.add(&self.keys[partition], &value);
        if self.next.taken.len() >= self.most {
            self.flush();
        }
    }

    /// Sends what waits.
    fn flush(&mut self) {
        let next = Batch::new(self.most, self.is_transactional);
        let batch = std::mem::replace(&mut self.next, next);
        if batch.taken.is_empty() {
            return;
        }
        let settling = settle(self.shared.clone(), self.connection.clone(), batch);
        let mut settling = Box::pin(unconstrained(settling));
        // The first poll puts it into the connection's queue, so that the order is kept.
        if (&mut settling).now_or_never().is_none() {
            tokio::spawn(settling);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.shared.clone())
    }

    /// Waits for what is under way; answers what was counted, and how many records were
    /// acknowledged within the window or not.
    pub(super) async fn finish(mut self) -> (Tally, u64) {
        self.flush();
        let all = timeout(FLUSH, self.shared.room.acquire_many(self.in_flight)).await;
        let mut tally = std::mem::replace(&mut *self.shared.tally(), Tally::new());
        if all.is_err() {
            let missing = usize::try_from(self.in_flight).unwrap_or(0);
            let missing = missing.saturating_sub(self.shared.room.available_permits());
            tally.fail(format!("{missing} records were not acknowledged"));
        }
        self.shared.is_over.store(true, Ordering::Release);
        (tally, self.shared.acknowledged.load(Ordering::Acquire))
    }
}

impl Batch {
    fn new(records: usize, is_transactional: bool) -> Self {
        let mut pipeline = Pipeline::with_capacity(records);
        if is_transactional {
            pipeline.atomic();
        }
        // An answer for each record.
        pipeline.ignore_errors();
        Self { pipeline, taken: Vec::with_capacity(records) }
    }

    fn add(&mut self, key: &str, value: &Bytes) {
        self.taken.push(Instant::now());
        self.pipeline.cmd("XADD").arg(key).arg("*").arg(VALUE).arg(&value[..]);
    }
}

/// Sends records and counts what is answered.
async fn settle(shared: Arc<Shared>, mut connection: MultiplexedConnection, batch: Batch) {
    let answers: RedisResult<Vec<RedisResult<()>>> =
        batch.pipeline.query_async(&mut connection).await;
    let now = Instant::now();
    let mut tally = shared.tally();
    match answers {
        Ok(answers) if answers.len() == batch.taken.len() => {
            for (answer, taken) in answers.into_iter().zip(&batch.taken) {
                match answer {
                    Ok(()) => {
                        shared.acknowledged.fetch_add(1, Ordering::AcqRel);
                        if shared.window.contains(now) {
                            tally.count(now.duration_since(*taken));
                        }
                    }
                    Err(error) => tally.fail(error.to_string()),
                }
            }
        }
        Ok(_) => batch.taken.iter().for_each(|_| tally.fail("not as many answers as records")),
        Err(error) => batch.taken.iter().for_each(|_| tally.fail(error.to_string())),
    }
    shared.room.add_permits(batch.taken.len());
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("a panic ends the process")
    }
}

impl Progress {
    /// How many records were acknowledged, once all are settled.
    pub(super) fn finished(&self) -> Option<u64> {
        let shared = &self.0;
        let is_over = shared.is_over.load(Ordering::Acquire);
        is_over.then(|| shared.acknowledged.load(Ordering::Acquire))
    }
}
