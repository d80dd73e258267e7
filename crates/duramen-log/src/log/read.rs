//! Reading: from the tail cache, from the active segment by `pread`, from sealed ones by mapping.
//!
//! A read never holds a lock while it touches the disk. It notes the truncation generation first;
//! if it then meets a fault and the generation has moved, the frames were cut under it and it
//! looks again.

use std::time::Duration;

use duramen_types::{LogIndex, Offset, Timestamp};

use super::Log;
use super::plan::{Fault, Plan};
use crate::error::{FrameFault, LogError};
use crate::frame::{Frame, FrameHeader};
use crate::limits::{FRAME_OVERHEAD_BYTES, HEADER_CHUNK_BYTES, READ_CHUNK_BYTES_MAX};
use crate::sparse::Target;
use crate::window::Window;

/// What a range read hands out.
trait Collect {
    /// Whether it takes no more.
    fn is_full(&self) -> bool;
    /// Takes a frame from memory.
    fn take(&mut self, frame: &Frame);
    /// Takes a frame from disk.
    fn take_from(
        &mut self,
        window: &mut Window,
        position: u64,
        header: &FrameHeader,
    ) -> Result<(), FrameFault>;
    /// What one `pread` should fetch.
    fn chunk(&self) -> usize;
    /// The time, where what was checked a short time ago need not be checked again.
    fn now(&self) -> Option<Duration> {
        None
    }
}

/// Whole frames up to a size.
struct Frames {
    frames: Vec<Frame>,
    bytes: u64,
    bytes_max: u64,
    /// Only frames of records, and when they are read.
    data_at: Option<Duration>,
    done: bool,
}

impl Frames {
    fn new(bytes_max: u64, data_at: Option<Duration>) -> Self {
        Self { frames: Vec::new(), bytes: 0, bytes_max, data_at, done: false }
    }

    fn is_wanted(&self, header: &FrameHeader) -> bool {
        self.data_at.is_none() || header.is_data()
    }

    /// Whether a frame is wanted and has room; the first always has.
    fn admit(&mut self, header: &FrameHeader) -> bool {
        if !self.is_wanted(header) {
            return false;
        }
        let bytes = FRAME_OVERHEAD_BYTES as u64 + u64::from(header.payload_len);
        if !self.frames.is_empty() && self.bytes.saturating_add(bytes) > self.bytes_max {
            self.done = true;
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Collect for Frames {
    fn is_full(&self) -> bool {
        self.done || (self.bytes >= self.bytes_max && !self.frames.is_empty())
    }

    fn take(&mut self, frame: &Frame) {
        if self.admit(&frame.header) {
            self.frames.push(frame.clone());
        }
    }

    fn take_from(
        &mut self,
        window: &mut Window,
        position: u64,
        header: &FrameHeader,
    ) -> Result<(), FrameFault> {
        if !self.is_wanted(header) {
            window.pass(position..position.saturating_add(header.frame_bytes()));
        } else if self.admit(header) {
            let payload = window.payload(position, header)?;
            self.frames.push(Frame { header: *header, payload });
        }
        Ok(())
    }

    fn now(&self) -> Option<Duration> {
        self.data_at
    }

    fn chunk(&self) -> usize {
        let wanted = self.bytes_max.saturating_sub(self.bytes);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        wanted.saturating_add(HEADER_CHUNK_BYTES).min(READ_CHUNK_BYTES_MAX)
    }
}

/// Headers up to a number.
struct Headers {
    headers: Vec<FrameHeader>,
    count_max: usize,
}

impl Collect for Headers {
    fn is_full(&self) -> bool {
        self.headers.len() >= self.count_max
    }

    fn take(&mut self, frame: &Frame) {
        self.headers.push(frame.header);
    }

    fn take_from(
        &mut self,
        _window: &mut Window,
        _position: u64,
        header: &FrameHeader,
    ) -> Result<(), FrameFault> {
        self.headers.push(*header);
        Ok(())
    }

    fn chunk(&self) -> usize {
        HEADER_CHUNK_BYTES
    }
}

impl Log {
    /// Reads frames from `start` up to `end` (exclusive) or the log end, as many as fit into
    /// `bytes_max` (headers counted), but at least one. The first is exactly `start`. Payloads
    /// from sealed segments are slices of a mapping. Stops before a damaged frame. An empty range
    /// gives no frames.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] if `start` is below the log start or not below the log end;
    /// [`LogError::Corrupt`] if its frame is damaged.
    pub fn read(
        &self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: u64,
    ) -> Result<Vec<Frame>, LogError> {
        let mut frames = Frames::new(bytes_max, None);
        self.collect(start, end, &mut frames)?;
        Ok(frames.frames)
    }

    /// Reads up to `count_max` headers from `start` up to `end` (exclusive) or the log end,
    /// without touching payloads. Otherwise as [`Log::read`].
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn read_headers(
        &self,
        start: LogIndex,
        end: LogIndex,
        count_max: usize,
    ) -> Result<Vec<FrameHeader>, LogError> {
        let mut headers = Headers { headers: Vec::new(), count_max };
        self.collect(start, end, &mut headers)?;
        Ok(headers.headers)
    }

    /// Reads data frames from the one that holds `offset`, below the log index `below`, as many
    /// as fit into `bytes_max`, but at least one if there is one. Empty where the offset is not
    /// below yet. Mapped payloads that another such read found sound less than a minute before `now`
    /// are not checked again; `now` is of any clock that does not go back.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] if the offset is below the log start offset or above the
    /// log end offset; otherwise as [`Log::read`].
    pub fn read_at_offset(
        &self,
        offset: Offset,
        below: LogIndex,
        bytes_max: u64,
        now: Duration,
    ) -> Result<Vec<Frame>, LogError> {
        let Some(header) = self.frame_for_offset(offset)? else { return Ok(Vec::new()) };
        if header.index >= below {
            return Ok(Vec::new());
        }
        let mut frames = Frames::new(bytes_max, Some(now));
        self.collect(header.index, below, &mut frames)?;
        Ok(frames.frames)
    }

    /// The header of one frame.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn header_at(&self, index: LogIndex) -> Result<FrameHeader, LogError> {
        let headers = self.read_headers(index, index.saturating_add(1), 1)?;
        headers.first().copied().ok_or_else(|| self.state().out_of_range(index))
    }

    /// The header of the data frame that holds an offset; `None` for the log end offset.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] outside the log; otherwise as [`Log::read`].
    pub fn frame_for_offset(&self, offset: Offset) -> Result<Option<FrameHeader>, LogError> {
        loop {
            let plan = {
                let state = self.state();
                let (start, end) = (state.start.base_offset, state.end.offset);
                if offset < start || offset > end {
                    return Err(LogError::OffsetOutOfRange { offset, start, end });
                }
                if offset == end {
                    return Ok(None);
                }
                if let Some(header) = state.cache.holding_offset(offset) {
                    return Ok(Some(*header));
                }
                let at = state.segments.partition_point(|one| one.summary.end.offset <= offset);
                match state.segments.get(at) {
                    Some(segment) => state.plan(segment, Target::Offset(offset)),
                    None => return Err(state.hidden(state.end.index)),
                }
            };
            let found = self.find(&plan, |header| header.is_data() && header.end_offset() > offset);
            match self.settle(&plan, found)? {
                Some(Some(header)) if header.base_offset <= offset => return Ok(Some(header)),
                // Only damage can hide it: the next sound frame does not hold the offset.
                Some(found) => {
                    let end = found.map_or(plan.end(), |header| header.index);
                    return Err(self.state().hidden(end));
                }
                None => continue,
            }
        }
    }

    /// The first data frame below the log index `below` whose largest record timestamp is at or
    /// after `time`.
    ///
    /// # Errors
    /// As [`Log::read`]; [`LogError::Corrupt`] also if it may be one of damaged frames before the
    /// first that is found.
    pub fn find_timestamp(
        &self,
        time: Timestamp,
        below: LogIndex,
    ) -> Result<Option<FrameHeader>, LogError> {
        let mut from = self.state().start.first_index;
        loop {
            let is_behind = {
                let state = self.state();
                state.written_end < below.min(state.end.index)
            };
            if is_behind {
                self.write_out()?;
            }
            let plan = {
                let state = self.state();
                from = from.max(state.start.first_index);
                let mut later = state.segments.iter().filter(|one| one.summary.end.index > from);
                match later.find(|one| one.summary.max_timestamp >= time) {
                    Some(segment) if segment.summary.base.index.max(from) < below => {
                        state.plan(segment, Target::Time(time))
                    }
                    _ => return state.unless_hidden(None, below),
                }
            };
            let found = self.find(&plan, |header| {
                header.is_data() && header.index >= from && header.max_timestamp >= time
            });
            match self.settle(&plan, found)? {
                Some(Some(header)) => {
                    let found = Some(header).filter(|one| one.index < below);
                    return self.state().unless_hidden(found, below);
                }
                Some(None) => from = plan.end(),
                None => {}
            }
        }
    }

    /// Reads frame by frame, segment by segment.
    fn collect(
        &self,
        start: LogIndex,
        end: LogIndex,
        into: &mut dyn Collect,
    ) -> Result<(), LogError> {
        let mut next = start;
        loop {
            let plan = {
                let state = self.state();
                if next >= end || into.is_full() {
                    return Ok(());
                }
                if next < state.start.first_index || next >= state.end.index {
                    return if next == start { Err(state.out_of_range(next)) } else { Ok(()) };
                }
                if let Some(frames) = state.cache.starting_at(next) {
                    let wanted = frames.take_while(|frame| frame.header.index < end);
                    for frame in wanted {
                        if into.is_full() {
                            break;
                        }
                        into.take(frame);
                    }
                    return Ok(());
                }
                match state.plan_at(next, end) {
                    Ok(plan) => plan,
                    Err(error) => return if next == start { Err(error) } else { Ok(()) },
                }
            };
            let taken = self.collect_in(&plan, &mut next, into);
            match self.settle(&plan, taken) {
                Ok(_) => {}
                Err(error) if next == start => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Takes frames of one segment from `next` on, and moves `next` on.
    fn collect_in(
        &self,
        plan: &Plan,
        next: &mut LogIndex,
        into: &mut dyn Collect,
    ) -> Result<(), Fault> {
        let mut window = plan.window(into.chunk(), into.now())?;
        let mut position = plan.begin()?;
        let mut due = None;
        while *next < plan.end() && !into.is_full() {
            let header = plan.header(&mut window, position, &mut due)?;
            if header.index > *next {
                return Err(Fault::Frame { index: *next, position, fault: FrameFault::Missing });
            }
            if header.index == *next {
                into.take_from(&mut window, position, &header).map_err(|fault| Fault::Frame {
                    index: *next,
                    position,
                    fault,
                })?;
                *next = next.saturating_add(1);
            }
            position += header.frame_bytes();
        }
        Ok(())
    }

    /// The first header in a segment that is wanted.
    fn find(
        &self,
        plan: &Plan,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Result<Option<FrameHeader>, Fault> {
        let mut window = plan.window(HEADER_CHUNK_BYTES, None)?;
        let mut position = plan.begin()?;
        let mut due = None;
        while position < plan.bytes() {
            let header = plan.header(&mut window, position, &mut due)?;
            if wanted(&header) {
                return Ok(Some(header));
            }
            position += header.frame_bytes();
        }
        Ok(None)
    }

    /// A fault counts only if the segment has neither been cut nor trimmed meanwhile; `None` says
    /// that it has and that the caller should look again.
    fn settle<T>(&self, plan: &Plan, result: Result<T, Fault>) -> Result<Option<T>, LogError> {
        let fault = match result {
            Ok(value) => return Ok(Some(value)),
            Err(fault) => fault,
        };
        let mut state = self.state();
        if plan.is_stale(&state) {
            return Ok(None);
        }
        let error = fault.into_error(plan);
        if let LogError::Corrupt { index, .. } = &error
            && state.note_damage(*index)
        {
            drop(state);
            tracing::error!(dir = %self.dir.display(), %error, "a synced frame is damaged");
            plan.forget_index();
        }
        Err(error)
    }
}
