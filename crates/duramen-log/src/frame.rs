//! Frames: one entry of the log, its canonical header and its payload.

use bytes::Bytes;
use duramen_types::{LogIndex, NodeId, Offset, Term, Timestamp};

use crate::error::FrameFault;
use crate::format;
use crate::limits::CANONICAL_HEADER_BYTES;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Records for clients; the payload is one or more record batches.
    Data,
    /// An entry of the consensus layer; the number tells its kinds apart and means nothing here.
    /// It counts no records.
    Internal(u8),
}

/// A frame as a leader appends it; the log stamps the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFrame {
    /// What it holds.
    pub kind: FrameKind,
    /// The leader's term; never below that of the frame before.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
    /// The log index: exactly the log's end index, then one more each.
    pub index: LogIndex,
    /// How many records the payload holds; 0 for an internal frame.
    pub records: u32,
    /// The leader's clock. The log raises it to that of the frame before if it is earlier.
    pub append_time: Timestamp,
    /// The largest record timestamp; [`Timestamp::MIN`] if there is none.
    pub max_timestamp: Timestamp,
    /// The payload, opaque to the log.
    pub payload: Bytes,
}

/// The canonical header: the same bytes on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame holds.
    pub kind: FrameKind,
    /// The term of the leader that made it.
    pub term: Term,
    /// The leader that made it.
    pub leader: NodeId,
    /// The log index.
    pub index: LogIndex,
    /// The offset of its first record: the number of records before it.
    pub base_offset: Offset,
    /// How many records it holds.
    pub records: u32,
    /// When the leader appended it, by its clock; never earlier than the frame before.
    pub append_time: Timestamp,
    /// The largest record timestamp; [`Timestamp::MIN`] if there is none.
    pub max_timestamp: Timestamp,
    /// Length of the payload in bytes.
    pub payload_len: u32,
    /// CRC-32 (IEEE) of the payload.
    pub payload_crc: u32,
    /// xxh3-64 of the previous chain hash and of this header up to this field: two replicas with
    /// the same (index, chain) have the same history.
    pub chain: u64,
}

impl FrameHeader {
    /// The canonical bytes, little-endian.
    #[must_use]
    pub fn encode(&self) -> [u8; CANONICAL_HEADER_BYTES] {
        format::frame::encode_canonical(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`FrameFault`] for any other length than [`CANONICAL_HEADER_BYTES`] and for unknown kinds.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameFault> {
        let bytes = bytes.try_into().map_err(|_| FrameFault::Short)?;
        format::frame::decode_canonical(bytes)
    }

    /// One past the last record's offset.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.saturating_add(u64::from(self.records))
    }

    /// Whether it holds records for clients.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.kind == FrameKind::Data
    }

    /// What the frame takes in a segment, padding included, in bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        format::frame::frame_bytes(self.payload_len)
    }
}

/// A frame as it was read; the payload may be a slice of a mapped segment and keeps it alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The canonical header.
    pub header: FrameHeader,
    /// The payload; its checksum has been verified.
    pub payload: Bytes,
}

/// Either kind of frame that can be appended.
pub(crate) trait HasPayload {
    fn payload(&self) -> &Bytes;
}

impl HasPayload for NewFrame {
    fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl HasPayload for Frame {
    fn payload(&self) -> &Bytes {
        &self.payload
    }
}
