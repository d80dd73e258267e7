//! What a seed stands for: the cluster, the load and the faults of one run.

use std::time::Duration;

use duramen_client::Compression;

use super::dice::Dice;
use super::fault::FaultKind;

/// Faults go on for this long in simulated time, at least.
pub const FAULTS_MIN: Duration = Duration::from_secs(62);

/// One run, drawn from its seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: u64,
    pub(super) topics: Vec<TopicPlan>,
    pub(super) producers: Vec<ProducerPlan>,
    pub(super) consumers: Vec<ConsumerPlan>,
    /// Members of a group that reads the first topic.
    pub(super) members: Vec<MemberPlan>,
    /// Longest time that a packet takes, in milliseconds, when nothing is wrong.
    pub(super) latency_ms: u64,
    /// Metadata entries after which a snapshot is taken.
    pub(super) snapshot_entries: u64,
    /// How far every host goes before the next one goes on: the grain of the network.
    pub(super) tick_ms: u64,
    pub(super) faults_for: Duration,
    pub(super) episodes: Vec<Episode>,
}

/// A topic.
#[derive(Clone, Debug)]
pub(super) struct TopicPlan {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) replication: u32,
    pub(super) settings: Vec<(&'static str, String)>,
}

/// A producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProducerPlan {
    pub(super) topic: usize,
    /// Mean time between records, in milliseconds.
    pub(super) pause_ms: u64,
    /// Records under way at a time.
    pub(super) window: usize,
    pub(super) value_bytes: u64,
    pub(super) batch_bytes: usize,
    pub(super) requests_in_flight: usize,
    pub(super) compression: Compression,
    pub(super) delivery_timeout: Duration,
}

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConsumerPlan {
    pub(super) topic: usize,
    /// In so many of a hundred polls it goes elsewhere.
    pub(super) seek_percent: u64,
    /// After so many polls it is made anew.
    pub(super) polls: u64,
}

/// A member of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberPlan {
    /// It commits after so many records.
    pub(super) commit_every: u64,
    /// After so many records it leaves, or goes without a word.
    pub(super) lives: u64,
    pub(super) session: Duration,
}

/// A fault and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    /// Since the faults began.
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) kind: FaultKind,
}

impl Plan {
    /// What a seed stands for, with faults of these kinds only.
    pub(super) fn draw(seed: u64, kinds: &[FaultKind]) -> Self {
        let dice = Dice::new(seed, 1);
        let nodes = if dice.percent(20) { 5 } else { 3 };
        let topics = draw_topics(&dice, nodes);
        let producers = (0..dice.of(2..=4)).map(|_| draw_producer(&dice, topics.len())).collect();
        let consumers = (0..dice.of(2..=3)).map(|_| ConsumerPlan {
            topic: dice.place(topics.len()),
            seek_percent: dice.pick(&[0, 0, 1]),
            polls: dice.pick(&[100, 1_000, u64::MAX]),
        });
        let consumers = consumers.collect();
        let members = draw_members(&Dice::new(seed, 4));
        let faults_for = FAULTS_MIN + Duration::from_millis(dice.of(0..=12_000));
        let latency_ms = dice.of(1..=8);
        let snapshot_entries = dice.of(8..=40);
        let tick_ms = dice.pick(&[1, 2, 2, 4]);
        let episodes = draw_episodes(seed, kinds, faults_for);
        Self {
            seed,
            nodes,
            topics,
            producers,
            consumers,
            members,
            latency_ms,
            snapshot_entries,
            tick_ms,
            faults_for,
            episodes,
        }
    }

    /// The name of a node.
    pub(super) fn node_name(node: u64) -> String {
        format!("node{node}")
    }

    /// Where clients find the founders.
    pub(super) fn seeds(&self) -> Vec<String> {
        (1..=self.nodes).map(|node| format!("{}:7650", Self::node_name(node))).collect()
    }
}

fn draw_topics(dice: &Dice, nodes: u64) -> Vec<TopicPlan> {
    let count = dice.of(1..=2);
    let topics = (0..count).map(|number| {
        let mut settings = vec![
            ("max.message.bytes", "60000".to_owned()),
            ("segment.bytes", dice.pick(&[65_536, 131_072]).to_string()),
        ];
        if dice.percent(30) {
            settings.push(("retention.bytes", dice.of(100_000..=400_000).to_string()));
        }
        if dice.percent(10) {
            settings.push(("segment.ms", dice.of(3_000..=15_000).to_string()));
        }
        let replication = if nodes == 5 && dice.percent(50) { 5 } else { 3 };
        TopicPlan {
            name: format!("topic-{number}"),
            partitions: u32::try_from(dice.of(1..=4 / count)).unwrap_or(1),
            replication,
            settings,
        }
    });
    topics.collect()
}

/// Half of the runs have a group.
fn draw_members(dice: &Dice) -> Vec<MemberPlan> {
    let count = if dice.percent(50) { dice.of(2..=3) } else { 0 };
    let session = Duration::from_millis(dice.of(3_000..=9_000));
    let member = |_| MemberPlan {
        commit_every: dice.of(1..=40),
        lives: dice.pick(&[60, 300, u64::MAX]),
        session,
    };
    (0..count).map(member).collect()
}

fn draw_producer(dice: &Dice, topics: usize) -> ProducerPlan {
    ProducerPlan {
        topic: dice.place(topics),
        pause_ms: dice.of(20..=70),
        window: dice.pick(&[1, 8, 32, 100]),
        value_bytes: dice.pick(&[16, 100, 400, 1_000]),
        batch_bytes: dice.pick(&[500, 4_000, 50_000]),
        requests_in_flight: dice.pick(&[1, 2, 5, 5]),
        compression: dice.pick(&[
            Compression::None,
            Compression::None,
            Compression::Lz4,
            Compression::Zstd,
            Compression::Snappy,
            Compression::Gzip,
        ]),
        delivery_timeout: Duration::from_secs(dice.pick(&[4, 15, 40])),
    }
}

/// Faults one after the other and on top of each other, with quiet windows: every kind comes before
/// one comes again.
fn draw_episodes(seed: u64, kinds: &[FaultKind], faults_for: Duration) -> Vec<Episode> {
    let dice = Dice::new(seed, 2);
    let mut episodes = Vec::new();
    let mut menu = Vec::new();
    let mut at = Duration::from_millis(dice.of(500..=2_500));
    while at + Duration::from_secs(2) < faults_for && !kinds.is_empty() {
        if menu.is_empty() {
            menu = kinds.to_vec();
            dice.shuffle(&mut menu);
        }
        let Some(kind) = menu.pop() else { break };
        if is_once(kind) && episodes.iter().any(|done: &Episode| excludes(done.kind, kind)) {
            at += Duration::from_millis(dice.of(100..=500));
            continue;
        }
        let lasts = match dice.of(0..=9) {
            0..=3 => dice.of(200..=1_200),
            4..=7 => dice.of(1_200..=4_000),
            _ => dice.of(4_000..=9_000),
        };
        let lasts = Duration::from_millis(lasts);
        episodes.push(Episode { at, lasts, kind });
        at += match dice.of(0..=9) {
            // On top of this one.
            0..=3 => Duration::from_millis(dice.of(100..=1_500)),
            4..=7 => lasts + Duration::from_millis(dice.of(300..=2_000)),
            _ => lasts + Duration::from_millis(dice.of(2_000..=5_000)),
        };
    }
    episodes
}

/// A cluster grows by one node at most. Of the disks one at most loses what was durable: what is
/// acknowledged is kept while a majority of a partition's replicas keep theirs.
fn is_once(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Join | FaultKind::Wipe | FaultKind::BitFlip)
}

fn excludes(done: FaultKind, kind: FaultKind) -> bool {
    let loses = |kind| matches!(kind, FaultKind::Wipe | FaultKind::BitFlip);
    done == kind || (loses(done) && loses(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_a_long_and_mixed_plan() {
        for seed in 0..200 {
            let plan = Plan::draw(seed, &FaultKind::ALL);
            assert!(plan.faults_for >= FAULTS_MIN);
            let mut kinds: Vec<_> = plan.episodes.iter().map(|episode| episode.kind).collect();
            kinds.sort();
            kinds.dedup();
            assert!(kinds.len() >= 8, "seed {seed} has {} kinds", kinds.len());
            let of = |kind| plan.episodes.iter().filter(|one| one.kind == kind).count();
            assert!(of(FaultKind::Wipe) + of(FaultKind::BitFlip) <= 1);
            assert!(of(FaultKind::Join) <= 1);
            assert!(plan.topics.iter().map(|topic| topic.partitions).sum::<u32>() <= 4);
        }
    }

    #[test]
    fn kinds_can_be_left_out() {
        let plan = Plan::draw(3, &[FaultKind::Kill]);
        assert!(plan.episodes.iter().all(|episode| episode.kind == FaultKind::Kill));
        assert!(Plan::draw(3, &[]).episodes.is_empty());
    }
}
