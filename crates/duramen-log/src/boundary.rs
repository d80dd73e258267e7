//! What the log before a point amounts to: all that the next frame must continue.

use bytes::Bytes;
use duramen_types::{LogIndex, Offset, Term, Timestamp};

use crate::error::FrameFault;
use crate::format::frame::chain_after;
use crate::frame::{FrameHeader, FrameKind, NewFrame};

/// The sum of all frames before a log index.
///
/// Invariant: two replicas with equal boundaries have equal histories, up to a collision of the
/// 64-bit chain hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The index of the next frame.
    pub(crate) index: LogIndex,
    /// The base offset of the next frame.
    pub(crate) offset: Offset,
    /// The term of the frame before, if there is one.
    pub(crate) term: Option<Term>,
    /// The chain hash of the frame before; 0 at the origin.
    pub(crate) chain: u64,
    /// The append time of the frame before.
    pub(crate) append_time: Timestamp,
}

impl Boundary {
    /// The boundary before the first frame of all.
    pub(crate) const ORIGIN: Self = Self {
        index: LogIndex::ZERO,
        offset: Offset::ZERO,
        term: None,
        chain: 0,
        append_time: Timestamp::MIN,
    };

    /// The boundary after a frame, taken from its header on trust.
    pub(crate) fn after(header: &FrameHeader) -> Self {
        Self {
            index: header.index.saturating_add(1),
            offset: header.end_offset(),
            term: Some(header.term),
            chain: header.chain,
            append_time: header.append_time,
        }
    }

    /// The header of a new frame at this boundary.
    pub(crate) fn stamp(&self, new: &NewFrame, payload_crc: u32) -> FrameHeader {
        let mut header = FrameHeader {
            kind: new.kind,
            term: new.term,
            leader: new.leader,
            index: new.index,
            base_offset: self.offset,
            records: new.records,
            append_time: new.append_time.max(self.append_time),
            max_timestamp: new.max_timestamp,
            payload_len: payload_len(&new.payload),
            payload_crc,
            chain: 0,
        };
        header.chain = chain_after(self.chain, &header);
        header
    }

    /// Checks that a frame continues the log here, and answers the boundary after it.
    pub(crate) fn follow(&self, header: &FrameHeader) -> Result<Self, FrameFault> {
        if header.index != self.index {
            return Err(FrameFault::Index { found: header.index, expected: self.index });
        }
        if header.base_offset != self.offset
            || header.base_offset.checked_add(u64::from(header.records)).is_none()
        {
            return Err(FrameFault::Offset { found: header.base_offset, expected: self.offset });
        }
        self.check_order(header)?;
        if header.chain != chain_after(self.chain, header) {
            return Err(FrameFault::Chain);
        }
        Ok(Self::after(header))
    }

    /// Checks what even a new frame may not do: go back in term or time, count internal records.
    pub(crate) fn check_order(&self, header: &FrameHeader) -> Result<(), FrameFault> {
        if self.term.is_some_and(|term| header.term < term) {
            return Err(FrameFault::Term { found: header.term });
        }
        if header.append_time < self.append_time {
            return Err(FrameFault::AppendTime);
        }
        if header.kind != FrameKind::Data && header.records != 0 {
            return Err(FrameFault::InternalRecords);
        }
        Ok(())
    }
}

/// The length as the header holds it; the caller has checked the limit.
fn payload_len(payload: &Bytes) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}
