//! Limits of messages, each with its reason.

/// Records and headers of records that one message in plain form may have. A record takes at least
/// two bytes on the wire and a hundred and more in memory: without a limit a request of 16 MiB would
/// cost a gigabyte.
pub const RECORD_ITEMS_MAX: usize = 100_000;
