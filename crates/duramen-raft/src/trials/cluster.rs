//! Drives simulated nodes: steps the simulation until what a trial waits for is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duramen_env::CrashMode;
use duramen_log::LogOptions;
use duramen_types::{LogIndex, Offset, PartitionId, ReplicaId, TopicId, TopicPartition};
use futures::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;
use turmoil::Sim;

use super::content::{command, proposal, records, value};
use super::node::{Node, Plan, name, replica};
use crate::limits;
use crate::replica::lock;
use crate::types::Applied;
use crate::{Group, GroupId, ProposeError, RaftHost};

/// The partition of the trials.
pub(super) const PARTITION: GroupId = GroupId::Partition(TopicPartition {
    topic: TopicId::from_bytes([9; 16]),
    partition: PartitionId::new(0),
});

/// Simulated time after which something that should come will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes and the network between them.
pub(super) struct Cluster {
    sim: Sim<'static>,
    nodes: BTreeMap<u64, Arc<Node>>,
    down: BTreeSet<u64>,
    written: u64,
    /// What was acknowledged of the partition's records.
    pub(super) acked: BTreeMap<Offset, String>,
    /// Replicas that may be found without what they acknowledged.
    pub(super) liars: BTreeSet<ReplicaId>,
}

/// A result that is on its way.
pub(super) struct Pending<T>(Arc<Mutex<Option<T>>>);

impl<T> Pending<T> {
    /// Whether it is there.
    pub(super) fn is_ready(&self) -> bool {
        lock(&self.0).is_some()
    }
}

/// Small segments, so that a few records fill one.
pub(super) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4_096,
        extent_bytes_min: 4_096,
        extent_bytes_max: 4_096,
        tail_cache_bytes: 8_192,
        index_interval_bytes: 512,
        ..LogOptions::default()
    }
}

/// Holds the syncs of all logs of a node back; votes are still synced.
pub(super) fn hold_syncs(cluster: &mut Cluster, node: u64) -> OwnedSemaphorePermit {
    cluster.call(node, |host| async move {
        let all = u32::try_from(limits::SYNCS_IN_PARALLEL).unwrap();
        Arc::clone(host.syncs()).acquire_many_owned(all).await.unwrap()
    })
}

impl Cluster {
    /// Starts nodes 1 to `count`.
    pub(super) fn new(seed: u64, count: u64) -> Self {
        crate::seed_elections(seed);
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(Duration::from_millis(2))
            .tcp_capacity(1 << 16);
        let mut sim = builder.build();
        let ids: BTreeSet<u64> = (1..=count).collect();
        let mut nodes = BTreeMap::new();
        for id in &ids {
            let node = Arc::new(Node::new(*id, seed));
            nodes.insert(*id, Arc::clone(&node));
            let ids = ids.clone();
            sim.host(name(*id), move || Arc::clone(&node).run(ids.clone()));
        }
        let (down, acked, liars) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let mut cluster = Self { sim, nodes, down, written: 0, acked, liars };
        cluster.until("all nodes run", |cluster| {
            cluster.nodes.values().all(|node| node.host().is_some())
        });
        cluster
    }

    /// Three nodes with a replica of the partition each.
    pub(super) fn of_three(seed: u64) -> Self {
        let mut cluster = Self::new(seed, 3);
        cluster.form(PARTITION, &[1, 2, 3]);
        cluster
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
    }

    /// The simulated time.
    pub(super) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets simulated time pass, to see that something does *not* happen.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Steps until a condition holds.
    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = self.sim.elapsed() + PATIENCE;
        while !condition(self) {
            assert!(self.sim.elapsed() < deadline, "waited for ever: {what}\n{}", self.describe());
            self.step();
        }
    }

    /// Starts work on a node.
    pub(super) fn spawn<T, W, F>(&mut self, node: u64, work: W) -> Pending<T>
    where
        T: Send + 'static,
        W: FnOnce(Arc<RaftHost>) -> F + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let done = Arc::new(Mutex::new(None));
        let result = Arc::clone(&done);
        let command =
            Box::new(move |host| async move { *lock(&result) = Some(work(host).await) }.boxed());
        assert!(self.nodes[&node].commands().try_send(command).is_ok());
        Pending(done)
    }

    pub(super) fn wait<T>(&mut self, pending: Pending<T>) -> T {
        self.until("the answer of a call", |_| lock(&pending.0).is_some());
        lock(&pending.0).take().unwrap()
    }

    /// Does work on a node.
    pub(super) fn call<T, W, F>(&mut self, node: u64, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce(Arc<RaftHost>) -> F + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let pending = self.spawn(node, work);
        self.wait(pending)
    }

    pub(super) fn node(&self, node: u64) -> &Node {
        &self.nodes[&node]
    }

    pub(super) fn group(&self, node: u64, id: GroupId) -> Arc<Group> {
        self.try_group(node, id).expect("the node serves the group")
    }

    pub(super) fn try_group(&self, node: u64, id: GroupId) -> Option<Arc<Group>> {
        self.nodes[&node].host()?.group(id)
    }

    /// Creates and opens the first replica of a group on a node.
    pub(super) fn place(&mut self, id: GroupId, node: u64, life: u64) {
        let plan = Plan { replica: replica(node, life), options: options() };
        lock(&self.nodes[&node].plans).insert(id, plan.clone());
        let spec = self.nodes[&node].spec(id, &plan);
        self.call(node, move |host| async move {
            host.create_replica(id, plan.replica, plan.options).await.unwrap();
            host.open_group(spec).await.unwrap();
        });
    }

    /// Founds a group on nodes and waits for its first leader.
    pub(super) fn form(&mut self, id: GroupId, nodes: &[u64]) {
        for node in nodes {
            self.place(id, *node, 1);
        }
        let voters: BTreeSet<ReplicaId> = nodes.iter().map(|node| replica(*node, 1)).collect();
        self.call(nodes[0], move |host| async move {
            let group = host.group(id).unwrap();
            host.initialize(&group, &voters).await.unwrap();
        });
        self.leader(id);
    }

    /// The running node that leads a group in its newest term and serves.
    pub(super) fn try_leader(&self, id: GroupId) -> Option<u64> {
        let serving = self.nodes.keys().filter_map(|node| {
            let group = self.try_group(*node, id)?;
            Some((group.serving_term()?, *node))
        });
        serving.max().map(|(_, node)| node)
    }

    pub(super) fn leader(&mut self, id: GroupId) -> u64 {
        self.until("a leader that serves", |cluster| cluster.try_leader(id).is_some());
        self.try_leader(id).unwrap()
    }

    /// Waits for a leader that is not this node.
    pub(super) fn leader_but(&mut self, id: GroupId, node: u64) -> u64 {
        self.until("another leader", |cluster| {
            cluster.try_leader(id).is_some_and(|leader| leader != node)
        });
        self.try_leader(id).unwrap()
    }

    /// The nodes that run and do not lead.
    pub(super) fn followers(&mut self, id: GroupId) -> Vec<u64> {
        let leader = self.leader(id);
        let holds = |node: &u64| *node != leader && self.try_group(*node, id).is_some();
        self.nodes.keys().copied().filter(holds).collect()
    }

    /// Proposes records through a node; what they came to will be there.
    pub(super) fn start_writing(
        &mut self,
        node: u64,
        id: GroupId,
        count: u64,
    ) -> (u64, Pending<Vec<Result<Applied, ProposeError>>>) {
        let first = self.written;
        self.written += count;
        let term = self.group(node, id).status().term;
        let pending = self.spawn(node, move |host| async move {
            let group = host.group(id).unwrap();
            let mut outcomes = Vec::new();
            for number in first..first + count {
                let proposal =
                    if id == GroupId::Metadata { command(number) } else { proposal(number) };
                outcomes.push(group.propose(proposal, term).await);
            }
            let outcomes = outcomes.into_iter().map(|proposed| async move {
                match proposed {
                    Ok(proposed) => proposed.outcome().await,
                    Err(error) => Err(error),
                }
            });
            futures::future::join_all(outcomes).await
        });
        (first, pending)
    }

    /// Takes what was acknowledged into account; answers how many were.
    pub(super) fn note(&mut self, first: u64, outcomes: &[Result<Applied, ProposeError>]) -> u64 {
        let mut count = 0;
        for (number, outcome) in (first..).zip(outcomes) {
            if let Ok(applied) = outcome {
                assert!(!applied.rejected);
                let before = self.acked.insert(applied.base_offset, value(number));
                assert_eq!(before, None, "an offset was given twice");
                count += 1;
            }
        }
        count
    }

    /// Writes records through the leader; all are acknowledged.
    pub(super) fn write(&mut self, count: u64) {
        let leader = self.leader(PARTITION);
        let (first, pending) = self.start_writing(leader, PARTITION, count);
        let outcomes = self.wait(pending);
        assert_eq!(self.note(first, &outcomes), count, "{outcomes:?}");
    }

    /// Moves the log's start as far as whole segments go; answers the new start.
    pub(super) fn trim(&mut self, id: GroupId) -> LogIndex {
        let leader = self.leader(id);
        let group = self.group(leader, id);
        let index = group.trim_target(None, Some(0)).expect("there is something to trim").index;
        let term = group.status().term;
        drop(group);
        self.call(leader, move |host| async move {
            host.group(id).unwrap().propose_log_start(index, term).await.unwrap();
        });
        index
    }

    pub(super) fn log_start(&self, node: u64, id: GroupId) -> LogIndex {
        self.group(node, id).replica.log.start().first_index
    }

    /// Waits until a node's log starts at an index.
    pub(super) fn until_starts_at(&mut self, node: u64, id: GroupId, index: LogIndex) {
        self.until("the log start moved", |cluster| cluster.log_start(node, id) == index);
    }

    /// Waits until nodes have the same log, all of it applied.
    pub(super) fn settle(&mut self, id: GroupId, nodes: &[u64]) {
        self.leader(id);
        self.until("the replicas are equal", |cluster| {
            let state = |node: &u64| {
                let group = cluster.try_group(*node, id)?;
                let applied_end = group.progress().borrow().applied_end;
                (applied_end == group.replica.log.end_index()).then(|| group.log_tip())
            };
            let states: Vec<_> = nodes.iter().map(state).collect();
            states[0].is_some() && states.iter().all(|state| *state == states[0])
        });
        for group in self.nodes.keys().filter_map(|node| self.try_group(*node, id)) {
            for loss in group.losses() {
                assert!(self.liars.contains(&loss.replica), "it lost nothing: {loss:?}");
            }
        }
    }

    /// Waits until nodes have the same log and checks that it has all that was acknowledged, where
    /// it was said to be, from the log start on and without holes.
    pub(super) fn check(&mut self, nodes: &[u64]) {
        self.settle(PARTITION, nodes);
        for node in nodes {
            let progress = *self.group(*node, PARTITION).progress().borrow();
            let found = self
                .call(*node, |host| async move { records(&host.group(PARTITION).unwrap()).await });
            let offsets = progress.log_start_offset.get()..progress.high_watermark.get();
            assert!(found.keys().map(|offset| offset.get()).eq(offsets), "offsets of node {node}");
            for (offset, value) in self.acked.range(progress.log_start_offset..) {
                assert_eq!(found.get(offset), Some(value), "offset {offset} of node {node}");
            }
            assert_eq!(self.nodes[node].stop_reason(), None);
        }
    }

    /// Ends a node's process; its unsynced writes survive if the power stays on.
    pub(super) fn crash(&mut self, node: u64, power: Option<CrashMode>) {
        match power {
            Some(mode) => self.nodes[&node].disk.crash(mode),
            None => self.nodes[&node].disk.kill(),
        }
        self.sim.crash(name(node));
        self.nodes[&node].ended();
        self.nodes[&node].disk.reopen();
        self.down.insert(node);
    }

    /// Starts a node again.
    pub(super) fn start(&mut self, node: u64) {
        self.sim.bounce(name(node));
        self.down.remove(&node);
        self.until("the node runs", |cluster| cluster.nodes[&node].host().is_some());
    }

    /// Ends a node's process in good order.
    pub(super) fn stop(&mut self, node: u64) {
        self.call(node, |host| async move { host.shutdown().await });
        self.crash(node, None);
    }

    /// Holds all traffic between a node and others back.
    pub(super) fn cut(&mut self, node: u64, others: &[u64]) {
        for other in others {
            self.sim.hold(name(node), name(*other));
        }
    }

    /// Lets the traffic go on, with what was held back.
    pub(super) fn heal(&mut self, node: u64, others: &[u64]) {
        for other in others {
            self.sim.release(name(node), name(*other));
        }
    }

    /// Starts a node whose disk may fail while it starts.
    pub(super) fn start_or_fail(&mut self, node: u64) {
        self.sim.bounce(name(node));
        self.down.remove(&node);
        self.until("the node runs or lost its power", |cluster| {
            let node = &cluster.nodes[&node];
            node.host().is_some() || node.disk.is_down()
        });
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.nodes {
            text.push_str(&format!("node {id}: {:?} ", node.stop_reason()));
            for group in node.host().iter().flat_map(|host| host.groups()) {
                let progress = *group.progress().borrow();
                let (start, end) = (group.replica.log.start(), group.replica.log.end_index());
                text.push_str(&format!(
                    "{}: {:?} {progress:?} log {}..{end} voters {:?} lag {:?}; ",
                    group.id(),
                    group.status(),
                    start.first_index,
                    group.membership().voters,
                    group.replication(),
                ));
            }
            text.push('\n');
        }
        text
    }
}
