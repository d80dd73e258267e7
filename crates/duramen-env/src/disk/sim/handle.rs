//! Open files and locks of a simulated disk. They die with the process that made them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::io::Errno;

use super::fault::{DiskCall, eio};
use super::machine::{Details, Machine, Verdict};
use super::tree::Inode;
use super::{DirLock, DiskFile, SimDisk};

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
    process: u64,
    is_writable: bool,
}

impl SimFile {
    pub(super) fn new(
        disk: SimDisk,
        machine: &mut Machine,
        inode: Inode,
        path: &Path,
        is_writable: bool,
    ) -> Self {
        machine.tree.opened(inode);
        Self { disk, inode, path: path.to_owned(), process: machine.process, is_writable }
    }

    /// Carries out one call of this file.
    fn call<T>(
        &self,
        call: DiskCall,
        details: Details,
        work: impl FnOnce(&mut Machine, Verdict) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut machine = self.disk.lock_machine();
        let result = match machine.check_process(self.process) {
            Ok(()) => {
                let verdict = machine.begin(call, &self.path);
                verdict.and_then(|verdict| work(&mut machine, verdict))
            }
            // Not a call of the process that runs: neither counted nor traced.
            Err(error) => return Err(error),
        };
        machine.end(call, &self.path, &details, result.is_ok());
        result
    }

    fn check_writable(&self, otherwise: Errno) -> io::Result<()> {
        if self.is_writable { Ok(()) } else { Err(otherwise.into()) }
    }

    fn read(&self, machine: &Machine, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let file = machine.tree.file(self.inode)?;
        let read = file.visible().read(buffer, position);
        if file.is_readable(position, read) { Ok(read) } else { Err(eio()) }
    }
}

/// Turns a fault's verdict into an error, for calls that fail as a whole.
fn refuse(verdict: Verdict) -> io::Result<()> {
    match verdict {
        Verdict::Proceed | Verdict::Ignore => Ok(()),
        Verdict::Partial(error) | Verdict::Lie(error) => Err(error),
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.call(DiskCall::Stat, Details::READS, |machine, verdict| {
            refuse(verdict)?;
            Ok(machine.tree.file(self.inode)?.visible().len())
        })
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let details = Details::READS.range(position, buffer.len() as u64);
        self.call(DiskCall::Read, details, |machine, verdict| {
            refuse(verdict)?;
            self.read(machine, buffer, position)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let details = Details::MUTATES.range(position, bytes.len() as u64);
        self.call(DiskCall::Write, details, |machine, verdict| {
            self.check_writable(Errno::BADF)?;
            if let Verdict::Partial(error) = verdict {
                let written = machine.draw.up_to(bytes.len());
                machine.write(self.inode, &bytes[..written], position)?;
                return Err(error);
            }
            refuse(verdict)?;
            machine.write(self.inode, bytes, position)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(DiskCall::Sync, Details::MUTATES, |machine, verdict| {
            let file = machine.tree.file_mut(self.inode)?;
            match verdict {
                Verdict::Proceed => file.sync(),
                Verdict::Ignore => {}
                Verdict::Partial(error) => return Err(error),
                Verdict::Lie(error) => {
                    file.forget_pending();
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let details = Details::MUTATES.range(position, len);
        self.call(DiskCall::Allocate, details, |machine, verdict| {
            refuse(verdict)?;
            self.check_writable(Errno::BADF)?;
            machine.allocate(self.inode, position, len)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let details = Details { len: Some(len), ..Details::MUTATES };
        self.call(DiskCall::SetLen, details, |machine, verdict| {
            refuse(verdict)?;
            self.check_writable(Errno::INVAL)?;
            machine.set_len(self.inode, len)
        })
    }

    /// An owned copy: bytes that change later do not show, so that a test cannot come to rely on
    /// what a mapping does not promise.
    fn map(&self, len: u64) -> io::Result<Bytes> {
        let details = Details { len: Some(len), ..Details::READS };
        self.call(DiskCall::Map, details, |machine, verdict| {
            refuse(verdict)?;
            if machine.tree.file(self.inode)?.visible().len() < len {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut bytes = vec![0; len];
            self.read(machine, &mut bytes, 0)?;
            Ok(bytes.into())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut machine = self.disk.lock_machine();
        if machine.process == self.process {
            machine.tree.closed(self.inode);
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub(super) struct SimLock {
    disk: SimDisk,
    inode: Inode,
    number: u64,
}

impl SimLock {
    pub(super) fn new(disk: SimDisk, inode: Inode, number: u64) -> Self {
        Self { disk, inode, number }
    }
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock_machine().release_lock(self.inode, self.number);
    }
}
