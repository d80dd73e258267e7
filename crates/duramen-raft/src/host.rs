//! All Raft groups of a node: opens, closes and removes replicas, and carries their traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use duramen_env::planted::{Planted, is_planted};
use duramen_env::{Env, TaskHandle};
use duramen_log::{DamagedRange, Log, LogError, LogIdentity, LogOptions, OpenError};
use duramen_proto::internal::peer_service_server::PeerServiceServer;
use duramen_types::{NodeId, PartitionId, ReplicaId, Term, TopicId, TopicPartition};
use openraft::{Config, ConfigError, Raft};
use tokio::sync::Semaphore;

use crate::fail_stop::FailStop;
use crate::group::Group;
use crate::group_commit::GroupCommit;
use crate::hard_state::{HardState, HardStateError};
use crate::machine::{Machine, StateMachine};
use crate::network::{GroupNetworkFactory, Links, PeerHandler, PeerServer};
use crate::replica::{Replica, ReplicaParts};
use crate::store::LogStore;
use crate::types::GroupId;
use crate::{LocalNode, config, limits, metrics, ticker};

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
}

impl std::fmt::Debug for GroupSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupSpec").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why the host could not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The votes cannot be read.
    #[error(transparent)]
    HardState(#[from] HardStateError),
    /// Directories could not be made.
    #[error("could not prepare {path}")]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// openraft refuses the built-in configuration.
    #[error("could not configure Raft")]
    Config(#[from] ConfigError),
}

/// Why a replica could not be opened. In none of these cases may the replica vote or acknowledge.
#[derive(Debug, thiserror::Error)]
pub enum GroupOpenError {
    /// The replica was here once and is gone, emptied or somebody else's.
    #[error("could not open the replica of {group} in {path}: its log is lost")]
    Lost {
        /// The group.
        group: GroupId,
        /// Where it was.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: Box<OpenError>,
    },
    /// Part of what it acknowledged cannot be read any more.
    #[error(
        "could not serve the replica of {group} in {path}: log indexes {} are damaged",
        list(ranges)
    )]
    Damaged {
        /// The group.
        group: GroupId,
        /// Where it is.
        path: PathBuf,
        /// What is damaged.
        ranges: Vec<DamagedRange>,
    },
    /// The log has entries of a later term than the replica's vote: the vote was lost, and with it
    /// maybe others. The votes were put aside; for a partition the node stops as well.
    #[error("could not open the replica of {group}: its vote for term {term} is lost")]
    VoteLost {
        /// The group.
        group: GroupId,
        /// The term of the log's last entry.
        term: Term,
    },
    /// The log could not be made or read.
    #[error("could not {action} the replica of {group}")]
    Io {
        /// The group.
        group: GroupId,
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Whether a directory holds replicas, of whatever kind.
fn has_replicas(env: &Env, dir: &Path) -> io::Result<bool> {
    Ok(env.disk.exists(&dir.join(METADATA))? || !env.disk.list(&dir.join(PARTITIONS))?.is_empty())
}

/// The term of a log's last entry, or of the last one below its start.
fn last_term(log: &Log) -> Result<Term, LogError> {
    let start = log.start();
    match log.end_index().prev() {
        Some(last) if last >= start.first_index => log.header_at(last).map(|header| header.term),
        _ => Ok(start.prev_term.unwrap_or(Term::ZERO)),
    }
}

/// Ranges for people; of many, the first few.
fn list(ranges: &[DamagedRange]) -> String {
    const SHOWN: usize = 5;
    let shown = ranges.iter().take(SHOWN).map(|range| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{} to {}", range.first, range.last),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ranges.len() > SHOWN {
        text.push_str(&format!(" and {} more ranges", ranges.len() - SHOWN));
    }
    text
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

/// The partition and the replica that a directory's name speaks of.
fn parse_replica_dir(name: &str) -> Option<(TopicPartition, ReplicaId)> {
    let (rest, replica) = name.rsplit_once('-')?;
    let (topic, partition) = rest.rsplit_once('-')?;
    let (topic, partition) = (TopicId::parse(topic)?, partition.parse().ok()?);
    let replica = ReplicaId::new(u64::from_str_radix(replica, 16).ok()?);
    Some((TopicPartition { topic, partition: PartitionId::new(partition) }, replica))
}

const PARTITIONS: &str = "partitions";
const METADATA: &str = "metadata";

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
        let hard_state = HardState::open(&env.disk, dir, has_replicas, env.tasks)?;
        let groups = Arc::new(Groups::default());
        let ticker = env.tasks.critical("group-ticker", ticker::run(Arc::clone(&groups)));
        Ok(Arc::new(Self {
            env: env.clone(),
            dir: dir.into(),
            local,
            links: Arc::new(Links::new(env, local)),
            groups,
            hard_state: Arc::new(hard_state),
            syncs: Arc::new(Semaphore::new(limits::SYNCS_IN_PARALLEL)),
            disk_full: Arc::new(AtomicBool::new(false)),
            fail_stop,
            partition_config: config::partition()?,
            state_machine_config: config::state_machine()?,
            ticker: Mutex::new(Some(ticker)),
        }))
    }

    /// The peer service, for the listener that other nodes reach.
    #[must_use]
    pub fn peer_service(
        &self,
        handler: Arc<dyn PeerHandler>,
    ) -> PeerServiceServer<impl duramen_proto::internal::peer_service_server::PeerService> {
        PeerServer::service(&self.env, self.local, Arc::clone(&self.groups), handler)
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

    /// Where a replica's files are.
    #[must_use]
    pub fn replica_dir(&self, id: GroupId, replica: ReplicaId) -> PathBuf {
        match id {
            GroupId::Metadata => self.dir.join(METADATA),
            GroupId::Partition(partition) => {
                self.dir.join(PARTITIONS).join(format!("{partition}-{:016x}", replica.get()))
            }
        }
    }

    /// Creates the empty log of a replica that never was. Durable when this returns.
    ///
    /// # Errors
    /// [`GroupOpenError::Io`], also if a log is there already.
    pub async fn create_replica(
        &self,
        id: GroupId,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<(), GroupOpenError> {
        let (env, path) = (self.env.clone(), self.replica_dir(id, replica));
        let identity = self.identity(replica);
        let creating = move || {
            env.disk.create_dir_all(&path)?;
            if let Some(parent) = path.parent() {
                env.disk.sync_dir(parent)?;
            }
            Log::create(&env.disk, &env.random, &path, identity, options)
                .map_err(io::Error::other)?
                .close()
                .map_err(io::Error::other)
        };
        let created = self.env.tasks.blocking("replica-create", creating).await;
        created.map_err(|source| GroupOpenError::Io {
            group: id,
            action: "create",
            source: Box::new(source),
        })
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
        let (replica, opened) = opened.map_err(|error| io("open")(Box::new(error)))?;
        let replica = Arc::new(replica);
        let members = Arc::new(RwLock::new(spec.members));
        let network = GroupNetworkFactory::new(
            Arc::clone(&self.links),
            id,
            spec.replica,
            Arc::clone(&members),
        );
        let config = if is_partition { &self.partition_config } else { &self.state_machine_config };
        let raft = Raft::new(
            spec.replica.get(),
            Arc::clone(config),
            network,
            LogStore::new(Arc::clone(&replica)),
            Machine::new(Arc::clone(&replica), opened),
        );
        let raft = raft.await.map_err(|error| io("start")(Box::new(error)))?;
        let group = Group::new(Arc::clone(&replica), raft, members, Arc::clone(&self.disk_full));
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

    /// Looks at a replica's log without letting it take part. Reads the disk.
    ///
    /// # Errors
    /// As [`RaftHost::open_group`].
    pub async fn examine(
        &self,
        group: GroupId,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<(), GroupOpenError> {
        let log = self.open_log(group, replica, options).await?;
        let closed = self.env.tasks.blocking("log-close", move || log.close()).await;
        closed.map_err(|source| GroupOpenError::Io {
            group,
            action: "close",
            source: Box::new(source),
        })
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
        let syncing = Arc::clone(&log);
        let clock = Arc::clone(&self.env.clock);
        let sync = move || {
            let started = clock.monotonic();
            let synced = match syncing.sync() {
                // Closing synced all there was.
                Ok(_) | Err(LogError::Closed) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            };
            metrics::synced(clock.monotonic().saturating_sub(started));
            synced
        };
        let tasks = self.env.tasks;
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

    /// Stops a replica, if it is open, and removes its data, durably.
    ///
    /// # Errors
    /// As the disk says; what is left is removed at the next try.
    pub async fn remove_replica(&self, id: GroupId, replica: ReplicaId) -> io::Result<()> {
        if self.group(id).is_some_and(|group| group.replica() == replica) {
            self.close_group(id).await;
        }
        let (disk, path) = (Arc::clone(&self.env.disk), self.replica_dir(id, replica));
        let removing = move || {
            if disk.exists(&path)? {
                disk.remove_dir_all(&path)?;
            }
            path.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
        };
        self.env.tasks.blocking("replica-remove", removing).await?;
        // The vote goes last: a log must never come back without it.
        self.hard_state.forget(id, replica)
    }

    /// The partition replicas that have a directory here, open or not. Reads the disk.
    ///
    /// # Errors
    /// As the disk says.
    pub fn replicas_on_disk(&self) -> io::Result<Vec<(TopicPartition, ReplicaId)>> {
        let entries = self.env.disk.list(&self.dir.join(PARTITIONS))?;
        Ok(entries.iter().filter_map(|entry| parse_replica_dir(&entry.name)).collect())
    }

    /// Whether a replica's directory exists.
    ///
    /// # Errors
    /// As the disk says.
    pub fn has_replica(&self, id: GroupId, replica: ReplicaId) -> io::Result<bool> {
        self.env.disk.exists(&self.replica_dir(id, replica))
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
