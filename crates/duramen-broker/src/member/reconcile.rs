//! Makes this node's replicas what the metadata says they are.
//!
//! A replica that was never formed is created, and marked as formed before it takes part: from
//! then on a missing directory is a lost replica, never a new log. A lost or damaged replica takes
//! no part and is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use duramen_metadata::{Command, FormedMark, Topic};
use duramen_raft::{GroupId, GroupOpenError, GroupSpec};
use duramen_types::{NodeId, ReplicaId, TopicPartition};
use futures::StreamExt as _;

use super::{Member, partition_log};
use crate::limits;
use crate::partition::PartitionHandle;

/// Wait before a reconciliation that left something undone is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A replica that the metadata places here.
#[derive(Clone)]
struct Placed {
    id: TopicPartition,
    replica: ReplicaId,
    formed: bool,
    topic: Arc<Topic>,
}

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut changes = member.metadata().changes();
    loop {
        changes.borrow_and_update();
        member.follow_nodes();
        let settled = reconcile(member).await;
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = member.damage.notified() => {}
            // Something may have stopped by itself meanwhile.
            () = tokio::time::sleep(if settled { RETRY * 2 } else { RETRY }) => {}
        }
    }
}

/// One pass; says whether everything is as it should be.
async fn reconcile(member: &Member) -> bool {
    let placed = member.placed();
    close_damaged(member).await;
    let removed = remove_deleted(member, &placed).await;
    let formed = form(member, &placed).await;
    let opened = open_all(member, &placed).await;
    let founded = found(member, &placed).await;
    apply_configuration(member, &placed);
    removed && formed && opened && founded
}

impl Member {
    /// All replicas that the metadata places on this incarnation's node.
    fn placed(&self) -> Vec<Placed> {
        let node = self.host.local().node;
        let state = self.metadata().state();
        let topics = state.topics().flat_map(|topic| {
            topic.partitions().filter_map(move |(partition, placement)| {
                let replica = placement.replica_on(node)?;
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
        members.extend(state.nodes().map(|node| (node.incarnation, node.id)));
        members
    }

    fn set_problem(&self, id: TopicPartition, problem: Option<String>) {
        match problem {
            Some(problem) => self.take_out(id, problem),
            None => {
                self.problems.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
    }
}

/// Closes replicas that were found damaged while they were open; their files stay as they are.
async fn close_damaged(member: &Member) {
    for (id, handle) in member.partitions() {
        if member.problem(id).is_some() {
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
        if let Err(error) = member.host.remove_replica(GroupId::Partition(id), replica).await {
            tracing::warn!(partition = %id, %error, "could not remove a deleted replica yet");
            settled = false;
        }
    }
    settled
}

/// Creates the logs of replicas that never were, and marks them before they take part.
async fn form(member: &Member, placed: &[Placed]) -> bool {
    let mut marks = Vec::new();
    for new in placed.iter().filter(|placed| !placed.formed) {
        let group = GroupId::Partition(new.id);
        // A directory without its mark was made by a try that did not get further: it never took
        // part, and may be half of one.
        let options = partition_log(&new.topic.config());
        if let Err(error) = member.host.create_replica(group, new.replica, options).await {
            member.set_problem(new.id, Some(describe(&error)));
            continue;
        }
        let (topic, partition) = (new.id.topic, new.id.partition);
        marks.push(FormedMark { topic, partition, replica: Some(new.replica) });
    }
    mark(member, marks).await
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
        let formed = state.partition(placed.id).and_then(|partition| {
            partition.replicas.iter().find(|replica| replica.id == placed.replica)
        });
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
        None => member.problem(placed.id).is_none(),
    }
}

async fn open(member: &Member, placed: Placed) -> bool {
    let group = GroupId::Partition(placed.id);
    if member.partition(placed.id).is_some() {
        tracing::warn!(partition = %placed.id, "a replica stopped by itself: opening it again");
        member.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&placed.id);
        member.host.close_group(group).await;
    }
    let replicas = placed.topic.partition(placed.id.partition);
    let members = replicas.into_iter().flat_map(|partition| &partition.replicas);
    let spec = GroupSpec {
        id: group,
        replica: placed.replica,
        members: members.map(|replica| (replica.id, replica.node)).collect(),
        log: partition_log(&placed.topic.config()),
        machine: None,
    };
    match member.host.open_group(spec).await {
        Ok(group) => {
            member.set_problem(placed.id, None);
            let handle = PartitionHandle::start(&member.env, group);
            let mut partitions = member.partitions.write().unwrap_or_else(PoisonError::into_inner);
            partitions.insert(placed.id, handle);
            true
        }
        Err(error @ (GroupOpenError::Lost { .. } | GroupOpenError::Damaged { .. })) => {
            member.set_problem(placed.id, Some(describe(&error)));
            true
        }
        Err(error) => {
            tracing::warn!(partition = %placed.id, error = describe(&error), "not opened yet");
            false
        }
    }
}

/// Founds the Raft groups of partitions whose first replica is here, once all their logs exist.
async fn found(member: &Member, placed: &[Placed]) -> bool {
    let state = member.metadata().state().clone();
    let mut marks = Vec::new();
    let mut settled = true;
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
        let (topic, partition) = (placed.id.topic, placed.id.partition);
        marks.push(FormedMark { topic, partition, replica: None });
    }
    mark(member, marks).await && settled
}

/// Passes changed topic configuration on to the logs.
fn apply_configuration(member: &Member, placed: &[Placed]) {
    for placed in placed {
        if let Some(handle) = member.partition(placed.id) {
            handle.group.set_log_options(partition_log(&placed.topic.config()));
        }
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
