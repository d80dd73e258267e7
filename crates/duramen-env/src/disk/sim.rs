//! A disk in memory that loses, tears, refuses and lies as disks do, all from one seed.
//!
//! Bytes written are visible at once and durable after `sync_data` of their file; names are
//! visible at once and durable after `sync_dir` of their directory, and nothing else makes them
//! so. [`SimDisk::crash`] cuts the power: what was not durable survives as its [`CrashMode`] says,
//! every handle dies, and every call fails until [`SimDisk::reopen`]. [`SimDisk::crash_after`] does
//! it at a chosen call, so that a test can try every crash point of a trace. [`Fault`]s make single
//! calls fail, [`Corruption`] damages durable bytes, a capacity makes it full.

mod content;
mod draw;
mod fault;
mod file;
mod handle;
mod machine;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use fault::{Corruption, CrashMode, DiskCall, Fault};
pub use machine::DiskImage;

use super::{DirLock, Disk, DiskFile, Entry, OpenMode};
use content::SECTOR_BYTES;
use draw::Draw;
use handle::{SimFile, SimLock};
use machine::{Details, Machine, Verdict};
use tree::ROOT;

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

/// What tests do to the disk.
impl SimDisk {
    /// An empty disk of unlimited capacity; the seed decides what crashes keep.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(Machine::new(seed))
    }

    fn of(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// Another disk that is as this one is now, wishes and faults apart: the processes that have
    /// this one open are dead there. The seed decides what crashes keep.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let mut machine = self.lock_machine().image();
        machine.draw = Draw::new(seed);
        machine.end_process();
        Self::of(machine)
    }

    /// Starts or stops taking an image of the disk after each mutating call, so that one run of a
    /// trace gives all its crash points.
    pub fn set_images(&self, on: bool) {
        self.lock_machine().images = on.then(Vec::new);
    }

    /// The images taken so far, in order; more go to an empty list.
    #[must_use]
    pub fn take_images(&self) -> Vec<DiskImage> {
        self.lock_machine().images.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All files that no crash takes away, and their bytes.
    #[must_use]
    pub fn durable_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.lock_machine().tree.durable_files(ROOT, Path::new("/"), &mut files);
        files
    }

    /// Cuts the power. Every call fails until [`SimDisk::reopen`]. Off already: nothing happens.
    pub fn crash(&self, mode: CrashMode) {
        let mut machine = self.lock_machine();
        if !machine.is_down {
            machine.crash(mode);
        }
    }

    /// Cuts the power right after the `calls`th mutating call from now has done its work; 0 cuts
    /// it at once. Replaces an earlier wish of this kind.
    pub fn crash_after(&self, calls: u64, mode: CrashMode) {
        if calls == 0 {
            return self.crash(mode);
        }
        let mut machine = self.lock_machine();
        machine.crash_at = Some((machine.mutations + calls, mode));
    }

    /// Takes back [`SimDisk::crash_after`].
    pub fn cancel_crash(&self) {
        self.lock_machine().crash_at = None;
    }

    /// Switches the power on. Handles of before stay dead.
    pub fn reopen(&self) {
        self.lock_machine().is_down = false;
    }

    /// Ends the process (`kill -9`): handles and locks are dead, nothing written is lost, nothing
    /// becomes durable.
    pub fn kill(&self) {
        self.lock_machine().end_process();
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.lock_machine().is_down
    }

    /// The mutating calls so far, successful or not; those that a fault refused count too.
    #[must_use]
    pub fn mutations(&self) -> u64 {
        self.lock_machine().mutations
    }

    /// Lets calls fail. Faults are tried in the order in which they were injected.
    pub fn inject(&self, fault: Fault) {
        self.lock_machine().faults.push(fault);
    }

    /// Takes back all faults that have not hit yet.
    pub fn clear_faults(&self) {
        self.lock_machine().faults.clear();
    }

    /// How often faults have hit so far, so that a test can tell that it tested something.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.lock_machine().faults_hit
    }

    /// Bytes that read differently after the power losses so far, those of files that lost their
    /// name included, so that a test can tell that it lost something.
    #[must_use]
    pub fn bytes_lost(&self) -> u64 {
        self.lock_machine().losses.bytes
    }

    /// Names that were made, removed or changed in vain, by the power losses so far.
    #[must_use]
    pub fn name_changes_lost(&self) -> u64 {
        self.lock_machine().losses.name_changes
    }

    /// The number of what is at a path, which nothing else on this disk ever has; 0 is the root.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn number(&self, path: &Path) -> io::Result<u64> {
        self.lock_machine().tree.find(path)
    }

    /// Says whether the disk has direct writes, which it has at first.
    pub fn set_direct(&self, has_direct: bool) {
        self.lock_machine().has_direct = has_direct;
    }

    /// Limits the bytes that can be allocated, in blocks of 4 KiB; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_machine().capacity_bytes = bytes;
    }

    /// Damages a file at a position.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` if the position lies beyond the file's end or the bit beyond
    /// its byte.
    pub fn corrupt(&self, path: &Path, position: u64, corruption: Corruption) -> io::Result<()> {
        let mut machine = self.lock_machine();
        let inode = machine.tree.find(path)?;
        let file = machine.tree.file_mut(inode)?;
        if position >= file.durable().len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sector = position / SECTOR_BYTES as u64;
        match corruption {
            Corruption::FlipBit(bit) => {
                let mask = 1u8.checked_shl(bit.into()).ok_or(io::ErrorKind::InvalidInput)?;
                let mut byte = [0];
                file.durable().read(&mut byte, position);
                file.damage(position, &[byte[0] ^ mask]);
            }
            Corruption::Overwrite(bytes) => file.damage(position, &bytes),
            Corruption::ZeroSectors(count) => {
                for sector in sector..sector.saturating_add(count) {
                    let start = sector * SECTOR_BYTES as u64;
                    if start >= file.durable().len() {
                        break;
                    }
                    file.damage(start, &[0; SECTOR_BYTES]);
                }
            }
            Corruption::StaleSector => file.make_stale(sector),
            Corruption::UnreadableSector => file.make_unreadable(sector),
        }
        Ok(())
    }

    /// The bytes of a file that no crash takes away.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn durable(&self, path: &Path) -> io::Result<Vec<u8>> {
        let machine = self.lock_machine();
        Ok(machine.tree.file(machine.tree.find(path)?)?.durable().to_vec())
    }

    /// Replaces the durable bytes and the length of an existing file behind the back of the
    /// process: to cut it, to swap two files, to put an old fixture in place.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.lock_machine();
        let inode = machine.tree.find(path)?;
        machine.tree.file_mut(inode)?.replace(bytes);
        Ok(())
    }

    /// Starts or stops recording one line for each call and crash.
    pub fn set_trace(&self, on: bool) {
        self.lock_machine().trace = on.then(Vec::new);
    }

    /// The lines recorded so far; recording goes on with an empty list.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.lock_machine().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl SimDisk {
    fn lock_machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one call that changes or reads the tree.
    fn call<T>(
        &self,
        call: DiskCall,
        path: &Path,
        details: Details,
        work: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut machine = self.lock_machine();
        let result = match machine.begin(call, path) {
            Ok(Verdict::Partial(error) | Verdict::Lie(error)) | Err(error) => Err(error),
            // Only syncs can be ignored: other calls owe the caller a result.
            Ok(Verdict::Proceed | Verdict::Ignore) => work(&mut machine),
        };
        machine.end(call, path, &details, result.is_ok());
        result
    }

    fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        self.call(DiskCall::Remove, path, Details::MUTATES, |machine| {
            let place = machine.tree.place(path)?;
            let inode = machine.tree.get(&place).ok_or(io::ErrorKind::NotFound)?;
            match (is_dir, machine.tree.is_dir(inode)) {
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (true, true) if !machine.tree.names(inode)?.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (true, true) | (false, false) => {}
            }
            let sequence = machine.sequence();
            machine.tree.unlink(sequence, place);
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(DiskCall::CreateDir, path, Details::MUTATES, |machine| {
            let place = machine.tree.place(path)?;
            if machine.tree.get(&place).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let sequence = machine.sequence();
            machine.tree.create_dir(sequence, place);
            Ok(())
        })
    }

    fn is_dir(&self, path: &Path) -> bool {
        let machine = self.lock_machine();
        machine.tree.find(path).is_ok_and(|inode| machine.tree.is_dir(inode))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let creates = matches!(mode, OpenMode::CreateNew | OpenMode::OpenOrCreate);
        let details = Details { mutates: creates, ..Details::READS };
        self.call(DiskCall::Open, path, details, |machine| {
            let inode = match (machine.tree.find(path), mode) {
                (Ok(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(inode), _) => machine.tree.file(inode).map(|_| inode),
                (Err(error), _) if !creates || error.kind() != io::ErrorKind::NotFound => {
                    Err(error)
                }
                (Err(_), _) => {
                    let place = machine.tree.place(path)?;
                    let sequence = machine.sequence();
                    Ok(machine.tree.create_file(sequence, place))
                }
            }?;
            let file = SimFile::new(self.clone(), machine, inode, path, mode != OpenMode::Read);
            Ok(Arc::new(file) as Arc<dyn DiskFile>)
        })
    }

    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        if !self.lock_machine().has_direct {
            return Ok(None);
        }
        self.open(path, OpenMode::Write).map(Some)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.is_dir(path) && !self.is_down() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let exists = self.lock_machine().tree.find(parent).is_ok();
            if !exists {
                self.create_dir_all(parent)?;
            }
        }
        self.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.call(DiskCall::List, dir, Details::READS, |machine| {
            let tree = &machine.tree;
            let entry = |(name, inode): (&String, &u64)| Entry {
                name: name.clone(),
                is_dir: tree.is_dir(*inode),
                len: tree.file(*inode).map_or(0, |file| file.visible().len()),
            };
            Ok(tree.names(tree.find(dir)?)?.iter().map(entry).collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(DiskCall::Rename, from, Details::MUTATES, |machine| {
            let places = (machine.tree.place(from)?, machine.tree.place(to)?);
            let sequence = machine.sequence();
            machine.tree.rename(sequence, places.0, places.1)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.remove(path, false)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let child = path.join(&entry.name);
            if entry.is_dir {
                self.remove_dir_all(&child)?;
            } else {
                self.remove_file(&child)?;
            }
        }
        self.remove(path, true)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.call(DiskCall::Stat, path, Details::READS, |machine| match machine.tree.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut machine = self.lock_machine();
        let result = match machine.begin(DiskCall::SyncDir, dir) {
            Ok(Verdict::Proceed) => {
                let found = machine.tree.find(dir);
                found.and_then(|inode| machine.tree.sync_dir(inode))
            }
            Ok(Verdict::Ignore) => Ok(()),
            Ok(Verdict::Partial(error) | Verdict::Lie(error)) | Err(error) => Err(error),
        };
        machine.end(DiskCall::SyncDir, dir, &Details::MUTATES, result.is_ok());
        result
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.call(DiskCall::Stat, path, Details::READS, |machine| {
            machine.tree.find(path)?;
            Ok(machine.free_bytes())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.call(DiskCall::Open, path, Details::MUTATES, |machine| {
            let place = machine.tree.place(path)?;
            let inode = match machine.tree.get(&place) {
                Some(inode) => machine.tree.file(inode).map(|_| inode)?,
                None => {
                    let sequence = machine.sequence();
                    machine.tree.create_file(sequence, place)
                }
            };
            let number = machine.take_lock(inode).ok_or(io::ErrorKind::WouldBlock)?;
            Ok(Box::new(SimLock::new(self.clone(), inode, number)) as Box<dyn DirLock>)
        })
    }
}
