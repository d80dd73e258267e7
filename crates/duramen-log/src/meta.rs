//! The `meta` file: whose log it is, its truncation generation, and hints for recovery.
//!
//! Two slots. One is *stable*: it has been synced. Hints go, unsynced, to the other one and only
//! there, so that a power cut can tear hints but never both slots. A synced write makes its slot
//! the stable one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duramen_env::{Disk, DiskFile, OpenMode};
use duramen_types::LogIndex;

use crate::error::OpenError;
use crate::format::meta::{MetaRecord, SLOT_BYTES, SlotFault, decode, encode};
use crate::options::LogIdentity;

const NAME: &str = "meta";
const TEMPORARY_NAME: &str = "meta.tmp";

/// Where the file lies.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The open file.
#[derive(Debug)]
pub(crate) struct MetaFile {
    file: Arc<dyn DiskFile>,
    record: MetaRecord,
    /// The slot that holds `record`.
    latest: usize,
    /// The slot that is known to be synced; unknown after opening.
    stable: Option<usize>,
}

impl MetaFile {
    /// Makes the file, durably; its name as well.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, identity: LogIdentity) -> io::Result<Self> {
        let record = MetaRecord {
            identity,
            sequence: 1,
            generation: 1,
            durable_end: LogIndex::ZERO,
            committed_end: LogIndex::ZERO,
            clean: true,
            cut_end: None,
        };
        let temporary = dir.join(TEMPORARY_NAME);
        if disk.exists(&temporary)? {
            disk.remove_file(&temporary)?;
        }
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(&[0; SLOT_BYTES], SLOT_BYTES as u64)?;
        file.write_at(&encode(&record), 0)?;
        file.sync_data()?;
        disk.rename(&temporary, &path(dir))?;
        disk.sync_dir(dir)?;
        Ok(Self { file, record, latest: 0, stable: Some(0) })
    }

    /// Opens the file and takes the newer of its sound slots.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let file = disk.open(&path(dir), OpenMode::Write).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::MetaLost,
            _ => OpenError::io("open the metadata")(error),
        })?;
        let mut newest: Option<(usize, MetaRecord)> = None;
        for slot in 0..2 {
            match read_slot(file.as_ref(), slot) {
                Ok(record) if newest.is_none_or(|(_, best)| best.sequence < record.sequence) => {
                    newest = Some((slot, record));
                }
                Ok(_) | Err(SlotFault::Bad) => {}
                Err(SlotFault::Version(found)) => return Err(OpenError::Version { found }),
            }
        }
        let (latest, record) = newest.ok_or(OpenError::MetaLost)?;
        Ok(Self { file, record, latest, stable: None })
    }

    /// What the newest slot says.
    pub(crate) fn record(&self) -> &MetaRecord {
        &self.record
    }

    /// Makes what was read at open durable.
    pub(crate) fn secure(&mut self) -> io::Result<()> {
        self.stable_slot().map(drop)
    }

    /// Writes the ends without syncing them. The durable end never goes back by a hint: where the
    /// log has lost its end, it is what says so.
    pub(crate) fn hint(
        &mut self,
        durable_end: LogIndex,
        committed_end: LogIndex,
    ) -> io::Result<()> {
        let durable_end = durable_end.max(self.record.durable_end);
        let record = MetaRecord { durable_end, committed_end, clean: false, ..self.record };
        if kept(record) == self.record {
            return Ok(());
        }
        self.write(record).map(drop)
    }

    /// Writes a record durably; its identity and sequence are the file's own.
    pub(crate) fn store(&mut self, record: MetaRecord) -> io::Result<()> {
        let slot = self.write(MetaRecord { identity: self.record.identity, ..record })?;
        self.file.sync_data()?;
        self.stable = Some(slot);
        Ok(())
    }

    /// Writes the next record into the slot that is not the stable one, and says which that is.
    fn write(&mut self, record: MetaRecord) -> io::Result<usize> {
        let record = MetaRecord { sequence: self.record.sequence + 1, ..kept(record) };
        let slot = 1 - self.stable_slot()?;
        self.file.write_at(&encode(&record), slot_position(slot))?;
        (self.record, self.latest) = (record, slot);
        Ok(slot)
    }

    /// The slot that must not be overwritten. Once after opening it is written again and synced to
    /// be sure of it: it may come from the page cache of a process whose sync failed.
    fn stable_slot(&mut self) -> io::Result<usize> {
        if let Some(slot) = self.stable {
            return Ok(slot);
        }
        self.file.write_at(&encode(&self.record), slot_position(self.latest))?;
        self.file.sync_data()?;
        self.stable = Some(self.latest);
        Ok(self.latest)
    }
}

/// A record that claims nothing of frames that may be gone after a power cut: others may get their
/// indexes, and an older slot may outlive the newer one.
fn kept(record: MetaRecord) -> MetaRecord {
    MetaRecord { committed_end: record.committed_end.min(record.durable_end), ..record }
}

fn slot_position(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

/// A slot that the disk cannot read is a bad one.
fn read_slot(file: &dyn DiskFile, slot: usize) -> Result<MetaRecord, SlotFault> {
    let mut bytes = [0; SLOT_BYTES];
    let read = file.read_at(&mut bytes, slot_position(slot)).map_err(|_| SlotFault::Bad)?;
    decode(bytes.get(..read).unwrap_or_default())
}

/// Reads the newest record without opening the log.
pub(crate) fn peek(disk: &dyn Disk, dir: &Path) -> Result<MetaRecord, OpenError> {
    let file = disk.open(&path(dir), OpenMode::Read).map_err(|_| OpenError::MetaLost)?;
    let slots = [read_slot(file.as_ref(), 0), read_slot(file.as_ref(), 1)];
    slots.into_iter().flatten().max_by_key(|record| record.sequence).ok_or(OpenError::MetaLost)
}
