//! Ways in which a disk or an operator damages a file.

use std::path::PathBuf;

use duramen_env::{Corruption, Disk as _, Random, SimDisk};

use super::{Region, Specimen};

/// A way to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit is another.
    FlipBit,
    /// A sector of 512 bytes is zeros.
    ZeroSector,
    /// A sector holds what it held before it was last written.
    StaleSector,
    /// The file ends within the region.
    Truncate,
    /// The file is another of the same kind in the same directory.
    SwapSibling,
    /// The file is that of another replica with the same history.
    SwapReplica,
    /// The file is that of another incarnation, with another history.
    SwapForeign,
    /// The last bytes of the file follow once more.
    DuplicateTail,
    /// The disk cannot read the sector.
    Unreadable,
    /// The file is gone.
    Remove,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FlipBit,
        Self::ZeroSector,
        Self::StaleSector,
        Self::Truncate,
        Self::SwapSibling,
        Self::SwapReplica,
        Self::SwapForeign,
        Self::DuplicateTail,
        Self::Unreadable,
        Self::Remove,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FlipBit => "bit flip",
            Self::ZeroSector => "zeroed sector",
            Self::StaleSector => "stale sector",
            Self::Truncate => "truncation",
            Self::SwapSibling => "swapped with a sibling",
            Self::SwapReplica => "swapped with a replica's",
            Self::SwapForeign => "swapped with a foreign one",
            Self::DuplicateTail => "duplicate tail",
            Self::Unreadable => "EIO on read",
            Self::Remove => "removed",
        }
    }

    /// Does it at a drawn place of a region. Answers whether the file is another than before.
    pub(super) fn apply(
        self,
        specimen: &dyn Specimen,
        disk: &SimDisk,
        region: &Region,
        draw: &dyn Random,
    ) -> bool {
        let (path, range) = (&region.path, &region.range);
        let position = range.start + draw.below(range.end - range.start);
        let Ok(before) = disk.durable(path) else { return false };
        let bit = u8::try_from(draw.below(8)).unwrap_or(0);
        let done = match self {
            Self::FlipBit => disk.corrupt(path, position, Corruption::FlipBit(bit)).is_ok(),
            Self::ZeroSector => disk.corrupt(path, position, Corruption::ZeroSectors(1)).is_ok(),
            Self::StaleSector => disk.corrupt(path, position, Corruption::StaleSector).is_ok(),
            Self::Unreadable => {
                return disk.corrupt(path, position, Corruption::UnreadableSector).is_ok();
            }
            Self::Truncate => {
                let len = usize::try_from(position).unwrap_or(0);
                disk.replace(path, before.get(..len).unwrap_or_default()).is_ok()
            }
            Self::SwapSibling => sibling(disk, region, draw)
                .and_then(|other| disk.durable(&other).ok())
                .is_some_and(|bytes| disk.replace(path, &bytes).is_ok()),
            Self::SwapReplica | Self::SwapForeign => {
                let others = specimen.others().iter().filter(|(damage, _)| *damage == self);
                let bytes = others.filter_map(|(_, other)| other.durable(path).ok()).next();
                bytes.is_some_and(|bytes| disk.replace(path, &bytes).is_ok())
            }
            Self::DuplicateTail => {
                let count = 1 + draw.below(before.len().min(700) as u64);
                let from = before.len() - usize::try_from(count).unwrap_or(0);
                let bytes = [&before[..], &before[from..]].concat();
                disk.replace(path, &bytes).is_ok()
            }
            Self::Remove => {
                let dir = path.parent().unwrap_or(path);
                return disk.remove_file(path).and_then(|()| disk.sync_dir(dir)).is_ok();
            }
        };
        done && disk.durable(path).is_ok_and(|after| after != before)
    }
}

/// Another file of the same kind beside a file.
fn sibling(disk: &SimDisk, region: &Region, draw: &dyn Random) -> Option<PathBuf> {
    let dir = region.path.parent()?;
    let extension = region.path.extension()?;
    let entries = disk.list(dir).ok()?;
    let others: Vec<PathBuf> = entries
        .iter()
        .map(|entry| dir.join(&entry.name))
        .filter(|path| path.extension() == Some(extension) && *path != region.path)
        .collect();
    let drawn = usize::try_from(draw.below(others.len() as u64)).unwrap_or(0);
    others.get(drawn).cloned()
}
