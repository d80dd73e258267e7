//! What the leader of a shard sees to: subscriptions are looked up, targets computed, sessions
//! timed, members told.
//!
//! Everything that it knows beyond the replicated state is made anew when it begins: whatever was
//! left undone by the last coordinator is found in the state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use duramen_env::TaskHandle;
use duramen_group::{Action, Assignor, Change, Effect, GroupName, Phase};
use duramen_raft::Group;
use duramen_types::{MetadataIndex, PartitionId, Term, TopicId};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use super::due::Due;
use super::resolve::{Patterns, Topics, is_known, racks};
use super::shard::{Effects, Shard, ShardCopy, is_stale};
use crate::error::BrokerError;
use crate::limits;
use crate::member::Member;
use crate::metadata::MetadataCopy;

/// A shard and the task that coordinates it while this node leads it.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) shard: Arc<Shard>,
    _coordinator: TaskHandle<()>,
}

impl ShardHandle {
    pub(crate) fn start(
        member: &Member,
        id: PartitionId,
        group: Arc<Group>,
        copy: Arc<ShardCopy>,
    ) -> Self {
        let shard = Arc::new(Shard::new(member.env.clone(), id, group, copy));
        let metadata = Arc::clone(&member.writer.copy);
        let run = run(Arc::clone(&shard), metadata, member.options.group_assignor);
        let coordinator = member.env.tasks.critical("group-coordinator", run);
        Self { shard, _coordinator: coordinator }
    }
}

/// Runs until the replica stops: whoever opens it again starts another one.
async fn run(shard: Arc<Shard>, metadata: Arc<MetadataCopy>, assignor: &'static dyn Assignor) {
    let mut progress = shard.group.progress();
    loop {
        let status = shard.group.status();
        if status.stopped {
            return;
        }
        if let Some(term) = shard.group.serving_term() {
            let lead = Leading::begin(&shard, term);
            Coordinator::new(&shard, &metadata, assignor, term).run().await;
            drop(lead);
            continue;
        }
        tokio::select! {
            biased;
            _ = shard.group.status_changed(status) => {}
            changed = progress.changed() => if changed.is_err() { return },
        }
    }
}

/// Ends the lead however its owner ends.
struct Leading<'a>(&'a Shard);

impl<'a> Leading<'a> {
    fn begin(shard: &'a Shard, term: Term) -> Self {
        shard.lead(term);
        Self(shard)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.give_up_lead();
    }
}

/// What was asked of the group, and what came of it.
struct Answer {
    group: GroupName,
    /// Where the metadata was read, if it was asked to take note of that.
    looked_up: Option<MetadataIndex>,
    result: Result<(), BrokerError>,
}

struct Coordinator<'a> {
    shard: &'a Shard,
    metadata: &'a MetadataCopy,
    assignor: &'static dyn Assignor,
    term: Term,
    patterns: Patterns,
    topics: Topics,
    /// Changes of the metadata since `topics`.
    changes: watch::Receiver<MetadataIndex>,
    due: Due,
    pending: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl<'a> Coordinator<'a> {
    fn new(
        shard: &'a Shard,
        metadata: &'a MetadataCopy,
        assignor: &'static dyn Assignor,
        term: Term,
    ) -> Self {
        // Before the topics are read: what changes in between is not missed.
        let changes = metadata.changes();
        let mut due = Due::default();
        due.add_all(&shard.state());
        Self {
            shard,
            metadata,
            assignor,
            term,
            patterns: Patterns::default(),
            topics: Topics::of(&metadata.state()),
            changes,
            due,
            pending: FuturesUnordered::new(),
        }
    }

    /// Coordinates until this node does not lead the shard any more.
    async fn run(mut self) {
        let mut retire = tokio::time::interval(limits::GROUP_RETIRE_INTERVAL);
        retire.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if self.forget_deleted().await.is_err() {
            return;
        }
        loop {
            let status = self.shard.group.status();
            if self.shard.group.serving_term() != Some(self.term) || self.work().await.is_err() {
                return;
            }
            let wait = self.next_session().saturating_sub(self.shard.now());
            // What is due waits where there is none: an answer makes room, and ends the waiting.
            let has_room = self.room() > 0;
            tokio::select! {
                biased;
                _ = self.shard.group.status_changed(status) => {}
                Some(answer) = self.pending.next() => self.answered(answer),
                () = self.shard.copy.wake.notified() => self.observe(),
                changed = self.changes.changed() => {
                    if changed.is_err() || self.follow_metadata().await.is_err() {
                        return;
                    }
                }
                _ = retire.tick(), if has_room => if self.retire().await.is_err() { return },
                () = tokio::time::sleep(wait), if has_room => {
                    if self.expire().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// How many more proposals may be under way.
    fn room(&self) -> usize {
        limits::GROUP_PROPOSALS_MAX.saturating_sub(self.pending.len())
    }

    fn next_session(&self) -> Duration {
        let due = self.shard.with_lead(self.term, |_, lead| lead.sessions.next_due());
        let longest = self.shard.now().saturating_add(limits::GROUP_RETIRE_INTERVAL);
        due.flatten().unwrap_or(longest).min(longest)
    }

    /// Sees to what commands brought about.
    fn observe(&mut self) {
        let Effects { list, overflowed } = self.shard.copy.take_effects();
        let now = self.shard.now();
        if overflowed {
            self.shard.lead(self.term);
            self.due.add_all(&self.shard.state());
            return;
        }
        self.shard.with_lead(self.term, |state, lead| {
            lead.sessions.observe(state, &list, now);
            for effect in &list {
                match effect {
                    Effect::AssignmentChanged { group, member }
                    | Effect::MemberJoined { group, member }
                    | Effect::MemberRemoved { group, member, .. } => lead.tell(group, member),
                    Effect::ResolutionDue { .. }
                    | Effect::TargetDue { .. }
                    | Effect::GroupRemoved { .. } => {}
                }
            }
        });
        for effect in list {
            match effect {
                Effect::ResolutionDue { group } => drop(self.due.resolve.insert(group)),
                Effect::TargetDue { group } => drop(self.due.assign.insert(group)),
                _ => {}
            }
        }
    }

    /// Proposes what is due, as far as there is room.
    async fn work(&mut self) -> Result<(), BrokerError> {
        while self.pending.len() < limits::GROUP_PLANS_MAX {
            if let Some(name) = self.due.resolve.pop_first() {
                if let Some(action) = self.plan_resolve(&name) {
                    self.propose(name, action).await?;
                }
            } else if let Some(name) = self.due.assign.pop_first() {
                if let Some(action) = self.plan_assign(&name) {
                    self.propose(name, action).await?;
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    fn plan_resolve(&mut self, name: &GroupName) -> Option<Action> {
        let state = self.shard.state();
        let group = state.group(name).filter(|group| group.phase() != Phase::Empty)?;
        let resolution = self.patterns.resolve(&self.topics, group);
        (!is_known(group, &resolution)).then_some(Action::Resolve(resolution))
    }

    fn plan_assign(&self, name: &GroupName) -> Option<Action> {
        let state = self.shard.state();
        // What is not looked up yet will make another target due.
        let group = state.group(name).filter(|group| group.is_resolved())?;
        let racks = racks(&self.metadata.state(), group);
        state.plan_assign(name, self.assignor, &racks)
    }

    async fn propose(&mut self, group: GroupName, action: Action) -> Result<(), BrokerError> {
        let looked_up = match &action {
            Action::Resolve(resolution) => Some(resolution.index),
            _ => None,
        };
        let change = Change::Group { group: group.clone(), action };
        let submitted = self.shard.submit(self.term, change).await?;
        let answered = async move {
            let result = submitted.outcome().await.map(drop);
            Answer { group, looked_up, result }
        };
        self.pending.push(answered.boxed());
        Ok(())
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { group, looked_up, result } = answer;
        if let Err(error) = &result
            && !is_stale(error)
        {
            tracing::debug!(%group, %error, "a proposal for a group was refused");
        }
        let refused = match result {
            Ok(()) => None,
            Err(BrokerError::Group(refusal)) => Some(refusal),
            // The lead ends with it.
            Err(_) => return,
        };
        if let Some(at) = looked_up {
            self.due.looked_up(group, at, self.topics.index(), refused);
        }
    }

    /// The metadata changed: perhaps subscriptions are something else now.
    async fn follow_metadata(&mut self) -> Result<(), BrokerError> {
        let before = std::mem::replace(&mut self.topics, Topics::of(&self.metadata.state()));
        self.due.follow();
        if before.is_same_as(&self.topics) {
            return Ok(());
        }
        self.due.resolve_all(&self.shard.state());
        self.forget_deleted().await
    }

    /// Forgets offsets of topics that are known to be deleted. One that is not in the metadata may
    /// only be too new for this node.
    async fn forget_deleted(&mut self) -> Result<(), BrokerError> {
        let (topics, index) = {
            let (state, metadata) = (self.shard.state(), self.metadata.state());
            let of_offsets = state.groups().flat_map(|(_, group)| group.offsets());
            let known: BTreeSet<TopicId> =
                of_offsets.map(|(partition, _)| partition.topic).collect();
            let topics: Vec<TopicId> =
                known.into_iter().filter(|topic| metadata.is_deleted(*topic)).collect();
            (topics, metadata.applied())
        };
        if topics.is_empty() {
            return Ok(());
        }
        let change = Change::ForgetTopics { index, topics };
        drop(self.shard.submit(self.term, change).await?);
        Ok(())
    }

    /// Removes members whose time has run out.
    async fn expire(&mut self) -> Result<(), BrokerError> {
        let (now, room) = (self.shard.now(), self.room());
        let due =
            self.shard.with_lead(self.term, |state, lead| lead.sessions.due(state, now, room));
        for proposal in due.unwrap_or_default() {
            if let Action::Expire { member, cause, .. } = &proposal.action {
                tracing::info!(group = %proposal.group, %member, ?cause, "a member is removed");
            }
            self.propose(proposal.group, proposal.action).await?;
        }
        Ok(())
    }

    /// Deletes groups that nobody has used for long.
    async fn retire(&mut self) -> Result<(), BrokerError> {
        let idle_ms = limits::GROUP_RETENTION_MS;
        let idle: Vec<GroupName> = {
            let state = self.shard.state();
            let idle = state.idle_groups(self.shard.wall(), idle_ms);
            idle.take(self.room()).cloned().collect()
        };
        for group in idle {
            tracing::info!(%group, "a group that nobody used is deleted");
            self.propose(group, Action::Retire { idle_ms }).await?;
        }
        Ok(())
    }
}
