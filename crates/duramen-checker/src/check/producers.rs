//! What idempotent producers send is stored once and without gaps (p1, p2).

use super::Pass;
use crate::anomaly::Anomaly;
use crate::event::ProducedBatch;

/// How many sequences there are before 0 comes again.
const SEQUENCES: u32 = 1 << 31;

pub(super) fn check(pass: &mut Pass<'_>) {
    check_stored(pass);
    check_answers(pass);
}

/// In the order of offsets the sequences of a producer's epoch follow each other.
fn check_stored(pass: &mut Pass<'_>) {
    let produced = pass.history.produced.iter().filter(|produced| produced.is_stored);
    let mut stored: Vec<_> = produced.map(|produced| produced.batch).collect();
    stored.sort_unstable_by_key(|batch| (batch.key, batch.producer, batch.epoch, batch.offset));
    stored.dedup();
    let mut last = None::<ProducedBatch>;
    for batch in stored {
        let before = last.replace(batch).filter(|before| is_same_epoch(before, &batch));
        let log_start = pass.index.keys.get(&batch.key).map_or(0, |key| key.log_start);
        let expected = match before {
            Some(before) => advance(before.sequence, before.records),
            None if log_start == 0 => 0,
            // Those before it may have been trimmed.
            None => continue,
        };
        let ProducedBatch { key, producer, epoch, sequence, offset, .. } = batch;
        let ahead = (sequence.wrapping_sub(expected)) % SEQUENCES;
        match before {
            _ if ahead == 0 => {}
            Some(before) if ahead >= SEQUENCES / 2 => {
                let (first, second) = (before.offset, offset);
                pass.add(Anomaly::SequenceRepeated {
                    key,
                    producer,
                    epoch,
                    sequence,
                    first,
                    second,
                });
            }
            _ => {
                let found = sequence;
                pass.add(Anomaly::SequenceGap { key, producer, epoch, offset, expected, found });
            }
        }
    }
}

/// A batch is acknowledged at one offset, however often, and stored there.
fn check_answers(pass: &mut Pass<'_>) {
    let mut all = pass.history.produced.clone();
    all.sort_unstable_by_key(|produced| {
        let batch = &produced.batch;
        (batch.key, batch.producer, batch.epoch, batch.sequence, batch.offset)
    });
    for pair in all.windows(2) {
        let (first, second) = (&pair[0].batch, &pair[1].batch);
        let is_same = is_same_epoch(first, second) && first.sequence == second.sequence;
        // Two that are stored are found where the sequences are followed.
        let both_stored = pair[0].is_stored && pair[1].is_stored;
        if is_same && first.offset != second.offset && !both_stored {
            let ProducedBatch { key, producer, epoch, sequence, offset: first, .. } = *first;
            let second = second.offset;
            pass.add(Anomaly::SequenceRepeated { key, producer, epoch, sequence, first, second });
        }
    }
}

fn is_same_epoch(first: &ProducedBatch, second: &ProducedBatch) -> bool {
    let epoch = |batch: &ProducedBatch| (batch.key, batch.producer, batch.epoch);
    epoch(first) == epoch(second)
}

const fn advance(sequence: u32, records: u32) -> u32 {
    sequence.wrapping_add(records) % SEQUENCES
}
