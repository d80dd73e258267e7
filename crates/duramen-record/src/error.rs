//! What can be wrong with a batch, and with a record that is to go into one.

use duramen_types::{Offset, Term};
use thiserror::Error;

use crate::Compression;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are damaged: get them again, or repair them.
    Corrupt,
    /// The bytes are sound but break a rule: do not send them again.
    Invalid,
    /// Something is larger than allowed: send less at a time.
    TooLarge,
    /// A version or a compression that is not known here.
    Unsupported,
}

/// Why bytes are not an acceptable batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch is cut short: {needed} bytes needed, {available} there")]
    Truncated {
        /// Bytes that the batch needs, as far as known.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The length field is smaller than a header or negative.
    #[error("batch length {length} is impossible")]
    BadLength {
        /// The length field.
        length: i32,
    },
    /// Bytes follow where exactly one batch was expected.
    #[error("{trailing} bytes follow the batch")]
    TrailingBytes {
        /// How many.
        trailing: usize,
    },
    /// Another version of the format.
    #[error("batch format version {magic} is not supported, only 2 is")]
    UnsupportedMagic {
        /// The version byte.
        magic: i8,
    },
    /// The checksum does not match the bytes.
    #[error(
        "batch at offset {base_offset} fails its checksum: {stored:#010x} stored, {computed:#010x} computed"
    )]
    BadChecksum {
        /// Base offset of the batch.
        base_offset: Offset,
        /// CRC-32C in the header.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// A header field has a value that it cannot have.
    #[error("batch header field {field} cannot be {value}")]
    BadField {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A codec that does not exist.
    #[error("compression codec {codec} is not known")]
    UnsupportedCompression {
        /// Bits 0 to 2 of the attributes.
        codec: u8,
    },
    /// The payload does not decompress.
    #[error("could not decompress the {compression} payload")]
    Decompress {
        /// The codec.
        compression: Compression,
    },
    /// The payload decompresses to more than the caller allows.
    #[error("payload decompresses to more than {limit} bytes")]
    TooLargeDecompressed {
        /// The limit.
        limit: usize,
    },
    /// A record's bytes make no sense.
    #[error("record {index} is malformed at its {part}")]
    BadRecord {
        /// Which record of the batch, counted from 0.
        index: u32,
        /// The part of the record.
        part: &'static str,
    },
    /// The payload holds more or fewer records than the header says.
    #[error("batch says {expected} records but its payload differs")]
    RecordCount {
        /// The header's count.
        expected: u32,
    },
    /// A client sent a batch of a kind that only servers write, or no server here takes.
    #[error("{what} batches are not accepted from clients")]
    Forbidden {
        /// The kind of batch.
        what: &'static str,
    },
    /// A leader epoch beyond the 31 bits of its field.
    #[error("leader epoch {epoch} does not fit in a batch header")]
    LeaderEpochRange {
        /// The epoch.
        epoch: Term,
    },
    /// An offset beyond the 63 bits of its field.
    #[error("base offset {offset} does not fit in a batch header")]
    OffsetRange {
        /// The offset.
        offset: Offset,
    },
}

impl BatchError {
    /// What can be done about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated { .. }
            | Self::BadLength { .. }
            | Self::TrailingBytes { .. }
            | Self::BadChecksum { .. }
            | Self::Decompress { .. }
            | Self::BadRecord { .. }
            | Self::RecordCount { .. } => ErrorKind::Corrupt,
            Self::BadField { .. }
            | Self::Forbidden { .. }
            | Self::LeaderEpochRange { .. }
            | Self::OffsetRange { .. } => ErrorKind::Invalid,
            Self::TooLargeDecompressed { .. } => ErrorKind::TooLarge,
            Self::UnsupportedMagic { .. } | Self::UnsupportedCompression { .. } => {
                ErrorKind::Unsupported
            }
        }
    }
}

/// Why a record or batch cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The batch would pass the format's limit of 2 GiB.
    #[error("batch would have {bytes} bytes, more than the format allows")]
    TooLarge {
        /// Size of the batch with the record.
        bytes: usize,
    },
    /// The record's timestamp lies too far from the first record's to be written as a difference.
    #[error("timestamp {timestamp} ms is too far from the batch's first, {base} ms")]
    TimestampRange {
        /// The record's timestamp, in milliseconds.
        timestamp: i64,
        /// The first record's.
        base: i64,
    },
    /// A batch without records does not exist.
    #[error("batch has no records")]
    Empty,
    /// A producer stamp that does not fit the header's signed fields.
    #[error("producer {field} {value} does not fit in a batch header")]
    ProducerRange {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The codec failed; only possible when memory runs out.
    #[error("could not compress with {compression}")]
    Compress {
        /// The codec.
        compression: Compression,
    },
}

impl BuildError {
    /// What can be done about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::TimestampRange { .. }
            | Self::Empty
            | Self::ProducerRange { .. }
            | Self::Compress { .. } => ErrorKind::Invalid,
        }
    }
}
