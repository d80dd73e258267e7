//! A disk for real processes that forgets what was not synced: a file system in this process,
//! mounted through FUSE.
//!
//! Below it is the [`SimDisk`] of the simulation, so that both lose, tear, reorder, refuse and lie
//! by the same rules: bytes are durable after a sync of their file, names after a sync of their
//! directory, and nothing else makes them so. It lives in memory, as large as its capacity: what
//! is not synced must be held apart from what is, sector by sector, and a directory of the machine
//! would sync or not as its own file system likes.
//!
//! ```text
//!  process ─▶ kernel (page cache, locks) ─▶ /dev/fuse ─▶ Session ─▶ SimDisk
//! ```
//!
//! The kernel writes through and keeps pages only for reading, so mappings work and nothing that
//! was written waits in the kernel. Each [`power_on`](FaultFs::power_on) mounts anew: the page
//! cache of before belongs to the old mount and is never seen again. Locks (`flock`) are the
//! kernel's and end with their process.

mod inodes;
mod mount;
mod power;
mod session;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duramen_env::{CrashMode, DiskCall, Fault, SimDisk};

use mount::Mounted;
use power::Power;

/// Calls that are served at the same time: a stalled sync must not hold up the others.
const THREADS: usize = 4;

/// What a disk is like.
#[derive(Clone, Copy, Debug)]
pub struct FaultFsOptions {
    /// Decides what power cuts keep, where their mode leaves it open.
    pub seed: u64,
    /// Bytes that it can hold, all of them in memory if they are written.
    pub capacity_bytes: u64,
}

impl Default for FaultFsOptions {
    fn default() -> Self {
        Self { seed: 0, capacity_bytes: 1 << 30 }
    }
}

/// What happened to a disk, so that a test can tell that it tested something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Syncs of files and directories that were asked for.
    pub syncs: u64,
    /// Those that did nothing and said that they had.
    pub syncs_ignored: u64,
    /// Those that failed.
    pub syncs_failed: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Bytes that power cuts took.
    pub bytes_lost: u64,
    /// Names that were made, removed or changed in vain.
    pub name_changes_lost: u64,
}

/// A mounted disk. Dropped, it is unmounted at once, even if processes still use it; their calls
/// then fail.
#[derive(Debug)]
pub struct FaultFs {
    path: PathBuf,
    disk: SimDisk,
    power: Arc<Power>,
    mounted: Option<Mounted>,
}

impl FaultFs {
    /// Whether disks of this kind can be mounted here.
    ///
    /// # Errors
    /// Why not, in words: no `/dev/fuse`, or no right to mount.
    pub fn available() -> Result<(), String> {
        let attempt = || -> io::Result<()> {
            let dir = tempfile::Builder::new().prefix("duramen-faultfs-").tempdir()?;
            let disk = Self::mount(dir.path(), FaultFsOptions::default())?;
            std::fs::write(dir.path().join("probe"), b"probe")?;
            drop(disk);
            dir.close()
        };
        attempt().map_err(|error| format!("no file system can be mounted through FUSE: {error}"))
    }

    /// Mounts an empty disk on an existing directory.
    ///
    /// # Errors
    /// There is no `/dev/fuse`, no right to mount, or no such directory.
    pub fn mount(path: &Path, options: FaultFsOptions) -> io::Result<Self> {
        mount::sweep()?;
        let path = path.canonicalize()?;
        let disk = SimDisk::new(options.seed);
        disk.set_capacity(Some(options.capacity_bytes));
        let power = Arc::new(Power::new(options.capacity_bytes));
        let mounted = Mounted::new(&path, &disk, &power)?;
        Ok(Self { path, disk, power, mounted: Some(mounted) })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk below, for faults and damage of other kinds. Its damage is seen after the next
    /// [`power_on`](Self::power_on) at the latest.
    #[must_use]
    pub const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Cuts the power: what was not synced survives as the mode says, and every call fails with
    /// EIO from now on. Processes that use the disk cannot go on; kill them, then
    /// [`power_on`](Self::power_on).
    pub fn cut_power(&self, mode: CrashMode) {
        if let Some(mounted) = &self.mounted {
            mounted.cut();
        }
        if !self.disk.is_down() {
            self.power.count_cut();
            self.disk.crash(mode);
        }
    }

    /// Switches the power on: the disk is mounted anew with what survived. Nobody may be using it
    /// any more: what is still open stays dead. Lies, stalls and failures that have not come yet
    /// end with the power.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn power_on(&mut self) -> io::Result<()> {
        self.cut_power(CrashMode::KeepNone);
        drop(self.mounted.take());
        self.disk.clear_faults();
        self.set_lying(false);
        self.stall_syncs(Duration::ZERO);
        self.disk.reopen();
        self.mounted = Some(Mounted::new(&self.path, &self.disk, &self.power)?);
        Ok(())
    }

    /// Whether syncs do nothing and say that they did. What they should have synced stays unsynced
    /// until a sync that does not lie.
    pub fn set_lying(&self, lying: bool) {
        self.power.set_lying(lying);
    }

    /// After `after` more syncs of files, lets one fail with EIO as kernels let it fail: the pages
    /// are taken for clean, so that the next sync succeeds without writing them.
    pub fn fail_sync(&self, after: u64) {
        self.disk.inject(Fault::new(DiskCall::Sync).after(after).lying());
    }

    /// Limits the bytes that it holds; below those that it holds already it is full.
    pub fn set_capacity(&self, bytes: u64) {
        self.power.set_capacity(bytes);
        self.disk.set_capacity(Some(bytes));
    }

    /// Lets every sync take this much longer, until it is set to zero or the power is cut.
    pub fn stall_syncs(&self, stall: Duration) {
        self.power.set_stall(stall);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        let mut counts = self.power.counts();
        counts.bytes_lost = self.disk.bytes_lost();
        counts.name_changes_lost = self.disk.name_changes_lost();
        counts
    }
}
