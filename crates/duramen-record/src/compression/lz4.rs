//! LZ4 in its frame format, exactly one frame a payload.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::Failure;

/// First bytes of a frame. Skippable and legacy frames are not batches.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Appends one frame of independent 64 KiB blocks, which is what Java clients write and all read.
pub(super) fn compress(payload: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder.write_all(payload)?;
    encoder.finish().map(drop).map_err(io::Error::from)
}

/// Decompresses one frame. Besides the output it takes memory for one block, 8 MiB at most.
pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    if !payload.starts_with(&MAGIC) {
        return Err(Failure::Malformed);
    }
    let mut decoder = FrameDecoder::new(payload);
    let mut output = Vec::new();
    (&mut decoder).take((limit as u64).saturating_add(1)).read_to_end(&mut output)?;
    if output.len() > limit {
        return Err(Failure::Limit);
    }
    if decoder.get_ref().is_empty() { Ok(output) } else { Err(Failure::Malformed) }
}
