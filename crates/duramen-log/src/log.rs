//! The log of one replica: what is shared by appender, readers and the flusher.

mod append;
mod cached;
mod open;
mod plan;
mod read;
mod sync;
mod trim;
mod truncate;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duramen_env::{Disk, Random};
use duramen_types::{LogIndex, Offset, Term};

use crate::boundary::Boundary;
use crate::error::LogError;
use crate::meta::MetaFile;
use crate::options::{LogIdentity, LogOptions};
use crate::pen::{Pen, Stroke};
use crate::report::DamagedRange;
use crate::segment::{Segment, SegmentFile, SegmentInfo};
use crate::start::LogStart;
use crate::tail::TailCache;

pub use append::Appended;

/// One replica's log. Shared; one thread at a time appends, any number read, any may sync.
///
/// Dropping it without [`Log::close`] is like a crash: nothing is lost that had been synced.
///
/// Locks are taken in this order: `syncing`, `writer`, `meta`, `pen`, `state`. Readers take only
/// `state`, and `pen` where they must have written what they are to read; nobody does I/O under
/// `state`.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    dir: PathBuf,
    identity: LogIdentity,
    /// One sync, truncate, trim, reset or close at a time.
    syncing: Mutex<()>,
    writer: Mutex<append::Writer>,
    meta: Mutex<MetaFile>,
    pen: Mutex<Pen>,
    state: Mutex<State>,
    poisoned: AtomicBool,
    closed: AtomicBool,
}

/// What readers see.
///
/// Invariants: `start.first_index <= durable_end <= end.index`, the same for `committed_end`;
/// `durable_end <= written_end <= end.index`, and the cache holds everything from `written_end` on;
/// the segments are contiguous but for damaged ranges, and only the last may be unsealed.
#[derive(Debug)]
struct State {
    options: LogOptions,
    start: LogStart,
    segments: VecDeque<Segment>,
    end: Boundary,
    cache: TailCache,
    durable_end: LogIndex,
    committed_end: LogIndex,
    /// What is to be done to files, in order.
    unwritten: Vec<Stroke>,
    /// Frames from here on are not, or not surely, in their files.
    written_end: LogIndex,
    /// Raised by every truncate and reset: a reader that meets a fault looks whether it moved.
    generation: u64,
    damaged: Vec<DamagedRange>,
    end_lost: Option<LogIndex>,
    /// Numbers the writes, to see whether a segment was written while it was synced.
    writes: u64,
    appended_bytes: u64,
    synced_bytes: u64,
    /// Names were made in the directory since it was last synced.
    names_dirty: bool,
    /// Trimmed files that are still to be unlinked.
    garbage: Vec<Arc<SegmentFile>>,
}

impl State {
    /// Where in `segments` the one lies that holds an index.
    fn segment_at(&self, index: LogIndex) -> Option<usize> {
        let at = self.segments.partition_point(|segment| segment.summary.end.index <= index);
        let segment = self.segments.get(at)?;
        (segment.summary.base.index <= index).then_some(at)
    }

    fn out_of_range(&self, index: LogIndex) -> LogError {
        LogError::OutOfRange { index, start: self.start.first_index, end: self.end.index }
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Every write or sync that fails leads here.
    fn poison(&self, action: &'static str) -> impl FnOnce(io::Error) -> LogError {
        move |source| {
            self.poisoned.store(true, Ordering::Release);
            tracing::error!(dir = %self.dir.display(), error = %source, "could not {action}");
            LogError::Io { action, source }
        }
    }

    fn check_usable(&self) -> Result<(), LogError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(LogError::Poisoned);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        Ok(())
    }

    /// The directory of this log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// One past the last index.
    #[must_use]
    pub fn end_index(&self) -> LogIndex {
        self.state().end.index
    }

    /// One past the last record's offset: the log end offset.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.state().end.offset
    }

    /// Term and index of the last frame, also if it has been trimmed; `None` if there never was
    /// one.
    #[must_use]
    pub fn last(&self) -> Option<(Term, LogIndex)> {
        let end = self.state().end;
        Some((end.term?, end.index.prev()?))
    }

    /// The chain hash of the last frame: equal index and chain mean equal histories.
    #[must_use]
    pub fn chain_at_end(&self) -> u64 {
        self.state().end.chain
    }

    /// Where the log starts, and the caller's state there.
    #[must_use]
    pub fn start(&self) -> LogStart {
        self.state().start.clone()
    }

    /// The last durable index; trimmed frames count as durable.
    #[must_use]
    pub fn durable_index(&self) -> Option<LogIndex> {
        self.state().durable_end.prev()
    }

    /// The last index known to be committed, as told by [`Log::set_committed`] or remembered.
    #[must_use]
    pub fn committed_index(&self) -> Option<LogIndex> {
        self.state().committed_end.prev()
    }

    /// Says that everything up to this index is committed: it is never truncated from now on, and
    /// sealed segments wholly below may be mapped. Counts up to the log end; never goes back.
    pub fn set_committed(&self, index: LogIndex) {
        let mut state = self.state();
        let end = index.saturating_add(1).min(state.end.index);
        state.committed_end = state.committed_end.max(end);
    }

    /// Bytes appended and not yet synced.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        let state = self.state();
        state.appended_bytes.saturating_sub(state.synced_bytes)
    }

    /// Whether synced frames are known to be damaged or lost.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let state = self.state();
        !state.damaged.is_empty() || state.end_lost.is_some()
    }

    /// The damaged ranges, found at open or by reads since, in no particular order.
    #[must_use]
    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.state().damaged.clone()
    }

    /// The first index of each term in the log, in order.
    #[must_use]
    pub fn terms(&self) -> Vec<(Term, LogIndex)> {
        let state = self.state();
        let first = state.start.first_index;
        let mut terms: Vec<(Term, LogIndex)> = Vec::new();
        for (term, index) in state.segments.iter().flat_map(|segment| &segment.summary.terms) {
            match terms.last_mut() {
                Some((last, _)) if last == term => {}
                // The term before ended below the log start.
                Some(last) if *index <= first => *last = (*term, first),
                _ => terms.push((*term, (*index).max(first))),
            }
        }
        if state.end.index == first { Vec::new() } else { terms }
    }

    /// The segments, in order, trimmed ones left out. The first may begin below the log start.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.state().segments.iter().map(Segment::info).collect()
    }

    /// How the log behaves.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        self.state().options
    }

    /// Changes how the log behaves from the next append on.
    pub fn set_options(&self, options: LogOptions) {
        let mut state = self.state();
        let written_end = state.written_end;
        state.cache.set_bytes_max(options.tail_cache_bytes, written_end);
        state.options = options;
    }

    /// Says how many bytes of its latest frames the log may keep in memory, if that is less than its
    /// options say: where many logs share one process, each has its part only. The newest frame stays
    /// until [`age_tail`](Self::age_tail) was called twice, even if it is more than that.
    pub fn share_tail(&self, bytes: u64) {
        let mut state = self.state();
        let written_end = state.written_end;
        state.cache.set_bytes_share(bytes, written_end);
    }

    /// To be called from time to time: what was appended before the last call is no longer new.
    pub fn age_tail(&self) {
        let mut state = self.state();
        let written_end = state.written_end;
        state.cache.age(written_end);
    }

    /// Gives back what is only kept for speed: cached frames, open files, mappings, buffers. For
    /// a log that falls idle.
    pub fn shed(&self) {
        let mut writer = lock(&self.writer);
        writer.shed();
        let mut pen = lock(&self.pen);
        pen.shed();
        let mut state = self.state();
        if !state.unwritten.is_empty() {
            return;
        }
        state.cache.clear();
        for segment in state.segments.iter().filter(|segment| segment.dirty.is_none()) {
            segment.file.shed();
        }
    }
}

/// Locks; a panic elsewhere aborts the process, so that a poisoned lock is never met.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
