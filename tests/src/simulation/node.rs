//! A simulated node: its disk, its clock, and the process that runs on them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, Caller, StartOptions};
use duramen_env::{Env, SimDelays, SimDisk, Tasks, TokioClock};
use duramen_group::UniformSticky;
use duramen_types::{NodeId, PartitionId};

use super::SimError;
use super::fault::FaultKind;
use super::plan::Plan;
use super::world::{EPOCH, World};

/// How often a node looks for what it is asked to do.
const LOOK: Duration = Duration::from_millis(100);

/// Where a node keeps its data.
pub(super) const DATA: &str = "/data";

/// Free bytes below which a node takes no records.
pub(super) const DISK_RESERVE_BYTES: u64 = 256 << 10;

/// A partition that another node is to lead.
#[derive(Clone, Debug)]
pub(super) struct HandOver {
    pub(super) topic: String,
    pub(super) partition: PartitionId,
}

/// A machine: what outlives its process.
pub(super) struct Node {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) disk: SimDisk,
    pub(super) delays: SimDelays,
    clock: RefCell<Option<Arc<TokioClock>>>,
    skew_ms: Cell<i64>,
    boots: Cell<u64>,
    /// Why the process ended by itself.
    pub(super) failure: RefCell<Option<String>>,
    /// A partition whose leadership it is to hand over.
    pub(super) hand_over: RefCell<Option<HandOver>>,
    /// When it is to be started again; `None` while it runs.
    pub(super) down_until: Cell<Option<Duration>>,
    /// When it was last started again.
    pub(super) started: Cell<Duration>,
}

impl Node {
    pub(super) fn new(plan: &Plan, number: u64) -> Rc<Self> {
        let seed = plan.seed.wrapping_mul(1_000).wrapping_add(number);
        Rc::new(Self {
            number,
            name: Plan::node_name(number),
            disk: SimDisk::new(seed),
            delays: SimDelays::new(seed),
            clock: RefCell::default(),
            skew_ms: Cell::default(),
            boots: Cell::default(),
            failure: RefCell::default(),
            hand_over: RefCell::default(),
            down_until: Cell::default(),
            started: Cell::default(),
        })
    }

    pub(super) fn id(&self) -> NodeId {
        NodeId::new(self.number)
    }

    pub(super) fn is_up(&self) -> bool {
        self.down_until.get().is_none() && self.failure.borrow().is_none()
    }

    /// How often its process was started.
    pub(super) fn boots(&self) -> u64 {
        self.boots.get()
    }

    /// Lets its wall clock be wrong.
    pub(super) fn set_skew_ms(&self, skew: i64) {
        self.skew_ms.set(skew);
        if let Some(clock) = &*self.clock.borrow() {
            clock.set_skew_millis(skew);
        }
    }

    /// The world as the process that starts now sees it.
    fn env(&self, world: &World) -> Env {
        let boot = self.boots.get() + 1;
        self.boots.set(boot);
        let started = i64::try_from(world.now().as_millis()).unwrap_or(i64::MAX);
        let clock = Arc::new(TokioClock::new(EPOCH.saturating_add_millis(started)));
        clock.set_skew_millis(self.skew_ms.get());
        *self.clock.borrow_mut() = Some(Arc::clone(&clock));
        // No two processes draw alike: a directory that was wiped must be somebody else.
        let seed = world.plan.seed.wrapping_mul(31).wrapping_add(self.number).rotate_left(20);
        let env = Env::sim(seed.wrapping_add(boot), &self.disk, clock);
        Env { tasks: Tasks::delayed(self.delays.clone()), ..env }
    }

    fn options(&self, plan: &Plan) -> StartOptions {
        StartOptions {
            node: self.id(),
            dir: PathBuf::from(DATA),
            seeds: plan.seeds(),
            client_address: format!("{}:7650", self.name),
            peer_address: format!("{}:7652", self.name),
            http_address: String::new(),
            rack: String::new(),
            version: "sim".to_owned(),
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            snapshot_entries: Some(plan.snapshot_entries),
            // As many as show that there are several: each is one more Raft group on every node.
            group_shards: Some(2),
            group_assignor: &UniformSticky,
        }
    }
}

/// The process of a node. It never returns: where it ends by itself it says why and waits for the
/// supervisor, as everything that it left running would otherwise go on.
pub(super) async fn run(world: Rc<World>, node: Rc<Node>) -> Result<(), SimError> {
    let env = node.env(&world);
    let ended = Box::pin(serve(&world, &node, &env)).await;
    let reason = ended.err().map_or_else(|| "it ended".to_owned(), |error| full_text(&*error));
    *node.failure.borrow_mut() = Some(reason);
    std::future::pending().await
}

async fn serve(world: &World, node: &Node, env: &Env) -> Result<(), SimError> {
    let broker = Broker::open(env, node.options(&world.plan))?;
    let clients = Arc::from(env.net.listen("0.0.0.0:7650").await?);
    let peers = Arc::from(env.net.listen("0.0.0.0:7652").await?);
    let serving =
        duramen_grpc::serve(env, clients, Arc::clone(&broker), std::future::pending::<()>());
    tokio::select! {
        biased;
        ran = broker.run(peers) => ran?,
        served = serving => served?,
        () = hand_over(world, node, &broker) => {}
    }
    Ok(())
}

/// Hands partitions over as it is asked to, for ever.
async fn hand_over(world: &World, node: &Node, broker: &Broker) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(wish) = node.hand_over.borrow_mut().take() else { continue };
        let caller = Caller::default();
        let (name, HandOver { topic, partition }) = (&node.name, wish);
        match broker.hand_over(&caller, Some((&topic, partition))).await {
            Ok(moved) if moved.iter().any(|(_, is_done)| *is_done) => {
                world.tally.borrow_mut().count(FaultKind::Transfer, true);
                world.note(format_args!("{name} handed {topic}-{partition} over"));
            }
            kept => world.note(format_args!("{name} keeps {topic}-{partition}: {kept:?}")),
        }
    }
}

fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
