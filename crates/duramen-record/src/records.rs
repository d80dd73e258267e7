//! The records of a batch, borrowed from its payload.
//!
//! ```text
//!  record  = length varint · attributes i8 · timestamp delta varint · offset delta varint
//!            · key bytes varint (-1 = null) · key · value bytes varint (-1 = null) · value
//!            · header count varint · headers
//!  header  = key bytes varint · key · value bytes varint (-1 = null) · value
//! ```

use duramen_types::{Offset, Timestamp};

use crate::limits::RECORD_BYTES_MIN;
use crate::{BatchError, BatchHeader, varint};

/// One record header, borrowed. Keys may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// The key: UTF-8 by custom, but nobody enforces it.
    pub key: &'a [u8],
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// One record, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp; the server's if the batch says so.
    pub timestamp: Timestamp,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The headers of one record. Their structure has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Walks the records of a payload, checking their structure; after an error it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    base_offset: Offset,
    base_timestamp: Timestamp,
    /// Set if the batch carries the server's time.
    append_time: Option<Timestamp>,
    last_offset_delta: u32,
    expected: u32,
    index: u32,
    /// The smallest offset delta that the next record may have.
    delta_min: u32,
    failed: bool,
}

/// A place in a walk over records, without the borrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsCursor {
    /// Bytes of the payload after it.
    left: usize,
    index: u32,
    delta_min: u32,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        let append_time = header.attributes.is_log_append_time().then_some(header.max_timestamp);
        Self {
            rest: payload,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
            last_offset_delta: header.last_offset_delta,
            expected: header.record_count,
            index: 0,
            delta_min: 0,
            failed: false,
        }
    }

    /// Walks to the end for the checks alone.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(self) -> Result<(), BatchError> {
        for record in self {
            record?;
        }
        Ok(())
    }

    /// The place before the next record, for [`resume`](Self::resume).
    #[must_use]
    pub const fn cursor(&self) -> RecordsCursor {
        RecordsCursor {
            left: self.rest.len(),
            index: self.index,
            delta_min: self.delta_min,
            failed: self.failed,
        }
    }

    /// Goes on at a place in the same payload; a place that it does not have ends the walk.
    #[must_use]
    pub fn resume(mut self, cursor: RecordsCursor) -> Self {
        let skip = self.rest.len().checked_sub(cursor.left);
        let rest = skip.and_then(|skip| self.rest.get(skip..));
        self.failed = cursor.failed || rest.is_none();
        self.rest = rest.unwrap_or_default();
        self.index = cursor.index;
        self.delta_min = cursor.delta_min;
        self
    }

    fn step(&mut self) -> Result<RecordView<'a>, BatchError> {
        let index = self.index;
        let bad = |part| BatchError::BadRecord { index, part };
        let length = varint::take_i32(&mut self.rest).ok_or(bad("length"))?;
        let length = usize::try_from(length).map_err(|_| bad("length"))?;
        let (mut body, rest) = self.rest.split_at_checked(length).ok_or(bad("length"))?;
        self.rest = rest;

        let (_attributes, after) = body.split_first().ok_or(bad("attributes"))?;
        body = after;
        let timestamp = varint::take(&mut body).ok_or(bad("timestamp delta"))?;
        let timestamp =
            self.base_timestamp.as_millis().checked_add(timestamp).ok_or(bad("timestamp delta"))?;
        let delta = varint::take_i32(&mut body).ok_or(bad("offset delta"))?;
        let delta = u32::try_from(delta).map_err(|_| bad("offset delta"))?;
        if delta < self.delta_min || delta > self.last_offset_delta {
            return Err(bad("offset delta"));
        }
        let key = take_nullable(&mut body).ok_or(bad("key"))?;
        let value = take_nullable(&mut body).ok_or(bad("value"))?;
        let headers = take_headers(body).ok_or(bad("headers"))?;
        self.delta_min = delta.saturating_add(1);
        self.index += 1;
        Ok(RecordView {
            offset: self.base_offset.saturating_add(u64::from(delta)),
            timestamp: self.append_time.unwrap_or(Timestamp::from_millis(timestamp)),
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.index < self.expected && !self.rest.is_empty() {
            self.step()
        } else if self.index == self.expected && self.rest.is_empty() {
            return None;
        } else {
            Err(BatchError::RecordCount { expected: self.expected })
        };
        self.failed = item.is_err();
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.failed {
            return (0, Some(0));
        }
        // What the header says counts only as far as the bytes can hold it; one more for an error.
        let left = usize::try_from(self.expected.saturating_sub(self.index)).unwrap_or(usize::MAX);
        (0, Some(left.min(self.rest.len() / RECORD_BYTES_MIN).saturating_add(1)))
    }
}

/// A length, -1 for null, and as many bytes.
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint::take_i32(bytes)? {
        -1 => Some(None),
        length => {
            let (field, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(Some(field))
        }
    }
}

/// One header off the front.
fn take_header<'a>(bytes: &mut &'a [u8]) -> Option<HeaderRef<'a>> {
    let key = take_nullable(bytes)??;
    Some(HeaderRef { key, value: take_nullable(bytes)? })
}

/// The headers that fill the rest of a record exactly.
fn take_headers(mut bytes: &[u8]) -> Option<Headers<'_>> {
    let left = u32::try_from(varint::take_i32(&mut bytes)?).ok()?;
    let headers = Headers { rest: bytes, left };
    for _ in 0..left {
        take_header(&mut bytes)?;
    }
    bytes.is_empty().then_some(headers)
}
