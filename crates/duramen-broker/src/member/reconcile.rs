//! Makes this node's replicas what the metadata says they are.
//!
//! A replica that was never formed is created, and marked as formed before it takes part: from
//! then on a missing directory is a lost replica, never a new log. A lost or damaged replica takes
//! no part, is reported, and is replaced by a new one (`repair`). Whether a replica was formed is
//! believed only of metadata that has all marks of earlier lives of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use duramen_env::planted::{Planted, is_planted};
use duramen_metadata::{Command, FormedMark, Topic};
use duramen_raft::{GroupId, GroupOpenError, GroupSpec, StateMachine};
use duramen_types::{NodeId, ReplicaId, Term, TopicPartition};
use futures::StreamExt as _;

use super::{Member, partition_log, repair};
use crate::error::with_causes;
use crate::groups::{ShardCopy, ShardHandle};
use crate::limits;
use crate::partition::PartitionHandle;

/// Wait before a reconciliation that left something undone is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A replica that the metadata wants served here.
#[derive(Clone)]
pub(super) struct Placed {
    pub(super) id: TopicPartition,
    pub(super) replica: ReplicaId,
    pub(super) formed: bool,
    pub(super) topic: Arc<Topic>,
}

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut changes = member.metadata().changes();
    loop {
        changes.borrow_and_update();
        member.follow_nodes();
        let settled = reconcile(member).await;
        loop {
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return } else { break },
                () = member.damage.notified() => break,
                () = tokio::time::sleep(if settled { RETRY * 2 } else { RETRY }) => {}
            }
            if !settled || !repair::run(member).await || has_stopped(member) {
                break;
            }
        }
    }
}

/// Whether a replica stopped by itself meanwhile.
fn has_stopped(member: &Member) -> bool {
    let is_stopped =
        |handle: &PartitionHandle| handle.group.damage().is_some() || handle.group.status().stopped;
    member.partitions().iter().any(|(_, handle)| is_stopped(handle))
}

/// One pass; says whether everything is as it should be.
async fn reconcile(member: &Member) -> bool {
    let placed = member.placed();
    close_damaged(member).await;
    let removed = remove_deleted(member, &placed).await;
    let formed = form(member, &placed).await;
    let opened = open_all(member, &placed).await;
    let founded = found(member, &placed).await;
    let repaired = repair::run(member).await;
    apply_configuration(member, &placed);
    removed && formed && opened && founded && repaired
}

impl Member {
    /// All replicas that the metadata places on this incarnation's node.
    fn placed(&self) -> Vec<Placed> {
        let node = self.host.local().node;
        let state = self.metadata().state();
        let topics = state.topics().flat_map(|topic| {
            topic.partitions().filter_map(move |(partition, placement)| {
                let replica = placement.served_on(node)?;
                Some(Placed {
                    id: TopicPartition { topic: topic.id, partition },
                    replica: replica.id,
                    formed: replica.formed,
                    topic: Arc::clone(topic),
                })
            })
        });
        topics.collect()
    }

    /// Tells Raft where the nodes and the metadata replicas are.
    fn follow_nodes(&self) {
        let addresses: Vec<_> = {
            let state = self.metadata().state();
            state.nodes().map(|node| (node.id, node.peer_address.clone())).collect()
        };
        for (node, address) in addresses {
            self.host.set_node_address(node, &address);
        }
        self.host.set_members(GroupId::Metadata, self.metadata_members());
    }

    /// Which node has which replica of the metadata.
    pub(super) fn metadata_members(&self) -> BTreeMap<ReplicaId, NodeId> {
        let founders = self.writer.founders.iter().filter(|founder| founder.node != 0);
        let mut members: BTreeMap<_, _> = founders
            .map(|founder| (ReplicaId::new(founder.incarnation), NodeId::new(founder.node)))
            .collect();
        let state = self.metadata().state();
        let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |replica: ReplicaId| {
            !state.is_retired(replica) && state.node_of_incarnation(replica).is_none()
        };
        joining.retain(|replica, _| is_new(*replica));
        members.extend(joining.iter());
        members.extend(state.nodes().map(|node| (node.incarnation, node.id)));
        members
    }

    /// Remembers where a learner of the metadata is until the metadata says so.
    pub(super) fn is_joining(&self, replica: ReplicaId, node: NodeId) {
        let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        joining.insert(replica, node);
    }

    /// Waits, once, until the copy of the metadata has everything that earlier lives of this node
    /// did: a mark that this node does not know of yet must not make it begin a log anew.
    async fn freshen(&self) -> bool {
        if self.is_fresh.load(Ordering::Relaxed) {
            return true;
        }
        let known = match self.writer.propose(&Command::MarkFormed(Vec::new())).await {
            Ok((index, _)) => self.metadata().wait_for(index).await,
            Err(error) => Err(error),
        };
        match known {
            Ok(()) => {
                self.is_fresh.store(true, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "new replicas wait for current metadata");
                false
            }
        }
    }
}

/// Closes replicas that were found damaged while they were open; their files stay as they are.
async fn close_damaged(member: &Member) {
    for (id, handle) in member.partitions() {
        let replica = handle.group.replica();
        if let Some(damage) = handle.group.damage()
            && !member.is_out(id, replica)
        {
            member.take_out(id, replica, damage);
        }
        if member.is_out(id, replica) {
            member.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            drop(handle);
            member.host.close_group(GroupId::Partition(id)).await;
        }
    }
}

/// Closes and removes replicas of deleted topics.
async fn remove_deleted(member: &Member, placed: &[Placed]) -> bool {
    let wanted: BTreeSet<_> = placed.iter().map(|placed| (placed.id, placed.replica)).collect();
    let mut settled = true;
    for (id, handle) in member.partitions() {
        let replica = handle.group.replica();
        if wanted.contains(&(id, replica)) {
            continue;
        }
        member.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        drop(handle);
        let is_kept = {
            let state = member.metadata().state();
            state.partition(id).is_some_and(|partition| partition.member(replica).is_some())
        };
        if is_kept {
            // It is being replaced here; its files go when it is.
            member.host.close_group(GroupId::Partition(id)).await;
        } else if let Err(error) = member.host.remove_replica(GroupId::Partition(id), replica).await
        {
            tracing::warn!(partition = %id, %error, "could not remove a deleted replica yet");
            settled = false;
        }
    }
    settled
}

/// Creates the logs of replicas that never were, and marks them before they take part.
async fn form(member: &Member, placed: &[Placed]) -> bool {
    if placed.iter().all(|placed| placed.formed) {
        return true;
    }
    if !member.freshen().await {
        return false;
    }
    let state = member.metadata().state().clone();
    let is_unformed = |placed: &&Placed| {
        let partition = state.partition(placed.id);
        partition.and_then(|p| p.member(placed.replica)).is_some_and(|found| !found.formed)
    };
    let mut marks = Vec::new();
    let mut settled = true;
    for new in placed.iter().filter(is_unformed) {
        // A directory without its mark was made by a try that did not get further: it never took
        // part, and may be half of one.
        let (group, options) = (GroupId::Partition(new.id), partition_log(&new.topic));
        if let Err(error) = member.host.create_replica(group, new.replica, options).await {
            let error = with_causes(&error);
            tracing::warn!(partition = %new.id, error, "could not create a replica yet");
            settled = false;
            continue;
        }
        let (topic, partition) = (new.id.topic, new.id.partition);
        marks.push(FormedMark { topic, partition, replica: Some(new.replica) });
    }
    mark(member, marks).await && settled
}

async fn mark(member: &Member, marks: Vec<FormedMark>) -> bool {
    if marks.is_empty() {
        return true;
    }
    match member.writer.propose(&Command::MarkFormed(marks)).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "could not record that replicas are formed");
            false
        }
    }
}

/// Opens replicas that are formed and not open, and those that stopped by themselves.
async fn open_all(member: &Member, placed: &[Placed]) -> bool {
    let state = member.metadata().state().clone();
    let due = placed.iter().filter(|placed| {
        let partition = state.partition(placed.id);
        let formed = partition.and_then(|partition| partition.member(placed.replica));
        formed.is_some_and(|replica| replica.formed)
    });
    let due: Vec<_> = due.filter(|placed| is_due(member, placed)).cloned().collect();
    let opening = due.into_iter().map(|placed| open(member, placed));
    let opened = futures::stream::iter(opening).buffer_unordered(limits::OPENED_IN_PARALLEL);
    opened.all(|opened| async move { opened }).await
}

fn is_due(member: &Member, placed: &Placed) -> bool {
    match member.partition(placed.id) {
        Some(handle) => handle.group.status().stopped,
        // A lost or damaged replica does not get better by being looked at again.
        None => !member.is_out(placed.id, placed.replica),
    }
}

async fn open(member: &Member, placed: Placed) -> bool {
    let group = GroupId::Partition(placed.id);
    if member.partition(placed.id).is_some() {
        tracing::warn!(partition = %placed.id, "a replica stopped by itself: opening it again");
        member.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&placed.id);
        member.host.close_group(group).await;
    }
    let shard = placed.topic.is_internal().then(ShardCopy::new);
    let machine = || shard.as_ref().map(|shard| shard.machine(member.fail_stop.clone()));
    let mut opened = member.host.open_group(spec(member, &placed, machine())).await;
    if is_planted(Planted::ReuseReplicaId) && matches!(opened, Err(GroupOpenError::Lost { .. })) {
        let log = partition_log(&placed.topic);
        drop(member.host.remove_replica(group, placed.replica).await);
        drop(member.host.create_replica(group, placed.replica, log).await);
        opened = member.host.open_group(spec(member, &placed, machine())).await;
    }
    match opened {
        Ok(group) => {
            let shard = shard.map(|copy| {
                ShardHandle::start(member, placed.id.partition, Arc::clone(&group), copy)
            });
            let handle = PartitionHandle::start(&member.env, group, shard);
            let mut partitions = member.partitions.write().unwrap_or_else(PoisonError::into_inner);
            partitions.insert(placed.id, handle);
            true
        }
        Err(error) if error.is_loss() => {
            member.take_out(placed.id, placed.replica, with_causes(&error));
            true
        }
        Err(error) => {
            tracing::warn!(partition = %placed.id, error = with_causes(&error), "not opened yet");
            false
        }
    }
}

fn spec(member: &Member, placed: &Placed, machine: Option<Box<dyn StateMachine>>) -> GroupSpec {
    let replicas = placed.topic.partition(placed.id.partition);
    let members = replicas.into_iter().flat_map(duramen_metadata::Partition::members);
    GroupSpec {
        id: GroupId::Partition(placed.id),
        replica: placed.replica,
        members: members.map(|replica| (replica.id, replica.node)).collect(),
        log: partition_log(&placed.topic),
        machine,
        snapshot_entries: member.options.snapshot_entries,
    }
}

/// Founds the Raft groups of partitions whose first replica is here, once all their logs exist.
async fn found(member: &Member, placed: &[Placed]) -> bool {
    let state = member.metadata().state().clone();
    let mut marks = Vec::new();
    let (mut settled, mut founded) = (true, Vec::new());
    for placed in placed {
        let Some(partition) = state.partition(placed.id) else { continue };
        let first = partition.replicas.first().map(|replica| replica.id);
        if partition.formed || first != Some(placed.replica) {
            continue;
        }
        if !partition.replicas.iter().all(|replica| replica.formed) {
            settled = false;
            continue;
        }
        let Some(handle) = member.partition(placed.id) else { continue };
        let voters = partition.replicas.iter().map(|replica| replica.id).collect();
        // Refused if an earlier try had worked: the group is founded either way.
        if let Err(error) = member.host.initialize(&handle.group, &voters).await {
            tracing::debug!(partition = %placed.id, %error, "the group was founded before");
        }
        founded.push(handle);
        if founded.len() >= limits::FOUND_AT_ONCE {
            await_leaders(&mut founded).await;
        }
        let (topic, partition) = (placed.id.topic, placed.id.partition);
        marks.push(FormedMark { topic, partition, replica: None });
    }
    mark(member, marks).await && settled
}

/// Waits until groups have leaders, but not for long: elections that compete with too many others
/// end late, and none of them if they begin anew meanwhile.
async fn await_leaders(founded: &mut Vec<Arc<PartitionHandle>>) {
    let elected = async {
        for handle in founded.drain(..) {
            let mut progress = handle.group.progress();
            // A group that stops has no leader to wait for.
            drop(progress.wait_for(|progress| progress.leader_term > Term::ZERO).await);
        }
    };
    drop(tokio::time::timeout(limits::FOUND_WAIT, elected).await);
}

/// Passes changed topic configuration on to the logs, and changed placement to Raft.
fn apply_configuration(member: &Member, placed: &[Placed]) {
    let state = member.metadata().state().clone();
    for placed in placed {
        if let Some(handle) = member.partition(placed.id) {
            if let Some(partition) = state.partition(placed.id) {
                let members = partition.members().map(|held| (held.id, held.node)).collect();
                member.host.set_members(GroupId::Partition(placed.id), members);
            }
            handle.group.set_log_options(partition_log(&placed.topic));
        }
    }
}
