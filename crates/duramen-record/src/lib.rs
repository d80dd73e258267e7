//! Record batches, version 2 (Kafka's format): build, parse, validate, compress, checksum.
//!
//! The batch is the unit that a producer builds, a log stores as it came and a consumer checks
//! end to end. This crate does no I/O and has never heard of topics, Raft or a wire protocol.
//!
//! - [`BatchBuilder`] builds a batch; [`stamp`] writes the two fields that a server owns,
//!   [`restamp_producer`] those that tell one producer's batches apart.
//! - [`BatchView`] borrows one batch, [`Batch`] owns one; [`split_batches`] cuts several apart.
//! - [`Records`] walks the records of a batch, borrowing from its (decompressed) payload.
//! - [`partition_for_key`] is Kafka's default partitioner.
//!
//! Every decoder here is total: any bytes give a value or a typed error, never a panic, and no
//! memory is taken because a length field says so.

mod batch;
mod builder;
mod compression;
mod error;
mod format;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod limits;
mod partitioner;
mod records;
mod varint;

pub use batch::{Batch, BatchView, SplitBatches, split_batches};
pub use builder::{BatchBuilder, RecordRef, record_bytes};
pub use compression::{Compression, UnknownCompression};
pub use error::{BatchError, BuildError, ErrorKind};
pub use format::{Attributes, BatchHeader, ProducerStamp, restamp_producer, stamp};
pub use limits::{BATCH_BYTES_MAX, HEADER_BYTES, RECORDS_MAX};
pub use partitioner::{murmur2, partition_for_key};
pub use records::{HeaderRef, Headers, RecordView, Records, RecordsCursor};
