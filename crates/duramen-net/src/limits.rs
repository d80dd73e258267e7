//! Limits of the transport, each with its reason.

use std::time::Duration;

/// HTTP/2 frame size announced to the other side: with 16 KiB, the default, a byte costs about
/// half as much again on both sides.
pub const FRAME_BYTES_MAX: u32 = 2 << 20;

/// Bytes in flight in one HTTP/2 stream before the receiver takes them.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Bytes in flight in one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes that one HTTP/2 stream buffers before it asks its sender to wait.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The largest message taken: the largest fetch answer or append, and some slack. A larger length
/// prefix is refused when it is read, before any memory is set aside.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Streams that one connection may have open.
pub const CONCURRENT_STREAMS_MAX: u32 = 1_024;

/// Bytes of the headers of one request.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// How long a connection with calls under way hears nothing before it asks whether the other side
/// lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// How long the other side may take to answer that: a busy one answers late, a frozen one never.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may take to be made, HTTP/2 handshake included: one lost packet of the
/// handshake, which is sent again after a second, may be made up for.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// After an attempt that timed out, how long further calls fail at once instead of waiting too.
pub const SILENT_WAIT: Duration = Duration::from_millis(500);

/// Wait after a failed accept (too many open files), so that the loop does not spin.
pub const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(50);
