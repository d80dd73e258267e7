//! Options of a client, and the small types that producer, consumer and admin share.

use std::time::Duration;

use bytes::Bytes;
use duramen_proto::v1;
use duramen_types::{Offset, Term, Timestamp};

use crate::{ClientError, limits};

/// Options of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Addresses, `host:port`, of some nodes; the client finds the others.
    pub seeds: Vec<String>,
    /// Name of this client in the server's logs and metrics; visible ASCII.
    pub client_id: String,
    /// How long a call may take, retries included. Default 30 s.
    pub request_timeout: Duration,
}

impl ClientOptions {
    /// Default options with these seeds.
    #[must_use]
    pub fn new<S: Into<String>>(seeds: impl IntoIterator<Item = S>) -> Self {
        Self { seeds: seeds.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        if self.seeds.is_empty() {
            return Err(ClientError::InvalidOption { option: "seeds", rule: "name at least one" });
        }
        if self.request_timeout.is_zero() {
            let rule = "must be longer than zero";
            return Err(ClientError::InvalidOption { option: "request_timeout", rule });
        }
        Ok(())
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            client_id: String::from("duramen-client"),
            request_timeout: limits::REQUEST_TIMEOUT,
        }
    }
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this offset.
    Offset(Offset),
    /// At the first record from which on none is older.
    Timestamp(Timestamp),
    /// At the first record kept.
    First,
    /// This many records before the end; 0 = only what comes from now on.
    Last(u64),
}

impl From<Start> for v1::FetchPosition {
    fn from(start: Start) -> Self {
        use v1::fetch_position::Position;
        let position = match start {
            Start::Offset(offset) => Position::Offset(offset.get()),
            Start::Timestamp(timestamp) => Position::Timestamp(timestamp.as_millis()),
            Start::First => Position::First(true),
            Start::Last(count) => Position::Last(count),
        };
        Self { position: Some(position) }
    }
}

/// What a partition's leader says of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// Where the asked position is.
    pub offset: Offset,
    /// The first record kept.
    pub log_start_offset: Offset,
    /// One past the last record that can be read.
    pub high_watermark: Offset,
    /// Epoch of the leader that answered.
    pub leader_epoch: Term,
}

/// A header of a record. Keys may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key. Bytes that are not UTF-8 read as the replacement character.
    pub key: String,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}
