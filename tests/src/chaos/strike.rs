//! How each nemesis strikes, and how it lets go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use duramen_env::{CrashMode, Random, SeededRandom};

use super::{Arena, Link, Nemesis, NodeDisk};
use crate::processes::{Node, Outcome, eventually, flip_bit, segments};

/// A node whose links are slow is still a part of the cluster: a multiple of a heartbeat at most.
const SLOW_MS_MAX: u64 = 200;

/// A strike under way.
#[derive(Debug)]
pub struct Blow {
    /// The nodes hit.
    pub targets: BTreeSet<u64>,
    /// Whether one of them led a partition.
    pub hit_leader: bool,
    /// How long it lasts.
    pub hold: Duration,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    Start,
    Thaw,
    Open,
    Empty,
    /// Switch the power on, and start.
    Power,
    /// Start; what was there is gone or damaged, if it could be.
    Replace {
        felt: bool,
    },
    /// It is over already.
    Nothing,
}

/// Draws whom to hit, and how.
struct Draw<'a> {
    random: &'a SeededRandom,
    nodes: Vec<u64>,
    leaders: BTreeMap<u32, u64>,
}

impl Draw<'_> {
    fn one_of(&self, all: &[u64]) -> u64 {
        let count = u64::try_from(all.len()).unwrap_or(0);
        let place = usize::try_from(self.random.below(count)).unwrap_or(0);
        all.get(place).copied().unwrap_or(1)
    }

    fn leader(&self) -> u64 {
        self.one_of(&self.leaders.values().copied().collect::<Vec<_>>())
    }

    fn some(&self, count: usize) -> BTreeSet<u64> {
        let mut left = self.nodes.clone();
        let mut drawn = BTreeSet::new();
        while drawn.len() < count && !left.is_empty() {
            let next = self.one_of(&left);
            left.retain(|node| *node != next);
            drawn.insert(next);
        }
        drawn
    }

    fn between(&self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.random.below(to_ms - from_ms))
    }

    /// A leader as often as not.
    fn one_or_leader(&self) -> u64 {
        if self.random.below(2) == 0 { self.leader() } else { self.one_of(&self.nodes) }
    }
}

/// Lets a nemesis strike; what lasts goes on until [`Blow::lift`].
///
/// # Errors
/// It could not.
pub async fn strike(
    arena: &mut Arena,
    nemesis: Nemesis,
    leaders: BTreeMap<u32, u64>,
    random: &SeededRandom,
) -> Outcome<Blow> {
    let draw = Draw { random, nodes: arena.ids(), leaders };
    let (minority, count) = (arena.minority(), draw.nodes.len());
    let majority = count - minority;
    let (targets, hold) = match nemesis {
        Nemesis::KillOne => (draw.some(1), draw.between(100, 1_000)),
        Nemesis::KillLeader => ([draw.leader()].into(), draw.between(100, 1_500)),
        Nemesis::KillMajority => (draw.some(majority), draw.between(100, 1_000)),
        Nemesis::KillAll => (draw.some(count), draw.between(0, 200)),
        // Elections take 500 to 800 ms: one strike in four is over before.
        Nemesis::PauseLeader if random.below(4) == 0 => {
            ([draw.leader()].into(), draw.between(100, 400))
        }
        Nemesis::PauseLeader => ([draw.leader()].into(), draw.between(1_000, 3_000)),
        Nemesis::PauseMinority => (draw.some(minority), draw.between(300, 2_000)),
        Nemesis::PauseMajority => (draw.some(majority), draw.between(300, 2_000)),
        Nemesis::CutMinority => (draw.some(minority), draw.between(500, 2_500)),
        Nemesis::CutLeader => ([draw.leader()].into(), draw.between(1_000, 3_000)),
        Nemesis::CutRing | Nemesis::SlowLinks => (draw.some(count), draw.between(1_000, 2_000)),
        Nemesis::CutOneWay => ([draw.one_or_leader()].into(), draw.between(1_000, 3_000)),
        Nemesis::RollingRestart => (draw.some(count), Duration::ZERO),
        Nemesis::DiskFull => {
            let disks: Vec<_> = arena.disks.keys().copied().collect();
            ([draw.one_of(&disks)].into(), draw.between(1_000, 2_500))
        }
        Nemesis::Wipe | Nemesis::BitFlip => {
            let drawn = draw.one_or_leader();
            // Damage that nobody has met yet counts: with another node's it may be a majority.
            ([arena.unsound().unwrap_or(drawn)].into(), draw.between(0, 500))
        }
        Nemesis::PowerCut => {
            let count = 1 + usize::try_from(random.below(2)).unwrap_or(0) * minority;
            (draw.some(count), draw.between(100, 1_000))
        }
        Nemesis::PowerCutAll => (draw.some(count), draw.between(0, 200)),
    };
    let undo = begin(arena, nemesis, &targets, &draw).await?;
    let hit_leader = draw.leaders.values().any(|leader| targets.contains(leader));
    Ok(Blow { targets, hit_leader, hold, undo })
}

/// Silences the links from some nodes to the others, or those from the others to them.
fn cut_one_way(arena: &mut Arena, targets: &BTreeSet<u64>, draw: &Draw<'_>) {
    let is_deaf = draw.random.below(2) == 0;
    for (target, other) in across(arena, targets) {
        let (from, to) = if is_deaf { (other, target) } else { (target, other) };
        arena.links.set(from, to, Link::Silent);
    }
}

/// Delays every link by a time of its own.
fn slow_down(arena: &mut Arena, draw: &Draw<'_>) {
    for (from, to) in draw.nodes.iter().flat_map(|a| draw.nodes.iter().map(|b| (*a, *b))) {
        let by = Duration::from_millis(draw.random.below(SLOW_MS_MAX));
        arena.links.set(from, to, Link::Slow(by));
    }
}

/// Lets a nemesis strike.
async fn begin(
    arena: &mut Arena,
    nemesis: Nemesis,
    targets: &BTreeSet<u64>,
    draw: &Draw<'_>,
) -> Outcome<Undo> {
    match nemesis {
        Nemesis::KillOne | Nemesis::KillLeader | Nemesis::KillMajority | Nemesis::KillAll => {
            arena.kill(targets).await?;
            Ok(Undo::Start)
        }
        Nemesis::PauseLeader | Nemesis::PauseMinority | Nemesis::PauseMajority => {
            arena.freeze(targets)?;
            Ok(Undo::Thaw)
        }
        Nemesis::CutMinority | Nemesis::CutLeader => {
            let link = if nemesis == Nemesis::CutLeader { Link::Silent } else { Link::Refused };
            isolate(arena, targets, link);
            Ok(Undo::Open)
        }
        Nemesis::CutRing => {
            ring(arena, draw);
            Ok(Undo::Open)
        }
        Nemesis::CutOneWay => {
            cut_one_way(arena, targets, draw);
            Ok(Undo::Open)
        }
        Nemesis::SlowLinks => {
            slow_down(arena, draw);
            Ok(Undo::Open)
        }
        Nemesis::RollingRestart => {
            for id in draw.nodes.clone() {
                restart(arena, id).await?;
            }
            Ok(Undo::Nothing)
        }
        Nemesis::DiskFull => {
            // A replica that gets no space is closed and opened again, as by another process.
            targets.iter().for_each(|id| arena.doubt(*id));
            for disk in targets.iter().filter_map(|id| arena.disks.get(id)) {
                disk.fill()?;
            }
            Ok(Undo::Empty)
        }
        Nemesis::Wipe => {
            arena.kill(targets).await?;
            for id in targets {
                arena.doubt(*id);
                wipe(&arena.cluster.node(*id).dir)?;
            }
            Ok(Undo::Replace { felt: true })
        }
        Nemesis::BitFlip => flip_bits(arena, targets, draw).await,
        Nemesis::PowerCut | Nemesis::PowerCutAll => {
            let modes = CrashMode::ALL;
            let drawn = usize::try_from(draw.random.below(4)).unwrap_or(0);
            let mode = modes.get(drawn).copied().unwrap_or(CrashMode::KeepNone);
            arena.cut_power(targets, mode).await?;
            Ok(Undo::Power)
        }
    }
}

/// Pairs of a node that is hit and one that is not.
fn across(arena: &Arena, targets: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let others: Vec<_> = arena.ids().into_iter().filter(|id| !targets.contains(id)).collect();
    let pair = |target: &u64| others.iter().map(|other| (*target, *other)).collect::<Vec<_>>();
    targets.iter().flat_map(pair).collect()
}

/// Parts nodes from all others.
fn isolate(arena: &Arena, targets: &BTreeSet<u64>, link: Link) {
    for (target, other) in across(arena, targets) {
        arena.links.set_both(target, other, link);
    }
}

/// Each node keeps its two neighbors only; of three or four nodes that would be nothing cut, or
/// too much, so one leader and its neighbor part instead.
fn ring(arena: &Arena, draw: &Draw<'_>) {
    let nodes = &draw.nodes;
    let count = nodes.len();
    if count < 5 {
        let leader = draw.leader();
        let others: Vec<_> = nodes.iter().copied().filter(|id| *id != leader).collect();
        arena.links.set_both(leader, draw.one_of(&others), Link::Silent);
        return;
    }
    for (place, node) in nodes.iter().enumerate() {
        for (other_place, other) in nodes.iter().enumerate() {
            let apart = (place + count - other_place) % count;
            if apart > 1 && apart < count - 1 {
                arena.links.set(*node, *other, Link::Refused);
            }
        }
    }
}

/// Removes all that a directory holds; it may be a mount point, and stays.
fn wipe(dir: &Path) -> Outcome {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Stops nodes, and flips a bit of each of their replicas that has a sealed segment.
async fn flip_bits(arena: &mut Arena, targets: &BTreeSet<u64>, draw: &Draw<'_>) -> Outcome<Undo> {
    let mut flipped = 0;
    for id in targets {
        has_sealed(arena.cluster.node(*id)).await?;
        arena.terminate(*id).await?;
        for replica in arena.cluster.node(*id).replica_dirs()? {
            if flip(&replica, draw)? {
                flipped += 1;
                arena.damaged(*id, replica);
            }
        }
    }
    Ok(Undo::Replace { felt: flipped > 0 })
}

/// Waits until a replica of this node has a sealed segment.
async fn has_sealed(node: &Node) -> Outcome {
    eventually("a segment is sealed", async || {
        for replica in node.replica_dirs()? {
            if !sealed(&replica)?.is_empty() {
                return Ok(());
            }
        }
        Err(format!("none on node {}", node.id).into())
    })
    .await
}

/// Segments to which nothing is appended any more.
fn sealed(replica: &Path) -> Outcome<Vec<PathBuf>> {
    let mut segments = segments(replica)?;
    segments.pop();
    Ok(segments)
}

/// Flips a bit somewhere in what is written of a sealed segment; says whether there is one.
fn flip(replica: &Path, draw: &Draw<'_>) -> Outcome<bool> {
    let sealed = sealed(replica)?;
    let place = draw.random.below(u64::try_from(sealed.len())?);
    let Some(segment) = sealed.get(usize::try_from(place)?) else { return Ok(false) };
    let bytes = std::fs::read(segment)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    flip_bit(segment, draw.random.below(u64::try_from(written)?))?;
    Ok(true)
}

async fn restart(arena: &mut Arena, id: u64) -> Outcome {
    arena.terminate(id).await?;
    arena.start_nodes(&[id].into())?;
    arena.cluster.node(id).wait_ready().await
}

impl Blow {
    /// Lets go. Says whether the strike was felt.
    ///
    /// # Errors
    /// What was stopped does not start, or a file cannot be removed.
    pub async fn lift(&self, arena: &mut Arena) -> Outcome<bool> {
        match self.undo {
            Undo::Start => {
                arena.start_nodes(&self.targets)?;
                Ok(true)
            }
            Undo::Thaw => {
                let felt = self.targets.iter().all(|id| is_stopped(arena, *id));
                arena.thaw(&self.targets)?;
                Ok(felt)
            }
            Undo::Open => Ok(arena.links.open_all() > 0),
            Undo::Empty => {
                let mut felt = false;
                for disk in self.targets.iter().filter_map(|id| arena.disks.get(id)) {
                    felt |= disk.free_bytes()? == 0;
                    disk.empty()?;
                }
                Ok(felt)
            }
            Undo::Power => {
                let mut disks = self.targets.iter().filter_map(|id| arena.disks.get(id));
                let felt = disks.any(NodeDisk::has_lost);
                arena.power_on(&self.targets)?;
                arena.start_nodes(&self.targets)?;
                Ok(felt)
            }
            Undo::Replace { felt } => {
                arena.start_nodes(&self.targets)?;
                Ok(felt)
            }
            Undo::Nothing => Ok(true),
        }
    }

    /// Waits until the nodes that were hit serve again.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settle(&self, arena: &mut Arena) -> Outcome {
        for id in &self.targets {
            let node = arena.cluster.node(*id);
            if let Some(status) = node.has_died()? {
                return Err(format!("node {id} ended by itself: {status}").into());
            }
            node.wait_ready().await?;
        }
        arena.wait_voters().await
    }
}

/// Whether a process stands still.
fn is_stopped(arena: &mut Arena, id: u64) -> bool {
    let Ok(pid) = arena.cluster.node(id).pid() else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which is in parentheses.
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}
