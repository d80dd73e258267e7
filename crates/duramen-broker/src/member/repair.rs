//! What becomes of replicas that are lost or damaged: each is replaced by a new one, under an id that
//! was never used, as soon as a majority of its partition can bring that in.
//!
//! A replica that lost what it had acknowledged does not know it: its leader does, whose node asks
//! for the replacement. The replica's own node learns of it from the metadata, like everybody.
//!
//! The damaged files stay as they are until the new replica is whole and votes. Only then are they
//! removed: on the word of the metadata that names the replica as replaced, never because it is
//! not mentioned.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use duramen_metadata::{Command, Outcome, State, plan_repair};
use duramen_raft::GroupId;
use duramen_types::{ReplicaId, TopicPartition};

use super::{Member, partition_log};
use crate::error::with_causes;

/// One pass; says whether everything is as it should be.
pub(super) async fn run(member: &Member) -> bool {
    examine_replaced(member).await;
    forget_replaced(member);
    let asked = replace(member).await;
    sweep(member).await && asked
}

/// Says what is wrong with a replica that is being replaced here: again after a restart in the
/// middle of it, or for the first time if its leader asked for it.
async fn examine_replaced(member: &Member) {
    let node = member.host.local().node;
    let state = member.metadata().state().clone();
    for (id, partition) in state.partitions() {
        let Some(now) = partition.replacement.filter(|now| now.new.node == node) else { continue };
        let Some(topic) = state.topic_by_id(id.topic) else { continue };
        let is_here = partition.replica_on(node).is_some_and(|held| held.id == now.old);
        // One that is open still is closed first, in the next pass.
        let is_open = member.partition(id).is_some_and(|open| open.group.replica() == now.old);
        if !is_here || is_open || member.is_out(id, now.old) {
            continue;
        }
        let (group, options) = (GroupId::Partition(id), partition_log(topic));
        let reason = match member.host.examine(group, now.old, options).await {
            Ok(()) => "it was found damaged while it was open, or without entries that it had \
                       acknowledged to its leader"
                .to_owned(),
            Err(error) => with_causes(&error),
        };
        member.take_out(id, now.old, reason);
    }
}

/// Forgets what was wrong with replicas that are replaced by now, or whose topic is gone.
fn forget_replaced(member: &Member) {
    let state = member.metadata().state().clone();
    let mut problems = member.problems.write().unwrap_or_else(PoisonError::into_inner);
    problems.retain(|(id, replica), _| {
        let is_member = state.partition(*id).is_some_and(|p| p.member(*replica).is_some());
        if !is_member {
            tracing::info!(partition = %id, %replica, "a replica that took no part is replaced");
        }
        is_member
    });
}

/// Replicas to be replaced: those of this node that take no part, and those of others that lost what
/// they had acknowledged to this node.
fn due(member: &Member) -> BTreeSet<(TopicPartition, ReplicaId)> {
    let mut due: BTreeSet<_> = {
        let problems = member.problems.read().unwrap_or_else(PoisonError::into_inner);
        problems.keys().copied().collect()
    };
    for (id, handle) in member.partitions() {
        due.extend(handle.group.losses().iter().map(|loss| (id, loss.replica)));
    }
    due
}

/// Asks for the replacement of replicas that take no part.
async fn replace(member: &Member) -> bool {
    if !member.is_registered() {
        return false;
    }
    let mut settled = true;
    for (id, replica) in due(member) {
        let mut random = || member.env.random.next_u64();
        let command = plan_repair(&member.metadata().state(), id, replica, &mut random);
        let Some(command @ Command::ReplaceReplica(asked)) = command else { continue };
        match member.writer.propose(&command).await {
            Ok((_, Outcome::ReplacementSet { replica: new })) => {
                let node = asked.new.node;
                tracing::warn!(
                    partition = %id, %replica, %new, %node,
                    "a lost or damaged replica is being replaced by a new one on its node"
                );
            }
            Ok((_, outcome)) => {
                tracing::info!(partition = %id, ?asked, ?outcome, "a replica is not replaced now");
                settled = false;
            }
            Err(error) => {
                tracing::warn!(partition = %id, %error, "could not ask for a replica's replacement");
                settled = false;
            }
        }
    }
    settled
}

/// Removes the files of replicas that the metadata says are replaced, given up or of a deleted
/// topic.
async fn sweep(member: &Member) -> bool {
    let applied = member.metadata().applied();
    if *member.swept.borrow() == applied {
        return true;
    }
    let host = std::sync::Arc::clone(&member.host);
    let listed = member.env.tasks.blocking("replicas-list", move || host.replicas_on_disk()).await;
    let found = match listed {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "could not list the replicas on disk");
            return false;
        }
    };
    let mut settled = true;
    for (id, replica) in found {
        let is_gone = {
            let state = member.metadata().state();
            state.is_removed(replica) || state.is_deleted(id.topic)
        };
        // One that is open is closed by its owner first.
        let is_open = member.partition(id).is_some_and(|open| open.group.replica() == replica);
        if !is_gone || is_open {
            continue;
        }
        match member.host.remove_replica(GroupId::Partition(id), replica).await {
            Ok(()) => tracing::info!(partition = %id, %replica, "a replaced replica was removed"),
            Err(error) => {
                tracing::warn!(partition = %id, %replica, %error, "could not remove a replica yet");
                settled = false;
            }
        }
    }
    if settled {
        member.swept.send_replace(applied);
    }
    settled
}

/// What becomes of a partition's damaged replica, in words.
pub(super) fn way_out(state: &State, id: TopicPartition) -> String {
    let Some(partition) = state.partition(id) else { return "its topic was deleted".to_owned() };
    let count = partition.replicas.len();
    match partition.replacement {
        Some(now) => format!(
            "replica {} is being replaced by replica {} on node {}, which needs a majority of the \
             partition's replicas: if others are damaged as well, restore their files",
            now.old, now.new.id, now.new.node
        ),
        None if count >= 3 => {
            "it will be replaced by a new replica, which needs a majority of the partition's \
             replicas: if others are damaged as well, restore their files"
                .to_owned()
        }
        None => format!(
            "the partition has {count} replicas, so no majority is left that could bring in a new \
             one: restore its files, or delete the topic"
        ),
    }
}
