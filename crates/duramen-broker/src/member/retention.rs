//! Retention: the leader of each partition decides what may go, by a replicated command, so that
//! every replica has the same log start.
//!
//! Age counts from the append time, not from the records' own timestamps, so old data can be
//! loaded.

use duramen_types::{Timestamp, TopicPartition};

use super::Member;
use crate::limits;

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut interval = tokio::time::interval(limits::RETENTION_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        for (id, handle) in member.partitions() {
            if let Err(reason) = trim(member, id, &handle.group).await {
                tracing::debug!(partition = %id, reason, "retention is put off");
            }
        }
    }
}

async fn trim(
    member: &Member,
    id: TopicPartition,
    group: &duramen_raft::Group,
) -> Result<(), String> {
    let config = {
        let state = member.metadata().state();
        let topic = state.topic_by_id(id.topic).filter(|topic| !topic.is_internal());
        let Some(topic) = topic else { return Ok(()) };
        topic.config()
    };
    let now = member.env.clock.now();
    let ago = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        now.saturating_add_millis(-ms)
    };
    let before: Option<Timestamp> = config.retention_ms.map(ago);
    if let Some(before) = before {
        // Every replica rolls its own segments; what is trimmed is agreed on below.
        group.roll_if_older(before).map_err(|error| error.to_string())?;
    }
    let Some(term) = group.serving_term() else { return Ok(()) };
    let Some(target) = group.trim_target(before, config.retention_bytes) else { return Ok(()) };
    group.propose_log_start(target.index, term).await.map_err(|error| error.to_string())?;
    tracing::info!(partition = %id, bytes = target.bytes, "retention trims the log");
    Ok(())
}
