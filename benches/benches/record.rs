//! What batches cost: to build, to validate as a node does, to check as a client does, to walk; and
//! the checksums by themselves.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use duramen_env::{Random, SeededRandom};
use duramen_record::{Batch, BatchBuilder, Compression, RecordRef};
use duramen_types::Timestamp;

fn main() {
    divan::main();
}

/// Bytes of a record's value.
const SIZES: [usize; 3] = [100, 1 << 10, 16 << 10];
const BATCH_BYTES: usize = 1 << 20;

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SeededRandom::new(1).fill(&mut noise);
    noise
}

fn batch(size: usize, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(Compression::None, BATCH_BYTES);
    let timestamp = Timestamp::from_millis(1);
    while builder.size_bytes() + size + 32 <= BATCH_BYTES {
        let record = RecordRef { key: None, value: Some(value), timestamp };
        builder.append(record, std::iter::empty()).unwrap();
    }
    builder.finish(None).unwrap()
}

#[divan::bench(args = SIZES)]
fn build(bencher: Bencher<'_, '_>, size: usize) {
    let value = noise(size);
    bencher.counter(BytesCount::new(BATCH_BYTES)).bench(|| batch(size, &value));
}

/// What a client does with each batch that it fetches.
#[divan::bench(args = SIZES)]
fn verify(bencher: Bencher<'_, '_>, size: usize) {
    let batch = Batch::parse(batch(size, &noise(size))).unwrap();
    bencher.counter(BytesCount::new(BATCH_BYTES)).bench(|| batch.view().verify_checksum().unwrap());
}

/// What a node does with each batch that it is sent.
#[divan::bench(args = SIZES)]
fn validate(bencher: Bencher<'_, '_>, size: usize) {
    let batch = Batch::parse(batch(size, &noise(size))).unwrap();
    bencher
        .counter(ItemsCount::new(batch.header().record_count))
        .bench(|| batch.view().validate_produced().unwrap());
}

#[divan::bench]
fn crc32_of_a_frame(bencher: Bencher<'_, '_>) {
    let bytes = noise(64 << 10);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| crc32fast::hash(&bytes));
}

#[divan::bench]
fn crc32c_of_a_batch(bencher: Bencher<'_, '_>) {
    let bytes = noise(64 << 10);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| crc32c::crc32c(&bytes));
}
