//! Disks that can be filled, or lose their power: a small file system of one node, which needs root,
//! or one through FUSE for every node.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use duramen_env::CrashMode;

use crate::faultfs::{FaultFs, FaultFsOptions};
use crate::processes::{Node, Outcome};

/// Bytes of the file system: room for long runs, and little of the machine's disk until used.
const BYTES: u64 = 2 << 30;

/// Free bytes below which the node is to take no records.
const RESERVE_BYTES: u64 = 32 << 20;

/// Bytes of a disk through FUSE, all of them in memory when written.
const FUSE_BYTES: u64 = 1 << 30;

/// A disk that a nemesis can do something to.
#[derive(Debug)]
pub enum NodeDisk {
    /// A small file system.
    Small(SmallDisk),
    /// One whose power can be cut.
    Powered(FaultFs),
}

impl NodeDisk {
    /// Mounts a disk whose power can be cut where a node, which does not run yet, keeps its data.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub(super) fn powered(node: &mut Node, seed: u64) -> Outcome<Self> {
        std::fs::create_dir_all(&node.dir)?;
        let options = FaultFsOptions { seed: seed ^ node.id, capacity_bytes: FUSE_BYTES };
        node.set_option("--disk-reserve-bytes", &RESERVE_BYTES.to_string());
        Ok(Self::Powered(FaultFs::mount(&node.dir, options)?))
    }

    /// Fills it to the last block.
    ///
    /// # Errors
    /// The file that fills it cannot be written for another reason than a full disk.
    pub(super) fn fill(&self) -> Outcome {
        match self {
            Self::Small(disk) => disk.fill(),
            Self::Powered(disk) => {
                disk.set_capacity(0);
                Ok(())
            }
        }
    }

    /// Gives back what [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// The file that filled it cannot be removed.
    pub(super) fn empty(&self) -> Outcome {
        match self {
            Self::Small(disk) => disk.empty(),
            Self::Powered(disk) => {
                disk.set_capacity(FUSE_BYTES);
                Ok(())
            }
        }
    }

    /// Free bytes.
    ///
    /// # Errors
    /// The file system does not say.
    pub(super) fn free_bytes(&self) -> Outcome<u64> {
        let mount_point = match self {
            Self::Small(disk) => &disk.mount_point,
            Self::Powered(disk) => disk.path(),
        };
        free_bytes(mount_point)
    }

    /// Cuts its power: what was not synced survives as the mode says. Does nothing to a disk without.
    pub(super) fn cut_power(&self, mode: CrashMode) {
        if let Self::Powered(disk) = self {
            disk.cut_power(mode);
        }
    }

    /// Switches its power on.
    ///
    /// # Errors
    /// It cannot be mounted again.
    pub(super) fn power_on(&mut self) -> Outcome {
        match self {
            Self::Small(_) => Ok(()),
            Self::Powered(disk) => Ok(disk.power_on()?),
        }
    }

    /// Whether a power cut took something that was written and not synced.
    pub(super) fn has_lost(&self) -> bool {
        match self {
            Self::Small(_) => false,
            Self::Powered(disk) => disk.counts().bytes_lost > 0,
        }
    }
}

fn free_bytes(mount_point: &Path) -> Outcome<u64> {
    let found = rustix::fs::statvfs(mount_point)?;
    Ok(found.f_bavail * found.f_frsize)
}

/// The smallest piece with which the file system is filled.
const PIECE_BYTES_MIN: u64 = 4096;

/// An ext4 of its own in a file, mounted where a node keeps its data. Dropped, it is unmounted.
#[derive(Debug)]
pub struct SmallDisk {
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Whether this process may mount.
    #[must_use]
    pub fn is_possible() -> bool {
        rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists()
    }

    /// Makes a file system in `home` and mounts it where the node, which does not run yet, keeps
    /// its data.
    ///
    /// # Errors
    /// The commands of the system fail.
    pub(super) fn under(node: &mut Node, home: &Path) -> Outcome<Self> {
        let image = home.join("small-disk.img");
        File::create(&image)?.set_len(BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        std::fs::create_dir_all(&node.dir)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&node.dir))?;
        let disk = Self { mount_point: node.dir.clone() };
        // A directory that is not empty is not taken for a new one.
        drop(std::fs::remove_dir(node.dir.join("lost+found")));
        node.set_option("--disk-reserve-bytes", &RESERVE_BYTES.to_string());
        Ok(disk)
    }

    /// Fills it to the last block.
    ///
    /// # Errors
    /// The file that fills it cannot be written for another reason than a full disk.
    fn fill(&self) -> Outcome {
        let ballast = File::options().create(true).append(true).open(self.ballast())?;
        let mut piece = free_bytes(&self.mount_point)?.next_multiple_of(PIECE_BYTES_MIN);
        let mut end = ballast.metadata()?.len();
        while piece >= PIECE_BYTES_MIN {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&ballast, flags, end, piece) {
                Ok(()) => end += piece,
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives back what [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// The file cannot be removed.
    fn empty(&self) -> Outcome {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.mount_point.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may still run, and is killed right after.
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.mount_point)) {
            drop(writeln!(std::io::stderr().lock(), "{error}"));
        }
    }
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}", said.trim()).into())
}
