//! One simulated node: a host with its disk, that opens its replicas at every start and does what
//! the trial asks of it, in its own runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use duramen_env::{Env, SimDisk, TokioClock};
use duramen_log::LogOptions;
use duramen_proto::internal as pb;
use duramen_types::{ClusterId, MetadataIndex, NodeId, ReplicaId, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::gate::{Gate, GateNet};
use crate::replica::lock;
use crate::{
    FailStop, GroupId, GroupOpenError, GroupSpec, LocalNode, PeerHandler, RaftHost, RestoreError,
    StateMachine,
};

pub(super) const DIR: &str = "/data";
const PORT: u16 = 9_000;
const CLUSTER: ClusterId = ClusterId::from_bytes([7; 16]);
/// Replicas that a node may have had, one after the other.
const LIVES: u64 = 3;

pub(super) type Command = Box<dyn FnOnce(Arc<RaftHost>) -> BoxFuture<'static, ()> + Send>;

/// A replica that the node opens at each start.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) replica: ReplicaId,
    pub(super) options: LogOptions,
}

/// What the trial and the node share.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    seed: u64,
    pub(super) disk: SimDisk,
    pub(super) gate: Gate,
    pub(super) plans: Mutex<BTreeMap<GroupId, Plan>>,
    /// What the commands applied on this node since its start.
    pub(super) book: Mutex<Arc<Mutex<Vec<Bytes>>>>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    starts: u64,
    host: Option<Arc<RaftHost>>,
    commands: Option<mpsc::Sender<Command>>,
    fail_stop: FailStop,
    refused: BTreeMap<GroupId, GroupOpenError>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("starts", &self.starts).finish_non_exhaustive()
    }
}

pub(super) fn name(node: u64) -> String {
    format!("node-{node}")
}

pub(super) fn address(node: u64) -> String {
    format!("{}:{PORT}", name(node))
}

/// The replica that a node holds in one of its lives, the first being 1.
pub(super) fn replica(node: u64, life: u64) -> ReplicaId {
    ReplicaId::new(node * 10 + life)
}

fn members() -> BTreeMap<ReplicaId, NodeId> {
    let all = (1..=9).flat_map(|node| (1..=LIVES).map(move |life| (node, life)));
    all.map(|(node, life)| (replica(node, life), NodeId::new(node))).collect()
}

impl Node {
    pub(super) fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            seed,
            disk: SimDisk::new(seed ^ id),
            gate: Gate::default(),
            plans: Mutex::default(),
            book: Mutex::default(),
            running: Mutex::default(),
        }
    }

    pub(super) fn host(&self) -> Option<Arc<RaftHost>> {
        lock(&self.running).host.clone()
    }

    pub(super) fn commands(&self) -> mpsc::Sender<Command> {
        lock(&self.running).commands.clone().expect("the node runs")
    }

    pub(super) fn stop_reason(&self) -> Option<String> {
        lock(&self.running).fail_stop.reason()
    }

    /// Why a group could not be opened at the last start.
    pub(super) fn refusal(&self, group: GroupId) -> Option<String> {
        lock(&self.running).refused.get(&group).map(|error| format!("{error:?}"))
    }

    /// Forgets the process.
    pub(super) fn ended(&self) {
        let mut running = lock(&self.running);
        running.host = None;
        running.commands = None;
    }

    pub(super) fn spec(&self, group: GroupId, plan: &Plan) -> GroupSpec {
        let book = Arc::clone(&lock(&self.book));
        GroupSpec {
            id: group,
            replica: plan.replica,
            members: members(),
            log: plan.options,
            machine: (group == GroupId::Metadata)
                .then(|| Box::new(Book { lines: book }) as Box<dyn StateMachine>),
            snapshot_entries: None,
        }
    }

    /// The node's process, from start to end; it also ends when its disk loses its power.
    pub(super) async fn run(self: Arc<Self>, nodes: BTreeSet<u64>) -> turmoil::Result {
        match self.serve(nodes).await {
            Err(_) if self.disk.is_down() => Ok(()),
            ended => ended,
        }
    }

    async fn serve(&self, nodes: BTreeSet<u64>) -> turmoil::Result {
        let starts = {
            let mut running = lock(&self.running);
            running.starts += 1;
            running.fail_stop = FailStop::new();
            running.refused.clear();
            running.starts
        };
        *lock(&self.book) = Arc::default();
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let now = i64::try_from(now.as_millis())? + 1_700_000_000_000;
        let clock = Arc::new(TokioClock::new(Timestamp::from_millis(now)));
        let seed = self.seed ^ (self.id << 32) ^ (starts << 40);
        let env =
            Env { net: Arc::new(GateNet(self.gate.clone())), ..Env::sim(seed, &self.disk, clock) };
        let local = LocalNode {
            cluster: CLUSTER,
            node: NodeId::new(self.id),
            incarnation: replica(self.id, 1),
            boot_id: starts,
        };
        let fail_stop = lock(&self.running).fail_stop.clone();
        env.disk.create_dir_all(Path::new(DIR))?;
        env.disk.sync_dir(Path::new("/"))?;
        let host = RaftHost::open(&env, Path::new(DIR), local, fail_stop)?;
        for node in nodes {
            host.set_node_address(NodeId::new(node), &address(node));
        }
        let listener = env.net.listen(&format!("0.0.0.0:{PORT}")).await?;
        let routes = host.peer_routes(Arc::new(NoCalls));
        let options = duramen_net::ServerOptions::default();
        let served = duramen_net::serve(listener.into(), routes, options, std::future::pending());
        let _server = env.tasks.critical("peer-server", served);
        self.open_groups(&host).await;
        let (commands, mut todo) = mpsc::channel::<Command>(1_024);
        {
            let mut running = lock(&self.running);
            running.commands = Some(commands);
            running.host = Some(Arc::clone(&host));
        }
        while let Some(command) = todo.recv().await {
            env.tasks.connection("command", command(Arc::clone(&host)));
        }
        Ok(())
    }

    async fn open_groups(&self, host: &RaftHost) {
        let plans = lock(&self.plans).clone();
        for (group, plan) in plans {
            if let Err(error) = host.open_group(self.spec(group, &plan)).await {
                lock(&self.running).refused.insert(group, error);
            }
        }
    }
}

struct NoCalls;

#[async_trait]
impl PeerHandler for NoCalls {
    async fn bounds(&self, _request: pb::BoundsRequest) -> pb::BoundsResponse {
        pb::BoundsResponse::default()
    }

    async fn propose(&self, _: pb::ProposeMetadataRequest) -> pb::ProposeMetadataResponse {
        pb::ProposeMetadataResponse::default()
    }

    async fn form(&self, _: pb::FormRequest) -> pb::FormResponse {
        pb::FormResponse::default()
    }

    async fn join(&self, _: pb::JoinRequest) -> pb::JoinResponse {
        pb::JoinResponse::default()
    }
}

/// A state machine that writes down all commands.
#[derive(Debug)]
struct Book {
    lines: Arc<Mutex<Vec<Bytes>>>,
}

impl StateMachine for Book {
    fn apply(&mut self, index: MetadataIndex, command: &[u8]) -> Bytes {
        lock(&self.lines).push(Bytes::copy_from_slice(command));
        Bytes::from(index.get().to_string())
    }

    fn snapshot(&self) -> Bytes {
        lock(&self.lines).join(&b'\n').into()
    }

    fn check(&self, state: &[u8]) -> Result<(), RestoreError> {
        let readable = std::str::from_utf8(state);
        readable.map(|_| ()).map_err(|source| RestoreError { source: source.into() })
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let lines = state.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        *lock(&self.lines) = lines.map(Bytes::copy_from_slice).collect();
        Ok(())
    }

    fn advanced(&mut self, _: MetadataIndex) {}
}
