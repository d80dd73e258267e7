//! The bytes of a batch header: the only place that knows where a field lies.
//!
//! All numbers are big-endian. The CRC-32C covers everything from the attributes to the end, so a
//! server writes the base offset and the leader epoch without touching it.
//!
//! ```text
//!   0                8              12             16     17        21
//!   +----------------+--------------+--------------+------+---------+
//!   | base offset    | length       | leader epoch | magic| crc-32c |
//!   | i64, server    | i32, of rest | i32, server  | i8=2 | u32     |
//!   +----------------+--------------+--------------+------+---------+
//!  21           23               27               35              43
//!   +------------+----------------+----------------+---------------+
//!   | attributes | last offset    | base timestamp | max timestamp |
//!   | i16        | delta i32      | i64 ms         | i64 ms        |
//!   +------------+----------------+----------------+---------------+
//!  43             51               53              57             61
//!   +-------------+----------------+---------------+--------------+--- …
//!   | producer id | producer epoch | base sequence | record count | payload
//!   | i64, -1 = – | i16            | i32           | i32          |
//!   +-------------+----------------+---------------+--------------+--- …
//! ```

use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Term, Timestamp};

use crate::limits::{BATCH_BYTES_MAX, HEADER_BYTES, UNCOUNTED_BYTES};
use crate::{BatchError, BuildError, Compression};

/// The one version of the format.
const MAGIC: i8 = 2;
/// Where the bytes begin that the checksum covers.
const CHECKED_FROM: usize = 21;
/// Leader epoch of a batch that no leader has stamped.
const NO_LEADER_EPOCH: i32 = -1;

const CODEC_MASK: u16 = 0b0000_0111;
const LOG_APPEND_TIME: u16 = 1 << 3;
const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;
const KNOWN_BITS: u16 = CODEC_MASK | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON;

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u16);

impl Attributes {
    /// Attributes of an ordinary batch with this compression.
    #[must_use]
    pub const fn new(compression: Compression) -> Self {
        Self(compression.code() as u16)
    }

    /// The bits as they are stored.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// How the payload is compressed.
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCompression`] for a codec that does not exist.
    pub const fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_code((self.0 & CODEC_MASK) as u8)
    }

    /// Whether all records carry the server's time, which is then the max timestamp.
    #[must_use]
    pub const fn is_log_append_time(self) -> bool {
        self.0 & LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the batch is a transaction marker.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is the time from which tombstones may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// Whether bits are set that have no meaning.
    #[must_use]
    pub const fn has_unknown_bits(self) -> bool {
        self.0 & !KNOWN_BITS != 0
    }
}

/// The idempotence triple of a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record; the others follow one by one.
    pub base_sequence: Sequence,
}

/// The header of a batch, every field in its own type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 until a server stamps it.
    pub base_offset: Offset,
    /// Bytes of the whole batch, header included.
    pub size_bytes: usize,
    /// Epoch of the leader that appended the batch, once one has.
    pub leader_epoch: Option<Term>,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus the base offset; compaction leaves it as it was.
    pub last_offset_delta: u32,
    /// Timestamp that the records' deltas add to.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of a record.
    pub max_timestamp: Timestamp,
    /// The idempotence triple, if the producer is idempotent.
    pub producer: Option<ProducerStamp>,
    /// Number of records.
    pub record_count: u32,
}

impl BatchHeader {
    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(self.last_offset_delta as u64)
    }

    /// One past the offset of the last record.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// Parses a header and checks that `bytes` hold the whole batch; the checksum is not looked at.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], `BadLength`, `UnsupportedMagic` or `BadField`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let size_bytes = batch_size(bytes)?;
        let mut fields = Fields { rest: bytes };
        let base_offset = fields.i64()?;
        let base_offset = u64::try_from(base_offset)
            .map_err(|_| BatchError::BadField { field: "base offset", value: base_offset })?;
        let _length = fields.i32()?;
        let leader_epoch = fields.i32()?;
        let magic = fields.i8()?;
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        Ok(Self {
            base_offset: Offset::new(base_offset),
            size_bytes,
            leader_epoch: u64::try_from(leader_epoch).ok().map(Term::new),
            crc: fields.u32()?,
            attributes: Attributes(fields.u16()?),
            last_offset_delta: fields.count("last offset delta")?,
            base_timestamp: Timestamp::from_millis(fields.i64()?),
            max_timestamp: Timestamp::from_millis(fields.i64()?),
            producer: fields.producer()?,
            record_count: fields.count("record count")?,
        })
    }

    /// Writes a finished header into the first bytes of `batch` and the checksum over the rest.
    pub(crate) fn write(&self, batch: &mut [u8]) -> Result<(), BuildError> {
        let bytes = batch.len();
        let too_large = BuildError::TooLarge { bytes };
        if bytes > BATCH_BYTES_MAX {
            return Err(too_large);
        }
        let length = i32::try_from(bytes.saturating_sub(UNCOUNTED_BYTES))
            .map_err(|_| BuildError::TooLarge { bytes })?;
        let (id, epoch, sequence) = producer_fields(self.producer)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&self.base_offset.get().to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&NO_LEADER_EPOCH.to_be_bytes());
        header.extend_from_slice(&MAGIC.to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&self.attributes.bits().to_be_bytes());
        header.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        header.extend_from_slice(&self.base_timestamp.as_millis().to_be_bytes());
        header.extend_from_slice(&self.max_timestamp.as_millis().to_be_bytes());
        header.extend_from_slice(&id.to_be_bytes());
        header.extend_from_slice(&epoch.to_be_bytes());
        header.extend_from_slice(&sequence.to_be_bytes());
        header.extend_from_slice(&self.record_count.to_be_bytes());
        let Some((place, _payload)) = batch.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(too_large);
        };
        place.copy_from_slice(&header);
        let crc = checksum(batch);
        if let Some(place) = batch.get_mut(CHECKED_FROM - 4..CHECKED_FROM) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        Ok(())
    }
}

/// Bytes of the batch at the front of `bytes`, which must all be there.
fn batch_size(bytes: &[u8]) -> Result<usize, BatchError> {
    let available = bytes.len();
    let (_offset, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or(BatchError::Truncated { needed: HEADER_BYTES, available })?;
    let (length, _) = rest
        .split_first_chunk::<4>()
        .ok_or(BatchError::Truncated { needed: HEADER_BYTES, available })?;
    let length = i32::from_be_bytes(*length);
    let needed = usize::try_from(length)
        .ok()
        .map(|length| length.saturating_add(UNCOUNTED_BYTES))
        .filter(|size| *size >= HEADER_BYTES)
        .ok_or(BatchError::BadLength { length })?;
    if needed > available {
        return Err(BatchError::Truncated { needed, available });
    }
    Ok(needed)
}

/// CRC-32C of the checked part of a batch.
pub(crate) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(CHECKED_FROM..).unwrap_or_default())
}

/// Writes the two fields that a server owns; the checksum stays valid.
///
/// # Errors
/// [`BatchError::OffsetRange`] or `LeaderEpochRange` if a number does not fit its signed field,
/// [`BatchError::Truncated`] if `batch` is not even a header; nothing is written then.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: Term) -> Result<(), BatchError> {
    let offset = i64::try_from(base_offset.get())
        .map_err(|_| BatchError::OffsetRange { offset: base_offset })?;
    let epoch = i32::try_from(leader_epoch.get())
        .map_err(|_| BatchError::LeaderEpochRange { epoch: leader_epoch })?;
    let available = batch.len();
    let Some((header, _)) = batch.split_first_chunk_mut::<HEADER_BYTES>() else {
        return Err(BatchError::Truncated { needed: HEADER_BYTES, available });
    };
    header[0..8].copy_from_slice(&offset.to_be_bytes());
    header[12..16].copy_from_slice(&epoch.to_be_bytes());
    Ok(())
}

/// Gives a whole batch another idempotence triple and the checksum that goes with it: only for its
/// producer, and only while the batch cannot have been appended under the old one.
///
/// # Errors
/// [`BuildError::ProducerRange`] for a stamp beyond the signed fields, [`BuildError::Empty`] if
/// `batch` is not even a header; nothing is written then.
pub fn restamp_producer(batch: &mut [u8], producer: ProducerStamp) -> Result<(), BuildError> {
    let (id, epoch, sequence) = producer_fields(Some(producer))?;
    let Some((header, _)) = batch.split_first_chunk_mut::<HEADER_BYTES>() else {
        return Err(BuildError::Empty);
    };
    header[43..51].copy_from_slice(&id.to_be_bytes());
    header[51..53].copy_from_slice(&epoch.to_be_bytes());
    header[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = checksum(batch);
    if let Some(place) = batch.get_mut(CHECKED_FROM - 4..CHECKED_FROM) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    Ok(())
}

/// The signed producer fields; -1 each for none.
fn producer_fields(producer: Option<ProducerStamp>) -> Result<(i64, i16, i32), BuildError> {
    let Some(stamp) = producer else { return Ok((-1, -1, -1)) };
    let range = |field, value| BuildError::ProducerRange { field, value };
    let id = i64::try_from(stamp.id.get()).map_err(|_| range("id", stamp.id.get()))?;
    let epoch = i16::try_from(stamp.epoch.get())
        .map_err(|_| range("epoch", u64::from(stamp.epoch.get())))?;
    let sequence = i32::try_from(stamp.base_sequence.get())
        .map_err(|_| range("sequence", u64::from(stamp.base_sequence.get())))?;
    Ok((id, epoch, sequence))
}

/// Reads fields off the front of a header.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let available = self.rest.len();
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(BatchError::Truncated { needed: N, available })?;
        self.rest = rest;
        Ok(*field)
    }

    fn i8(&mut self) -> Result<i8, BatchError> {
        self.take().map(i8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, BatchError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BatchError> {
        self.take().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, BatchError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, BatchError> {
        self.take().map(i64::from_be_bytes)
    }

    /// A signed 32-bit number that cannot be negative.
    fn count(&mut self, field: &'static str) -> Result<u32, BatchError> {
        let value = self.i32()?;
        u32::try_from(value).map_err(|_| BatchError::BadField { field, value: value.into() })
    }

    /// The idempotence triple: all of it, or an id of -1.
    fn producer(&mut self) -> Result<Option<ProducerStamp>, BatchError> {
        let id = self.i64()?;
        let epoch = i16::from_be_bytes(self.take()?);
        let sequence = self.i32()?;
        let Ok(id) = u64::try_from(id) else { return Ok(None) };
        let epoch = u16::try_from(epoch)
            .map_err(|_| BatchError::BadField { field: "producer epoch", value: epoch.into() })?;
        let base_sequence = u32::try_from(sequence)
            .map_err(|_| BatchError::BadField { field: "base sequence", value: sequence.into() })?;
        Ok(Some(ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(base_sequence),
        }))
    }
}
