//! Appending: stamp or check headers, find room, let readers see it, and leave the writing to sync.
//!
//! Everything that can fail for want of space comes before anything changes, so that a full disk
//! changes nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::DiskFile;
use duramen_env::planted::{Planted, is_planted};
use duramen_types::{LogIndex, Offset, Timestamp};

use super::{Log, State, lock};
use crate::boundary::Boundary;
use crate::error::{FrameFault, LogError, is_full};
use crate::format::frame::Envelope;
use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead};
use crate::frame::{Frame, FrameHeader, HasPayload, NewFrame};
use crate::limits::{FRAME_OVERHEAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::options::LogOptions;
use crate::pen::{Placed, Stroke, What, room_for};
use crate::segment::{Segment, SegmentFile, SegmentId, Spacing, Summary};

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record appended.
    pub base_offset: Offset,
    /// The log end offset now.
    pub end_offset: Offset,
    /// The log end index now.
    pub end_index: LogIndex,
}

/// The appender's side of the log.
#[derive(Debug)]
pub(super) struct Writer {
    active: Option<Active>,
    /// Kept for reuse.
    headers: Vec<FrameHeader>,
}

/// The segment that takes appends.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Arc<SegmentFile>,
    pub(super) handle: Arc<dyn DiskFile>,
    pub(super) id: SegmentId,
    pub(super) base: Boundary,
    /// Where the next frame goes.
    pub(super) bytes: u64,
    /// Up to where there is room.
    pub(super) allocated: u64,
    /// How much room to ask for next; 0 before the first time.
    pub(super) extent: u64,
    pub(super) first_append_time: Timestamp,
}

impl Writer {
    /// Goes on with the last segment if it is not sealed.
    pub(super) fn resume(last: Option<&Segment>) -> io::Result<Self> {
        let active = match last.filter(|segment| !segment.sealed) {
            Some(segment) => {
                let handle = segment.file.file()?;
                let len = handle.len()?;
                let opened = (handle, len);
                Some(Active::resume(&segment.file, segment.id, &segment.summary, opened))
            }
            None => None,
        };
        Ok(Self { active, headers: Vec::new() })
    }

    pub(super) fn set_active(&mut self, active: Option<Active>) {
        self.active = active;
    }

    /// Gives the active segment's unused room back.
    pub(super) fn fit_active(&mut self) -> io::Result<()> {
        self.active.as_mut().map_or(Ok(()), Active::fit)
    }

    pub(super) fn shed(&mut self) {
        self.headers = Vec::new();
    }
}

impl Active {
    /// Goes on with a segment whose open file has a length.
    pub(super) fn resume(
        file: &Arc<SegmentFile>,
        id: SegmentId,
        summary: &Summary,
        (handle, allocated): (Arc<dyn DiskFile>, u64),
    ) -> Self {
        Self {
            file: Arc::clone(file),
            id,
            base: summary.base,
            bytes: summary.bytes,
            allocated,
            handle,
            extent: 0,
            first_append_time: summary.first_append_time,
        }
    }

    /// Gets room up to a position.
    fn reserve(&mut self, end: u64, options: &LogOptions) -> io::Result<()> {
        let end = room_for(end);
        if end <= self.allocated {
            return Ok(());
        }
        let extent = self.extent.max(options.extent_bytes_min).min(options.extent_bytes_max);
        let wish = self.allocated.saturating_add(extent).min(options.segment_bytes);
        let wish = room_for(wish).max(end);
        let granted = match self.handle.allocate(self.allocated, wish - self.allocated) {
            Ok(()) => wish,
            Err(error) if is_full(&error) => {
                self.handle.allocate(self.allocated, end - self.allocated)?;
                end
            }
            Err(error) => return Err(error),
        };
        self.allocated = granted;
        self.extent = extent.saturating_mul(2);
        Ok(())
    }

    /// Gives unused room back.
    pub(super) fn fit(&mut self) -> io::Result<()> {
        if self.allocated > self.bytes {
            self.handle.set_len(self.bytes)?;
            self.allocated = self.bytes;
        }
        Ok(())
    }
}

/// Consecutive frames that go into one segment.
struct Run {
    frames: Range<usize>,
    /// Where the run ends in the segment, in bytes.
    end: u64,
    /// They begin a new segment.
    is_fresh: bool,
    /// That segment, once it has been made.
    fresh: Option<Active>,
}

/// What was read from the state when the append began.
struct Before {
    end: Boundary,
    envelope: (u64, LogIndex),
    options: LogOptions,
}

impl Log {
    /// Appends a leader's frames: stamps base offsets, append times and chain hashes. They can be
    /// read when this returns and are durable after the next [`Log::sync`]. Does not sync, but if
    /// more than [`LogOptions::inflight_bytes_max`] would be in flight.
    ///
    /// # Errors
    /// [`LogError::NotNext`], [`LogError::BadFrame`], [`LogError::TooLarge`],
    /// [`LogError::EndLost`], [`LogError::Full`] and an [`LogError::Io`] that says "make room"
    /// change nothing; any other one poisons the log.
    pub fn append(&self, frames: &[NewFrame]) -> Result<Appended, LogError> {
        self.append_with(frames, |end, frame: &NewFrame| {
            expect_next(end, frame.index)?;
            let header = end.stamp(frame, crc32fast::hash(&frame.payload));
            let bad = |fault| LogError::BadFrame { index: frame.index, fault };
            end.check_order(&header).map_err(bad)?;
            if end.offset.checked_add(u64::from(frame.records)).is_none() {
                let (found, expected) = (end.offset, end.offset);
                return Err(bad(FrameFault::Offset { found, expected }));
            }
            Ok(header)
        })
    }

    /// Appends frames as another replica's log holds them, after checking that they continue this
    /// one's history. Otherwise as [`Log::append`].
    ///
    /// # Errors
    /// [`LogError::Diverged`] if base offset, order, payload checksum or chain hash do not follow;
    /// nothing is appended then. Otherwise as [`Log::append`].
    pub fn append_canonical(&self, frames: &[Frame]) -> Result<Appended, LogError> {
        self.append_with(frames, |end, frame: &Frame| {
            let header = frame.header;
            expect_next(end, header.index)?;
            let diverged = |fault| LogError::Diverged { index: header.index, fault };
            if frame.payload.len() != header.payload_len as usize {
                return Err(diverged(FrameFault::PayloadLength));
            }
            if crc32fast::hash(&frame.payload) != header.payload_crc {
                return Err(diverged(FrameFault::PayloadChecksum));
            }
            if !is_planted(Planted::SkipChainCheck) {
                end.follow(&header).map_err(diverged)?;
            }
            Ok(header)
        })
    }

    fn append_with<F: HasPayload>(
        &self,
        frames: &[F],
        head: impl Fn(&Boundary, &F) -> Result<FrameHeader, LogError>,
    ) -> Result<Appended, LogError> {
        self.make_way(frames)?;
        let mut guard = lock(&self.writer);
        self.check_usable()?;
        let before = self.before()?;
        let writer = &mut *guard;
        writer.headers.clear();
        let mut end = before.end;
        for frame in frames {
            let header = head(&end, frame)?;
            end = Boundary::after(&header);
            writer.headers.push(header);
        }
        let runs = self.place(writer, &before)?;
        self.publish(writer, runs, frames, before.envelope);
        Ok(Appended {
            base_offset: before.end.offset,
            end_offset: end.offset,
            end_index: end.index,
        })
    }

    /// Checks sizes, and syncs if too much would be in flight: recovery relies on the bound.
    fn make_way<F: HasPayload>(&self, frames: &[F]) -> Result<(), LogError> {
        let mut bytes = 0;
        for payload in frames.iter().map(HasPayload::payload) {
            check_size(payload.len() as u64, PAYLOAD_BYTES_MAX as u64)?;
            bytes += (payload.len() + FRAME_OVERHEAD_BYTES).next_multiple_of(8) as u64;
        }
        let inflight_bytes_max = self.state().options.inflight_bytes_max;
        check_size(bytes, inflight_bytes_max)?;
        if self.unsynced_bytes().saturating_add(bytes) > inflight_bytes_max {
            self.sync()?;
        }
        Ok(())
    }

    fn before(&self) -> Result<Before, LogError> {
        let state = self.state();
        if let Some(first) = state.end_lost {
            return Err(LogError::EndLost { first });
        }
        let envelope = (state.generation, state.durable_end);
        Ok(Before { end: state.end, envelope, options: state.options })
    }

    /// Divides the frames among segments and gets room for all of them.
    fn place(&self, writer: &mut Writer, before: &Before) -> Result<Vec<Run>, LogError> {
        let mut runs = divide(writer.active.as_ref(), &writer.headers, &before.options);
        for at in 0..runs.len() {
            if let Err(error) = self.make_room(writer, before, &mut runs, at) {
                if let Err(error) = discard(&runs) {
                    tracing::warn!(%error, "could not remove an unused segment");
                }
                return Err(if is_full(&error) {
                    LogError::Full
                } else {
                    LogError::io("make room for an append")(error)
                });
            }
        }
        Ok(runs)
    }

    fn make_room(
        &self,
        writer: &mut Writer,
        before: &Before,
        runs: &mut [Run],
        at: usize,
    ) -> io::Result<()> {
        let Some(run) = runs.get_mut(at) else { return Ok(()) };
        if let (false, Some(active)) = (run.is_fresh, writer.active.as_mut()) {
            return active.reserve(run.end, &before.options);
        }
        let first = writer.headers.get(run.frames.start);
        let base = match run.frames.start.checked_sub(1).and_then(|last| writer.headers.get(last)) {
            Some(last) => Boundary::after(last),
            None => before.end,
        };
        let first_append_time = first.map_or(base.append_time, |header| header.append_time);
        let active = run.fresh.insert(self.fresh_segment(base, first_append_time)?);
        active.reserve(run.end, &before.options)
    }

    fn fresh_segment(&self, base: Boundary, first_append_time: Timestamp) -> io::Result<Active> {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        let file = Arc::new(SegmentFile::new(&self.disk, &self.dir, base.index));
        let handle = file.create()?;
        Ok(Active {
            file,
            handle,
            id: SegmentId(id),
            base,
            bytes: 0,
            allocated: 0,
            extent: 0,
            first_append_time,
        })
    }

    /// Seals what is full and lets readers see the frames.
    fn publish<F: HasPayload>(
        &self,
        writer: &mut Writer,
        runs: Vec<Run>,
        frames: &[F],
        (generation, durable_end): (u64, LogIndex),
    ) {
        for run in runs {
            let mut state = self.state();
            let mut head = None;
            if let Some(mut next) = run.fresh {
                next.bytes = SEGMENT_HEAD_BYTES as u64;
                head = Some(SegmentHead { id: next.id, base: next.base });
                if let Some(active) = writer.active.replace(next) {
                    state.fit(&active);
                }
            }
            let Some(active) = &mut writer.active else { continue };
            if head.is_some() {
                state.begin_segment(active);
            }
            let envelope = Envelope { segment: active.id, generation, durable_end };
            let headers = writer.headers.get(run.frames.clone()).unwrap_or_default();
            let frames = frames.get(run.frames).unwrap_or_default();
            for (header, frame) in headers.iter().zip(frames) {
                let what = What::Frame(Placed {
                    position: active.bytes,
                    head: head.take(),
                    envelope,
                    header: *header,
                    payload: frame.payload().clone(),
                });
                state.unwritten.push(Stroke { file: Arc::clone(&active.file), what });
                state.push(header, frame.payload(), active.bytes);
                active.bytes += header.frame_bytes();
            }
        }
    }

    /// Seals the active segment, if there is one: the next append begins a new one. Not synced.
    ///
    /// # Errors
    /// Any failure poisons the log.
    pub fn roll(&self) -> Result<(), LogError> {
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        if let Some(active) = writer.active.take() {
            let mut state = self.state();
            state.fit(&active);
            state.seal();
        }
        Ok(())
    }
}

impl State {
    /// Has unused room of a segment given back, once its frames are written.
    fn fit(&mut self, active: &Active) {
        let what = What::Fit { bytes: active.bytes };
        self.unwritten.push(Stroke { file: Arc::clone(&active.file), what });
    }

    /// Seals the last segment; the next sync writes its index.
    fn seal(&mut self) {
        self.writes += 1;
        let writes = self.writes;
        if let Some(last) = self.segments.back_mut().filter(|last| !last.sealed) {
            last.sealed = true;
            last.dirty = Some(writes);
        }
    }

    fn begin_segment(&mut self, active: &Active) {
        self.seal();
        self.names_dirty = true;
        self.segments.push_back(Segment {
            file: Arc::clone(&active.file),
            id: active.id,
            summary: Summary::new(active.base),
            written_bytes: 0,
            sealed: false,
            indexed: false,
            damaged: false,
            dirty: None,
        });
    }

    fn push(&mut self, header: &FrameHeader, payload: &Bytes, position: u64) {
        self.writes += 1;
        let spacing = Spacing { bytes: self.options.index_interval_bytes, landmark: false };
        if let Some(segment) = self.segments.back_mut() {
            segment.summary.push(header, position, spacing);
            segment.dirty = Some(self.writes);
        }
        self.cache.push(Frame { header: *header, payload: payload.clone() }, self.written_end);
        self.appended_bytes += header.frame_bytes();
        self.end = Boundary::after(header);
    }
}

/// Divides frames among the active segment and new ones.
fn divide(active: Option<&Active>, headers: &[FrameHeader], options: &LogOptions) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(1);
    let mut room = active.map(|active| (active.bytes, active.first_append_time));
    for (at, header) in headers.iter().enumerate() {
        let bytes = header.frame_bytes();
        let is_full = room.is_none_or(|(position, since)| {
            position.saturating_add(bytes) > options.segment_bytes
                || header.append_time.millis_since(since) >= options.segment_ms
        });
        let (position, since) = match room {
            Some(room) if !is_full => room,
            _ => (SEGMENT_HEAD_BYTES as u64, header.append_time),
        };
        let end = position + bytes;
        room = Some((end, since));
        match runs.last_mut() {
            Some(run) if !is_full => (run.frames.end, run.end) = (at + 1, end),
            _ => runs.push(Run { frames: at..at + 1, end, is_fresh: is_full, fresh: None }),
        }
    }
    runs
}

/// Removes the segments that were made for runs that are not to be.
fn discard(runs: &[Run]) -> io::Result<()> {
    runs.iter().filter_map(|run| run.fresh.as_ref()).try_for_each(|active| active.file.remove())
}

fn expect_next(end: &Boundary, index: LogIndex) -> Result<(), LogError> {
    if index == end.index { Ok(()) } else { Err(LogError::NotNext { index, expected: end.index }) }
}

fn check_size(bytes: u64, bytes_max: u64) -> Result<(), LogError> {
    if bytes > bytes_max { Err(LogError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}
