//! Between log frames and Raft entries: the kinds of frame that this crate writes.
//!
//! | kind                  | payload                                   | records |
//! |-----------------------|-------------------------------------------|---------|
//! | data                  | record batches, back to back              | ≥ 1     |
//! | internal, `BLANK`     | empty: a new leader's first entry         | 0       |
//! | internal, `MEMBERSHIP`| `duramen.internal.v1.Membership`          | 0       |
//! | internal, `COMMAND`   | a command of the group's state machine    | 0       |
//! | internal, `LOG_START` | log index below which all may go, u64 LE  | 0       |
//! | internal, `REJECTED`  | empty: a proposal whose batches did not   | 0       |
//! |                       | continue their producers' sequences       |         |

use duramen_log::{Frame, FrameKind};
use duramen_types::LogIndex;

use crate::types::{Entry, LogPayload, Proposal, ProposalKind, log_id};
use crate::wire::{self, WireError};

pub(crate) const BLANK: u8 = 0;
pub(crate) const MEMBERSHIP: u8 = 1;
pub(crate) const COMMAND: u8 = 2;
pub(crate) const LOG_START: u8 = 3;
pub(crate) const REJECTED: u8 = 4;

/// A frame kind between nodes: 0 is data, others are internal kinds plus one.
pub(crate) fn kind_to_wire(kind: FrameKind) -> u32 {
    match kind {
        FrameKind::Data => 0,
        FrameKind::Internal(kind) => u32::from(kind) + 1,
    }
}

/// See [`kind_to_wire`].
pub(crate) fn kind_from_wire(kind: u32) -> Option<FrameKind> {
    match kind.checked_sub(1) {
        None => Some(FrameKind::Data),
        Some(kind) => u8::try_from(kind).ok().map(FrameKind::Internal),
    }
}

/// The frame kind of a proposal.
pub(crate) fn kind_of(proposal: &Proposal) -> FrameKind {
    match proposal.kind {
        ProposalKind::Batches => FrameKind::Data,
        ProposalKind::Command => FrameKind::Internal(COMMAND),
        ProposalKind::LogStart(_) => FrameKind::Internal(LOG_START),
    }
}

/// Whether apply needs the payload of a frame, and not its header alone.
pub(crate) fn apply_needs_payload(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Internal(MEMBERSHIP | COMMAND | LOG_START))
}

/// Makes the entry of a frame.
pub(crate) fn from_frame(frame: Frame) -> Result<Entry, WireError> {
    let payload = match frame.header.kind {
        FrameKind::Internal(BLANK) => LogPayload::Blank,
        FrameKind::Internal(MEMBERSHIP) => {
            LogPayload::Membership(wire::decode_membership(&frame.payload)?)
        }
        FrameKind::Data | FrameKind::Internal(COMMAND | LOG_START | REJECTED) => LogPayload::Stored,
        FrameKind::Internal(_) => return Err(WireError::Invalid { part: "frame kind" }),
    };
    let id = log_id(frame.header.term, frame.header.index);
    Ok(Entry { log_id: id, payload, frame: Some(frame) })
}

/// The payload of a `LOG_START` frame.
pub(crate) fn encode_log_start(index: LogIndex) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&index.get().to_le_bytes())
}

/// Reads the payload of a `LOG_START` frame.
pub(crate) fn decode_log_start(payload: &[u8]) -> Option<LogIndex> {
    payload.try_into().ok().map(|bytes| LogIndex::new(u64::from_le_bytes(bytes)))
}
