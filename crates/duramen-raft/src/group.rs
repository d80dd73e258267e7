//! One replica of one Raft group, as the rest of the node uses it.

mod clock;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duramen_env::TaskHandle;
use duramen_types::{LogIndex, ReplicaId, Term};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::impls::OneshotResponder;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Raft, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;

use self::clock::GroupClock;
use crate::hibernation::{Hibernation, Stage};
use crate::limits;
use crate::machine::Machine;
use crate::metrics;
use crate::network::{Acknowledged, Loss, Members};
use crate::replica::{Progress, Replica};
use crate::types::{Applied, GroupId, LogId, Proposal, ProposalKind, TypeConfig, Vote, term_of};

pub(crate) type RaftHandle = Raft<TypeConfig, Machine>;

/// What a replica is to its group at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The term it is in.
    pub term: Term,
    /// Whether it leads.
    pub is_leader: bool,
    /// The leader it knows of.
    pub leader: Option<ReplicaId>,
    /// Whether it has stopped after an error.
    pub stopped: bool,
}

/// Why a proposal is not known to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was appended: this replica does not lead, or not in that term.
    #[error("could not append: this replica does not lead")]
    NotLeader {
        /// The leader it knows of.
        leader: Option<ReplicaId>,
    },
    /// It may or may not have been appended, and may yet be committed.
    #[error("could not learn whether the entry was committed")]
    Unknown,
    /// The replica has stopped; nothing was appended.
    #[error("could not append: the replica has stopped")]
    Stopped,
}

/// A proposal on its way; await it for the outcome.
#[derive(Debug)]
pub struct Proposed {
    answer: tokio::sync::oneshot::Receiver<ClientWriteResult<TypeConfig>>,
    term: Term,
    started: Instant,
}

impl Proposed {
    /// Waits until the entry is committed and applied here, or is known not to be.
    ///
    /// # Errors
    /// [`ProposeError`]; `Unknown` after a change of leader.
    pub async fn outcome(self) -> Result<Applied, ProposeError> {
        match self.answer.await {
            // The entry that was applied at its index may be another leader's: this one was cut.
            Ok(Ok(response)) if term_of(&response.log_id) != self.term => {
                Err(ProposeError::Unknown)
            }
            Ok(Ok(response)) => {
                metrics::committed(self.started.elapsed());
                Ok(response.data)
            }
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(not_leader(&forward)),
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }
}

fn not_leader(forward: &ForwardToLeader<TypeConfig>) -> ProposeError {
    ProposeError::NotLeader { leader: forward.leader_id.map(ReplicaId::new) }
}

/// One replica of one group.
pub struct Group {
    pub(crate) replica: Arc<Replica>,
    raft: RaftHandle,
    watched: Watched,
    members: Members,
    acknowledged: Arc<Acknowledged>,
    clock: GroupClock,
    hibernation: Hibernation,
    /// Set by the host when the disk has no room for entries that carry records.
    disk_full: Arc<AtomicBool>,
    maintenance: std::sync::Mutex<Option<TaskHandle<()>>>,
    /// One past the last index that was in the log when it was opened.
    end_when_opened: LogIndex,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("id", &self.replica.group).finish_non_exhaustive()
    }
}

/// What openraft says of itself. Kept, for each look at a new receiver would cost several counters.
struct Watched {
    all: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    data: WatchReceiverOf<TypeConfig, RaftDataMetrics<TypeConfig>>,
    server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl Group {
    pub(crate) fn new(
        replica: Arc<Replica>,
        raft: RaftHandle,
        members: Members,
        acknowledged: Arc<Acknowledged>,
        disk_full: Arc<AtomicBool>,
    ) -> Self {
        let clock = GroupClock::new();
        let maintenance = std::sync::Mutex::new(None);
        let hibernation = Hibernation::new();
        let watched = Watched {
            all: raft.metrics(),
            data: raft.data_metrics(),
            server: raft.server_metrics(),
        };
        let end_when_opened = replica.log.end_index();
        let group = Self {
            replica,
            raft,
            watched,
            members,
            acknowledged,
            clock,
            hibernation,
            disk_full,
            maintenance,
            end_when_opened,
        };
        group.clock.draw_patience(&*group.replica.env.random);
        group
    }

    /// Starts the group's own upkeep.
    pub(crate) fn start(self: &Arc<Self>) {
        let (replica, raft) = (Arc::clone(&self.replica), self.raft.clone());
        let task = replica.env.tasks.critical("group-maintenance", maintain(replica.clone(), raft));
        *crate::replica::lock(&self.maintenance) = Some(task);
    }

    /// The group.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.replica.group
    }

    /// This replica's incarnation.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.replica.id
    }

    pub(crate) const fn raft(&self) -> &RaftHandle {
        &self.raft
    }

    /// What openraft says of its log, and of other replicas if this one leads.
    pub(crate) const fn data(&self) -> &WatchReceiverOf<TypeConfig, RaftDataMetrics<TypeConfig>> {
        &self.watched.data
    }

    /// What openraft says of its vote and of who leads and takes part.
    pub(crate) const fn server(
        &self,
    ) -> &WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>> {
        &self.watched.server
    }

    pub(crate) const fn members(&self) -> &Members {
        &self.members
    }

    /// Whether entries with this many bytes of payload can be taken.
    pub(crate) fn has_room_for(&self, _bytes: usize) -> bool {
        !self.disk_full.load(Ordering::Relaxed)
    }

    /// What this replica is to its group at the moment. No I/O, no lock held across it.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let stopped = self.is_stopped();
        let metrics = self.watched.server.borrow_watched();
        GroupStatus {
            term: Term::new(metrics.vote.leader_id.term),
            is_leader: !stopped && metrics.state == ServerState::Leader,
            leader: metrics.current_leader.filter(|_| !stopped).map(ReplicaId::new),
            stopped,
        }
    }

    /// Whether openraft has stopped, by itself or on demand: it leaves its other metrics as they
    /// were then, and a leader that stopped would go on serving.
    pub(crate) fn is_stopped(&self) -> bool {
        self.watched.all.borrow_watched().running_state.is_err()
    }

    /// What Raft itself could not read of the log or what its leader misses in it, if anything: it
    /// stopped then, and must not go on.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.replica.damage()
    }

    /// The replicas that this one, while it led, found without entries that they had acknowledged
    /// to it. They count no more, and are to be replaced.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        self.acknowledged.losses()
    }

    /// Whom it follows or voted for last.
    pub(crate) fn vote(&self) -> Vote {
        self.watched.server.borrow_watched().vote
    }

    /// Its leader says that this replica acknowledged an entry that it does not have: from now on it
    /// takes no part. Says whether it is so; it is not if another leads or the entry is here.
    pub(crate) async fn give_up(&self, leader: &Vote, missing: LogId) -> bool {
        if self.vote() != *leader || self.replica.has(&missing) {
            return false;
        }
        let (index, term) = (missing.index, term_of(&missing));
        self.replica.note_damage(&format_args!(
            "its leader of term {term} says that it acknowledged log index {index}, which it does \
             not have: its disk may not keep what it syncs"
        ));
        if self.raft.shutdown().await.is_err() {
            tracing::warn!(group = %self.id(), "the group's task had failed before it was stopped");
        }
        true
    }

    /// Changes of leader and term, for tasks that wait for them.
    pub async fn status_changed(&self, seen: GroupStatus) -> GroupStatus {
        let mut metrics = self.watched.server.clone();
        loop {
            let now = self.status();
            if now != seen || metrics.changed().await.is_err() {
                return now;
            }
        }
    }

    /// How long ago a majority last answered this replica as its leader, so that nobody else led
    /// then; `None` if it does not lead or was not answered yet.
    #[must_use]
    pub fn led_ago(&self) -> Option<Duration> {
        let answered = self.answered_ago()?;
        Some(self.hibernation.vouched_ago().map_or(answered, |vouched| vouched.min(answered)))
    }

    /// The same as openraft knows it, which has heard nothing since the group hibernates.
    pub(crate) fn answered_ago(&self) -> Option<Duration> {
        let metrics = self.watched.all.borrow_watched();
        let mut voters = metrics.membership_config.membership().voter_ids();
        let me = self.replica.id.get();
        if metrics.running_state.is_err() || metrics.state != ServerState::Leader {
            return None;
        }
        if voters.all(|voter| voter == me) {
            return Some(Duration::ZERO);
        }
        let last = metrics.last_quorum_acked?.into_inner();
        Some(openraft::Instant::elapsed(&last))
    }

    /// How far this replica is; a receiver sees every change.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.replica.progress.subscribe()
    }

    /// Whether this replica leads and has applied everything that earlier leaders committed: only
    /// then may it check sequences, serve reads and say where the log ends.
    #[must_use]
    pub fn serving_term(&self) -> Option<Term> {
        let status = self.status();
        let applied = self.replica.progress.borrow().leader_term;
        (status.is_leader && applied == status.term).then_some(status.term)
    }

    /// Proposes an entry in a term; it is refused if the leader changed since. Calls of one caller
    /// are appended in their order.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`]; other outcomes come by the returned value.
    pub async fn propose(&self, proposal: Proposal, term: Term) -> Result<Proposed, ProposeError> {
        let started = Instant::now();
        self.awaken().await;
        let (responder, answer) = OneshotResponder::new_pair();
        let write = self.raft.write(proposal).with_leader(term.get()).responder(responder);
        write.await.map_err(|_| ProposeError::Stopped)?;
        Ok(Proposed { answer, term, started })
    }

    /// Proposes that everything below a log index may go (retention), and waits for the outcome.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose_log_start(&self, index: LogIndex, term: Term) -> Result<(), ProposeError> {
        let proposal = Proposal {
            kind: ProposalKind::LogStart(index),
            payload: crate::entry::encode_log_start(index),
            records: 0,
            max_timestamp: duramen_types::Timestamp::MIN,
        };
        self.propose(proposal, term).await?.outcome().await.map(|_| ())
    }

    /// Writes the state machine's snapshot soon, without waiting until enough entries came.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn trigger_snapshot(&self) -> Result<(), ProposeError> {
        self.raft.trigger().snapshot().await.map_err(|_| ProposeError::Stopped)
    }

    /// Drops entries up to an index soon, as far as a snapshot holds them.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn trigger_purge(&self, last: LogIndex) -> Result<(), ProposeError> {
        self.raft.trigger().purge_log(last.get()).await.map_err(|_| ProposeError::Stopped)
    }

    /// Notes that a leader was heard of: the group stays patient.
    pub(crate) fn heard_from_leader(&self) {
        self.clock.heard_ms.store(self.clock.now_ms(), Ordering::Relaxed);
    }

    /// Notes that a leader has spoken.
    pub(crate) fn led(&self) {
        self.led_at(Instant::now());
    }

    /// As [`Self::led`], at a time that was looked up already.
    pub(crate) fn led_at(&self, now: Instant) {
        let now = self.clock.at_ms(now);
        self.clock.led_ms.store(now, Ordering::Relaxed);
        self.clock.heard_ms.store(now, Ordering::Relaxed);
    }

    /// For how long no leader has spoken to this replica, if another one leads: since it was opened
    /// if none ever has. Until another one does, the last one is named in [`Self::status`]: for
    /// ever, if this replica does not vote or finds no majority that does.
    #[must_use]
    pub fn leader_silent_for(&self) -> Duration {
        let led = self.clock.led_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.clock.now_ms().saturating_sub(led))
    }

    pub(crate) const fn hibernation(&self) -> &Hibernation {
        &self.hibernation
    }

    /// One past the last index that was in the log when this replica was opened: what came since was
    /// checked as it came.
    #[must_use]
    pub const fn end_when_opened(&self) -> LogIndex {
        self.end_when_opened
    }

    /// When it last heard of a leader or campaigned, and how long it waits from then on; in ms.
    #[cfg(test)]
    pub(crate) fn waits_ms(&self) -> (u64, u64) {
        let GroupClock { heard_ms, patience_ms, .. } = &self.clock;
        (heard_ms.load(Ordering::Relaxed), patience_ms.load(Ordering::Relaxed))
    }

    /// Called by the shared ticker: beats if this replica leads, campaigns if its patience ended
    /// and there is a campaign left. Says whether it leads. Nothing is awaited: a group that cannot
    /// take a message at once is busy, and so alive.
    pub(crate) fn tick(&self, now: Instant, campaigns: &mut u32) -> bool {
        use futures::FutureExt as _;
        let now = self.clock.at_ms(now);
        let heard = self.clock.heard_ms.load(Ordering::Relaxed);
        let patience = self.clock.patience_ms.load(Ordering::Relaxed);
        let interval = u64::try_from(limits::HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if self.hibernation.stage() == Stage::Asleep {
            // Whether it leads still is looked up for its beats.
            self.clock.heard_ms.store(now, Ordering::Relaxed);
            return true;
        }
        if self.hibernation.is_vouched() {
            if now.saturating_sub(heard) < patience {
                return false;
            }
            self.hibernation.set_vouched(false);
        }
        if self.is_stopped() {
            return false;
        }
        let (is_leader, is_voter, alone) = {
            let metrics = self.watched.server.borrow_watched();
            let membership = metrics.membership_config.membership();
            let mut voters = membership.voter_ids();
            let me = self.replica.id.get();
            let is_voter = membership.voter_ids().any(|id| id == me);
            let alone = is_voter && voters.all(|id| id == me);
            (metrics.state == ServerState::Leader, is_voter, alone)
        };
        if is_leader {
            self.heard_from_leader();
            if self.hibernation.stage() == Stage::Waking && self.is_answered() {
                self.hibernation.awoke();
            }
            let last = self.clock.beat_ms.load(Ordering::Relaxed);
            if now.saturating_sub(last) >= interval {
                self.clock.beat_ms.store(now, Ordering::Relaxed);
                drop(self.raft.trigger().heartbeat().now_or_never());
            }
            return true;
        }
        if self.hibernation.stage() != Stage::Awake {
            self.hibernation.resign();
        }
        let patience = if alone { 0 } else { patience };
        if is_voter && now.saturating_sub(heard) >= patience {
            if !alone {
                let Some(left) = campaigns.checked_sub(1) else {
                    self.clock.postpone(&*self.replica.env.random);
                    return false;
                };
                *campaigns = left;
            }
            self.heard_from_leader();
            self.clock.draw_patience(&*self.replica.env.random);
            metrics::election();
            // With pre-vote, so that a healthy leader is not disturbed.
            drop(self.raft.trigger().elect(true).now_or_never());
        }
        false
    }

    /// Stops the replica; its data stays. Everything acknowledged is durable already; what this
    /// adds is a fast next start.
    pub(crate) async fn close(&self) {
        self.hibernation.resign();
        drop(crate::replica::lock(&self.maintenance).take());
        if self.raft.shutdown().await.is_err() {
            tracing::warn!(group = %self.id(), "the group's task had failed before its shutdown");
        }
        let replica = Arc::clone(&self.replica);
        let closing = move || {
            replica.save_final_checkpoint()?;
            replica.log.close().map_err(std::io::Error::other)
        };
        if let Err(error) = self.replica.env.tasks.blocking("group-close", closing).await {
            tracing::warn!(group = %self.id(), %error, "could not close the log cleanly");
        }
    }
}

/// Writes checkpoints, moves the log's start and gives memory back, when woken.
async fn maintain(replica: Arc<Replica>, raft: RaftHandle) {
    loop {
        replica.wake.notified().await;
        let saving = Arc::clone(&replica);
        let saved = move || saving.save_checkpoint();
        if let Err(error) = replica.env.tasks.blocking("checkpoint", saved).await {
            tracing::warn!(group = %replica.group, %error, "could not write a checkpoint");
        }
        if replica.is_to_shed.swap(false, Ordering::Relaxed) {
            let shedding = Arc::clone(&replica);
            replica.env.tasks.blocking("log-shed", move || shedding.log.shed()).await;
        }
        let target = replica.log_start_target();
        if target.is_some_and(|target| target > replica.log.start().first_index)
            && raft.trigger().snapshot().await.is_err()
        {
            return;
        }
    }
}
