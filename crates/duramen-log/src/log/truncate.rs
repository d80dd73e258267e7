//! Truncating: dropping a suffix, durably, before anything is written in its place.
//!
//! The new generation and the cut are in the metadata, synced, before the first file changes, and
//! the mark of the cut is taken away, synced, before the truncate returns: a crash in between
//! finishes it at the next open.

use std::sync::Arc;

use duramen_types::LogIndex;

use super::append::Active;
use super::{Log, State, lock};
use crate::boundary::Boundary;
use crate::error::{FrameFault, LogError};
use crate::format::meta::MetaRecord;
use crate::limits::HEADER_CHUNK_BYTES;
use crate::report::DamagedRange;
use crate::segment::{SegmentFile, Spacing, Summary};
use crate::sparse::SparseEntry;
use crate::window::Window;

/// What is left of the log.
struct Cut {
    /// How many segments stay.
    kept: usize,
    /// What stays of the last of them, if not all of it.
    last: Option<Summary>,
    /// The log's end.
    end: Boundary,
}

impl Log {
    /// Drops everything after `last`, durably; `None` drops everything. May make a sealed segment
    /// active again. Does nothing if the log ends there already.
    ///
    /// # Errors
    /// [`LogError::Committed`] if a committed frame would go, and [`LogError::EndLost`]; nothing
    /// changes then. Any failure after that poisons the log.
    pub fn truncate_after(&self, last: Option<LogIndex>) -> Result<(), LogError> {
        let end = last.map_or(LogIndex::ZERO, |last| last.saturating_add(1));
        let _one = lock(&self.syncing);
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        // Readers may be about to write, and the cut is found in the files.
        self.write_out()?;
        let Some(cut) = self.prepare_cut(end)? else { return Ok(()) };
        let mut meta = lock(&self.meta);
        let record = {
            let state = self.state();
            MetaRecord {
                generation: state.generation + 1,
                durable_end: state.durable_end.min(end),
                committed_end: state.committed_end,
                clean: false,
                cut_end: Some(end),
                ..*meta.record()
            }
        };
        meta.store(record).map_err(self.poison("write the metadata"))?;
        writer.set_active(None);
        lock(&self.pen).shed();
        let doomed = self.state().cut(&cut, &record);
        let active = self.carry_out(&cut, &doomed).map_err(self.poison("truncate the log"))?;
        meta.store(MetaRecord { cut_end: None, ..record })
            .map_err(self.poison("write the metadata"))?;
        writer.set_active(active);
        Ok(())
    }

    /// Decides what stays; `None` if everything does. Changes nothing.
    fn prepare_cut(&self, end: LogIndex) -> Result<Option<Cut>, LogError> {
        let (at, file, summary, indexed) = {
            let state = self.state();
            if end >= state.end.index {
                return Ok(None);
            }
            let committed_end = state.committed_end.max(state.start.first_index);
            if end < committed_end {
                return Err(LogError::Committed { end, committed_end });
            }
            if let Some(first) = state.end_lost {
                return Err(LogError::EndLost { first });
            }
            let at = state.segments.partition_point(|one| one.summary.end.index <= end);
            let before = at.checked_sub(1).and_then(|before| state.segments.get(before));
            let whole = before.map_or(state.start.boundary(), |one| one.summary.end);
            match state.segments.get(at) {
                Some(one) if one.summary.base.index < end => {
                    (at, Arc::clone(&one.file), one.summary.clone(), one.indexed)
                }
                _ => return Ok(Some(Cut { kept: at, last: None, end: whole })),
            }
        };
        let io = LogError::io("read a segment");
        let entries =
            if indexed { file.entries(summary.bytes).map_err(io)? } else { summary.sparse.clone() };
        let spacing = self.state().options.index_interval_bytes;
        let last = shorten(&file, &summary, &entries, (end, spacing))?;
        Ok(Some(Cut { kept: at + 1, end: last.end, last: Some(last) }))
    }

    /// Unlinks and cuts the files, durably. Answers the segment that is active now.
    fn carry_out(&self, cut: &Cut, doomed: &[Arc<SegmentFile>]) -> std::io::Result<Option<Active>> {
        for file in doomed.iter().rev() {
            file.remove()?;
        }
        let shortened = {
            let state = self.state();
            let last = cut.kept.checked_sub(1).and_then(|last| state.segments.get(last));
            last.filter(|last| !last.sealed)
                .map(|last| (Arc::clone(&last.file), last.id, last.summary.clone()))
        };
        if let Some((file, ..)) = &shortened {
            file.remove_index()?;
        }
        self.disk.sync_dir(&self.dir)?;
        let Some((file, id, summary)) = shortened else { return Ok(None) };
        let handle = file.file()?;
        handle.set_len(summary.bytes)?;
        handle.sync_data()?;
        Ok(Some(Active::resume(&file, id, &summary, (handle, summary.bytes))))
    }
}

impl State {
    /// Takes the suffix out of sight. Answers the files that go.
    fn cut(&mut self, cut: &Cut, record: &MetaRecord) -> Vec<Arc<SegmentFile>> {
        let doomed = self.segments.drain(cut.kept..).map(|segment| segment.file).collect();
        if let (Some(summary), Some(last)) = (&cut.last, self.segments.back_mut()) {
            last.summary = summary.clone();
            last.written_bytes = summary.bytes;
            last.sealed = false;
            last.indexed = false;
            last.dirty = None;
        }
        let end = cut.end.index;
        self.end = cut.end;
        self.generation = record.generation;
        self.durable_end = record.durable_end;
        self.written_end = end;
        self.cache.cut(end);
        self.damaged.retain(|range| range.first < end);
        for range in &mut self.damaged {
            *range = DamagedRange { last: range.last.min(end.saturating_sub(1)), ..*range };
        }
        doomed
    }
}

/// What a segment adds up to below an index that lies within it.
fn shorten(
    file: &SegmentFile,
    summary: &Summary,
    entries: &[SparseEntry],
    (end, spacing_bytes): (LogIndex, u64),
) -> Result<Summary, LogError> {
    let kept = entries.partition_point(|entry| entry.index < end);
    let (last, before) = match entries.get(..kept).and_then(<[SparseEntry]>::split_last) {
        Some(parts) => parts,
        None => return Ok(Summary::new(summary.base)),
    };
    let terms = summary.terms.iter().copied().filter(|(_, index)| *index < last.index).collect();
    let mut short = Summary {
        bytes: last.position,
        max_timestamp: last.max_before,
        terms,
        sparse: before.to_vec(),
        ..summary.clone()
    };
    short.end.index = last.index;
    let handle = file.file().map_err(LogError::io("open a segment"))?;
    let mut window = Window::of_file(handle, summary.bytes, HEADER_CHUNK_BYTES);
    let mut spacing = Spacing { bytes: spacing_bytes, landmark: true };
    while short.end.index < end {
        let (index, position) = (short.end.index, short.bytes);
        let corrupt =
            |fault| LogError::Corrupt { index, segment: summary.base.index, position, fault };
        let (_, header) = window.head(position).map_err(corrupt)?;
        if header.index != index {
            let (found, expected) = (header.index, index);
            return Err(corrupt(FrameFault::Index { found, expected }));
        }
        short.push(&header, position, spacing);
        spacing.landmark = false;
    }
    Ok(short)
}
