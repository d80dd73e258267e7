//! Options of a producer, and the record it takes.

use std::time::Duration;

use bytes::Bytes;
use duramen_record::Compression;
use duramen_types::{PartitionId, Timestamp};

use crate::{ClientError, RecordHeader, limits};

/// Options of a [`Producer`](super::Producer).
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How long a batch waits for more records before it is sent. Default 5 ms. While earlier
    /// batches fill the window, records gather longer.
    pub linger: Duration,
    /// Bytes of records that close a batch, before compression. Default 1 MiB, at most 16 MiB. Batches
    /// that wait for their turn are sent together, up to 2 MiB in a request, whatever their size.
    pub batch_bytes: usize,
    /// The largest record, which may be larger than `batch_bytes`: it is sent alone then. Default
    /// 1 MiB, at most 16 MiB. The topic's `max.message.bytes` must allow it too.
    pub record_bytes_max: usize,
    /// How batches are compressed. Default: not.
    pub compression: Compression,
    /// Bytes of records taken in and not yet delivered; beyond, `send` waits. Default 32 MiB.
    pub in_flight_bytes: usize,
    /// How long a record may be under way, retries included, before its delivery fails. Default
    /// 120 s. What is in one request fails with the oldest record in it.
    pub delivery_timeout: Duration,
    /// Whether each record is stored exactly once and in order. Default yes. Without, one request per
    /// partition is under way at a time, and what may have been stored is not sent again.
    pub idempotent: bool,
    /// Requests per partition under way at a time, 1 to 5: servers tell duplicates among five.
    /// Default 5.
    pub requests_in_flight: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            linger: limits::LINGER,
            batch_bytes: limits::BATCH_BYTES,
            record_bytes_max: limits::BATCH_BYTES,
            compression: Compression::None,
            in_flight_bytes: limits::IN_FLIGHT_BYTES,
            delivery_timeout: limits::DELIVERY_TIMEOUT,
            idempotent: true,
            requests_in_flight: limits::REQUESTS_IN_FLIGHT,
        }
    }
}

impl ProducerOptions {
    pub(super) fn validate(&self) -> Result<(), ClientError> {
        let check = |ok: bool, option, rule| {
            if ok { Ok(()) } else { Err(ClientError::InvalidOption { option, rule }) }
        };
        let sizes = 1..=limits::BATCH_BYTES_LIMIT;
        check(sizes.contains(&self.batch_bytes), "batch_bytes", "from 1 to 16 MiB")?;
        check(sizes.contains(&self.record_bytes_max), "record_bytes_max", "from 1 to 16 MiB")?;
        let rule = "from 1 to 4 GiB";
        let permits = u32::try_from(self.in_flight_bytes).is_ok_and(|bytes| bytes > 0);
        check(permits, "in_flight_bytes", rule)?;
        let rule = "must be longer than linger";
        check(self.delivery_timeout > self.linger, "delivery_timeout", rule)?;
        let window = 1..=limits::REQUESTS_IN_FLIGHT;
        check(window.contains(&self.requests_in_flight), "requests_in_flight", "from 1 to 5")
    }

    /// Requests per partition under way at a time: without idempotence more than one could be
    /// stored out of order.
    pub(super) const fn window(&self) -> usize {
        if self.idempotent { self.requests_in_flight } else { 1 }
    }
}

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The partition; `None` = as the key says, or any.
    pub partition: Option<PartitionId>,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, which in a compacted topic deletes the key.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<RecordHeader>,
    /// When it was created; `None` = now.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record of this value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(self, partition: PartitionId) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Sets the timestamp.
    #[must_use]
    pub fn timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(RecordHeader { key: key.into(), value: Some(value.into()) });
        self
    }
}
