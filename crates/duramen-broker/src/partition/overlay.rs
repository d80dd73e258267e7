//! What idempotent producers have in flight: proposed, and not yet known to be appended.

use std::collections::BTreeMap;

use duramen_raft::{BatchId, Check};
use duramen_types::{ProducerEpoch, ProducerId, Sequence};

/// What to do with an idempotent batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one: propose it.
    Propose,
    /// A try of the same batch is in flight: its outcome is not known yet.
    InFlight,
    /// What the producer appended decides.
    Appended(Check),
    /// A gap to what is in flight.
    Gap(Sequence),
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    epoch: ProducerEpoch,
    next: Sequence,
    entries: u32,
}

/// Producers with entries in flight. Forgotten whole when the leader changes.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pending: BTreeMap<ProducerId, Pending>,
}

impl Overlay {
    /// Judges a batch, given how the producer's appended history judges it.
    pub(super) fn judge(&self, batch: &BatchId, appended: Check) -> Verdict {
        let Some(pending) = self.pending.get(&batch.producer) else {
            return if appended == Check::Next {
                Verdict::Propose
            } else {
                Verdict::Appended(appended)
            };
        };
        if pending.epoch != batch.epoch {
            let newer = batch.epoch > pending.epoch && batch.base_sequence == Sequence::ZERO;
            return if newer { Verdict::Propose } else { Verdict::Appended(appended) };
        }
        if batch.base_sequence == pending.next {
            return Verdict::Propose;
        }
        match appended {
            Check::Duplicate(_) | Check::Fenced { .. } => Verdict::Appended(appended),
            Check::Next => Verdict::InFlight,
            _ if is_before(batch.base_sequence, pending.next) => Verdict::InFlight,
            _ => Verdict::Gap(pending.next),
        }
    }

    pub(super) fn proposed(&mut self, batch: &BatchId) {
        let next = batch.base_sequence.advance(batch.records);
        let pending = self.pending.entry(batch.producer).or_insert(Pending {
            epoch: batch.epoch,
            next,
            entries: 0,
        });
        pending.epoch = batch.epoch;
        pending.next = next;
        pending.entries += 1;
    }

    pub(super) fn settled(&mut self, batch: &BatchId) {
        if let Some(pending) = self.pending.get_mut(&batch.producer) {
            pending.entries = pending.entries.saturating_sub(1);
            if pending.entries == 0 {
                self.pending.remove(&batch.producer);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }
}

/// Whether a sequence lies before another on the circle of sequences.
fn is_before(a: Sequence, b: Sequence) -> bool {
    let distance = b.distance_from(a);
    distance > 0 && distance <= Sequence::MAX / 2
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

    #[test]
    fn batches_in_flight_continue_each_other() {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.judge(&batch(0, 0), Check::Next), Verdict::Propose);
        overlay.proposed(&batch(0, 0));
        let unknown = Check::UnknownProducer;
        assert_eq!(overlay.judge(&batch(0, 10), unknown), Verdict::Propose);
        overlay.proposed(&batch(0, 10));
        assert_eq!(overlay.judge(&batch(0, 0), Check::Next), Verdict::InFlight);
        assert_eq!(overlay.judge(&batch(0, 10), unknown), Verdict::InFlight);
        assert_eq!(overlay.judge(&batch(0, 30), unknown), Verdict::Gap(Sequence::new(20)));
        overlay.settled(&batch(0, 0));
        overlay.settled(&batch(0, 10));
        assert_eq!(overlay.judge(&batch(0, 20), Check::Next), Verdict::Propose);
    }

    #[test]
    fn a_newer_epoch_begins_anew() {
        let mut overlay = Overlay::default();
        overlay.proposed(&batch(0, 0));
        let check = Check::UnknownProducer;
        assert_eq!(overlay.judge(&batch(1, 0), check), Verdict::Propose);
        assert_eq!(overlay.judge(&batch(1, 10), check), Verdict::Appended(check));
    }

    #[test]
    fn sequences_are_compared_on_a_circle() {
        assert!(is_before(Sequence::new(Sequence::MAX), Sequence::new(5)));
        assert!(!is_before(Sequence::new(5), Sequence::new(Sequence::MAX)));
        assert!(!is_before(Sequence::new(5), Sequence::new(5)));
    }
}
