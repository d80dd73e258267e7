//! Reads every replica's log again and again, slowly, so that rot is found before a reader meets it.
//!
//! The first pass begins when a replica is opened: sealed segments are trusted at open, so that a
//! restart is quick. A replica whose log does not check is taken out at once.

use std::collections::BTreeMap;
use std::time::Duration;

use duramen_types::{LogIndex, TopicPartition};
use tokio::time::Instant;

use super::Member;
use crate::limits;

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    // When each replica was last read to its end.
    let mut done: BTreeMap<TopicPartition, Instant> = BTreeMap::new();
    loop {
        let open = member.partitions();
        done.retain(|id, _| open.iter().any(|(other, _)| other == id));
        for (id, handle) in open {
            let due = done.get(&id).is_none_or(|at| at.elapsed() >= limits::SCRUB_INTERVAL);
            if due && scrub(member, id, &handle.group).await {
                done.insert(id, Instant::now());
            }
        }
        tokio::time::sleep(limits::SCRUB_LOOK).await;
    }
}

/// Reads one replica from its start to what was committed; says whether it got there.
async fn scrub(member: &Member, id: TopicPartition, group: &duramen_raft::Group) -> bool {
    let mut next = LogIndex::ZERO;
    loop {
        match group.scrub(next, limits::SCRUB_STEP_BYTES).await {
            Ok(Some(after)) => next = after,
            Ok(None) => return true,
            Err(error) => {
                if error.kind() == duramen_log::ErrorKind::Corrupt {
                    member.take_out(id, group.replica(), error.to_string());
                } else {
                    tracing::debug!(partition = %id, %error, "a scrub was given up");
                }
                return false;
            }
        }
        let pause = limits::SCRUB_STEP_BYTES.saturating_mul(1_000) / limits::SCRUB_BYTES_PER_SECOND;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
