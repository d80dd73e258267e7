//! The kinds of fault, and how often each really took effect.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A minority of the nodes is cut off from the others.
    CutMinority,
    /// The leader of a partition is cut off from the other nodes, but not from clients.
    CutLeader,
    /// Every node sees a majority, and no two the same one.
    CutRing,
    /// What one node sends is lost, what others send to it arrives; or the other way around.
    CutOneWay,
    /// Everything between a node and the others waits, and arrives later.
    Hold,
    /// Everything to and from a node takes long.
    Latency,
    /// Packets to and from a node are lost now and then; that breaks connections here.
    Loss,
    /// A process is killed and started again.
    Kill,
    /// All processes are killed at once and started again.
    KillAll,
    /// One node loses power.
    PowerOne,
    /// A leader that has just acknowledged loses power.
    PowerLeader,
    /// A node loses power in the middle of what it does with its disk.
    PowerWrite,
    /// A majority loses power at once.
    PowerMajority,
    /// All nodes lose power at once.
    PowerAll,
    /// A sync fails, and later ones pretend that it had not.
    SyncError,
    /// The disk is full.
    DiskFull,
    /// Syncs take seconds.
    SlowDisk,
    /// A wall clock is wrong by up to an hour.
    Clock,
    /// The leader of a partition is asked to hand over to another replica.
    Transfer,
    /// A replica is moved to a node that has none of its partition.
    Move,
    /// A new node joins; at most one.
    Join,
    /// A node loses its disk and comes back with an empty one; at most one loss of data in a run.
    Wipe,
    /// A bit of what one replica had made durable flips; at most one loss of data in a run.
    BitFlip,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::CutMinority,
        Self::CutLeader,
        Self::CutRing,
        Self::CutOneWay,
        Self::Hold,
        Self::Latency,
        Self::Loss,
        Self::Kill,
        Self::KillAll,
        Self::PowerOne,
        Self::PowerLeader,
        Self::PowerWrite,
        Self::PowerMajority,
        Self::PowerAll,
        Self::SyncError,
        Self::DiskFull,
        Self::SlowDisk,
        Self::Clock,
        Self::Transfer,
        Self::Move,
        Self::Join,
        Self::Wipe,
        Self::BitFlip,
    ];

    /// The name on command lines and in figures: `power-all`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutMinority => "cut-minority",
            Self::CutLeader => "cut-leader",
            Self::CutRing => "cut-ring",
            Self::CutOneWay => "cut-one-way",
            Self::Hold => "hold",
            Self::Latency => "latency",
            Self::Loss => "loss",
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::PowerOne => "power-one",
            Self::PowerLeader => "power-leader",
            Self::PowerWrite => "power-write",
            Self::PowerMajority => "power-majority",
            Self::PowerAll => "power-all",
            Self::SyncError => "sync-error",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::Clock => "clock",
            Self::Transfer => "transfer",
            Self::Move => "move",
            Self::Join => "join",
            Self::Wipe => "wipe",
            Self::BitFlip => "bit-flip",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How often a kind took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How often.
    pub effective: u64,
    /// How often it hit the leader of a partition.
    pub on_leader: u64,
}

/// What took effect in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<FaultKind, Count>,
}

impl Tally {
    /// Notes that a fault took effect.
    pub(super) fn count(&mut self, kind: FaultKind, on_leader: bool) {
        let count = self.counts.entry(kind).or_default();
        count.effective += 1;
        count.on_leader += u64::from(on_leader);
    }

    /// How often a kind took effect.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> Count {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// How many kinds took effect.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.counts.len()
    }

    /// Adds what took effect in another run.
    pub fn add(&mut self, other: &Self) {
        for (kind, more) in &other.counts {
            let count = self.counts.entry(*kind).or_default();
            count.effective += more.effective;
            count.on_leader += more.on_leader;
        }
    }

    /// As JSON: `{"kill": [3, 1]}`, how often and how often a leader.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let count = |(kind, count): (&FaultKind, &Count)| {
            (kind.name().to_owned(), json!([count.effective, count.on_leader]))
        };
        Value::Object(self.counts.iter().map(count).collect())
    }

    /// Reads what [`Tally::to_json`] wrote; anything else counts as nothing.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let fields = value.as_object().into_iter().flatten();
        let counts = fields.filter_map(|(name, count)| {
            let number = |at: usize| count.get(at).and_then(Value::as_u64);
            let count = Count { effective: number(0)?, on_leader: number(1)? };
            Some((FaultKind::parse(name)?, count))
        });
        Self { counts: counts.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tallies_are_read_back() {
        let mut tally = Tally::default();
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::parse(kind.name()), Some(kind));
            tally.count(kind, kind == FaultKind::Kill);
        }
        assert_eq!(Tally::from_json(&tally.to_json()), tally);
        tally.add(&tally.clone());
        assert_eq!(tally.of(FaultKind::Kill), Count { effective: 2, on_leader: 2 });
        assert_eq!(tally.kinds(), FaultKind::ALL.len());
    }
}
