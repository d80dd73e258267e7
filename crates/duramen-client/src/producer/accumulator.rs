//! The batches of one partition that are being filled or wait for their turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use duramen_record::{BatchBuilder, HeaderRef, RecordRef};
use duramen_types::PartitionId;
use tokio::time::Instant;

use super::delivery::{Completer, Delivery, Outcome};
use super::end_of;
use super::options::ProducerOptions;
use super::sealed::{Permits, Taken};
use crate::ClientError;

/// A batch that is being filled, or is full.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) builder: BatchBuilder,
    pub(super) completer: Completer,
    pub(super) permits: Permits,
    /// When its first record came.
    pub(super) since: Instant,
}

impl Open {
    /// An empty batch with room for so many bytes.
    fn new(options: &ProducerOptions, bytes: usize) -> Self {
        Self {
            builder: BatchBuilder::with_capacity(options.compression, bytes),
            completer: Completer::default(),
            permits: Permits::default(),
            since: Instant::now(),
        }
    }

    fn fits(&self, bytes: usize, options: &ProducerOptions) -> bool {
        self.builder.size_bytes().saturating_add(bytes) <= options.batch_bytes
    }
}

/// A record was taken in.
pub(super) struct Append {
    pub(super) delivery: Delivery,
    /// Whether the worker must hear of it.
    pub(super) wake: bool,
}

/// What there is to send.
pub(super) enum Ripe {
    /// A batch.
    Batch(Box<Open>),
    /// A batch at that time.
    At(Instant),
    /// Nothing.
    Nothing,
}

/// The batches of one partition, oldest first. Its memory is bounded by the permits in them.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    full: VecDeque<Open>,
    open: Option<Open>,
    /// Outcomes not known yet, of these batches and of those with the worker.
    unresolved: VecDeque<Arc<Outcome>>,
    /// Counts the batches opened.
    batches: u64,
    /// Size of the last batch that was filled no more, which the next one will have, too.
    last_bytes: usize,
}

impl Accumulator {
    /// Appends a record of so many bytes at most to the open batch, or to a new one if it does not
    /// fit.
    pub(super) fn append<'h>(
        &mut self,
        partition: PartitionId,
        record: RecordRef<'_>,
        headers: impl ExactSizeIterator<Item = HeaderRef<'h>> + Clone,
        (taken, bytes): (Taken<'_>, usize),
        options: &ProducerOptions,
    ) -> Result<Append, ClientError> {
        let mut wake = false;
        if let Some(open) = self.close_if(|open| !open.fits(bytes, options)) {
            self.full.push_back(open);
            wake = true;
        }
        if self.open.is_none() {
            wake = true;
        }
        let open = self.open.get_or_insert_with(|| Open::new(options, self.last_bytes));
        let index = match open.builder.append(record, headers.clone()) {
            Ok(index) => index,
            // The batch's first timestamp is too far away: a batch of its own has another one.
            Err(_) if !open.builder.is_empty() => {
                self.last_bytes = open.builder.size_bytes();
                let fresh = Open::new(options, self.last_bytes);
                self.full.push_back(std::mem::replace(open, fresh));
                wake = true;
                open.builder.append(record, headers)?
            }
            Err(error) => return Err(error.into()),
        };
        open.permits.absorb(taken);
        let delivery = Delivery {
            outcome: Arc::clone(open.completer.outcome()),
            partition,
            index,
            timestamp: record.timestamp,
            waker: None,
        };
        if index == 0 {
            self.batches += 1;
            self.forget_resolved();
            self.unresolved.push_back(Arc::clone(&delivery.outcome));
        }
        Ok(Append { delivery, wake })
    }

    /// The number of the batch that a record of this size would go to.
    pub(super) fn batch_number(&self, bytes: usize, options: &ProducerOptions) -> u64 {
        let fits = self.open.as_ref().is_some_and(|open| open.fits(bytes, options));
        self.batches + u64::from(!fits)
    }

    /// Takes the oldest batch that is full, or has waited for `linger`.
    pub(super) fn take_ripe(&mut self, now: Instant, linger: Duration) -> Ripe {
        if let Some(full) = self.full.pop_front() {
            return Ripe::Batch(Box::new(full));
        }
        let Some(since) = self.open.as_ref().map(|open| open.since) else { return Ripe::Nothing };
        let at = end_of(since, linger);
        if at > now {
            return Ripe::At(at);
        }
        self.close_if(|_| true).map_or(Ripe::Nothing, |open| Ripe::Batch(Box::new(open)))
    }

    /// Takes the oldest batch if it was begun before `then`.
    pub(super) fn take_older(&mut self, then: Instant) -> Option<Open> {
        if self.full.front().is_some_and(|full| full.since < then) {
            return self.full.pop_front();
        }
        self.close_if(|open| open.since < then)
    }

    /// Takes every batch.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Open> {
        std::mem::take(&mut self.full).into_iter().chain(self.close_if(|_| true))
    }

    /// Takes the open batch, which is filled no more.
    fn close_if(&mut self, condition: impl FnOnce(&Open) -> bool) -> Option<Open> {
        let open = self.open.take_if(|open| condition(open))?;
        self.last_bytes = open.builder.size_bytes();
        Some(open)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }

    /// The outcomes that are not known yet.
    pub(super) fn unresolved(&mut self) -> Vec<Arc<Outcome>> {
        self.forget_resolved();
        self.unresolved.iter().map(Arc::clone).collect()
    }

    fn forget_resolved(&mut self) {
        while self.unresolved.front().is_some_and(|outcome| outcome.is_resolved()) {
            self.unresolved.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use duramen_record::record_bytes;
    use duramen_types::Timestamp;
    use futures::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    fn append(accumulator: &mut Accumulator, len: usize, timestamp: i64) {
        let value = vec![7; len];
        let timestamp = Timestamp::from_millis(timestamp);
        let record = RecordRef { key: None, value: Some(&value), timestamp };
        let (headers, options) = ([].into_iter(), ProducerOptions::default());
        let room = Arc::new(Semaphore::new(len));
        let taken = Taken::take(&room, len).now_or_never().unwrap();
        let bytes = record_bytes(record.key, record.value, headers.clone());
        let partition = PartitionId::new(0);
        accumulator.append(partition, record, headers, (taken, bytes), &options).unwrap();
        assert_eq!(room.available_permits(), 0, "its batch has them");
    }

    #[test]
    fn a_batch_begins_with_the_room_that_the_last_one_needed_however_that_was_closed() {
        type Close = fn(&mut Accumulator);
        let closings: [(&str, Close); 4] = [
            ("ripe", |batches| drop(batches.take_ripe(Instant::now(), Duration::ZERO))),
            ("old", |batches| drop(batches.take_older(Instant::now() + Duration::from_secs(1)))),
            ("flushed", |batches| drop(batches.take_all())),
            ("of other times", |batches| append(batches, 10, i64::MAX)),
        ];
        for (how, close) in closings {
            let mut batches = Accumulator::default();
            append(&mut batches, 700_000, 0);
            append(&mut batches, 600_000, 0);
            assert!(batches.last_bytes > 700_000, "the first one got full");
            drop(batches.take_all());
            append(&mut batches, 10, i64::MIN);
            close(&mut batches);
            assert!(batches.last_bytes < 200, "{how}: room for {}", batches.last_bytes);
        }
    }
}
