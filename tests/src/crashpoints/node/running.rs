//! A running node of one process without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Env, NoNet, SeededRandom, SimClock, SimDisk, Tasks};
use duramen_log::LogOptions;
use duramen_raft::{
    FailStop, Group, GroupId, GroupSpec, LocalNode, RaftHost, RestoreError, StateMachine,
};
use duramen_record::split_batches;
use duramen_types::{ClusterId, MetadataIndex, NodeId, Offset, ReplicaId, Timestamp};

use super::{DIR, Replicas};
use crate::crashpoints::small_segments;
use crate::crashpoints::subject::{Wrong, chain};

const INCARNATION: ReplicaId = ReplicaId::new(1);

/// Commands that a state machine applied, in order.
pub(super) type Book = Arc<Mutex<Vec<Bytes>>>;

/// A node and the runtime that it lives in.
pub(super) struct Running {
    pub(super) host: Arc<RaftHost>,
    pub(super) fail_stop: FailStop,
    pub(super) book: Book,
    runtime: tokio::runtime::Runtime,
}

/// Lets everything happen that can happen without a timer.
pub(super) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Waits, but not for ever: time is virtual.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let waited = tokio::time::timeout(Duration::from_secs(20), future).await;
    waited.map_err(|_| "nothing came of it in 20 s".to_owned())
}

impl Running {
    /// Starts a node; no group is open yet.
    pub(super) fn start(sim: &SimDisk, node: NodeId) -> Result<Self, Wrong> {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| Wrong::refused(chain(&error)))?;
        let seed = sim.mutations();
        duramen_raft::seed_elections(seed);
        let env = Env {
            clock: Arc::new(SimClock::new(Timestamp::from_millis(1_000))),
            random: Arc::new(SeededRandom::new(seed)),
            disk: Arc::new(sim.clone()),
            net: Arc::new(NoNet),
            tasks: Tasks::inline(),
        };
        let local = LocalNode {
            cluster: ClusterId::from_bytes([7 + u8::try_from(node.get()).unwrap_or(0); 16]),
            node,
            incarnation: INCARNATION,
            boot_id: seed,
        };
        let fail_stop = FailStop::new();
        let opening = async { RaftHost::open(&env, Path::new(DIR), local, fail_stop.clone()) };
        let host = runtime.block_on(opening).map_err(|error| Wrong::refused(chain(&error)))?;
        Ok(Self { host, fail_stop, book: Book::default(), runtime })
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn group(&self, id: GroupId) -> Result<Arc<Group>, String> {
        self.host.group(id).ok_or_else(|| format!("{id} is not open"))
    }

    /// Makes a replica that founds its group, and waits until it serves.
    pub(super) async fn found(&self, id: GroupId, replica: ReplicaId) -> Result<(), String> {
        let created = self.host.create_replica(id, replica, options()).await;
        created.map_err(|error| chain(&error))?;
        self.open(id, replica).await.map_err(|error| chain(&error))?;
        let group = self.group(id)?;
        let founded = self.host.initialize(&group, &BTreeSet::from([replica])).await;
        founded.map_err(|error| chain(&error))?;
        self.serving(id).await
    }

    async fn open(
        &self,
        id: GroupId,
        replica: ReplicaId,
    ) -> Result<(), duramen_raft::GroupOpenError> {
        let lines = Arc::clone(&self.book);
        let machine = (id == GroupId::Metadata)
            .then(|| Box::new(BookMachine { lines }) as Box<dyn StateMachine>);
        let members = BTreeMap::from([(replica, self.host.local().node)]);
        let spec =
            GroupSpec { id, replica, members, log: options(), machine, snapshot_entries: None };
        self.host.open_group(spec).await.map(drop)
    }

    /// Opens what must be there, and what may be there if it is; half of a doubtful one is removed,
    /// as a node does whose cluster says so. Answers what is open.
    pub(super) async fn open_all(
        &self,
        certain: &Replicas,
        doubtful: &Replicas,
    ) -> Result<Replicas, Wrong> {
        let mut open = Replicas::new();
        for (id, replica) in certain.iter().chain(doubtful) {
            let (id, replica) = (*id, *replica);
            if open.contains_key(&id) {
                continue;
            }
            let is_doubtful = doubtful.get(&id) == Some(&replica);
            match self.open(id, replica).await {
                Ok(()) if is_doubtful && !self.is_founded(id) => {
                    let removed = self.host.remove_replica(id, replica).await;
                    removed.map_err(|error| Wrong::refused(chain(&error)))?;
                }
                Ok(()) => {
                    open.insert(id, replica);
                    self.serving(id).await.map_err(Wrong::refused)?;
                }
                Err(_) if is_doubtful => {
                    let removed = self.host.remove_replica(id, replica).await;
                    removed.map_err(|error| Wrong::refused(chain(&error)))?;
                }
                Err(error) => return Err(Wrong::refused(chain(&error))),
            }
        }
        Ok(open)
    }

    /// Goes on with removals that a crash interrupted.
    pub(super) async fn remove_all(&self, removing: &Replicas) -> Result<(), Wrong> {
        for (id, replica) in removing {
            let removed = self.host.remove_replica(*id, *replica).await;
            removed.map_err(|error| Wrong::refused(chain(&error)))?;
        }
        Ok(())
    }

    fn is_founded(&self, id: GroupId) -> bool {
        self.host.group(id).is_some_and(|group| !group.membership().voters.is_empty())
    }

    async fn serving(&self, id: GroupId) -> Result<(), String> {
        let group = self.group(id)?;
        let mut progress = group.progress();
        within(async {
            while group.serving_term().is_none() {
                if progress.changed().await.is_err() {
                    return Err(format!("{id} stopped"));
                }
            }
            Ok(())
        })
        .await?
    }

    /// All committed records of a partition by offset.
    pub(super) async fn records(&self, id: GroupId) -> Result<BTreeMap<Offset, Bytes>, String> {
        let group = self.group(id)?;
        let mut records = BTreeMap::new();
        let mut next = group.progress().borrow().log_start_offset;
        loop {
            let fetched = group.read(next, 1 << 20).await.map_err(|error| chain(&error))?;
            if fetched.batches.is_empty() {
                return Ok(records);
            }
            next = fetched.next_offset;
            for batch in fetched.batches.into_iter().flat_map(split_batches) {
                let batch = batch.map_err(|error| chain(&error))?;
                batch.view().validate().map_err(|error| chain(&error))?;
                let payload = batch.payload(1 << 20).map_err(|error| chain(&error))?;
                for record in batch.records(&payload) {
                    let record = record.map_err(|error| chain(&error))?;
                    let value = Bytes::copy_from_slice(record.value.unwrap_or_default());
                    if records.insert(record.offset, value).is_some() {
                        return Err(format!("offset {} came twice", record.offset));
                    }
                }
            }
        }
    }

    /// What the metadata group applied.
    pub(super) fn commands(&self) -> Vec<Bytes> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn options() -> LogOptions {
    small_segments()
}

/// A state machine that writes down all commands.
struct BookMachine {
    lines: Book,
}

impl StateMachine for BookMachine {
    fn apply(&mut self, index: MetadataIndex, command: &[u8]) -> Bytes {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(Bytes::copy_from_slice(command));
        Bytes::from(index.get().to_string())
    }

    fn snapshot(&self) -> Bytes {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join(&b'\n').into()
    }

    fn check(&self, _: &[u8]) -> Result<(), RestoreError> {
        // Lines can be anything.
        Ok(())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let lines = state.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut own = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *own = lines.map(Bytes::copy_from_slice).collect();
        Ok(())
    }

    fn advanced(&mut self, _: MetadataIndex) {}
}
