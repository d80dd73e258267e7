//! Where the log starts: the first index kept, what lies before it, and the caller's state there.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use duramen_env::{Disk, OpenMode};
use duramen_types::{LogIndex, Offset, Term, Timestamp};

use crate::boundary::Boundary;
use crate::error::OpenError;
use crate::format::start::{START_BYTES_MAX, StartFault, StartFile, decode, encode};
use crate::options::LogIdentity;

const NAME: &str = "log-start";
const TEMPORARY_NAME: &str = "log-start.tmp";

/// The start of a log: everything before it has been trimmed and is summed up here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// The first index kept.
    pub first_index: LogIndex,
    /// The base offset of that frame: the log start offset.
    pub base_offset: Offset,
    /// The term of the frame before; `None` if there never was one.
    pub prev_term: Option<Term>,
    /// The chain hash of the frame before; 0 if there never was one.
    pub prev_chain: u64,
    /// The append time of the frame before; [`Timestamp::MIN`] if there never was one.
    pub prev_append_time: Timestamp,
    /// The caller's state at this point, opaque to the log; at most
    /// [`STATE_BYTES_MAX`](crate::STATE_BYTES_MAX) bytes.
    pub state: Bytes,
}

impl LogStart {
    /// The start of a log that has never been trimmed, with an empty state.
    #[must_use]
    pub fn origin() -> Self {
        Self::at(Boundary::ORIGIN)
    }

    /// The start at a boundary, with an empty state.
    pub(crate) fn at(boundary: Boundary) -> Self {
        Self {
            first_index: boundary.index,
            base_offset: boundary.offset,
            prev_term: boundary.term,
            prev_chain: boundary.chain,
            prev_append_time: boundary.append_time,
            state: Bytes::new(),
        }
    }

    pub(crate) fn boundary(&self) -> Boundary {
        Boundary {
            index: self.first_index,
            offset: self.base_offset,
            term: self.prev_term,
            chain: self.prev_chain,
            append_time: self.prev_append_time,
        }
    }
}

impl Default for LogStart {
    fn default() -> Self {
        Self::origin()
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Writes a start beside the one in force, durably. A failure changes nothing.
pub(crate) fn prepare(disk: &dyn Disk, dir: &Path, start: &StartFile) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY_NAME);
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(&encode(start), 0)?;
    file.sync_data()
}

/// Puts the prepared start in force, durably.
pub(crate) fn publish(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.rename(&dir.join(TEMPORARY_NAME), &path(dir))?;
    disk.sync_dir(dir)
}

/// Reads the start in force, which must be the log's own.
pub(crate) fn load(
    disk: &dyn Disk,
    dir: &Path,
    identity: LogIdentity,
) -> Result<StartFile, OpenError> {
    let file = disk.open(&path(dir), OpenMode::Read).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::StartLost,
        _ => OpenError::io("open the log start")(error),
    })?;
    let len = file.len().map_err(OpenError::io("read the log start"))?;
    if len > START_BYTES_MAX {
        return Err(OpenError::StartLost);
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| OpenError::StartLost)?];
    let read = file.read_at(&mut bytes, 0).map_err(|_| OpenError::StartLost)?;
    bytes.truncate(read);
    match decode(&bytes) {
        Ok(found) if found.identity == identity => Ok(found),
        Ok(_) | Err(StartFault::Bad) => Err(OpenError::StartLost),
        Err(StartFault::Version(found)) => Err(OpenError::Version { found }),
    }
}
