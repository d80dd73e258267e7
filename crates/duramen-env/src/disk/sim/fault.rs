//! What tests can do to a simulated disk: errors, lies and damage.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// The kinds of call that a fault can be aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskCall {
    /// `Disk::open` and `Disk::lock`.
    Open,
    /// `Disk::create_dir_all`, once for each directory made.
    CreateDir,
    /// `Disk::list`.
    List,
    /// `Disk::exists`, `Disk::free_bytes` and `DiskFile::len`.
    Stat,
    /// `Disk::rename`.
    Rename,
    /// `Disk::remove_file`, and `Disk::remove_dir_all` once for each name removed.
    Remove,
    /// `Disk::sync_dir`.
    SyncDir,
    /// `DiskFile::read_at`.
    Read,
    /// `DiskFile::write_at`.
    Write,
    /// `DiskFile::sync_data`.
    Sync,
    /// `DiskFile::allocate`.
    Allocate,
    /// `DiskFile::set_len`.
    SetLen,
    /// `DiskFile::map`.
    Map,
}

/// What a call does when a fault hits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, and it says so.
    Refuse,
    /// A part of it, and it says that it failed.
    Partial,
    /// It says that it failed, and later calls pretend that it did not.
    Lie,
    /// Nothing, and it says that it succeeded.
    Ignore,
}

/// A failure waiting for its call. Without further ado it hits the next call of its kind once,
/// with EIO, and the call does nothing.
#[derive(Clone, Debug)]
pub struct Fault {
    call: DiskCall,
    path_part: String,
    skip: u64,
    times: u64,
    kind: Option<io::ErrorKind>,
    effect: Effect,
}

impl Fault {
    /// A fault of the next call of this kind.
    #[must_use]
    pub fn new(call: DiskCall) -> Self {
        Self {
            call,
            path_part: String::new(),
            skip: 0,
            times: 1,
            kind: None,
            effect: Effect::Refuse,
        }
    }

    /// Only calls whose path contains this text.
    #[must_use]
    pub fn path_contains(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path_part);
        self
    }

    /// Lets so many matching calls pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Hits so many matching calls, one after the other; `u64::MAX` is for ever.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Fails with this kind of error in place of EIO.
    #[must_use]
    pub fn error(mut self, kind: io::ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// A failed write leaves a part of its bytes: a drawn count of its first bytes.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.effect = Effect::Partial;
        self
    }

    /// A failed sync of a file marks its pages clean: they stay readable and the next sync
    /// succeeds, but they are gone after a crash. This is what Linux does.
    #[must_use]
    pub fn lying(mut self) -> Self {
        self.effect = Effect::Lie;
        self
    }

    /// The call says that it succeeded and does nothing: a drive that ignores a sync.
    #[must_use]
    pub fn ignored(mut self) -> Self {
        self.effect = Effect::Ignore;
        self
    }

    /// Whether the fault hits this call; counts the call if it is one of the kind.
    pub(super) fn strike(&mut self, call: DiskCall, path: &Path) -> bool {
        if self.times == 0 || self.call != call || !path.to_string_lossy().contains(&self.path_part)
        {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times != u64::MAX {
            self.times -= 1;
        }
        true
    }

    /// Whether the fault will hit no more calls.
    pub(super) fn is_spent(&self) -> bool {
        self.times == 0
    }

    pub(super) fn effect(&self) -> Effect {
        self.effect
    }

    pub(super) fn to_error(&self) -> io::Error {
        self.kind.map_or_else(eio, io::Error::from)
    }
}

/// The error of a medium that cannot be read or written.
pub(super) fn eio() -> io::Error {
    Errno::IO.into()
}

/// Damage to bytes that a sync had made durable. It is seen at once, as if the page cache had been
/// dropped, and never changes the length of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// Flips one bit, 0 to 7, of the byte at the position.
    FlipBit(u8),
    /// Overwrites the bytes from the position on.
    Overwrite(Vec<u8>),
    /// Zeros so many sectors of 512 bytes, the first being the one that holds the position.
    ZeroSectors(u64),
    /// Gives the sector that holds the position the bytes it had before it was last overwritten
    /// (zeros if it never was): a write that the drive acknowledged and lost.
    StaleSector,
    /// Lets every read and mapping of the sector that holds the position fail with EIO until it
    /// is written again.
    UnreadableSector,
}

/// What a power loss leaves of the changes that no sync had made durable. What a sync had made
/// durable is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing.
    KeepNone,
    /// Everything.
    KeepAll,
    /// Everything up to a drawn moment, the write at that moment torn at a sector.
    KeepPrefix,
    /// Of each file a drawn length and of each sector a drawn one of its contents since the last
    /// sync, of each directory a drawn number of its first changes: torn and reordered.
    KeepRandom,
}

impl CrashMode {
    /// All modes, for tests that try each.
    pub const ALL: [Self; 4] = [Self::KeepNone, Self::KeepAll, Self::KeepPrefix, Self::KeepRandom];
}
