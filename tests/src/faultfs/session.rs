//! The calls of the kernel, from power on to power off.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use duramen_env::{Disk as _, Entry, SimDisk};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use super::inodes::{Inode, Inodes};
use super::power::Power;

/// What the kernel may keep of names and lengths: nobody but it changes them while it is mounted.
const VALID: Duration = Duration::from_secs(3600);

/// The largest write that comes in one piece.
const WRITE_BYTES_MAX: u32 = 1 << 20;

const BLOCK_BYTES: u32 = 4096;

const NAME_BYTES_MAX: u32 = 255;

/// Whether the power of one session is still on.
#[derive(Debug)]
pub(super) struct Life {
    is_over: AtomicBool,
    power: Arc<Power>,
}

impl Life {
    pub(super) const fn new(power: Arc<Power>) -> Self {
        Self { is_over: AtomicBool::new(false), power }
    }

    /// Fails all calls from now on, those that are stalled included.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.power.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.is_over.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }
}

/// One mount of a disk.
#[derive(Debug)]
pub(super) struct Session {
    disk: SimDisk,
    life: Arc<Life>,
    inodes: Mutex<Inodes>,
}

impl Session {
    pub(super) fn new(disk: SimDisk, life: Arc<Life>) -> Self {
        let inodes = Mutex::new(Inodes::new(disk.clone()));
        Self { disk, life, inodes }
    }

    /// The names and numbers, if the power is on.
    fn inodes(&self) -> io::Result<MutexGuard<'_, Inodes>> {
        self.life.check()?;
        Ok(self.inodes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn attributes(&self, number: u64) -> io::Result<FileAttr> {
        let inode = self.inodes()?.get(number)?;
        attributes(number, &inode)
    }

    fn entry(&self, found: io::Result<(u64, Inode)>, reply: ReplyEntry) {
        match found.and_then(|(number, inode)| attributes(number, &inode)) {
            Ok(attributes) => reply.entry(&VALID, &attributes, Generation(0)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(&self, number: u64, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let file = self.inodes()?.file(number)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?];
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn write(&self, number: u64, offset: u64, data: &[u8]) -> io::Result<u32> {
        let file = self.inodes()?.file(number)?;
        file.write_at(data, offset)?;
        u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// A sync, as far as the disk is honest.
    fn sync(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let honest = self.life.power.begin_sync();
        // The power may have gone while it was stalled.
        self.life.check()?;
        let result = if honest { work() } else { Ok(()) };
        if result.is_err() {
            self.life.power.count_failure();
        }
        result
    }

    fn list(&self, number: u64, handle: u64, offset: u64) -> io::Result<Vec<(u64, Entry)>> {
        let mut inodes = self.inodes()?;
        let listing = inodes.listing(number, handle, offset == 0)?;
        let read = usize::try_from(offset).unwrap_or(usize::MAX).min(listing.len());
        Ok(listing[read..].to_vec())
    }

    fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), keep: bool) -> io::Result<()> {
        let (from, to) = ((from.0, text(from.1)?), (to.0, text(to.1)?));
        let mut inodes = self.inodes()?;
        if keep && self.disk.exists(&inodes.child(to.0, to.1)?)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inodes.rename(from, to)
    }
}

impl Filesystem for Session {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config.set_max_write(WRITE_BYTES_MAX).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(text(name).and_then(|name| self.inodes()?.look_up(parent.0, name)), reply);
    }

    fn forget(&self, _req: &Request, number: INodeNo, lookups: u64) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        inodes.forget(number.0, lookups);
    }

    fn getattr(&self, _req: &Request, number: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply_attributes(self.attributes(number.0), reply);
    }

    fn setattr(
        &self,
        _req: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            let file = size.map(|size| Ok::<_, io::Error>((self.inodes()?.file(number.0)?, size)));
            if let Some((file, size)) = file.transpose()? {
                file.set_len(size)?;
            }
            self.attributes(number.0)
        };
        reply_attributes(set(), reply);
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.entry(text(name).and_then(|name| self.inodes()?.create_dir(parent.0, name)), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.inodes()?.remove_file(parent.0, text(name)?);
        reply_empty(work(), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.inodes()?.remove_dir(parent.0, text(name)?);
        reply_empty(work(), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags == RenameFlags::RENAME_NOREPLACE;
        if !keep && !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        reply_empty(self.rename((parent.0, name), (new_parent.0, new_name), keep), reply);
    }

    fn open(&self, _req: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.inodes().and_then(|inodes| inodes.file(number.0)) {
            // The pages stay: what is written is in them, and nobody else writes.
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let create = || {
            let (number, inode) = self.inodes()?.create(parent.0, text(name)?)?;
            attributes(number, &inode)
        };
        match create() {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&VALID, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read(number.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write(number.0, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _number: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Closing a file makes nothing durable.
        reply_empty(self.life.check(), reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let file = self.inodes().and_then(|inodes| inodes.file(number.0));
        reply_empty(file.and_then(|file| self.sync(|| file.sync_data())), reply);
    }

    fn opendir(&self, _req: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let open = || {
            let mut inodes = self.inodes()?;
            inodes.directory(number.0)?;
            Ok(inodes.open_listing())
        };
        match open() {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.list(number.0, fh.0, offset) {
            Ok(entries) => {
                for (next, (number, entry)) in (offset + 1..).zip(entries) {
                    let kind =
                        if entry.is_dir { FileType::Directory } else { FileType::RegularFile };
                    if reply.add(INodeNo(number), next, kind, &entry.name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner).close_listing(fh.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let path = self.inodes().and_then(|inodes| Ok(inodes.directory(number.0)?.to_owned()));
        reply_empty(path.and_then(|path| self.sync(|| self.disk.sync_dir(&path))), reply);
    }

    fn statfs(&self, _req: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let free = self.life.check().and_then(|()| self.disk.free_bytes(Path::new("/")));
        match free {
            Ok(free) => {
                let unit = u64::from(BLOCK_BYTES);
                let (all, free) = (self.life.power.capacity_bytes() / unit, free / unit);
                reply.statfs(all, free, free, 0, 0, BLOCK_BYTES, NAME_BYTES_MAX, BLOCK_BYTES);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let file = self.inodes().and_then(|inodes| inodes.file(number.0));
        reply_empty(file.and_then(|file| file.allocate(offset, length)), reply);
    }
}

fn text(name: &OsStr) -> io::Result<&str> {
    name.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn reply_empty(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

fn reply_attributes(result: io::Result<FileAttr>, reply: ReplyAttr) {
    match result {
        Ok(attributes) => reply.attr(&VALID, &attributes),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Times, owners and rights are the same everywhere: nothing that is tested here depends on them.
fn attributes(number: u64, inode: &Inode) -> io::Result<FileAttr> {
    let (kind, perm, nlink, size) = match inode {
        Inode::Directory => (FileType::Directory, 0o755, 2, 0),
        Inode::File(file) => (FileType::RegularFile, 0o644, 1, file.len()?),
    };
    let epoch = SystemTime::UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind,
        perm,
        nlink,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn errno(error: &io::Error) -> Errno {
    use io::ErrorKind;
    if let Some(number) = error.raw_os_error() {
        return Errno::from_i32(number);
    }
    match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::AlreadyExists => Errno::EEXIST,
        ErrorKind::IsADirectory => Errno::EISDIR,
        ErrorKind::NotADirectory => Errno::ENOTDIR,
        ErrorKind::DirectoryNotEmpty => Errno::ENOTEMPTY,
        ErrorKind::StorageFull => Errno::ENOSPC,
        ErrorKind::InvalidInput => Errno::EINVAL,
        ErrorKind::FileTooLarge => Errno::EFBIG,
        _ => Errno::EIO,
    }
}
