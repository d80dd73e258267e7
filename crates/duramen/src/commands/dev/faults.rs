//! The faults of a plan, from their schedule to the nodes: orders for nodes, blows for `dev` to
//! deal, and counts. Decisions only; what is said and done is up to the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::faults::{
    Change, Kind, Occurrence, Order, Plan, Report, Schedule, Shape, Target, fault_of, mix,
};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// Give a node an order.
    Order {
        /// The node.
        node: u64,
        /// The order.
        order: Order,
    },
    /// Kill a node, and start it again after a while.
    Kill {
        /// The node.
        node: u64,
        /// How long it stays away.
        down: Duration,
        /// The occurrence that it belongs to.
        id: u64,
    },
    /// Stop a node's process, or let it go on.
    Freeze {
        /// The node.
        node: u64,
        /// Whether it stands still.
        still: bool,
        /// The occurrence that it belongs to.
        id: u64,
    },
    /// Find out who leads a partition, for an occurrence that begins then.
    Find {
        /// The occurrence.
        occurrence: Occurrence,
    },
    /// Say what happens to a fault.
    Say(Said),
}

/// Something to say about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Its place in the plan, from 1.
    pub(super) fault: usize,
    /// Its kind.
    pub(super) kind: Kind,
    /// `begin`, `end`, `hit` or `skipped`.
    pub(super) what: &'static str,
    /// When, counted from when the cluster was ready; for `begin` as the schedule says.
    pub(super) at: Duration,
    /// Where; `None` = on all nodes.
    pub(super) node: Option<u64>,
    /// How often it hit.
    pub(super) count: u64,
    /// Parameters, as far as there are any.
    pub(super) detail: String,
}

/// The faults of a running cluster.
#[derive(Debug)]
pub(super) struct Faults {
    plan: Plan,
    schedule: Schedule,
    seed: u64,
    nodes: u64,
    /// When the cluster was ready.
    since: Option<Duration>,
    /// What has begun and not ended: its nodes.
    active: BTreeMap<u64, Vec<u64>>,
    counts: BTreeMap<Kind, u64>,
}

impl Faults {
    /// Those of a plan, for nodes 1 to `nodes`.
    pub(super) fn new(plan: Plan, seed: u64, nodes: u64) -> Self {
        let counts = plan.faults.iter().map(|fault| (fault.action.kind, 0)).collect();
        let schedule = Schedule::new(plan.clone(), seed, nodes);
        Self { plan, schedule, seed, nodes, since: None, active: BTreeMap::new(), counts }
    }

    /// The seed of the whole course.
    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    /// How often each kind of the plan hit.
    pub(super) const fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// What a node draws from that is started the nth time.
    pub(super) fn node_seed(&self, node: u64, start: u64) -> u64 {
        mix(self.seed, &[node, start])
    }

    /// The cluster is ready: the course begins.
    pub(super) fn begin(&mut self, now: Duration) {
        self.since = Some(now);
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        Some(self.since? + self.schedule.next_due()?)
    }

    /// What is due by now.
    pub(super) fn step(&mut self, now: Duration) -> Vec<Blow> {
        let Some(since) = self.since else { return Vec::new() };
        let at = now.saturating_sub(since);
        let mut blows = Vec::new();
        for change in self.schedule.step(at) {
            match change {
                Change::Begin(occurrence) => match &occurrence.target {
                    Target::Leader { .. } => blows.push(Blow::Find { occurrence }),
                    Target::Node(node) => {
                        let nodes = vec![*node];
                        self.strike(&occurrence, nodes, &mut blows);
                    }
                    Target::All | Target::Any => {
                        let nodes = (1..=self.nodes).collect();
                        self.strike(&occurrence, nodes, &mut blows);
                    }
                },
                Change::End { id } => self.end(id, at, &mut blows),
            }
        }
        blows
    }

    /// The leader for which an occurrence waited, if there is one.
    pub(super) fn found(&mut self, occurrence: &Occurrence, leader: Option<u64>) -> Vec<Blow> {
        let mut blows = Vec::new();
        match leader {
            Some(node) => self.strike(occurrence, vec![node], &mut blows),
            None => {
                let detail = format!("{} is not known", occurrence.target);
                blows.extend(self.say(occurrence.id, "skipped", occurrence.at, None, detail));
            }
        }
        blows
    }

    fn strike(&mut self, occurrence: &Occurrence, nodes: Vec<u64>, blows: &mut Vec<Blow>) {
        let Some(fault) = self.plan.faults.get(occurrence.fault) else { return };
        let (id, at, action) = (occurrence.id, occurrence.at, fault.action.clone());
        let (kind, down) = (action.kind, fault.down);
        if kind.shape() != Shape::Once {
            let node = if nodes.len() == 1 { nodes.first().copied() } else { None };
            blows.extend(self.say(id, "begin", at, node, length(fault.length)));
        }
        for node in &nodes {
            let node = *node;
            blows.push(match kind {
                Kind::Kill => Blow::Kill { node, down, id },
                Kind::Freeze => Blow::Freeze { node, still: true, id },
                Kind::LeaderChange => {
                    let partition = match &occurrence.target {
                        Target::Leader { topic, partition } => Some((topic.clone(), *partition)),
                        _ => None,
                    };
                    Blow::Order { node, order: Order::HandOver { id, partition } }
                }
                _ => Blow::Order { node, order: Order::Begin { id, action: action.clone() } },
            });
        }
        if !matches!(kind, Kind::Kill | Kind::LeaderChange) {
            self.active.insert(id, nodes);
        }
    }

    fn end(&mut self, id: u64, at: Duration, blows: &mut Vec<Blow>) {
        let Some(nodes) = self.active.remove(&id) else { return };
        let is_freeze = self.kind(id) == Some(Kind::Freeze);
        for node in &nodes {
            let node = *node;
            blows.push(match is_freeze {
                true => Blow::Freeze { node, still: false, id },
                false => Blow::Order { node, order: Order::End { id } },
            });
        }
        let node = if nodes.len() == 1 { nodes.first().copied() } else { None };
        blows.extend(self.say(id, "end", at, node, String::new()));
    }

    /// What a node that was just started has to be told.
    pub(super) fn orders_for(&self, node: u64) -> Vec<Order> {
        let here = self.active.iter().filter(|(_, nodes)| nodes.contains(&node));
        let orders = here.filter_map(|(id, _)| {
            let action = self.plan.faults.get(fault_of(*id))?.action.clone();
            (action.kind != Kind::Freeze).then_some(Order::Begin { id: *id, action })
        });
        orders.collect()
    }

    /// What a node did; a node whose leadership stays where it is is killed for it.
    pub(super) fn reported(&mut self, now: Duration, node: u64, report: Report) -> Vec<Blow> {
        match report {
            Report::Hit { id, count, detail } => {
                if self.kind(id).is_some_and(|kind| kind.shape() == Shape::Once) {
                    self.active.remove(&id);
                }
                self.hit(now, id, node, count, detail).into_iter().collect()
            }
            Report::Moved { id, led: 0, .. } => {
                let at = self.at(now);
                let why = "the node leads nothing".to_owned();
                self.say(id, "skipped", at, Some(node), why).into_iter().collect()
            }
            Report::Moved { id, moved: 0, .. } => {
                vec![Blow::Kill { node, down: Duration::ZERO, id }]
            }
            Report::Moved { id, led, moved } => {
                let detail = format!("{moved} of {led} partitions");
                self.hit(now, id, node, 1, detail).into_iter().collect()
            }
        }
    }

    /// A moment, counted from when the cluster was ready.
    fn at(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since.unwrap_or(now))
    }

    /// A blow was dealt.
    pub(super) fn hit(
        &mut self,
        now: Duration,
        id: u64,
        node: u64,
        count: u64,
        detail: String,
    ) -> Option<Blow> {
        let kind = self.kind(id)?;
        *self.counts.entry(kind).or_default() += count;
        let mut said = self.say(id, "hit", self.at(now), Some(node), detail)?;
        if let Blow::Say(said) = &mut said {
            said.count = count;
        }
        Some(said)
    }

    /// A blow could not be dealt: the node does not run.
    pub(super) fn missed(&self, now: Duration, id: u64, node: u64) -> Option<Blow> {
        self.say(id, "skipped", self.at(now), Some(node), "the node does not run".to_owned())
    }

    fn kind(&self, id: u64) -> Option<Kind> {
        self.plan.faults.get(fault_of(id)).map(|fault| fault.action.kind)
    }

    fn say(
        &self,
        id: u64,
        what: &'static str,
        at: Duration,
        node: Option<u64>,
        detail: String,
    ) -> Option<Blow> {
        let (kind, fault) = (self.kind(id)?, fault_of(id) + 1);
        Some(Blow::Say(Said { fault, kind, what, at, node, count: 0, detail }))
    }
}

fn length(length: Option<Duration>) -> String {
    length.map_or_else(String::new, |length| format!("for {}", humantime::format_duration(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// The faults of a plan in a cluster of three that is ready at 100 s.
    fn faults(plan: &str) -> Faults {
        let mut faults = Faults::new(Plan::parse(plan).unwrap(), 7, 3);
        assert_eq!((faults.next_due(), faults.step(secs(99))), (None, Vec::new()));
        faults.begin(secs(100));
        faults
    }

    /// What is to be done, without what is to be said.
    fn blows(blows: Vec<Blow>) -> Vec<Blow> {
        blows.into_iter().filter(|blow| !matches!(blow, Blow::Say(_))).collect()
    }

    #[test]
    fn a_fault_of_operations_is_ordered_of_all_nodes_and_of_those_that_start_meanwhile() {
        let mut faults = faults("[[fault]]\nkind = 'lost_ack'\nstart = '5s'\nfor = '10s'\n");
        assert_eq!(faults.next_due(), Some(secs(105)));
        let begun = blows(faults.step(secs(105)));
        assert_eq!(begun.len(), 3);
        assert!(matches!(begun[2], Blow::Order { node: 3, order: Order::Begin { id: 0, .. } }));
        assert_eq!(faults.orders_for(2).len(), 1);
        let end = |node| Blow::Order { node, order: Order::End { id: 0 } };
        assert_eq!(blows(faults.step(secs(115))), [end(1), end(2), end(3)]);
        assert_eq!((faults.orders_for(2), faults.next_due()), (Vec::new(), None));
        let report = Report::Hit { id: 0, count: 4, detail: "a/0".into() };
        assert_eq!(faults.reported(secs(116), 1, report).len(), 1);
        assert_eq!(faults.counts()[&Kind::LostAck], 4);
    }

    #[test]
    fn a_node_is_frozen_and_goes_on() {
        let mut faults = faults("[[fault]]\nkind = 'freeze'\nfor = '2s'\ntarget = 2\n");
        let freeze = |still| Blow::Freeze { node: 2, still, id: 0 };
        assert_eq!(blows(faults.step(secs(100))), [freeze(true)]);
        assert_eq!(faults.orders_for(2), []);
        assert_eq!(blows(faults.step(secs(102))), [freeze(false)]);
    }

    #[test]
    fn a_leader_is_looked_for_first() {
        let mut faults =
            faults("[[fault]]\nkind = 'kill'\ntarget = 'leader of a/1'\ndown = '3s'\n");
        let found = faults.step(secs(100));
        let [Blow::Find { occurrence }] = &found[..] else { panic!("{found:?}") };
        let kill = Blow::Kill { node: 3, down: secs(3), id: 0 };
        assert_eq!(faults.found(occurrence, Some(3)), [kill]);
        let skipped = faults.found(occurrence, None);
        let [Blow::Say(said)] = &skipped[..] else { panic!("{skipped:?}") };
        assert_eq!(
            (said.what, said.detail.as_str()),
            ("skipped", "the leader of a/1 is not known")
        );
        assert_eq!(faults.counts()[&Kind::Kill], 0, "a blow counts when it was dealt");
        assert!(faults.hit(secs(101), 0, 3, 1, String::new()).is_some());
        assert_eq!(faults.counts()[&Kind::Kill], 1);
    }

    #[test]
    fn a_leader_that_cannot_hand_over_is_killed() {
        let mut faults = faults("[[fault]]\nkind = 'leader_change'\ntarget = 1\n");
        let order = Order::HandOver { id: 0, partition: None };
        assert_eq!(faults.step(secs(100)), [Blow::Order { node: 1, order }]);
        let kill = Blow::Kill { node: 1, down: Duration::ZERO, id: 0 };
        let moved = |led, moved| Report::Moved { id: 0, led, moved };
        assert_eq!(faults.reported(secs(101), 1, moved(2, 0)), [kill]);
        assert_eq!(blows(faults.reported(secs(101), 1, moved(0, 0))), []);
        faults.reported(secs(101), 1, moved(2, 2));
        assert_eq!(faults.counts()[&Kind::LeaderChange], 1);
    }

    #[test]
    fn a_sync_that_failed_does_not_fail_again_after_the_restart() {
        let mut faults = faults("[[fault]]\nkind = 'fsync_error'\ntarget = 1\n");
        assert_eq!(blows(faults.step(secs(100))).len(), 1);
        assert_eq!(faults.orders_for(1).len(), 1, "it was not hit yet");
        faults.reported(secs(101), 1, Report::Hit { id: 0, count: 1, detail: "EIO".into() });
        assert_eq!(faults.orders_for(1), []);
    }
}
