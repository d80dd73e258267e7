//! All Raft groups of a node: opens, closes and removes replicas, and carries their traffic.

mod error;
mod files;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use duramen_env::planted::{Planted, is_planted};
use duramen_env::{Env, TaskHandle};
use duramen_log::{Log, LogError, LogIdentity, LogOptions, OpenError};
use duramen_types::{NodeId, ReplicaId, Term};
use openraft::{Config, Raft};
use tokio::sync::Semaphore;
use tonic::service::Routes;

use self::error::is_corrupt;
pub use self::error::{GroupOpenError, HostError};
use self::files::{PARTITIONS, has_replicas};
use self::sync::LogSync;
use crate::fail_stop::FailStop;
use crate::group::Group;
use crate::group_commit::GroupCommit;
use crate::hard_state::{HardState, Owner};
use crate::machine::{Machine, StateMachine};
use crate::network::{GroupNetworkFactory, Links, PeerHandler, PeerServer};
use crate::replica::{Replica, ReplicaParts};
use crate::store::LogStore;
use crate::types::GroupId;
use crate::{LocalNode, config, limits, ticker};

/// The groups of a node by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: RwLock<BTreeMap<GroupId, Arc<Group>>>,
}

impl Groups {
    pub(crate) fn get(&self, id: GroupId) -> Option<Arc<Group>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn each(&self, visit: impl FnMut(&Arc<Group>)) {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().for_each(visit);
    }

    fn insert(&self, group: Arc<Group>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(group.id(), group);
    }

    fn remove(&self, id: GroupId) -> Option<Arc<Group>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// A replica to open.
pub struct GroupSpec {
    /// Its group.
    pub id: GroupId,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Which node holds which replica of the group.
    pub members: BTreeMap<ReplicaId, NodeId>,
    /// How its log behaves.
    pub log: LogOptions,
    /// The state machine of groups that have one.
    pub machine: Option<Box<dyn StateMachine>>,
    /// Entries after which the state machine is written as a snapshot; `None` is the default.
    pub snapshot_entries: Option<u64>,
}

impl std::fmt::Debug for GroupSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupSpec").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The term of a log's last entry, or of the last one below its start.
fn last_term(log: &Log) -> Result<Term, LogError> {
    let start = log.start();
    match log.end_index().prev() {
        Some(last) if last >= start.first_index => log.header_at(last).map(|header| header.term),
        _ => Ok(start.prev_term.unwrap_or(Term::ZERO)),
    }
}

/// All Raft groups of a node.
pub struct RaftHost {
    env: Env,
    dir: PathBuf,
    local: LocalNode,
    links: Arc<Links>,
    groups: Arc<Groups>,
    hard_state: Arc<HardState>,
    syncs: Arc<Semaphore>,
    disk_full: Arc<AtomicBool>,
    fail_stop: FailStop,
    partition_config: Arc<Config>,
    state_machine_config: Arc<Config>,
    ticker: Mutex<Option<TaskHandle<()>>>,
}

impl std::fmt::Debug for RaftHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftHost").field("local", &self.local).finish_non_exhaustive()
    }
}

impl RaftHost {
    /// Opens the votes of a data directory and starts the ticker. Reads the disk.
    ///
    /// # Errors
    /// [`HostError`]; the node must not start.
    pub fn open(
        env: &Env,
        dir: &Path,
        local: LocalNode,
        fail_stop: FailStop,
    ) -> Result<Arc<Self>, HostError> {
        let partitions = dir.join(PARTITIONS);
        let prepared = env.disk.create_dir_all(&partitions).and_then(|()| env.disk.sync_dir(dir));
        prepared.map_err(|source| HostError::Prepare { path: partitions, source })?;
        let has_replicas = has_replicas(env, dir)
            .map_err(|source| HostError::Prepare { path: dir.to_owned(), source })?;
        let owner = Owner { cluster: local.cluster, node: local.node };
        let tasks = env.tasks.clone();
        let hard_state = HardState::open(&env.disk, dir, owner, has_replicas, tasks)?;
        let groups = Arc::new(Groups::default());
        let links = Arc::new(Links::new(env, local));
        let ticking = ticker::run(Arc::clone(&groups), Arc::clone(&links));
        let ticker = env.tasks.critical("group-ticker", ticking);
        Ok(Arc::new(Self {
            env: env.clone(),
            dir: dir.into(),
            local,
            links,
            groups,
            hard_state: Arc::new(hard_state),
            syncs: Arc::new(Semaphore::new(limits::SYNCS_IN_PARALLEL)),
            disk_full: Arc::new(AtomicBool::new(false)),
            fail_stop,
            partition_config: config::partition()?,
            state_machine_config: config::state_machine(limits::SNAPSHOT_AFTER_ENTRIES)?,
            ticker: Mutex::new(Some(ticker)),
        }))
    }

    /// The peer service, for the listener that other nodes reach.
    #[must_use]
    pub fn peer_routes(&self, handler: Arc<dyn PeerHandler>) -> Routes {
        PeerServer::routes(&self.env, self.local, Arc::clone(&self.groups), handler)
    }

    /// Who this node is.
    #[must_use]
    pub const fn local(&self) -> &LocalNode {
        &self.local
    }

    /// Says where a node's peer listener is.
    pub fn set_node_address(&self, node: NodeId, address: &str) {
        self.links.set_address(node, address);
    }

    /// Where a node's peer listener is, if known.
    #[must_use]
    pub fn node_address(&self, node: NodeId) -> Option<String> {
        self.links.address(node)
    }

    /// Whether a node can be reached at the moment.
    #[must_use]
    pub fn is_node_up(&self, node: NodeId) -> bool {
        self.links.is_up(node)
    }

    /// Says whether the disk has room for records.
    pub fn set_disk_full(&self, full: bool) {
        if self.disk_full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(full, "the disk's room for records changed");
        }
    }

    /// Whether the disk has no room for records.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// The replica of a group, if it is open here.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.get(id)
    }

    /// All replicas that are open here.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.all()
    }

    /// Opens a replica that was created before, and lets it take part in its group.
    ///
    /// # Errors
    /// [`GroupOpenError`]; the replica takes no part then.
    pub async fn open_group(&self, spec: GroupSpec) -> Result<Arc<Group>, GroupOpenError> {
        let id = spec.id;
        let io = |action| {
            move |source: Box<dyn std::error::Error + Send + Sync>| GroupOpenError::Io {
                group: id,
                action,
                source,
            }
        };
        let log = self.open_log(id, spec.replica, spec.log).await?;
        self.check_vote(id, spec.replica, &log)?;
        let is_partition = spec.machine.is_none();
        let parts = self.parts(id, spec.replica, log, spec.machine);
        let opening = move || Replica::open(parts);
        let opened = self.env.tasks.blocking("replica-open", opening).await;
        let (replica, opened) = opened.map_err(|error| {
            if is_corrupt(&error) {
                let path = self.replica_dir(id, spec.replica);
                return GroupOpenError::Unreadable { group: id, path, source: Box::new(error) };
            }
            io("open")(Box::new(error))
        })?;
        let replica = Arc::new(replica);
        let members = Arc::new(RwLock::new(spec.members));
        let network = GroupNetworkFactory::new(
            Arc::clone(&self.links),
            id,
            spec.replica,
            Arc::clone(&members),
        );
        let acknowledged = network.acknowledged();
        let config = match spec.snapshot_entries {
            _ if is_partition => Arc::clone(&self.partition_config),
            None => Arc::clone(&self.state_machine_config),
            Some(entries) => {
                config::state_machine(entries).map_err(|error| io("configure")(Box::new(error)))?
            }
        };
        let raft = Raft::new(
            spec.replica.get(),
            config,
            network,
            LogStore::new(Arc::clone(&replica)),
            Machine::new(Arc::clone(&replica), opened),
        );
        let raft = raft.await.map_err(|error| match replica.damage() {
            Some(damage) => {
                let path = self.replica_dir(id, spec.replica);
                GroupOpenError::Unreadable { group: id, path, source: damage.into() }
            }
            None => io("start")(Box::new(error)),
        })?;
        let disk_full = Arc::clone(&self.disk_full);
        let group = Group::new(replica, raft, members, acknowledged, disk_full);
        let group = Arc::new(group);
        group.start();
        self.groups.insert(Arc::clone(&group));
        self.finish_purge(&group).await;
        Ok(group)
    }

    /// A vote is durable before any entry of its term is appended.
    fn check_vote(
        &self,
        group: GroupId,
        replica: ReplicaId,
        log: &Log,
    ) -> Result<(), GroupOpenError> {
        let io = |action, source| GroupOpenError::Io { group, action, source };
        let term = last_term(log).map_err(|error| io("read the log of", Box::new(error)))?;
        let vote = self.hard_state.get(group, replica);
        if vote.is_none_or(|vote| vote.leader_id.term < term.get())
            && term > Term::ZERO
            && !is_planted(Planted::ForgetVote)
        {
            let given_up = self.hard_state.give_up();
            given_up.map_err(|error| io("put the votes aside for", Box::new(error)))?;
            // The metadata is opened first, and its owner can begin anew at once.
            if group != GroupId::Metadata {
                let reason = format!("a vote of {group} is lost: no vote here can be trusted");
                self.fail_stop.fail(reason);
            }
            return Err(GroupOpenError::VoteLost { group, term });
        }
        Ok(())
    }

    /// A crash between a snapshot and the purge it allows leaves the purge to be done.
    async fn finish_purge(&self, group: &Group) {
        let replica = Arc::clone(&group.replica);
        let reading = move || replica.snapshot();
        let Ok(Some(snapshot)) = self.env.tasks.blocking("snapshot-read", reading).await else {
            return;
        };
        let start = group.replica.log.start().first_index;
        if group.replica.machine.is_none()
            && snapshot.end_index() > start
            && let Some(last) = snapshot.end_index().prev()
            && group.raft().trigger().purge_log(last.get()).await.is_err()
        {
            tracing::warn!(group = %group.id(), "the group stopped while it was opened");
        }
    }

    async fn open_log(
        &self,
        group: GroupId,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<Arc<Log>, GroupOpenError> {
        let (env, path) = (self.env.clone(), self.replica_dir(group, replica));
        let identity = self.identity(replica);
        let dir = path.clone();
        let opening = move || Log::open(&env.disk, &env.random, &dir, identity, options);
        let opened = self.env.tasks.blocking("log-open", opening).await;
        let (log, recovery) = opened.map_err(|source| match source {
            // The log may be all right: nobody could look.
            OpenError::Io { .. } | OpenError::Version { .. } => {
                GroupOpenError::Io { group, action: "read the log of", source: Box::new(source) }
            }
            _ => GroupOpenError::Lost { group, path: path.clone(), source: Box::new(source) },
        })?;
        if log.is_damaged() && !is_planted(Planted::VoteWhenDamaged) {
            return Err(GroupOpenError::Damaged { group, path, ranges: recovery.damaged });
        }
        if let Some(torn) = &recovery.torn {
            tracing::info!(%group, ?torn, "a torn write was cut from the log's end");
        }
        Ok(log)
    }

    fn identity(&self, replica: ReplicaId) -> LogIdentity {
        LogIdentity { cluster: self.local.cluster, replica }
    }

    fn parts(
        &self,
        group: GroupId,
        id: ReplicaId,
        log: Arc<Log>,
        machine: Option<Box<dyn StateMachine>>,
    ) -> ReplicaParts {
        let sync = LogSync { log: Arc::clone(&log), clock: Arc::clone(&self.env.clock) };
        let tasks = self.env.tasks.clone();
        ReplicaParts {
            env: self.env.clone(),
            group,
            id,
            node: self.local.node,
            dir: self.replica_dir(group, id),
            log,
            hard_state: Arc::clone(&self.hard_state),
            commit: GroupCommit::new("log-sync", tasks, Arc::clone(&self.syncs), sync),
            machine,
            fail_stop: self.fail_stop.clone(),
        }
    }

    /// Founds a group: called once, on one replica whose log is empty.
    ///
    /// # Errors
    /// If the group was founded before or the replica has stopped.
    pub async fn initialize(
        &self,
        group: &Group,
        voters: &BTreeSet<ReplicaId>,
    ) -> Result<(), GroupOpenError> {
        let voters: BTreeMap<u64, ()> = voters.iter().map(|id| (id.get(), ())).collect();
        // It campaigns with this, and need not again at once because it was opened long ago.
        group.heard_from_leader();
        let done = group.raft().initialize(voters).await;
        done.map_err(|error| GroupOpenError::Io {
            group: group.id(),
            action: "found",
            source: Box::new(error),
        })
    }

    /// Says which node holds which replica of a group.
    pub fn set_members(&self, id: GroupId, members: BTreeMap<ReplicaId, NodeId>) {
        if let Some(group) = self.groups.get(id) {
            *group.members().write().unwrap_or_else(PoisonError::into_inner) = members;
        }
    }

    /// Stops a replica; its data stays.
    pub async fn close_group(&self, id: GroupId) {
        if let Some(group) = self.groups.remove(id) {
            group.close().await;
        }
    }

    /// Bounds the syncs that run at once.
    #[cfg(test)]
    pub(crate) const fn syncs(&self) -> &Arc<Semaphore> {
        &self.syncs
    }

    /// Stops all replicas, cleanly.
    pub async fn shutdown(&self) {
        drop(crate::replica::lock(&self.ticker).take());
        let closing = self.groups.all().into_iter().map(|group| self.close_group(group.id()));
        futures::future::join_all(closing).await;
    }
}
