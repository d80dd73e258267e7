//! What observers are told goes forward only, and nobody reads past the high watermark.

use std::collections::BTreeMap;

use super::Pass;
use super::index::id;
use crate::anomaly::Anomaly;
use crate::event::Observation;
use crate::history::{End, Kind, Mark};

pub(super) fn check(pass: &mut Pass<'_>) {
    check_observers(pass);
    check_epochs(pass);
    check_answers(pass);
    if pass.options.final_read {
        check_final(pass);
    }
}

fn check_observers(pass: &mut Pass<'_>) {
    let mut observers = BTreeMap::<_, Observation>::new();
    for seen in &pass.history.observed {
        let (key, observer) = (seen.key, seen.observer);
        let last = observers.entry((observer, key)).or_default();
        if let Some((before, after)) = went_back(&mut last.high_watermark, seen.what.high_watermark)
        {
            pass.add(Anomaly::HighWatermarkRegressed { key, observer, before, after });
        }
        if let Some((before, after)) = went_back(&mut last.log_start, seen.what.log_start) {
            pass.add(Anomaly::LogStartRegressed { key, observer, before, after });
        }
        if let Some((before, after)) = went_back(&mut last.leader_epoch, seen.what.leader_epoch) {
            pass.add(Anomaly::LeaderEpochRegressed { key, observer, before, after });
        }
    }
}

/// Goes on to a new figure, if there is one; says if it is below the last one.
fn went_back(last: &mut Option<u64>, new: Option<u64>) -> Option<(u64, u64)> {
    let (before, new) = (*last, new?);
    *last = Some(new);
    before.filter(|before| new < *before).map(|before| (before, new))
}

/// Leaders of later epochs acknowledge later offsets.
fn check_epochs(pass: &mut Pass<'_>) {
    for (&key, known) in &pass.index.keys {
        let mut acknowledged = Vec::new();
        for write in &known.writes {
            let pair = &pass.history.pairs[write.pair];
            if let (End::Ok, Some(offset)) = (pass.history.ops[write.op].end, pair.offset()) {
                acknowledged.push((offset, pair.epoch, write.op));
            }
        }
        acknowledged.sort_unstable();
        for pair in acknowledged.windows(2) {
            let ((earlier, before, _), (offset, epoch, op)) = (pair[0], pair[1]);
            if earlier < offset && epoch < before {
                let op = id(op);
                pass.add(Anomaly::AckEpochRegressed { key, op, offset, epoch, before });
            }
        }
    }
}

/// No answer holds what is past the high watermark that it names.
fn check_answers(pass: &mut Pass<'_>) {
    let mut answers = BTreeMap::new();
    for answer in &pass.history.watermarks {
        let highest = answers.entry((answer.op, answer.key)).or_insert(answer.high_watermark);
        *highest = answer.high_watermark.max(*highest);
    }
    for ((op, key), high_watermark) in answers {
        let poll = &pass.history.ops[op];
        if poll.kind != Kind::Poll || poll.end != End::Ok {
            continue;
        }
        for record in &pass.history.records[poll.payload.clone()] {
            let (poll, offset) = (id(op), record.offset);
            if record.key == key && offset >= high_watermark {
                pass.add(Anomaly::ReadAboveHighWatermark { key, poll, offset, high_watermark });
            }
        }
    }
}

/// What was told of the high watermark after all reads, at rest, is past all of them.
fn check_final(pass: &mut Pass<'_>) {
    let mut told = BTreeMap::new();
    for seen in pass.history.observed.iter().filter(|seen| seen.what.high_watermark.is_some()) {
        told.insert(seen.key, seen.mark);
    }
    for (&key, known) in &pass.index.keys {
        let Some(high_watermark) = known.high_watermark else { continue };
        let ends = known.reads.iter().map(|read| pass.history.ops[read.op].ended);
        if told.get(&key).copied().unwrap_or(Mark::default()) < ends.max().unwrap_or_default() {
            continue;
        }
        if let Some(read) = known.reads.iter().max_by_key(|read| read.offset)
            && read.offset >= high_watermark
        {
            let (poll, offset) = (id(read.op), read.offset);
            pass.add(Anomaly::ReadAboveHighWatermark { key, poll, offset, high_watermark });
        }
    }
}
