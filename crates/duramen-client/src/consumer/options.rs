//! Options of a consumer.

use std::collections::BTreeMap;

use duramen_types::{Offset, PartitionId};

use crate::{ClientError, Start, limits};

/// Where a consumer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nowhere: it waits for more records.
    #[default]
    Never,
    /// Where each partition's high watermark was when the consumer was made.
    HighWatermark,
    /// Before these offsets; partitions that are not named have no end.
    Offsets(BTreeMap<PartitionId, Offset>),
}

/// What to do when the position lies outside of what a partition keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Fail with [`ClientError::OffsetOutOfRange`].
    #[default]
    Error,
    /// Go on at the first record kept.
    First,
    /// Go on with what comes from now on.
    Last,
}

/// Options of a [`Consumer`](super::Consumer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// The partitions to read; `None` = all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Where to start. Default: with what comes from now on.
    pub start: Start,
    /// Where to start in some partitions, which are read too.
    pub starts: BTreeMap<PartitionId, Start>,
    /// Where to end. Default: nowhere.
    pub end: End,
    /// Bytes to buffer over all partitions, as fetched. A partition always gets 64 KiB and the
    /// batch it is at. Default 32 MiB.
    pub buffer_bytes: usize,
    /// What to do when a position is out of range. Default: fail.
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            partitions: None,
            start: Start::Last(0),
            starts: BTreeMap::new(),
            end: End::Never,
            buffer_bytes: limits::BUFFER_BYTES,
            out_of_range: OutOfRange::Error,
        }
    }
}

impl ConsumerOptions {
    /// Reads these partitions only.
    #[must_use]
    pub fn partitions(self, partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        Self { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// Starts here.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Starts here in one partition.
    #[must_use]
    pub fn start_partition(mut self, partition: PartitionId, start: Start) -> Self {
        self.starts.insert(partition, start);
        self
    }

    /// Ends where the high watermarks are when the consumer is made.
    #[must_use]
    pub fn until_high_watermark(self) -> Self {
        Self { end: End::HighWatermark, ..self }
    }

    /// Ends one partition before this offset.
    #[must_use]
    pub fn until(mut self, partition: PartitionId, offset: Offset) -> Self {
        match &mut self.end {
            End::Offsets(offsets) => drop(offsets.insert(partition, offset)),
            end => *end = End::Offsets(BTreeMap::from([(partition, offset)])),
        }
        self
    }

    pub(super) fn validate(&self) -> Result<(), ClientError> {
        let named = self.partitions.as_ref().is_none_or(|partitions| !partitions.is_empty());
        if !named && self.starts.is_empty() {
            let rule = "name at least one, or leave it out for all";
            return Err(ClientError::InvalidOption { option: "partitions", rule });
        }
        Ok(())
    }
}
