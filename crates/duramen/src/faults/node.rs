//! The faults of one node: what is ordered takes effect at the node's disk and listener, and each
//! hit is reported.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duramen_broker::BrokerError;
use duramen_env::{DiskFaults, SeededRandom};
use duramen_grpc::{Call, CallFaults, Cut, FetchFault, ProduceFault};
use tokio::sync::mpsc;

use super::draw::{between, happens, mix};
use super::kind::{Action, Kind, call_name};
use super::message::{Order, Report};

/// Reports that wait to be written; more are told as a count.
pub(crate) const REPORTS_WAITING: usize = 1_024;

/// The faults of one node.
#[derive(Debug)]
pub(crate) struct NodeFaults {
    seed: u64,
    state: Mutex<State>,
    reports: mpsc::Sender<Report>,
}

#[derive(Debug, Default)]
struct State {
    active: BTreeMap<u64, Active>,
    /// Partitions whose next fetch begins before its offset, by how many records.
    again: BTreeMap<(String, u32), u64>,
    /// Hits that could not be reported.
    unsaid: BTreeMap<u64, (u64, String)>,
}

#[derive(Debug)]
struct Active {
    action: Action,
    random: SeededRandom,
    /// What happens once has happened.
    is_spent: bool,
}

/// A call for a partition, as far as it names one.
type Place<'a> = Option<(&'a str, u32)>;

impl Active {
    fn covers(&self, place: Place<'_>) -> bool {
        let Some(wanted) = &self.action.topic else { return true };
        let partition = self.action.partition;
        place.is_some_and(|(topic, found)| {
            topic == wanted && partition.is_none_or(|partition| partition == found)
        })
    }
}

impl State {
    /// Faults of a kind that hit an operation now: the first one, as drawn.
    fn hit(&mut self, kind: Kind, place: Place<'_>) -> Option<(u64, &mut Active)> {
        let active = self.active.iter_mut().map(|(id, active)| (*id, active));
        let mut candidates = active.filter(|(_, active)| active.action.kind == kind);
        candidates
            .find(|(_, active)| active.covers(place) && happens(&active.random, active.action.ppm))
    }
}

impl NodeFaults {
    /// A node without faults yet; what it draws follows from the seed.
    pub(crate) fn new(seed: u64, reports: mpsc::Sender<Report>) -> Self {
        Self { seed, state: Mutex::default(), reports }
    }

    /// Takes an order that is about faults of disk or listener.
    pub(crate) fn take(&self, order: Order) {
        let mut state = self.lock();
        match order {
            Order::Begin { id, action } => {
                let random = SeededRandom::new(mix(self.seed, &[id]));
                state.active.insert(id, Active { action, random, is_spent: false });
            }
            Order::End { id } => drop(state.active.remove(&id)),
            Order::HandOver { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a hit, or remembers it until there is room.
    fn report(&self, state: &mut State, id: u64, detail: String) {
        let (before, _) = state.unsaid.remove(&id).unwrap_or_default();
        let report = Report::Hit { id, count: before + 1, detail };
        if let Err(error) = self.reports.try_send(report)
            && let Report::Hit { id, count, detail } = error.into_inner()
        {
            state.unsaid.insert(id, (count, detail));
        }
    }

    /// Hits that there was no room to report.
    pub(crate) fn unsaid(&self) -> Vec<Report> {
        let unsaid = std::mem::take(&mut self.lock().unsaid);
        let report = |(id, (count, detail))| Report::Hit { id, count, detail };
        unsaid.into_iter().map(report).collect()
    }

    /// A delay of this kind, if one is drawn now.
    fn delay(&self, kind: Kind, place: Place<'_>) -> Duration {
        let mut state = self.lock();
        let Some((id, active)) = state.hit(kind, place) else { return Duration::ZERO };
        let delay = between(&active.random, active.action.delay);
        let millis = delay.as_millis();
        let detail = match name(place) {
            place if place.is_empty() => format!("{millis} ms"),
            place => format!("{place}, {millis} ms"),
        };
        self.report(&mut state, id, detail);
        delay
    }

    /// Whether a fault of this kind is drawn now; of those it is told how many records again.
    fn strikes(&self, kind: Kind, place: Place<'_>) -> Option<u64> {
        let mut state = self.lock();
        let (id, active) = state.hit(kind, place)?;
        let records = active.action.records;
        self.report(&mut state, id, name(place));
        Some(records)
    }
}

fn name(place: Place<'_>) -> String {
    place.map_or_else(String::new, |(topic, partition)| format!("{topic}/{partition}"))
}

impl DiskFaults for NodeFaults {
    fn before_sync(&self) -> io::Result<()> {
        let failing = {
            let mut state = self.lock();
            let mut active = state.active.iter_mut();
            let failing = active
                .find(|(_, active)| active.action.kind == Kind::FsyncError && !active.is_spent);
            let failing = failing.map(|(id, active)| {
                active.is_spent = true;
                *id
            });
            if let Some(id) = failing {
                self.report(&mut state, id, "EIO".to_owned());
            }
            failing
        };
        if failing.is_some() {
            return Err(rustix::io::Errno::IO.into());
        }
        let delay = self.delay(Kind::SlowFsync, None);
        if !delay.is_zero() {
            #[expect(
                clippy::disallowed_methods,
                reason = "a slow disk blocks the thread it serves"
            )]
            std::thread::sleep(delay);
        }
        Ok(())
    }

    fn free_bytes(&self, real: u64) -> u64 {
        let mut state = self.lock();
        let Some((id, active)) = state.hit(Kind::DiskFull, None) else { return real };
        // Once for each time that it is full, however often somebody looks.
        if !std::mem::replace(&mut active.is_spent, true) {
            self.report(&mut state, id, String::new());
        }
        0
    }
}

impl CallFaults for NodeFaults {
    fn refusal(&self, call: Call, partition: Place<'_>) -> Option<BrokerError> {
        let mut state = self.lock();
        let call = call_name(call);
        let refusing = state.active.iter().find(|(_, active)| {
            active.action.kind == Kind::Refuse
                && active.action.calls.iter().any(|refused| refused == call)
                && active.covers(partition)
                && happens(&active.random, active.action.ppm)
        });
        let (id, error) = refusing.map(|(id, active)| (*id, active.action.error))?;
        let detail = [call.to_owned(), name(partition), error.name().to_owned()];
        let detail: Vec<_> = detail.into_iter().filter(|part| !part.is_empty()).collect();
        self.report(&mut state, id, detail.join(", "));
        Some(error.error())
    }

    fn produce(&self, topic: &str, partition: u32) -> ProduceFault {
        let place = Some((topic, partition));
        let delay = self.delay(Kind::LateAck, place);
        ProduceFault { delay, lost: self.strikes(Kind::LostAck, place).is_some() }
    }

    fn fetch(&self, topic: &str, partition: u32, alone: bool) -> FetchFault {
        let place = Some((topic, partition));
        let delay = self.delay(Kind::SlowFetch, place);
        if self.strikes(Kind::CutStream, place).is_some() {
            return FetchFault { delay, cut: Cut::Before };
        }
        let again = self.strikes(Kind::DuplicateDelivery, place);
        let Some(records) = again else { return FetchFault { delay, cut: Cut::Never } };
        self.lock().again.insert((topic.to_owned(), partition), records);
        // A call that stands alone has ended with its answer.
        FetchFault { delay, cut: if alone { Cut::Never } else { Cut::After } }
    }

    fn records_again(&self, topic: &str, partition: u32) -> u64 {
        self.lock().again.remove(&(topic.to_owned(), partition)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    /// A node with the faults of a plan, and what it reports.
    fn node(seed: u64, plan: &str) -> (NodeFaults, mpsc::Receiver<Report>) {
        let (reports, said) = mpsc::channel(REPORTS_WAITING);
        let node = NodeFaults::new(seed, reports);
        for (id, fault) in (0..).zip(Plan::parse(plan).unwrap().faults) {
            node.take(Order::Begin { id, action: fault.action });
        }
        (node, said)
    }

    fn said(reports: &mut mpsc::Receiver<Report>) -> Vec<Report> {
        std::iter::from_fn(|| reports.try_recv().ok()).collect()
    }

    const LOST: &str = "[[fault]]\nkind = 'lost_ack'\nprobability = 0.3\n";

    #[test]
    fn which_operations_are_hit_follows_from_the_seed() {
        let course = |seed| {
            let (node, _said) = node(seed, LOST);
            (0..200).map(|_| node.produce("a", 0).lost).collect::<Vec<_>>()
        };
        assert_eq!(course(7), course(7));
        assert_ne!(course(7), course(8));
        let hits = course(7).into_iter().filter(|hit| *hit).count();
        assert!((30..90).contains(&hits), "{hits} of 200");
    }

    #[test]
    fn every_hit_is_reported_once_also_if_nobody_listens_for_a_while() {
        let (node, mut reports) = node(7, LOST);
        let hits = (0..10_000).filter(|_| node.produce("a", 0).lost).count();
        let mut counted = 0;
        for report in said(&mut reports).into_iter().chain(node.unsaid()) {
            let Report::Hit { id: 0, count, detail } = report else { panic!("{report:?}") };
            assert_eq!(detail, "a/0");
            counted += count;
        }
        assert!(hits > REPORTS_WAITING);
        assert_eq!(counted, hits as u64);
        assert!(node.unsaid().is_empty());
    }

    #[test]
    fn calls_for_other_topics_and_partitions_are_let_alone() {
        let plan = "[[fault]]\nkind = 'refuse'\nerror = 'not_leader'\ntopic = 'a/1'\n";
        let (node, mut reports) = node(7, plan);
        let refused = |call, place| node.refusal(call, place).is_some();
        assert!(refused(Call::Produce, Some(("a", 1))) && refused(Call::Fetch, Some(("a", 1))));
        assert!(!refused(Call::Produce, Some(("a", 0))) && !refused(Call::Fetch, Some(("b", 1))));
        assert!(!refused(Call::InitProducer, None));
        let detail = "fetch, a/1, not_leader".to_owned();
        assert_eq!(said(&mut reports)[1], Report::Hit { id: 0, count: 1, detail });
    }

    #[test]
    fn a_sync_fails_once_and_a_full_disk_ends() {
        let plan = "[[fault]]\nkind = 'fsync_error'\n[[fault]]\nkind = 'disk_full'\nfor = '1s'\n";
        let (node, mut reports) = node(7, plan);
        assert!(node.before_sync().is_err());
        node.before_sync().unwrap();
        assert_eq!((node.free_bytes(9), node.free_bytes(9)), (0, 0));
        node.take(Order::End { id: 1 });
        assert_eq!(node.free_bytes(9), 9);
        assert_eq!(said(&mut reports).len(), 2);
    }

    #[test]
    fn a_stream_that_ends_early_is_followed_by_records_given_again() {
        let (node, _said) = node(7, "[[fault]]\nkind = 'duplicate_delivery'\nrecords = 5\n");
        assert_eq!(node.records_again("a", 0), 0);
        assert_eq!(node.fetch("a", 0, false).cut, Cut::After);
        assert_eq!(node.records_again("a", 1), 0);
        assert_eq!((node.records_again("a", 0), node.records_again("a", 0)), (5, 0));
        assert_eq!(node.fetch("a", 0, true).cut, Cut::Never);
        assert_eq!(node.records_again("a", 0), 5);
    }
}
