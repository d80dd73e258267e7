//! The tail cache: the latest frames, kept in memory for replication and for readers at the end.

use std::collections::VecDeque;

use duramen_types::{LogIndex, Offset};

use crate::frame::{Frame, FrameHeader};

/// The latest frames, contiguous up to the log end.
///
/// Invariant: the frames' indexes are consecutive, and the last is the log's last or there is
/// none.
#[derive(Debug)]
pub(crate) struct TailCache {
    frames: VecDeque<Frame>,
    bytes: u64,
    bytes_max: u64,
    /// What the process has left for it, if that is less.
    bytes_share: u64,
    /// For how many more [`age`](Self::age)s the newest frame stays, whatever the share is.
    fresh: u8,
}

impl TailCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, bytes_max, bytes_share: u64::MAX, fresh: 0 }
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64, written_end: LogIndex) {
        self.bytes_max = bytes_max;
        self.evict(written_end);
    }

    pub(crate) fn set_bytes_share(&mut self, bytes_share: u64, written_end: LogIndex) {
        self.bytes_share = bytes_share;
        self.evict(written_end);
    }

    /// Adds the frame after the last.
    pub(crate) fn push(&mut self, frame: Frame, written_end: LogIndex) {
        self.bytes += frame.header.frame_bytes();
        self.frames.push_back(frame);
        self.fresh = 2;
        self.evict(written_end);
    }

    /// Time has passed: the newest frame has to fit into the share with the next call but one.
    pub(crate) fn age(&mut self, written_end: LogIndex) {
        if self.fresh > 0 {
            self.fresh -= 1;
            self.evict(written_end);
        }
    }

    /// Forgets the oldest frames until the size is right, but none that is not in its file yet, nor
    /// the newest while it is fresh: followers and readers at the end are about to ask for it, and
    /// it was written past the page cache.
    pub(crate) fn evict(&mut self, written_end: LogIndex) {
        while self.bytes > self.bytes_max.min(self.bytes_share)
            && self.frames.len() > usize::from(self.fresh > 0 && self.bytes_max > 0)
            && let Some(frame) = self.frames.pop_front_if(|frame| frame.header.index < written_end)
        {
            self.bytes -= frame.header.frame_bytes();
        }
    }

    /// The frames from an index on, or `None` if that one is not here.
    pub(crate) fn starting_at(&self, index: LogIndex) -> Option<impl Iterator<Item = &Frame>> {
        let first = self.frames.front()?.header.index;
        if index < first {
            return None;
        }
        let at = usize::try_from(index.distance_from(first)).ok()?;
        (at < self.frames.len()).then(|| self.frames.iter().skip(at))
    }

    /// The data frame that holds an offset, if it is here.
    pub(crate) fn holding_offset(&self, offset: Offset) -> Option<&FrameHeader> {
        if self.frames.front()?.header.base_offset > offset {
            return None;
        }
        let at = self.frames.partition_point(|frame| frame.header.end_offset() <= offset);
        self.frames.get(at).map(|frame| &frame.header)
    }

    /// Forgets the frames from an index on.
    pub(crate) fn cut(&mut self, end: LogIndex) {
        while let Some(frame) = self.frames.back()
            && frame.header.index >= end
        {
            self.bytes -= frame.header.frame_bytes();
            self.frames.pop_back();
        }
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}
