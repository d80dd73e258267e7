//! The simulated disk's own generator: one seed decides what every crash loses.

use rand::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A seeded generator.
#[derive(Clone, Debug)]
pub(super) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number in `0..=most`.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        let drawn = self.0.next_u64() % (most as u64).saturating_add(1);
        usize::try_from(drawn).expect("at most `most`, which is a usize")
    }
}
