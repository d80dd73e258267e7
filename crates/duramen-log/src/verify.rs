//! Reads a log directory without opening it: every frame, checksum and link, and says what is bad.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{Disk, OpenMode};
use duramen_types::{LogIndex, Offset};

use crate::boundary::Boundary;
use crate::error::{ErrorKind, FrameFault, OpenError};
use crate::frame::FrameHeader;
use crate::limits::{INDEX_INTERVAL_BYTES, INFLIGHT_BYTES_MAX};
use crate::meta;
use crate::options::LogIdentity;
use crate::scan::{BadSpot, ScanFrom, ScanOutcome, ScanRequest, scan};
use crate::segment::{log_name, parse_name};
use crate::start;

/// A directory or file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log's small files are missing or damaged.
    #[error("the log cannot be opened")]
    Open(#[from] OpenError),
    /// The operating system refused.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl VerifyError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Io { .. } => ErrorKind::Fatal,
        }
    }
}

/// What a bad place in a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemClass {
    /// Behind everything that is known to have been synced: the next open cuts it.
    Torn,
    /// Synced and lost.
    Corrupt,
}

/// A bad place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The segment file's name.
    pub file: String,
    /// Where in it, in bytes.
    pub position: u64,
    /// The log index that is due there.
    pub index: LogIndex,
    /// The next index that is there again; `None` if nothing is.
    pub next: Option<LogIndex>,
    /// What is wrong.
    pub fault: FrameFault,
    /// Torn or corrupt.
    pub class: ProblemClass,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// The log start.
    pub start_index: LogIndex,
    /// The log start offset.
    pub start_offset: Offset,
    /// One past the last index.
    pub end_index: LogIndex,
    /// The log end offset.
    pub end_offset: Offset,
    /// The chain hash of the last frame.
    pub chain: u64,
    /// One past the last index that is known to be synced.
    pub durable_end: LogIndex,
    /// Segment files.
    pub segments: usize,
    /// Sound frames, those below the log start counted.
    pub frames: u64,
    /// The bytes they take.
    pub bytes: u64,
    /// Bad places, in order.
    pub problems: Vec<Problem>,
}

/// One sound frame as verification or a dump shows it.
#[derive(Clone, Copy, Debug)]
pub struct FrameSight<'a> {
    /// The first index of its segment.
    pub segment: LogIndex,
    /// Where it begins in the segment file, in bytes.
    pub position: u64,
    /// Its header.
    pub header: &'a FrameHeader,
    /// Its payload; the checksum holds.
    pub payload: &'a [u8],
}

/// Reads every segment of a log that nobody has open, and shows every sound frame. Writes
/// nothing.
///
/// # Errors
/// [`VerifyError`] if there is no log to read; bad frames are in the report.
pub fn verify_dir(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    on_frame: &mut dyn FnMut(FrameSight<'_>),
) -> Result<VerifyReport, VerifyError> {
    if !disk.exists(&meta::path(dir)).map_err(io_error("look for the log"))? {
        return Err(OpenError::Missing.into());
    }
    let record = meta::peek(disk.as_ref(), dir)?;
    let start = start::load(disk.as_ref(), dir, record.identity)?.start;
    let mut walk = Walk {
        disk,
        dir,
        before: start.boundary(),
        generation: record.generation,
        durable_end: record.durable_end.max(start.first_index),
        seen: Vec::new(),
        frames: 0,
        bytes: 0,
    };
    let entries = disk.list(dir).map_err(io_error("list the log"))?;
    let firsts: Vec<LogIndex> =
        entries.iter().filter_map(|entry| parse_name(&entry.name, ".log")).collect();
    for (at, first) in firsts.iter().enumerate() {
        walk.segment(*first, firsts.get(at + 1).copied(), on_frame)?;
    }
    let start_boundary = start.boundary();
    Ok(VerifyReport {
        identity: record.identity,
        start_index: start_boundary.index,
        start_offset: start_boundary.offset,
        end_index: walk.before.index,
        end_offset: walk.before.offset,
        chain: walk.before.chain,
        durable_end: walk.durable_end,
        segments: firsts.len(),
        frames: walk.frames,
        bytes: walk.bytes,
        problems: walk.problems(start_boundary.index),
    })
}

/// A verification under way.
struct Walk<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    before: Boundary,
    generation: u64,
    durable_end: LogIndex,
    /// Bad spots with their segment and how many bytes lie beyond them in it.
    seen: Vec<(LogIndex, BadSpot, u64)>,
    frames: u64,
    bytes: u64,
}

impl Walk<'_> {
    fn segment(
        &mut self,
        first: LogIndex,
        next: Option<LogIndex>,
        on_frame: &mut dyn FnMut(FrameSight<'_>),
    ) -> Result<(), VerifyError> {
        let path = self.dir.join(log_name(first));
        let file = self.disk.open(&path, OpenMode::Read).map_err(io_error("open a segment"))?;
        let bytes = file.len().map_err(io_error("read a segment"))?;
        let base = (self.before.index == first).then_some(self.before);
        let request = ScanRequest {
            file,
            bytes,
            end_index: next,
            from: base.map(ScanFrom::Base),
            generation: self.generation,
            spacing_bytes: INDEX_INTERVAL_BYTES,
        };
        let mut counted = (0, 0);
        let outcome = scan(request, &mut |header, position, payload| {
            counted.0 += 1;
            counted.1 += header.frame_bytes();
            on_frame(FrameSight { segment: first, position, header, payload });
        });
        self.frames += counted.0;
        self.bytes += counted.1;
        self.durable_end = self.durable_end.max(outcome.durable_end);
        self.note(first, &outcome);
        Ok(())
    }

    fn note(&mut self, first: LogIndex, outcome: &ScanOutcome) {
        let found = outcome.summary.base.index;
        if !outcome.summary.is_empty() && found > self.before.index {
            let open = self.seen.last_mut().filter(|(_, spot, _)| spot.next.is_none());
            match open {
                Some((_, spot, _)) => spot.next = Some(found),
                None => self.push_gap(first, found),
            }
        }
        if let Some(fault) = outcome.head_fault.filter(|_| !outcome.summary.is_empty()) {
            let spot =
                BadSpot { index: first, next: Some(first), position: 0, fault, is_damage: false };
            self.seen.push((first, spot, 0));
        }
        for spot in &outcome.bad_spots {
            let beyond = outcome.nonzero_end.saturating_sub(spot.position);
            self.seen.push((first, *spot, beyond));
        }
        if !outcome.summary.is_empty() {
            self.before = outcome.summary.end;
        }
    }

    fn push_gap(&mut self, first: LogIndex, found: LogIndex) {
        let spot = BadSpot {
            index: self.before.index,
            next: Some(found),
            position: 0,
            fault: FrameFault::Missing,
            is_damage: false,
        };
        self.seen.push((first, spot, 0));
    }

    /// The bad places at or above the log start, and what is missing at the end.
    fn problems(&self, start: LogIndex) -> Vec<Problem> {
        let seen = self.seen.iter().filter(|(_, spot, _)| {
            spot.index >= start || spot.next.is_none_or(|next| next > start)
        });
        let mut problems: Vec<Problem> = seen
            .map(|(first, spot, beyond)| {
                let torn = !spot.is_damage
                    && spot.index >= self.durable_end
                    && *beyond <= INFLIGHT_BYTES_MAX;
                let class = if torn { ProblemClass::Torn } else { ProblemClass::Corrupt };
                problem(*first, spot, class)
            })
            .collect();
        let open = self.seen.last().is_some_and(|(_, spot, _)| spot.next.is_none());
        if self.before.index < self.durable_end && !open {
            let spot = BadSpot {
                index: self.before.index,
                next: None,
                position: 0,
                fault: FrameFault::Missing,
                is_damage: false,
            };
            problems.push(problem(self.before.index, &spot, ProblemClass::Corrupt));
        }
        problems
    }
}

fn problem(first: LogIndex, spot: &BadSpot, class: ProblemClass) -> Problem {
    let BadSpot { index, next, position, fault, .. } = *spot;
    Problem { file: log_name(first), position, index, next, fault, class }
}

/// Shows every sound frame of one segment file, whatever log it belongs to. Answers the bad
/// places, as index, position and fault.
///
/// # Errors
/// [`VerifyError::Io`] if the file cannot be opened.
pub fn dump_file(
    disk: &Arc<dyn Disk>,
    path: &Path,
    on_frame: &mut dyn FnMut(FrameSight<'_>),
) -> Result<Vec<(LogIndex, u64, FrameFault)>, VerifyError> {
    let file = disk.open(path, OpenMode::Read).map_err(io_error("open the segment"))?;
    let bytes = file.len().map_err(io_error("read the segment"))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let segment = parse_name(name, ".log").unwrap_or_default();
    let request = ScanRequest {
        file,
        bytes,
        end_index: None,
        from: None,
        generation: u64::MAX,
        spacing_bytes: INDEX_INTERVAL_BYTES,
    };
    let outcome = scan(request, &mut |header, position, payload| {
        on_frame(FrameSight { segment, position, header, payload });
    });
    Ok(outcome.bad_spots.iter().map(|spot| (spot.index, spot.position, spot.fault)).collect())
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> VerifyError {
    move |source| VerifyError::Io { action, source }
}
