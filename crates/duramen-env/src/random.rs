//! Randomness: the machine's, or a seeded generator.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand::{RngCore, SeedableRng, TryRngCore};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Source of randomness.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills the buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number below `bound`; zero if `bound` is zero.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }
}

/// The operating system's generator.
#[derive(Debug)]
pub struct RealRandom;

impl Random for RealRandom {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(buffer).expect("the operating system gives random bytes");
    }
}

/// A generator that repeats itself for the same seed.
#[derive(Debug)]
pub struct SeededRandom {
    generator: Mutex<Xoshiro256PlusPlus>,
}

impl SeededRandom {
    /// A generator for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { generator: Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed)) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
        let draw = |r: &SeededRandom| (0..8).map(|_| r.next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(&a), draw(&b));
        assert_ne!(draw(&a), draw(&SeededRandom::new(8)));
    }
}
