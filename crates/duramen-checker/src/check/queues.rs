//! Each value of a queue comes to one end.

use std::collections::BTreeSet;

use super::Pass;
use super::index::id;
use crate::anomaly::Anomaly;
use crate::event::QueueOutcome;
use crate::history::End;

pub(super) fn check(pass: &mut Pass<'_>) {
    let mut queued = pass.history.queued.clone();
    // Stable: what became of one value stays in its order.
    queued.sort_by_key(|queued| (queued.queue, queued.key, queued.value));
    for pair in queued.windows(2) {
        let (first, second) = (&pair[0], &pair[1]);
        let place = (first.queue, first.key, first.value);
        let is_over = first.outcome != QueueOutcome::InFlight;
        if place == (second.queue, second.key, second.value)
            && is_over
            && first.outcome != second.outcome
        {
            let ((queue, key, value), first, second) = (place, first.outcome, second.outcome);
            pass.add(Anomaly::TwoOutcomes { queue, key, value, first, second });
        }
    }
    if pass.options.final_read {
        let told: Vec<_> = queued.iter().map(|one| (one.queue, one.key, one.value)).collect();
        check_all_told(pass, &told);
    }
}

/// Something became of everything that was acknowledged.
fn check_all_told(pass: &mut Pass<'_>, all: &[(u32, u32, u64)]) {
    let queues: BTreeSet<_> = all.iter().map(|(queue, key, _)| (*queue, *key)).collect();
    for (queue, key) in queues {
        let Some(known) = pass.index.keys.get(&key) else { continue };
        for write in &known.writes {
            let (value, op) = (write.value, id(write.op));
            let told = pass.history.pairs[write.pair].offset();
            let offset = told.or_else(|| known.place(value).map(|(_, last)| last));
            let is_owed =
                pass.history.ops[write.op].end == End::Ok && offset.unwrap_or(0) >= known.log_start;
            if is_owed && all.binary_search(&(queue, key, value)).is_err() {
                pass.add(Anomaly::NoOutcome { queue, key, value, op });
            }
        }
    }
}
