//! Trimming and resetting: the log start moves durably first, files go afterwards.

use std::sync::Arc;

use duramen_types::LogIndex;

use super::{Log, lock};
use crate::boundary::Boundary;
use crate::error::{LogError, is_full};
use crate::format::meta::MetaRecord;
use crate::format::start::StartFile;
use crate::limits::STATE_BYTES_MAX;
use crate::segment::SegmentFile;
use crate::start::{self, LogStart};

impl Log {
    /// The log start as it would be at `first_index`, with an empty state (at the current start:
    /// with the current one). May read a header.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] below the log start and above the log end; otherwise as
    /// [`Log::read`].
    pub fn log_start_at(&self, first_index: LogIndex) -> Result<LogStart, LogError> {
        {
            let state = self.state();
            if first_index == state.start.first_index {
                return Ok(state.start.clone());
            }
            if first_index == state.end.index {
                return Ok(LogStart::at(state.end));
            }
            if first_index < state.start.first_index || first_index > state.end.index {
                return Err(state.out_of_range(first_index));
            }
            let known = state.segments.iter().map(|segment| segment.summary.base);
            if let Some(base) = known.into_iter().find(|base| base.index == first_index) {
                return Ok(LogStart::at(base));
            }
        }
        let header = self.header_at(first_index.saturating_sub(1))?;
        Ok(LogStart::at(Boundary::after(&header)))
    }

    /// Moves the log start, durably, together with the caller's state there, and lets go of whole
    /// sealed segments below. Their files are unlinked by [`Log::remove_garbage`] or at the next
    /// open. The start may lie within a segment, which then stays. With the current start, only
    /// the state is replaced.
    ///
    /// # Errors
    /// [`LogError::BadStart`] if it lies below the current start or above the committed end, or
    /// contradicts the log; [`LogError::TooLarge`] for the state; [`LogError::Full`]. Nothing
    /// changes then. Any other failure poisons the log.
    pub fn trim_to(&self, start: LogStart) -> Result<(), LogError> {
        let _one = lock(&self.syncing);
        self.check_usable()?;
        check_state(&start)?;
        let index = start.first_index;
        let (current, committed_end, durable_end) = {
            let state = self.state();
            (state.start.first_index, state.committed_end, state.durable_end)
        };
        if index < current || index > committed_end.max(current) {
            return Err(LogError::BadStart { index });
        }
        match self.log_start_at(index) {
            Ok(known) if known.boundary() == start.boundary() => {}
            // What is damaged cannot contradict.
            Err(LogError::Corrupt { .. }) => {}
            Ok(_) => return Err(LogError::BadStart { index }),
            Err(error) => return Err(error),
        }
        if durable_end < index {
            self.sync_locked()?;
        }
        // What is still to be done to a file must not meet one that is gone.
        self.write_out()?;
        self.store_start(&start, false)?;
        let mut state = self.state();
        while let Some(first) = state.segments.front()
            && first.sealed
            && first.summary.end.index <= index
        {
            let gone = state.segments.pop_front().map(|segment| segment.file);
            state.garbage.extend(gone);
        }
        state.damaged.retain(|range| range.last >= index);
        for range in &mut state.damaged {
            range.first = range.first.max(index);
        }
        state.start = start;
        Ok(())
    }

    /// Unlinks the files of trimmed segments; answers how many. May take long: not for a thread
    /// that others wait for.
    ///
    /// # Errors
    /// [`LogError::Io`]; what is left is unlinked at the next open.
    pub fn remove_garbage(&self) -> Result<usize, LogError> {
        let garbage = std::mem::take(&mut self.state().garbage);
        for file in &garbage {
            file.remove().map_err(LogError::io("remove a trimmed segment"))?;
        }
        Ok(garbage.len())
    }

    /// Drops the whole log, durably, and goes on at `start`: for an installed snapshot that lies
    /// beyond what this log has.
    ///
    /// # Errors
    /// [`LogError::Committed`] if the start lies below the committed end,
    /// [`LogError::TooLarge`] for the state and [`LogError::Full`] change nothing. Any other
    /// failure poisons the log; the next open finishes the reset.
    pub fn reset_to(&self, start: LogStart) -> Result<(), LogError> {
        let _one = lock(&self.syncing);
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        check_state(&start)?;
        let end = start.first_index;
        let committed_end = self.state().committed_end;
        if end < committed_end {
            return Err(LogError::Committed { end, committed_end });
        }
        self.store_start(&start, true)?;
        writer.set_active(None);
        let mut meta = lock(&self.meta);
        let record = MetaRecord {
            generation: self.state().generation + 1,
            durable_end: end,
            committed_end: end,
            clean: false,
            cut_end: None,
            ..*meta.record()
        };
        meta.store(record).map_err(self.poison("write the metadata"))?;
        let mut pen = lock(&self.pen);
        pen.shed();
        let doomed = self.replace(start.clone(), record.generation);
        drop(pen);
        doomed
            .iter()
            .rev()
            .try_for_each(|file| file.remove())
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .and_then(|()| {
                start::prepare(self.disk.as_ref(), &self.dir, &self.start_file(&start, false))
            })
            .and_then(|()| start::publish(self.disk.as_ref(), &self.dir))
            .map_err(self.poison("reset the log"))
    }

    /// The state of an empty log at `start`. Answers the files that go.
    fn replace(&self, start: LogStart, generation: u64) -> Vec<Arc<SegmentFile>> {
        let mut state = self.state();
        let segments = std::mem::take(&mut state.segments);
        let mut doomed = std::mem::take(&mut state.garbage);
        doomed.extend(segments.into_iter().map(|segment| segment.file));
        state.end = start.boundary();
        state.durable_end = start.first_index;
        state.committed_end = start.first_index;
        state.unwritten.clear();
        state.written_end = start.first_index;
        state.generation = generation;
        state.synced_bytes = state.appended_bytes;
        state.names_dirty = false;
        state.damaged.clear();
        state.end_lost = None;
        state.cache.clear();
        state.start = start;
        doomed
    }

    fn start_file(&self, start: &LogStart, reset: bool) -> StartFile {
        StartFile { identity: self.identity, start: start.clone(), reset }
    }

    /// Puts a start in force, durably. A full disk changes nothing.
    fn store_start(&self, start: &LogStart, reset: bool) -> Result<(), LogError> {
        match start::prepare(self.disk.as_ref(), &self.dir, &self.start_file(start, reset)) {
            Err(error) if is_full(&error) => return Err(LogError::Full),
            other => other.map_err(self.poison("write the log start"))?,
        }
        start::publish(self.disk.as_ref(), &self.dir).map_err(self.poison("write the log start"))
    }
}

fn check_state(start: &LogStart) -> Result<(), LogError> {
    let (bytes, bytes_max) = (start.state.len() as u64, STATE_BYTES_MAX as u64);
    if bytes > bytes_max { Err(LogError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}
