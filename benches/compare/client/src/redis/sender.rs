//! A producer that counts what becomes of its records.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};
use tokio::task::unconstrained;

use super::{VALUE, stream};
use crate::flight::Flight;
use crate::report::{Tally, Window};
use crate::{Error, Load};

/// Sends pipelines as fast as the limit of records in flight allows.
pub(super) struct Sender {
    connection: MultiplexedConnection,
    keys: Vec<String>,
    /// Records of a pipeline; they are sent when there are so many.
    most: usize,
    is_transactional: bool,
    next: Batch,
    /// Those that wait until their pipeline is full are in it too.
    flight: Arc<Flight>,
}

/// Records that are sent together.
struct Batch {
    pipeline: Pipeline,
    /// When each of them was taken in.
    taken: Vec<Instant>,
}

impl Sender {
    /// Sends `records` at a time, or as many as may be in flight.
    pub(super) fn new(
        connection: MultiplexedConnection,
        load: &Load,
        records: usize,
        window: Window,
    ) -> Result<Self, Error> {
        let most = records.min(usize::try_from(load.in_flight)?);
        // One record is none the better for it.
        let is_transactional = load.transactions && most > 1;
        let next = Batch::new(most, is_transactional);
        let keys = (0..load.partitions).map(stream).collect();
        let flight = Flight::new(load, window)?;
        Ok(Self { connection, keys, most, is_transactional, next, flight })
    }

    /// Sends a record; waits while too many are in flight.
    pub(super) async fn send(&mut self, number: u64, value: Bytes) {
        self.flight.begin().await;
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
        let settling = settle(self.flight.clone(), self.connection.clone(), batch);
        let mut settling = Box::pin(unconstrained(settling));
        // The first poll puts it into the connection's queue, so that the order is kept.
        if (&mut settling).now_or_never().is_none() {
            tokio::spawn(settling);
        }
    }

    pub(super) fn flight(&self) -> Arc<Flight> {
        self.flight.clone()
    }

    /// Sends what waits, and waits for what is under way, as [`Flight::finish`].
    pub(super) async fn finish(mut self) -> (Tally, u64) {
        self.flush();
        self.flight.finish().await
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
async fn settle(flight: Arc<Flight>, mut connection: MultiplexedConnection, batch: Batch) {
    let answers: RedisResult<Vec<RedisResult<()>>> =
        batch.pipeline.query_async(&mut connection).await;
    let now = Instant::now();
    let took = |taken: &Instant| now.duration_since(*taken);
    let failed = |error: String| flight.end(batch.taken.iter().map(|_| Err(error.clone())));
    match answers {
        Ok(answers) if answers.len() == batch.taken.len() => {
            let pairs = answers.into_iter().zip(&batch.taken);
            flight.end(pairs.map(|(answer, taken)| {
                answer.map(|()| took(taken)).map_err(|error| error.to_string())
            }));
        }
        Ok(_) => failed("not as many answers as records".to_owned()),
        Err(error) => failed(error.to_string()),
    }
}
