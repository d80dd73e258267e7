//! Snappy, in the block stream of Java clients ("xerial") and as one raw block.
//!
//! ```text
//!  0        8          12             16            20
//!  +--------+----------+--------------+-------------+----------------+--- …
//!  | magic  | version  | compatible   | block bytes | raw block      | next block
//!  | 8      | u32 BE   | u32 BE       | u32 BE      | (block bytes)  |
//!  +--------+----------+--------------+-------------+----------------+--- …
//! ```

use std::io;

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::Failure;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Input bytes of one block: the default of snappy-java.
const BLOCK_BYTES: usize = 32 << 10;

/// No raw block grows more than this: its densest element makes 64 bytes of 3.
const EXPANSION_MAX: usize = 22;

/// Appends the block stream.
pub(super) fn compress(payload: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSION);
    let mut encoder = Encoder::new();
    for block in payload.chunks(BLOCK_BYTES) {
        let start = output.len();
        output.resize(start + 4 + max_compress_len(block.len()), 0);
        let (length, body) = output[start..].split_at_mut(4);
        let bytes = encoder.compress(block, body)?;
        length.copy_from_slice(&u32::try_from(bytes).map_err(io::Error::other)?.to_be_bytes());
        output.truncate(start + 4 + bytes);
    }
    Ok(())
}

/// Decompresses either form.
pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    let Some(rest) = payload.strip_prefix(&MAGIC) else {
        append_block(payload, limit, &mut output)?;
        return Ok(output);
    };
    let (_versions, mut rest) = rest.split_at_checked(VERSION.len()).ok_or(Failure::Malformed)?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or(Failure::Malformed)?;
        let length =
            usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Failure::Malformed)?;
        let (block, tail) = tail.split_at_checked(length).ok_or(Failure::Malformed)?;
        append_block(block, limit, &mut output)?;
        rest = tail;
    }
    Ok(output)
}

/// Appends one raw block, whose claimed length must be one that its bytes can make.
fn append_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), Failure> {
    let claimed = decompress_len(block).map_err(|_| Failure::Malformed)?;
    if claimed > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(Failure::Malformed);
    }
    let start = output.len();
    let end = start.checked_add(claimed).filter(|end| *end <= limit).ok_or(Failure::Limit)?;
    output.resize(end, 0);
    let written =
        Decoder::new().decompress(block, &mut output[start..]).map_err(|_| Failure::Malformed)?;
    if written == claimed { Ok(()) } else { Err(Failure::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_block_is_read_as_well() {
        let text = b"raw blocks come from librdkafka, raw blocks come from sarama".repeat(9);
        let raw = Encoder::new().compress_vec(&text).unwrap();
        assert!(matches!(decompress(&raw, 1 << 20), Ok(output) if output == text));
        assert!(matches!(decompress(&raw, 10), Err(Failure::Limit)));
    }

    #[test]
    fn a_claim_of_four_gigabytes_in_six_bytes_is_refused() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        assert!(matches!(decompress(&bytes, usize::MAX), Err(Failure::Malformed)));
    }
}
