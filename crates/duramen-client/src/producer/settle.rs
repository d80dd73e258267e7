//! What becomes of batches that failed: sent again, failed for good, renumbered. Pure.
//!
//! The rules, for the failed batches of one partition in their order, all others being answered:
//! - What may help again is sent again, with the same bytes and in the same order.
//! - A batch that fails for good and cannot be stored leaves a hole in the sequence: later batches,
//!   which the server must have refused for it, move up.
//! - A batch that fails for good and may be stored leaves the sequence unknown: the others go on
//!   under a new producer id, except those that may be stored themselves. They fail.
//! - A request of several batches that is refused for good was not stored: each is sent alone, and
//!   only what it was refused for fails.
//! - A refused sequence is no news behind another failure: it is the consequence. At the head, a
//!   producer that the server has forgotten begins anew if nothing of it can be stored twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use duramen_proto::v1::ErrorCode;
use duramen_types::{PartitionId, Sequence};

use super::sealed::Sealed;
use crate::ClientError;
use crate::cluster::PinnedTopic;
use crate::failure::Failure;

/// A batch and why it failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) batch: Sealed,
    pub(super) failure: Failure,
}

/// What the rules need to know.
pub(super) struct Terms<'a> {
    pub(super) topic: &'a PinnedTopic,
    pub(super) partition: PartitionId,
    pub(super) delivery_timeout: Duration,
    /// What went wrong before, for batches whose time is over.
    pub(super) last: Option<Arc<ClientError>>,
}

/// How to go on.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// To be sent again, in order.
    pub(super) retry: VecDeque<Sealed>,
    /// Whether a new producer id is needed first.
    pub(super) renew: bool,
    /// Where the sequence goes on, if it changed.
    pub(super) next_sequence: Option<Sequence>,
    /// Why the producer cannot go on at all.
    pub(super) dead: Option<ClientError>,
}

/// Applies the rules.
pub(super) fn settle(failed: Vec<Failed>, terms: &Terms<'_>) -> Settled {
    let mut settled = Settled::default();
    let mut explained = false;
    for Failed { mut batch, failure } in failed {
        batch.maybe_stored |= failure.maybe_done();
        if let Some(dead) = &settled.dead {
            batch.fail_with(dead);
            continue;
        }
        match verdict(&batch, &failure, explained) {
            Verdict::Again => settled.keep(batch),
            Verdict::Alone => {
                batch.alone = true;
                settled.keep(batch);
            }
            Verdict::Anew => {
                settled.renew = true;
                settled.keep(batch);
            }
            Verdict::Never => settled.discard(batch, failure, terms),
            Verdict::Dead => {
                let error = terms.topic.error(terms.partition, failure);
                batch.fail_with(&error);
                settled.dead = Some(error);
            }
        }
        explained = true;
    }
    settled.finish()
}

enum Verdict {
    /// Send it again.
    Again,
    /// Send it again, in a request of its own.
    Alone,
    /// Send it again under a new producer id.
    Anew,
    /// It has failed.
    Never,
    /// It has failed, and so will all others.
    Dead,
}

fn verdict(batch: &Sealed, failure: &Failure, explained: bool) -> Verdict {
    match failure.code() {
        Some(ErrorCode::UnknownProducer | ErrorCode::OutOfOrderSequence) if explained => {
            Verdict::Again
        }
        Some(ErrorCode::UnknownProducer) if !batch.maybe_stored => Verdict::Anew,
        Some(ErrorCode::ProducerFenced | ErrorCode::UnknownTopicId) => Verdict::Dead,
        Some(_) if !failure.is_transient() && !batch.alone => Verdict::Alone,
        _ if !failure.is_transient() => Verdict::Never,
        // Without a stamp a second attempt could store it twice.
        _ if batch.maybe_stored && batch.stamp.is_none() => Verdict::Never,
        _ => Verdict::Again,
    }
}

impl Settled {
    fn keep(&mut self, mut batch: Sealed) {
        let moved = match (self.next_sequence, batch.stamp) {
            (Some(next), Some(stamp)) if !self.renew => {
                batch.restamp((stamp.id, stamp.epoch), next)
            }
            _ => Ok(()),
        };
        if let Err(error) = moved {
            batch.fail(error);
            return;
        }
        if self.next_sequence.is_some() {
            self.next_sequence = batch.next_sequence();
        }
        self.retry.push_back(batch);
    }

    fn discard(&mut self, batch: Sealed, failure: Failure, terms: &Terms<'_>) {
        let maybe_stored = batch.maybe_stored;
        let sequence_refused = matches!(
            failure.code(),
            Some(ErrorCode::UnknownProducer | ErrorCode::OutOfOrderSequence)
        );
        if let Some(stamp) = batch.stamp {
            // A refused sequence at the head says that ours and the server's differ.
            self.renew |= maybe_stored || sequence_refused;
            self.next_sequence = self.next_sequence.or(Some(stamp.base_sequence));
        }
        let error = match failure {
            Failure::Expired => ClientError::Timeout {
                what: "deliver",
                after: terms.delivery_timeout,
                maybe_done: maybe_stored,
                last: terms.last.clone(),
            },
            Failure::Refused(error) if sequence_refused && maybe_stored => {
                ClientError::SequenceLost {
                    topic: Arc::clone(&terms.topic.name),
                    partition: terms.partition,
                    code: error.code(),
                }
            }
            failure if maybe_stored => {
                let source = terms.topic.error(terms.partition, failure);
                ClientError::UnknownOutcome { what: "deliver", source: Some(Arc::new(source)) }
            }
            failure => terms.topic.error(terms.partition, failure),
        };
        batch.fail(error);
    }

    /// Under a new producer id the server cannot tell what it stored under the old one.
    fn finish(mut self) -> Self {
        if self.renew {
            self.next_sequence = None;
            for batch in std::mem::take(&mut self.retry) {
                if batch.maybe_stored {
                    batch.fail(ClientError::UnknownOutcome { what: "deliver", source: None });
                } else {
                    self.retry.push_back(batch);
                }
            }
        }
        if let Some(dead) = &self.dead {
            for batch in std::mem::take(&mut self.retry) {
                batch.fail_with(dead);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
