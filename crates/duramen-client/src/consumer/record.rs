//! What a consumer gives: batches, and the records in them.

use std::sync::Arc;

use bytes::Bytes;
use duramen_record::{Batch, BatchError, RecordView, Records};
use duramen_types::{Offset, PartitionId, Timestamp};

use crate::{RecordHeader, limits};

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// When it was created, or appended if the topic says so.
    pub timestamp: Timestamp,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<RecordHeader>,
}

/// A batch as it is stored, of which the records from the consumer's position to its end are given.
/// Keys and values are slices of its memory.
#[derive(Clone, Debug)]
pub struct ConsumerBatch {
    topic: Arc<str>,
    partition: PartitionId,
    batch: Batch,
    payload: Bytes,
    from: Offset,
    until: Offset,
}

impl ConsumerBatch {
    /// Decompresses a batch and walks all of its records once, so that iterating cannot fail.
    pub(crate) fn open(
        topic: &Arc<str>,
        partition: PartitionId,
        batch: Batch,
        range: (Offset, Offset),
    ) -> Result<Self, BatchError> {
        let payload = batch.payload(limits::DECOMPRESSED_BYTES)?;
        batch.records(&payload).check()?;
        let topic = Arc::clone(topic);
        Ok(Self { topic, partition, batch, payload, from: range.0, until: range.1 })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The batch, with its header and all of its records.
    #[must_use]
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The first offset given, if there is a record of that offset.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.from.max(self.batch.header().base_offset)
    }

    /// Where the consumer goes on after this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.until.min(self.batch.header().next_offset())
    }

    /// Records given at most: exactly so many unless the topic is compacted.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        let given = self.next_offset().distance_from(self.first_offset());
        given.min(self.batch.header().record_count.into())
    }

    /// The records, borrowed: nothing is allocated.
    pub fn views(&self) -> impl Iterator<Item = RecordView<'_>> {
        let (from, until) = (self.from, self.until);
        self.records_raw()
            .filter_map(Result::ok)
            .filter(move |record| record.offset >= from && record.offset < until)
    }

    pub(crate) fn has_records(&self) -> bool {
        // The markers of transactions are not for readers.
        !self.batch.header().attributes.is_control() && self.views().next().is_some()
    }

    pub(crate) fn into_parts(self) -> (Batch, Offset, Offset) {
        (self.batch, self.from, self.until)
    }

    fn records_raw(&self) -> Records<'_> {
        self.batch.records(&self.payload)
    }
}

impl IntoIterator for ConsumerBatch {
    type Item = ConsumerRecord;
    type IntoIter = ConsumerRecords;

    fn into_iter(self) -> ConsumerRecords {
        let cursor = self.records_raw().cursor();
        ConsumerRecords { batch: self, cursor }
    }
}

/// The records of one batch, owned.
#[derive(Clone, Debug)]
pub struct ConsumerRecords {
    batch: ConsumerBatch,
    cursor: duramen_record::RecordsCursor,
}

impl ConsumerRecords {
    pub(crate) fn is_of(&self, partition: PartitionId) -> bool {
        self.batch.partition == partition
    }

    /// One past the last record given.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.batch.from
    }

    pub(crate) fn into_batch(self) -> ConsumerBatch {
        self.batch
    }
}

impl Iterator for ConsumerRecords {
    type Item = ConsumerRecord;

    fn next(&mut self) -> Option<ConsumerRecord> {
        let batch = &self.batch;
        let mut records = batch.records_raw().resume(self.cursor);
        let record = loop {
            match records.next() {
                // Opening the batch has walked it: only its end is left.
                None | Some(Err(_)) => break None,
                Some(Ok(record)) if record.offset < batch.from => {}
                Some(Ok(record)) if record.offset >= batch.until => break None,
                Some(Ok(record)) => break Some(own(batch, &record)),
            }
        };
        self.cursor = records.cursor();
        self.batch.from = match &record {
            Some(record) => record.offset.next(),
            None => self.batch.next_offset().max(self.batch.from),
        };
        record
    }
}

/// A record whose key and value are slices of the batch's memory.
fn own(batch: &ConsumerBatch, record: &RecordView<'_>) -> ConsumerRecord {
    let slice = |field: &[u8]| batch.payload.slice_ref(field);
    let headers = record.headers.clone().map(|header| RecordHeader {
        key: String::from_utf8_lossy(header.key).into_owned(),
        value: header.value.map(slice),
    });
    ConsumerRecord {
        topic: Arc::clone(&batch.topic),
        partition: batch.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(slice),
        value: record.value.map(slice),
        headers: headers.collect(),
    }
}
