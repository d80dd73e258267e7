//! What a round does, drawn from the seed and the round's number.

use std::fmt;
use std::str::FromStr;

use duramen_env::{CrashMode, Random as _, SeededRandom};

use super::PowercutOptions;

/// Whose power is cut, or whose disk misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// All nodes lose power.
    All,
    /// A majority loses power.
    Majority,
    /// One node loses power.
    One,
    /// The leader of a partition loses power.
    Leader,
    /// One disk lies about syncs for a while, then its node loses power.
    Liar,
    /// A sync of one disk fails.
    Failure,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Majority, Self::One, Self::Leader, Self::Liar, Self::Failure];

    /// Its name on the command line and among the figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Majority => "majority",
            Self::One => "one",
            Self::Leader => "leader",
            Self::Liar => "liar",
            Self::Failure => "failed_sync",
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| format!("it is one of {names}"))
    }
}

/// One round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strike {
    pub(super) target: Target,
    /// What the cut keeps of what was not synced.
    pub(super) mode: CrashMode,
    /// The first node that is struck, where the target leaves it open; of a majority, the others
    /// follow in the order of their numbers.
    pub(super) node: u64,
    /// The partition whose leader is struck, where that is the target.
    pub(super) partition: u32,
    /// Records of each partition that are acknowledged before.
    pub(super) calm: usize,
    /// Syncs that succeed before one fails, where that is the target.
    pub(super) syncs: u64,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}", self.target.name(), self.mode)
    }
}

/// Draws a round. Most cut the power of all nodes, unless only one kind is wanted.
pub(super) fn draw(options: &PowercutOptions, round: u64) -> Strike {
    let random = SeededRandom::new(seed_of(options.seed, round));
    let drawn = match random.below(100) {
        0..50 => Target::All,
        50..60 => Target::Majority,
        60..70 => Target::One,
        70..80 => Target::Leader,
        80..90 => Target::Liar,
        _ => Target::Failure,
    };
    let mode = match random.below(10) {
        0..4 => CrashMode::KeepRandom,
        4..7 => CrashMode::KeepNone,
        7..9 => CrashMode::KeepPrefix,
        _ => CrashMode::KeepAll,
    };
    let below = |bound: u64| random.below(bound);
    Strike {
        target: options.only.unwrap_or(drawn),
        mode,
        node: 1 + below(u64::from(options.nodes)),
        partition: u32::try_from(below(u64::from(super::PARTITIONS))).unwrap_or(0),
        calm: 10 + usize::try_from(below(90)).unwrap_or(0),
        syncs: below(50),
    }
}

/// A seed of a part, unlike those of the other parts.
pub(super) fn seed_of(seed: u64, part: u64) -> u64 {
    let random = SeededRandom::new(seed.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    random.next_u64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn fifty_rounds_draw_every_kind_and_the_same_again() {
        let options = PowercutOptions::new("duramen".into());
        let targets: BTreeSet<_> = (0..50).map(|round| draw(&options, round).target).collect();
        assert_eq!(targets.len(), Target::ALL.len());
        assert_eq!(draw(&options, 7), draw(&options, 7));
        let only = PowercutOptions { only: Some(Target::Liar), ..options };
        assert!((0..50).all(|round| draw(&only, round).target == Target::Liar));
    }
}
