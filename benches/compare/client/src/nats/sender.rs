//! A producer that counts what becomes of its records.
//!
//! JetStream's acknowledgement is a message to the reply subject of the record. The library's own
//! `publish` gives each record an inbox, a channel and a timer, and is then what is measured; this
//! does the same on the wire with one subscription for all acknowledgements.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::stream;
use crate::flight::Flight;
use crate::report::{Tally, Window};
use crate::{Error, Load};

/// Sends as fast as the limit of records in flight allows.
pub(super) struct Sender {
    client: Client,
    /// What times are counted from.
    start: Instant,
    /// Where acknowledgements go, up to the record's time.
    inbox: String,
    subjects: Vec<Subject>,
    flight: Arc<Flight>,
    tallying: JoinHandle<()>,
}

impl Sender {
    pub(super) async fn new(client: Client, load: &Load, window: Window) -> Result<Self, Error> {
        let inbox = client.new_inbox();
        let acknowledgements = client.subscribe(format!("{inbox}.*")).await?;
        let start = Instant::now();
        let flight = Flight::new(load, window)?;
        let prefix = inbox.len() + 1;
        let tallying = tokio::spawn(tally(flight.clone(), acknowledgements, prefix, start));
        let subjects = (0..load.partitions).map(|partition| stream(partition).into()).collect();
        Ok(Self { client, start, inbox, subjects, flight, tallying })
    }

    /// Sends a record; waits while too many are in flight.
    pub(super) async fn send(&self, number: u64, value: Bytes) {
        self.flight.begin().await;
        let partitions = u64::try_from(self.subjects.len()).unwrap_or(1);
        let partition = usize::try_from(number % partitions).unwrap_or(0);
        let sent = self.start.elapsed().as_micros();
        let reply = format!("{}.{sent}", self.inbox);
        let subject = self.subjects[partition].clone();
        if let Err(error) = self.client.publish_with_reply(subject, reply, value).await {
            self.flight.end([Err(error.to_string())]);
        }
    }

    pub(super) fn flight(&self) -> Arc<Flight> {
        self.flight.clone()
    }

    /// Waits for what is under way, as [`Flight::finish`].
    pub(super) async fn finish(self) -> (Tally, u64) {
        let counted = self.flight.finish().await;
        self.tallying.abort();
        counted
    }
}

/// Counts acknowledgements.
async fn tally(flight: Arc<Flight>, mut answers: Subscriber, prefix: usize, start: Instant) {
    while let Some(message) = answers.next().await {
        let result = match sent_at(&message, prefix) {
            Some(sent) => Ok(start.elapsed().saturating_sub(sent)),
            None => {
                let answer = String::from_utf8_lossy(&message.payload);
                Err(format!("{:?} {answer}", message.status))
            }
        };
        flight.end([result]);
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
