//! A batch with its final bytes, on its way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use duramen_proto::v1;
use duramen_record::{ProducerStamp, restamp_producer};
use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Term, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::accumulator::Open;
use super::delivery::{BatchAck, Completer};
use crate::ClientError;

/// Room taken in the producer's bound for a record that is in no batch yet; given back when dropped.
pub(super) struct Taken<'a> {
    room: &'a Arc<Semaphore>,
    bytes: usize,
}

impl<'a> Taken<'a> {
    /// Waits for room.
    pub(super) async fn take(room: &'a Arc<Semaphore>, bytes: usize) -> Self {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match room.acquire_many(permits).await {
            Ok(permit) => {
                permit.forget();
                Self { room, bytes }
            }
            // It is never closed; without room there is nothing to give back.
            Err(_) => Self { room, bytes: 0 },
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.add_permits(self.bytes);
        }
    }
}

/// Room taken in the producer's bound for the records of a batch; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Permits {
    room: Option<Arc<Semaphore>>,
    bytes: usize,
}

impl Permits {
    /// Takes over a record's.
    pub(super) fn absorb(&mut self, mut taken: Taken<'_>) {
        self.bytes += std::mem::take(&mut taken.bytes);
        if self.room.is_none() {
            self.room = Some(Arc::clone(taken.room));
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.add_permits(self.bytes);
        }
    }
}

/// A batch with its final bytes.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) records: u32,
    /// The triple in the bytes; `None` if not idempotent.
    pub(super) stamp: Option<ProducerStamp>,
    /// Whether some attempt may have stored it under this stamp.
    pub(super) maybe_stored: bool,
    /// The request that it was sent in; `None` if it was not. A server knows a request that it has
    /// stored by where that begins and ends: sent again, nothing may be added to it.
    pub(super) request: Option<u64>,
    /// Whether it has a request for itself.
    pub(super) alone: bool,
    /// When it is given up.
    pub(super) expires: Instant,
    completer: Completer,
    _permits: Permits,
}

impl Sealed {
    /// Compresses and stamps a batch; a batch that cannot be built fails its records.
    pub(super) fn seal(open: Open, stamp: Option<ProducerStamp>, expires: Instant) -> Option<Self> {
        let records = open.builder.record_count();
        match open.builder.finish(stamp) {
            Ok(bytes) => Some(Self {
                bytes,
                records,
                stamp,
                maybe_stored: false,
                request: None,
                alone: false,
                expires,
                completer: open.completer,
                _permits: open.permits,
            }),
            Err(error) => {
                open.completer.complete(Err(error.into()));
                None
            }
        }
    }

    /// Gives the batch another place in the sequence, or another producer. Only sound if it cannot
    /// be stored under the old one.
    pub(super) fn restamp(
        &mut self,
        identity: (ProducerId, ProducerEpoch),
        base_sequence: Sequence,
    ) -> Result<(), ClientError> {
        let stamp = ProducerStamp { id: identity.0, epoch: identity.1, base_sequence };
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        let mut bytes = BytesMut::from(std::mem::take(&mut self.bytes));
        restamp_producer(&mut bytes, stamp)?;
        self.bytes = bytes.freeze();
        self.stamp = Some(stamp);
        self.maybe_stored = false;
        Ok(())
    }

    /// Whether it may be in the same request as another one, before it.
    pub(super) fn may_follow(&self, first: &Self) -> bool {
        self.request == first.request && !self.alone && !first.alone
    }

    /// The sequence after this batch's last record.
    pub(super) fn next_sequence(&self) -> Option<Sequence> {
        self.stamp.map(|stamp| stamp.base_sequence.advance(self.records))
    }

    /// The records are stored, behind so many others of the same request.
    pub(super) fn succeed(self, ack: &v1::ProduceAck, records_before: u64) {
        self.completer.complete(Ok(BatchAck {
            base_offset: Offset::new(ack.base_offset).saturating_add(records_before),
            append_time: Timestamp::from_millis(ack.append_time),
            leader_epoch: Term::new(ack.leader_epoch),
        }));
    }

    /// The producer has come to an end: the records are not stored, or nobody knows.
    pub(super) fn fail_with(self, end: &ClientError) {
        let error = if self.maybe_stored {
            let source = Some(Arc::new(end.clone()));
            ClientError::UnknownOutcome { what: "deliver", source }
        } else {
            end.clone()
        };
        self.fail(error);
    }

    /// The records are not stored, or nobody knows: the error says which.
    pub(super) fn fail(self, error: ClientError) {
        self.completer.complete(Err(error));
    }
}
