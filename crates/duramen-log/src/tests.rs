//! Tests of the whole log: stories, a model, crashes, damage and the pinned bytes.

mod behavior;
mod concurrency;
mod crash;
mod damage;
mod faults;
mod golden;
mod model;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::{Disk, Random, RealDisk, RealRandom, SeededRandom, SimDisk};
use duramen_types::{ClusterId, LogIndex, NodeId, ReplicaId, Term, Timestamp};

use crate::{
    Frame, FrameKind, Log, LogError, LogIdentity, LogOptions, LogStart, NewFrame, OpenError,
    Recovery,
};

/// A simulated machine with room for logs.
pub(crate) struct World {
    pub(crate) sim: SimDisk,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: LogIdentity,
    pub(crate) options: LogOptions,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let sim = SimDisk::new(seed);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        disk.create_dir_all(Path::new("/logs")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self {
            sim,
            disk,
            random: Arc::new(SeededRandom::new(seed)),
            dir: PathBuf::from("/logs/p0"),
            identity: identity(7),
            options: small_options(),
        }
    }

    /// A world whose log lies in a directory of this machine.
    pub(crate) fn on_real_disk(dir: &Path) -> Self {
        let (disk, random) = (Arc::new(RealDisk), Arc::new(RealRandom));
        Self { disk, random, dir: dir.join("p0"), ..Self::new(1) }
    }

    pub(crate) fn create(&self) -> Arc<Log> {
        self.try_create().unwrap()
    }

    pub(crate) fn try_create(&self) -> Result<Arc<Log>, OpenError> {
        Log::create(&self.disk, &self.random, &self.dir, self.identity, self.options)
    }

    pub(crate) fn open(&self) -> (Arc<Log>, Recovery) {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<(Arc<Log>, Recovery), OpenError> {
        Log::open(&self.disk, &self.random, &self.dir, self.identity, self.options)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The segment files, in order.
    pub(crate) fn segment_names(&self) -> Vec<String> {
        let entries = self.disk.list(&self.dir).unwrap();
        let names = entries.into_iter().map(|entry| entry.name);
        names.filter(|name| Path::new(name).extension().is_some_and(|ext| ext == "log")).collect()
    }
}

pub(crate) fn identity(replica: u64) -> LogIdentity {
    LogIdentity { cluster: ClusterId::from_bytes([9; 16]), replica: ReplicaId::new(replica) }
}

/// Small segments, a small cache and dense indexes, so that a short story meets everything.
pub(crate) fn small_options() -> LogOptions {
    LogOptions {
        segment_bytes: 1500,
        tail_cache_bytes: 600,
        extent_bytes_min: 4096,
        extent_bytes_max: 8192,
        index_interval_bytes: 256,
        ..LogOptions::default()
    }
}

pub(crate) fn at(index: u64) -> LogIndex {
    LogIndex::new(index)
}

/// A data frame of two records and a payload that tells the frame from others.
pub(crate) fn data(index: u64, term: u64) -> NewFrame {
    data_of(index, term, 40 + usize::try_from(index % 7).unwrap() * 30)
}

pub(crate) fn data_of(index: u64, term: u64, bytes: usize) -> NewFrame {
    let fill = u8::try_from(index.wrapping_mul(31).wrapping_add(term) % 251).unwrap() + 1;
    NewFrame {
        kind: FrameKind::Data,
        term: Term::new(term),
        leader: NodeId::new(3),
        index: at(index),
        records: 2,
        append_time: Timestamp::from_millis(1000 + i64::try_from(index).unwrap() * 10),
        max_timestamp: Timestamp::from_millis(500 + i64::try_from(index).unwrap() * 10),
        payload: Bytes::from(vec![fill; bytes]),
    }
}

/// An internal frame without records.
pub(crate) fn internal(index: u64, term: u64) -> NewFrame {
    NewFrame {
        kind: FrameKind::Internal(4),
        records: 0,
        max_timestamp: Timestamp::MIN,
        ..data_of(index, term, 5)
    }
}

/// Appends data frames with these indexes.
pub(crate) fn append(log: &Log, range: std::ops::Range<u64>, term: u64) -> Result<(), LogError> {
    range.map(|index| data(index, term)).try_for_each(|one| log.append(&[one]).map(drop))
}

/// Everything in the log, read in small steps.
pub(crate) fn all(log: &Log) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut next = log.start().first_index;
    while next < log.end_index() {
        let read = log.read(next, log.end_index(), 300).unwrap();
        assert_eq!(read[0].header.index, next);
        next = read.last().unwrap().header.index.next();
        frames.extend(read);
    }
    frames
}

/// The start at an index with a state that names it.
pub(crate) fn start_at(log: &Log, index: u64) -> LogStart {
    let mut start = log.log_start_at(at(index)).unwrap();
    start.state = Bytes::from(format!("state at {index}"));
    start
}
