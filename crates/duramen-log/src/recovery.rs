//! Recovery: what of a log directory is the log, what is a torn write, and what is damage.
//!
//! ```text
//! D = the highest durable end that the metadata, an index file or a sound frame of the current
//!     truncation generation knows of
//!
//! bad frame at index i
//!   the disk cannot read it, or i < D                  damage: kept, reported, never cut
//!   not more than the in-flight bound beyond it        torn: the log is cut there
//!   else                                               damage
//! ```
//! Sound frames behind a bad one prove nothing but D: unsynced pages reach the disk in any order.
//! Sealed segments with a sound index file were synced before it was written and are not scanned.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{Disk, DiskFile};
use duramen_types::LogIndex;

use crate::boundary::Boundary;
use crate::error::{FrameFault, OpenError};
use crate::format::index::IndexHead;
use crate::format::meta::MetaRecord;
use crate::format::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::options::LogOptions;
use crate::report::{DamagedRange, Recovery, TornTail};
use crate::scan::{BadSpot, ScanFrom, ScanOutcome, ScanRequest, scan};
use crate::segment::{Segment, SegmentFile, SegmentId, Summary, log_name, parse_name};
use crate::start::LogStart;

/// What recovery hands to the log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) end: Boundary,
    pub(crate) report: Recovery,
}

/// The directory and what its small files say.
#[derive(Debug)]
pub(crate) struct Recover<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    pub(crate) start: &'a LogStart,
    pub(crate) meta: &'a MetaRecord,
    pub(crate) options: &'a LogOptions,
}

/// One segment file while it is being judged.
struct Piece {
    first_index: LogIndex,
    file: Arc<SegmentFile>,
    id: Option<SegmentId>,
    summary: Summary,
    bad_spots: Vec<BadSpot>,
    head_fault: bool,
    nonzero_end: u64,
    /// A later segment exists, or the index says so.
    sealed: bool,
    /// Everything is as a sound index says; nothing was scanned.
    trusted: bool,
    damaged: bool,
}

impl Piece {
    fn bytes_end(&self) -> u64 {
        self.nonzero_end.max(self.summary.bytes)
    }
}

/// All segment files of the directory.
struct Loaded {
    pieces: Vec<Piece>,
    /// The highest durable end that anything knows of.
    durable_end: LogIndex,
    /// One past the last sound frame.
    due: LogIndex,
    /// The first index that is there.
    first_found: Option<LogIndex>,
}

/// What is to be done about the bad spots.
#[derive(Default)]
struct Verdict {
    /// The log start: what lies below is not asked for.
    start: LogIndex,
    /// Cut here: the piece, and the spot in it.
    cut: Option<(usize, BadSpot)>,
    damaged: Vec<DamagedRange>,
    end_lost: Option<LogIndex>,
}

impl Recover<'_> {
    /// Reads the directory, cuts what is torn and makes what is left durable.
    pub(crate) fn run(&self) -> Result<Recovered, OpenError> {
        let firsts = self.tidy()?;
        let Loaded { mut pieces, durable_end, due, first_found } = self.load(&firsts)?;
        let durable_end = durable_end.max(self.start.first_index);
        if due < self.start.first_index {
            // All of it lies below the log start, which was durable before anything was trimmed.
            return self.drop_all(&pieces);
        }
        let mut verdict = self.judge(&mut pieces, durable_end, first_found);
        if due < durable_end && verdict.cut.is_none() && verdict.end_lost.is_none() {
            verdict.damaged.push(DamagedRange { first: due, last: durable_end.saturating_sub(1) });
            verdict.end_lost = Some(due);
        }
        let clean = self.meta.clean
            && self.meta.durable_end == due
            && verdict.cut.is_none()
            && verdict.damaged.is_empty();
        let torn = self.cut(&mut pieces, &verdict)?;
        if !clean {
            self.make_durable(&pieces, durable_end).map_err(OpenError::io("sync the log"))?;
        }
        Ok(self.finish(pieces, Recovery { clean, torn, ..verdict.into_report() }))
    }

    /// Removes what a crash left lying about and answers the segments' first indexes and lengths.
    fn tidy(&self) -> Result<Vec<LogIndex>, OpenError> {
        let entries = self.disk.list(self.dir).map_err(OpenError::io("list the log"))?;
        let mut firsts: Vec<LogIndex> =
            entries.iter().filter_map(|entry| parse_name(&entry.name, ".log")).collect();
        firsts.sort_unstable();
        // A segment whose successor begins at or below the log start has been trimmed.
        let trimmed = firsts
            .windows(2)
            .take_while(|pair| pair.get(1).is_some_and(|next| *next <= self.start.first_index))
            .count();
        let doomed: Vec<LogIndex> = firsts.drain(..trimmed).collect();
        for entry in &entries {
            let orphan = parse_name(&entry.name, ".index")
                .is_some_and(|first| firsts.binary_search(&first).is_err());
            if orphan || entry.name.ends_with(".tmp") {
                self.remove(&entry.name)?;
            }
        }
        for first in doomed {
            self.remove(&log_name(first))?;
        }
        Ok(firsts)
    }

    fn remove(&self, name: &str) -> Result<(), OpenError> {
        self.disk
            .remove_file(&self.dir.join(name))
            .map_err(OpenError::io("remove a left-over file"))
    }

    /// Reads all segments.
    fn load(&self, firsts: &[LogIndex]) -> Result<Loaded, OpenError> {
        let mut loaded = Loaded {
            pieces: Vec::with_capacity(firsts.len()),
            durable_end: self.meta.durable_end,
            due: self.start.first_index,
            first_found: None,
        };
        let mut before = self.start.boundary();
        for (at, first) in firsts.iter().enumerate() {
            let next = firsts.get(at + 1).copied();
            let base = (before.index == *first).then_some(before);
            let (piece, claim) =
                self.load_one(*first, next, base).map_err(OpenError::io("read a segment"))?;
            loaded.durable_end = loaded.durable_end.max(claim);
            if !piece.summary.is_empty() {
                let found = piece.summary.base.index;
                if loaded.first_found.is_some() {
                    note_gap(&mut loaded.pieces, before.index, found);
                }
                loaded.first_found.get_or_insert(found);
                before = piece.summary.end;
                loaded.due = before.index;
            }
            loaded.pieces.push(piece);
        }
        Ok(loaded)
    }

    fn load_one(
        &self,
        first: LogIndex,
        next: Option<LogIndex>,
        base: Option<Boundary>,
    ) -> io::Result<(Piece, LogIndex)> {
        let file = Arc::new(SegmentFile::new(self.disk, self.dir, first));
        let handle = file.file()?;
        let bytes = handle.len()?;
        let head = read_head(handle.as_ref());
        let index = file.load_head().filter(|index| {
            head.is_some_and(|head| head.id == index.id)
                && index.base.index == first
                && index.generation <= self.meta.generation
        });
        let claim = index
            .as_ref()
            .filter(|index| index.generation == self.meta.generation)
            .map_or(LogIndex::ZERO, |index| index.end.index);
        let index = index.filter(|index| {
            base.is_none_or(|base| base == index.base)
                && next.is_none_or(|next| index.end.index <= next)
                && index.bytes <= bytes
        });
        if let Some(index) = index.as_ref().filter(|index| index.sealed) {
            file.shed();
            return Ok((Piece::trusted(first, file, index), claim));
        }
        let known = index.and_then(|index| {
            let sparse = file.load_entries()?;
            Some(ScanFrom::Known(Summary { sparse, ..summary_of(&index) }, index.id))
        });
        let outcome = scan(
            ScanRequest {
                file: handle,
                bytes,
                end_index: next,
                from: known.or(base.map(ScanFrom::Base)),
                generation: self.meta.generation,
                spacing_bytes: self.options.index_interval_bytes,
            },
            &mut |_, _, _| {},
        );
        let claim = claim.max(outcome.durable_end);
        Ok((Piece::scanned(first, file, outcome, next.is_some()), claim))
    }

    /// Decides about every bad spot, in order.
    fn judge(
        &self,
        pieces: &mut [Piece],
        durable_end: LogIndex,
        first_found: Option<LogIndex>,
    ) -> Verdict {
        let mut verdict = Verdict { start: self.start.first_index, ..Verdict::default() };
        let mut bytes_behind: u64 = pieces.iter().map(Piece::bytes_end).sum();
        if let Some(found) = first_found.filter(|found| *found > self.start.first_index) {
            let spot = missing(self.start.first_index, found, 0);
            if spot.index >= durable_end && bytes_behind <= self.options.inflight_bytes_max {
                verdict.cut = Some((0, spot));
                return verdict;
            }
            verdict.damage(&spot, durable_end);
        }
        for (at, piece) in pieces.iter_mut().enumerate() {
            bytes_behind -= piece.bytes_end();
            for spot in &piece.bad_spots {
                if spot.next.is_some_and(|next| next <= self.start.first_index) {
                    continue;
                }
                let beyond = bytes_behind + piece.nonzero_end.saturating_sub(spot.position);
                if !spot.unreadable
                    && spot.index >= durable_end
                    && beyond <= self.options.inflight_bytes_max
                {
                    verdict.cut = Some((at, *spot));
                    return verdict;
                }
                piece.damaged = true;
                verdict.damage(spot, durable_end);
            }
        }
        verdict
    }

    /// Cuts the torn tail off, and segments without frames.
    fn cut(
        &self,
        pieces: &mut Vec<Piece>,
        verdict: &Verdict,
    ) -> Result<Option<TornTail>, OpenError> {
        let mut bytes = 0;
        let mut kept = pieces.len();
        if let Some((at, spot)) = &verdict.cut {
            let behind = pieces.get(at + 1..).unwrap_or_default();
            bytes = behind.iter().map(Piece::bytes_end).sum::<u64>();
            kept = at + 1;
            if let Some(piece) = pieces.get_mut(*at) {
                bytes += piece.nonzero_end.saturating_sub(spot.position);
                if spot.index <= piece.first_index {
                    kept = *at;
                } else {
                    self.shorten(piece, spot).map_err(OpenError::io("cut a torn tail"))?;
                }
            }
        }
        // With the end lost, files stay as they are: evidence, and perhaps of use to an operator.
        while verdict.end_lost.is_none()
            && kept > 0
            && pieces.get(kept - 1).is_some_and(|piece| piece.summary.is_empty())
        {
            kept -= 1;
        }
        let doomed: Vec<Piece> = pieces.drain(kept..).collect();
        for piece in doomed.iter().rev() {
            piece.file.remove().map_err(OpenError::io("remove a torn segment"))?;
        }
        if !doomed.is_empty() {
            self.disk.sync_dir(self.dir).map_err(OpenError::io("sync the log's directory"))?;
        }
        let torn = verdict.cut.as_ref().map(|(_, spot)| TornTail { index: spot.index, bytes });
        Ok(torn.filter(|torn| torn.bytes > 0))
    }

    /// Cuts a segment at a bad spot, durably, and makes it the active one.
    fn shorten(&self, piece: &mut Piece, spot: &BadSpot) -> io::Result<()> {
        if piece.trusted || spot.position >= piece.summary.bytes {
            // What follows this segment is missing, but it ends well itself.
            if !piece.trusted {
                piece.sealed = false;
                piece.file.file()?.set_len(piece.summary.bytes)?;
            }
            return Ok(());
        }
        let handle = piece.file.file()?;
        let outcome = scan(
            ScanRequest {
                file: Arc::clone(&handle),
                bytes: spot.position,
                end_index: Some(spot.index),
                from: Some(ScanFrom::Base(piece.summary.base)),
                generation: self.meta.generation,
                spacing_bytes: self.options.index_interval_bytes,
            },
            &mut |_, _, _| {},
        );
        piece.summary = outcome.summary;
        piece.sealed = false;
        handle.set_len(spot.position)?;
        handle.sync_data()
    }

    /// Syncs what was scanned: it may have been read from the page cache of a process that ended.
    /// What is not known to be durable is written once more, as it is: if the sync of that process
    /// failed, the kernel counts its pages as clean and another sync would not write them.
    fn make_durable(&self, pieces: &[Piece], durable_end: LogIndex) -> io::Result<()> {
        for piece in pieces.iter().filter(|piece| !piece.trusted) {
            let handle = piece.file.file()?;
            // A damaged one may not be readable, and is not used.
            if piece.summary.end.index > durable_end && !piece.damaged {
                let known = piece.summary.sparse.iter().rfind(|entry| entry.index <= durable_end);
                let from = known.map_or(0, |entry| entry.position);
                rewrite(handle.as_ref(), from..piece.summary.bytes)?;
            }
            if let (true, false, Some(id)) = (piece.head_fault, piece.damaged, piece.id) {
                let base = piece.summary.base;
                handle.write_at(&segment::encode(&SegmentHead { id, base }), 0)?;
            }
            handle.sync_data()?;
        }
        self.disk.sync_dir(self.dir)
    }

    fn drop_all(&self, pieces: &[Piece]) -> Result<Recovered, OpenError> {
        for piece in pieces.iter().rev() {
            piece.file.remove().map_err(OpenError::io("remove a trimmed segment"))?;
        }
        self.disk.sync_dir(self.dir).map_err(OpenError::io("sync the log's directory"))?;
        Ok(self.finish(Vec::new(), Recovery::default()))
    }

    fn finish(&self, pieces: Vec<Piece>, report: Recovery) -> Recovered {
        let mut segments = VecDeque::with_capacity(pieces.len());
        let mut end = self.start.boundary();
        for piece in pieces.into_iter().filter(|piece| !piece.summary.is_empty()) {
            let Some(id) = piece.id else { continue };
            end = piece.summary.end;
            segments.push_back(Segment {
                file: piece.file,
                id,
                summary: piece.summary,
                sealed: piece.sealed,
                indexed: piece.trusted,
                damaged: piece.damaged,
                dirty: None,
            });
        }
        let committed = self.meta.committed_end.max(self.start.first_index).min(end.index);
        let report = Recovery { durable: end.index.prev(), committed: committed.prev(), ..report };
        Recovered { segments, end, report }
    }
}

impl Piece {
    fn trusted(first_index: LogIndex, file: Arc<SegmentFile>, index: &IndexHead) -> Self {
        Self {
            first_index,
            file,
            id: Some(index.id),
            summary: summary_of(index),
            bad_spots: Vec::new(),
            head_fault: false,
            nonzero_end: 0,
            sealed: true,
            trusted: true,
            damaged: false,
        }
    }

    fn scanned(
        first_index: LogIndex,
        file: Arc<SegmentFile>,
        outcome: ScanOutcome,
        sealed: bool,
    ) -> Self {
        Self {
            first_index,
            file,
            id: outcome.id,
            summary: outcome.summary,
            bad_spots: outcome.bad_spots,
            head_fault: outcome.head_fault.is_some(),
            nonzero_end: outcome.nonzero_end,
            sealed,
            trusted: false,
            damaged: false,
        }
    }
}

impl Verdict {
    fn damage(&mut self, spot: &BadSpot, durable_end: LogIndex) {
        let last = match spot.next {
            Some(next) => next.saturating_sub(1),
            None => durable_end.saturating_sub(1).max(spot.index),
        };
        let first = spot.index.max(self.start);
        match self.damaged.last_mut().filter(|range| range.last.next() >= first) {
            Some(range) => range.last = range.last.max(last),
            None => self.damaged.push(DamagedRange { first, last }),
        }
        if spot.next.is_none() {
            self.end_lost = Some(spot.index);
        }
    }

    fn into_report(self) -> Recovery {
        Recovery { damaged: self.damaged, end_lost: self.end_lost, ..Recovery::default() }
    }
}

/// Notes, in the piece before, that frames between two pieces are missing.
fn note_gap(pieces: &mut [Piece], due: LogIndex, found: LogIndex) {
    if found <= due {
        return;
    }
    let open = pieces
        .iter_mut()
        .rev()
        .find_map(|piece| piece.bad_spots.last_mut().filter(|spot| spot.next.is_none()));
    if let Some(spot) = open {
        spot.next = Some(found);
    } else if let Some(piece) = pieces.last_mut() {
        piece.bad_spots.push(missing(due, found, piece.summary.bytes));
    }
}

fn missing(index: LogIndex, next: LogIndex, position: u64) -> BadSpot {
    let fault = FrameFault::Missing;
    BadSpot { index, next: Some(next), position, fault, unreadable: false }
}

fn summary_of(index: &IndexHead) -> Summary {
    Summary {
        base: index.base,
        end: index.end,
        bytes: index.bytes,
        first_append_time: index.first_append_time,
        max_timestamp: index.max_timestamp,
        terms: index.terms.clone(),
        sparse: Vec::new(),
    }
}

/// Writes a range of a file with what it holds.
fn rewrite(file: &dyn DiskFile, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut chunk = vec![0; SCAN_CHUNK_BYTES];
    let mut position = range.start;
    while position < range.end {
        let left = usize::try_from(range.end - position).unwrap_or(usize::MAX);
        let wanted = left.min(chunk.len());
        let read = file.read_at(&mut chunk[..wanted], position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&chunk[..read], position)?;
        position += u64::try_from(read).map_err(io::Error::other)?;
    }
    Ok(())
}

fn read_head(file: &dyn DiskFile) -> Option<SegmentHead> {
    let mut bytes = [0; SEGMENT_HEAD_BYTES];
    let read = file.read_at(&mut bytes, 0).ok()?;
    segment::decode(bytes.get(..read)?).ok()
}
