//! How frames get into segment files: past the page cache where the file system allows it.
//!
//! The page cache is the dearest part of a durable append: what is written once and synced at once
//! gains nothing from it. A direct write covers whole blocks, so the block in which the last write
//! ended is written again with the next one. The bytes in front are the same as before: whichever
//! of the two a power cut leaves of a sector, what was synced is there, as it is when the page
//! cache writes a page again. Behind the last frame a block is zero, as all room in a segment is.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::{DIRECT_BYTES, DiskFile};

use crate::format::frame::{Envelope, encode_head, padding};
use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead, encode};
use crate::frame::FrameHeader;
use crate::limits::{COVER_BYTES, DIRECT_PAYLOAD_BYTES, WRITE_BYTES};
use crate::segment::SegmentFile;

/// Something that is to be done to a segment file.
#[derive(Debug)]
pub(crate) struct Stroke {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) what: What,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum What {
    Frame(Placed),
    /// No more frames follow: unused room is given back.
    Fit {
        bytes: u64,
    },
}

/// A frame and its place in a file.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    /// The segment's head, in front of its first frame.
    pub(crate) head: Option<SegmentHead>,
    pub(crate) envelope: Envelope,
    pub(crate) header: FrameHeader,
    pub(crate) payload: Bytes,
}

impl Stroke {
    /// How long the file's written part is afterwards.
    pub(crate) fn end(&self) -> u64 {
        match &self.what {
            What::Frame(frame) => frame.position + frame.header.frame_bytes(),
            What::Fit { bytes } => *bytes,
        }
    }
}

/// Writes to one log's segments. Nothing is durable before a file's own sync.
#[derive(Default)]
pub(crate) struct Pen {
    open: Option<Open>,
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").field("is_open", &self.open.is_some()).finish()
    }
}

/// The segment written last.
struct Open {
    segment: Arc<SegmentFile>,
    file: Arc<dyn DiskFile>,
    /// Where the file system has such writes.
    direct: Option<Arc<dyn DiskFile>>,
    /// The end of what was written, and the bytes of its last block, if they are known.
    tail: Option<(u64, Vec<u8>)>,
    /// Up to here the file's blocks have been written since it was opened here.
    covered: u64,
}

impl Pen {
    /// Carries out, in order. After an error all of it may be carried out again.
    pub(crate) fn write(&mut self, mut strokes: &[Stroke]) -> io::Result<()> {
        while let Some(Stroke { file, what }) = strokes.first() {
            let count = match what {
                What::Fit { bytes } => {
                    self.open(file)?.file.set_len(*bytes)?;
                    self.open = None;
                    1
                }
                What::Frame(_) => self.write_run(file, strokes)?,
            };
            strokes = strokes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes the frames at the front that go into one file; answers how many that are.
    fn write_run(&mut self, file: &Arc<SegmentFile>, strokes: &[Stroke]) -> io::Result<usize> {
        let mut frames = strokes.iter().map_while(|stroke| match &stroke.what {
            What::Frame(frame) if Arc::ptr_eq(&stroke.file, file) => Some(frame),
            _ => None,
        });
        let Some(first) = frames.next() else { return Ok(0) };
        let begin = if first.head.is_some() { 0 } else { first.position };
        STAGE.with_borrow_mut(|stage| {
            let mut run = Run::begin(self.open(file)?, stage, begin)?;
            run.put_frame(first)?;
            let mut count = 1;
            for frame in frames {
                run.put_frame(frame)?;
                count += 1;
            }
            run.finish()?;
            Ok(count)
        })
    }

    /// Gives back what is only kept for speed.
    pub(crate) fn shed(&mut self) {
        self.open = None;
    }

    fn open(&mut self, segment: &Arc<SegmentFile>) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) if Arc::ptr_eq(&open.segment, segment) => open,
            _ => Open {
                file: segment.file()?,
                direct: segment.direct()?,
                segment: Arc::clone(segment),
                tail: None,
                covered: 0,
            },
        };
        Ok(self.open.insert(open))
    }
}

thread_local! {
    /// Where frames are put together: one for each thread that writes, not one for each log.
    static STAGE: RefCell<Stage> = const { RefCell::new(Stage { memory: Vec::new(), len: 0 }) };
}

/// Memory for a write, aligned as direct writes need it.
struct Stage {
    memory: Vec<u8>,
    len: usize,
}

impl Stage {
    /// All of the aligned memory.
    fn whole(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = vec![0; WRITE_BYTES + DIRECT_BYTES];
        }
        let start = self.memory.as_ptr().align_offset(DIRECT_BYTES);
        &mut self.memory[start..start + WRITE_BYTES]
    }

    /// What has been put.
    fn staged(&mut self) -> &[u8] {
        let len = self.len;
        &self.whole()[..len]
    }
}

/// Consecutive bytes on their way into one file.
struct Run<'a> {
    open: &'a mut Open,
    stage: &'a mut Stage,
    /// Where the staged bytes go.
    position: u64,
}

impl<'a> Run<'a> {
    fn begin(open: &'a mut Open, stage: &'a mut Stage, position: u64) -> io::Result<Self> {
        let before = open.tail.take().filter(|(end, _)| *end == position);
        stage.len = 0;
        let mut run = Self { open, stage, position };
        if run.open.direct.is_some() {
            let part = position % DIRECT_BYTES as u64;
            run.position -= part;
            let part = usize::try_from(part).unwrap_or(0);
            match before {
                Some((_, tail)) => run.put(&tail)?,
                None => {
                    let mut tail = vec![0; part];
                    if run.open.file.read_at(&mut tail, run.position)? < part {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    run.put(&tail)?;
                }
            }
        }
        Ok(run)
    }

    fn put_frame(&mut self, frame: &Placed) -> io::Result<()> {
        let Placed { head, envelope, header, payload, .. } = frame;
        if let Some(head) = head {
            self.put(&encode(head))?;
        }
        self.put(&encode_head(envelope, header))?;
        if self.open.direct.is_none() && payload.len() >= DIRECT_PAYLOAD_BYTES {
            self.flush()?;
            self.open.file.write_at(payload, self.position)?;
            self.position += payload.len() as u64;
        } else {
            self.put(payload)?;
        }
        self.put(padding(header))
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let len = self.stage.len;
            let room = &mut self.stage.whole()[len..];
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.stage.len += now.len();
            bytes = later;
            if self.stage.len == WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is staged; for a direct write, whole blocks.
    fn flush(&mut self) -> io::Result<()> {
        if self.stage.len > 0 {
            let file = self.open.direct.as_ref().unwrap_or(&self.open.file);
            file.write_at(self.stage.staged(), self.position)?;
            self.position += self.stage.len as u64;
            self.stage.len = 0;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.open.direct.is_none() {
            return self.flush();
        }
        let end = self.position + self.stage.len as u64;
        let part = self.stage.len % DIRECT_BYTES;
        let staged = self.stage.staged();
        let tail = staged[staged.len() - part..].to_vec();
        self.put_zeros(end.next_multiple_of(DIRECT_BYTES as u64) - end)?;
        self.cover(end)?;
        self.flush()?;
        self.open.covered = self.open.covered.max(self.position);
        self.open.tail = Some((end, tail));
        Ok(())
    }

    /// Writes zeros ahead of small writes. The first write to a block has its sync change the file
    /// system's journal too; one over a block that was written before does not, and takes half the
    /// time. For large writes that is no matter.
    fn cover(&mut self, end: u64) -> io::Result<()> {
        let small = self.stage.len < COVER_BYTES / 4;
        if !small || self.position + self.stage.len as u64 <= self.open.covered {
            return Ok(());
        }
        let room = self.open.file.len()? / DIRECT_BYTES as u64 * DIRECT_BYTES as u64;
        let block_end = end.next_multiple_of(DIRECT_BYTES as u64);
        self.put_zeros((block_end + COVER_BYTES as u64).min(room).saturating_sub(block_end))
    }

    fn put_zeros(&mut self, count: u64) -> io::Result<()> {
        const ZEROS: [u8; DIRECT_BYTES] = [0; DIRECT_BYTES];
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        while count > 0 {
            let now = count.min(DIRECT_BYTES);
            self.put(&ZEROS[..now])?;
            count -= now;
        }
        Ok(())
    }
}

/// The length that a segment file has when frames up to a position are in it: whole blocks, for
/// that is how they are written.
pub(crate) fn room_for(end: u64) -> u64 {
    end.max(SEGMENT_HEAD_BYTES as u64).next_multiple_of(DIRECT_BYTES as u64)
}
