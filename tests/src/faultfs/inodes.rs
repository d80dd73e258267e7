//! What the kernel knows of the disk by number: directories by path, files by an open handle that
//! outlives their name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duramen_env::{Disk as _, DiskFile, Entry, OpenMode, SimDisk};
use rustix::io::Errno;

/// The kernel's number of the disk's root; the disk's own numbers begin one lower.
pub(super) const ROOT: u64 = 1;

/// What a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Inode {
    Directory,
    File(Arc<dyn DiskFile>),
}

#[derive(Debug)]
struct Known {
    path: PathBuf,
    inode: Inode,
    /// How often the kernel was told the number and has not yet forgotten it.
    lookups: u64,
}

/// The numbers that the kernel knows, and the directories that are being read.
#[derive(Debug)]
pub(super) struct Inodes {
    disk: SimDisk,
    known: BTreeMap<u64, Known>,
    /// What was in a directory when it was read from the start, by handle.
    listings: BTreeMap<u64, Vec<(u64, Entry)>>,
    next_handle: u64,
}

impl Inodes {
    pub(super) fn new(disk: SimDisk) -> Self {
        let root = Known { path: PathBuf::from("/"), inode: Inode::Directory, lookups: 1 };
        let known = BTreeMap::from([(ROOT, root)]);
        Self { disk, known, listings: BTreeMap::new(), next_handle: 1 }
    }

    fn known(&self, number: u64) -> io::Result<&Known> {
        self.known.get(&number).ok_or_else(|| Errno::STALE.into())
    }

    pub(super) fn get(&self, number: u64) -> io::Result<Inode> {
        Ok(self.known(number)?.inode.clone())
    }

    /// The path of a directory.
    pub(super) fn directory(&self, number: u64) -> io::Result<&Path> {
        Ok(&self.known(number)?.path)
    }

    pub(super) fn file(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        match &self.known(number)?.inode {
            Inode::File(file) => Ok(Arc::clone(file)),
            Inode::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn child(&self, parent: u64, name: &str) -> io::Result<PathBuf> {
        Ok(self.directory(parent)?.join(name))
    }

    /// Looks a name up, for the kernel to remember.
    pub(super) fn look_up(&mut self, parent: u64, name: &str) -> io::Result<(u64, Inode)> {
        let path = self.child(parent, name)?;
        let number = self.disk.number(&path)? + ROOT;
        if let Some(known) = self.known.get_mut(&number) {
            known.lookups += 1;
            return Ok((number, known.inode.clone()));
        }
        let inode = match self.disk.open(&path, OpenMode::Write) {
            Ok(file) => Inode::File(file),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Inode::Directory,
            Err(error) => return Err(error),
        };
        self.known.insert(number, Known { path, inode: inode.clone(), lookups: 1 });
        Ok((number, inode))
    }

    pub(super) fn create(&mut self, parent: u64, name: &str) -> io::Result<(u64, Inode)> {
        drop(self.disk.open(&self.child(parent, name)?, OpenMode::OpenOrCreate)?);
        self.look_up(parent, name)
    }

    pub(super) fn create_dir(&mut self, parent: u64, name: &str) -> io::Result<(u64, Inode)> {
        let path = self.child(parent, name)?;
        if self.disk.exists(&path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.disk.create_dir_all(&path)?;
        self.look_up(parent, name)
    }

    pub(super) fn remove_file(&self, parent: u64, name: &str) -> io::Result<()> {
        self.disk.remove_file(&self.child(parent, name)?)
    }

    pub(super) fn remove_dir(&self, parent: u64, name: &str) -> io::Result<()> {
        let path = self.child(parent, name)?;
        if !self.disk.list(&path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.disk.remove_dir_all(&path)
    }

    /// Renames; all that is known below moves along.
    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> io::Result<()> {
        let (from, to) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        self.disk.rename(&from, &to)?;
        for known in self.known.values_mut() {
            if let Ok(below) = known.path.strip_prefix(&from) {
                let is_itself = below.as_os_str().is_empty();
                known.path = if is_itself { to.clone() } else { to.join(below) };
            }
        }
        Ok(())
    }

    /// The kernel has forgotten a number so many times.
    pub(super) fn forget(&mut self, number: u64, lookups: u64) {
        if number == ROOT {
            return;
        }
        if let Some(known) = self.known.get_mut(&number) {
            known.lookups = known.lookups.saturating_sub(lookups);
            if known.lookups == 0 {
                self.known.remove(&number);
            }
        }
    }

    /// Opens a directory for reading its names.
    pub(super) fn open_listing(&mut self) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.listings.insert(handle, Vec::new());
        handle
    }

    pub(super) fn close_listing(&mut self, handle: u64) {
        self.listings.remove(&handle);
    }

    /// The names of an open directory: those of the moment when it is read from the start, so that
    /// names removed meanwhile shift nothing.
    pub(super) fn listing(
        &mut self,
        directory: u64,
        handle: u64,
        from_start: bool,
    ) -> io::Result<&[(u64, Entry)]> {
        if from_start {
            let path = self.directory(directory)?;
            let mut listing = Vec::new();
            for entry in self.disk.list(path)? {
                listing.push((self.disk.number(&path.join(&entry.name))? + ROOT, entry));
            }
            self.listings.insert(handle, listing);
        }
        Ok(self.listings.get(&handle).map_or(&[], Vec::as_slice))
    }
}
