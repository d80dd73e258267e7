//! Where a read goes in one segment, decided under the lock and carried out without it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use duramen_types::{LogIndex, Term};

use super::State;
use crate::error::{FrameFault, LogError};
use crate::frame::FrameHeader;
use crate::report::DamagedRange;
use crate::segment::{Segment, SegmentFile, SegmentId};
use crate::sparse::{Target, seek};
use crate::window::Window;

/// What a reader needs to know of a segment.
pub(super) struct Plan {
    file: Arc<SegmentFile>,
    id: SegmentId,
    first_index: LogIndex,
    segment_end: LogIndex,
    bytes: u64,
    target: Target,
    /// The position to begin at; `None` asks the index file.
    from: Option<u64>,
    /// No frame from this index on is to be read.
    end: LogIndex,
    /// Sealed, sound, written and committed as a whole: its bytes never change.
    may_map: bool,
    generation: u64,
    /// The first index of each term within the segment.
    terms: Vec<(Term, LogIndex)>,
}

/// Why a read stopped; whether it counts is settled under the lock.
pub(super) enum Fault {
    /// A frame is bad.
    Frame { index: LogIndex, position: u64, fault: FrameFault },
    /// The operating system refused to open the segment.
    Io(io::Error),
}

impl State {
    /// A plan to read from an index on, up to `end`, to the next damaged frame or to the
    /// segment's end.
    pub(super) fn plan_at(&self, next: LogIndex, end: LogIndex) -> Result<Plan, LogError> {
        let damaged = self.damaged.iter().any(|range| range.contains(next));
        let segment = self.segment_at(next).and_then(|at| self.segments.get(at));
        let Some(segment) = segment.filter(|_| !damaged) else {
            let below = self.segments.partition_point(|one| one.summary.base.index <= next);
            let segment = below.checked_sub(1).and_then(|at| self.segments.get(at));
            let segment = segment.map_or(next, |one| one.summary.base.index);
            let fault = FrameFault::Missing;
            return Err(LogError::Corrupt { index: next, segment, position: 0, fault });
        };
        let mut plan = self.plan(segment, Target::Index(next));
        let later = self.damaged.iter().map(|range| range.first).filter(|first| *first > next);
        // The rest is in memory.
        plan.end = later.fold(end.min(plan.end), LogIndex::min);
        Ok(plan)
    }

    /// A plan to look for something in a segment.
    pub(super) fn plan(&self, segment: &Segment, target: Target) -> Plan {
        let summary = &segment.summary;
        Plan {
            file: Arc::clone(&segment.file),
            id: segment.id,
            first_index: summary.base.index,
            segment_end: summary.end.index,
            bytes: segment.written_bytes,
            target,
            from: if segment.indexed { None } else { seek(&summary.sparse, target) },
            end: summary.end.index.min(self.written_end),
            may_map: segment.sealed
                && !segment.damaged
                && summary.end.index <= self.committed_end.min(self.written_end),
            generation: self.generation,
            terms: summary.terms.clone(),
        }
    }

    /// What was found by its time, unless damaged frames before it may be what is looked for.
    pub(super) fn unless_hidden(
        &self,
        found: Option<FrameHeader>,
        below: LogIndex,
    ) -> Result<Option<FrameHeader>, LogError> {
        let end = found.map_or(below.min(self.end.index), |header| header.index);
        let is_damaged = self.damaged.iter().any(|range| range.first < end);
        if is_damaged { Err(self.hidden(end)) } else { Ok(found) }
    }

    /// The error of a frame below an index that damage hides.
    pub(super) fn hidden(&self, end: LogIndex) -> LogError {
        let before = self.damaged.iter().map(|range| range.first).filter(|first| *first < end);
        let index = before.max().unwrap_or(end);
        let fault = FrameFault::Missing;
        LogError::Corrupt { index, segment: index, position: 0, fault }
    }

    /// Notes that a synced frame turned out to be damaged; answers whether that is news.
    pub(super) fn note_damage(&mut self, index: LogIndex) -> bool {
        if self.damaged.iter().any(|range| range.contains(index)) {
            return false;
        }
        self.damaged.push(DamagedRange { first: index, last: index });
        if let Some(segment) = self.segment_at(index).and_then(|at| self.segments.get_mut(at)) {
            segment.damaged = true;
        }
        true
    }
}

impl Plan {
    /// No frame from this index on is to be read.
    pub(super) fn end(&self) -> LogIndex {
        self.end
    }

    /// How many bytes of the segment's file hold frames.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A view of the segment: mapped if it may be, else read in pieces of about `chunk` bytes. With
    /// a time, what was checked a short time before it is not checked again.
    pub(super) fn window(&self, chunk: usize, now: Option<Duration>) -> Result<Window, Fault> {
        if self.may_map {
            match self.file.map(self.bytes) {
                Ok((map, checked)) => {
                    let checked = now.map(|now| (checked, now));
                    return Ok(Window::of_map(map, checked));
                }
                Err(error) => tracing::debug!(%error, "reading a segment that cannot be mapped"),
            }
        }
        let file = self.file.file().map_err(Fault::Io)?;
        Ok(Window::of_file(file, self.bytes, chunk))
    }

    /// Where to begin looking.
    pub(super) fn begin(&self) -> Result<u64, Fault> {
        match self.from {
            Some(from) => Ok(from),
            None => self.file.seek(self.target, self.bytes).map_err(Fault::Io),
        }
    }

    /// The header at a position. `due` is the index expected there, if it is known, and moves on.
    pub(super) fn header(
        &self,
        window: &mut Window,
        position: u64,
        due: &mut Option<LogIndex>,
    ) -> Result<FrameHeader, Fault> {
        let expected = *due;
        let index = expected.unwrap_or(match self.target {
            Target::Index(index) => index,
            Target::Offset(_) | Target::Time(_) => self.first_index,
        });
        let bad = |fault| Fault::Frame { index, position, fault };
        let (envelope, header) = window.head(position).map_err(bad)?;
        if envelope.segment != self.id {
            return Err(bad(FrameFault::Segment));
        }
        if let Some(expected) = expected.filter(|expected| *expected != header.index) {
            return Err(bad(FrameFault::Index { found: header.index, expected }));
        }
        // What was cut from a log and took its place differ in their terms: where a disk goes back to
        // an old sector, its frame is sound but for that.
        if self.term_at(header.index).is_some_and(|term| term != header.term) {
            return Err(bad(FrameFault::Term { found: header.term }));
        }
        *due = Some(header.index.saturating_add(1));
        Ok(header)
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        let later = self.terms.partition_point(|(_, first)| *first <= index);
        self.terms.get(later.checked_sub(1)?).map(|(term, _)| *term)
    }

    /// Whether the segment was cut or trimmed since the plan was made.
    pub(super) fn is_stale(&self, state: &State) -> bool {
        state.generation != self.generation || state.start.first_index >= self.segment_end
    }

    /// Makes the next open scan the segment. Best effort: damage is found again by reading.
    pub(super) fn forget_index(&self) {
        if let Err(error) = self.file.forget_index() {
            tracing::warn!(%error, "could not remove the index of a damaged segment");
        }
    }
}

impl Fault {
    pub(super) fn into_error(self, plan: &Plan) -> LogError {
        match self {
            Self::Frame { index, position, fault } => {
                LogError::Corrupt { index, segment: plan.first_index, position, fault }
            }
            Self::Io(source) => LogError::Io { action: "open a segment", source },
        }
    }
}
