//! Syncing: what was appended before a sync began is durable when it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use duramen_env::DiskFile;
use duramen_env::planted::{Planted, is_planted};
use duramen_types::LogIndex;

use super::{Log, State, lock};
use crate::boundary::Boundary;
use crate::error::{LogError, is_full};
use crate::pen::Stroke;
use crate::segment::{Segment, SegmentFile};

/// What a sync is to make durable.
struct Capture {
    end: Boundary,
    appended_bytes: u64,
    writes: u64,
    segments: Vec<Arc<SegmentFile>>,
    sync_names: bool,
}

impl Log {
    /// Makes durable what has been appended so far, and answers the last durable index. Blocks;
    /// appends and reads go on meanwhile.
    ///
    /// # Errors
    /// [`LogError::Full`] where the disk had no room for frames although it had promised it, as file
    /// systems may that do not reserve it: nothing was synced, the frames stay in memory, and the
    /// next sync writes them again. Any other failure poisons the log for ever: a sync is never
    /// tried again, because the kernel may have dropped the pages.
    pub fn sync(&self) -> Result<Option<LogIndex>, LogError> {
        let _one = lock(&self.syncing);
        self.check_usable()?;
        let durable_end = self.sync_locked()?;
        self.note_locked()?;
        Ok(durable_end)
    }

    /// Makes durable what has been appended so far, and leaves it to [`Log::note_synced`] to make
    /// the next recovery quick and sure: whoever waits for a sync need not wait for that.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn sync_frames(&self) -> Result<Option<LogIndex>, LogError> {
        let _one = lock(&self.syncing);
        self.check_usable()?;
        self.sync_locked()
    }

    /// Writes the index files of segments that have been filled, and how far the log is durable and
    /// committed. Neither is synced.
    ///
    /// # Errors
    /// A failed write poisons the log; [`LogError::Closed`] where closing has done all this.
    pub fn note_synced(&self) -> Result<(), LogError> {
        let _one = lock(&self.syncing);
        self.check_usable()?;
        self.note_locked()
    }

    /// The same, for a caller that holds `syncing`.
    fn note_locked(&self) -> Result<(), LogError> {
        self.write_indexes();
        self.write_hint()
    }

    /// Makes durable what has been appended, for a caller that holds `syncing`.
    pub(super) fn sync_locked(&self) -> Result<Option<LogIndex>, LogError> {
        let capture = self.state().capture();
        self.write_out().inspect_err(|_| self.state().names_dirty |= capture.sync_names)?;
        for segment in &capture.segments {
            segment.file().and_then(|file| sync(&*file)).map_err(self.poison("sync a segment"))?;
        }
        if capture.sync_names {
            self.disk.sync_dir(&self.dir).map_err(self.poison("sync the log's directory"))?;
        }
        Ok(self.complete(&capture).prev())
    }

    /// Writes to the files what has been appended so far. Where the disk is full nothing counts as
    /// written, and all of it is written again the next time.
    pub(crate) fn write_out(&self) -> Result<(), LogError> {
        let mut pen = lock(&self.pen);
        // What another one failed to write is not there any more: none of it may count as written.
        self.check_usable()?;
        let (end, mut strokes) = {
            let mut state = self.state();
            (state.end.index, std::mem::take(&mut state.unwritten))
        };
        if strokes.is_empty() {
            return Ok(());
        }
        match pen.write(&strokes) {
            Ok(()) => {
                self.state().written(end, &strokes);
                Ok(())
            }
            Err(error) if is_full(&error) => {
                let mut state = self.state();
                strokes.append(&mut state.unwritten);
                state.unwritten = strokes;
                Err(LogError::Full)
            }
            Err(error) => Err(self.poison("write a segment")(error)),
        }
    }

    /// Nothing was truncated meanwhile, for that takes `syncing` too.
    fn complete(&self, capture: &Capture) -> LogIndex {
        let mut state = self.state();
        assert!(capture.end.index <= state.written_end, "what is durable was written");
        for segment in &mut state.segments {
            if segment.dirty.is_some_and(|write| write <= capture.writes) {
                segment.dirty = None;
            }
        }
        state.durable_end = state.durable_end.max(capture.end.index);
        state.synced_bytes = state.synced_bytes.max(capture.appended_bytes);
        state.durable_end
    }

    /// Tells a later recovery how far the log was durable and committed; itself not synced.
    fn write_hint(&self) -> Result<(), LogError> {
        let mut meta = lock(&self.meta);
        let (durable_end, committed_end) = {
            let state = self.state();
            (state.durable_end, state.committed_end)
        };
        match meta.hint(durable_end, committed_end) {
            Err(error) if !is_full(&error) => Err(self.poison("write the metadata")(error)),
            _ => Ok(()),
        }
    }

    /// Writes the index files of sealed, synced segments that have none. An index that cannot be
    /// written stays in memory.
    pub(crate) fn write_indexes(&self) {
        let (generation, wanted) = {
            let state = self.state();
            let wanted: Vec<LogIndex> = state
                .segments
                .iter()
                .filter(|segment| wants_index(segment))
                .map(|segment| segment.summary.base.index)
                .collect();
            (state.generation, wanted)
        };
        for first in wanted {
            self.write_index(first, generation);
        }
    }

    fn write_index(&self, first: LogIndex, generation: u64) {
        let taken = {
            let mut state = self.state();
            let found = state.segments.iter_mut().find(|one| one.summary.base.index == first);
            found.map(|segment| {
                let sparse = segment.summary.sparse.clone();
                (Arc::clone(&segment.file), segment.index_head(generation), sparse)
            })
        };
        let Some((file, head, sparse)) = taken else { return };
        if let Err(error) = file.write_index(head, &sparse) {
            tracing::warn!(segment = %first, %error, "could not write an index");
            return;
        }
        let mut state = self.state();
        let found = state.segments.iter_mut().find(|one| one.summary.base.index == first);
        if let Some(segment) = found.filter(|segment| segment.sealed) {
            segment.indexed = true;
            segment.summary.sparse = Vec::new();
        }
    }

    /// Syncs, gives preallocated space back and notes that the log ends here, so that the next
    /// open need not scan. The log takes no appends and syncs afterwards; reads go on.
    ///
    /// # Errors
    /// As [`Log::sync`], and any failure poisons the log: whoever closes it will not come back. A log
    /// that has lost its end is only synced.
    pub fn close(&self) -> Result<(), LogError> {
        let _one = lock(&self.syncing);
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        let (generation, last, is_whole) = {
            let state = self.state();
            let last = state.segments.back().filter(|last| !last.sealed && !last.damaged);
            let is_whole = state.damaged.is_empty() && state.end_lost.is_none();
            (state.generation, last.map(|last| last.summary.base.index), is_whole)
        };
        self.write_out().inspect_err(|_| self.poisoned.store(true, Ordering::Release))?;
        // What is damaged stays as it is: behind the log's end may lie what nothing else tells of.
        if is_whole {
            writer.fit_active().map_err(self.poison("close the active segment"))?;
        }
        self.sync_locked()?;
        self.write_indexes();
        if let Some(first) = last {
            self.write_index(first, generation);
        }
        let mut meta = lock(&self.meta);
        let mut record = self.meta_record(&meta);
        record.clean = is_whole;
        meta.store(record).map_err(self.poison("write the metadata"))?;
        writer.set_active(None);
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

impl State {
    /// Notes that the frames below an index are in their files.
    fn written(&mut self, end: LogIndex, strokes: &[Stroke]) {
        let before = self.written_end;
        self.written_end = before.max(end);
        self.cache.evict(self.written_end);
        let segments = self.segments.iter_mut().rev();
        for segment in segments.take_while(|segment| segment.summary.end.index > before) {
            let mut last = strokes.iter().rev().filter(|one| Arc::ptr_eq(&one.file, &segment.file));
            segment.written_bytes = last.next().map_or(segment.written_bytes, Stroke::end);
        }
    }

    fn capture(&mut self) -> Capture {
        let dirty = self.segments.iter().filter(|segment| segment.dirty.is_some());
        Capture {
            segments: dirty.map(|segment| Arc::clone(&segment.file)).collect(),
            end: self.end,
            appended_bytes: self.appended_bytes,
            writes: self.writes,
            sync_names: std::mem::take(&mut self.names_dirty),
        }
    }
}

/// The one place where frames become durable.
fn sync(file: &dyn DiskFile) -> io::Result<()> {
    if is_planted(Planted::SkipFsync) {
        return Ok(());
    }
    match file.sync_data() {
        Err(_) if is_planted(Planted::RetryFailedSync) => file.sync_data(),
        synced => synced,
    }
}

fn wants_index(segment: &Segment) -> bool {
    segment.sealed && !segment.indexed && !segment.damaged && segment.dirty.is_none()
}
