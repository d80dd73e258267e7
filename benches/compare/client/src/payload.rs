//! Values of records that do not compress.

use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// Bytes of the pool: more than a compressor looks back over, so that values do not repeat for it.
const POOL_BYTES: usize = 8 << 20;

/// A pool of values that are given out in turn.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    pool: bytes::Bytes,
    size: usize,
    next: usize,
}

impl Payloads {
    /// Values of one size.
    pub(crate) fn new(size: usize) -> Self {
        let mut pool = vec![0; POOL_BYTES.max(size)];
        SmallRng::seed_from_u64(1).fill_bytes(&mut pool);
        Self { pool: pool.into(), size, next: 0 }
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> bytes::Bytes {
        if self.next + self.size > self.pool.len() {
            self.next = 0;
        }
        let value = self.pool.slice(self.next..self.next + self.size);
        self.next += self.size;
        value
    }

    /// The next value, with a number in its first eight bytes.
    pub(crate) fn next_numbered(&mut self, number: u64) -> bytes::Bytes {
        let mut value = self.next().to_vec();
        if let Some((head, _)) = value.split_first_chunk_mut() {
            *head = number.to_le_bytes();
        }
        value.into()
    }
}

/// The number in the first eight bytes of a value.
pub(crate) fn number_of(value: &[u8]) -> Option<u64> {
    value.split_first_chunk().map(|(head, _)| u64::from_le_bytes(*head))
}
