//! A producer of one partition that goes on whatever happens, and writes down what it is told.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use duramen_checker::{Call, Key, Process};
use duramen_client::{
    Client, ClientError, Delivery, ErrorKind, PartitionId, Producer, ProducerOptions,
    ProducerRecord,
};
use tokio::sync::watch;

use super::recorder::{Pending, Recorder};

/// Wait before a producer that could not be made is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Bytes of a record's value: the number, and some more to fill segments.
const VALUE_BYTES: usize = 64;

/// The value of a record as bytes.
pub(super) fn encode(value: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(VALUE_BYTES);
    bytes.put_u64(value);
    bytes.resize(VALUE_BYTES, b'=');
    bytes.freeze()
}

/// The value that a record's bytes stand for, if they are as they were sent.
pub(super) fn decode(bytes: &[u8]) -> Option<u64> {
    let (number, _) = bytes.split_first_chunk::<8>()?;
    let value = u64::from_be_bytes(*number);
    (encode(value) == bytes).then_some(value)
}

/// The producer of one partition.
pub(super) struct Feeder {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) key: Key,
    pub(super) options: ProducerOptions,
    /// Records under way at a time.
    pub(super) window: usize,
    /// Wait between two records.
    pub(super) pace: Duration,
    pub(super) recorder: Recorder,
    pub(super) process: Process,
    pub(super) stop: watch::Receiver<bool>,
    /// The value of the next record.
    pub(super) next: u64,
}

type Window = VecDeque<(Pending, Delivery)>;

impl Feeder {
    /// Runs until it is stopped; gives the value that was not sent any more.
    pub(super) async fn run(mut self) -> u64 {
        while !self.is_over() {
            match self.client.producer(&self.topic, self.options.clone()).await {
                Ok(producer) => {
                    self.feed(&producer).await;
                    // It ends with the first error: another producer takes over.
                    self.recorder.done(self.process, Call::Crash);
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
        self.next
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    async fn feed(&mut self, producer: &Producer) {
        let mut window = Window::new();
        let mut healthy = true;
        while healthy && !self.is_over() {
            while healthy && window.len() < self.window && !self.is_over() {
                healthy = self.send(producer, &mut window).await;
                tokio::time::sleep(self.pace).await;
            }
            if let Some(first) = window.pop_front() {
                healthy &= self.settle(first).await;
            }
        }
        for rest in window {
            self.settle(rest).await;
        }
    }

    /// Sends the next record; says whether the producer can go on.
    async fn send(&mut self, producer: &Producer, window: &mut Window) -> bool {
        let value = self.next;
        self.next += 1;
        let record = ProducerRecord::new(encode(value)).partition(PartitionId::new(self.key));
        let pending = self.recorder.sending(self.process, self.key, value);
        match producer.send(record).await {
            Ok(delivery) => {
                window.push_back((pending, delivery));
                true
            }
            Err(error) => {
                self.recorder.not_acknowledged(pending, is_unknown(&error));
                false
            }
        }
    }

    /// Waits for one record's outcome; says whether the producer can go on.
    async fn settle(&self, (pending, delivery): (Pending, Delivery)) -> bool {
        match delivery.await {
            Ok(stored) => {
                let (offset, epoch) = (stored.offset.get(), stored.leader_epoch.get());
                self.recorder.acknowledged(pending, offset, epoch);
                true
            }
            Err(error) => {
                self.recorder.not_acknowledged(pending, is_unknown(&error));
                false
            }
        }
    }
}

fn is_unknown(error: &ClientError) -> bool {
    error.kind() == ErrorKind::UnknownOutcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_sent_or_not_at_all() {
        assert_eq!(decode(&encode(7)), Some(7));
        let mut changed = encode(7).to_vec();
        changed[VALUE_BYTES - 1] ^= 1;
        assert_eq!(decode(&changed), None);
        assert_eq!(decode(b"7"), None);
    }
}
