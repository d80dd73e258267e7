//! The disk seam: what the log, the hard state and the node's identity ask of a file system.
//!
//! Durability is what the traits say and no more: bytes written are durable after
//! [`DiskFile::sync_data`] of their file returned `Ok`, a created, renamed or removed name after
//! [`Disk::sync_dir`] of its directory. A failed sync is final: the caller must stop using the
//! file, because the kernel may have dropped the pages and a second sync would lie.

mod faulty;
mod real;
mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use faulty::{DiskFaults, FaultyDisk};
pub use real::{RealDisk, read_ahead};
pub use sim::{Corruption, CrashMode, DiskCall, DiskImage, Fault, SimDisk};

/// The unit of direct writes: a block of every usual file system, and a sector of every usual disk.
pub const DIRECT_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file for reading and writing; an existing one is an error (`AlreadyExists`).
    CreateNew,
    /// An existing or new file, for reading and writing; nothing is truncated.
    OpenOrCreate,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes; 0 for a directory.
    pub len: u64,
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system says: `NotFound`, `AlreadyExists`, `PermissionDenied`, …
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for writes past the page cache: their positions, lengths and the
    /// addresses of their memory are multiples of [`DIRECT_BYTES`]. Everything else is done through
    /// another handle, which sees what was written. `None` where the file system has no such writes.
    ///
    /// # Errors
    /// As the operating system says.
    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>>;

    /// Creates a directory and its missing parents. An existing one is fine. The new names are
    /// durable after [`Disk::sync_dir`] of each parent.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted by name; names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// `NotFound` where there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Renames a file or directory, atomically replacing a file of that name.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unlinks a file. Open files and mappings of it stay readable.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything below.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Whether the name exists.
    ///
    /// # Errors
    /// As the operating system says; a missing name is `Ok(false)`.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// A failure is final, as for [`DiskFile::sync_data`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system that holds `path`.
    ///
    /// # Errors
    /// As the operating system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes an exclusive lock on a file, creating it; it is released when the guard drops or the
    /// process dies.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Guard of [`Disk::lock`].
pub trait DirLock: Send + Sync + fmt::Debug {}

/// An open file. All methods take `&self`; the caller orders writes that overlap.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at a position until the buffer is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// A bad sector is an error here, where it would be a signal through a mapping.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads up to so many bytes at a position, fewer only where the file ends, into memory of
    /// their own.
    ///
    /// # Errors
    /// As [`DiskFile::read_at`].
    fn read_bytes(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes all the bytes at a position, growing the file if need be.
    ///
    /// # Errors
    /// `StorageFull`, `Other` (EIO) …; a prefix may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable (`fdatasync`). Bytes written while it runs may or
    /// may not be included.
    ///
    /// # Errors
    /// A failure is final: never retry it, never use the file again.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves blocks for a range and extends the file to its end with zeros if it is shorter
    /// (`posix_fallocate`), so that a full disk is met here and not in a write.
    ///
    /// # Errors
    /// `StorageFull`. File systems without the call do the extension only.
    fn allocate(&self, position: u64, len: u64) -> io::Result<()>;

    /// Cuts or extends the file to a length. Never call it with a live mapping beyond `len`.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Maps the first `len` bytes for reading; the `Bytes` own the mapping and every slice of
    /// them keeps it alive, also after the file is unlinked.
    ///
    /// The caller vouches that nobody changes or cuts those bytes while the mapping lives: that
    /// is what makes the shared mapping sound.
    ///
    /// # Errors
    /// `InvalidInput` if the file is shorter than `len`.
    fn map(&self, len: u64) -> io::Result<Bytes>;
}
