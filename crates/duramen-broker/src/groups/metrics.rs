//! The lag of groups as metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use duramen_group::GroupName;
use duramen_types::TopicPartition;

use super::bounds::{self, Questions};
use super::describe::{by_partition, lag, questions};
use super::shard::Shard;
use crate::limits;
use crate::member::Member;
use crate::metrics;

/// A partition of a group whose lag was told.
type Told = (GroupName, String, TopicPartition);

/// Runs for ever.
pub(crate) async fn run(member: &Arc<Member>) {
    let mut interval = tokio::time::interval(limits::LAG_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: BTreeSet<Told> = BTreeSet::new();
    loop {
        interval.tick().await;
        let mut now = BTreeSet::new();
        for (_, handle) in member.partitions() {
            if let Some(shard) = handle.shard().filter(|shard| shard.term().is_some()) {
                tell_shard(member, shard, &mut now).await;
            }
        }
        // Another node coordinates them now, or they are gone: what was told is not true any more.
        for (group, topic, partition) in told.difference(&now) {
            metrics::group_lag(group, topic, partition.partition, None);
        }
        told = now;
    }
}

async fn tell_shard(member: &Arc<Member>, shard: &Shard, told: &mut BTreeSet<Told>) {
    let room = limits::LAG_METRICS_MAX.saturating_sub(told.len());
    let mut asked: Vec<(GroupName, Questions)> = Vec::new();
    {
        let state = shard.state();
        metrics::groups(shard.id, state.groups().count());
        let mut count = 0;
        for (name, group) in state.groups() {
            let questions = questions(group);
            count += questions.len();
            if count > room {
                break;
            }
            asked.push((name.clone(), questions));
        }
    }
    // All groups at once: many read the same partitions.
    let all: Questions = asked.iter().flat_map(|(_, questions)| questions).copied().collect();
    let answers = bounds::ask(member, &all).await;
    let topics = member.topic_names(all.iter().map(|(partition, _)| partition.topic));
    let state = shard.state();
    for (name, questions) in asked {
        let Some(group) = state.group(&name) else { continue };
        for (partition, bounds) in by_partition(&questions, &answers) {
            let Some(topic) = topics.get(&partition.topic) else { continue };
            let lag = lag(shard, &bounds, group.committed(partition));
            metrics::group_lag(&name, topic, partition.partition, Some(lag));
            told.insert((name.clone(), topic.clone(), partition));
        }
    }
}
