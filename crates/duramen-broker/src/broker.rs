//! The broker: one node's use cases, from its first start on.
//!
//! A [`Broker`] exists as soon as its data directory is open; it answers discovery at once and
//! everything else once it belongs to a running cluster. [`Broker::run`] carries it there and
//! then keeps it: replicas, retention, voters, until it is told to stop.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use duramen_env::{Env, Listener};
use duramen_group::Assignor;
use duramen_proto::internal::peer_service_server::PeerServiceServer;
use duramen_proto::v1;
use duramen_raft::{FailStop, GroupId, GroupSpec, HostError, LocalNode, RaftHost};
use duramen_types::{ClusterId, MetadataIndex, NodeId, ReplicaId};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::authorize::{self, AllowAll, Authorizer, Caller, Operation, Resource};
use crate::bootstrap::{self, FormServer};
use crate::error::BrokerError;
use crate::identity::{Founder, IdentityError, Phase};
use crate::member::Member;
use crate::metadata::{MetadataCopy, MetadataWriter};
use crate::quarantine;
use crate::shared_identity::SharedIdentity;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The node's number.
    pub node: NodeId,
    /// Its data directory.
    pub dir: PathBuf,
    /// Client addresses of the nodes that found the cluster, the same list on each of them.
    pub seeds: Vec<String>,
    /// Where clients reach this node.
    pub client_address: String,
    /// Where other nodes reach this node.
    pub peer_address: String,
    /// Where its metrics are; empty if nowhere.
    pub http_address: String,
    /// Where it stands.
    pub rack: String,
    /// The version of the software.
    pub version: String,
    /// Free bytes of the disk below which no records are taken.
    pub disk_reserve_bytes: u64,
    /// Entries of the metadata, and of a shard of groups, after which their state is written as a
    /// snapshot; `None` is the default.
    pub snapshot_entries: Option<u64>,
    /// Shards of consumer groups, if this node makes them; `None` is the default.
    pub group_shards: Option<u32>,
    /// What computes who reads what in the groups that this node coordinates.
    pub group_assignor: &'static dyn Assignor,
}

/// Why a node could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process uses it.
    #[error("could not lock {dir}: another process uses it")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The votes or directories cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The metadata replica takes no part.
    #[error("could not open this node's replica of the metadata")]
    Metadata(#[source] duramen_raft::GroupOpenError),
    /// The peer listener failed.
    #[error("could not serve other nodes")]
    Serve(#[from] tonic::transport::Error),
    /// A use case that the start needs failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Something that guards data failed while the node ran.
    #[error("{0}")]
    Failed(String),
}

/// One node's use cases.
#[derive(Debug)]
pub struct Broker {
    pub(crate) env: Env,
    pub(crate) options: StartOptions,
    identity: Arc<SharedIdentity>,
    authorizer: Arc<dyn Authorizer>,
    fail_stop: FailStop,
    status: watch::Sender<String>,
    member: OnceLock<Arc<Member>>,
    shutdown: watch::Sender<bool>,
    _lock: Box<dyn duramen_env::DirLock>,
}

impl Broker {
    /// Opens a data directory and locks it. Reads the disk.
    ///
    /// # Errors
    /// [`NodeError`]; the node must not start.
    pub fn open(env: &Env, options: StartOptions) -> Result<Arc<Self>, NodeError> {
        let dir = options.dir.clone();
        let locked = env.disk.create_dir_all(&dir).and_then(|()| env.disk.lock(&dir.join("lock")));
        let lock = locked.map_err(|source| NodeError::Locked { dir: dir.clone(), source })?;
        let identity = SharedIdentity::open(env, dir, options.node)?;
        Ok(Arc::new(Self {
            env: env.clone(),
            options,
            identity,
            authorizer: Arc::new(AllowAll),
            fail_stop: FailStop::new(),
            status: watch::Sender::new("opening".to_owned()),
            member: OnceLock::new(),
            shutdown: watch::Sender::new(false),
            _lock: lock,
        }))
    }

    /// Who this node is, for discovery.
    #[must_use]
    pub fn identify(&self) -> v1::IdentifyResponse {
        let identity = self.identity.get();
        // A cluster that is only being founded is none yet: a seed that comes back empty must
        // still find the others willing.
        let cluster = match identity.phase() {
            Phase::Member { .. } | Phase::Joining { .. } => identity.cluster(),
            Phase::Empty | Phase::Forming { .. } => None,
        };
        v1::IdentifyResponse {
            node_id: identity.node().get(),
            incarnation: identity.incarnation().get(),
            cluster_id: cluster
                .map(|cluster| bytes::Bytes::copy_from_slice(cluster.as_bytes()))
                .unwrap_or_default(),
            peer_address: self.options.peer_address.clone(),
            seeds: self.options.seeds.clone(),
            version: self.options.version.clone(),
        }
    }

    /// The node as a member of a running cluster.
    ///
    /// # Errors
    /// [`BrokerError::Starting`] until it is one, [`BrokerError::ShuttingDown`] afterwards.
    pub(crate) fn member(&self) -> Result<&Arc<Member>, BrokerError> {
        if *self.shutdown.borrow() {
            return Err(BrokerError::ShuttingDown);
        }
        // Until it is registered its copy of the metadata may be empty: it must not say that a
        // topic does not exist.
        self.member
            .get()
            .filter(|member| member.is_registered())
            .ok_or_else(|| BrokerError::Starting { reason: self.status.borrow().clone() })
    }

    /// Authorizes a call, then gives the member to serve it. Every use case begins here.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<&Arc<Member>, BrokerError> {
        authorize::check(&*self.authorizer, caller, operation, resource)?;
        self.member()
    }

    /// As [`Broker::admit`], once everything up to a metadata index is known here.
    pub(crate) async fn admit_at(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: Resource<'_>,
        index: MetadataIndex,
    ) -> Result<&Arc<Member>, BrokerError> {
        let member = self.admit(caller, operation, resource)?;
        member.metadata().wait_for(index).await?;
        Ok(member)
    }

    /// Whether the node is a member of a running cluster and knows its metadata; otherwise what it
    /// waits for.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn ready(&self) -> Result<(), String> {
        self.member().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Tells the node to stop; [`Broker::run`] returns when it has.
    pub fn stop(&self) {
        self.shutdown.send_replace(true);
    }

    /// Completes when the node was told to stop: who serves clients without an end ends then.
    pub async fn stopping(&self) {
        let mut shutdown = self.shutdown.subscribe();
        drop(shutdown.wait_for(|stop| *stop).await);
    }

    /// Carries the node into its cluster and keeps it until it is stopped or must stop. `peers` is
    /// the listener for other nodes.
    ///
    /// # Errors
    /// [`NodeError`]: the process should end.
    pub async fn run(self: &Arc<Self>, peers: Arc<dyn Listener>) -> Result<(), NodeError> {
        let mut stopping = self.shutdown.subscribe();
        let cluster = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            cluster = self.bootstrap(Arc::clone(&peers)) => cluster?,
        };
        let member = self.become_member(cluster).await?;
        let served = {
            let routes = member.peer_routes();
            let mut stopping = self.shutdown.subscribe();
            let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
            let options = duramen_net::ServerOptions::default();
            let serving = duramen_net::serve(peers, routes, options, stopped);
            self.env.tasks.critical("peer-listener", serving)
        };
        self.status.send_replace("joining the metadata group".to_owned());
        let keeping = member.keep(self);
        let outcome = tokio::select! {
            biased;
            reason = self.fail_stop.failed() => Err(NodeError::Failed(reason)),
            kept = keeping => kept,
            _ = stopping.wait_for(|stop| *stop) => Ok(()),
        };
        self.stop();
        drop(served);
        member.shutdown().await;
        outcome
    }

    /// Serves founders while the bootstrap decides.
    async fn bootstrap(&self, peers: Arc<dyn Listener>) -> Result<ClusterId, NodeError> {
        let form = FormServer::new(Arc::clone(&self.identity));
        let (done, over) = tokio::sync::oneshot::channel::<()>();
        let routes = Routes::new(PeerServiceServer::new(form));
        let over = async move { drop(over.await) };
        let serving =
            duramen_net::serve(peers, routes, duramen_net::ServerOptions::default(), over);
        let serving = self.env.tasks.critical("form-listener", serving);
        let status = |reason| {
            self.status.send_replace(reason);
        };
        let cluster = bootstrap::run(&self.env, &self.options, &self.identity, &status).await?;
        drop(done);
        if let Some(served) = serving.join().await {
            served?;
        }
        Ok(cluster)
    }

    /// Becomes a member; with damaged files, one that joins anew.
    async fn become_member(self: &Arc<Self>, cluster: ClusterId) -> Result<Arc<Member>, NodeError> {
        loop {
            let error = match self.open_member(cluster).await {
                Ok(member) => return Ok(member),
                Err(error) => error,
            };
            let place = (self.options.dir.as_path(), self.options.peer_address.as_str());
            if !quarantine::begin_anew(&self.env, place, &self.identity, &error)? {
                return Err(error);
            }
        }
    }

    /// Opens the node's part of the cluster: its votes and its replica of the metadata.
    async fn open_member(self: &Arc<Self>, cluster: ClusterId) -> Result<Arc<Member>, NodeError> {
        let identity = self.identity.get();
        let local = LocalNode {
            cluster,
            node: identity.node(),
            incarnation: identity.incarnation(),
            boot_id: self.env.random.next_u64(),
        };
        let host = RaftHost::open(&self.env, &self.options.dir, local, self.fail_stop.clone())?;
        for founder in identity.founders().iter().filter(|founder| founder.node != 0) {
            host.set_node_address(NodeId::new(founder.node), &founder.peer_address);
        }
        let copy = MetadataCopy::new();
        let group = GroupId::Metadata;
        let was_member = matches!(identity.phase(), Phase::Member { .. });
        if !was_member {
            let created =
                host.create_replica(group, local.incarnation, crate::member::metadata_log());
            created.await.map_err(NodeError::Metadata)?;
        }
        let spec = GroupSpec {
            id: group,
            replica: local.incarnation,
            members: founders_by_replica(identity.founders()),
            log: crate::member::metadata_log(),
            machine: Some(copy.machine(self.fail_stop.clone())),
            snapshot_entries: self.options.snapshot_entries,
        };
        let metadata_group = match host.open_group(spec).await {
            Ok(group) => group,
            Err(error) => {
                host.shutdown().await;
                return Err(NodeError::Metadata(error));
            }
        };
        if let Phase::Forming { first: true, founders, .. } = identity.phase() {
            let voters = founders.iter().map(|founder| ReplicaId::new(founder.incarnation));
            // Refused if an earlier try had worked: the group is founded either way.
            if let Err(error) = host.initialize(&metadata_group, &voters.collect()).await {
                tracing::debug!(%error, "the metadata group was founded before");
            }
        }
        let env = self.env.clone();
        let founders = identity.founders().to_vec();
        let (host_of, copy_of) = (Arc::clone(&host), Arc::clone(&copy));
        let writer = MetadataWriter { host: host_of, copy: copy_of, env, cluster, founders };
        let member = Member::new(
            self.env.clone(),
            host,
            writer,
            self.options.clone(),
            self.fail_stop.clone(),
        );
        Ok(Arc::clone(self.member.get_or_init(|| member)))
    }

    /// The cluster took this node in: remembers it, durably.
    pub(crate) fn taken_in(&self) -> Result<(), IdentityError> {
        let identity = self.identity.get();
        let (Some(cluster), false) =
            (identity.cluster(), matches!(identity.phase(), Phase::Member { .. }))
        else {
            return Ok(());
        };
        let founders = identity.founders().to_vec();
        self.identity.enter(Phase::Member { cluster: cluster.to_string(), founders })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.identity.get().phase().clone()
    }

    pub(crate) fn founders(&self) -> Vec<Founder> {
        self.identity.get().founders().to_vec()
    }

    pub(crate) fn report(&self, status: String) {
        self.status.send_replace(status);
    }
}

fn founders_by_replica(founders: &[Founder]) -> std::collections::BTreeMap<ReplicaId, NodeId> {
    let known = founders.iter().filter(|founder| founder.node != 0);
    known.map(|founder| (ReplicaId::new(founder.incarnation), NodeId::new(founder.node))).collect()
}
