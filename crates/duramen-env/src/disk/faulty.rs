//! A disk with faults that somebody else decides on: the real one behaves, this one is slow, full
//! or broken when it is told so.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{DirLock, Disk, DiskFile, Entry, OpenMode};

/// Decides what goes wrong with a disk. Called from any thread.
pub trait DiskFaults: Send + Sync + fmt::Debug {
    /// Called before a file's data is synced. It may take its time: the caller is blocked
    /// meanwhile, as by a slow disk.
    ///
    /// # Errors
    /// What the sync fails with; nothing is synced then.
    fn before_sync(&self) -> io::Result<()>;

    /// The free bytes to tell, of those that there are.
    fn free_bytes(&self, real: u64) -> u64;
}

/// A disk whose syncs and free space are as a [`DiskFaults`] says; all else is the disk below.
#[derive(Debug)]
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    faults: Arc<dyn DiskFaults>,
}

impl FaultyDisk {
    /// Puts faults over a disk.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, faults: Arc<dyn DiskFaults>) -> Self {
        Self { disk, faults }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(FaultyFile { file, faults: Arc::clone(&self.faults) }))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = self.disk.open_direct(path)?;
        Ok(file.map(|file| {
            Arc::new(FaultyFile { file, faults: Arc::clone(&self.faults) }) as Arc<dyn DiskFile>
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(self.faults.free_bytes(self.disk.free_bytes(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    faults: Arc<dyn DiskFaults>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_bytes(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read_bytes(position, len)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.before_sync()?;
        self.file.sync_data()
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.allocate(position, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn map(&self, len: u64) -> io::Result<Bytes> {
        self.file.map(len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::SimDisk;

    /// Fails the sync of this number, counted from 1.
    #[derive(Debug)]
    struct FailsAt(u64, AtomicU64);

    impl DiskFaults for FailsAt {
        fn before_sync(&self) -> io::Result<()> {
            let number = self.1.fetch_add(1, Ordering::Relaxed) + 1;
            if number == self.0 { Err(io::Error::other("injected")) } else { Ok(()) }
        }

        fn free_bytes(&self, real: u64) -> u64 {
            real / 2
        }
    }

    #[test]
    fn a_failed_sync_does_not_reach_the_disk_and_the_others_do() {
        let below = SimDisk::new(1);
        let faults = Arc::new(FailsAt(2, AtomicU64::new(0)));
        let disk = FaultyDisk::new(Arc::new(below.clone()), faults);
        disk.create_dir_all("d".as_ref()).unwrap();
        let file = disk.open("d/f".as_ref(), OpenMode::CreateNew).unwrap();
        disk.sync_dir("d".as_ref()).unwrap();
        let durable = || below.durable("d/f".as_ref()).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"d", 3).unwrap();
        assert!(file.sync_data().is_err());
        assert_eq!(durable(), b"abc");
        file.sync_data().unwrap();
        assert_eq!(durable(), b"abcd");
        let real = below.free_bytes("d".as_ref()).unwrap();
        assert_eq!(disk.free_bytes("d".as_ref()).unwrap(), real / 2);
    }
}
