//! How each kind of fault begins.

use std::rc::Rc;
use std::time::Duration;

use duramen_env::{DiskCall, Fault};
use turmoil::Sim;

use super::super::fault::FaultKind;
use super::super::network::Link;
use super::super::node::{DISK_RESERVE_BYTES, Node};
use super::super::plan::Episode;
use super::{
    Active, CLIENT_HOSTS, Director, OPEN_AFTER, TRAP_FOR, Trap, Undo, Watched, draw_mode, names,
    number_of, pairs, some, used_bytes,
};

impl Director {
    pub(super) fn start(&mut self, sim: &mut Sim<'_>, episode: Episode) {
        match episode.kind {
            FaultKind::CutMinority => self.cut_minority(sim, episode),
            FaultKind::CutLeader => self.cut_leader(sim, episode),
            FaultKind::CutRing => self.cut_ring(sim, episode),
            FaultKind::CutOneWay => self.cut_one_way(sim, episode),
            FaultKind::Hold => self.hold(sim, episode),
            FaultKind::Latency => self.latency(sim, episode),
            FaultKind::Loss => self.loss(sim, episode),
            FaultKind::Kill | FaultKind::KillAll => self.kill(sim, episode),
            FaultKind::PowerOne | FaultKind::PowerMajority | FaultKind::PowerAll => {
                self.power(sim, episode);
            }
            FaultKind::PowerLeader => {
                self.world.acknowledged_key.take();
                self.world.witness.borrow_mut().take_synced_leader();
                let on_acknowledgement = self.dice.percent(50);
                self.trap = Some(Trap { until: sim.elapsed() + TRAP_FOR, on_acknowledgement });
            }
            FaultKind::PowerWrite => self.power_write(episode),
            FaultKind::SyncError => self.sync_error(sim.elapsed()),
            FaultKind::DiskFull => self.disk_full(sim, episode),
            FaultKind::SlowDisk => self.slow_disk(sim, episode),
            FaultKind::Clock => self.clock(sim, episode),
            FaultKind::Transfer => self.transfer(),
            FaultKind::Move => self.world.moves_wanted.set(self.world.moves_wanted.get() + 1),
            FaultKind::Join => self.join(sim),
            FaultKind::Wipe => self.wipe(sim),
            FaultKind::BitFlip => self.flip_bit(),
        }
    }

    /// Notes a fault that took effect now, and when it is over.
    fn began(&mut self, sim: &Sim<'_>, episode: Episode, hit: &[Rc<Node>], undo: Undo) {
        let on_leader = self.any_leads(hit);
        self.world.tally.borrow_mut().count(episode.kind, on_leader);
        let (kind, lasts) = (episode.kind, episode.lasts.as_millis());
        self.world.note(format_args!("{} of {:?} for {lasts} ms", kind.name(), number_of(hit)));
        self.active.push(Active { kind, until: sim.elapsed() + episode.lasts, undo });
    }

    fn cut_minority(&mut self, sim: &Sim<'_>, episode: Episode) {
        let minority = (self.nodes.len() - 1) / 2;
        let count = 1 + self.dice.place(minority);
        let cut = some(&self.dice, &self.nodes, count);
        let mut rest = names(&self.others(&cut));
        if self.dice.percent(50) {
            rest.extend(CLIENT_HOSTS.map(str::to_owned));
        }
        let wish = self.network.wish(sim, &pairs(&names(&cut), &rest), Link::Cut);
        self.began(sim, episode, &cut, Undo::Link(wish));
    }

    fn cut_leader(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(leader) = self.target(100).filter(|node| self.leads(node)) else { return };
        let cut = [leader];
        let rest = names(&self.others(&cut));
        let wish = self.network.wish(sim, &pairs(&names(&cut), &rest), Link::Cut);
        self.began(sim, episode, &cut, Undo::Link(wish));
    }

    /// In a ring of nodes each keeps the links to its nearest on both sides, so many that they are
    /// a majority with itself; of three nodes the first and the last lose each other.
    fn cut_ring(&mut self, sim: &Sim<'_>, episode: Episode) {
        let ring = some(&self.dice, &self.nodes, self.nodes.len());
        let reach = if ring.len() == 3 { 1 } else { (ring.len() / 2).div_ceil(2) };
        let mut cut = Vec::new();
        for (a, one) in ring.iter().enumerate() {
            for (b, other) in ring.iter().enumerate().skip(a + 1) {
                let around = if ring.len() == 3 { b - a } else { (b - a).min(ring.len() + a - b) };
                if around > reach {
                    cut.push((one.name.clone(), other.name.clone()));
                }
            }
        }
        let wish = self.network.wish(sim, &cut, Link::Cut);
        self.began(sim, episode, &ring, Undo::Link(wish));
    }

    fn cut_one_way(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(60) else { return };
        let cut = [node];
        let rest = names(&self.others(&cut));
        let between = if self.dice.percent(50) {
            pairs(&names(&cut), &rest)
        } else {
            pairs(&rest, &names(&cut))
        };
        let wish = self.network.wish_one_way(sim, &between);
        self.began(sim, episode, &cut, Undo::Link(wish));
    }

    fn hold(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(60) else { return };
        let held = [node];
        let mut rest = names(&self.others(&held));
        if self.dice.percent(30) {
            rest.extend(CLIENT_HOSTS.map(str::to_owned));
        }
        let wish = self.network.wish(sim, &pairs(&names(&held), &rest), Link::Held);
        self.began(sim, episode, &held, Undo::Link(wish));
    }

    fn latency(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(50) else { return };
        self.network.set_latency(sim, &node.name, Some(self.dice.of(20..=400)));
        self.began(sim, episode, &[Rc::clone(&node)], Undo::Latency(node));
    }

    fn loss(&mut self, sim: &mut Sim<'_>, episode: Episode) {
        let Some(node) = self.target(50) else { return };
        self.network.set_loss(sim, &node.name, self.dice.pick(&[500, 2_000, 10_000]));
        self.began(sim, episode, &[Rc::clone(&node)], Undo::Loss(node));
    }

    fn power_write(&mut self, episode: Episode) {
        let Some(node) = self.target(50) else { return };
        let calls = self.dice.of(1..=60);
        let mode = draw_mode(&self.dice);
        let (kind, name) = (episode.kind, &node.name);
        self.world.note(format_args!("{} of {name} after {calls} calls, {mode:?}", kind.name()));
        node.disk.crash_after(calls, mode);
    }

    fn sync_error(&mut self, now: Duration) {
        let Some(node) = self.target(60) else { return };
        let is_watched = self.watched.iter().any(|watched| watched.node.number == node.number);
        if is_watched || now < node.started.get() + OPEN_AFTER {
            return;
        }
        // Of a log or of the votes: what else a node syncs it can do without.
        let path = self.dice.pick(&[".log", ".log", "hardstate"]);
        let fault = Fault::new(DiskCall::Sync).path_contains(path).after(self.dice.of(0..=20));
        let was_leader = self.leads(&node);
        self.watched.push(Watched {
            kind: FaultKind::SyncError,
            was_leader,
            faults_hit: node.disk.faults_hit(),
            boots: node.boots(),
            hit_at: None,
            until: now + TRAP_FOR,
            node: Rc::clone(&node),
        });
        node.disk.inject(fault.lying());
    }

    fn disk_full(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(50) else { return };
        // Either below what a node keeps for itself, which it notices in time, or at once so little
        // that a write meets the end.
        let room = self.dice.pick(&[DISK_RESERVE_BYTES / 2, 16 << 10, 0]);
        node.disk.set_capacity(Some(used_bytes(&node.disk) + room));
        self.began(sim, episode, &[Rc::clone(&node)], Undo::Capacity(node));
    }

    fn slow_disk(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(60) else { return };
        node.delays.set_slow_ms(self.dice.of(200..=5_000));
        self.began(sim, episode, &[Rc::clone(&node)], Undo::Slow(node));
    }

    fn clock(&mut self, sim: &Sim<'_>, episode: Episode) {
        let Some(node) = self.target(50) else { return };
        let by: i64 = self.dice.pick(&[900, 30_000, 3_600_000]);
        node.set_skew_ms(if self.dice.percent(50) { by } else { -by });
        self.began(sim, episode, &[Rc::clone(&node)], Undo::Clock(node));
    }

    fn others(&self, nodes: &[Rc<Node>]) -> Vec<Rc<Node>> {
        let numbers = number_of(nodes);
        self.nodes.iter().filter(|node| !numbers.contains(&node.number)).cloned().collect()
    }
}
