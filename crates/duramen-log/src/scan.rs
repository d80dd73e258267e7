//! Reads a segment file frame by frame and finds what is bad, for recovery and verification.
//!
//! A scan never decides: it reports where frames are bad and what sound frames claim to have been
//! durable. Whether a bad place is a torn write or corruption depends on the whole log.

use std::sync::Arc;

use duramen_env::DiskFile;
use duramen_types::LogIndex;

use crate::boundary::Boundary;
use crate::error::FrameFault;
use crate::format::frame::{FRAME_ALIGN, FRAME_MAGIC};
use crate::format::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::frame::FrameHeader;
use crate::limits::{ATOMIC_BYTES, FRAME_OVERHEAD_BYTES, SCAN_CHUNK_BYTES};
use crate::segment::{SegmentId, Spacing, Summary};
use crate::window::Window;

/// What a scan is to do.
#[derive(Debug)]
pub(crate) struct ScanRequest {
    /// The file.
    pub(crate) file: Arc<dyn DiskFile>,
    /// How many of its bytes to look at.
    pub(crate) bytes: u64,
    /// The frames must end before this index: the next segment begins with it.
    pub(crate) end_index: Option<LogIndex>,
    /// Where and after what to begin; `None` for the first frame of a segment whose predecessor
    /// is not known.
    pub(crate) from: Option<ScanFrom>,
    /// The log's truncation generation: no frame can have a higher one.
    pub(crate) generation: u64,
    /// The least distance of sparse entries in bytes.
    pub(crate) spacing_bytes: u64,
}

/// What is known before the first frame to look at.
#[derive(Clone, Debug)]
pub(crate) enum ScanFrom {
    /// The log before the segment.
    Base(Boundary),
    /// A part of the segment that needs no scan, and the segment's id.
    Known(Summary, SegmentId),
}

/// A place where the frame that is due is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadSpot {
    /// The index that is due.
    pub(crate) index: LogIndex,
    /// The first index after it that is sound or whose header is; `None` if the rest is bad.
    pub(crate) next: Option<LogIndex>,
    /// Where it should begin, in bytes.
    pub(crate) position: u64,
    /// What is wrong.
    pub(crate) fault: FrameFault,
    /// It is no torn write: the disk could not read bytes there, or every sector of it was written.
    pub(crate) is_damage: bool,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct ScanOutcome {
    /// All frames with sound headers, bad ones included where their header was sound.
    pub(crate) summary: Summary,
    /// From the segment's head or its first sound frame.
    pub(crate) id: Option<SegmentId>,
    /// The segment's head is damaged.
    pub(crate) head_fault: Option<FrameFault>,
    /// In order of position.
    pub(crate) bad_spots: Vec<BadSpot>,
    /// The highest durable end that a frame of the current generation claims.
    pub(crate) durable_end: LogIndex,
    /// One past the highest index of a sound frame of the current generation.
    pub(crate) current_end: LogIndex,
    /// One past the last byte that is not zero; only known if there is a bad spot.
    pub(crate) nonzero_end: u64,
}

/// Sees each sound frame: header, position and payload.
pub(crate) type Visit<'a> = dyn FnMut(&FrameHeader, u64, &[u8]) + 'a;

/// Reads a segment.
pub(crate) fn scan(request: ScanRequest, visit: &mut Visit<'_>) -> ScanOutcome {
    let mut window = Window::lenient(request.file, request.bytes, SCAN_CHUNK_BYTES);
    let head = window.view(0, SEGMENT_HEAD_BYTES).and_then(segment::decode);
    let (summary, id, adopt) = begin(request.from, head);
    let scanner = Scanner {
        window,
        end_index: request.end_index,
        generation: request.generation,
        generation_before: 0,
        spacing: Spacing { bytes: request.spacing_bytes, landmark: false },
        adopt,
        foreign: None,
        base_known: !adopt,
        position: summary.bytes,
        outcome: ScanOutcome {
            summary,
            id,
            head_fault: head.err(),
            bad_spots: Vec::new(),
            durable_end: LogIndex::ZERO,
            current_end: LogIndex::ZERO,
            nonzero_end: 0,
        },
    };
    scanner.run(visit)
}

/// What is known before the first frame; the flag says that its predecessor must be taken from
/// the first frame itself.
fn begin(
    from: Option<ScanFrom>,
    head: Result<SegmentHead, FrameFault>,
) -> (Summary, Option<SegmentId>, bool) {
    let id = head.map(|head| head.id).ok();
    match (from, head) {
        (Some(ScanFrom::Known(summary, id)), _) => (summary, Some(id), false),
        (Some(ScanFrom::Base(base)), _) => (Summary::new(base), id, false),
        (None, Ok(head)) => (Summary::new(head.base), id, false),
        (None, Err(_)) => (Summary::new(Boundary::ORIGIN), id, true),
    }
}

struct Scanner {
    window: Window,
    end_index: Option<LogIndex>,
    generation: u64,
    generation_before: u64,
    spacing: Spacing,
    /// The next frame is taken as it is: what it should follow is damaged.
    adopt: bool,
    /// Where a run of sound frames leads that do not continue the log.
    foreign: Option<Boundary>,
    /// The log before the segment is known.
    base_known: bool,
    position: u64,
    outcome: ScanOutcome,
}

impl Scanner {
    fn run(mut self, visit: &mut Visit<'_>) -> ScanOutcome {
        while !self.is_complete() {
            match self.step(visit) {
                Ok(()) => {}
                Err((fault, header)) => {
                    if !self.pass(fault, header) {
                        break;
                    }
                }
            }
        }
        self.outcome
    }

    fn due(&self) -> LogIndex {
        self.outcome.summary.end.index
    }

    fn is_complete(&self) -> bool {
        !self.adopt && self.end_index.is_some_and(|end| self.due() >= end)
    }

    /// Takes the frame at the current position. A fault comes with the header if only the
    /// payload is bad.
    fn step(&mut self, visit: &mut Visit<'_>) -> Result<(), (FrameFault, Option<FrameHeader>)> {
        let header = self.header_at(self.position).map_err(|fault| (fault, None))?;
        if !self.adopt
            && let Err(fault) = self.outcome.summary.end.follow(&header)
        {
            // Sound, and of another history: so is what follows it.
            self.foreign = Some(Boundary::after(&header));
            return Err((fault, None));
        }
        let payload = self.window.payload(self.position, &header);
        if payload == Err(FrameFault::Short) {
            // A frame that ends beyond the file is not there: nothing follows it.
            return Err((FrameFault::Short, None));
        }
        if self.adopt {
            self.adopt(&header);
        }
        match payload {
            Ok(payload) => visit(&header, self.position, &payload),
            Err(fault) => return Err((fault, Some(header))),
        }
        self.take(&header);
        Ok(())
    }

    fn take(&mut self, header: &FrameHeader) {
        self.outcome.summary.push(header, self.position, self.spacing);
        self.spacing.landmark = false;
        self.position += header.frame_bytes();
    }

    /// Starts the segment's history at a frame whose predecessors are not known.
    fn adopt(&mut self, header: &FrameHeader) {
        self.adopt = false;
        let end = Boundary {
            index: header.index,
            offset: header.base_offset,
            term: None,
            chain: 0,
            append_time: header.append_time,
        };
        self.outcome.summary.end = end;
        if !self.base_known {
            self.base_known = true;
            self.outcome.summary.base = end;
        }
    }

    /// A sound header of this segment. Its claim of durability counts whether or not the frame
    /// turns out to follow what is before it.
    fn header_at(&mut self, position: u64) -> Result<FrameHeader, FrameFault> {
        let (envelope, header) = self.window.head(position)?;
        if *self.outcome.id.get_or_insert(envelope.segment) != envelope.segment {
            return Err(FrameFault::Segment);
        }
        let found = envelope.generation;
        if found > self.generation || found < self.generation_before {
            return Err(FrameFault::Generation { found });
        }
        self.generation_before = found;
        if found == self.generation {
            self.outcome.durable_end = self.outcome.durable_end.max(envelope.durable_end);
            let next = header.index.saturating_add(1);
            self.outcome.current_end = self.outcome.current_end.max(next);
        }
        Ok(header)
    }

    /// Notes a bad spot and goes to the next sound header. Answers whether there is one.
    fn pass(&mut self, fault: FrameFault, header: Option<FrameHeader>) -> bool {
        let (index, position) = (self.due(), self.position);
        // Once is enough; a position past the end sees no more bytes.
        if self.outcome.nonzero_end == 0 {
            self.outcome.nonzero_end =
                self.window.nonzero_end(position).unwrap_or(self.window.limit());
        }
        let end = self.outcome.nonzero_end;
        let is_damage = self.is_written(position, fault, header.as_ref());
        let spot = BadSpot { index, next: None, position, fault, is_damage };
        if let Some(header) = header {
            let next = Some(header.index.saturating_add(1));
            let until = position + header.frame_bytes();
            self.note(BadSpot { next, ..spot }, until);
            self.take(&header);
            self.spacing.landmark = true;
            return true;
        }
        if position >= end {
            let limit = self.window.limit();
            if self.window.is_unreadable(&(position..limit)) {
                let fault = FrameFault::Unreadable;
                self.note(BadSpot { fault, is_damage: true, ..spot }, limit);
            }
            return false;
        }
        // What failed although it was taken as it is fails again.
        let from = if self.adopt { position + FRAME_ALIGN } else { position };
        let next = self.find_header(from, end, index);
        let until = next.map_or(self.window.limit(), |(at, _)| at);
        let next_index = next.map(|(_, header)| header.index);
        self.note(BadSpot { next: next_index, ..spot }, until);
        let Some((at, _)) = next else { return false };
        self.position = at;
        self.adopt = true;
        self.spacing.landmark = true;
        true
    }

    /// Whether all of a frame that fails its checksum was surely written, so that what is wrong with
    /// it came later. Room in a segment is zero before it is written, and what of a frame lies in one
    /// sector is written at once, from its front on: where its last byte is not zero, none is missing.
    fn is_written(
        &mut self,
        position: u64,
        fault: FrameFault,
        header: Option<&FrameHeader>,
    ) -> bool {
        if !matches!(
            fault,
            FrameFault::Magic | FrameFault::HeaderChecksum | FrameFault::PayloadChecksum
        ) {
            return false;
        }
        let len = header.map_or(0, |header| u64::from(header.payload_len));
        let end = position.saturating_add(FRAME_OVERHEAD_BYTES as u64).saturating_add(len);
        let mut at = position;
        while at < end {
            let sector_end = (at / ATOMIC_BYTES as u64 + 1) * ATOMIC_BYTES as u64;
            let part = usize::try_from(sector_end.min(end) - at).unwrap_or(0);
            if !self.window.view(at, part).is_ok_and(|bytes| bytes.last() != Some(&0)) {
                return false;
            }
            at = sector_end;
        }
        true
    }

    fn note(&mut self, mut spot: BadSpot, until: u64) {
        if self.window.is_unreadable(&(spot.position..until)) {
            spot.is_damage = true;
            spot.fault = FrameFault::Unreadable;
        }
        // While the predecessor is not known, neither is the index that is due.
        if !self.adopt {
            self.outcome.bad_spots.push(spot);
        }
    }

    /// Whether a frame continues the run of another history; the run then goes on.
    fn is_foreign(&mut self, header: &FrameHeader) -> bool {
        let next = self.foreign.and_then(|end| end.follow(header).ok());
        self.foreign = next.or(self.foreign);
        next.is_some()
    }

    /// The first sound header in a range that is for an index after `index`, and whose frame lies
    /// within the file.
    fn find_header(&mut self, from: u64, to: u64, index: LogIndex) -> Option<(u64, FrameHeader)> {
        let mut at = from;
        while at < to {
            let is_magic = self.window.view(at, FRAME_MAGIC.len()) == Ok(&FRAME_MAGIC);
            if is_magic
                && let Ok(header) = self.header_at(at)
                && !self.is_foreign(&header)
                && payload_end(at, &header) <= self.window.limit()
                && (header.index > index || self.adopt)
                && self.end_index.is_none_or(|end| header.index < end)
            {
                return Some((at, header));
            }
            at += FRAME_ALIGN;
        }
        None
    }
}

/// Where the payload of a frame ends; zeros may follow.
fn payload_end(position: u64, header: &FrameHeader) -> u64 {
    let len = FRAME_OVERHEAD_BYTES as u64 + u64::from(header.payload_len);
    position.saturating_add(len)
}
