//! One segment: what is known of it in memory, and its file, opened and mapped on demand.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Disk, DiskFile, OpenMode};
use duramen_types::{LogIndex, Offset, Term, Timestamp};

use crate::boundary::Boundary;
use crate::checked::Checked;
use crate::error::FrameFault;
use crate::format::index::{self, INDEX_HEAD_BYTES, IndexHead};
use crate::format::segment::SEGMENT_HEAD_BYTES;
use crate::frame::FrameHeader;
use crate::limits::HEADER_CHUNK_BYTES;
use crate::sparse::{SparseEntry, SparseIndex, Target};
use crate::window::Window;

/// One life of a segment file, drawn at random: a frame of an earlier life never matches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentId(pub(crate) [u8; 16]);

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What retention needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The index of its first frame.
    pub first_index: LogIndex,
    /// The index of its last frame.
    pub last_index: LogIndex,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// One past the offset of its last record.
    pub end_offset: Offset,
    /// Its length in bytes, preallocated space apart.
    pub bytes: u64,
    /// The append time of its last frame.
    pub last_append_time: Timestamp,
    /// The largest record timestamp in it; [`Timestamp::MIN`] if there is none.
    pub max_timestamp: Timestamp,
    /// Whether it takes no more frames.
    pub sealed: bool,
}

/// What frames of a segment add up to.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    /// The log before its first frame.
    pub(crate) base: Boundary,
    /// The log after its last frame.
    pub(crate) end: Boundary,
    /// Length in bytes of the head and the frames: where the next frame begins.
    pub(crate) bytes: u64,
    /// The append time of the first frame.
    pub(crate) first_append_time: Timestamp,
    /// The largest record timestamp.
    pub(crate) max_timestamp: Timestamp,
    /// The first index of each term within the segment.
    pub(crate) terms: Vec<(Term, LogIndex)>,
    /// Sparse entries; empty where an index file holds them.
    pub(crate) sparse: Vec<SparseEntry>,
}

impl Summary {
    /// A segment without frames.
    pub(crate) fn new(base: Boundary) -> Self {
        Self {
            base,
            end: base,
            bytes: SEGMENT_HEAD_BYTES as u64,
            first_append_time: Timestamp::MIN,
            max_timestamp: Timestamp::MIN,
            terms: Vec::new(),
            sparse: Vec::new(),
        }
    }

    /// Whether it has no frames.
    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds the frame at a position; `landmark` forces a sparse entry for it.
    pub(crate) fn push(&mut self, header: &FrameHeader, position: u64, spacing: Spacing) {
        if self.terms.last().is_none_or(|(term, _)| *term != header.term) {
            if self.terms.is_empty() {
                self.first_append_time = header.append_time;
            }
            self.terms.push((header.term, header.index));
        }
        let far = self.sparse.last().is_none_or(|last| position >= last.position + spacing.bytes);
        if far || spacing.landmark {
            self.sparse.push(SparseEntry {
                index: header.index,
                offset: header.base_offset,
                position,
                max_before: self.max_timestamp,
                term: header.term,
                payload_len: header.payload_len,
                payload_crc: header.payload_crc,
            });
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.end = Boundary::after(header);
        self.bytes = position + header.frame_bytes();
    }
}

/// How sparse entries are laid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spacing {
    /// The least distance between entries, in bytes.
    pub(crate) bytes: u64,
    /// Lay one here in any case.
    pub(crate) landmark: bool,
}

/// What the log knows of one of its segments.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) id: SegmentId,
    pub(crate) summary: Summary,
    /// Up to where the file holds what the summary says; the rest is in memory.
    pub(crate) written_bytes: u64,
    /// Takes no more frames.
    pub(crate) sealed: bool,
    /// An index file holds the sparse entries.
    pub(crate) indexed: bool,
    /// Some of its frames are damaged; no index is written, so that the next open sees it too.
    pub(crate) damaged: bool,
    /// The number of the last write that is not synced.
    pub(crate) dirty: Option<u64>,
}

impl Segment {
    pub(crate) fn info(&self) -> SegmentInfo {
        let Summary { base, end, bytes, max_timestamp, .. } = &self.summary;
        SegmentInfo {
            first_index: base.index,
            last_index: end.index.saturating_sub(1),
            base_offset: base.offset,
            end_offset: end.offset,
            bytes: *bytes,
            last_append_time: end.append_time,
            max_timestamp: *max_timestamp,
            sealed: self.sealed,
        }
    }

    /// What goes into its index file.
    pub(crate) fn index_head(&self, generation: u64) -> IndexHead {
        let Summary { base, end, bytes, first_append_time, max_timestamp, terms, .. } =
            self.summary.clone();
        let (id, sealed) = (self.id, self.sealed);
        IndexHead {
            id,
            generation,
            bytes,
            sealed,
            base,
            end,
            first_append_time,
            max_timestamp,
            terms,
            entries: 0,
            entries_crc: 0,
        }
    }
}

/// Names of a segment's files.
pub(crate) fn log_name(first_index: LogIndex) -> String {
    format!("{first_index:020}.log")
}

fn index_name(first_index: LogIndex) -> String {
    format!("{first_index:020}.index")
}

/// The first index that a segment's or an index's file name says.
pub(crate) fn parse_name(name: &str, extension: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(extension)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(LogIndex::new)
}

/// A segment's file. Nothing is held open or mapped before it is needed, and everything can be
/// given back while the segment is clean.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    index_path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    file: Option<Arc<dyn DiskFile>>,
    map: Option<Bytes>,
    checked: Arc<Checked>,
    sparse: Option<Arc<SparseIndex>>,
}

impl SegmentFile {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, first_index: LogIndex) -> Self {
        Self {
            disk: Arc::clone(disk),
            path: dir.join(log_name(first_index)),
            index_path: dir.join(index_name(first_index)),
            held: Mutex::new(Held::default()),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file. A file of that name is left over from a failure and goes away.
    pub(crate) fn create(&self) -> io::Result<Arc<dyn DiskFile>> {
        let file = match self.disk.open(&self.path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove_file(&self.path)?;
                self.disk.open(&self.path, OpenMode::CreateNew)?
            }
            other => other?,
        };
        self.held().file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The open file.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        let mut held = self.held();
        if let Some(file) = &held.file {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path, OpenMode::Write)?;
        held.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The file for direct writes, if the file system has them.
    pub(crate) fn direct(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        self.disk.open_direct(&self.path)
    }

    /// The first `len` bytes, mapped, and which of them were checked. The caller vouches that the
    /// segment is sealed at that length and committed as a whole, so that these bytes never change.
    pub(crate) fn map(&self, len: u64) -> io::Result<(Bytes, Arc<Checked>)> {
        {
            let held = self.held();
            if let Some(map) = &held.map {
                return Ok((map.clone(), Arc::clone(&held.checked)));
            }
        }
        let map = self.file()?.map(len)?;
        let mut held = self.held();
        // The mapping keeps the file; the descriptor is not needed any more.
        held.file = None;
        held.map = Some(map.clone());
        Ok((map, Arc::clone(&held.checked)))
    }

    /// Whether all frames of the first `len` bytes are mapped and were found sound a short time
    /// before `now`.
    pub(crate) fn is_known_sound(&self, len: u64, now: Duration) -> bool {
        let checked = {
            let held = self.held();
            held.map.is_some().then(|| Arc::clone(&held.checked))
        };
        let frames = SEGMENT_HEAD_BYTES as u64..len;
        checked.is_some_and(|checked| checked.covers(&frames, now))
    }

    /// Gives back the descriptor, the mapping and the index.
    pub(crate) fn shed(&self) {
        *self.held() = Held::default();
    }

    /// Where to begin looking in a sealed segment whose index file holds the sparse entries. A
    /// damaged index is replaced by one made from the segment's first `len` bytes.
    pub(crate) fn seek(&self, target: Target, len: u64) -> io::Result<u64> {
        let known = self.held().sparse.clone();
        let sparse = match known {
            Some(sparse) => sparse,
            None => {
                let sparse = match self.load_sparse() {
                    Some(bytes) => SparseIndex::Mapped(bytes),
                    None => SparseIndex::Owned(self.rebuild_sparse(len)?),
                };
                let sparse = Arc::new(sparse);
                self.held().sparse = Some(Arc::clone(&sparse));
                sparse
            }
        };
        Ok(sparse.seek(target).unwrap_or(SEGMENT_HEAD_BYTES as u64))
    }

    /// The index file's head, if it is sound.
    pub(crate) fn load_head(&self) -> Option<IndexHead> {
        let file = self.disk.open(&self.index_path, OpenMode::Read).ok()?;
        let mut bytes = vec![0; INDEX_HEAD_BYTES];
        let read = file.read_at(&mut bytes, 0).ok()?;
        let head_len = index::head_bytes(bytes.get(..read)?)?;
        if head_len > file.len().ok()? {
            return None;
        }
        bytes.resize(usize::try_from(head_len).ok()?, 0);
        let read = file.read_at(&mut bytes, 0).ok()?;
        index::decode_head(bytes.get(..read)?)
    }

    /// The sparse entries' bytes of the index file, mapped, if they are sound.
    fn load_sparse(&self) -> Option<Bytes> {
        let head = self.load_head()?;
        let file = self.disk.open(&self.index_path, OpenMode::Read).ok()?;
        let map = file.map(u64::try_from(head.file_bytes()).ok()?).ok()?;
        let entries = map.slice(head.entries_position().min(map.len())..);
        (crc32fast::hash(&entries) == head.entries_crc).then_some(entries)
    }

    /// The sparse entries of the index file in memory, if they are sound.
    pub(crate) fn load_entries(&self) -> Option<Vec<SparseEntry>> {
        let bytes = self.load_sparse()?;
        (0..bytes.len() / index::ENTRY_BYTES).map(|at| index::decode_entry(&bytes, at)).collect()
    }

    /// The sparse entries, from the index file or from the segment's first `len` bytes.
    pub(crate) fn entries(&self, len: u64) -> io::Result<Vec<SparseEntry>> {
        self.load_entries().map_or_else(|| self.rebuild_sparse(len), Ok)
    }

    /// Walks the headers; stops without a fault at the first bad one, which readers then meet.
    fn rebuild_sparse(&self, len: u64) -> io::Result<Vec<SparseEntry>> {
        tracing::warn!(path = %self.index_path.display(), "rebuilding a damaged index in memory");
        let mut window = Window::of_file(self.file()?, len, HEADER_CHUNK_BYTES);
        let mut summary = Summary::new(Boundary::ORIGIN);
        let spacing = Spacing { bytes: crate::limits::INDEX_INTERVAL_BYTES, landmark: false };
        while let Ok::<_, FrameFault>((_, header)) = window.head(summary.bytes) {
            summary.push(&header, summary.bytes, spacing);
        }
        Ok(summary.sparse)
    }

    /// Writes the index file, not synced: it can be rebuilt. Never over an older one in place,
    /// for that may be mapped.
    pub(crate) fn write_index(
        &self,
        mut head: IndexHead,
        entries: &[SparseEntry],
    ) -> io::Result<()> {
        let entry_bytes = index::encode_entries(entries);
        head.entries = u32::try_from(entries.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        head.entries_crc = crc32fast::hash(&entry_bytes);
        let mut bytes = index::encode_head(&head);
        bytes.extend_from_slice(&entry_bytes);
        let temporary = self.index_path.with_extension("index.tmp");
        if self.disk.exists(&temporary)? {
            self.disk.remove_file(&temporary)?;
        }
        self.disk.open(&temporary, OpenMode::CreateNew)?.write_at(&bytes, 0)?;
        self.disk.rename(&temporary, &self.index_path)?;
        self.held().sparse = None;
        Ok(())
    }

    /// Unlinks the index file, if there is one.
    pub(crate) fn remove_index(&self) -> io::Result<()> {
        self.held().sparse = None;
        remove_if_there(self.disk.as_ref(), &self.index_path)
    }

    /// Unlinks the index file but goes on using it: the next open is to scan the segment.
    pub(crate) fn forget_index(&self) -> io::Result<()> {
        remove_if_there(self.disk.as_ref(), &self.index_path)
    }

    /// Unlinks segment and index. Readers that have it open keep it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.remove_index()?;
        remove_if_there(self.disk.as_ref(), &self.path)
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
