//! How bytes get into the active segment: buffered today, direct later, behind one interface.

use std::fmt;
use std::io;
use std::sync::Arc;

use duramen_env::DiskFile;

use crate::limits::DIRECT_PAYLOAD_BYTES;

/// Writes runs of bytes to the active segment.
///
/// Nothing is durable before the file's own sync. After an error the run is undefined on disk
/// and the next [`WritePath::start`] begins a new one.
pub(crate) trait WritePath: Send + fmt::Debug {
    /// Begins a run at a position of a file.
    fn start(&mut self, file: &Arc<dyn DiskFile>, position: u64);

    /// Adds bytes to the end of the run; they may be held back until [`WritePath::finish`].
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Hands everything held back to the file.
    fn finish(&mut self) -> io::Result<()>;

    /// Gives memory back that is only kept for reuse.
    fn shed(&mut self);
}

/// Writes through the page cache: small pieces are gathered into one write, large ones go as
/// they are.
#[derive(Debug, Default)]
pub(crate) struct BufferedPath {
    file: Option<Arc<dyn DiskFile>>,
    position: u64,
    buffer: Vec<u8>,
}

/// What the buffer gathers before it is written.
const GATHER_BYTES: usize = 256 << 10;

impl BufferedPath {
    fn write(&mut self, bytes: Option<&[u8]>) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = bytes.unwrap_or(&self.buffer);
        if !bytes.is_empty() {
            file.write_at(bytes, self.position)?;
            self.position += bytes.len() as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write(None)?;
        self.buffer.clear();
        Ok(())
    }
}

impl WritePath for BufferedPath {
    fn start(&mut self, file: &Arc<dyn DiskFile>, position: u64) {
        self.file = Some(Arc::clone(file));
        self.position = position;
        self.buffer.clear();
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= DIRECT_PAYLOAD_BYTES {
            self.flush()?;
            return self.write(Some(bytes));
        }
        if self.buffer.len() + bytes.len() > GATHER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let result = self.flush();
        self.file = None;
        result
    }

    fn shed(&mut self) {
        self.buffer = Vec::new();
    }
}
