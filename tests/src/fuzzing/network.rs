//! Connections whose other side sends any bytes: HTTP/2 and gRPC below the messages.

mod bytes;
mod messages;
mod server;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use duramen_env::fuzz::{Decoder, MemoryLimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// A connection has buffers for frames of a mebibyte in either direction, and a message of a few
/// bytes may become a structure of a few hundred.
const CONNECTION: MemoryLimit = MemoryLimit { base: 8 << 20, per_byte: 512 };

/// The side of a connection that anybody may open, and what is read of its streams past the
/// generated code.
pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "http2-server",
        run: server::serve,
        seeds: bytes::requests,
        seal: None,
        memory: CONNECTION,
    },
    Decoder {
        name: "grpc-messages",
        run: messages::read,
        seeds: messages::seeds,
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
];

/// How long the other side waits before it closes, in the time of the simulation: what it sent is
/// dealt with by then.
const CLOSES_AFTER: Duration = Duration::from_millis(100);

/// The end of a connection whose other side sends these bytes, closes a little later, and takes
/// whatever comes.
#[derive(Debug)]
struct Scripted {
    bytes: Vec<u8>,
    at: usize,
    closes: Option<Pin<Box<Sleep>>>,
    /// Told when this end is done with the connection.
    gone: Arc<Notify>,
}

impl Scripted {
    fn new(bytes: &[u8], gone: &Arc<Notify>) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, closes: None, gone: Arc::clone(gone) }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.bytes.len() {
            let closes =
                self.closes.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSES_AFTER)));
            return closes.as_mut().poll(context).map(Ok);
        }
        let end = self.bytes.len().min(self.at + buffer.remaining());
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future in a runtime of its own, whose time stands still unless everything waits.
fn block_on<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().ok()?;
    Some(runtime.block_on(future))
}
