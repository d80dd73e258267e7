//! The bytes of one slot of the `meta` file, which has two.
//!
//! ```text
//!   0          8      12     16                32           40         48           56
//!   +----------+------+------+-----------------+------------+----------+------------+
//!   | DURLMETA | ver 1| flags| cluster id (16) | replica id | sequence | generation |
//!   +----------+------+------+-----------------+------------+----------+------------+
//!  56            64              72        80           4092   4096
//!   +-------------+---------------+---------+------------+------+
//!   | durable end | committed end | cut end | zeros      | CRC  |
//!   +-------------+---------------+---------+------------+------+
//! ```
//! Flag 1: the log was closed and ended at the durable end. Flag 2: a truncate to the cut end is
//! under way. The CRC is CRC-32 over 0..4092.

use duramen_types::{ClusterId, LogIndex, ReplicaId};

use super::{Input, Output};
use crate::options::LogIdentity;

/// Length of a slot: a block, so that a write to one cannot tear the other.
pub(crate) const SLOT_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"DURLMETA";
const VERSION: u32 = 1;
/// The largest sequence and generation that are taken: half of what there are.
const COUNTER_MAX: u64 = u64::MAX / 2;
const CLEAN: u32 = 1;
const CUTTING: u32 = 2;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MetaRecord {
    /// Whose log it is.
    pub(crate) identity: LogIdentity,
    /// The slot with the higher one counts.
    pub(crate) sequence: u64,
    /// Raised, durably, before a truncate overwrites anything.
    pub(crate) generation: u64,
    /// One past the highest index known to be synced, in this generation.
    pub(crate) durable_end: LogIndex,
    /// One past the highest index known to be committed.
    pub(crate) committed_end: LogIndex,
    /// The log was closed and ended at `durable_end`.
    pub(crate) clean: bool,
    /// A truncate is under way: nothing from this index on belongs to the log.
    pub(crate) cut_end: Option<LogIndex>,
}

/// Why a slot does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotFault {
    /// Torn, never written or damaged.
    Bad,
    /// A sound slot of a version that this program does not know.
    Version(u32),
}

pub(crate) fn encode(record: &MetaRecord) -> [u8; SLOT_BYTES] {
    let flags =
        if record.clean { CLEAN } else { 0 } | if record.cut_end.is_some() { CUTTING } else { 0 };
    let mut out = Output::<SLOT_BYTES>::new();
    out.put(MAGIC)
        .put(VERSION.to_le_bytes())
        .put(flags.to_le_bytes())
        .put(*record.identity.cluster.as_bytes())
        .put(record.identity.replica.get().to_le_bytes())
        .put(record.sequence.to_le_bytes())
        .put(record.generation.to_le_bytes())
        .put(record.durable_end.get().to_le_bytes())
        .put(record.committed_end.get().to_le_bytes())
        .put(record.cut_end.map_or(0, LogIndex::get).to_le_bytes());
    let mut slot = out.finish();
    if let Some((hashed, crc)) = slot.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(hashed).to_le_bytes();
    }
    slot
}

pub(crate) fn decode(slot: &[u8]) -> Result<MetaRecord, SlotFault> {
    let slot = slot.first_chunk::<SLOT_BYTES>().ok_or(SlotFault::Bad)?;
    let (hashed, crc) = slot.split_last_chunk::<4>().ok_or(SlotFault::Bad)?;
    if !hashed.starts_with(&MAGIC) || crc32fast::hash(hashed) != u32::from_le_bytes(*crc) {
        return Err(SlotFault::Bad);
    }
    read(Input(hashed)).unwrap_or(Err(SlotFault::Bad))
}

fn read(mut input: Input<'_>) -> Option<Result<MetaRecord, SlotFault>> {
    input.take::<8>()?;
    let version = input.u32()?;
    if version != VERSION {
        return Some(Err(SlotFault::Version(version)));
    }
    let flags = input.u32()?;
    let cluster = ClusterId::from_bytes(input.take()?);
    let replica = ReplicaId::new(input.u64()?);
    // No writer gets as far as the last ones, and the next one has to have a number.
    let counter = |count: u64| (count <= COUNTER_MAX).then_some(count);
    Some(Ok(MetaRecord {
        identity: LogIdentity { cluster, replica },
        sequence: counter(input.u64()?)?,
        generation: counter(input.u64()?)?,
        durable_end: LogIndex::new(input.u64()?),
        committed_end: LogIndex::new(input.u64()?),
        clean: flags & CLEAN != 0,
        cut_end: Some(LogIndex::new(input.u64()?)).filter(|_| flags & CUTTING != 0),
    }))
}
