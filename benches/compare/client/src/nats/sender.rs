//! A producer that counts what becomes of its records.
//!
//! JetStream's acknowledgement is a message to the reply subject of the record. The library's own
//! `publish` gives each record an inbox, a channel and a timer, and is then what is measured; this
//! does the same on the wire with one subscription for all acknowledgements.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::stream;
use crate::report::{Tally, Window};
use crate::{Error, Load};

/// How long records may take to be acknowledged after the end.
const FLUSH: Duration = Duration::from_secs(30);

/// Sends as fast as the limit of records in flight allows.
pub(super) struct Sender {
    client: Client,
    /// Where acknowledgements go, up to the record's time.
    inbox: String,
    subjects: Vec<Subject>,
    in_flight: u32,
    shared: Arc<Shared>,
    tallying: JoinHandle<()>,
}

struct Shared {
    /// What times are counted from.
    start: Instant,
    window: Window,
    tally: Mutex<Tally>,
    room: Semaphore,
    /// Within the window or not.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

/// How far a sender is, for other tasks.
pub(super) struct Progress(Arc<Shared>);

impl Sender {
    pub(super) async fn new(client: Client, load: &Load, window: Window) -> Result<Self, Error> {
        let inbox = client.new_inbox();
        let acknowledgements = client.subscribe(format!("{inbox}.*")).await?;
        let shared = Arc::new(Shared {
            start: Instant::now(),
            window,
            tally: Mutex::new(Tally::new()),
            room: Semaphore::new(usize::try_from(load.in_flight)?),
            acknowledged: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let prefix = inbox.len() + 1;
        let tallying = tokio::spawn(tally(shared.clone(), acknowledgements, prefix));
        let subjects = (0..load.partitions).map(|partition| stream(partition).into()).collect();
        Ok(Self { client, inbox, subjects, in_flight: load.in_flight, shared, tallying })
    }

    /// Sends a record; waits while too many are in flight.
    pub(super) async fn send(&self, number: u64, value: Bytes) {
        if let Ok(permit) = self.shared.room.acquire().await {
            // Given back when the acknowledgement is here.
            permit.forget();
        }
        let partitions = u64::try_from(self.subjects.len()).unwrap_or(1);
        let partition = usize::try_from(number % partitions).unwrap_or(0);
        let sent = self.shared.start.elapsed().as_micros();
        let reply = format!("{}.{sent}", self.inbox);
        let subject = self.subjects[partition].clone();
        if let Err(error) = self.client.publish_with_reply(subject, reply, value).await {
            self.shared.tally().fail(error.to_string());
            self.shared.room.add_permits(1);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.shared.clone())
    }

    /// Waits for what is under way; answers what was counted, and how many records were
    /// acknowledged within the window or not.
    pub(super) async fn finish(self) -> (Tally, u64) {
        let all = timeout(FLUSH, self.shared.room.acquire_many(self.in_flight)).await;
        self.tallying.abort();
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

/// Counts acknowledgements.
async fn tally(shared: Arc<Shared>, mut acknowledgements: Subscriber, prefix: usize) {
    while let Some(message) = acknowledgements.next().await {
        let now = Instant::now();
        match sent_at(&message, prefix) {
            Some(sent) => {
                shared.acknowledged.fetch_add(1, Ordering::AcqRel);
                if shared.window.contains(now) {
                    let took = now.duration_since(shared.start).saturating_sub(sent);
                    shared.tally().count(took);
                }
            }
            None => {
                let answer = String::from_utf8_lossy(&message.payload);
                shared.tally().fail(format!("{:?} {answer}", message.status));
            }
        }
        shared.room.add_permits(1);
    }
}

/// When the record was sent whose acknowledgement this is; `None` for a refusal.
fn sent_at(message: &Message, prefix: usize) -> Option<Duration> {
    let is_stored = message.status.is_none()
        && message.payload.starts_with(b"{\"stream\":")
        && !message.payload.windows(8).any(|part| part == b"\"error\":");
    let micros = message.subject.get(prefix..)?.parse().ok()?;
    is_stored.then(|| Duration::from_micros(micros))
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
