//! What happened to each value: stored once, where its producer was told, and read.

use super::Pass;
use super::count;
use super::index::{KeyIndex, Read, Write, id};
use crate::anomaly::Anomaly;
use crate::history::{End, Key};

pub(super) fn check(pass: &mut Pass<'_>) {
    for (&key, known) in &pass.index.keys {
        check_harness(pass, key, known);
        check_log(pass, key, known);
        check_reads(pass, key, known);
        check_lost(pass, key, known);
        check_writes(pass, key, known);
    }
}

fn check_harness(pass: &mut Pass<'_>, key: Key, known: &KeyIndex) {
    for pair in known.writes.windows(2).filter(|pair| pair[0].value == pair[1].value) {
        let (first, second) = (id(pair[0].op), id(pair[1].op));
        pass.add(Anomaly::ValueReused { key, value: pair[0].value, first, second });
    }
}

/// One value an offset and one offset a value.
fn check_log(pass: &mut Pass<'_>, key: Key, known: &KeyIndex) {
    for pair in known.log.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let (offset, first, second) = (pair[0].0, pair[0].1, pair[1].1);
        pass.add(Anomaly::InconsistentOffset { key, offset, first, second });
    }
    for pair in known.places.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let (value, first, second) = (pair[0].0, pair[0].1, pair[1].1);
        pass.add(Anomaly::Duplicate { key, value, first, second });
    }
}

/// What was read was sent, did not fail, was not read too early, and is where it is said to be.
fn check_reads(pass: &mut Pass<'_>, key: Key, known: &KeyIndex) {
    pass.report.figures.records_read += count(known.reads.len());
    let mut writes = known.writes.iter().peekable();
    let mut invented = None;
    for read in &known.reads {
        while writes.next_if(|write| write.value < read.value).is_some() {}
        match writes.peek().filter(|write| write.value == read.value) {
            Some(write) => check_read(pass, key, write, read),
            // Once a value, however often it was read.
            None if invented == Some(read.value) => {}
            None => {
                invented = Some(read.value);
                let Read { value, offset, op } = *read;
                pass.add(Anomaly::Invented { key, value, offset, poll: id(op) });
            }
        }
    }
}

fn check_read(pass: &mut Pass<'_>, key: Key, write: &Write, read: &Read) {
    let Read { value, offset, .. } = *read;
    let (send, poll) = (id(write.op), id(read.op));
    let sender = &pass.history.ops[write.op];
    let acknowledged = pass.history.pairs[write.pair].offset();
    if sender.end == End::Failed {
        pass.add(Anomaly::AbortedRead { key, value, offset, send, poll });
    }
    if pass.history.ops[read.op].ended < sender.began {
        pass.add(Anomaly::PrecommittedRead { key, value, offset, send, poll });
    }
    if let Some(acknowledged) = acknowledged.filter(|acknowledged| *acknowledged != offset) {
        pass.add(Anomaly::Contradicted { key, value, acknowledged, offset, send, poll });
    }
}

/// Whatever is stored before something that was read was read too, unless retention took it.
fn check_lost(pass: &mut Pass<'_>, key: Key, known: &KeyIndex) {
    let firsts = known.reads.iter().filter_map(|read| known.place(read.value));
    let Some(bound) = firsts.map(|(first, _)| first).max() else { return };
    for write in &known.writes {
        let Some((_, last)) = known.place(write.value) else { continue };
        let is_owed = known.log_start <= last && last <= bound;
        if is_owed && !known.is_read(write.value) && pass.index.must_commit(pass.history, write.op)
        {
            let (value, op) = (write.value, id(write.op));
            pass.add(Anomaly::LostWrite { key, value, offset: last, op, bound });
        }
    }
}

/// Counts what became of what was sent; what was acknowledged was seen in the end.
fn check_writes(pass: &mut Pass<'_>, key: Key, known: &KeyIndex) {
    for write in &known.writes {
        let is_read = known.is_read(write.value);
        let offset = pass.history.pairs[write.pair].offset();
        let figures = &mut pass.report.figures;
        match pass.history.ops[write.op].end {
            End::Failed => figures.refused += 1,
            End::Unknown if is_read => figures.unknown_stored += 1,
            End::Unknown => figures.unknown_unseen += 1,
            End::Ok => {
                figures.acknowledged += 1;
                // Of an unknown offset nobody can say that retention has not passed it.
                let is_owed = offset.unwrap_or(0) >= known.log_start;
                if pass.options.final_read && is_owed && !is_read {
                    let (value, op) = (write.value, id(write.op));
                    pass.add(Anomaly::Unseen { key, value, offset, op });
                }
            }
        }
    }
}
