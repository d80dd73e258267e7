//! Which nodes run, and what happens when one ends: decisions only, as a function of time and
//! events.
//!
//! ```text
//!            due                    ended
//!  waiting ───────▶ running ─────────────────▶ waiting, longer each time
//!     │                │ stop                  (or: gives up, if the cluster never was usable)
//!     │ stop           ▼
//!     └──────────▶  stopping ───ended──▶ ended;  all ended: done
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passed.
    Tick,
    /// A node's process ended.
    Exited { node: u64 },
    /// The cluster is usable.
    Ready,
    /// All is to end; the second time at once.
    Stop,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Start a node's process.
    Start { node: u64 },
    /// Say that a node will be started again after a while.
    Announce { node: u64, wait: Duration },
    /// Ask a node to end.
    Stop { node: u64 },
    /// Kill what still runs.
    KillAll,
    /// A node cannot be started; all is to end.
    GiveUp { node: u64 },
    /// Nothing runs any more, and nothing will.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { due: Duration },
    Running { since: Duration },
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    phase: Phase,
    /// How often in a row it ended soon after its start.
    failures: u32,
    /// Its process is killed on purpose and stays away for so long: that is no failure.
    expected: Option<Duration>,
}

/// Decides which nodes run.
#[derive(Debug)]
pub(super) struct Supervisor {
    nodes: BTreeMap<u64, Node>,
    was_ready: bool,
    /// When what still runs is killed, once all is to end.
    kill_at: Option<Duration>,
}

impl Supervisor {
    /// Nodes 1 to `count`, to be started at the first tick.
    pub(super) fn new(count: u64) -> Self {
        let node =
            Node { phase: Phase::Waiting { due: Duration::ZERO }, failures: 0, expected: None };
        let nodes = (1..=count).map(|id| (id, node)).collect();
        Self { nodes, was_ready: false, kill_at: None }
    }

    /// When something is due without an event.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.kill_at.is_some() {
            return self.kill_at;
        }
        let waiting = self.nodes.values().filter_map(|node| match node.phase {
            Phase::Waiting { due } => Some(due),
            _ => None,
        });
        waiting.min()
    }

    /// Whether all is to end.
    pub(super) const fn is_stopping(&self) -> bool {
        self.kill_at.is_some()
    }

    /// A node is killed on purpose: its end is no failure, and it is started again after `down`.
    pub(super) fn expect_exit(&mut self, id: u64, down: Duration) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.expected = Some(down);
        }
    }

    /// Takes an event in and says what is to be done.
    pub(super) fn step(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Ready => self.was_ready = true,
            Event::Exited { node } => self.exited(now, node, &mut effects),
            Event::Stop if self.kill_at.is_some() => self.kill(&mut effects),
            Event::Stop => self.stop(now, &mut effects),
        }
        match self.kill_at {
            None => self.start_due(now, &mut effects),
            Some(at) if now >= at => self.kill(&mut effects),
            Some(_) => {}
        }
        if self.kill_at.is_some() && self.nodes.values().all(|node| node.phase == Phase::Ended) {
            effects.push(Effect::Done);
        }
        effects
    }

    fn start_due(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for (id, node) in &mut self.nodes {
            if matches!(node.phase, Phase::Waiting { due } if due <= now) {
                node.phase = Phase::Running { since: now };
                effects.push(Effect::Start { node: *id });
            }
        }
    }

    fn exited(&mut self, now: Duration, id: u64, effects: &mut Vec<Effect>) {
        let is_stopping = self.kill_at.is_some();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Phase::Running { since } = node.phase else { return };
        if is_stopping {
            node.phase = Phase::Ended;
            return;
        }
        if let Some(down) = node.expected.take() {
            let wait = down.max(limits::RESTART_MIN);
            node.phase = Phase::Waiting { due: now + wait };
            effects.push(Effect::Announce { node: id, wait });
            return;
        }
        if now.saturating_sub(since) >= limits::RESTART_FORGET {
            node.failures = 0;
        }
        node.failures += 1;
        if !self.was_ready && node.failures >= limits::STARTS_MAX {
            node.phase = Phase::Ended;
            effects.push(Effect::GiveUp { node: id });
            self.stop(now, effects);
            return;
        }
        let wait = backoff(node.failures);
        node.phase = Phase::Waiting { due: now + wait };
        effects.push(Effect::Announce { node: id, wait });
    }

    fn stop(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.kill_at = Some(now + limits::STOP_TIMEOUT);
        for (id, node) in &mut self.nodes {
            match node.phase {
                Phase::Running { .. } => effects.push(Effect::Stop { node: *id }),
                Phase::Waiting { .. } => node.phase = Phase::Ended,
                Phase::Ended => {}
            }
        }
    }

    fn kill(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::KillAll);
        for node in self.nodes.values_mut() {
            node.phase = Phase::Ended;
        }
    }
}

/// The wait before the next start after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    limits::RESTART_MIN.saturating_mul(1 << doublings).min(limits::RESTART_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A supervisor of so many nodes that run and are usable since time 0.
    fn running(count: u64) -> Supervisor {
        let mut supervisor = Supervisor::new(count);
        let started: Vec<Effect> = (1..=count).map(|node| Effect::Start { node }).collect();
        assert_eq!(supervisor.step(ms(0), Event::Tick), started);
        assert_eq!(supervisor.step(ms(0), Event::Ready), []);
        assert_eq!(supervisor.next_due(), None);
        supervisor
    }

    #[test]
    fn a_node_that_ends_is_started_again_after_a_while() {
        let mut supervisor = running(3);
        let wait = limits::RESTART_MIN;
        assert_eq!(
            supervisor.step(ms(50_000), Event::Exited { node: 2 }),
            [Effect::Announce { node: 2, wait }]
        );
        assert_eq!(supervisor.next_due(), Some(ms(50_000) + wait));
        assert_eq!(supervisor.step(ms(50_001), Event::Tick), []);
        assert_eq!(supervisor.step(ms(50_000) + wait, Event::Tick), [Effect::Start { node: 2 }]);
        assert_eq!(supervisor.next_due(), None);
    }

    #[test]
    fn the_wait_grows_while_a_node_fails_and_is_short_again_after_it_ran() {
        let mut supervisor = running(1);
        let mut now = ms(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            supervisor.step(now, Event::Exited { node: 1 });
            let due = supervisor.next_due().unwrap();
            waits.push((due - now).as_millis());
            now = due;
            assert_eq!(supervisor.step(now, Event::Tick), [Effect::Start { node: 1 }]);
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        now += limits::RESTART_FORGET;
        supervisor.step(now, Event::Exited { node: 1 });
        assert_eq!(supervisor.next_due(), Some(now + limits::RESTART_MIN));
    }

    #[test]
    fn a_node_that_is_killed_on_purpose_stays_away_as_long_as_it_is_to() {
        let mut supervisor = running(2);
        for (down, wait) in [(0, 200), (0, 200), (3_000, 3_000)] {
            supervisor.expect_exit(1, ms(down));
            let effects = supervisor.step(ms(100), Event::Exited { node: 1 });
            assert_eq!(effects, [Effect::Announce { node: 1, wait: ms(wait) }]);
            let started = supervisor.step(ms(100 + wait), Event::Tick);
            assert_eq!(started, [Effect::Start { node: 1 }]);
        }
        let effects = supervisor.step(ms(4_000), Event::Exited { node: 1 });
        assert_eq!(effects, [Effect::Announce { node: 1, wait: ms(200) }], "its first failure");
    }

    #[test]
    fn a_cluster_that_never_was_usable_is_given_up() {
        let mut supervisor = Supervisor::new(2);
        supervisor.step(ms(0), Event::Tick);
        let mut now = ms(0);
        for _ in 1..limits::STARTS_MAX {
            supervisor.step(now, Event::Exited { node: 2 });
            now = supervisor.next_due().unwrap();
            supervisor.step(now, Event::Tick);
        }
        let effects = supervisor.step(now, Event::Exited { node: 2 });
        assert_eq!(effects, [Effect::GiveUp { node: 2 }, Effect::Stop { node: 1 }]);
        assert_eq!(supervisor.step(now, Event::Exited { node: 1 }), [Effect::Done]);
    }

    #[test]
    fn a_stop_ends_all_and_starts_nothing() {
        let mut supervisor = running(3);
        supervisor.step(ms(1_000), Event::Exited { node: 1 });
        let effects = supervisor.step(ms(1_001), Event::Stop);
        assert_eq!(effects, [Effect::Stop { node: 2 }, Effect::Stop { node: 3 }]);
        assert_eq!(supervisor.step(ms(1_500), Event::Tick), [], "node 1 was due by now");
        assert_eq!(supervisor.step(ms(1_600), Event::Exited { node: 3 }), []);
        assert_eq!(supervisor.step(ms(1_700), Event::Exited { node: 2 }), [Effect::Done]);
    }

    #[test]
    fn what_does_not_end_in_time_is_killed() {
        let mut supervisor = running(1);
        supervisor.step(ms(0), Event::Stop);
        let due = supervisor.next_due().unwrap();
        assert_eq!(due, limits::STOP_TIMEOUT);
        assert_eq!(supervisor.step(due, Event::Tick), [Effect::KillAll, Effect::Done]);
    }

    #[test]
    fn a_second_stop_does_not_wait() {
        let mut supervisor = running(2);
        supervisor.step(ms(0), Event::Stop);
        assert_eq!(supervisor.step(ms(1), Event::Stop), [Effect::KillAll, Effect::Done]);
    }

    #[test]
    fn a_stop_before_anything_runs_is_done_at_once() {
        let mut supervisor = Supervisor::new(1);
        assert_eq!(supervisor.step(ms(0), Event::Stop), [Effect::Done]);
    }
}
