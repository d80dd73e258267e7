//! Makes the checksums of damaged files right, so that the fuzzer gets behind them.

use std::ops::Range;

use super::directory::pieces;
use crate::format::frame::{
    FRAME_ALIGN, FRAME_MAGIC, chain_after, decode_canonical, encode_canonical,
};
use crate::format::index;
use crate::format::meta::SLOT_BYTES;
use crate::format::segment::SEGMENT_HEAD_BYTES;
use crate::format::start::START_HEAD_BYTES;
use crate::limits::{CANONICAL_HEADER_BYTES, FRAME_OVERHEAD_BYTES};

const ENVELOPE_BYTES: usize = FRAME_OVERHEAD_BYTES - CANONICAL_HEADER_BYTES;

/// Puts the CRC-32 of two ranges at a place, if all of them are there.
fn put_crc(bytes: &mut [u8], hashed: Range<usize>, more: Range<usize>, place: usize) {
    let mut hasher = crc32fast::Hasher::new();
    for range in [hashed, more] {
        let Some(part) = bytes.get(range) else { return };
        hasher.update(part);
    }
    if let Some(crc) = bytes.get_mut(place..place + 4) {
        crc.copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

pub(super) fn meta(bytes: &mut [u8]) {
    for slot in bytes.chunks_mut(SLOT_BYTES) {
        // A slot that was never written stays so.
        if slot.iter().any(|byte| *byte != 0) {
            put_crc(slot, 0..SLOT_BYTES - 4, 0..0, SLOT_BYTES - 4);
        }
    }
}

pub(super) fn start(bytes: &mut [u8]) {
    let len = bytes.len();
    put_crc(bytes, 0..START_HEAD_BYTES - 4, START_HEAD_BYTES..len, START_HEAD_BYTES - 4);
}

pub(super) fn segment_head(bytes: &mut [u8]) {
    put_crc(bytes, 0..SEGMENT_HEAD_BYTES - 4, 0..0, SEGMENT_HEAD_BYTES - 4);
}

pub(super) fn index(bytes: &mut [u8]) {
    let Some(head) = index::head_bytes(bytes).and_then(|len| usize::try_from(len).ok()) else {
        return;
    };
    let len = bytes.len();
    if head <= len {
        put_crc(bytes, head..len, 0..0, 152);
        put_crc(bytes, 0..156, index::INDEX_HEAD_BYTES..head, 156);
    }
}

pub(super) fn frame(bytes: &mut [u8]) {
    seal_frame(bytes, None);
}

/// Makes the head of the frame at the front right; with a previous chain hash also its own, and
/// the checksum of its payload.
fn seal_frame(bytes: &mut [u8], previous: Option<u64>) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk_mut::<FRAME_OVERHEAD_BYTES>()?;
    let (_, canonical) = head.split_last_chunk_mut::<CANONICAL_HEADER_BYTES>()?;
    let mut chain = None;
    if let (Ok(mut header), Some(previous)) = (decode_canonical(canonical), previous) {
        if let Some(payload) = rest.get(..header.payload_len as usize) {
            header.payload_crc = crc32fast::hash(payload);
        }
        header.chain = chain_after(previous, &header);
        *canonical = encode_canonical(&header);
        chain = Some(header.chain);
    }
    put_crc(bytes, 0..40, 44..FRAME_OVERHEAD_BYTES, ENVELOPE_BYTES - 8);
    chain
}

pub(super) fn segment(bytes: &mut [u8]) {
    segment_head(bytes);
    let mut chain = bytes
        .get(56..64)
        .and_then(|chain| chain.first_chunk::<8>())
        .map_or(0, |chain| u64::from_le_bytes(*chain));
    let align = usize::try_from(FRAME_ALIGN).unwrap_or(8);
    for at in (SEGMENT_HEAD_BYTES..bytes.len()).step_by(align) {
        let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.starts_with(&FRAME_MAGIC)) else {
            continue;
        };
        chain = seal_frame(rest, Some(chain)).unwrap_or(chain);
    }
}

/// Every file of a directory by its kind.
pub(super) fn directory(bytes: &mut [u8]) {
    let files: Vec<(String, Range<usize>)> = pieces(bytes).collect();
    for (name, range) in files {
        let Some(file) = bytes.get_mut(range) else { continue };
        match name.rsplit_once('.').map_or(name.as_str(), |(_, extension)| extension) {
            "meta" => meta(file),
            "log-start" => start(file),
            "log" => segment(file),
            "index" => index(file),
            _ => {}
        }
    }
}
