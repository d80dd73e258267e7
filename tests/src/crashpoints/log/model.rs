//! What a log must hold: the frames appended and not cut, as far as a sync covered them, and no
//! frame that never was.

use std::hash::{Hash as _, Hasher as _};

use bytes::Bytes;
use duramen_env::{CrashMode, SimDisk};
use duramen_log::{Frame, FrameKind, Log, LogError, LogStart, NewFrame, Recovery};
use duramen_types::{LogIndex, NodeId, Term, Timestamp};

use super::Place;
use crate::crashpoints::subject::{Expected, Found, Wrong, chain};

/// Frames from an index on, and how many of them a sync covered.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The index of the first frame.
    pub(super) first: u64,
    pub(super) frames: Vec<Frame>,
    /// One past the last index that must be there.
    pub(super) durable_end: u64,
}

impl History {
    fn empty_at(first: u64) -> Self {
        Self { first, frames: Vec::new(), durable_end: first }
    }

    /// Everything in a log.
    pub(super) fn read(log: &Log) -> Result<Self, LogError> {
        let start = log.start().first_index;
        let mut frames: Vec<Frame> = Vec::new();
        let mut next = start;
        while next < log.end_index() {
            let read = log.read(next, log.end_index(), 1 << 20)?;
            next = read.last().map_or(next, |frame| frame.header.index.next());
            frames.extend(read);
        }
        let durable_end = log.durable_index().map_or(0, |last| last.get() + 1);
        Ok(Self { first: start.get(), frames, durable_end })
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Drops what lies at or above an index, and answers it.
    pub(super) fn truncate(&mut self, end: u64) -> Vec<Frame> {
        self.durable_end = self.durable_end.min(end);
        let kept = usize::try_from(end.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.frames.split_off(kept.min(self.frames.len()))
    }

    /// The frames from an index on; `None` if they begin later or end before.
    fn from(&self, index: u64) -> Option<&[Frame]> {
        self.frames.get(usize::try_from(index.checked_sub(self.first)?).ok()?..)
    }
}

/// A frame of an append that failed or is under way.
pub(super) type Ghost = (LogIndex, Term, Bytes);

/// What may be found.
#[derive(Clone, Debug)]
pub(super) struct Model {
    place: Place,
    pub(super) now: History,
    /// What was there before a truncate that is under way.
    pub(super) before: Option<History>,
    /// A truncate is under way: where it took effect, nothing above it is there.
    pub(super) now_or_cut: bool,
    pub(super) committed_end: u64,
    /// The log starts that may be in force, the latest last.
    pub(super) starts: Vec<LogStart>,
    /// Where a reset that is under way leads: to an empty log.
    pub(super) resetting: Option<LogStart>,
    /// Appends that failed or are under way: they may or may not be there.
    pub(super) ghosts: Vec<Vec<Ghost>>,
}

impl Model {
    pub(super) fn new(place: Place) -> Self {
        Self::at(place, LogStart::origin())
    }

    /// An empty log at a start.
    pub(super) fn at(place: Place, start: LogStart) -> Self {
        let first = start.first_index.get();
        Self {
            place,
            now: History::empty_at(first),
            before: None,
            now_or_cut: false,
            committed_end: first,
            starts: vec![start],
            resetting: None,
            ghosts: Vec::new(),
        }
    }

    /// The log start in force.
    pub(super) fn start(&self) -> &LogStart {
        self.starts.last().expect("there is always one")
    }

    /// Goes on from what was found.
    pub(super) fn settle(&mut self, found: History, committed_end: u64) {
        self.now.truncate(found.end());
        let known = self.now.end();
        let more = found.from(known).unwrap_or_default().to_vec();
        self.now.frames.extend(more);
        self.now.durable_end = found.end();
        self.committed_end = committed_end.max(found.first);
        self.ghosts.clear();
    }

    /// Compares with what recovery made of it.
    pub(super) fn check(&self, log: &Log, found: &History) -> Result<(), Wrong> {
        let start = log.start();
        if !self.starts.contains(&start) {
            return Err(Wrong::changed(format!("the log starts at {start:?}")));
        }
        let committed = log.committed_index().map_or(0, |last| last.get() + 1);
        if self.resetting.as_ref() == Some(&start) {
            let is_empty = found.frames.is_empty();
            return if is_empty {
                Ok(())
            } else {
                Err(Wrong::changed("a frame of before a reset"))
            };
        }
        let known = self.committed_end.max(start.first_index.get());
        if committed > known {
            let what = format!("committed to {committed}, but only {known} was");
            return Err(Wrong::changed(what));
        }
        let now = self.compare(&self.now, found, self.now_or_cut);
        match &self.before {
            Some(before) => now.or_else(|_| self.compare(before, found, false)),
            None => now,
        }
    }

    /// Whether what was found is one of this history's prefixes, long enough.
    fn compare(&self, known: &History, found: &History, exact: bool) -> Result<(), Wrong> {
        let (end, durable_end) = (found.end(), known.durable_end);
        if end < durable_end {
            return Err(Wrong::lost(format!("synced up to {durable_end} but found up to {end}")));
        }
        let gone = || Wrong::changed(format!("found {} to {end}", found.first));
        let due = known.from(found.first).ok_or_else(gone)?;
        let both = due.len().min(found.frames.len());
        let (same, more) = found.frames.split_at(both);
        if let Some((frame, _)) = same.iter().zip(due).find(|(found, due)| found != due) {
            return Err(Wrong::changed(format!("another frame at {}", frame.header.index)));
        }
        if more.is_empty() {
            return Ok(());
        }
        let is_ghost = self.ghosts.iter().any(|ghosts| {
            let from = ghosts.iter().position(|(index, ..)| index.get() == known.end());
            let ghosts = from.and_then(|from| ghosts.get(from..)).unwrap_or_default();
            more.len() <= ghosts.len()
                && more.iter().zip(ghosts).all(|(frame, (index, term, payload))| {
                    frame.header.index == *index
                        && frame.header.term == *term
                        && frame.payload == *payload
                })
        });
        if is_ghost && !exact {
            return Ok(());
        }
        Err(Wrong::changed(format!("frames from {} on that never were", known.end())))
    }
}

impl Expected for Model {
    fn recover(&self, disk: &SimDisk) -> Result<Found, Wrong> {
        let opened = self.place.open(disk);
        let (log, recovery) = opened.map_err(|error| Wrong::refused(chain(&error)))?;
        sound(&recovery).map_err(|wrong| self.place.explain(disk, wrong))?;
        let found = History::read(&log).map_err(|error| Wrong::refused(chain(&error)));
        let found = found.map_err(|wrong| self.place.explain(disk, wrong))?;
        self.check(&log, &found)?;
        let mut hasher = std::hash::DefaultHasher::new();
        for frame in &found.frames {
            frame.header.chain.hash(&mut hasher);
            frame.payload.hash(&mut hasher);
        }
        let (first, end, hash) = (found.first, found.end(), hasher.finish());
        Ok(format!("frames {first} to {end} ({hash:016x})"))
    }

    fn carry_on(&self, disk: &SimDisk) -> Result<(), Wrong> {
        let refused = |error: &dyn std::error::Error| Wrong::refused(chain(error));
        let (log, _) = self.place.open(disk).map_err(|error| refused(&error))?;
        let end = log.end_index().get();
        let term = log.last().map_or(Term::ZERO, |(term, _)| term);
        for index in end..end + 4 {
            log.append(&[one_more(index, term)]).map_err(|error| refused(&error))?;
        }
        log.sync().map_err(|error| refused(&error))?;
        let before = History::read(&log).map_err(|error| refused(&error));
        let before = before.map_err(|wrong| self.place.explain(disk, wrong))?;
        drop(log);
        disk.crash(CrashMode::KeepNone);
        disk.reopen();
        let (log, recovery) = self.place.open(disk).map_err(|error| refused(&error))?;
        if recovery.torn.is_some() || !recovery.damaged.is_empty() {
            return Err(Wrong::refused(format!("what was synced is not sound: {recovery:?}")));
        }
        let after = History::read(&log).map_err(|error| refused(&error));
        let after = after.map_err(|wrong| self.place.explain(disk, wrong))?;
        if after.frames != before.frames {
            return Err(Wrong::lost("what was synced after a recovery is gone"));
        }
        Ok(())
    }
}

/// A power cut or a failed call is never taken for damage.
pub(super) fn sound(recovery: &Recovery) -> Result<(), Wrong> {
    if recovery.damaged.is_empty() && recovery.end_lost.is_none() {
        return Ok(());
    }
    Err(Wrong::refused(format!("it is taken for damage: {recovery:?}")))
}

fn one_more(index: u64, term: Term) -> NewFrame {
    NewFrame {
        kind: FrameKind::Data,
        term,
        leader: NodeId::new(4),
        index: LogIndex::new(index),
        records: 1,
        append_time: Timestamp::from_millis(0),
        max_timestamp: Timestamp::from_millis(0),
        payload: Bytes::from_static(b"one more"),
    }
}
