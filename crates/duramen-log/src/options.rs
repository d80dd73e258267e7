//! What a log is told when it is made or opened: whose it is and how it behaves.

use duramen_types::{ClusterId, ReplicaId};

use crate::limits;

/// Whose log this is. Both are written at creation and compared at every open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The incarnation of the replica; a rebuilt replica has another.
    pub replica: ReplicaId,
}

/// How a log behaves. Nothing here changes what is on disk already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The active segment is sealed before a frame that would make it longer than this many
    /// bytes. A frame that is larger gets a segment of its own.
    pub segment_bytes: u64,
    /// The active segment is sealed before a frame whose append time is this many milliseconds
    /// or more after that of the segment's first frame.
    pub segment_ms: u64,
    /// How many bytes of the latest frames are kept in memory.
    pub tail_cache_bytes: u64,
    /// The most bytes that may be appended and not yet synced. An append that would pass it syncs
    /// first, on its own thread. Recovery takes a longer bad tail for corruption, so lower it only
    /// while the log is cleanly closed.
    pub inflight_bytes_max: u64,
    /// The first extent that is allocated for a segment, in bytes; each following one is twice as
    /// large.
    pub extent_bytes_min: u64,
    /// The largest extent, in bytes.
    pub extent_bytes_max: u64,
    /// The least distance between sparse index entries, in bytes.
    pub index_interval_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            segment_ms: limits::SEGMENT_MS,
            tail_cache_bytes: limits::TAIL_CACHE_BYTES,
            inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
            extent_bytes_min: limits::EXTENT_BYTES_MIN,
            extent_bytes_max: limits::EXTENT_BYTES_MAX,
            index_interval_bytes: limits::INDEX_INTERVAL_BYTES,
        }
    }
}
