//! Byte layouts of everything the log puts on disk; all integers are little-endian.
//!
//! Nothing outside of these modules knows where a field lies. Decoders are total: they take any
//! bytes and answer a value or a typed fault. `docs/format/log.md` draws the layouts and lists
//! what is assumed of disks.

pub(crate) mod frame;
pub(crate) mod index;
pub(crate) mod meta;
pub(crate) mod segment;
pub(crate) mod start;

/// Takes fields from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    /// The next `N` bytes, or `None` where the slice ends before.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

/// Puts fields one after the other into an array of known length.
#[derive(Debug)]
pub(crate) struct Output<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Output<N> {
    /// All zeros, to be filled from the front.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    /// Puts a field; what does not fit is a mistake in a layout, which its golden test shows.
    pub(crate) fn put<const M: usize>(&mut self, field: [u8; M]) -> &mut Self {
        self.bytes[self.at..self.at + M].copy_from_slice(&field);
        self.at += M;
        self
    }

    /// The bytes put so far.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    /// The whole array.
    pub(crate) const fn finish(self) -> [u8; N] {
        self.bytes
    }
}
