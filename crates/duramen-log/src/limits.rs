//! Sizes and defaults of the log, each with its reason.

use std::time::Duration;

/// The canonical header of a frame, the same on every replica.
pub const CANONICAL_HEADER_BYTES: usize = 72;

/// What a frame adds to its payload, padding apart: local envelope and canonical header.
pub const FRAME_OVERHEAD_BYTES: usize = 120;

/// The largest opaque state in a log start; it is rewritten as a whole with every trim.
pub const STATE_BYTES_MAX: usize = 16 << 20;

/// The largest payload: far above any batch, far below what a 32-bit length can say.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// Big enough to amortize files, small enough that a crashed node rescans it in a blink.
pub(crate) const SEGMENT_BYTES: u64 = 256 << 20;

/// A week, as Kafka's `segment.ms`: bounds how long retention by time must wait for a roll.
pub(crate) const SEGMENT_MS: u64 = 7 * 24 * 3600 * 1000;

/// Holds what replication in flight needs; a follower further back reads the disk.
pub(crate) const TAIL_CACHE_BYTES: u64 = 8 << 20;

/// The most that may be appended and not yet synced: recovery takes more for corruption.
pub(crate) const INFLIGHT_BYTES_MAX: u64 = 64 << 20;

/// The first extent of a segment: small, for most partitions are idle.
pub(crate) const EXTENT_BYTES_MIN: u64 = 1 << 20;

/// The last extents of a segment: large, so that allocation costs nothing.
pub(crate) const EXTENT_BYTES_MAX: u64 = 64 << 20;

/// How far apart sparse index entries lie at least: one page of headers to walk.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 4096;

/// What goes to the disk in one write: more gains nothing, and each thread that writes keeps so much.
pub(crate) const WRITE_BYTES: usize = 1 << 20;

/// How far ahead of small direct writes zeros are written: for some dozens of them.
pub(crate) const COVER_BYTES: usize = 256 << 10;

/// A payload from this size on is written from where it is, unless writes are direct; below, a copy
/// is cheaper than a call.
pub(crate) const DIRECT_PAYLOAD_BYTES: usize = 32 << 10;

/// What one `pread` fetches when only headers are wanted.
pub(crate) const HEADER_CHUNK_BYTES: usize = 16 << 10;

/// The most that one `pread` fetches ahead of what is known to be wanted: a batch of a megabyte and
/// the headers around it.
pub(crate) const READ_CHUNK_BYTES_MAX: usize = 17 << 16;

/// What recovery reads at once.
pub(crate) const SCAN_CHUNK_BYTES: usize = 1 << 20;

/// What a disk writes at once or not at all, at the least: a logical sector.
pub(crate) const ATOMIC_BYTES: usize = 512;

/// The unit in which an unreadable range is narrowed down.
pub(crate) const SECTOR_BYTES: usize = 4096;

/// What of a mapped segment is fetched ahead of a reader: the kernel's own read-ahead for mappings
/// is 128 KiB, and waits for each.
pub(crate) const AHEAD_BYTES: u64 = 8 << 20;

/// How long a mapped payload that was found sound is served without another check.
pub(crate) const CHECK_AGE_MAX: Duration = Duration::from_secs(60);

/// Parts of a mapped segment of which it is known that they are sound; readers that jump about make
/// many.
pub(crate) const CHECKED_RANGES_MAX: usize = 64;

/// How often: in the middle of what was fetched before.
pub(crate) const AHEAD_STEP_BYTES: u64 = AHEAD_BYTES / 2;
