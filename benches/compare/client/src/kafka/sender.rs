//! A producer that counts what becomes of its records.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::{TOPIC, config};
use crate::report::{Tally, Window};
use crate::{Error, Load};

/// How long a full queue is left alone.
const FULL: Duration = Duration::from_micros(200);

/// How long records may take to be acknowledged after the end.
const FLUSH: Duration = Duration::from_secs(30);

/// Sends as fast as librdkafka's queue has room.
pub(super) struct Sender {
    producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
}

/// Sees what became of each record, on the producer's own thread.
#[derive(Clone)]
struct Deliveries {
    /// What times are counted from.
    start: Instant,
    window: Window,
    outcome: Arc<Mutex<Outcome>>,
}

struct Outcome {
    tally: Tally,
    /// Within the window or not.
    acknowledged: u64,
    is_over: bool,
}

/// How far a sender is, for other threads.
pub(super) struct Progress(Arc<Mutex<Outcome>>);

impl Sender {
    pub(super) fn new(load: &Load, window: Window) -> Result<Self, Error> {
        let outcome = Outcome { tally: Tally::new(), acknowledged: 0, is_over: false };
        let outcome = Arc::new(Mutex::new(outcome));
        let deliveries = Deliveries { start: Instant::now(), window, outcome };
        let mut config = config(load);
        config.set("acks", "all");
        // As Kafka's own producer: lets batches form when the broker falls behind.
        config.set("max.in.flight", "5");
        config.set("linger.ms", load.linger_ms.to_string());
        config.set("batch.size", "1000000");
        config.set("batch.num.messages", "100000");
        config.set("queue.buffering.max.messages", "1000000");
        config.set("queue.buffering.max.kbytes", "65536");
        config.set("message.timeout.ms", "60000");
        for option in &load.client_option {
            let (name, value) = option.split_once('=').ok_or("--client-option NAME=VALUE")?;
            config.set(name, value);
        }
        let producer = config.create_with_context(deliveries.clone())?;
        Ok(Self { producer, deliveries })
    }

    /// Sends a record; waits while the queue is full.
    pub(super) fn send(&self, value: &[u8]) {
        let sent = usize::try_from(self.deliveries.start.elapsed().as_micros()).unwrap_or(0);
        let mut record = BaseRecord::<(), [u8], usize>::with_opaque_to(TOPIC, sent).payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    thread::sleep(FULL);
                    record = back;
                }
                Err((error, _)) => {
                    self.deliveries.outcome().tally.fail(error.to_string());
                    return;
                }
            }
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.deliveries.outcome.clone())
    }

    /// Waits for what is under way; answers what was counted.
    pub(super) fn finish(self) -> Tally {
        let flushed = self.producer.flush(FLUSH);
        let mut outcome = self.deliveries.outcome();
        if let Err(error) = flushed {
            outcome.tally.fail(format!("could not flush: {error}"));
        }
        outcome.is_over = true;
        std::mem::replace(&mut outcome.tally, Tally::new())
    }
}

impl Deliveries {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("a panic ends the process")
    }
}

impl Progress {
    /// How many records were acknowledged, once all are settled.
    pub(super) fn finished(&self) -> Option<u64> {
        let outcome = self.0.lock().expect("a panic ends the process");
        outcome.is_over.then_some(outcome.acknowledged)
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// Microseconds from the start to when the record was taken in.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let now = Instant::now();
        let mut outcome = self.outcome();
        match result {
            Ok(_) => {
                outcome.acknowledged += 1;
                if self.window.contains(now) {
                    let sent = Duration::from_micros(u64::try_from(sent).unwrap_or(0));
                    outcome.tally.count(now.duration_since(self.start).saturating_sub(sent));
                }
            }
            Err((error, _)) => outcome.tally.fail(error.to_string()),
        }
    }
}
