//! A movable view of a segment file for readers: one `pread` serves many frames.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duramen_env::DiskFile;

use crate::checked::Checked;
use crate::error::FrameFault;
use crate::format::frame::{Envelope, decode_head};
use crate::frame::FrameHeader;
use crate::limits::{AHEAD_BYTES, AHEAD_STEP_BYTES, FRAME_OVERHEAD_BYTES, SECTOR_BYTES};

/// A view of the first `limit` bytes of a file or of a mapping.
pub(crate) struct Window {
    /// `None` for a mapping, which is one window that never moves.
    file: Option<Arc<dyn DiskFile>>,
    limit: u64,
    /// What a read fetches at least.
    chunk: usize,
    bytes: Bytes,
    start: u64,
    /// What was found sound by the time of this read, if it may be taken for granted.
    checked: Option<(Arc<Checked>, Duration)>,
    /// In lenient mode, what the disk could not read; it is seen as zeros.
    unreadable: Option<Vec<Range<u64>>>,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("limit", &self.limit).field("start", &self.start).finish()
    }
}

impl Window {
    /// A view that reads a file; a read that fails is a fault of the frame.
    pub(crate) fn of_file(file: Arc<dyn DiskFile>, limit: u64, chunk: usize) -> Self {
        let bytes = Bytes::new();
        let file = Some(file);
        Self { file, limit, chunk, bytes, start: 0, checked: None, unreadable: None }
    }

    /// A view that reads a file and sees zeros where the disk cannot read.
    pub(crate) fn lenient(file: Arc<dyn DiskFile>, limit: u64, chunk: usize) -> Self {
        Self { unreadable: Some(Vec::new()), ..Self::of_file(file, limit, chunk) }
    }

    /// A view of mapped bytes; what of them is known to be sound at a time, if it is to be believed.
    pub(crate) fn of_map(bytes: Bytes, checked: Option<(Arc<Checked>, Duration)>) -> Self {
        let limit = bytes.len() as u64;
        Self { file: None, limit, chunk: 0, bytes, start: 0, checked, unreadable: None }
    }

    /// One past the last position that can be seen.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether some of these bytes could not be read.
    pub(crate) fn is_unreadable(&self, range: &Range<u64>) -> bool {
        self.unreadable.iter().flatten().any(|bad| bad.start < range.end && range.start < bad.end)
    }

    /// The bytes at a position.
    pub(crate) fn view(&mut self, position: u64, len: usize) -> Result<&[u8], FrameFault> {
        let range = self.ensure(position, len)?;
        self.bytes.get(range).ok_or(FrameFault::Short)
    }

    /// The bytes at a position, owned.
    fn slice(&mut self, position: u64, len: usize) -> Result<Bytes, FrameFault> {
        let range = self.ensure(position, len)?;
        Ok(self.bytes.slice(range))
    }

    /// The envelope and header of the frame at a position; its payload is not looked at.
    pub(crate) fn head(&mut self, position: u64) -> Result<(Envelope, FrameHeader), FrameFault> {
        decode_head(self.view(position, FRAME_OVERHEAD_BYTES)?)
    }

    /// The verified payload of the frame at a position.
    pub(crate) fn payload(
        &mut self,
        position: u64,
        header: &FrameHeader,
    ) -> Result<Bytes, FrameFault> {
        let at = position.saturating_add(FRAME_OVERHEAD_BYTES as u64);
        let payload = self.slice(at, header.payload_len as usize)?;
        let end = at.saturating_add(u64::from(header.payload_len));
        self.read_ahead(at, end);
        let is_known = |(checked, now): &(Arc<Checked>, _)| checked.covers(&(position..end), *now);
        if self.checked.as_ref().is_some_and(is_known) {
            return Ok(payload);
        }
        if crc32fast::hash(&payload) != header.payload_crc {
            return Err(FrameFault::PayloadChecksum);
        }
        self.pass(position..position.saturating_add(header.frame_bytes()));
        Ok(payload)
    }

    /// Notes that these bytes need no check at the next read: they were found sound, or hold nothing
    /// that such a read gives out.
    pub(crate) fn pass(&self, range: Range<u64>) {
        if let Some((checked, now)) = &self.checked {
            checked.add(range, *now);
        }
    }

    /// Of a mapping, has what follows fetched, once in a while.
    fn read_ahead(&self, from: u64, to: u64) {
        let ahead = if self.file.is_none() { ahead(from, to, self.limit) } else { None };
        if let Some(ahead) = ahead
            && let (Ok(start), Ok(end)) = (usize::try_from(ahead.start), usize::try_from(ahead.end))
            && let Some(following) = self.bytes.get(start..end)
        {
            duramen_env::read_ahead(following);
        }
    }

    /// Makes the bytes visible and answers where they lie in `self.bytes`.
    fn ensure(&mut self, position: u64, len: usize) -> Result<Range<usize>, FrameFault> {
        let end = position.checked_add(len as u64).ok_or(FrameFault::Short)?;
        if end > self.limit {
            return Err(FrameFault::Short);
        }
        if position < self.start || end > self.start + self.bytes.len() as u64 {
            self.fill(position, len)?;
        }
        let from = usize::try_from(position - self.start).map_err(|_| FrameFault::Short)?;
        if from + len > self.bytes.len() {
            return Err(FrameFault::Short);
        }
        Ok(from..from + len)
    }

    fn fill(&mut self, position: u64, len: usize) -> Result<(), FrameFault> {
        let Some(file) = self.file.clone() else { return Err(FrameFault::Short) };
        let rest = usize::try_from(self.limit - position).unwrap_or(usize::MAX);
        let want = len.max(self.chunk).min(rest);
        self.bytes = match file.read_bytes(position, want) {
            Ok(bytes) => bytes.into(),
            Err(error) if self.unreadable.is_none() => {
                tracing::warn!(position, %error, "could not read a segment");
                return Err(FrameFault::Unreadable);
            }
            Err(_) => self.fill_by_sector(file.as_ref(), want, position),
        };
        self.start = position;
        Ok(())
    }

    /// Reads what can be read and notes the rest.
    fn fill_by_sector(&mut self, file: &dyn DiskFile, want: usize, position: u64) -> Bytes {
        let mut buffer = vec![0; want];
        let mut at = position;
        for sector in buffer.chunks_mut(SECTOR_BYTES) {
            if file.read_at(sector, at).is_err() {
                sector.fill(0);
                if let Some(unreadable) = &mut self.unreadable {
                    unreadable.push(at..at + sector.len() as u64);
                }
            }
            at += sector.len() as u64;
        }
        buffer.into()
    }

    /// One past the last byte at or after `position` that is not zero; `position` if all are.
    pub(crate) fn nonzero_end(&mut self, position: u64) -> Result<u64, FrameFault> {
        let mut end = position;
        let mut at = position;
        while at < self.limit {
            let rest = usize::try_from(self.limit - at).unwrap_or(usize::MAX);
            let len = self.chunk.max(SECTOR_BYTES).min(rest);
            let bytes = match self.view(at, len) {
                Ok(bytes) => bytes,
                // The file is shorter than it was: what is there has been seen.
                Err(FrameFault::Short) => break,
                Err(fault) => return Err(fault),
            };
            if let Some(last) = last_nonzero(bytes) {
                end = at + last as u64 + 1;
            }
            at += len as u64;
        }
        Ok(end)
    }
}

/// What to fetch of a mapping of which a part has been read: nothing, until the end of what was
/// fetched before comes near.
fn ahead(from: u64, to: u64, limit: u64) -> Option<Range<u64>> {
    let is_due = from / AHEAD_STEP_BYTES != to / AHEAD_STEP_BYTES;
    is_due.then(|| to..to.saturating_add(AHEAD_BYTES).min(limit))
}

/// Where the last byte that is not zero lies. Zeros are skipped in words.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<64>();
    if let Some(at) = rest.iter().rposition(|byte| *byte != 0) {
        return Some(words.len() * 64 + at);
    }
    let word = words.iter().rposition(|word| word != &[0; 64])?;
    words.get(word)?.iter().rposition(|byte| *byte != 0).map(|at| word * 64 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is fetched comes before it is read, and not at every frame.
    #[test]
    fn a_reader_finds_what_was_fetched_ahead_of_it() {
        let limit = 10 * AHEAD_BYTES + 77;
        for frame in [100, 4_096, 1 << 20, AHEAD_BYTES - AHEAD_STEP_BYTES] {
            // Where a reader begins, nothing can be ahead of it.
            let (mut fetched, mut times) = (AHEAD_STEP_BYTES + frame, 0);
            let mut from = 0;
            while from < limit {
                let to = (from + frame).min(limit);
                assert!(to <= fetched, "{to} of frames of {frame} bytes is not fetched");
                if let Some(range) = ahead(from, to, limit) {
                    assert!(range.start == to && range.end <= limit);
                    fetched = range.end;
                    times += 1;
                }
                from = to;
            }
            assert!(times <= limit / AHEAD_STEP_BYTES + 1, "{times} times");
        }
    }

    #[test]
    fn the_last_byte_that_is_not_zero_is_found_anywhere() {
        let mut bytes = vec![0; 1000];
        assert_eq!(last_nonzero(&bytes), None);
        for at in [0, 63, 64, 500, 959, 960, 999] {
            bytes[at] = 1;
            assert_eq!(last_nonzero(&bytes), Some(at));
        }
    }
}
