//! Repairs batches, so that the fuzzer gets behind their checksums.

use crate::{BatchHeader, format};

/// Makes the checksums of batches right that lie back to back.
pub fn seal_batches(mut bytes: &mut [u8]) {
    while let Ok(header) = BatchHeader::parse(bytes) {
        let (batch, rest) = bytes.split_at_mut(header.size_bytes);
        let crc = format::checksum(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes = rest;
    }
}
