//! Limits of the format.

/// Bytes of a batch header; the records follow.
pub const HEADER_BYTES: usize = 61;

/// Bytes of a batch that its length field does not count: the base offset and the length itself.
pub(crate) const UNCOUNTED_BYTES: usize = 12;

/// The largest batch that can be written: its length field is a signed 32-bit number.
pub const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// The most records of a batch: the count is a signed 32-bit number.
pub const RECORDS_MAX: u32 = i32::MAX as u32;

/// The fewest bytes of a record: length, attributes, two deltas, two lengths, header count.
pub(crate) const RECORD_BYTES_MIN: usize = 7;
