//! The lag of groups as metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use duramen_group::GroupName;
use duramen_types::PartitionId;

use super::bounds::{self, Questions};
use super::describe::{by_partition, lag, questions};
use super::shard::Shard;
use crate::limits;
use crate::member::Member;
use crate::metrics;

/// Runs for ever. What is not told any more, as another node coordinates it or it is gone, ends by
/// itself with the gauge.
pub(crate) async fn run(member: &Arc<Member>) {
    let mut interval = tokio::time::interval(limits::LAG_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        tell(member).await;
    }
}

/// Groups of one shard, and what has to be known for their lag.
type Asked = Vec<(GroupName, Questions)>;

async fn tell(member: &Arc<Member>) {
    let mut room = limits::LAG_METRICS_MAX;
    let mut asked: BTreeMap<PartitionId, (Arc<Shard>, Asked)> = BTreeMap::new();
    for (_, handle) in member.partitions() {
        if let Some(shard) = handle.shard().filter(|shard| shard.term().is_some()) {
            let groups = ask(shard, &mut room);
            asked.insert(shard.id, (Arc::clone(shard), groups));
        }
    }
    // All groups at once: many read the same partitions, and a node that does not answer is waited
    // for once.
    let of_groups = asked.values().flat_map(|(_, groups)| groups);
    let all: Questions = of_groups.flat_map(|(_, questions)| questions).copied().collect();
    let answers = bounds::ask(member, &all).await;
    let topics = member.topic_names(all.iter().map(|(partition, _)| partition.topic));
    for (shard, groups) in asked.into_values() {
        let state = shard.state();
        for (name, questions) in groups {
            let Some(group) = state.group(&name) else { continue };
            for (partition, bounds) in by_partition(&questions, &answers) {
                let Some(topic) = topics.get(&partition.topic) else { continue };
                let lag = lag(&shard, &bounds, group.committed(partition));
                metrics::group_lag(&name, topic, partition.partition, lag);
            }
        }
    }
}

/// As many groups of a shard as there is room for all of whose partitions.
fn ask(shard: &Shard, room: &mut usize) -> Asked {
    let state = shard.state();
    metrics::groups(shard.id, state.groups().count());
    let fitting = state.groups().map_while(|(name, group)| {
        let questions = questions(group);
        *room = room.checked_sub(questions.len())?;
        Some((name.clone(), questions))
    });
    fitting.collect()
}
