//! What a process sends is stored in the order in which it was sent.

use std::collections::BTreeMap;

use super::Pass;
use super::index::id;
use crate::anomaly::Anomaly;
use crate::history::{End, Key, Kind, Process};

/// The last offset of each key that a process sent something to, and the send.
type Last = BTreeMap<Key, (u64, usize)>;

pub(super) fn check(pass: &mut Pass<'_>) {
    let mut processes = BTreeMap::<Process, Last>::new();
    for (number, op) in pass.history.ops.iter().enumerate() {
        match (op.kind, op.end) {
            (Kind::Crash, _) => drop(processes.remove(&op.process)),
            (Kind::Send, End::Ok) => {
                check_send(pass, number, processes.entry(op.process).or_default());
            }
            (Kind::Send, End::Unknown) => {
                // It may arrive late, after what another producer sends meanwhile.
                let mut last = processes.remove(&op.process).unwrap_or_default();
                check_send(pass, number, &mut last);
            }
            _ => {}
        }
    }
}

fn check_send(pass: &mut Pass<'_>, number: usize, last: &mut Last) {
    let op = &pass.history.ops[number];
    let process = op.process;
    for pair in &pass.history.pairs[op.payload.clone()] {
        let key = pair.key;
        let Some(known) = pass.index.keys.get(&key) else { continue };
        let place = pair.offset().or_else(|| known.place(pair.value).map(|(first, _)| first));
        let Some(next) = place else { continue };
        let Some((last, before)) = last.insert(key, (next, number)) else { continue };
        let (op, is_within) = (id(number), before == number);
        if next <= last && is_within {
            pass.add(Anomaly::IntNonmonotonicSend { key, op, last, next });
        } else if next <= last {
            let before = id(before);
            pass.add(Anomaly::NonmonotonicSend { key, process, before, last, op, next });
        } else if is_within && known.has_within(last + 1, next) {
            pass.add(Anomaly::IntSendSkip { key, op, last, next });
        }
    }
}
