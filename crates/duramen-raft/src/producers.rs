//! What idempotent producers appended last: a function of the appended log.
//!
//! A batch carries (producer id, epoch, base sequence). Per producer the last five runs are
//! remembered, so that a retry is answered with the offset of the first try and never appended
//! again (KIP-98). A run is a batch, or several that follow each other in one entry: a request of
//! many batches counts as one, and a producer may have five requests under way. A producer unseen
//! for a day, by the append times in the log, is forgotten.

use std::collections::{BTreeMap, VecDeque};

use duramen_env::planted::{Planted, is_planted};
use duramen_proto::internal as pb;
use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::limits;

/// The idempotence triple of a batch or run of batches, and how many records it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchId {
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub base_sequence: Sequence,
    /// Records in the batch or run.
    pub records: u32,
}

impl BatchId {
    /// Takes in the batch that comes next, if it goes on where this ends.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        let goes_on = self.producer == next.producer
            && self.epoch == next.epoch
            && self.base_sequence.advance(self.records) == next.base_sequence;
        match self.records.checked_add(next.records) {
            Some(records) if goes_on && records <= RUN_RECORDS_MAX => {
                self.records = records;
                true
            }
            _ => false,
        }
    }
}

/// Records of a run at most: half of the circle of sequences, so that what lies in a run and what
/// lies outside is never confused. Entries are far smaller.
const RUN_RECORDS_MAX: u32 = Sequence::MAX / 2;

/// What a batch is to a producer's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The next one: append it.
    Next,
    /// Appended before, at this offset.
    Duplicate(Offset),
    /// Not the next one.
    OutOfOrder {
        /// The sequence that is due.
        expected: Sequence,
    },
    /// A newer epoch of the producer appended already.
    Fenced {
        /// That epoch.
        current: ProducerEpoch,
    },
    /// The producer is not known here and this is not its first batch.
    UnknownProducer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    base_sequence: Sequence,
    records: u32,
    base_offset: Offset,
}

impl Run {
    /// Where a batch begins in the log, if all of it is in this run.
    fn find(&self, batch: &BatchId) -> Option<Offset> {
        let before = batch.base_sequence.distance_from(self.base_sequence);
        let end = before.checked_add(batch.records)?;
        (end <= self.records).then(|| self.base_offset.saturating_add(before.into()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    last_append: Timestamp,
    /// 1 ≤ runs ≤ 5, oldest first.
    runs: VecDeque<Run>,
}

impl Producer {
    fn next_sequence(&self) -> Sequence {
        self.runs.back().map_or(Sequence::ZERO, |run| run.base_sequence.advance(run.records))
    }
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

impl Producers {
    /// Compares a batch with its producer's history.
    #[must_use]
    pub(crate) fn check(&self, batch: &BatchId) -> Check {
        let Some(producer) = self.by_id.get(&batch.producer) else {
            if is_planted(Planted::ForgetProducers) {
                return Check::Next;
            }
            return first_batch(batch, Check::UnknownProducer);
        };
        if batch.epoch < producer.epoch {
            return Check::Fenced { current: producer.epoch };
        }
        if batch.epoch > producer.epoch {
            return first_batch(batch, Check::OutOfOrder { expected: Sequence::ZERO });
        }
        if let Some(offset) = producer.runs.iter().rev().find_map(|run| run.find(batch)) {
            return Check::Duplicate(offset);
        }
        let expected = producer.next_sequence();
        if batch.base_sequence == expected { Check::Next } else { Check::OutOfOrder { expected } }
    }

    /// Whether runs, appended one after the other, would each be the next of its producer.
    pub(crate) fn accepts(&self, runs: &[BatchId]) -> bool {
        match runs {
            [] => true,
            [run] => self.check(run) == Check::Next,
            _ => {
                let known = runs.iter().filter_map(|run| {
                    self.by_id.get(&run.producer).map(|state| (run.producer, state.clone()))
                });
                let mut ahead = Self { by_id: known.collect() };
                runs.iter().all(|run| {
                    let next = ahead.check(run) == Check::Next;
                    ahead.appended(run, Offset::ZERO, Timestamp::EPOCH);
                    next
                })
            }
        }
    }

    /// Takes an appended run into account.
    pub(crate) fn appended(&mut self, run: &BatchId, base_offset: Offset, time: Timestamp) {
        let producer = self.by_id.entry(run.producer).or_insert_with(|| Producer {
            epoch: run.epoch,
            last_append: time,
            runs: VecDeque::with_capacity(limits::PRODUCER_RUNS),
        });
        if producer.epoch != run.epoch {
            producer.epoch = run.epoch;
            producer.runs.clear();
        }
        if producer.runs.len() == limits::PRODUCER_RUNS {
            producer.runs.pop_front();
        }
        producer.last_append = time;
        producer.runs.push_back(Run {
            base_sequence: run.base_sequence,
            records: run.records,
            base_offset,
        });
        if self.by_id.len() > limits::PRODUCERS_MAX {
            self.forget_some(time);
        }
    }

    /// Forgets the expired, or else the longest unseen; a function of the log alone.
    fn forget_some(&mut self, now: Timestamp) {
        let expiry_ms = i64::try_from(limits::PRODUCER_EXPIRY.as_millis()).unwrap_or(i64::MAX);
        let oldest_kept = now.saturating_add_millis(-expiry_ms);
        self.by_id.retain(|_, producer| producer.last_append >= oldest_kept);
        while self.by_id.len() > limits::PRODUCERS_MAX {
            let longest = self.by_id.iter().min_by_key(|(id, p)| (p.last_append, **id));
            let Some((id, _)) = longest.map(|(id, p)| (*id, p)) else { return };
            self.by_id.remove(&id);
        }
    }

    pub(crate) fn to_wire(&self) -> Vec<pb::Producer> {
        self.by_id
            .iter()
            .map(|(id, producer)| pb::Producer {
                id: id.get(),
                epoch: u32::from(producer.epoch.get()),
                last_append: producer.last_append.as_millis(),
                runs: producer
                    .runs
                    .iter()
                    .map(|run| pb::ProducerRun {
                        base_sequence: run.base_sequence.get(),
                        records: run.records,
                        base_offset: run.base_offset.get(),
                    })
                    .collect(),
            })
            .collect()
    }

    pub(crate) fn from_wire(wire: Vec<pb::Producer>) -> Option<Self> {
        let mut by_id = BTreeMap::new();
        for producer in wire {
            let runs = producer.runs.iter().map(|run| Run {
                base_sequence: Sequence::new(run.base_sequence),
                records: run.records,
                base_offset: Offset::new(run.base_offset),
            });
            let state = Producer {
                epoch: ProducerEpoch::new(u16::try_from(producer.epoch).ok()?),
                last_append: Timestamp::from_millis(producer.last_append),
                runs: runs.collect(),
            };
            by_id.insert(ProducerId::new(producer.id), state);
        }
        Some(Self { by_id })
    }
}

fn first_batch(batch: &BatchId, otherwise: Check) -> Check {
    if batch.base_sequence == Sequence::ZERO { Check::Next } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: u16, base_sequence: u32) -> BatchId {
        BatchId {
            producer: ProducerId::new(1),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(base_sequence),
            records: 10,
        }
    }

    fn with_batches(count: u32) -> Producers {
        let mut producers = Producers::default();
        for i in 0..count {
            let offset = Offset::new(u64::from(i) * 100);
            producers.appended(&batch(0, i * 10), offset, Timestamp::EPOCH);
        }
        producers
    }

    #[test]
    fn a_retry_is_answered_with_its_first_offset() {
        let producers = with_batches(3);
        assert_eq!(producers.check(&batch(0, 10)), Check::Duplicate(Offset::new(100)));
        assert_eq!(producers.check(&batch(0, 30)), Check::Next);
    }

    #[test]
    fn a_gap_and_a_forgotten_batch_are_out_of_order() {
        let producers = with_batches(7);
        let expected = Sequence::new(70);
        assert_eq!(producers.check(&batch(0, 80)), Check::OutOfOrder { expected });
        assert_eq!(producers.check(&batch(0, 0)), Check::OutOfOrder { expected });
    }

    #[test]
    fn a_batch_of_a_run_is_found_at_its_place_and_what_goes_beyond_is_not() {
        let mut run = batch(0, Sequence::MAX - 9);
        assert!(run.extend(&batch(0, 0)) && run.extend(&batch(0, 10)));
        assert!(!run.extend(&batch(0, 30)) && !run.extend(&batch(1, 20)));
        assert_eq!(run.records, 30);
        let mut producers = Producers::default();
        producers.appended(&run, Offset::new(100), Timestamp::EPOCH);
        let at = |base, records| producers.check(&BatchId { records, ..batch(0, base) });
        assert_eq!(at(Sequence::MAX - 9, 30), Check::Duplicate(Offset::new(100)));
        assert_eq!(at(0, 10), Check::Duplicate(Offset::new(110)));
        assert_eq!(at(19, 1), Check::Duplicate(Offset::new(129)));
        assert_eq!(at(20, 10), Check::Next);
        let out_of_order = Check::OutOfOrder { expected: Sequence::new(20) };
        assert_eq!(at(10, 11), out_of_order, "the last record is new");
        assert_eq!(at(Sequence::MAX - 10, 2), out_of_order, "the first record is older");
    }

    #[test]
    fn epochs_fence_and_start_at_zero() {
        let mut producers = with_batches(1);
        assert_eq!(producers.check(&batch(1, 0)), Check::Next);
        producers.appended(&batch(1, 0), Offset::new(10), Timestamp::EPOCH);
        assert_eq!(
            producers.check(&batch(0, 10)),
            Check::Fenced { current: ProducerEpoch::new(1) }
        );
    }

    #[test]
    fn an_unknown_producer_must_begin_at_zero() {
        assert_eq!(Producers::default().check(&batch(0, 0)), Check::Next);
        assert_eq!(Producers::default().check(&batch(0, 10)), Check::UnknownProducer);
    }

    #[test]
    fn the_table_survives_its_encoding() {
        let producers = with_batches(7);
        assert_eq!(Producers::from_wire(producers.to_wire()), Some(producers));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_longest_unseen() {
        let mut producers = Producers::default();
        for i in 0..=limits::PRODUCERS_MAX as u64 {
            let id = BatchId { producer: ProducerId::new(i), ..batch(0, 0) };
            let time = Timestamp::from_millis(i64::try_from(i).unwrap());
            producers.appended(&id, Offset::ZERO, time);
        }
        assert_eq!(producers.by_id.len(), limits::PRODUCERS_MAX);
        assert!(!producers.by_id.contains_key(&ProducerId::new(0)));
    }
}
