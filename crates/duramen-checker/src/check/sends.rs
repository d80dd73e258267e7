//! What a process sends is stored in the order in which it was sent.

use std::collections::BTreeMap;

use super::Pass;
use super::index::id;
use crate::anomaly::Anomaly;
use crate::history::{End, Key, Kind, Process};

/// What a process sent.
#[derive(Clone, Debug, Default)]
struct Sender {
    /// The last offset of each key, and the send.
    last: BTreeMap<Key, (u64, usize)>,
    /// The first operation since the process began anew. What is older and was still under way
    /// then may arrive late.
    renewed: usize,
}

pub(super) fn check(pass: &mut Pass<'_>) {
    let mut senders = BTreeMap::<Process, Sender>::new();
    for (number, op) in pass.history.ops.iter().enumerate() {
        let is_ours = matches!(op.kind, Kind::Send | Kind::Crash);
        if !is_ours {
            continue;
        }
        let sender = senders.entry(op.process).or_default();
        match (op.kind, op.end) {
            (Kind::Crash, _) => sender.renewed = number,
            (Kind::Send, End::Ok) => check_send(pass, number, sender),
            (Kind::Send, End::Unknown) => {
                // It may itself arrive late, after what the next producer sends.
                check_send(pass, number, &mut sender.clone());
                sender.renewed = number;
            }
            _ => {}
        }
    }
}

fn check_send(pass: &mut Pass<'_>, number: usize, sender: &mut Sender) {
    let op = &pass.history.ops[number];
    let process = op.process;
    for pair in &pass.history.pairs[op.payload.clone()] {
        let key = pair.key;
        let Some(known) = pass.index.keys.get(&key) else { continue };
        let place = pair.offset().or_else(|| known.place(pair.value).map(|(first, _)| first));
        let Some(next) = place else { continue };
        let Some((last, before)) = sender.last.insert(key, (next, number)) else { continue };
        let is_before = before >= sender.renewed || pass.history.ops[before].ended < op.began;
        let (op, is_within) = (id(number), before == number);
        if next <= last && is_within {
            pass.add(Anomaly::IntNonmonotonicSend { key, op, last, next });
        } else if next <= last && is_before {
            let before = id(before);
            pass.add(Anomaly::NonmonotonicSend { key, process, before, last, op, next });
        } else if is_within && known.has_within(last + 1, next) {
            pass.add(Anomaly::IntSendSkip { key, op, last, next });
        }
    }
}
