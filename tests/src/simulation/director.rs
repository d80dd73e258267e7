//! Carries out a plan between the steps of a simulation: starts and ends faults, and starts nodes
//! again as a supervisor would.

mod loss;
mod power;
mod start;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use duramen_env::{CrashMode, SimDisk};
use duramen_types::NodeId;
use turmoil::Sim;

use super::dice::Dice;
use super::fault::FaultKind;
use super::network::Network;
use super::node::{self, Node};
use super::plan::Episode;
use super::world::{KeyName, Phase, World};

/// The hosts that clients run on.
pub(super) const CLIENT_HOSTS: [&str; 2] = ["clients1", "clients2"];

/// A node whose disk failed a sync must have stopped after this long.
const STOP_AFTER: Duration = Duration::from_secs(2);

/// A node that was started has opened its replicas after this long. What cannot be synced then is
/// tried again, with everything written once more: only later is a failed sync the end.
const OPEN_AFTER: Duration = Duration::from_millis(1_500);

/// A trap waits this long for its moment.
const TRAP_FOR: Duration = Duration::from_secs(4);

/// What a run counts of its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Processes started again, for whatever reason.
    pub restarts: u64,
    /// Processes that stopped by themselves.
    pub stopped: u64,
    /// Times that a majority lost power at once.
    pub power_majority: u64,
    /// Times that all nodes lost power at once.
    pub power_all: u64,
    /// Replicas that took the place of others.
    pub replaced: u64,
}

/// What carries out a plan.
pub(super) struct Director {
    world: Rc<World>,
    nodes: Vec<Rc<Node>>,
    network: Network,
    dice: Dice,
    active: Vec<Active>,
    next_episode: usize,
    began: Duration,
    trap: Option<Trap>,
    watched: Vec<Watched>,
    /// A node with a flipped bit, and how often it had been started by then.
    flipped: Option<(Rc<Node>, u64)>,
    pub(super) losses: Losses,
}

/// A fault that ends.
struct Active {
    kind: FaultKind,
    until: Duration,
    undo: Undo,
}

enum Undo {
    Link(u64),
    Latency(Rc<Node>),
    Loss(Rc<Node>),
    Capacity(Rc<Node>),
    Slow(Rc<Node>),
    Clock(Rc<Node>),
}

/// A power cut that waits for its moment.
struct Trap {
    until: Duration,
    /// When a client hears of an acknowledgement; otherwise when a leader's own sync is done.
    on_acknowledgement: bool,
}

/// A node whose disk is to fail.
struct Watched {
    node: Rc<Node>,
    kind: FaultKind,
    was_leader: bool,
    faults_hit: u64,
    boots: u64,
    hit_at: Option<Duration>,
    until: Duration,
}

impl Director {
    pub(super) fn new(world: &Rc<World>, nodes: Vec<Rc<Node>>, network: Network) -> Self {
        Self {
            world: Rc::clone(world),
            nodes,
            network,
            dice: Dice::new(world.plan.seed, 3),
            active: Vec::new(),
            next_episode: 0,
            began: Duration::ZERO,
            trap: None,
            watched: Vec::new(),
            flipped: None,
            losses: Losses::default(),
        }
    }

    /// What was counted of the nodes, and all nodes there were.
    pub(super) fn into_losses(self) -> (Losses, Vec<Rc<Node>>) {
        let witness = self.world.witness.borrow();
        let replaced = |key: &KeyName| {
            let replication = self.world.plan.topics[key.topic].replication as usize;
            witness.replicas_ever(&key.group()).saturating_sub(replication)
        };
        let replaced: usize = self.world.keys.borrow().iter().map(replaced).sum();
        let replaced = u64::try_from(replaced).unwrap_or(0);
        (Losses { replaced, ..self.losses }, self.nodes)
    }

    /// Called after every step.
    pub(super) fn after_step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        self.world.set_outside(now);
        self.supervise(sim, now);
        self.world.check_phase(now);
        if self.world.phase.get() != Phase::Faults {
            return;
        }
        if self.began.is_zero() {
            self.began = now;
        }
        self.spring_trap(sim, now);
        let mut at = 0;
        while at < self.active.len() {
            if self.active[at].until <= now {
                let over = self.active.remove(at);
                self.world.note(format_args!("{} is over", over.kind.name()));
                self.undo(sim, &over.undo);
            } else {
                at += 1;
            }
        }
        while let Some(episode) = self.due(now) {
            self.next_episode += 1;
            self.start(sim, episode);
        }
        if now >= self.began + self.world.plan.faults_for {
            self.heal(sim, now);
        }
    }

    fn due(&self, now: Duration) -> Option<Episode> {
        let episode = *self.world.plan.episodes.get(self.next_episode)?;
        (self.began + episode.at <= now).then_some(episode)
    }

    /// Ends processes that ended by themselves and machines that lost power, and starts both again
    /// when their time has come.
    fn supervise(&mut self, sim: &mut Sim<'_>, now: Duration) {
        for node in self.nodes.clone() {
            if node.disk.is_down() {
                // The disk was told to lose power at one of its calls.
                let was_leader = self.leads(&node);
                self.world.tally.borrow_mut().count(FaultKind::PowerWrite, was_leader);
                let back = now + Duration::from_millis(self.dice.of(50..=3_000));
                self.power_off(sim, &node, None, back);
            }
            let failure = node.failure.borrow_mut().take();
            if let Some(reason) = failure {
                self.world.note(format_args!("{} stopped: {reason}", node.name));
                self.losses.stopped += 1;
                sim.crash(node.name.as_str());
                node.disk.kill();
                let wait = Duration::from_millis(self.dice.of(200..=1_500));
                node.down_until.set(Some(now + wait));
            }
            if node.down_until.get().is_some_and(|until| until <= now) {
                node.down_until.set(None);
                node.started.set(now);
                self.losses.restarts += 1;
                self.world.note(format_args!("{} starts", node.name));
                sim.bounce(node.name.as_str());
            }
        }
        self.watch(now);
    }

    /// Counts disk faults that were met, and sees that a node whose sync failed stops.
    fn watch(&mut self, now: Duration) {
        let world = Rc::clone(&self.world);
        self.watched.retain_mut(|watched| {
            let node = &watched.node;
            if watched.hit_at.is_none() && node.disk.faults_hit() > watched.faults_hit {
                watched.hit_at = Some(now);
                world.tally.borrow_mut().count(watched.kind, watched.was_leader);
                world.note(format_args!("{} hits {}", watched.kind.name(), node.name));
            }
            let stopped = node.boots() > watched.boots || !node.is_up();
            match watched.hit_at {
                Some(_) if stopped => false,
                Some(at) if now > at + STOP_AFTER => {
                    world.violated(format!("{} goes on after a sync failed", node.name));
                    false
                }
                Some(_) => true,
                None if stopped || now > watched.until => {
                    node.disk.clear_faults();
                    false
                }
                None => true,
            }
        });
    }

    fn leads(&self, node: &Node) -> bool {
        node.is_up() && self.world.witness.borrow().leaders_of_partitions().contains(&node.id())
    }

    fn any_leads(&self, nodes: &[Rc<Node>]) -> bool {
        nodes.iter().any(|node| self.leads(node))
    }

    fn up(&self) -> Vec<Rc<Node>> {
        self.nodes.iter().filter(|node| node.is_up()).cloned().collect()
    }

    /// A running node: the leader of a partition in so many of a hundred cases.
    fn target(&self, leader_percent: u64) -> Option<Rc<Node>> {
        let up = self.up();
        let leaders: Vec<_> = up.iter().filter(|node| self.leads(node)).cloned().collect();
        let from =
            if !leaders.is_empty() && self.dice.percent(leader_percent) { leaders } else { up };
        (!from.is_empty()).then(|| Rc::clone(&from[self.dice.place(from.len())]))
    }

    fn node(&self, id: NodeId) -> Option<Rc<Node>> {
        self.nodes.iter().find(|node| node.id() == id).cloned()
    }

    fn undo(&mut self, sim: &mut Sim<'_>, undo: &Undo) {
        match undo {
            Undo::Link(wish) => self.network.take_back(sim, *wish),
            Undo::Latency(node) => self.network.set_latency(sim, &node.name, None),
            Undo::Loss(node) => self.network.set_loss(sim, &node.name, 0),
            Undo::Capacity(node) => node.disk.set_capacity(None),
            Undo::Slow(node) => node.delays.set_slow_ms(0),
            Undo::Clock(node) => node.set_skew_ms(0),
        }
    }

    /// Ends all faults: from here on nothing goes wrong, and everything has to come back.
    fn heal(&mut self, sim: &mut Sim<'_>, now: Duration) {
        for over in std::mem::take(&mut self.active) {
            self.undo(sim, &over.undo);
        }
        self.trap = None;
        self.show_flip(sim, now);
        for node in &self.nodes {
            node.disk.clear_faults();
            node.disk.cancel_crash();
            if node.down_until.get().is_some() {
                node.down_until.set(Some(now));
            }
        }
        self.watched.retain(|watched| watched.hit_at.is_some());
        self.world.healed_at.set(now);
        self.world.enter(Phase::Healing);
    }
}

/// The bytes that a disk holds.
fn used_bytes(disk: &SimDisk) -> u64 {
    use duramen_env::Disk as _;
    let all = 1 << 40;
    disk.set_capacity(Some(all));
    let free = disk.free_bytes(node::DATA.as_ref()).unwrap_or(all);
    disk.set_capacity(None);
    all - free
}

/// Some of a list, at least one, in a drawn order.
fn some<T: Clone>(dice: &Dice, list: &[T], count: usize) -> Vec<T> {
    let mut list = list.to_vec();
    dice.shuffle(&mut list);
    list.truncate(count.max(1));
    list
}

/// Every pair of a host of one list and one of the other.
fn pairs(one: &[String], other: &[String]) -> Vec<(String, String)> {
    one.iter().flat_map(|a| other.iter().map(move |b| (a.clone(), b.clone()))).collect()
}

fn names(nodes: &[Rc<Node>]) -> Vec<String> {
    nodes.iter().map(|node| node.name.clone()).collect()
}

fn number_of(nodes: &[Rc<Node>]) -> BTreeSet<u64> {
    nodes.iter().map(|node| node.number).collect()
}

fn draw_mode(dice: &Dice) -> CrashMode {
    dice.pick(&CrashMode::ALL)
}
