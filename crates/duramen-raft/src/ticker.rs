//! One ticker for all groups of a node: openraft's own ticks cost each idle group more than its
//! heartbeats do.

use std::sync::Arc;

use tokio::time::Instant;

use crate::hibernation::Beats;
use crate::host::Groups;
use crate::limits;
use crate::metrics;
use crate::network::Links;

/// Ticks all groups until dropped, and beats for those that hibernate.
pub(crate) async fn run(groups: Arc<Groups>, links: Arc<Links>) {
    let mut interval = tokio::time::interval(limits::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut beats = Beats::new(links);
    let mut beaten = Instant::now();
    loop {
        interval.tick().await;
        let now = Instant::now();
        // Groups that hibernate are looked at when it beats: their patience is longer than that.
        let is_beat = now.saturating_duration_since(beaten) >= limits::HEARTBEAT_INTERVAL;
        if !is_beat {
            groups.each(|group| {
                if !group.hibernates() {
                    group.tick(now);
                }
            });
            continue;
        }
        beaten = now;
        let mut counts = metrics::Groups::default();
        groups.each(|group| {
            counts.all += 1;
            counts.led += usize::from(group.tick(now));
            counts.hibernating += usize::from(group.hibernates());
        });
        beats.beat(&groups);
        counts.report();
    }
}
