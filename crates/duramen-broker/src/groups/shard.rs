//! One shard of consumer groups on this node: its state, and who coordinates it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use duramen_env::Env;
use duramen_group::{
    Action, Change, Command, Effect, GroupName, MemberEpoch, MemberId, Outcome, Refusal, Sessions,
    State,
};
use duramen_raft::{FailStop, Group, Proposal, ProposalKind, Proposed, RestoreError, StateMachine};
use duramen_types::{MetadataIndex, PartitionId, Term, Timestamp};
use tokio::sync::{Notify, watch};

use crate::error::BrokerError;
use crate::limits;

/// The groups of a shard as this node has applied them.
#[derive(Debug)]
pub(crate) struct ShardCopy {
    state: RwLock<State>,
    /// What the coordinator has to see to, while this node coordinates.
    effects: Mutex<Option<Effects>>,
    pub(super) wake: Notify,
}

/// What commands brought about since the coordinator looked.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) list: Vec<Effect>,
    /// There were too many: the coordinator begins anew from the state, which says the same.
    pub(super) overflowed: bool,
}

impl ShardCopy {
    pub(crate) fn new() -> Arc<Self> {
        let state = RwLock::new(State::default());
        Arc::new(Self { state, effects: Mutex::new(None), wake: Notify::new() })
    }

    /// The state; not to be held across an await.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins or ends to gather effects.
    fn gather(&self, gather: bool) {
        *lock(&self.effects) = gather.then(Effects::default);
    }

    /// What was gathered since the last call.
    pub(super) fn take_effects(&self) -> Effects {
        lock(&self.effects).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The state machine that keeps this copy.
    pub(crate) fn machine(self: &Arc<Self>, fail_stop: FailStop) -> Box<dyn StateMachine> {
        Box::new(Machine { copy: Arc::clone(self), fail_stop })
    }
}

struct Machine {
    copy: Arc<ShardCopy>,
    fail_stop: FailStop,
}

fn decode(state: &[u8]) -> Result<State, RestoreError> {
    State::decode(state).map_err(|source| RestoreError { source: source.into() })
}

impl StateMachine for Machine {
    fn apply(&mut self, index: MetadataIndex, command: &[u8]) -> Bytes {
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(error) => {
                // A command of a later version: this node cannot know what it means.
                let reason = format!("could not apply index {index} of a group shard: {error}");
                self.fail_stop.fail(reason);
                return Bytes::new();
            }
        };
        let applied = {
            let mut state = self.copy.state.write().unwrap_or_else(PoisonError::into_inner);
            state.apply(&command)
        };
        if !applied.effects.is_empty()
            && let Some(effects) = lock(&self.copy.effects).as_mut()
        {
            effects.overflowed |= effects.list.len() >= limits::GROUP_EFFECTS_MAX;
            if effects.overflowed {
                effects.list.clear();
            } else {
                effects.list.extend(applied.effects);
            }
        }
        applied.outcome.encode().into()
    }

    fn snapshot(&self) -> Bytes {
        self.copy.state().encode().into()
    }

    fn check(&self, state: &[u8]) -> Result<(), RestoreError> {
        decode(state).map(|_| ())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let state = decode(state)?;
        *self.copy.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn advanced(&mut self, _: MetadataIndex) {
        self.copy.wake.notify_one();
    }
}

/// What this node knows while it coordinates a shard.
pub(super) struct Lead {
    pub(super) term: Term,
    pub(super) sessions: Sessions,
    /// Who serves which member's stream, and how to make it look at the member's assignment.
    streams: BTreeMap<(GroupName, MemberId), (u64, watch::Sender<u64>)>,
}

/// A shard of consumer groups that this node has a replica of.
pub(crate) struct Shard {
    pub(super) id: PartitionId,
    pub(super) env: Env,
    pub(super) group: Arc<Group>,
    pub(super) copy: Arc<ShardCopy>,
    lead: Mutex<Option<Lead>>,
    streams_made: AtomicU64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A command on its way.
pub(super) struct Submitted(Proposed);

impl Submitted {
    /// What came of it; refusals are errors.
    pub(super) async fn outcome(self) -> Result<Outcome, BrokerError> {
        let applied = self.0.outcome().await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Refused(refusal)) => Err(BrokerError::Group(refusal)),
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(BrokerError::Storage { reason: error.to_string() }),
        }
    }
}

impl Shard {
    pub(super) fn new(env: Env, id: PartitionId, group: Arc<Group>, copy: Arc<ShardCopy>) -> Self {
        let (lead, streams_made) = (Mutex::new(None), AtomicU64::new(0));
        Self { id, env, group, copy, lead, streams_made }
    }

    /// The groups; not to be held across an await.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.copy.state()
    }

    /// The term in which this node coordinates the shard, if it does.
    pub(super) fn term(&self) -> Option<Term> {
        let term = self.group.serving_term()?;
        lock(&self.lead).as_ref().is_some_and(|lead| lead.term == term).then_some(term)
    }

    /// The coordinator's monotonic clock.
    pub(super) fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.env.clock.now()
    }

    /// Begins to coordinate.
    pub(super) fn lead(&self, term: Term) {
        self.copy.gather(true);
        let sessions = Sessions::adopt(&self.state(), self.now());
        *lock(&self.lead) = Some(Lead { term, sessions, streams: BTreeMap::new() });
    }

    /// Stops coordinating: all member streams end.
    pub(super) fn give_up_lead(&self) {
        self.copy.gather(false);
        *lock(&self.lead) = None;
    }

    /// Proposes something, in order with other calls of the caller.
    pub(super) async fn submit(
        &self,
        term: Term,
        change: Change,
    ) -> Result<Submitted, BrokerError> {
        let command = Command { at: self.wall(), change };
        let proposal = Proposal {
            kind: ProposalKind::Command,
            payload: command.encode().into(),
            records: 0,
            max_timestamp: Timestamp::MIN,
        };
        Ok(Submitted(self.group.propose(proposal, term).await?))
    }

    /// Proposes something with one group and waits for the outcome.
    pub(super) async fn propose(
        &self,
        term: Term,
        group: &GroupName,
        action: Action,
    ) -> Result<Outcome, BrokerError> {
        let change = Change::Group { group: group.clone(), action };
        self.submit(term, change).await?.outcome().await
    }

    /// A member was heard of; gives its epoch.
    pub(super) fn heard(
        &self,
        term: Term,
        at: (&GroupName, &MemberId),
        epoch: MemberEpoch,
    ) -> Result<MemberEpoch, BrokerError> {
        let now = self.now();
        let heard =
            self.with_lead(term, |state, lead| lead.sessions.heartbeat(state, at, epoch, now));
        heard.ok_or(BrokerError::NoLeader)?.map_err(BrokerError::Group)
    }

    /// Looks at state and lead at once, if this node still coordinates in that term.
    pub(super) fn with_lead<T>(
        &self,
        term: Term,
        look: impl FnOnce(&State, &mut Lead) -> T,
    ) -> Option<T> {
        let state = self.state();
        let mut lead = lock(&self.lead);
        let lead = lead.as_mut().filter(|lead| lead.term == term)?;
        Some(look(&state, lead))
    }

    /// Registers a member's stream, in place of an earlier one.
    pub(super) fn open_stream(
        &self,
        term: Term,
        at: (GroupName, MemberId),
    ) -> Option<(u64, watch::Receiver<u64>)> {
        let id = self.streams_made.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(0);
        self.with_lead(term, |_, lead| lead.streams.insert(at, (id, sender)))?;
        Some((id, receiver))
    }

    /// Forgets a member's stream, unless another one took its place.
    pub(super) fn close_stream(&self, at: &(GroupName, MemberId), id: u64) {
        if let Some(lead) = lock(&self.lead).as_mut()
            && lead.streams.get(at).is_some_and(|(current, _)| *current == id)
        {
            lead.streams.remove(at);
        }
    }

    /// Whether a member's stream is the one that counts.
    pub(super) fn is_stream(&self, at: &(GroupName, MemberId), id: u64) -> bool {
        let lead = lock(&self.lead);
        lead.as_ref().and_then(|lead| lead.streams.get(at)).is_some_and(|(now, _)| *now == id)
    }
}

impl Lead {
    /// Makes a member's stream look at its assignment.
    pub(super) fn tell(&self, group: &GroupName, member: &MemberId) {
        if let Some((_, stream)) = self.streams.get(&(group.clone(), member.clone())) {
            stream.send_modify(|changes| *changes += 1);
        }
    }
}

/// A refusal that says that the caller's view is old, not that it is wrong.
pub(super) const fn is_stale(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::Group(
            Refusal::StaleMetadata { .. } | Refusal::StaleTarget { .. } | Refusal::UnknownGroup
        )
    )
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
