//! Produce: validate, queue, and answer once a majority has the records on disk.

use std::time::Duration;

use bytes::Bytes;
use duramen_raft::{BatchId, batch_id};
use duramen_record::{
    BatchBuilder, Compression, HeaderRef, ProducerStamp, RecordRef, split_batches,
};
use duramen_types::{MetadataIndex, PartitionId, Timestamp, TopicId};
use tokio::sync::oneshot;

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits;
use crate::metrics;
use crate::partition::{ProduceItem, Produced};
use crate::record::PlainRecord;

/// What a produce request carries.
#[derive(Clone, Debug)]
pub enum ProducePayload {
    /// Record batches, version 2, back to back, to be stored as they come.
    Batches(Bytes),
    /// Plain records, of which the node makes one batch.
    Records {
        /// The records, at least one.
        records: Vec<PlainRecord>,
        /// The idempotence triple, if the producer has one.
        producer: Option<ProducerStamp>,
    },
}

/// A produce request.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The topic's name.
    pub topic: String,
    /// Its id; nil = whatever topic has the name.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// What to append.
    pub payload: ProducePayload,
    /// How long it may take; zero = 30 s.
    pub timeout: Duration,
    /// For how long the sender's requests to the partition have been refused for want of room; zero
    /// if they were not. The longer, the sooner there is room for this one.
    pub refused_for: Duration,
    /// Wait until this much of the metadata is known here.
    pub metadata_index: MetadataIndex,
}

/// A produce request that is queued; await it for the answer.
#[derive(Debug)]
pub struct Queued {
    answer: oneshot::Receiver<Result<Produced, BrokerError>>,
    timeout: Duration,
    started: tokio::time::Instant,
    bytes: usize,
    records: u32,
}

impl Queued {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// [`BrokerError`]; `UnknownOutcome` if it did not come in time.
    pub async fn answer(self) -> Result<Produced, BrokerError> {
        match tokio::time::timeout_at(self.started + self.timeout, self.answer).await {
            Ok(Ok(answer)) => {
                if answer.is_ok() {
                    metrics::produced(self.bytes, self.records, self.started.elapsed());
                }
                answer
            }
            Ok(Err(_)) | Err(_) => Err(BrokerError::UnknownOutcome),
        }
    }
}

impl Broker {
    /// Appends to a partition that this node leads.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn produce(
        &self,
        caller: &Caller,
        request: ProduceRequest,
    ) -> Result<Produced, BrokerError> {
        self.queue_produce(caller, request).await?.answer().await
    }

    /// Validates and queues a request. Requests that one caller queues one after the other are
    /// appended in that order.
    ///
    /// # Errors
    /// [`BrokerError`]; nothing was appended then.
    pub async fn queue_produce(
        &self,
        caller: &Caller,
        request: ProduceRequest,
    ) -> Result<Queued, BrokerError> {
        let started = tokio::time::Instant::now();
        let resource = Resource::Topic(&request.topic);
        let index = request.metadata_index;
        let member = self.admit_at(caller, Operation::Produce, resource, index).await?;
        let found = member.find_for_clients(&request.topic, request.topic_id, request.partition)?;
        let handle = member.led(&found)?;
        if member.host.is_disk_full() {
            return Err(BrokerError::DiskFull);
        }
        let bytes_max = found.topic.config().max_message_bytes;
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let batches = match request.payload {
            ProducePayload::Batches(batches) => batches,
            ProducePayload::Records { records, producer } => {
                build(&records, producer, member.env.clock.now())?
            }
        };
        // Nothing is spent on what is refused.
        if !handle.has_room(batches.len(), request.refused_for) {
            return Err(BrokerError::Overloaded);
        }
        let (reply, answer) = oneshot::channel();
        let item = validate(batches, bytes_max, reply)?;
        let (bytes, records) = (item.bytes, item.records);
        handle.queue(item, request.refused_for)?;
        let timeout = match request.timeout {
            Duration::ZERO => limits::PRODUCE_TIMEOUT_DEFAULT,
            timeout => timeout.min(limits::PRODUCE_TIMEOUT_MAX),
        };
        Ok(Queued { answer, timeout, started, bytes, records })
    }
}

/// Makes one batch of plain records; a timestamp of 0 is the node's clock.
pub(crate) fn build(
    records: &[PlainRecord],
    producer: Option<ProducerStamp>,
    now: Timestamp,
) -> Result<Bytes, BrokerError> {
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let timestamp = if record.timestamp == Timestamp::EPOCH { now } else { record.timestamp };
        let headers = record
            .headers
            .iter()
            .map(|(key, value)| HeaderRef { key: key.as_bytes(), value: value.as_deref() });
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .append(RecordRef { key, value, timestamp }, headers)
            .map_err(|error| BrokerError::invalid("records", error.to_string()))?;
    }
    builder.finish(producer).map_err(|error| BrokerError::invalid("records", error.to_string()))
}

/// Checks everything that can be checked before the batches are queued.
fn validate(
    batches: Bytes,
    bytes_max: usize,
    reply: oneshot::Sender<Result<Produced, BrokerError>>,
) -> Result<ProduceItem, BrokerError> {
    if batches.is_empty() {
        return Err(BrokerError::invalid("batches", "at least one batch"));
    }
    if batches.len() > limits::PRODUCE_BYTES_MAX {
        return Err(BrokerError::TooLarge {
            bytes: batches.len(),
            bytes_max: limits::PRODUCE_BYTES_MAX,
        });
    }
    let mut records = 0_u32;
    let mut max_timestamp = Timestamp::MIN;
    let mut producer: Option<BatchId> = None;
    for (place, batch) in split_batches(batches.clone()).enumerate() {
        let batch = batch?;
        let header = batch.header();
        if header.size_bytes > bytes_max {
            return Err(BrokerError::TooLarge { bytes: header.size_bytes, bytes_max });
        }
        batch.view().validate_produced()?;
        records = records
            .checked_add(header.record_count)
            .ok_or_else(|| BrokerError::invalid("batches", "fewer than 2^32 records"))?;
        max_timestamp = max_timestamp.max(header.max_timestamp);
        let goes_on = match (&mut producer, batch_id(header)) {
            (None, None) => true,
            (Some(run), Some(next)) => run.extend(&next),
            (None, first) if place == 0 => {
                producer = first;
                true
            }
            _ => false,
        };
        if !goes_on {
            let rule = "batches of one producer, each going on where the one before ends";
            return Err(BrokerError::invalid("batches", rule));
        }
    }
    let bytes = batches.len();
    Ok(ProduceItem { batches, bytes, records, max_timestamp, producer, reply })
}

/// The records of batches that pass, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn validated_records(batches: Bytes) -> Option<u32> {
    let item = validate(batches, limits::PRODUCE_BYTES_MAX, oneshot::channel().0);
    item.ok().map(|item| item.records)
}

#[cfg(test)]
mod tests {
    use duramen_types::{ProducerEpoch, ProducerId, Sequence};

    use super::*;

    fn records(values: &[&str]) -> Vec<PlainRecord> {
        let record = |value: &&str| PlainRecord {
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..PlainRecord::default()
        };
        values.iter().map(record).collect()
    }

    fn check(batches: Bytes, bytes_max: usize) -> Result<ProduceItem, BrokerError> {
        validate(batches, bytes_max, oneshot::channel().0)
    }

    #[test]
    fn plain_records_become_one_batch_with_the_nodes_time() {
        let now = Timestamp::from_millis(77);
        let batches = build(&records(&["a", "b"]), None, now).unwrap();
        let item = check(batches, 1 << 20).unwrap();
        assert_eq!((item.records, item.max_timestamp), (2, now));
    }

    #[test]
    fn a_flipped_bit_and_an_oversized_batch_are_refused() {
        let batches = build(&records(&["heartwood"]), None, Timestamp::EPOCH).unwrap();
        assert!(matches!(check(batches.clone(), 10), Err(BrokerError::TooLarge { .. })));
        // Whatever the topic allows.
        let request = |bytes| check(vec![0; bytes].into(), usize::MAX).unwrap_err();
        let max = limits::PRODUCE_BYTES_MAX;
        assert!(matches!(request(max), BrokerError::Batch(_)));
        assert!(matches!(request(max + 1), BrokerError::TooLarge { .. }));
        let mut damaged = batches.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(matches!(check(damaged.into(), 1 << 20), Err(BrokerError::Batch(_))));
    }

    #[test]
    fn batches_of_a_producer_come_in_a_row_or_not_at_all() {
        let batch = |id, base_sequence| {
            let stamp = ProducerStamp {
                id: ProducerId::new(id),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(base_sequence),
            };
            let stamp = (id > 0).then_some(stamp);
            build(&records(&["sapwood", "heartwood"]), stamp, Timestamp::EPOCH).unwrap()
        };
        let request = |batches: &[(u64, u32)]| {
            let batches: Vec<_> = batches.iter().map(|(id, base)| batch(*id, *base)).collect();
            check(batches.concat().into(), 1 << 20)
        };
        let item = request(&[(1, 4), (1, 6), (1, 8)]).unwrap();
        let run = item.producer.unwrap();
        assert_eq!((run.base_sequence, run.records, item.records), (Sequence::new(4), 6, 6));
        assert_eq!(request(&[(0, 0), (0, 0)]).unwrap().producer, None);
        for odd in [[(1, 4), (1, 7)], [(1, 4), (1, 4)], [(1, 4), (2, 6)], [(0, 0), (1, 0)]] {
            let error = request(&odd).unwrap_err();
            assert!(matches!(error, BrokerError::InvalidRequest { .. }), "{odd:?}: {error}");
        }
        assert!(request(&[(1, 0), (0, 0)]).is_err());
    }

    #[test]
    fn a_truncated_batch_is_refused() {
        let batches = build(&records(&["heartwood"]), None, Timestamp::EPOCH).unwrap();
        for len in 0..batches.len() {
            assert!(check(batches.slice(..len), 1 << 20).is_err(), "{len} bytes");
        }
    }
}
