//! Received bytes as they came, read as if they were one run.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// A queue of chunks. What lies within one chunk is taken out without a copy.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Chunks {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    fn drop_empty(&mut self) {
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
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
