//! Ends processes and cuts power.

use std::rc::Rc;
use std::time::Duration;

use duramen_env::CrashMode;
use turmoil::Sim;

use super::super::fault::FaultKind;
use super::super::node::Node;
use super::super::plan::Episode;
use super::{Director, draw_mode, number_of, some};

impl Director {
    /// `kill -9`: the system closes what the process had open, and has all that it wrote.
    pub(super) fn kill(&mut self, sim: &mut Sim<'_>, episode: Episode) {
        let up = self.up();
        let hit = match episode.kind {
            FaultKind::KillAll => up,
            _ if self.dice.percent(20) => some(&self.dice, &up, 2),
            _ => self.target(60).into_iter().collect(),
        };
        if hit.is_empty() {
            return;
        }
        self.count(episode.kind, &hit);
        let now = sim.elapsed();
        let together = self.dice.of(50..=5_000);
        for node in hit {
            let ms = if self.dice.percent(50) { together } else { self.dice.of(50..=5_000) };
            sim.crash(node.name.as_str());
            node.disk.kill();
            node.failure.borrow_mut().take();
            node.down_until.set(Some(now + Duration::from_millis(ms)));
        }
    }

    /// Power cuts of one node, a majority or all, at once.
    pub(super) fn power(&mut self, sim: &mut Sim<'_>, episode: Episode) {
        let up = self.up();
        let majority = self.nodes.len() / 2 + 1;
        let hit = match episode.kind {
            FaultKind::PowerMajority => some(&self.dice, &up, majority),
            FaultKind::PowerAll => up,
            _ => self.target(50).into_iter().collect(),
        };
        self.cut(sim, episode.kind, &hit);
    }

    /// Cuts the power of nodes that run, at once.
    fn cut(&mut self, sim: &mut Sim<'_>, kind: FaultKind, hit: &[Rc<Node>]) {
        if hit.is_empty() {
            return;
        }
        let down = self.nodes.len() - self.up().len();
        if hit.len() + down >= self.nodes.len() && hit.len() > self.nodes.len() / 2 {
            self.losses.power_all += 1;
        } else if hit.len() > self.nodes.len() / 2 {
            self.losses.power_majority += 1;
        }
        self.count(kind, hit);
        let now = sim.elapsed();
        let (mode, together) = (draw_mode(&self.dice), self.dice.of(20..=5_000));
        let (alike, at_once) = (self.dice.percent(50), self.dice.percent(50));
        for node in hit {
            let mode = if alike { mode } else { draw_mode(&self.dice) };
            let ms = if at_once { together } else { self.dice.of(20..=5_000) };
            self.power_off(sim, node, Some(mode), now + Duration::from_millis(ms));
        }
    }

    /// Cuts the power of a machine; without a mode its disk has lost it already.
    pub(super) fn power_off(
        &mut self,
        sim: &mut Sim<'_>,
        node: &Rc<Node>,
        mode: Option<CrashMode>,
        back: Duration,
    ) {
        self.world.note(format_args!("power of {} cut, {mode:?}", node.name));
        let name = node.name.clone();
        self.network.silenced(sim, &name, |sim| sim.crash(name.as_str()));
        node.disk.cancel_crash();
        if let Some(mode) = mode {
            node.disk.crash(mode);
        }
        node.disk.reopen();
        node.failure.borrow_mut().take();
        node.down_until.set(Some(back));
    }

    /// Cuts the power of the leader that has just acknowledged, or has just synced.
    pub(super) fn spring_trap(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let Some(trap) = &self.trap else { return };
        if now > trap.until {
            self.trap = None;
            return;
        }
        let leader = if trap.on_acknowledgement {
            self.world.acknowledged_key.take().and_then(|key| {
                let keys = self.world.keys.borrow();
                let group = keys.get(usize::try_from(key).ok()?)?.group();
                self.world.witness.borrow().leader(&group)
            })
        } else {
            self.world.witness.borrow_mut().take_synced_leader()
        };
        let Some(node) = leader.and_then(|id| self.node(id)).filter(|node| node.is_up()) else {
            return;
        };
        self.trap = None;
        self.cut(sim, FaultKind::PowerLeader, &[node]);
    }

    fn count(&self, kind: FaultKind, hit: &[Rc<Node>]) {
        let on_leader = self.any_leads(hit);
        self.world.tally.borrow_mut().count(kind, on_leader);
        self.world.note(format_args!("{} of {:?}", kind.name(), number_of(hit)));
    }
}
