//! Lines of an input, each a slice of the buffer it was read into.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits;

/// Why there is no further line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("could not read the input: {0}")]
    Read(#[from] std::io::Error),
    #[error("line {number} is longer than {limit} bytes")]
    TooLong { number: u64, limit: usize },
}

/// Cuts an input into lines. Only the line feed is taken off; a last line may go without.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    buffer: BytesMut,
    /// So many bytes of the buffer hold no line feed.
    searched: usize,
    limit: usize,
    number: u64,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines of an input, each at most `limit` bytes long.
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self { input, buffer: BytesMut::new(), searched: 0, limit, number: 0, ended: false }
    }

    /// Number of the line that came last, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(place) = memchr::memchr(b'\n', fresh) {
                let length = self.searched + place;
                let mut line = self.buffer.split_to(length + 1);
                line.truncate(length);
                return self.give(line.freeze()).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(self.too_long());
            }
            if self.ended {
                let rest = self.buffer.split().freeze();
                return if rest.is_empty() { Ok(None) } else { self.give(rest).map(Some) };
            }
            self.buffer.reserve(limits::INPUT_BYTES);
            self.ended = self.input.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn give(&mut self, line: Bytes) -> Result<Bytes, LineError> {
        self.searched = 0;
        if line.len() > self.limit {
            return Err(self.too_long());
        }
        self.number += 1;
        Ok(line)
    }

    fn too_long(&self) -> LineError {
        LineError::TooLong { number: self.number + 1, limit: self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, LineError> {
        let mut lines = Lines::new(input, limit);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push(line.to_vec());
        }
        Ok(found)
    }

    #[tokio::test]
    async fn a_line_is_what_stands_before_a_line_feed() {
        let found = all(b"one\r\n\n three \nfour", 10).await.unwrap();
        assert_eq!(found, [b"one\r".to_vec(), b"".to_vec(), b" three ".to_vec(), b"four".to_vec()]);
    }

    #[tokio::test]
    async fn an_empty_input_has_no_lines() {
        assert!(all(b"", 10).await.unwrap().is_empty());
        assert_eq!(all(b"\n", 10).await.unwrap(), [b"".to_vec()]);
    }

    #[tokio::test]
    async fn lines_may_be_longer_than_one_read() {
        let long = vec![b'x'; 3 * limits::INPUT_BYTES];
        let input = [&long[..], b"\nend\n"].concat();
        assert_eq!(all(&input, input.len()).await.unwrap(), [long, b"end".to_vec()]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_named() {
        let error = all(b"ok\nmuch too long\n", 4).await.unwrap_err();
        assert_eq!(error.to_string(), "line 2 is longer than 4 bytes");
        assert!(all(b"much too long", 4).await.is_err(), "also without its line feed");
    }
}
