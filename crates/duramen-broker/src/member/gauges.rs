//! Tells the metrics what this node's replicas are like. Apart from what acts on them, which may
//! wait: a gauge that is not set for a while is taken for one of something that is gone.

use super::Member;
use crate::limits;
use crate::metrics;

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut interval = tokio::time::interval(limits::GAUGES_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        metrics::replicas_out(member.problem_count());
        let state = member.metadata().state().clone();
        let mut replacements = 0;
        for (id, handle) in member.partitions() {
            metrics::partition(member, id, &handle);
            let replacement = state.partition(id).and_then(|partition| partition.replacement);
            let is_led = || handle.group.serving_term().is_some();
            replacements += usize::from(replacement.is_some() && is_led());
        }
        metrics::replacements(replacements);
    }
}
