//! Drawing from a seed: every part of a simulation has dice of its own, so that one that draws more
//! often changes nothing for the others.

use std::ops::RangeInclusive;

use duramen_env::{Random as _, SeededRandom};

/// Seeded dice.
pub(super) struct Dice {
    random: SeededRandom,
}

impl Dice {
    /// The dice of one part of one seed.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        // Neighboring seeds must not give neighboring generators.
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ part;
        Self { random: SeededRandom::new(mixed.wrapping_mul(0xd134_2543_de82_ef95)) }
    }

    /// A number of a range, ends included.
    pub(super) fn of(&self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.random.below(range.end() - range.start() + 1)
    }

    /// A place in a list of so many.
    pub(super) fn place(&self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.random.below(len)).unwrap_or(0)
    }

    /// One of a list that is not empty.
    pub(super) fn pick<T: Copy>(&self, list: &[T]) -> T {
        list[self.place(list.len())]
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub(super) fn percent(&self, chance: u64) -> bool {
        self.random.below(100) < chance
    }

    /// Puts a list into a drawn order.
    pub(super) fn shuffle<T>(&self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.place(at + 1));
        }
    }
}
