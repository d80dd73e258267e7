//! One ticker for all groups of a node: openraft's own ticks cost each idle group more than its
//! heartbeats do.

use std::sync::Arc;

use crate::host::Groups;
use crate::limits;
use crate::metrics;

/// Ticks all groups until dropped.
pub(crate) async fn run(groups: Arc<Groups>) {
    let mut interval = tokio::time::interval(limits::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let all = groups.all();
        let led = all.iter().filter(|group| group.tick()).count();
        metrics::groups(all.len(), led);
    }
}
