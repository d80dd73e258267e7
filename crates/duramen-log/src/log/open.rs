//! Making a log and opening one.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use duramen_env::{Disk, Random};
use duramen_types::LogIndex;

use super::append::Writer;
use super::{Log, State, lock};
use crate::boundary::Boundary;
use crate::error::{OpenError, is_full};
use crate::format::meta::MetaRecord;
use crate::format::start::StartFile;
use crate::meta::{self, MetaFile};
use crate::options::{LogIdentity, LogOptions};
use crate::pen::Pen;
use crate::recovery::{Recover, Recovered};
use crate::report::Recovery;
use crate::scan::{ScanRequest, scan};
use crate::segment::{SegmentFile, parse_name};
use crate::start::{self, LogStart};
use crate::tail::TailCache;

impl Log {
    /// Makes an empty log in a directory, which is made too. Durable when it returns, but for the
    /// names of directories above `dir`'s parent.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if the directory holds a log or segments of one.
    pub fn create(
        disk: &Arc<dyn Disk>,
        random: &Arc<dyn Random>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
    ) -> Result<Arc<Self>, OpenError> {
        disk.create_dir_all(dir).map_err(OpenError::io("create the log's directory"))?;
        let meta_there = disk.exists(&meta::path(dir)).map_err(OpenError::io("look for a log"))?;
        if meta_there || !segment_firsts(disk.as_ref(), dir)?.is_empty() {
            return Err(OpenError::Exists);
        }
        let start = LogStart::origin();
        let file = StartFile { identity, start: start.clone(), reset: false };
        start::prepare(disk.as_ref(), dir, &file)
            .and_then(|()| start::publish(disk.as_ref(), dir))
            .map_err(OpenError::io("write the log start"))?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(OpenError::io("sync the directory above the log"))?;
        }
        let meta = MetaFile::create(disk.as_ref(), dir, identity)
            .map_err(OpenError::io("write the metadata"))?;
        let recovered = Recovered {
            segments: VecDeque::new(),
            end: Boundary::ORIGIN,
            report: Recovery::default(),
        };
        let place = Place { disk, random, dir, options };
        place.log(meta, start, recovered).map(Arc::new)
    }

    /// Opens the log in a directory and recovers it: a torn tail is cut, what is left is durable.
    /// Reads the last segment and those without a sound index; sealed ones are trusted.
    ///
    /// # Errors
    /// See [`OpenError`]: most mean that this replica is lost.
    pub fn open(
        disk: &Arc<dyn Disk>,
        random: &Arc<dyn Random>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        if !disk.exists(&meta::path(dir)).map_err(OpenError::io("look for the log"))? {
            let has_segments = disk.exists(dir).map_err(OpenError::io("look for the log"))?
                && !segment_firsts(disk.as_ref(), dir)?.is_empty();
            return Err(if has_segments { OpenError::MetaLost } else { OpenError::Missing });
        }
        let mut meta = MetaFile::open(disk.as_ref(), dir)?;
        let found = meta.record().identity;
        if found.cluster != identity.cluster {
            return Err(OpenError::WrongCluster { found: found.cluster });
        }
        if found.replica != identity.replica {
            return Err(OpenError::WrongReplica { found: found.replica });
        }
        let place = Place { disk, random, dir, options };
        let mut file = start::load(disk.as_ref(), dir, identity)?;
        if file.reset {
            file.reset = false;
            place.finish_reset(&mut meta, &file)?;
        } else if let Some(end) = meta.record().cut_end {
            place.finish_truncate(&mut meta, end)?;
        }
        let record = *meta.record();
        let start = file.start;
        let recovered =
            Recover { disk, dir, start: &start, meta: &record, options: &options }.run()?;
        let report = recovered.report.clone();
        if !report.clean {
            // What was recovered was synced: damage to it from now on is no torn write.
            let committed_end = report.committed.map_or(LogIndex::ZERO, LogIndex::next);
            let hinted = meta.secure().and_then(|()| meta.hint(recovered.end.index, committed_end));
            match hinted {
                Err(error) if !is_full(&error) => {
                    return Err(OpenError::io("write the metadata")(error));
                }
                _ => {}
            }
        }
        let log = place.log(meta, start, recovered)?;
        log.write_indexes();
        Ok((Arc::new(log), report))
    }
}

/// Where and how a log is to live.
struct Place<'a> {
    disk: &'a Arc<dyn Disk>,
    random: &'a Arc<dyn Random>,
    dir: &'a Path,
    options: LogOptions,
}

impl Place<'_> {
    fn log(&self, meta: MetaFile, start: LogStart, recovered: Recovered) -> Result<Log, OpenError> {
        let Recovered { segments, end, report } = recovered;
        let writer =
            Writer::resume(segments.back()).map_err(OpenError::io("open the active segment"))?;
        let committed_end = report.committed.map_or(LogIndex::ZERO, LogIndex::next);
        let state = State {
            options: self.options,
            durable_end: end.index,
            committed_end: committed_end.max(start.first_index),
            unwritten: Vec::new(),
            written_end: end.index,
            start,
            segments,
            end,
            cache: TailCache::new(self.options.tail_cache_bytes),
            generation: meta.record().generation,
            damaged: report.damaged,
            end_lost: report.end_lost,
            writes: 0,
            appended_bytes: 0,
            synced_bytes: 0,
            names_dirty: false,
            garbage: Vec::new(),
        };
        Ok(Log {
            disk: Arc::clone(self.disk),
            random: Arc::clone(self.random),
            dir: self.dir.to_path_buf(),
            identity: meta.record().identity,
            syncing: Mutex::new(()),
            writer: Mutex::new(writer),
            meta: Mutex::new(meta),
            pen: Mutex::new(Pen::default()),
            state: Mutex::new(state),
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// A reset was interrupted after its start was in force: everything there is garbage.
    fn finish_reset(&self, meta: &mut MetaFile, file: &StartFile) -> Result<(), OpenError> {
        let end = file.start.first_index;
        let record = *meta.record();
        meta.store(MetaRecord {
            generation: record.generation + 1,
            durable_end: end,
            committed_end: end,
            clean: false,
            cut_end: None,
            ..record
        })
        .and_then(|()| self.remove_segments(LogIndex::ZERO))
        .and_then(|()| start::prepare(self.disk.as_ref(), self.dir, file))
        .and_then(|()| start::publish(self.disk.as_ref(), self.dir))
        .map_err(OpenError::io("finish a reset"))
    }

    /// A truncate was interrupted after its generation was in force.
    fn finish_truncate(&self, meta: &mut MetaFile, end: LogIndex) -> Result<(), OpenError> {
        let record = *meta.record();
        if self.is_written_since(end, &record).map_err(OpenError::io("read a segment"))? {
            let done = meta.store(MetaRecord { cut_end: None, ..record });
            return done.map_err(OpenError::io("finish a truncate"));
        }
        self.remove_segments(end)
            .and_then(|()| self.cut_last(end, &record))
            .and_then(|()| meta.store(MetaRecord { cut_end: None, ..record }))
            .map_err(OpenError::io("finish a truncate"))
    }

    /// Whether frames of the truncate's own generation lie beyond the cut: then it had been carried
    /// out, and the slot that said so is damaged.
    fn is_written_since(&self, end: LogIndex, record: &MetaRecord) -> std::io::Result<bool> {
        let firsts = list_firsts(self.disk.as_ref(), self.dir)?;
        let from = firsts.partition_point(|first| *first < end).saturating_sub(1);
        for first in firsts.get(from..).unwrap_or_default() {
            let file = SegmentFile::new(self.disk, self.dir, *first).file()?;
            let request = ScanRequest {
                bytes: file.len()?,
                file,
                end_index: None,
                from: None,
                generation: record.generation,
                spacing_bytes: self.options.index_interval_bytes,
            };
            if scan(request, &mut |_, _, _| {}).current_end > end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Unlinks the segments that begin at an index or later, durably, the last one first.
    fn remove_segments(&self, from: LogIndex) -> std::io::Result<()> {
        let firsts = list_firsts(self.disk.as_ref(), self.dir)?;
        for first in firsts.into_iter().rev().filter(|first| *first >= from) {
            SegmentFile::new(self.disk, self.dir, first).remove()?;
        }
        self.disk.sync_dir(self.dir)
    }

    /// Cuts what the last segment holds from an index on. Damage before is left to recovery.
    fn cut_last(&self, end: LogIndex, record: &MetaRecord) -> std::io::Result<()> {
        let Some(first) = list_firsts(self.disk.as_ref(), self.dir)?.pop() else { return Ok(()) };
        let segment = SegmentFile::new(self.disk, self.dir, first);
        let file = segment.file()?;
        let request = ScanRequest {
            file: Arc::clone(&file),
            bytes: file.len()?,
            end_index: Some(end),
            from: None,
            generation: record.generation,
            spacing_bytes: self.options.index_interval_bytes,
        };
        let outcome = scan(request, &mut |_, _, _| {});
        if outcome.summary.end.index < end {
            // It ends before the cut: nothing of it was to go.
            return Ok(());
        }
        segment.remove_index()?;
        self.disk.sync_dir(self.dir)?;
        file.set_len(outcome.summary.bytes)?;
        file.sync_data()
    }
}

fn segment_firsts(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogIndex>, OpenError> {
    list_firsts(disk, dir).map_err(OpenError::io("list the log"))
}

fn list_firsts(disk: &dyn Disk, dir: &Path) -> std::io::Result<Vec<LogIndex>> {
    let entries = disk.list(dir)?;
    Ok(entries.iter().filter_map(|entry| parse_name(&entry.name, ".log")).collect())
}

impl Log {
    /// The metadata's generation and ends, as the state has them now.
    pub(super) fn meta_record(&self, meta: &MetaFile) -> MetaRecord {
        let state = lock(&self.state);
        MetaRecord {
            generation: state.generation,
            // Where the log has lost its end, the record is what says so.
            durable_end: state.durable_end.max(meta.record().durable_end),
            committed_end: state.committed_end,
            clean: false,
            cut_end: None,
            ..*meta.record()
        }
    }
}
