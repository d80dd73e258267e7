//! The bytes of one simulated file: sparse blocks, so that preallocated extents cost next to
//! nothing, with the accounting that a limited capacity needs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes at once: a torn write keeps or loses whole sectors.
pub(super) const SECTOR_BYTES: usize = 512;

/// What a file system allocates at once.
pub(super) const BLOCK_BYTES: usize = 4096;

type Block = [u8; BLOCK_BYTES];

/// A file's bytes. An absent block is a hole; a block without bytes is allocated and all zeros.
///
/// Invariant: no block holds anything but zeros at or beyond `len`, unless [`Content::put`] put
/// it there and the caller is about to set the length.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    /// Shared with images of the disk, and copied when one of them changes.
    blocks: BTreeMap<u64, Option<Arc<Block>>>,
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads up to the end of the file; returns the bytes read.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let available = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(available);
        for piece in pieces(position, wanted, BLOCK_BYTES) {
            let into = &mut buffer[piece.bytes.clone()];
            match self.blocks.get(&piece.unit) {
                Some(Some(block)) => {
                    into.copy_from_slice(&block[piece.within..][..piece.bytes.len()]);
                }
                Some(None) | None => into.fill(0),
            }
        }
        wanted
    }

    /// The whole content.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).expect("simulated files fit in memory")];
        self.read(&mut bytes, 0);
        bytes
    }

    /// One sector, zeros where the file has none.
    pub(super) fn sector(&self, sector: u64) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        self.read(&mut bytes, sector * SECTOR_BYTES as u64);
        bytes
    }

    /// Writes and grows the file if need be.
    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        if bytes.is_empty() {
            return;
        }
        self.put(bytes, position);
        self.len = self.len.max(position + bytes.len() as u64);
    }

    /// Writes without a change of the length.
    pub(super) fn put(&mut self, bytes: &[u8], position: u64) {
        for piece in pieces(position, bytes.len(), BLOCK_BYTES) {
            let block = self.blocks.entry(piece.unit).or_default();
            let block = Arc::make_mut(block.get_or_insert_with(|| Arc::new([0; BLOCK_BYTES])));
            let source = &bytes[piece.bytes.clone()];
            block[piece.within..][..source.len()].copy_from_slice(source);
        }
    }

    /// Cuts or extends; nothing beyond the new length survives.
    pub(super) fn set_len(&mut self, len: u64) {
        drop(self.blocks.split_off(&len.div_ceil(BLOCK_BYTES as u64)));
        let (last, within) = split(len, BLOCK_BYTES);
        if let Some(Some(block)) = self.blocks.get_mut(&last) {
            Arc::make_mut(block)[within..].fill(0);
        }
        self.len = len;
    }

    /// Allocates the blocks of a range and extends the file to its end.
    pub(super) fn allocate(&mut self, position: u64, len: u64) {
        for block in block_range(position, len) {
            self.blocks.entry(block).or_default();
        }
        self.len = self.len.max(position + len);
    }

    /// Bytes of the allocated blocks.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES as u64
    }

    /// Bytes that read differently in the other content; what either does not have reads as zero.
    pub(super) fn count_different(&self, other: &Self) -> u64 {
        const ZEROS: Block = [0; BLOCK_BYTES];
        let count = |mine: Option<&Block>, theirs: Option<&Block>| {
            let (mine, theirs) = (mine.unwrap_or(&ZEROS), theirs.unwrap_or(&ZEROS));
            if mine == theirs {
                return 0;
            }
            mine.iter().zip(theirs).filter(|(mine, theirs)| mine != theirs).count() as u64
        };
        let written = |(unit, block): (&u64, &Option<Arc<Block>>)| block.is_some().then_some(*unit);
        let mine = self.blocks.iter().filter_map(written);
        let different: u64 = mine.map(|unit| count(self.block(unit), other.block(unit))).sum();
        let theirs = other.blocks.iter().filter_map(written);
        let only_theirs = theirs.filter(|unit| self.block(*unit).is_none());
        different + only_theirs.map(|unit| count(None, other.block(unit))).sum::<u64>()
    }

    fn block(&self, unit: u64) -> Option<&Block> {
        self.blocks.get(&unit)?.as_deref()
    }

    /// How much of a range can be written when only so many new blocks can be allocated.
    pub(super) fn writable(&self, position: u64, len: u64, blocks_free: u64) -> u64 {
        let mut left = blocks_free;
        for block in block_range(position, len) {
            if self.blocks.contains_key(&block) {
                continue;
            }
            if left == 0 {
                return (block * BLOCK_BYTES as u64).saturating_sub(position);
            }
            left -= 1;
        }
        len
    }
}

fn block_range(position: u64, len: u64) -> Range<u64> {
    let unit = BLOCK_BYTES as u64;
    if len == 0 { 0..0 } else { position / unit..(position + len).div_ceil(unit) }
}

fn split(position: u64, unit: usize) -> (u64, usize) {
    let within = usize::try_from(position % unit as u64).expect("a remainder of a usize fits");
    (position / unit as u64, within)
}

/// The part of a byte range that lies in one block or sector.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The number of the block or sector.
    pub(super) unit: u64,
    /// Where in it the part begins.
    pub(super) within: usize,
    /// Which of the range's own bytes these are.
    pub(super) bytes: Range<usize>,
}

/// Splits `len` bytes at a position along the boundaries of blocks or sectors.
pub(super) fn pieces(position: u64, len: usize, unit: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let (number, within) = split(position + done as u64, unit);
        let end = len.min(done + unit - within);
        let piece = Piece { unit: number, within, bytes: done..end };
        done = end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cut_off_read_as_zeros_after_an_extension() {
        let mut content = Content::of(&[7; 5000]);
        content.set_len(10);
        content.set_len(5000);
        let bytes = content.to_vec();
        assert_eq!(&bytes[..10], &[7; 10]);
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn only_new_blocks_need_free_space() {
        let mut content = Content::default();
        content.allocate(0, 2 * BLOCK_BYTES as u64);
        assert_eq!(content.writable(0, 8192, 0), 8192);
        assert_eq!(content.writable(8000, 8192, 0), 192);
        assert_eq!(content.writable(8000, 8192, 1), 192 + 4096);
        assert_eq!(content.allocated_bytes(), 8192);
    }

    #[test]
    fn different_bytes_are_counted_where_one_content_has_none() {
        let (short, long) = (Content::of(&[7; 10]), Content::of(&[7; 5000]));
        assert_eq!(short.count_different(&long), 4990);
        assert_eq!(long.count_different(&short), 4990);
        assert_eq!(long.count_different(&long), 0);
        assert_eq!(Content::of(&[0; 9000]).count_different(&Content::default()), 0);
    }

    #[test]
    fn a_range_is_split_at_every_boundary() {
        let parts: Vec<_> = pieces(500, 600, 512).map(|p| (p.unit, p.within, p.bytes)).collect();
        assert_eq!(parts, [(0, 500, 0..12), (1, 0, 12..524), (2, 0, 524..600)]);
    }
}
