//! A whole cluster in one thread under one seed: the real broker, Raft, gRPC and SDK on simulated
//! disks, clocks and network, while everything goes wrong that may.
//!
//! ```text
//! seed ─▶ plan ─▶ nodes, clients ──▶ faults (60 s and more) ──▶ healing ──▶ rest ──▶ final read
//!                    │ deeds              ▲                                             │
//!                    ▼                    │ between steps                               ▼
//!                 witness              director                             dumps ─▶ checker
//! ```
//! What happened is a trace of text lines: the same seed gives the same trace, in any process. One
//! process runs one seed: what libraries draw in a thread is not reset between runs.

mod clients;
mod dice;
mod director;
mod dumps;
mod fault;
mod network;
mod node;
mod outcome;
mod plan;
mod recorder;
mod sweep;
mod witness;
mod world;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duramen_checker::Options;
use turmoil::Sim;

use director::{CLIENT_HOSTS, Director};
use network::Network;
use node::Node;
use plan::Plan;
use world::{Phase, World};

pub use director::Losses;
pub use fault::{Count, FaultKind, Tally};
pub use outcome::{Outcome, RunFigures};
pub use plan::FAULTS_MIN;
pub use sweep::{Sweep, sweep};

/// A run that takes longer than this in simulated time has failed.
const DURATION_MAX: Duration = Duration::from_secs(400);

/// Bytes of a connection that wait to be read, counted in packets.
const TCP_CAPACITY: usize = 65_536;

/// Simulated time in nanoseconds, for a program that lets libraries see it in place of the machine's
/// clocks: HTTP/2 forgets reset streams by them, and writes dates.
pub static VIRTUAL_NANOS: AtomicU64 = AtomicU64::new(0);

/// Any failure of a simulated host or client.
pub type SimError = Box<dyn std::error::Error>;

/// Runs one seed to its end, with faults of these kinds only. `keep_trace` keeps its events.
#[must_use]
pub fn run(seed: u64, kinds: &[FaultKind], keep_trace: bool) -> Outcome {
    duramen_raft::seed_elections(seed);
    let world = World::new(Plan::draw(seed, kinds), keep_trace);
    let hearing = Rc::clone(&world);
    duramen_env::witness::set_witness(Some(Box::new(move |group, replica, deed| {
        hearing.note(format_args!("{replica} of {group} {deed:?}"));
        let heard = hearing.witness.borrow_mut().hear(group, replica, deed);
        if let Err(broken) = heard {
            hearing.violated(broken);
        }
    })));
    let nodes: Vec<_> =
        (1..=world.plan.nodes).map(|number| Node::new(&world.plan, number)).collect();
    let (losses, nodes) = simulate(&world, nodes);
    duramen_env::witness::set_witness(None);
    if !world.is_violated() {
        dumps::take(&world, &nodes);
        judge(&world);
    }
    outcome(&world, losses)
}

/// Steps through the simulation until its clients have come to their end or a promise is broken.
fn simulate(world: &Rc<World>, nodes: Vec<Rc<Node>>) -> (Losses, Vec<Rc<Node>>) {
    let plan = &world.plan;
    let mut sim = turmoil::Builder::new()
        .simulation_duration(DURATION_MAX)
        .tick_duration(Duration::from_millis(plan.tick_ms))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(plan.latency_ms))
        .tcp_capacity(TCP_CAPACITY)
        .rng_seed(plan.seed)
        .build();
    let mut network = Network::new(plan.latency_ms);
    for node in &nodes {
        let (name, world, node) = (node.name.clone(), Rc::clone(world), Rc::clone(node));
        network.add_host(&name);
        sim.host(name, move || node::run(Rc::clone(&world), Rc::clone(&node)));
    }
    for (at, name) in CLIENT_HOSTS.into_iter().enumerate() {
        network.add_host(name);
        sim.client(name, clients::run(Rc::clone(world), at));
    }
    let mut director = Director::new(world, nodes, network);
    step_through(world, &mut sim, &mut director);
    director.into_losses()
}

fn step_through(world: &World, sim: &mut Sim<'_>, director: &mut Director) {
    loop {
        let nanos = u64::try_from(sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
        VIRTUAL_NANOS.store(nanos, Ordering::Relaxed);
        let stepped = sim.step();
        director.after_step(sim);
        match stepped {
            Ok(true) => return,
            Ok(false) if world.is_violated() => return,
            Ok(false) => {}
            Err(error) => {
                let phase = world.phase.get();
                return world.violated(format!("the run failed in phase {phase:?}: {error}"));
            }
        }
    }
}

/// Lets the checker judge what the clients were told and what the disks hold.
fn judge(world: &World) {
    let report = {
        let recorder = world.recorder.borrow();
        duramen_checker::check(&recorder.history, &Options::default())
    };
    if !report.is_sound() {
        world.violated(report.to_string());
    }
}

fn outcome(world: &World, losses: Losses) -> Outcome {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (recorder, witness) = (world.recorder.borrow(), world.witness.borrow());
    let reached_healing = world.is_at_least(Phase::Healing);
    let faults = if reached_healing { world.plan.faults_for } else { Duration::ZERO };
    let figures = RunFigures {
        virtual_ms: millis(world.now()),
        faults_ms: millis(faults),
        acknowledged: recorder.acknowledged,
        refused: recorder.failed,
        unknown: recorder.unknown,
        read: recorder.read,
        faults: world.tally.borrow().clone(),
        losses,
        served_ms: world.served_after.get().map_or(0, millis),
        converged_ms: world.converged_after.get().map_or(0, millis),
        leaders: witness.leaders,
        truncations: witness.truncations,
    };
    let trace = world.trace.borrow();
    Outcome {
        seed: world.plan.seed,
        findings: world.violations(),
        trace: trace.lines.clone(),
        trace_hash: trace.hash(),
        figures,
    }
}
