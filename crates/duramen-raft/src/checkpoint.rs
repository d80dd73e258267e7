//! Small checked files of a replica: checkpoints of its tracker and snapshots of a state machine.
//!
//! ```text
//! 0        4                 8        12               28        36
//! +--------+-----------------+--------+----------------+---------+----------------------+
//! | "DCP1" | payload length  | crc-32 | cluster (UUID) | replica | payload (a message)  |
//! +--------+-----------------+--------+----------------+---------+----------------------+
//! ```
//! Little-endian, CRC-32 over all that follows it. Another replica's file does not check. A file is
//! written beside its name, synced, and renamed.
//! Checkpoints are derived: one that does not check is ignored. A snapshot is not.

use std::io;
use std::path::Path;

use duramen_env::{Disk, OpenMode};
use duramen_log::LogIdentity;
use duramen_types::LogIndex;

use crate::limits;
use crate::tracker::Checkpoint;

const MAGIC: [u8; 4] = *b"DCP1";
const HEADER_BYTES: usize = 36;
const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = ".new";

/// Checkpoints kept: the newest, and the one before in case the newest is of a cut suffix.
const KEPT: usize = 2;

/// Writes a file whole or not at all; it is durable when this returns.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    owner: LogIdentity,
    name: &str,
    payload: &[u8],
) -> io::Result<()> {
    let bytes = encode(payload, owner).ok_or(io::ErrorKind::FileTooLarge)?;
    let temporary = dir.join(format!("{name}{TEMPORARY}"));
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// `InvalidData` if it does not check.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    owner: LogIdentity,
) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    if len > HEADER_BYTES + 2 * limits::SNAPSHOT_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    decode(&bytes, owner)
        .map(|payload| Some(payload.to_vec()))
        .ok_or(io::ErrorKind::InvalidData.into())
}

/// The bytes of a file; `None` if the payload is longer than a length can say.
pub(crate) fn encode(payload: &[u8], owner: LogIdentity) -> Option<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok()?;
    let owned = [&owner_bytes(owner)[..], payload].concat();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(len.to_le_bytes());
    bytes.extend(crc32fast::hash(&owned).to_le_bytes());
    bytes.extend(owned);
    Some(bytes)
}

fn owner_bytes(owner: LogIdentity) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(owner.cluster.as_bytes());
    bytes[16..].copy_from_slice(&owner.replica.get().to_le_bytes());
    bytes
}

/// The payload of an owner's file, if it checks.
pub(crate) fn decode(bytes: &[u8], owner: LogIdentity) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, owned) = rest.split_first_chunk::<4>()?;
    let (found, payload) = owned.split_first_chunk::<24>()?;
    let sound = *magic == MAGIC
        && usize::try_from(u32::from_le_bytes(*len)).ok()? == payload.len()
        && crc32fast::hash(owned) == u32::from_le_bytes(*crc)
        && *found == owner_bytes(owner);
    sound.then_some(payload)
}

/// Writes a checkpoint and removes the ones that it makes superfluous.
pub(crate) fn save(
    disk: &dyn Disk,
    dir: &Path,
    owner: LogIdentity,
    checkpoint: &Checkpoint,
) -> io::Result<()> {
    write(disk, dir, owner, &name(checkpoint.index()), &checkpoint.encode())?;
    let indexes = list(disk, dir)?;
    for index in indexes.iter().rev().skip(KEPT) {
        disk.remove_file(&dir.join(name(*index)))?;
    }
    Ok(())
}

/// All checkpoints that check, newest first.
pub(crate) fn load(disk: &dyn Disk, dir: &Path, owner: LogIdentity) -> io::Result<Vec<Checkpoint>> {
    let mut checkpoints = Vec::new();
    for index in list(disk, dir)?.into_iter().rev() {
        match read(disk, &dir.join(name(index)), owner) {
            Ok(Some(payload)) => checkpoints.extend(Checkpoint::decode(&payload)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, %index, "checkpoint left aside: it does not check");
            }
        }
    }
    Ok(checkpoints)
}

fn name(index: LogIndex) -> String {
    format!("{PREFIX}{:020}", index.get())
}

/// Indexes of the checkpoint files, ascending.
fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<LogIndex>> {
    let entries = disk.list(dir)?;
    let indexes = entries
        .iter()
        .filter_map(|entry| entry.name.strip_prefix(PREFIX)?.parse().ok().map(LogIndex::new));
    Ok(indexes.collect())
}

#[cfg(test)]
mod tests {
    use duramen_env::RealDisk;
    use duramen_types::{ClusterId, Offset, ReplicaId};

    use super::*;
    use crate::tracker::Tracker;
    use crate::types::LogId;

    const OWNER: LogIdentity =
        LogIdentity { cluster: ClusterId::from_bytes([0xcd; 16]), replica: ReplicaId::new(0x0102) };

    fn checkpoint(index: u64) -> Checkpoint {
        Checkpoint {
            log_id: LogId::new_term_index(3, index),
            chain: 7,
            end_offset: Offset::new(index * 2),
            tracker: Tracker::default(),
        }
    }

    #[test]
    fn the_newest_two_checkpoints_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for index in [5, 9, 12] {
            save(&RealDisk, dir.path(), OWNER, &checkpoint(index)).unwrap();
        }
        let loaded = load(&RealDisk, dir.path(), OWNER).unwrap();
        assert_eq!(loaded.iter().map(|c| c.index().get()).collect::<Vec<_>>(), [12, 9]);
        assert_eq!(loaded[0].end_offset, Offset::new(24));
    }

    #[test]
    fn a_damaged_checkpoint_is_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        save(&RealDisk, dir.path(), OWNER, &checkpoint(5)).unwrap();
        save(&RealDisk, dir.path(), OWNER, &checkpoint(9)).unwrap();
        let path = dir.path().join(name(LogIndex::new(9)));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let loaded = load(&RealDisk, dir.path(), OWNER).unwrap();
        assert_eq!(loaded.iter().map(|c| c.index().get()).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn the_bytes_of_a_file_are_pinned() {
        let dir = tempfile::tempdir().unwrap();
        write(&RealDisk, dir.path(), OWNER, "f", b"ring").unwrap();
        let path = dir.path().join("f");
        let bytes = std::fs::read(&path).unwrap();
        let owned = [&[0xcd; 16][..], &[2, 1, 0, 0, 0, 0, 0, 0], b"ring"].concat();
        let crc = crc32fast::hash(&owned).to_le_bytes();
        assert_eq!(bytes, [&b"DCP1"[..], &[4, 0, 0, 0], &crc, &owned].concat());
        assert_eq!(read(&RealDisk, &path, OWNER).unwrap().unwrap(), b"ring");
        let other = LogIdentity { replica: ReplicaId::new(9), ..OWNER };
        read(&RealDisk, &path, other).unwrap_err();
    }
}
