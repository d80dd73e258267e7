//! Recovery: what of a log directory is the log, what is a torn write, and what is damage.
//!
//! ```text
//! D = the highest durable end that the metadata, an index file or a sound frame of the current
//!     truncation generation knows of
//!
//! bad frame at index i
//!   the disk cannot read it, or i < D                  damage: kept, reported, never cut
//!   all of its sectors were surely written             damage
//!   not more than the in-flight bound beyond it        torn: the log is cut there
//!   else                                               damage
//! ```
//! Sound frames behind a bad one prove nothing but D: unsynced pages reach the disk in any order.
//! Sealed segments with a sound index file were synced before it was written and are not scanned.

mod piece;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use duramen_env::Disk;
use duramen_env::planted::{Planted, is_planted};
use duramen_types::LogIndex;

use crate::boundary::Boundary;
use crate::error::{FrameFault, OpenError};
use crate::format::meta::MetaRecord;
use crate::format::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::limits::HEADER_CHUNK_BYTES;
use crate::options::LogOptions;
use crate::report::{DamagedRange, Recovery, TornTail};
use crate::scan::{BadSpot, ScanFrom, ScanRequest, scan};
use crate::segment::{Segment, SegmentFile, Summary, log_name, parse_name};
use crate::sparse::{Target, seek};
use crate::start::LogStart;
use crate::window::Window;
use piece::{Piece, missing, note_gap, read_head, rewrite, summary_of};

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
        let start = self.start.first_index;
        let mut spots = pieces.iter().flat_map(|piece| &piece.bad_spots);
        let is_readable = spots.all(|spot| spot.fault != FrameFault::Unreadable);
        if due < start && durable_end <= start && is_readable {
            // All of it lies below the log start, which was durable before anything was trimmed.
            return self.drop_all(&pieces);
        }
        let durable_end = durable_end.max(start);
        self.check_start(&pieces)?;
        let mut verdict = self.judge(&mut pieces, durable_end, first_found);
        if due < durable_end && verdict.cut.is_none() && verdict.end_lost.is_none() {
            let first = due.max(start);
            verdict.damaged.push(DamagedRange { first, last: durable_end.saturating_sub(1) });
            verdict.end_lost = Some(first);
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

    /// A log start within a segment must be what the frame before it leads to. Where a segment
    /// begins with it, its frames are checked against it. Where that frame is damaged nothing is
    /// known, and the start is believed.
    fn check_start(&self, pieces: &[Piece]) -> Result<(), OpenError> {
        let start = self.start.boundary();
        let Some(last) = start.index.prev() else { return Ok(()) };
        let holds =
            |piece: &&Piece| piece.summary.base.index <= last && last < piece.summary.end.index;
        let Some(piece) = pieces.iter().find(holds) else { return Ok(()) };
        let (target, bytes) = (Target::Index(last), piece.summary.bytes);
        let known =
            seek(&piece.summary.sparse, target).map_or_else(|| piece.file.seek(target, bytes), Ok);
        let mut position = known.map_err(OpenError::io("read a segment"))?;
        let file = piece.file.file().map_err(OpenError::io("read a segment"))?;
        let mut window = Window::of_file(file, bytes, HEADER_CHUNK_BYTES);
        while let Ok((_, header)) = window.head(position) {
            if header.index == last && Boundary::after(&header) != start {
                return Err(OpenError::StartLost);
            }
            if header.index >= last {
                break;
            }
            position += header.frame_bytes();
        }
        Ok(())
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
        let mut bytes_behind: u64 = pieces.iter().map(Piece::frame_bytes).sum();
        if let Some(found) = first_found.filter(|found| *found > self.start.first_index) {
            let spot = missing(self.start.first_index, found, 0);
            if spot.index >= durable_end && bytes_behind <= self.options.inflight_bytes_max {
                verdict.cut = Some((0, spot));
                return verdict;
            }
            verdict.damage(&spot, durable_end);
        }
        for (at, piece) in pieces.iter_mut().enumerate() {
            bytes_behind -= piece.frame_bytes();
            for spot in &piece.bad_spots {
                if spot.next.is_some_and(|next| next <= self.start.first_index) {
                    continue;
                }
                let first_frame = spot.position.max(SEGMENT_HEAD_BYTES as u64);
                let beyond = bytes_behind + piece.nonzero_end.saturating_sub(first_frame);
                let is_torn = !spot.is_damage
                    && spot.index >= durable_end
                    && beyond <= self.options.inflight_bytes_max;
                if is_torn || is_planted(Planted::TruncateOnBadChecksum) {
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
        // What follows a trusted segment is missing, but it ends well itself.
        if piece.trusted {
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
        piece.bad_spots.retain(|before| before.position < spot.position);
        piece.sealed = false;
        handle.set_len(spot.position)?;
        handle.sync_data()
    }

    /// Makes durable what was scanned: it may have been read from the page cache of a killed
    /// process. What nobody says was synced is written again first, for if a sync of that process
    /// failed, the kernel took its pages for clean, and a sync alone would lie.
    fn make_durable(&self, pieces: &[Piece], durable_end: LogIndex) -> io::Result<()> {
        for piece in pieces.iter().filter(|piece| !piece.trusted) {
            let handle = piece.file.file()?;
            if let (true, false, Some(id)) = (piece.head_fault, piece.damaged, piece.id) {
                let base = piece.summary.base;
                handle.write_at(&segment::encode(&SegmentHead { id, base }), 0)?;
            }
            if let Some(from) = piece.unproven(durable_end) {
                rewrite(handle.as_ref(), from..piece.summary.bytes)?;
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
                written_bytes: piece.summary.bytes,
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
