//! Which links between hosts are cut, held, slow or lossy: what several faults wish at once is laid
//! over each other, and what is left when they end is a healthy network.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

/// What a fault wishes of a link. A stronger wish wins: the order is that of strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    #[default]
    Healthy,
    /// Packets wait until the link is released.
    Held,
    /// Nothing passes from the first host of the pair to the second.
    CutForward,
    /// Nothing passes from the second to the first.
    CutBackward,
    Cut,
}

/// Two hosts, by name and in order.
type Pair = (String, String);

fn pair(a: &str, b: &str) -> Pair {
    if a < b { (a.into(), b.into()) } else { (b.into(), a.into()) }
}

/// The links of a simulation.
#[derive(Debug, Default)]
pub(super) struct Network {
    hosts: Vec<String>,
    wishes: BTreeMap<u64, Vec<(Pair, Link)>>,
    current: BTreeMap<Pair, Link>,
    latency_ms: u64,
    next: u64,
}

impl Network {
    pub(super) fn new(latency_ms: u64) -> Self {
        Self { latency_ms, ..Self::default() }
    }

    pub(super) fn add_host(&mut self, name: &str) {
        self.hosts.push(name.to_owned());
    }

    fn others(&self, name: &str) -> impl Iterator<Item = &String> {
        self.hosts.iter().filter(move |host| *host != name)
    }

    /// A wish for both directions of the links between two lists of hosts; what it gives takes it
    /// back.
    pub(super) fn wish(&mut self, sim: &Sim<'_>, between: &[(String, String)], link: Link) -> u64 {
        let wishes = between.iter().map(|(a, b)| (pair(a, b), link));
        self.insert(sim, wishes.collect())
    }

    /// A wish that nothing passes from one host to others.
    pub(super) fn wish_one_way(&mut self, sim: &Sim<'_>, between: &[(String, String)]) -> u64 {
        let wishes = between.iter().map(|(from, to)| {
            let link = if from < to { Link::CutForward } else { Link::CutBackward };
            (pair(from, to), link)
        });
        self.insert(sim, wishes.collect())
    }

    fn insert(&mut self, sim: &Sim<'_>, wishes: Vec<(Pair, Link)>) -> u64 {
        self.next += 1;
        self.wishes.insert(self.next, wishes);
        self.follow(sim);
        self.next
    }

    /// Takes a wish back.
    pub(super) fn take_back(&mut self, sim: &Sim<'_>, wish: u64) {
        self.wishes.remove(&wish);
        self.follow(sim);
    }

    /// Makes the links what all wishes together ask for.
    fn follow(&mut self, sim: &Sim<'_>) {
        let mut wanted: BTreeMap<Pair, Link> = BTreeMap::new();
        for (pair, link) in self.wishes.values().flatten() {
            let strongest = wanted.entry(pair.clone()).or_default();
            *strongest = match (*strongest, *link) {
                (Link::CutForward, Link::CutBackward) | (Link::CutBackward, Link::CutForward) => {
                    Link::Cut
                }
                (one, other) => one.max(other),
            };
        }
        let gone: Vec<Pair> =
            self.current.keys().filter(|pair| !wanted.contains_key(*pair)).cloned().collect();
        for pair in gone {
            self.set(sim, &pair, Link::Healthy);
        }
        for (pair, link) in wanted {
            if self.current.get(&pair) != Some(&link) {
                self.set(sim, &pair, link);
            }
        }
    }

    fn set(&mut self, sim: &Sim<'_>, pair: &Pair, link: Link) {
        let (a, b) = (pair.0.as_str(), pair.1.as_str());
        match self.current.remove(pair).unwrap_or_default() {
            Link::Healthy => {}
            Link::Held => sim.release(a, b),
            Link::CutForward | Link::CutBackward | Link::Cut => sim.repair(a, b),
        }
        match link {
            Link::Healthy => return,
            Link::Held => sim.hold(a, b),
            Link::CutForward => sim.partition_oneway(a, b),
            Link::CutBackward => sim.partition_oneway(b, a),
            Link::Cut => sim.partition(a, b),
        }
        self.current.insert(pair.clone(), link);
    }

    /// Runs something while nothing that a host sends gets out: a machine without power says no
    /// farewells.
    pub(super) fn silenced<'a>(
        &mut self,
        sim: &mut Sim<'a>,
        host: &str,
        work: impl FnOnce(&mut Sim<'a>),
    ) {
        let others: Vec<String> = self.others(host).cloned().collect();
        for other in &others {
            sim.partition(host, other.as_str());
        }
        work(sim);
        for other in &others {
            sim.repair(host, other.as_str());
            let pair = pair(host, other);
            if let Some(link) = self.current.remove(&pair) {
                self.set(sim, &pair, link);
            }
        }
    }

    /// Lets everything to and from a host take up to so many milliseconds; `None` is as usual.
    pub(super) fn set_latency(&self, sim: &Sim<'_>, host: &str, ms: Option<u64>) {
        for other in self.others(host) {
            let (a, b) = (host, other.as_str());
            let (least, most) = ms.map_or((1, self.latency_ms), |ms| (ms / 4, ms));
            // The least becomes both first: the most must never be below it.
            sim.set_link_latency(a, b, Duration::from_millis(least));
            sim.set_link_max_message_latency(a, b, Duration::from_millis(most.max(least)));
        }
    }

    /// Lets so many of a million packets to and from a host be lost, and all that are under way
    /// with it.
    pub(super) fn set_loss(&self, sim: &mut Sim<'_>, host: &str, per_million: u32) {
        for other in self.others(host) {
            let rate = f64::from(per_million) / 1e6;
            sim.set_link_fail_rate(host, other.as_str(), rate);
        }
    }
}
