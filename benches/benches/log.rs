//! What one replica's log costs: append, sync, read from memory, from the active segment and from
//! mapped ones, find an offset. On the file system of the temporary directory.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use duramen_env::{Disk, Random, RealDisk, SeededRandom};
use duramen_log::{FrameKind, Log, LogIdentity, LogOptions, NewFrame};
use duramen_types::{ClusterId, LogIndex, NodeId, Offset, ReplicaId, Term, Timestamp};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [1 << 10, 64 << 10, 1 << 20];

struct World {
    log: Arc<Log>,
    next: u64,
    payload: Bytes,
    _dir: TempDir,
}

impl World {
    fn new(payload_bytes: usize, options: LogOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
        let replica = ReplicaId::new(1);
        let identity = LogIdentity { cluster: ClusterId::from_bytes([1; 16]), replica };
        let log = Log::create(&disk, &random, &dir.path().join("log"), identity, options).unwrap();
        let mut payload = vec![0; payload_bytes];
        SeededRandom::new(2).fill(&mut payload);
        Self { log, next: 0, payload: payload.into(), _dir: dir }
    }

    fn append(&mut self) {
        let frame = NewFrame {
            kind: FrameKind::Data,
            term: Term::new(1),
            leader: NodeId::new(1),
            index: LogIndex::new(self.next),
            records: 1,
            append_time: Timestamp::from_millis(1),
            max_timestamp: Timestamp::from_millis(1),
            payload: self.payload.clone(),
        };
        self.log.append(&[frame]).unwrap();
        self.next += 1;
    }

    /// So many bytes, synced and committed.
    fn filled(payload_bytes: usize, bytes: usize, options: LogOptions) -> Self {
        let mut world = Self::new(payload_bytes, options);
        for _ in 0..bytes / payload_bytes {
            world.append();
        }
        world.log.sync().unwrap();
        world.log.set_committed(LogIndex::new(world.next - 1));
        world
    }
}

/// Into memory; the sync that follows now and then is not counted.
#[divan::bench(args = SIZES)]
fn append(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut world = World::new(bytes, LogOptions::default());
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        world.append();
        if world.log.unsynced_bytes() > 32 << 20 {
            world.log.sync().unwrap();
        }
    });
}

/// One frame made durable.
#[divan::bench(args = SIZES)]
fn append_and_sync(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut world = World::new(bytes, LogOptions::default());
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        world.append();
        world.log.sync().unwrap()
    });
}

/// A megabyte of frames at the log's end.
#[divan::bench(args = SIZES)]
fn read_from_memory(bencher: Bencher<'_, '_>, bytes: usize) {
    let world = World::filled(bytes, 4 << 20, LogOptions::default());
    let start = LogIndex::new(world.next - (1 << 20) / bytes as u64);
    let end = LogIndex::new(world.next);
    let read = || world.log.read(start, end, u64::MAX).unwrap();
    bencher.counter(BytesCount::new(1_usize << 20)).bench(read);
}

/// A megabyte of frames of the segment that takes appends.
#[divan::bench(args = SIZES)]
fn read_active(bencher: Bencher<'_, '_>, bytes: usize) {
    let options = LogOptions { tail_cache_bytes: 0, ..LogOptions::default() };
    let world = World::filled(bytes, 16 << 20, options);
    let end = LogIndex::new((1 << 20) / bytes as u64);
    let read = || world.log.read(LogIndex::ZERO, end, u64::MAX).unwrap();
    bencher.counter(BytesCount::new(1_usize << 20)).bench(read);
}

/// A megabyte of frames of a sealed segment.
#[divan::bench(args = SIZES)]
fn read_sealed(bencher: Bencher<'_, '_>, bytes: usize) {
    let options =
        LogOptions { segment_bytes: 4 << 20, tail_cache_bytes: 0, ..LogOptions::default() };
    let world = World::filled(bytes, 16 << 20, options);
    let end = LogIndex::new((1 << 20) / bytes as u64);
    let read = || world.log.read(LogIndex::ZERO, end, u64::MAX).unwrap();
    bencher.counter(BytesCount::new(1_usize << 20)).bench(read);
}

/// The frame of an offset, by the index and a few headers.
#[divan::bench]
fn find_offset(bencher: Bencher<'_, '_>) {
    let options =
        LogOptions { segment_bytes: 4 << 20, tail_cache_bytes: 0, ..LogOptions::default() };
    let world = World::filled(1 << 10, 16 << 20, options);
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 4_999) % 10_000;
        world.log.frame_for_offset(Offset::new(offset)).unwrap()
    });
}
