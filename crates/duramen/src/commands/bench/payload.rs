//! Values of records that do not compress, the same for one seed.

use bytes::Bytes;
use duramen_env::{Random, SeededRandom};

/// Bytes of the pool: more than a compressor looks back over, so that values do not repeat for it.
const POOL_BYTES: usize = 8 << 20;

/// A pool of values that are given out in turn.
#[derive(Clone, Debug)]
pub(super) struct Payloads {
    pool: Bytes,
    size: usize,
    next: usize,
}

impl Payloads {
    /// Values of one size.
    pub(super) fn new(seed: u64, size: usize) -> Self {
        let mut pool = vec![0; POOL_BYTES.max(size)];
        SeededRandom::new(seed).fill(&mut pool);
        Self { pool: pool.into(), size, next: 0 }
    }

    /// The same values for the one of so many who give them out at a time; each begins elsewhere.
    pub(super) fn part(&self, number: usize, parts: usize) -> Self {
        let values = self.pool.len() / self.size.max(1);
        let next = values * number / parts.max(1) * self.size;
        Self { pool: self.pool.clone(), size: self.size, next }
    }

    /// The next value.
    pub(super) fn next(&mut self) -> Bytes {
        if self.next + self.size > self.pool.len() {
            self.next = 0;
        }
        let value = self.pool.slice(self.next..self.next + self.size);
        self.next += self.size;
        value
    }

    /// The next value, with a number in its first eight bytes.
    pub(super) fn next_numbered(&mut self, number: u64) -> Bytes {
        let mut value = self.next().to_vec();
        if let Some((head, _)) = value.split_first_chunk_mut() {
            *head = number.to_le_bytes();
        }
        value.into()
    }
}

/// The number in the first eight bytes of a value.
pub(super) fn number_of(value: &[u8]) -> Option<u64> {
    value.split_first_chunk().map(|(head, _)| u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_of_values() {
        let (mut one, mut other) = (Payloads::new(1, 1000), Payloads::new(1, 1000));
        let first = one.next();
        assert_eq!((first.len(), &first), (1000, &other.next()));
        assert_ne!(first, one.next());
        assert_ne!(first, Payloads::new(2, 1000).next());
        let mut parts: Vec<_> = (0..4).map(|number| one.part(number, 4).next()).collect();
        assert_eq!(parts[0], first);
        parts.sort();
        parts.dedup();
        assert_eq!(parts.len(), 4);
        let mut last = Payloads::new(1, 9 << 20).part(6, 7);
        assert_eq!(last.next(), last.next(), "there is room for one");
    }

    #[test]
    fn the_pool_begins_again_at_its_end() {
        let mut values = Payloads::new(1, 3 << 20);
        let first = values.next();
        values.next();
        assert_eq!(values.next(), first);
        assert_eq!(Payloads::new(1, 9 << 20).next().len(), 9 << 20);
    }

    #[test]
    fn a_number_is_read_back() {
        let value = Payloads::new(1, 8).next_numbered(77);
        assert_eq!((value.len(), number_of(&value)), (8, Some(77)));
        assert_eq!(number_of(b"short"), None);
    }
}
