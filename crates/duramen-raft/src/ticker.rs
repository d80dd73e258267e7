//! One ticker for all groups of a node: openraft's own ticks cost each idle group more than its
//! heartbeats do.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use crate::group::Group;
use crate::hibernation::Beats;
use crate::host::Groups;
use crate::limits;
use crate::metrics;
use crate::network::Links;

/// What each of so many logs may keep of its latest frames; in steps, so that it seldom changes.
fn tail_share(awake: usize) -> u64 {
    let awake = u64::try_from(awake.next_power_of_two()).unwrap_or(u64::MAX);
    (limits::TAIL_BYTES_MAX / awake).max(limits::TAIL_BYTES_MIN)
}

/// Ticks all groups until dropped, and beats for those that hibernate.
pub(crate) async fn run(groups: Arc<Groups>, links: Arc<Links>) {
    let mut interval = tokio::time::interval(limits::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut beats = Beats::new(links);
    // As of the last beat. The others are looked at when it beats: their patience is longer.
    let mut awake: Vec<Weak<Group>> = Vec::new();
    let mut beaten = Instant::now();
    loop {
        interval.tick().await;
        let now = Instant::now();
        let mut campaigns = limits::CAMPAIGNS_PER_TICK;
        if now.saturating_duration_since(beaten) < limits::HEARTBEAT_INTERVAL {
            for group in awake.iter().filter_map(Weak::upgrade) {
                group.tick(now, &mut campaigns);
            }
            continue;
        }
        beaten = now;
        awake.clear();
        let mut counts = metrics::Groups::default();
        groups.each(|group| {
            counts.all += 1;
            counts.led += usize::from(group.tick(now, &mut campaigns));
            if group.hibernates() {
                counts.hibernating += 1;
            } else {
                awake.push(Arc::downgrade(group));
            }
        });
        beats.beat(&groups);
        let share = tail_share(counts.all - counts.hibernating);
        groups.each(|group| group.fit_memory(share));
        counts.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_logs_keep_of_their_ends_is_bounded() {
        for awake in [0, 1, 3, 32, 33, 1_000, 2_000] {
            let all = awake as u64 * tail_share(awake);
            assert!(all <= limits::TAIL_BYTES_MAX, "{awake} logs keep {all} bytes");
        }
        assert_eq!(tail_share(1_000_000), limits::TAIL_BYTES_MIN);
    }
}
