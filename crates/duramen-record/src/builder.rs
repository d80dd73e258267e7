//! Builds one batch, record by record, without allocating for a record.

use bytes::Bytes;
use duramen_types::{Offset, Timestamp};

use crate::limits::{BATCH_BYTES_MAX, HEADER_BYTES, RECORDS_MAX};
use crate::{
    Attributes, BatchHeader, BuildError, Compression, HeaderRef, ProducerStamp, compression, varint,
};

/// One record to append, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// When the record was created.
    pub timestamp: Timestamp,
}

/// Bytes that a record takes in a batch at most, uncompressed.
#[must_use]
pub fn record_bytes<'h>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = HeaderRef<'h>>,
) -> usize {
    // Length, attributes, timestamp delta, offset delta, header count at their widest.
    const FIXED: usize = 5 + 1 + 10 + 5 + 5;
    let headers: usize =
        headers.map(|header| nullable_len(Some(header.key)) + nullable_len(header.value)).sum();
    FIXED + nullable_len(key) + nullable_len(value) + headers
}

/// Builds one batch.
///
/// ```
/// use duramen_record::{BatchBuilder, BatchView, Compression, RecordRef};
///
/// let mut builder = BatchBuilder::new(Compression::Lz4);
/// builder.append(RecordRef { value: Some(b"hello"), ..RecordRef::default() }, [].into_iter())?;
/// let batch = builder.finish(None)?;
/// assert!(BatchView::parse(&batch).is_ok_and(|view| view.validate_produced().is_ok()));
/// # Ok::<(), duramen_record::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for a header, then the records.
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self::with_capacity(compression, 0)
    }

    /// An empty batch with room for `bytes` of records.
    #[must_use]
    pub fn with_capacity(compression: Compression, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES.saturating_add(bytes));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            compression,
            buffer,
            count: 0,
            base_timestamp: Timestamp::EPOCH,
            max_timestamp: Timestamp::MIN,
        }
    }

    /// Number of records appended.
    #[must_use]
    pub const fn record_count(&self) -> u32 {
        self.count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch if it were finished now, at most: compression may make it smaller.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a record and gives its place in the batch, counted from 0.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] if the batch would pass the format's limit,
    /// [`BuildError::TimestampRange`]; the batch stays as it was.
    pub fn append<'h>(
        &mut self,
        record: RecordRef<'_>,
        headers: impl ExactSizeIterator<Item = HeaderRef<'h>> + Clone,
    ) -> Result<u32, BuildError> {
        let timestamp = record.timestamp.as_millis();
        let base = if self.count == 0 { timestamp } else { self.base_timestamp.as_millis() };
        let delta =
            timestamp.checked_sub(base).ok_or(BuildError::TimestampRange { timestamp, base })?;

        let upper = record_bytes(record.key, record.value, headers.clone());
        let bytes = self.buffer.len().saturating_add(upper);
        if bytes > BATCH_BYTES_MAX || self.count >= RECORDS_MAX {
            return Err(BuildError::TooLarge { bytes });
        }

        let index = i64::from(self.count);
        let header_count = headers.len() as u64;
        let body = 1
            + varint::len(delta)
            + varint::len(index)
            + nullable_len(record.key)
            + nullable_len(record.value)
            + varint::len(header_count.cast_signed())
            + headers
                .clone()
                .map(|header| nullable_len(Some(header.key)) + nullable_len(header.value))
                .sum::<usize>();
        let buffer = &mut self.buffer;
        varint::put(buffer, (body as u64).cast_signed());
        buffer.push(0);
        varint::put(buffer, delta);
        varint::put(buffer, index);
        put_nullable(buffer, record.key);
        put_nullable(buffer, record.value);
        varint::put(buffer, header_count.cast_signed());
        for header in headers {
            put_nullable(buffer, Some(header.key));
            put_nullable(buffer, header.value);
        }

        self.base_timestamp = Timestamp::from_millis(base);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        Ok(self.count - 1)
    }

    /// Compresses, if that makes the batch smaller, and writes header and checksum.
    ///
    /// # Errors
    /// [`BuildError::Empty`] without records, [`BuildError::ProducerRange`] for a stamp beyond the
    /// signed fields of the header.
    pub fn finish(self, producer: Option<ProducerStamp>) -> Result<Bytes, BuildError> {
        let Some(last_offset_delta) = self.count.checked_sub(1) else {
            return Err(BuildError::Empty);
        };
        let (mut batch, compression) = compress(self.compression, self.buffer)?;
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            size_bytes: batch.len(),
            leader_epoch: None,
            crc: 0,
            attributes: Attributes::new(compression),
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer,
            record_count: self.count,
        };
        header.write(&mut batch)?;
        Ok(batch.into())
    }
}

/// The batch with its payload compressed, or as it was if that is no larger.
fn compress(
    compression: Compression,
    plain: Vec<u8>,
) -> Result<(Vec<u8>, Compression), BuildError> {
    if compression == Compression::None {
        return Ok((plain, Compression::None));
    }
    let payload = plain.get(HEADER_BYTES..).unwrap_or_default();
    let mut packed = Vec::with_capacity(HEADER_BYTES + payload.len() / 2);
    packed.resize(HEADER_BYTES, 0);
    compression::compress(compression, payload, &mut packed)
        .map_err(|_| BuildError::Compress { compression })?;
    if packed.len() < plain.len() {
        Ok((packed, compression))
    } else {
        Ok((plain, Compression::None))
    }
}

/// Bytes of a nullable field with its length.
fn nullable_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len((bytes.len() as u64).cast_signed()) + bytes.len())
}

fn put_nullable(buffer: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put(buffer, -1),
        Some(bytes) => {
            varint::put(buffer, (bytes.len() as u64).cast_signed());
            buffer.extend_from_slice(bytes);
        }
    }
}
