//! How many partitions of each topic each member gets when members read different topics.
//!
//! A flow of least cost: a partition can wander from a member over its topic to any other reader of
//! the topic, which may pass on one of another topic, and so on. The cost of a state is the sum of
//! squares of loads first, and then the partitions taken from members that had them.
//!
//! It begins with everything where it was and the rest with whoever has least, which moves nothing.
//! Then it wanders along cheapest paths from high to low load while that evens loads, then between
//! loads that differ by one while that saves moves. A cheapest path between two members leaves no
//! cycle that saves moves (the theorem of successive shortest paths), so that at the end none is
//! left that improves anything, which is what makes a flow the cheapest (Klein 1967).

use std::collections::VecDeque;

/// One topic for one of its readers.
#[derive(Clone, Copy, Debug)]
struct Arc {
    topic: usize,
    member: usize,
    /// Partitions that the member gets.
    now: usize,
    /// Partitions that it had.
    home: usize,
}

impl Arc {
    /// Moves that giving up one adds.
    fn cost_of_giving(self) -> i64 {
        i64::from(self.now <= self.home)
    }

    /// Moves that taking one adds: it may be one that was given up.
    fn cost_of_taking(self) -> i64 {
        -i64::from(self.now < self.home)
    }
}

/// The flow.
#[derive(Debug)]
pub(super) struct Flow {
    arcs: Vec<Arc>,
    /// Arcs of each topic.
    of_topic: Vec<Vec<usize>>,
    /// Arcs of each member.
    of_member: Vec<Vec<usize>>,
    load: Vec<usize>,
    /// Partitions of each topic that nobody had.
    unowned: Vec<usize>,
    /// Partitions that were taken from somebody: while there are none, no step saves a move.
    taken: usize,
    search: Search,
}

/// The cheapest ways from one member to everywhere.
#[derive(Debug, Default)]
struct Search {
    to_member: Vec<Option<i64>>,
    to_topic: Vec<Option<i64>>,
    /// The arc over which a member takes.
    taken: Vec<usize>,
    /// The arc over which a topic is given.
    given: Vec<usize>,
    queue: VecDeque<usize>,
    queued: Vec<bool>,
    from: Option<usize>,
}

/// Whether loads become more even, or stay as even while moves are saved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Even,
    Stay,
}

impl Flow {
    pub(super) fn new(members: usize) -> Self {
        Self {
            arcs: Vec::new(),
            of_topic: Vec::new(),
            of_member: vec![Vec::new(); members],
            load: vec![0; members],
            unowned: Vec::new(),
            taken: 0,
            search: Search::default(),
        }
    }

    /// Adds a topic with its readers, the partitions that each had, and those that nobody had.
    pub(super) fn add_topic(
        &mut self,
        readers: impl Iterator<Item = (usize, usize)>,
        unowned: usize,
    ) {
        let topic = self.of_topic.len();
        let mut arcs = Vec::new();
        for (member, home) in readers {
            arcs.push(self.arcs.len());
            if let (Some(of_member), Some(load)) =
                (self.of_member.get_mut(member), self.load.get_mut(member))
            {
                of_member.push(self.arcs.len());
                *load += home;
            }
            self.arcs.push(Arc { topic, member, now: home, home });
        }
        self.of_topic.push(arcs);
        self.unowned.push(unowned);
    }

    /// What each reader of a topic gets, in the order in which they were added.
    pub(super) fn counts(&self, topic: usize) -> impl Iterator<Item = usize> {
        let arcs = self.of_topic.get(topic).into_iter().flatten();
        arcs.filter_map(|arc| self.arcs.get(*arc)).map(|arc| arc.now)
    }

    pub(super) fn solve(&mut self) {
        self.place_unowned();
        self.improve(Aim::Even);
        if self.taken > 0 {
            self.improve(Aim::Stay);
        }
    }

    /// Topics with few readers have the least choice, so they come first.
    fn place_unowned(&mut self) {
        let mut order: Vec<usize> = (0..self.of_topic.len()).collect();
        order.sort_by_key(|topic| self.of_topic.get(*topic).map(Vec::len));
        for topic in order {
            for _ in 0..self.unowned.get(topic).copied().unwrap_or(0) {
                let arcs = self.of_topic.get(topic).into_iter().flatten().copied();
                let load = |arc: &usize| Some(*self.load.get(self.arcs.get(*arc)?.member)?);
                if let Some(arc) = arcs.min_by_key(load) {
                    self.shift(arc, 1);
                }
            }
        }
    }

    /// Wanders until no path serves the aim. Each one lowers the cost, so that it ends.
    fn improve(&mut self, aim: Aim) {
        let mut improved = true;
        while improved {
            improved = false;
            let mut order: Vec<usize> = (0..self.load.len()).collect();
            order.sort_by_key(|member| std::cmp::Reverse(self.load.get(*member).copied()));
            let mut hopeless = vec![false; order.len()];
            for from in order {
                if hopeless.get(from) == Some(&true) {
                    continue;
                }
                while self.improve_from(from, aim) {
                    improved = true;
                }
                if aim == Aim::Even {
                    self.note_hopeless(from, &mut hopeless);
                }
            }
        }
    }

    /// Whoever can be reached from a member that reaches nobody low enough reaches nobody lower:
    /// those that have no more than it need not be looked at.
    fn note_hopeless(&self, from: usize, hopeless: &mut [bool]) {
        if self.search.from != Some(from) {
            return;
        }
        let most = self.load.get(from).copied().unwrap_or(0);
        let reached = self.search.to_member.iter().zip(&self.load).zip(hopeless);
        for ((cost, load), hopeless) in reached {
            *hopeless |= cost.is_some() && *load <= most;
        }
    }

    fn improve_from(&mut self, from: usize, aim: Aim) -> bool {
        let Some(high) = self.load.get(from).copied() else { return false };
        let least = self.load.iter().min().copied().unwrap_or(0);
        let steps = if aim == Aim::Even { 2 } else { 1 };
        if high < least + steps {
            return false;
        }
        self.search_from(from, high.saturating_sub(steps));
        let serves = |load: usize, cost: i64| match aim {
            Aim::Even => load + 2 <= high,
            Aim::Stay => load + 1 == high && cost < 0,
        };
        let reached = self.search.to_member.iter().zip(&self.load).enumerate();
        let best = reached
            .filter_map(|(member, (cost, load))| Some(((*cost)?, *load, member)))
            .filter(|(cost, load, _)| serves(*load, *cost))
            .min();
        best.is_some_and(|(_, _, to)| self.wander(from, to))
    }

    /// Cheapest ways from a member, by label correction: costs may be negative, cycles are not.
    /// Ends early if it finds a member with at most `low` and there can be no cheaper way to any.
    fn search_from(&mut self, from: usize, low: usize) {
        let cheapest = self.cheapest_from(from);
        let Self { arcs, of_topic, of_member, load, search, .. } = self;
        search.reset(of_member.len(), of_topic.len());
        search.from = Some(from);
        search.reach(from, 0, usize::MAX);
        while let Some(member) = search.queue.pop_front() {
            let Some(cost) = search.leave(member) else { continue };
            for give in of_member.get(member).into_iter().flatten() {
                let Some(arc) = arcs.get(*give).filter(|arc| arc.now > 0) else { continue };
                let cost = cost + arc.cost_of_giving();
                let (Some(known), Some(given)) =
                    (search.to_topic.get_mut(arc.topic), search.given.get_mut(arc.topic))
                else {
                    continue;
                };
                if known.is_some_and(|known| known <= cost) {
                    continue;
                }
                (*known, *given) = (Some(cost), *give);
                for take in of_topic.get(arc.topic).into_iter().flatten() {
                    let Some(arc) = arcs.get(*take) else { continue };
                    search.reach(arc.member, cost + arc.cost_of_taking(), *take);
                    let is_low = load.get(arc.member).is_some_and(|load| *load <= low);
                    if is_low && cheapest.is_some_and(|cheapest| cost <= cheapest) {
                        return;
                    }
                }
            }
        }
    }

    /// What the first step costs at least, which is what a way costs at least while no step saves.
    fn cheapest_from(&self, from: usize) -> Option<i64> {
        let own = self.of_member.get(from).filter(|_| self.taken == 0)?;
        let own = own.iter().filter_map(|arc| self.arcs.get(*arc)).filter(|arc| arc.now > 0);
        own.map(|arc| arc.cost_of_giving()).min()
    }

    /// Moves one partition along each step of the way that was found.
    fn wander(&mut self, from: usize, to: usize) -> bool {
        let mut steps = Vec::new();
        let mut at = to;
        while at != from {
            let step = self.search.taken.get(at).and_then(|take| {
                let give = *self.search.given.get(self.arcs.get(*take)?.topic)?;
                Some((*take, give, self.arcs.get(give)?.member))
            });
            // A way is no longer than there are members; a longer one would be a cycle.
            let Some((take, give, before)) = step else { return false };
            if steps.len() > self.load.len() {
                return false;
            }
            steps.push((take, give));
            at = before;
        }
        self.search.from = None;
        for (take, give) in steps {
            self.shift(take, 1);
            self.shift(give, -1);
        }
        true
    }

    fn shift(&mut self, arc: usize, by: isize) {
        if let Some(arc) = self.arcs.get_mut(arc) {
            let short = arc.home.saturating_sub(arc.now);
            arc.now = arc.now.saturating_add_signed(by);
            self.taken = self.taken + arc.home.saturating_sub(arc.now) - short;
            if let Some(load) = self.load.get_mut(arc.member) {
                *load = load.saturating_add_signed(by);
            }
        }
    }
}

impl Search {
    fn reset(&mut self, members: usize, topics: usize) {
        self.to_member.clear();
        self.to_member.resize(members, None);
        self.to_topic.clear();
        self.to_topic.resize(topics, None);
        self.taken.resize(members, usize::MAX);
        self.given.resize(topics, usize::MAX);
        self.queued.clear();
        self.queued.resize(members, false);
        self.queue.clear();
    }

    /// Takes a member off the queue and tells what it costs to be there.
    fn leave(&mut self, member: usize) -> Option<i64> {
        *self.queued.get_mut(member)? = false;
        *self.to_member.get(member)?
    }

    /// Notes a way to a member, if there was none as cheap.
    fn reach(&mut self, member: usize, cost: i64, take: usize) {
        let (Some(known), Some(taken), Some(queued)) = (
            self.to_member.get_mut(member),
            self.taken.get_mut(member),
            self.queued.get_mut(member),
        ) else {
            return;
        };
        if known.is_some_and(|known| known <= cost) {
            return;
        }
        (*known, *taken) = (Some(cost), take);
        if !*queued {
            *queued = true;
            self.queue.push_back(member);
        }
    }
}
