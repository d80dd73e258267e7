//! What the parts of one replica share: its log, its vote, its tracked state, its progress.
//!
//! ```text
//! snapshot ≤ applied ≤ committed ≤ log end
//! checkpoint ≤ min(applied, durable log end)
//! high watermark = end offset of the last applied entry
//! ```
//! After a restart applied begins at the checkpoint, so the high watermark may be lower than it
//! was until the leader says what is committed; it never passes the durable log end.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_env::Env;
use duramen_env::witness::{self, Deed};
use duramen_log::{ErrorKind, FrameHeader, Log, LogError, LogStart};
use duramen_types::{LogIndex, NodeId, Offset, ReplicaId, Term};
use tokio::sync::{Notify, watch};

use crate::checkpoint;
use crate::fail_stop::FailStop;
use crate::group_commit::GroupCommit;
use crate::hard_state::HardState;
use crate::machine::StateMachine;
use crate::snapshot::SnapshotFile;
use crate::tracker::{Checkpoint, Tracker};
use crate::types::{GroupId, LogId, StoredMembership, log_id, term_of};
use crate::wire::WireError;

/// Bytes read at a time when the log is scanned to rebuild the tracker.
const SCAN_BYTES: u64 = 4 << 20;

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// One past the last index applied.
    pub applied_end: LogIndex,
    /// End offset of what is applied.
    pub high_watermark: Offset,
    /// Term of the last leader whose first entry is applied: a leader may serve once this is its
    /// own term.
    pub leader_term: Term,
    /// Offset of the first record kept.
    pub log_start_offset: Offset,
}

/// Everything that the log store, the state machine and the group of one replica share.
pub(crate) struct Replica {
    pub(crate) env: Env,
    pub(crate) group: GroupId,
    pub(crate) id: ReplicaId,
    pub(crate) node: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) log: Arc<Log>,
    pub(crate) hard_state: Arc<HardState>,
    pub(crate) commit: GroupCommit,
    pub(crate) progress: watch::Sender<Progress>,
    /// The group's own state machine; partitions have none.
    pub(crate) machine: Option<Mutex<Box<dyn StateMachine>>>,
    /// Wakes the group's maintenance: a checkpoint can be written, or the log start is to move.
    pub(crate) wake: Notify,
    /// The log is to give back what it only keeps for speed.
    pub(crate) is_to_shed: AtomicBool,
    pub(crate) fail_stop: FailStop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tracker: Tracker,
    /// Taken at append, to be written when applied; the newest last, at most a few.
    checkpoints: Vec<Checkpoint>,
    log_start_target: Option<LogIndex>,
    /// What Raft itself could not read of the log, or its leader misses in it.
    damage: Option<String>,
}

/// Checkpoints that wait to be written; older ones are dropped in favor of newer.
const CHECKPOINTS_WAITING_MAX: usize = 4;

/// What was found when the replica was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opened {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) high_watermark: Offset,
}

/// The parts of a replica that its host provides.
pub(crate) struct ReplicaParts {
    pub(crate) env: Env,
    pub(crate) group: GroupId,
    pub(crate) id: ReplicaId,
    pub(crate) node: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) log: Arc<Log>,
    pub(crate) hard_state: Arc<HardState>,
    pub(crate) commit: GroupCommit,
    pub(crate) machine: Option<Box<dyn StateMachine>>,
    pub(crate) fail_stop: FailStop,
}

impl Replica {
    /// Puts a replica together and brings its tracked state to the log's end. Reads the disk.
    pub(crate) fn open(parts: ReplicaParts) -> io::Result<(Self, Opened)> {
        let replica = Self {
            env: parts.env,
            group: parts.group,
            id: parts.id,
            node: parts.node,
            dir: parts.dir,
            log: parts.log,
            hard_state: parts.hard_state,
            commit: parts.commit,
            progress: watch::Sender::new(Progress::default()),
            machine: parts.machine.map(Mutex::new),
            wake: Notify::new(),
            is_to_shed: AtomicBool::new(false),
            fail_stop: parts.fail_stop,
            state: Mutex::new(State::default()),
        };
        let opened = if replica.machine.is_some() {
            replica.open_state_machine()?
        } else {
            replica.open_partition()?
        };
        let tracker = replica.tracker_before(replica.log.end_index())?;
        replica.lock().tracker = tracker;
        replica.tell_opened();
        let log_start_offset = replica.log.start().base_offset;
        replica.progress.send_replace(Progress {
            applied_end: opened.applied.map_or(LogIndex::ZERO, |id| LogIndex::new(id.index + 1)),
            high_watermark: opened.high_watermark.max(log_start_offset),
            leader_term: Term::ZERO,
            log_start_offset,
        });
        Ok((replica, opened))
    }

    fn open_partition(&self) -> io::Result<Opened> {
        let last = self.log.end_index();
        if let Some(checkpoint) = self.best_checkpoint(last)? {
            return Ok(Opened {
                applied: Some(checkpoint.log_id),
                membership: checkpoint.tracker.membership,
                high_watermark: checkpoint.end_offset,
            });
        }
        let start = self.log.start();
        let tracker = Tracker::decode(&start.state).map_err(io::Error::other)?;
        Ok(Opened {
            applied: before(&start),
            membership: tracker.membership,
            high_watermark: start.base_offset,
        })
    }

    fn open_state_machine(&self) -> io::Result<Opened> {
        let Some(snapshot) = self.snapshot()? else { return Ok(Opened::default()) };
        let machine = self.machine.as_ref().map(lock);
        if let Some(mut machine) = machine {
            machine.restore(&snapshot.state).map_err(io::Error::other)?;
        }
        Ok(Opened {
            applied: snapshot.last_log_id,
            membership: snapshot.membership,
            high_watermark: snapshot.next_offset,
        })
    }

    /// The newest checkpoint of this log's own history that lies below an index.
    fn best_checkpoint(&self, below: LogIndex) -> io::Result<Option<Checkpoint>> {
        let start = self.log.start();
        for checkpoint in checkpoint::load(&*self.env.disk, &self.dir, self.log.identity())? {
            let index = checkpoint.index();
            if index >= below || index < start.first_index {
                continue;
            }
            let header = self.log.header_at(index).map_err(io::Error::other)?;
            if header.chain == checkpoint.chain {
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    /// The tracked state as of the entry before an index. Reads the disk.
    pub(crate) fn tracker_before(&self, end: LogIndex) -> io::Result<Tracker> {
        let (mut tracker, mut next) = match self.best_checkpoint(end)? {
            Some(checkpoint) => (checkpoint.tracker.clone(), checkpoint.index().next()),
            None => {
                let start = self.log.start();
                let tracker = Tracker::decode(&start.state).map_err(io::Error::other)?;
                (tracker, start.first_index)
            }
        };
        while next < end {
            for frame in self.log.read(next, end, SCAN_BYTES).map_err(io::Error::other)? {
                tracker.appended(&frame).map_err(io::Error::other)?;
                next = frame.header.index.next();
            }
        }
        Ok(tracker)
    }

    /// The log start at an index, with the tracked state there. Reads the disk.
    pub(crate) fn log_start_at(&self, first: LogIndex) -> io::Result<LogStart> {
        let start = self.log.log_start_at(first).map_err(io::Error::other)?;
        let state = self.tracker_before(first)?.encode();
        Ok(LogStart { state, ..start })
    }

    /// The current snapshot: the stored one, or for partitions the log's own start. Reads the
    /// disk.
    pub(crate) fn snapshot(&self) -> io::Result<Option<SnapshotFile>> {
        let stored = SnapshotFile::load(&*self.env.disk, &self.dir, self.log.identity())?;
        let start = self.log.start();
        let stored_end = stored.as_ref().map_or(LogIndex::ZERO, SnapshotFile::end_index);
        if self.machine.is_none() && stored_end < start.first_index {
            return SnapshotFile::of_log_start(&start).map(Some).map_err(io::Error::other);
        }
        if stored_end < start.first_index {
            return Err(lost("the snapshot that the log goes on from is missing"));
        }
        if let Some(snapshot) = &stored {
            self.check_history(snapshot, &start)?;
        }
        Ok(stored)
    }

    /// A snapshot must be of this log's own history, as far as the log can tell: the file may be
    /// another replica's.
    fn check_history(&self, snapshot: &SnapshotFile, start: &LogStart) -> io::Result<()> {
        let end = snapshot.end_index();
        let chain = match end.prev() {
            _ if end == start.first_index => start.prev_chain,
            Some(last) if end <= self.log.end_index() => {
                self.log.header_at(last).map_err(io::Error::other)?.chain
            }
            _ => return Ok(()),
        };
        if chain == snapshot.chain {
            return Ok(());
        }
        Err(lost("the snapshot is of another history than the log"))
    }

    /// Whether a snapshot that a peer sent can be installed: one that cannot stops the group when
    /// openraft has it installed. Changes nothing.
    pub(crate) fn check_snapshot(&self, data: &[u8], last: Option<LogId>) -> Result<(), WireError> {
        let readable = SnapshotFile::decode(data).is_some_and(|snapshot| {
            let is_state = match &self.machine {
                Some(machine) => lock(machine).check(&snapshot.state).is_ok(),
                None => Tracker::decode(&snapshot.state).is_ok(),
            };
            is_state && snapshot.last_log_id == last
        });
        readable.then_some(()).ok_or(WireError::Invalid { part: "snapshot" })
    }

    pub(crate) fn lock_tracker<R>(&self, work: impl FnOnce(&mut Tracker) -> R) -> R {
        work(&mut self.lock().tracker)
    }

    /// Remembers a checkpoint until its entry is applied.
    pub(crate) fn offer_checkpoint(&self, header: &FrameHeader) {
        let mut state = self.lock();
        if state.checkpoints.len() == CHECKPOINTS_WAITING_MAX {
            state.checkpoints.remove(0);
        }
        let checkpoint = Checkpoint::at(header, state.tracker.clone());
        state.checkpoints.push(checkpoint);
    }

    pub(crate) fn has_checkpoint_waiting(&self) -> bool {
        !self.lock().checkpoints.is_empty()
    }

    /// Takes the newest waiting checkpoint whose entry is applied and durable.
    fn ready_checkpoint(&self) -> Option<Checkpoint> {
        let durable_end = self.log.durable_index().map_or(LogIndex::ZERO, LogIndex::next);
        let end = self.progress.borrow().applied_end.min(durable_end);
        let mut state = self.lock();
        let ready = state.checkpoints.iter().rposition(|waiting| waiting.index() < end)?;
        state.checkpoints.drain(..=ready).next_back()
    }

    /// Forgets waiting checkpoints of a cut suffix, and takes the rebuilt tracker.
    pub(crate) fn truncated(&self, tracker: Tracker) {
        let end = self.log.end_index();
        let mut state = self.lock();
        state.checkpoints.retain(|waiting| waiting.index() < end);
        state.tracker = tracker;
    }

    /// Writes the newest checkpoint that may be written. Writes the disk.
    pub(crate) fn save_checkpoint(&self) -> io::Result<()> {
        match self.ready_checkpoint() {
            Some(checkpoint) => {
                checkpoint::save(&*self.env.disk, &self.dir, self.log.identity(), &checkpoint)
            }
            None => Ok(()),
        }
    }

    /// Writes a checkpoint of the log's end if all of it is applied, so that the next start need
    /// not scan. For a clean shutdown. Writes the disk.
    pub(crate) fn save_final_checkpoint(&self) -> io::Result<()> {
        if self.machine.is_some() {
            return Ok(());
        }
        if let Some(last) = self.log.end_index().prev()
            && last >= self.log.start().first_index
        {
            let header = self.log.header_at(last).map_err(io::Error::other)?;
            self.offer_checkpoint(&header);
        }
        self.save_checkpoint()
    }

    pub(crate) fn log_start_target(&self) -> Option<LogIndex> {
        self.lock().log_start_target
    }

    /// Says from where on the log is to be kept; the maintenance does it.
    pub(crate) fn set_log_start_target(&self, index: LogIndex) {
        let mut state = self.lock();
        state.log_start_target = state.log_start_target.max(Some(index));
        drop(state);
        self.wake.notify_one();
    }

    /// The log start moved; it may have to move on, to a target set meanwhile.
    pub(crate) fn log_start_moved(&self) {
        self.wake.notify_one();
        let log_start_offset = self.log.start().base_offset;
        self.progress.send_modify(|progress| {
            progress.log_start_offset = log_start_offset;
            progress.high_watermark = progress.high_watermark.max(log_start_offset);
        });
    }

    /// What Raft itself could not read of the log, or its leader misses in it, if anything: the
    /// replica needs repair.
    pub(crate) fn damage(&self) -> Option<String> {
        self.lock().damage.clone()
    }

    /// Notes why the replica needs repair; the first reason stays.
    pub(crate) fn note_damage(&self, what: &dyn std::fmt::Display) {
        self.lock().damage.get_or_insert_with(|| what.to_string());
    }

    /// Whether an entry is in the log, or was committed and trimmed.
    pub(crate) fn has(&self, id: &LogId) -> bool {
        let index = LogIndex::new(id.index);
        if index < self.log.start().first_index || index >= self.log.end_index() {
            return index < self.log.end_index();
        }
        let terms = self.log.terms();
        let term = terms.iter().rev().find(|(_, first)| *first <= index).map(|(term, _)| *term);
        term == Some(term_of(id))
    }

    /// Tells a simulation's witness what this replica is bound by from now on.
    pub(crate) fn tell(&self, deed: Deed) {
        witness::tell(&self.group, self.id, deed);
    }

    fn tell_opened(&self) {
        let vote = self.hard_state.get(self.group, self.id);
        self.tell(Deed::Opened {
            node: self.node,
            start: self.log.start().first_index,
            end: self.log.end_index(),
            terms: self.log.terms(),
            vote: vote.map_or(Term::ZERO, |vote| Term::new(vote.leader_id.term)),
        });
    }

    /// Passes a log error to openraft; a poisoned log stops the node.
    pub(crate) fn io_error(&self, error: LogError) -> io::Error {
        if matches!(error, LogError::Poisoned | LogError::Io { .. }) {
            let group = self.group;
            self.fail_stop.fail(format!("the log of {group} cannot be written: {error}"));
        }
        if error.kind() == ErrorKind::Corrupt {
            self.note_damage(&error);
        }
        io::Error::other(error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks, taking over from a holder that panicked (the process is ending then).
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log id before a log start, if there is one.
pub(crate) fn before(start: &LogStart) -> Option<LogId> {
    Some(log_id(start.prev_term?, start.first_index.prev()?))
}

/// The error of a file without which the replica is lost.
fn lost(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
