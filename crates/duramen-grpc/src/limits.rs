//! Limits of the listener, each with its reason.

/// Produce requests of one stream that may wait for their acknowledgement before the stream is
/// not read on; the client waits then.
pub(crate) const STREAM_REQUESTS_MAX: usize = 1_024;

/// Partitions of which a produce stream remembers that they had no room for it.
pub(crate) const STREAM_REFUSED_MAX: usize = 1_024;

/// Fetch answers of one stream that wait for the connection to take them.
pub(crate) const FETCH_ANSWERS_WAITING: usize = 2;

/// Bytes of one fetch answer in a stream: big enough to be cheap, small enough to be fair.
pub(crate) const FETCH_STREAM_BYTES: u64 = 1 << 20;

/// How long a stream of fetches waits for records before it looks around.
pub(crate) const FETCH_STREAM_WAIT_MS: u64 = 1_000;

/// The largest request taken: a full produce and some slack. A longer length prefix is refused as
/// soon as it is read, before memory is set aside.
pub(crate) const REQUEST_BYTES_MAX: usize = (16 << 20) + (64 << 10);

/// The largest request about a group: ten thousand offsets. Small ones become a multiple in memory.
pub(crate) const GROUP_REQUEST_BYTES_MAX: usize = 1 << 20;

/// Answers to a member that wait for the connection to take them.
pub(crate) const MEMBER_ANSWERS_WAITING: usize = 16;
