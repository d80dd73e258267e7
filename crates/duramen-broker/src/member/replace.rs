//! The replacement of one replica by another, taken further by the partition's leader.
//!
//! ```text
//!  formed ─▶ learner ─▶ caught up ─▶ Promote ─▶ voters change ─▶ Finish
//!                                    (metadata)  (joint, Raft)    (metadata)
//! ```
//! What is next is a function of the metadata and of the group's members, so whoever leads goes on
//! where the last leader stopped, however it stopped. The copy of the metadata here may be old: the
//! voters change only from exactly the replicas that a promoting replacement names, and ids are
//! never used again, so an old copy finds others there and does nothing.

use std::collections::{BTreeMap, BTreeSet};

use duramen_metadata::{
    AdvanceReplacement, Command, Outcome, Partition, Replacement, ReplacementStep,
};
use duramen_raft::{Group, GroupId, GroupMembers, ReplicaLag};
use duramen_types::{ReplicaId, TopicPartition};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::Member;
use crate::limits;

/// What a leader is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, or wait.
    Nothing,
    /// Take out a learner that was given up.
    Forget(ReplicaId),
    /// Make the new replica a learner.
    Invite(ReplicaId),
    /// Tell the metadata that the voters will change.
    Promote,
    /// This replica is the one that goes: hand leadership to another.
    HandOver,
    /// Change the voters.
    Change {
        /// From these.
        from: BTreeSet<ReplicaId>,
        /// To these.
        to: BTreeSet<ReplicaId>,
    },
    /// Tell the metadata that the voters have changed.
    Finish,
}

/// A partition's group as its leader sees it.
struct View {
    own: ReplicaId,
    members: GroupMembers,
    /// The last change of members is complete and committed.
    settled: bool,
    /// The new replica is caught up and answers, or was waited for long enough.
    caught_up: bool,
}

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut changes = member.metadata().changes();
    // Since when promoted replicas are waited for.
    let mut waiting: BTreeMap<(TopicPartition, ReplicaId), Instant> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let (due, is_under_way) = due(member, &mut waiting);
        let is_idle = due.is_empty();
        let steps = due.into_iter().map(|due| take(member, due));
        futures::stream::iter(steps)
            .buffer_unordered(limits::REPLACED_IN_PARALLEL)
            .collect::<()>()
            .await;
        let pause = if is_under_way { limits::REPLACE_INTERVAL } else { limits::REPLACE_LOOK };
        tokio::select! {
            biased;
            changed = changes.changed(), if is_idle => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A step to be taken.
struct Due {
    id: TopicPartition,
    group: std::sync::Arc<Group>,
    replacement: Option<Replacement>,
    partition: Partition,
    step: Step,
}

/// What is to be done for the partitions that this node leads, and whether a replica of any of them
/// is on its way in or out.
fn due(
    member: &Member,
    waiting: &mut BTreeMap<(TopicPartition, ReplicaId), Instant>,
) -> (Vec<Due>, bool) {
    let state = member.metadata().state().clone();
    let mut due = Vec::new();
    let mut is_under_way = false;
    let mut awaited = BTreeSet::new();
    for (id, handle) in member.partitions() {
        let group = &handle.group;
        let Some(partition) = state.partition(id) else { continue };
        if (partition.replacement.is_none() && !group.has_learners())
            || group.serving_term().is_none()
        {
            continue;
        }
        is_under_way = true;
        let members = group.membership();
        let mut caught_up = false;
        if let Some(now) = partition.replacement {
            let lag = group.replication().and_then(|all| all.get(&now.new.id).copied());
            caught_up = lag.is_some_and(is_caught_up);
            if now.promoting && !caught_up && partition.replicas.len() >= 3 {
                let key = (id, now.new.id);
                let since = *waiting.entry(key).or_insert_with(Instant::now);
                awaited.insert(key);
                caught_up = since.elapsed() >= limits::PROMOTE_WAIT;
            }
        }
        let settled = group.is_membership_settled();
        let view = View { own: group.replica(), members, settled, caught_up };
        let step = next(partition, &view, &|replica| state.is_removed(replica));
        if step != Step::Nothing {
            let (group, replacement) = (std::sync::Arc::clone(group), partition.replacement);
            due.push(Due { id, group, replacement, partition: partition.clone(), step });
        }
    }
    waiting.retain(|key, _| awaited.contains(key));
    (due, is_under_way)
}

fn is_caught_up(lag: ReplicaLag) -> bool {
    lag.matched.is_some()
        && lag.entries <= limits::PROMOTE_LAG_MAX
        && lag.silent_for.is_some_and(|silent| silent <= limits::PROMOTE_SILENCE_MAX)
}

/// The next step of a partition's replacement.
fn next(partition: &Partition, view: &View, is_removed: &dyn Fn(ReplicaId) -> bool) -> Step {
    let members = &view.members;
    // Only what was given up for sure: the copy here may not know the newest learner yet.
    let given_up = members.learners.iter().find(|id| is_removed(**id));
    if let (Some(given_up), true) = (given_up, view.settled) {
        return Step::Forget(*given_up);
    }
    let Some(now) = partition.replacement else { return Step::Nothing };
    let from = partition.replica_ids();
    let mut to = from.clone();
    to.remove(&now.old);
    to.insert(now.new.id);
    let change = Step::Change { from: from.clone(), to: to.clone() };
    if !view.settled {
        let is_ours = now.promoting
            && members.voters.iter().all(|id| from.union(&to).any(|known| known == id));
        return if is_ours { change } else { Step::Nothing };
    }
    if members.voters == to {
        return if now.promoting { Step::Finish } else { Step::Nothing };
    }
    if members.voters != from || !now.new.formed {
        return Step::Nothing;
    }
    if !members.learners.contains(&now.new.id) {
        return Step::Invite(now.new.id);
    }
    match (view.caught_up, now.promoting) {
        (false, _) => Step::Nothing,
        (true, false) => Step::Promote,
        (true, true) if view.own == now.old && to.len() > 1 => Step::HandOver,
        (true, true) => change,
    }
}

/// Takes a step; what fails is looked at again.
async fn take(member: &Member, due: Due) {
    let (id, group, step) = (due.id, &due.group, &due.step);
    let members = due.partition.members().map(|held| (held.id, held.node)).collect();
    member.host.set_members(GroupId::Partition(id), members);
    let done = async {
        match step {
            Step::Nothing => Ok(()),
            Step::Forget(replica) => text(group.remove_learner(*replica).await),
            Step::Invite(replica) => text(group.add_learner(*replica).await),
            Step::Promote => advance(member, &due, ReplacementStep::Promote).await,
            Step::HandOver => hand_over(&due).await,
            Step::Change { from, to } => text(group.change_voters_from(from, to).await),
            Step::Finish => advance(member, &due, ReplacementStep::Finish).await,
        }
    };
    match tokio::time::timeout(limits::REPLACE_STEP, done).await {
        Ok(Ok(())) => tracing::info!(partition = %id, ?step, "a replica's replacement went on"),
        Ok(Err(reason)) => {
            tracing::debug!(partition = %id, ?step, reason, "a replica's replacement waits");
        }
        Err(_) => tracing::debug!(partition = %id, ?step, "a replica's replacement takes long"),
    }
}

fn text<E: std::fmt::Display>(done: Result<(), E>) -> Result<(), String> {
    done.map_err(|error| error.to_string())
}

async fn advance(member: &Member, due: &Due, step: ReplacementStep) -> Result<(), String> {
    let Some(now) = due.replacement else { return Ok(()) };
    let (topic, partition) = (due.id.topic, due.id.partition);
    let advance = AdvanceReplacement { topic, partition, old: now.old, new: now.new.id, step };
    let proposed = member.writer.propose(&Command::AdvanceReplacement(advance)).await;
    match proposed {
        Ok((_, Outcome::Refused(refusal))) => Err(refusal.to_string()),
        Ok((index, _)) => {
            if step == ReplacementStep::Finish {
                crate::metrics::replaced();
            }
            text(member.metadata().wait_for(index).await)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Hands leadership to the voter that is the least behind.
async fn hand_over(due: &Due) -> Result<(), String> {
    let Some(now) = due.replacement else { return Ok(()) };
    let own = due.group.replica();
    let replication = due.group.replication().unwrap_or_default();
    let mut others: Vec<_> = replication
        .iter()
        .filter(|(id, _)| **id != own && **id != now.new.id)
        .map(|(id, lag)| (lag.entries, *id))
        .collect();
    others.sort_unstable();
    let mut refusal = "no other voter answers".to_owned();
    for (_, to) in others {
        match due.group.transfer_leader(to).await {
            Ok(()) => return Ok(()),
            Err(error) => refusal = error.to_string(),
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use duramen_metadata::Replica;
    use duramen_types::NodeId;

    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId::new).collect()
    }

    fn replica(id: u64) -> Replica {
        Replica { node: NodeId::new(id), id: ReplicaId::new(id), formed: true }
    }

    /// Replicas 1 to 3; 1 is being replaced by 9.
    fn partition(promoting: bool) -> Partition {
        let old = ReplicaId::new(1);
        Partition {
            replicas: [1, 2, 3].map(replica).to_vec(),
            formed: true,
            replacement: Some(Replacement { old, new: replica(9), promoting }),
        }
    }

    fn view(voters: &[u64], learners: &[u64], caught_up: bool) -> View {
        let members = GroupMembers { voters: ids(voters), learners: ids(learners) };
        View { own: ReplicaId::new(2), members, settled: true, caught_up }
    }

    fn step(partition: &Partition, view: &View) -> Step {
        next(partition, view, &|removed| removed == ReplicaId::new(8))
    }

    fn change() -> Step {
        Step::Change { from: ids(&[1, 2, 3]), to: ids(&[2, 3, 9]) }
    }

    #[test]
    fn a_replacement_goes_step_by_step() {
        let new = ReplicaId::new(9);
        let (invited, promoting) = (partition(false), partition(true));
        assert_eq!(step(&invited, &view(&[1, 2, 3], &[], false)), Step::Invite(new));
        assert_eq!(step(&invited, &view(&[1, 2, 3], &[9], false)), Step::Nothing);
        assert_eq!(step(&invited, &view(&[1, 2, 3], &[9], true)), Step::Promote);
        assert_eq!(step(&promoting, &view(&[1, 2, 3], &[9], false)), Step::Nothing);
        assert_eq!(step(&promoting, &view(&[1, 2, 3], &[9], true)), change());
        assert_eq!(step(&promoting, &view(&[2, 3, 9], &[], true)), Step::Finish);
        let mut unformed = partition(false);
        unformed.replacement = Some(Replacement {
            new: Replica { formed: false, ..replica(9) },
            ..unformed.replacement.unwrap()
        });
        assert_eq!(step(&unformed, &view(&[1, 2, 3], &[], false)), Step::Nothing);
    }

    #[test]
    fn a_change_that_was_left_half_done_is_finished() {
        let half = View { settled: false, ..view(&[1, 2, 3, 9], &[], false) };
        assert_eq!(step(&partition(true), &half), change());
        assert_eq!(step(&partition(false), &half), Step::Nothing, "it is not known to be meant");
        let other = View { settled: false, ..view(&[1, 2, 3, 7], &[], false) };
        assert_eq!(step(&partition(true), &other), Step::Nothing);
    }

    #[test]
    fn a_leader_that_goes_hands_over_first() {
        let own = View { own: ReplicaId::new(1), ..view(&[1, 2, 3], &[9], true) };
        assert_eq!(step(&partition(true), &own), Step::HandOver);
        assert_eq!(step(&partition(false), &own), Step::Promote);
        let mut alone = partition(true);
        alone.replicas.truncate(1);
        let own = View { own: ReplicaId::new(1), ..view(&[1], &[9], true) };
        assert_eq!(step(&alone, &own), Step::Change { from: ids(&[1]), to: ids(&[9]) });
    }

    #[test]
    fn an_old_copy_of_the_metadata_changes_nothing() {
        let finished = Partition { replacement: None, ..partition(true) };
        assert_eq!(step(&finished, &view(&[2, 3, 9], &[], true)), Step::Nothing);
        assert_eq!(step(&finished, &view(&[1, 2, 3], &[9], true)), Step::Nothing);
        for voters in [&[2, 4, 9], &[1, 2, 4], &[2, 3, 7]] {
            assert_eq!(step(&partition(true), &view(voters, &[9], true)), Step::Nothing);
        }
    }

    #[test]
    fn a_learner_that_was_given_up_is_taken_out() {
        let forget = Step::Forget(ReplicaId::new(8));
        let none = Partition { replacement: None, ..partition(false) };
        assert_eq!(step(&none, &view(&[1, 2, 3], &[8], false)), forget);
        assert_eq!(step(&partition(false), &view(&[1, 2, 3], &[8, 9], true)), forget);
    }
}
