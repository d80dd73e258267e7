//! Reads every replica's log again and again, slowly, so that rot is found before a reader meets it.
//!
//! The first pass begins when a replica is opened: sealed segments are trusted at open, so that a
//! restart is quick. A replica whose log does not check is taken out at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use duramen_raft::Group;
use duramen_types::{LogIndex, TopicPartition};
use tokio::time::Instant;

use super::Member;
use crate::limits;

/// How far an open replica has been read.
struct Scrubbed {
    group: Weak<Group>,
    pass: Pass,
}

enum Pass {
    /// What came since it began, or since the replica was opened, was checked when it was written
    /// and waits for the next one: it would be read right behind the writer.
    Reading {
        next: LogIndex,
        end: LogIndex,
    },
    Done(Instant),
}

impl Pass {
    fn to(end: LogIndex) -> Self {
        Self::Reading { next: LogIndex::ZERO, end }
    }
}

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut scrubbed: BTreeMap<TopicPartition, Scrubbed> = BTreeMap::new();
    loop {
        let open = member.partitions();
        // Of one that was closed nothing is known, also if it is open again.
        scrubbed.retain(|_, scrubbed| scrubbed.group.strong_count() > 0);
        for (id, handle) in open {
            let group = &handle.group;
            let pass = pass_of(&mut scrubbed, id, group);
            if matches!(pass, Pass::Done(at) if at.elapsed() >= limits::SCRUB_INTERVAL) {
                *pass = Pass::to(group.log_end());
            }
            if let Pass::Reading { next, end } = pass
                && scrub(member, id, group, (next, *end)).await
            {
                *pass = Pass::Done(Instant::now());
            }
        }
        tokio::time::sleep(limits::SCRUB_LOOK).await;
    }
}

/// The pass of a replica; the first one since it was opened, if it was not met before.
fn pass_of<'a>(
    scrubbed: &'a mut BTreeMap<TopicPartition, Scrubbed>,
    id: TopicPartition,
    group: &Arc<Group>,
) -> &'a mut Pass {
    let first =
        || Scrubbed { group: Arc::downgrade(group), pass: Pass::to(group.end_when_opened()) };
    let scrubbed = scrubbed.entry(id).or_insert_with(first);
    if !std::ptr::eq(scrubbed.group.as_ptr(), Arc::as_ptr(group)) {
        *scrubbed = first();
    }
    &mut scrubbed.pass
}

/// Reads one replica as far as it is committed; says whether it got to the end.
async fn scrub(
    member: &Member,
    id: TopicPartition,
    group: &Group,
    (next, end): (&mut LogIndex, LogIndex),
) -> bool {
    loop {
        match group.scrub(*next, end, limits::SCRUB_STEP_BYTES).await {
            Ok(Some(after)) if after == *next => return false,
            Ok(Some(after)) => *next = after,
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
