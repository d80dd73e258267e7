//! How far readers are behind the end of the log, at least.

use std::collections::BTreeMap;

use super::Pass;
use crate::history::{End, History, Key, Kind, Micros, Process};

/// For each offset of a key that is known, the first time at which one at or past it was surely
/// stored. By offset.
type Known = Vec<(u64, Micros)>;

/// Measures readers that follow the log: what is read from the first record on is late by
/// intention.
pub(super) fn measure(pass: &mut Pass<'_>) {
    let known = known_since(pass.history);
    let mut readers = BTreeMap::<Process, BTreeMap<Key, u64>>::new();
    for op in &pass.history.ops {
        match (op.kind, op.end) {
            (Kind::Crash | Kind::Seek | Kind::Assign { from_start: true }, _) => {
                readers.remove(&op.process);
            }
            (Kind::Subscribe | Kind::Assign { from_start: false }, _) => {
                readers.insert(op.process, BTreeMap::new());
            }
            (Kind::Poll, End::Ok) => {
                let Some(positions) = readers.get_mut(&op.process) else { continue };
                let records = &pass.history.records[op.payload.clone()];
                let mut lagging = BTreeMap::new();
                for record in records {
                    let position = positions.entry(record.key).or_default();
                    *position = record.offset.max(*position);
                    lagging.insert(record.key, *position);
                }
                // Nothing came of any key.
                let lagging = if records.is_empty() { positions.clone() } else { lagging };
                for (key, position) in lagging {
                    let since = known.get(&key).and_then(|known| stored_after(known, position));
                    let lag = since.map_or(0, |since| op.invoked.saturating_sub(since));
                    let figures = &mut pass.report.figures;
                    if lag > figures.worst_lag {
                        figures.worst_lag = lag;
                        figures.worst_lag_key = Some(key);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Since when there surely is something past an offset.
fn stored_after(known: &Known, offset: u64) -> Option<Micros> {
    let at = known.partition_point(|(other, _)| *other <= offset);
    known.get(at).map(|(_, since)| *since)
}

fn known_since(history: &History) -> BTreeMap<Key, Known> {
    let mut known = BTreeMap::<Key, Known>::new();
    for op in history.ops.iter().filter(|op| op.end == End::Ok) {
        let Some(completed) = op.completed else { continue };
        match op.kind {
            Kind::Send => {
                for pair in &history.pairs[op.payload.clone()] {
                    if let Some(offset) = pair.offset() {
                        known.entry(pair.key).or_default().push((offset, completed));
                    }
                }
            }
            Kind::Poll => {
                for record in &history.records[op.payload.clone()] {
                    known.entry(record.key).or_default().push((record.offset, completed));
                }
            }
            _ => {}
        }
    }
    for known in known.values_mut() {
        known.sort_unstable();
        known.dedup_by_key(|(offset, _)| *offset);
        let mut earliest = Micros::MAX;
        for (_, since) in known.iter_mut().rev() {
            earliest = earliest.min(*since);
            *since = earliest;
        }
    }
    known
}
