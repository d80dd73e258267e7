//! Received bytes as they came, read as if they were one run.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use duramen_env::UNCOPIED_BYTES_MIN;

/// A queue of chunks. What lies within one chunk is taken out without a copy.
///
/// Small chunks that must wait are copied together: whoever sends a message byte by byte does not
/// make it cost many times its size. So pieces ≤ 2 + 2 · bytes / [`UNCOPIED_BYTES_MIN`].
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// None of them is empty.
    chunks: VecDeque<Bytes>,
    /// Small chunks behind the last one; empty if there is no other.
    tail: BytesMut,
    /// With those of the tail.
    bytes: usize,
}

impl Chunks {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.bytes += chunk.len();
        // Most often, what comes while nothing waits is whole messages.
        if chunk.len() >= UNCOPIED_BYTES_MIN || self.chunks.is_empty() {
            self.cut();
            self.chunks.push_back(chunk);
            return;
        }
        self.tail.extend_from_slice(&chunk);
        if self.tail.len() >= UNCOPIED_BYTES_MIN {
            self.cut();
        }
    }

    /// Makes the tail a chunk.
    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Goes on to the next chunk if all of the first is taken.
    fn drop_empty(&mut self) {
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
            if self.chunks.is_empty() {
                self.cut();
            }
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced beyond the end");
        self.bytes -= count;
        while let Some(front) = self.chunks.front_mut()
            && count > 0
        {
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            self.drop_empty();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.bytes, "took more than there is");
        if let Some(front) = self.chunks.front_mut()
            && front.len() >= len
        {
            let taken = front.split_to(len);
            self.bytes -= len;
            self.drop_empty();
            return taken;
        }
        let mut gathered = BytesMut::with_capacity(len);
        while gathered.len() < len {
            let part = self.chunk();
            let part = &part[..part.len().min(len - gathered.len())];
            let taken = part.len();
            gathered.extend_from_slice(part);
            self.advance(taken);
        }
        gathered.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static [u8]]) -> Chunks {
        let mut chunks = Chunks::default();
        for part in parts {
            chunks.push(Bytes::from_static(part));
        }
        chunks
    }

    #[test]
    fn chunks_read_as_one_run() {
        let mut chunks = chunks(&[b"ab", b"", b"cdef", b"g"]);
        assert_eq!(chunks.remaining(), 7);
        chunks.advance(1);
        assert_eq!(chunks.get_u16(), u16::from_be_bytes(*b"bc"));
        assert_eq!(&chunks.copy_to_bytes(4)[..], b"defg");
        assert!(!chunks.has_remaining());
        assert_eq!(chunks.chunk(), b"");
        assert_eq!(chunks.copy_to_bytes(0), Bytes::new());
    }

    #[test]
    fn small_chunks_are_gathered() {
        const BYTES: usize = 1 << 20;
        let mut chunks = Chunks::default();
        for byte in (0..=u8::MAX).cycle().take(BYTES) {
            chunks.push(Bytes::copy_from_slice(&[byte]));
        }
        let pieces = chunks.chunks.len();
        assert!(pieces <= 2 + BYTES / UNCOPIED_BYTES_MIN, "{pieces} pieces");
        assert!((0..=u8::MAX).cycle().take(BYTES).all(|byte| chunks.get_u8() == byte));
        assert_eq!(chunks.remaining(), 0);
    }

    #[test]
    fn large_chunks_are_kept_as_they_are_among_small_ones() {
        let large = Bytes::from(vec![5; UNCOPIED_BYTES_MIN]);
        let small = Bytes::from_static(b"small");
        let mut chunks = Chunks::default();
        for chunk in [&small, &small, &large, &small, &large, &small] {
            chunks.push(chunk.clone());
        }
        assert_eq!(&chunks.copy_to_bytes(10)[..], b"smallsmall");
        assert_eq!(chunks.copy_to_bytes(large.len()).as_ptr(), large.as_ptr(), "the same memory");
        assert_eq!(chunks.copy_to_bytes(small.len()), small);
        assert_eq!(chunks.copy_to_bytes(large.len()).as_ptr(), large.as_ptr(), "the same memory");
        assert_eq!(chunks.copy_to_bytes(small.len()), small);
        assert!(!chunks.has_remaining());
    }

    #[test]
    fn what_lies_in_one_chunk_is_not_copied() {
        let whole = Bytes::from(vec![5; 100]);
        let mut chunks = Chunks::default();
        chunks.push(whole.clone());
        chunks.advance(10);
        let taken = chunks.copy_to_bytes(50);
        assert_eq!(taken.as_ptr(), whole.slice(10..).as_ptr());
        assert_eq!(chunks.remaining(), 40);
    }
}
