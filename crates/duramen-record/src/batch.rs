//! One batch, borrowed or owned, and its validation.

use std::borrow::Cow;

use bytes::Bytes;

use crate::limits::HEADER_BYTES;
use crate::records::Records;
use crate::{BatchError, BatchHeader, Compression, compression, format};

/// One batch, borrowed. Its header is parsed; nothing else is checked until asked for.
#[derive(Clone, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> BatchView<'a> {
    /// Parses the batch at the front and gives the bytes that follow it.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`].
    pub fn parse_front(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let available = bytes.len();
        let (batch, rest) = bytes
            .split_at_checked(header.size_bytes)
            .ok_or(BatchError::Truncated { needed: header.size_bytes, available })?;
        Ok((Self { bytes: batch, header }, rest))
    }

    /// Parses bytes that are exactly one batch.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], or [`BatchError::TrailingBytes`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        match Self::parse_front(bytes)? {
            (batch, []) => Ok(batch),
            (_, rest) => Err(BatchError::TrailingBytes { trailing: rest.len() }),
        }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the batch, header included.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks the CRC-32C.
    ///
    /// # Errors
    /// [`BatchError::BadChecksum`].
    pub fn verify_checksum(&self) -> Result<(), BatchError> {
        let computed = format::checksum(self.bytes);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::BadChecksum {
            base_offset: self.header.base_offset,
            stored: self.header.crc,
            computed,
        })
    }

    /// Checks a batch of any origin: checksum, attributes, counts and, if it is not compressed,
    /// the structure of every record. What is compressed stays closed; [`records`](Self::records)
    /// finds what is wrong in there.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), BatchError> {
        let header = &self.header;
        let bad = |field, value| Err(BatchError::BadField { field, value });
        self.verify_checksum()?;
        let compression = header.attributes.compression()?;
        if header.attributes.has_unknown_bits() {
            return bad("attributes", i64::from(header.attributes.bits()));
        }
        if header.record_count == 0 {
            return bad("record count", 0);
        }
        if header.last_offset_delta < header.record_count - 1 {
            return bad("last offset delta", i64::from(header.last_offset_delta));
        }
        if compression == Compression::None {
            self.records(self.raw_payload()).check()?;
        }
        Ok(())
    }

    /// Checks a batch as a client produces it: [`validate`](Self::validate), and it must be an
    /// ordinary batch whose records count 0, 1, 2 … without holes, with the client's timestamps.
    ///
    /// # Errors
    /// The first thing that is wrong; [`BatchError::Forbidden`] for transactional batches, control
    /// batches and those that claim a server's time.
    pub fn validate_produced(&self) -> Result<(), BatchError> {
        let attributes = self.header.attributes;
        let forbidden = |what| Err(BatchError::Forbidden { what });
        self.validate()?;
        if attributes.is_control() {
            return forbidden("control");
        }
        if attributes.is_transactional() {
            return forbidden("transactional");
        }
        if attributes.is_log_append_time() {
            return forbidden("log append time");
        }
        if attributes.has_delete_horizon() {
            return forbidden("delete horizon");
        }
        // Together with increasing deltas, which `validate` found, this leaves no holes.
        if self.header.last_offset_delta != self.header.record_count - 1 {
            return Err(BatchError::BadField {
                field: "last offset delta",
                value: i64::from(self.header.last_offset_delta),
            });
        }
        Ok(())
    }

    /// The payload, decompressed into at most `limit` bytes; borrowed if it is not compressed.
    ///
    /// # Errors
    /// [`BatchError::TooLargeDecompressed`], `Decompress` or `UnsupportedCompression`.
    pub fn payload(&self, limit: usize) -> Result<Cow<'a, [u8]>, BatchError> {
        let compression = self.header.attributes.compression()?;
        compression::decompress(compression, self.raw_payload(), limit)
    }

    /// The records in a payload that [`payload`](Self::payload) gave.
    #[must_use]
    pub fn records<'p>(&self, payload: &'p [u8]) -> Records<'p> {
        Records::new(&self.header, payload)
    }

    fn raw_payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// One batch, owned; cheap to clone.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

impl Batch {
    /// Parses bytes that are exactly one batch.
    ///
    /// # Errors
    /// As [`BatchView::parse`].
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchView::parse(&bytes)?.header;
        Ok(Self { bytes, header })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the batch, header included.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch, borrowed.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView { bytes: &self.bytes, header: self.header.clone() }
    }

    /// The payload, decompressed into at most `limit` bytes; a slice if it is not compressed, so
    /// that keys and values can be cut from it with [`Bytes::slice_ref`].
    ///
    /// # Errors
    /// As [`BatchView::payload`].
    pub fn payload(&self, limit: usize) -> Result<Bytes, BatchError> {
        match self.view().payload(limit)? {
            Cow::Borrowed(payload) => Ok(self.bytes.slice_ref(payload)),
            Cow::Owned(payload) => Ok(payload.into()),
        }
    }

    /// The records in a payload that [`payload`](Self::payload) gave.
    #[must_use]
    pub fn records<'p>(&self, payload: &'p [u8]) -> Records<'p> {
        Records::new(&self.header, payload)
    }
}

/// Cuts apart batches that lie back to back, without copying.
#[must_use]
pub const fn split_batches(bytes: Bytes) -> SplitBatches {
    SplitBatches { rest: bytes }
}

/// The batches of [`split_batches`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct SplitBatches {
    rest: Bytes,
}

impl Iterator for SplitBatches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchHeader::parse(&self.rest) {
            Ok(header) => {
                let bytes = self.rest.split_to(header.size_bytes);
                Some(Ok(Batch { bytes, header }))
            }
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
