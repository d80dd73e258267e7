//! What the nodes, the clients and the faults of one simulation share. All of it lives in one
//! thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use duramen_env::{Disk, SimDisk};
use duramen_log::verify_dir;
use duramen_types::{NodeId, PartitionId, Timestamp, TopicId};
use xxhash_rust::xxh3::Xxh3;

use super::fault::Tally;
use super::plan::Plan;
use super::recorder::Recorder;
use super::witness::Witness;

/// Where simulated time begins: 2026-01-01T00:00:00Z.
pub(super) const EPOCH: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Founding a cluster and its topics takes no longer.
const START_WITHIN: Duration = Duration::from_secs(30);

/// After the faults every partition must take records again within this time, without an operator.
const SERVE_WITHIN: Duration = Duration::from_secs(30);

/// Records under way when the load ends are resolved within this time: the longest delivery
/// timeout, and some.
const DRAIN_WITHIN: Duration = Duration::from_secs(50);

/// Without load, lost replicas must be replaced and all be the same within this time.
pub(super) const CONVERGE_WITHIN: Duration = Duration::from_secs(60);

/// Everything must be read to its end within this time.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The cluster is founded and the topics are created.
    Starting,
    /// Things go wrong.
    Faults,
    /// Nothing goes wrong any more: every partition is to serve again.
    Healing,
    /// No record is sent any more; those under way are waited for.
    Draining,
    /// Everything is read, once more and by fresh consumers.
    Reading,
}

/// A partition as the checker names it: by its place in the list.
#[derive(Clone, Debug)]
pub(super) struct KeyName {
    pub(super) topic: usize,
    pub(super) id: TopicId,
    pub(super) partition: PartitionId,
}

impl KeyName {
    /// The name of its Raft group.
    pub(super) fn group(&self) -> String {
        format!("{}-{}", self.id, self.partition)
    }
}

/// The log in which a bit was flipped.
pub(super) struct Flipped {
    pub(super) disk: SimDisk,
    pub(super) file: PathBuf,
}

impl Flipped {
    /// Whether the damage is still where a reader could meet it.
    fn is_there(&self) -> bool {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        // A log that was put aside has another place, and a trimmed segment none.
        let Some(dir) = self.file.parent().filter(|_| disk.exists(&self.file).unwrap_or(true))
        else {
            return false;
        };
        !verify_dir(&disk, dir, &mut |_| {}).is_ok_and(|report| report.problems.is_empty())
    }
}

/// What happened, as lines of text.
pub(super) struct Trace {
    keep: bool,
    pub(super) lines: Vec<String>,
    hash: Xxh3,
}

impl Trace {
    /// The hash of all lines.
    pub(super) fn hash(&self) -> u64 {
        self.hash.digest()
    }
}

/// What all parts of a simulation share.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) phase: Cell<Phase>,
    pub(super) entered: Cell<Duration>,
    pub(super) trace: RefCell<Trace>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) witness: RefCell<Witness>,
    pub(super) tally: RefCell<Tally>,
    pub(super) keys: RefCell<Vec<KeyName>>,
    /// Producers that have not come to their end.
    pub(super) producing: Cell<usize>,
    /// Other clients that have not.
    pub(super) consuming: Cell<usize>,
    /// When all faults ended.
    pub(super) healed_at: Cell<Duration>,
    /// Nodes of the cluster.
    pub(super) members: Cell<u64>,
    /// Where the replicas of each key are, once nothing is moved any more.
    pub(super) assignment: RefCell<BTreeMap<u32, Vec<NodeId>>>,
    /// Moves of replicas that an operator is to begin.
    pub(super) moves_wanted: Cell<u32>,
    /// Partitions that have not served since then.
    pub(super) unserved: RefCell<std::collections::BTreeSet<u32>>,
    /// How long after that every partition served, and all replicas were the same.
    pub(super) served_after: Cell<Option<Duration>>,
    pub(super) converged_after: Cell<Option<Duration>>,
    /// Where a bit was flipped: what reads nothing there is not done until the scrubber found it.
    pub(super) flipped: RefCell<Option<Flipped>>,
    /// Records acknowledged so far.
    pub(super) acknowledged: Cell<u64>,
    /// The partition of the last record acknowledged, until somebody takes it.
    pub(super) acknowledged_key: Cell<Option<u32>>,
    violations: RefCell<Vec<String>>,
    outside: Cell<Duration>,
}

impl World {
    pub(super) fn new(plan: Plan, keep_trace: bool) -> Rc<Self> {
        let trace = Trace { keep: keep_trace, lines: Vec::new(), hash: Xxh3::new() };
        Rc::new(Self {
            producing: Cell::new(plan.producers.len()),
            consuming: Cell::new(plan.consumers.len() + plan.members.len() + 1),
            members: Cell::new(plan.nodes),
            plan,
            phase: Cell::new(Phase::Starting),
            entered: Cell::default(),
            trace: RefCell::new(trace),
            recorder: RefCell::default(),
            witness: RefCell::default(),
            tally: RefCell::default(),
            keys: RefCell::default(),
            healed_at: Cell::default(),
            assignment: RefCell::default(),
            moves_wanted: Cell::default(),
            unserved: RefCell::default(),
            served_after: Cell::default(),
            converged_after: Cell::default(),
            flipped: RefCell::default(),
            acknowledged: Cell::default(),
            acknowledged_key: Cell::default(),
            violations: RefCell::default(),
            outside: Cell::default(),
        })
    }

    /// Simulated time, on whichever host this runs.
    pub(super) fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.outside.get())
    }

    /// Simulated time in microseconds.
    pub(super) fn micros(&self) -> u64 {
        u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX)
    }

    /// Between two steps no host knows the time.
    pub(super) fn set_outside(&self, now: Duration) {
        self.outside.set(now);
    }

    /// Writes a line of the trace.
    pub(super) fn note(&self, event: impl Display) {
        let line = format!("{} {event}", self.now().as_millis());
        let mut trace = self.trace.borrow_mut();
        trace.hash.update(line.as_bytes());
        trace.hash.update(b"\n");
        if trace.keep {
            trace.lines.push(line);
        }
    }

    /// Notes that a promise is broken; the run ends.
    pub(super) fn violated(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("VIOLATION {what}"));
        let at = self.now().as_millis();
        self.violations.borrow_mut().push(format!("at {at} ms: {what}"));
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.borrow().clone()
    }

    pub(super) fn is_violated(&self) -> bool {
        !self.violations.borrow().is_empty()
    }

    pub(super) fn is_at_least(&self, phase: Phase) -> bool {
        self.phase.get() >= phase
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.entered.set(self.now());
        self.note(format_args!("phase {phase:?}"));
    }

    /// Sees that no phase takes longer than it may.
    pub(super) fn check_phase(&self, now: Duration) {
        let phase = self.phase.get();
        let longest = match phase {
            Phase::Faults => return,
            Phase::Starting => START_WITHIN,
            Phase::Healing => SERVE_WITHIN,
            Phase::Draining => DRAIN_WITHIN + CONVERGE_WITHIN,
            Phase::Reading => READ_WITHIN,
        };
        if now.saturating_sub(self.entered.get()) > longest && !self.is_violated() {
            let unserved = self.unserved.borrow();
            let clients = (self.producing.get(), self.consuming.get());
            self.violated(format!(
                "{phase:?} took longer than {} s: partitions {unserved:?} do not serve, {clients:?} \
                 clients go on",
                longest.as_secs()
            ));
        }
    }

    /// The key of a partition of a topic of the plan.
    pub(super) fn key(&self, topic: usize, partition: PartitionId) -> Option<u32> {
        let keys = self.keys.borrow();
        let at = keys.iter().position(|key| key.topic == topic && key.partition == partition)?;
        u32::try_from(at).ok()
    }

    /// The file with a flipped bit that nobody has found.
    pub(super) fn unfound_flip(&self) -> Option<PathBuf> {
        let flipped = self.flipped.borrow();
        flipped.as_ref().filter(|flipped| flipped.is_there()).map(|flipped| flipped.file.clone())
    }

    /// Waits until the run is in a phase, or is violated.
    pub(super) async fn reached(&self, phase: Phase) {
        while !self.is_at_least(phase) && !self.is_violated() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
