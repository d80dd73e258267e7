//! Bytes that are written piece by piece and sent without gathering them.

use std::collections::VecDeque;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// From this size on, [`Bytes`] that are put are kept as a piece of their own. Below, a copy costs
/// less than one more piece on its way.
pub const UNCOPIED_BYTES_MIN: usize = 4 << 10;

/// A buffer to encode messages into: small parts are copied together, large [`Bytes`] are kept as
/// they are. The pieces, in order, are what was put.
#[derive(Debug, Default)]
pub struct Rope {
    pieces: VecDeque<Bytes>,
    /// What was put behind the last piece.
    tail: BytesMut,
    bytes: usize,
}

impl Rope {
    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes + self.tail.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first piece out.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.cut();
        }
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.push(self.tail.len());
        }
    }

    fn push(&mut self, len: usize) {
        let piece = self.tail.split_to(len).freeze();
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }
}

#[expect(
    unsafe_code,
    reason = "the trait is unsafe to implement; nothing here is unsafe of itself"
)]
// SAFETY: everything that touches memory is `BytesMut`'s own, which upholds the trait's contract.
unsafe impl BufMut for Rope {
    fn remaining_mut(&self) -> usize {
        self.tail.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller has initialized that many bytes of `chunk_mut`, which is the tail's.
        unsafe { self.tail.advance_mut(count) };
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.tail.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T) {
        let len = source.remaining();
        if len < UNCOPIED_BYTES_MIN {
            return self.tail.put(source);
        }
        self.cut();
        // Of `Bytes` this is no copy.
        let piece = source.copy_to_bytes(len);
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    fn put_slice(&mut self, source: &[u8]) {
        self.tail.extend_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_what_was_put_and_large_bytes_are_not_copied() {
        let large = Bytes::from(vec![7; UNCOPIED_BYTES_MIN]);
        let small = Bytes::from_static(b"small");
        let mut rope = Rope::default();
        rope.put_u8(1);
        rope.put(small.clone());
        rope.put(large.clone());
        rope.put_slice(b"after");
        rope.put_u32(2);
        assert_eq!(rope.len(), 1 + small.len() + large.len() + 5 + 4);
        let first = rope.pop().unwrap();
        assert_eq!(&first[..], b"\x01small");
        let second = rope.pop().unwrap();
        assert_eq!(second.as_ptr(), large.as_ptr(), "the same memory");
        assert_eq!(second, large);
        assert_eq!(&rope.pop().unwrap()[..], b"after\0\0\0\x02");
        assert!(rope.is_empty());
        assert_eq!(rope.pop(), None);
    }

    #[test]
    fn large_bytes_one_after_the_other_stay_in_order() {
        let (a, b) = (vec![1; UNCOPIED_BYTES_MIN], vec![2; UNCOPIED_BYTES_MIN + 1]);
        let mut rope = Rope::default();
        rope.put(Bytes::from(a.clone()));
        rope.put(Bytes::from(b.clone()));
        assert_eq!(rope.pop().unwrap(), a);
        assert_eq!(rope.len(), b.len());
        assert_eq!(rope.pop().unwrap(), b);
    }
}
