//! The small state that is a function of the appended log: who votes, and what producers sent.
//!
//! It is updated at append, rebuilt at truncate, and saved as a checkpoint at segment boundaries
//! and at shutdown, so that a restart reads at most about one segment to have it again.

use bytes::Bytes;
use duramen_log::{Frame, FrameHeader, FrameKind};
use duramen_proto::internal as pb;
use duramen_record::{BatchError, BatchHeader, split_batches};
use duramen_types::{LogIndex, Offset};
use prost::Message as _;

use crate::entry;
use crate::producers::{BatchId, Producers};
use crate::types::{LogId, StoredMembership, log_id};
use crate::wire::{self, WireError};

/// State as of the last entry taken into account.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tracker {
    pub(crate) membership: StoredMembership,
    pub(crate) producers: Producers,
}

/// Why an entry's payload could not be taken into account; the log checked its bytes, so this is
/// a defect of whoever wrote them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackError {
    #[error("could not read the batches of log index {index}")]
    Batch {
        index: LogIndex,
        #[source]
        source: BatchError,
    },
    #[error("could not read the membership of log index {index}")]
    Membership {
        index: LogIndex,
        #[source]
        source: WireError,
    },
    #[error("could not read the saved state of a replica")]
    State,
}

impl Tracker {
    /// Takes the next frame of the log into account.
    pub(crate) fn appended(&mut self, frame: &Frame) -> Result<(), TrackError> {
        let header = &frame.header;
        match header.kind {
            FrameKind::Data => self.batches(header, &frame.payload),
            FrameKind::Internal(entry::MEMBERSHIP) => {
                let index = header.index;
                let membership = wire::decode_membership(&frame.payload)
                    .map_err(|source| TrackError::Membership { index, source })?;
                let id = log_id(header.term, index);
                self.membership = StoredMembership::new(Some(id), membership);
                Ok(())
            }
            FrameKind::Internal(_) => Ok(()),
        }
    }

    fn batches(&mut self, header: &FrameHeader, payload: &Bytes) -> Result<(), TrackError> {
        let index = header.index;
        for run in runs(payload) {
            let (run, offset) = run.map_err(|source| TrackError::Batch { index, source })?;
            let base_offset = header.base_offset.saturating_add(offset);
            self.producers.appended(&run, base_offset, header.append_time);
        }
        Ok(())
    }

    /// Encodes the state.
    pub(crate) fn encode(&self) -> Bytes {
        let state = pb::ReplicaState {
            membership: Some(wire::membership_to_wire(&self.membership)),
            producers: self.producers.to_wire(),
        };
        state.encode_to_vec().into()
    }

    /// Reads an encoded state; the empty one is that of an empty log.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, TrackError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let state = pb::ReplicaState::decode(bytes).map_err(|_| TrackError::State)?;
        Self::from_wire(state)
    }

    fn from_wire(state: pb::ReplicaState) -> Result<Self, TrackError> {
        let membership = state.membership.unwrap_or_default();
        let membership = wire::membership_from_wire(membership).map_err(|_| TrackError::State)?;
        let producers = Producers::from_wire(state.producers).ok_or(TrackError::State)?;
        Ok(Self { membership, producers })
    }
}

/// The runs in an entry's batches: what one producer has in a row there, and the place of its first
/// record among all records of the entry.
pub(crate) fn runs(
    payload: &Bytes,
) -> impl Iterator<Item = Result<(BatchId, u64), BatchError>> + use<> {
    let mut batches = split_batches(payload.clone());
    let mut records = 0_u64;
    let mut open: Option<(BatchId, u64)> = None;
    std::iter::from_fn(move || {
        loop {
            let Some(batch) = batches.next() else { return open.take().map(Ok) };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            let header = batch.header();
            let place = records;
            records += u64::from(header.record_count);
            let next = batch_id(header).map(|id| (id, place));
            let is_taken_in = match (&mut open, &next) {
                (Some((run, _)), Some((next, _))) => run.extend(next),
                _ => false,
            };
            if !is_taken_in && let Some(run) = std::mem::replace(&mut open, next) {
                return Some(Ok(run));
            }
        }
    })
}

/// The idempotence triple of a batch, if it has one.
#[must_use]
pub fn batch_id(batch: &BatchHeader) -> Option<BatchId> {
    batch.producer.map(|producer| BatchId {
        producer: producer.id,
        epoch: producer.epoch,
        base_sequence: producer.base_sequence,
        records: batch.record_count,
    })
}

/// The tracker as of one entry, with what proves that the entry is the one in the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) log_id: LogId,
    pub(crate) chain: u64,
    pub(crate) end_offset: Offset,
    pub(crate) tracker: Tracker,
}

impl Checkpoint {
    /// The checkpoint as of a frame.
    pub(crate) fn at(header: &FrameHeader, tracker: Tracker) -> Self {
        Self {
            log_id: log_id(header.term, header.index),
            chain: header.chain,
            end_offset: header.end_offset(),
            tracker,
        }
    }

    pub(crate) const fn index(&self) -> LogIndex {
        LogIndex::new(self.log_id.index)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let checkpoint = pb::Checkpoint {
            log_id: Some(wire::log_id_to_wire(self.log_id)),
            chain: self.chain,
            end_offset: self.end_offset.get(),
            state: pb::ReplicaState::decode(self.tracker.encode()).ok(),
        };
        checkpoint.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let wire = pb::Checkpoint::decode(bytes).ok()?;
        Some(Self {
            log_id: wire::log_id_from_wire(wire.log_id?).ok()?,
            chain: wire.chain,
            end_offset: Offset::new(wire.end_offset),
            tracker: Tracker::from_wire(wire.state?).ok()?,
        })
    }
}
