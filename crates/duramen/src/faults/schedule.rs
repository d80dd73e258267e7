//! When faults begin and end, and on which node: a function of plan and seed, nothing else.
//!
//! Occurrence k of a fault begins at `start + k × every`, up to `jitter × every` later as drawn,
//! and ends `for` later. Each draw depends on the seed, the fault's place in the plan and k.

use std::collections::BTreeMap;
use std::time::Duration;

use duramen_env::{Random, SeededRandom};

use super::draw::{MILLION, between, mix};
use super::plan::{Fault, Plan, Target};

/// One occurrence of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// Names it among all.
    pub(crate) id: u64,
    /// The fault's place in the plan, from 0.
    pub(crate) fault: usize,
    /// When it begins, counted from when the cluster was ready.
    pub(crate) at: Duration,
    /// Where; never `Any`: that is drawn.
    pub(crate) target: Target,
}

/// What happens to an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It begins.
    Begin(Occurrence),
    /// It ends.
    End {
        /// Which.
        id: u64,
    },
}

/// What is still to come.
#[derive(Debug)]
pub(crate) struct Schedule {
    plan: Plan,
    seed: u64,
    nodes: u64,
    /// By time, and by the order of the plan among those of one time.
    due: BTreeMap<(Duration, usize, u64), Due>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Begin,
    End { fault: usize },
}

impl Schedule {
    /// All that a plan says for a cluster of nodes 1 to `nodes`.
    pub(crate) fn new(plan: Plan, seed: u64, nodes: u64) -> Self {
        let mut schedule = Self { plan, seed, nodes, due: BTreeMap::new() };
        for fault in 0..schedule.plan.faults.len() {
            schedule.expect(fault, 0);
        }
        schedule
    }

    /// When the next change is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, ..), _)| *at)
    }

    /// The changes that are due by now, in their order.
    pub(crate) fn step(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let ((at, fault, number), due) = first.remove_entry();
            match due {
                Due::Begin => changes.push(self.begin(at, fault, number)),
                Due::End { fault } => changes.push(Change::End { id: id(fault, number) }),
            }
        }
        changes
    }

    fn begin(&mut self, at: Duration, fault: usize, number: u64) -> Change {
        if let Some(length) = self.plan.faults.get(fault).and_then(|fault| fault.length) {
            // Behind what begins then.
            self.due.insert((at + length, usize::MAX - fault, number), Due::End { fault });
        }
        self.expect(fault, number + 1);
        let target = match self.plan.faults.get(fault).map(|fault| &fault.target) {
            Some(Target::Any) | None => {
                let node = self.random(fault, number, 1).below(self.nodes) + 1;
                Target::Node(node)
            }
            Some(target) => target.clone(),
        };
        Change::Begin(Occurrence { id: id(fault, number), fault, at, target })
    }

    /// Notes when an occurrence begins, if there is one.
    fn expect(&mut self, place: usize, number: u64) {
        let Some(fault) = self.plan.faults.get(place) else { return };
        if let Some(at) = self.begin_of(fault, place, number) {
            self.due.insert((at, place, number), Due::Begin);
        }
    }

    fn begin_of(&self, fault: &Fault, place: usize, number: u64) -> Option<Duration> {
        if number >= fault.times.unwrap_or(u64::MAX) {
            return None;
        }
        let every = match (fault.every, number) {
            (Some(every), _) => every,
            (None, 0) => Duration::ZERO,
            (None, _) => return None,
        };
        let late = every.checked_mul(fault.jitter_ppm)? / MILLION;
        let drawn = between(&self.random(place, number, 0), (Duration::ZERO, late));
        let turns = every.checked_mul(u32::try_from(number).ok()?)?;
        fault.start.checked_add(turns)?.checked_add(drawn)
    }

    fn random(&self, fault: usize, number: u64, purpose: u64) -> SeededRandom {
        SeededRandom::new(mix(self.seed, &[id(fault, number), purpose]))
    }
}

/// Names an occurrence among all.
fn id(fault: usize, number: u64) -> u64 {
    (u64::try_from(fault).unwrap_or(u64::MAX) << 32) | (number & u64::from(u32::MAX))
}

/// The fault's place in the plan, of an occurrence's name.
pub(crate) fn fault_of(id: u64) -> usize {
    usize::try_from(id >> 32).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        [[fault]]
        kind = "kill"
        start = "1s"
        every = "10s"
        jitter = 0.5
        times = 3

        [[fault]]
        kind = "freeze"
        start = "2s"
        for = "3s"
        target = 2

        [[fault]]
        kind = "lost_ack"
        every = "7s"
        for = "5s"
    "#;

    fn course(seed: u64, end: u64) -> Vec<Change> {
        let mut schedule = Schedule::new(Plan::parse(PLAN).unwrap(), seed, 3);
        let mut changes = Vec::new();
        while let Some(due) = schedule.next_due().filter(|due| due.as_secs() < end) {
            changes.extend(schedule.step(due));
        }
        changes
    }

    fn begins(changes: &[Change], wanted: usize) -> Vec<&Occurrence> {
        let mut begun = Vec::new();
        for change in changes {
            if let Change::Begin(occurrence) = change
                && occurrence.fault == wanted
            {
                begun.push(occurrence);
            }
        }
        begun
    }

    #[test]
    fn one_seed_gives_one_course_and_another_seed_another() {
        assert_eq!(course(7, 60), course(7, 60));
        assert_ne!(course(7, 60), course(8, 60));
    }

    #[test]
    fn it_does_not_matter_how_often_one_looks() {
        let mut schedule = Schedule::new(Plan::parse(PLAN).unwrap(), 7, 3);
        assert_eq!(schedule.step(Duration::from_millis(59_999)), course(7, 60));
    }

    #[test]
    fn occurrences_keep_to_their_times_and_draw_nodes_that_exist() {
        for seed in 0..50 {
            let changes = course(seed, 100);
            let kills = begins(&changes, 0);
            assert_eq!(kills.len(), 3);
            for (number, kill) in (0..).zip(kills) {
                let low = 1_000 + 10_000 * number;
                let at = kill.at.as_millis();
                assert!(low <= at && at <= low + 5_000, "{kill:?}");
                let Target::Node(node) = kill.target else { panic!("{kill:?}") };
                assert!((1..=3).contains(&node));
            }
            let frozen = begins(&changes, 1);
            assert_eq!((frozen.len(), &frozen[0].target), (1, &Target::Node(2)));
            let lost = begins(&changes, 2);
            assert_eq!(lost.len(), 15, "at 0, 7, … 98");
            assert!(lost.iter().all(|begun| begun.target == Target::All));
            let ends = changes.iter().filter(|change| matches!(change, Change::End { .. })).count();
            assert_eq!(ends, 1 + 14);
        }
    }

    #[test]
    fn a_fault_more_does_not_move_the_draws_of_those_before_it() {
        let kills = |text: &str| {
            let mut schedule = Schedule::new(Plan::parse(text).unwrap(), 7, 3);
            let changes = schedule.step(Duration::from_secs(60));
            begins(&changes, 0).into_iter().cloned().collect::<Vec<_>>()
        };
        let more = format!("{PLAN}\n[[fault]]\nkind = 'kill'\nevery = '1s'\njitter = 1\n");
        assert_eq!(kills(PLAN), kills(&more));
    }
}
