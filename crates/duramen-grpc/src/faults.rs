//! Faults of the listener that somebody else decides on, for tests of clients: calls refused,
//! answers late, lost or given again. All of it is what a client can meet anyway.

use std::fmt;
use std::time::Duration;

use duramen_broker::BrokerError;

/// A call of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A produce, in a stream or alone.
    Produce,
    /// A fetch alone, or the opening of a stream.
    Fetch,
    /// List offsets.
    ListOffsets,
    /// Get a producer id.
    InitProducer,
}

/// What goes wrong with the answer to a produce. The produce itself is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceFault {
    /// How late it comes. Later answers for the same partition of the stream come after it.
    pub delay: Duration,
    /// It never comes: the stream breaks, or the call.
    pub lost: bool,
}

/// What goes wrong with one answer of a fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchFault {
    /// How late it comes.
    pub delay: Duration,
    /// When the stream breaks, or the call.
    pub cut: Cut,
}

/// When a stream breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// Not now.
    #[default]
    Never,
    /// Instead of this answer.
    Before,
    /// After this answer.
    After,
}

/// Decides what goes wrong. Called for each call and answer: it must not block.
pub trait CallFaults: Send + Sync + fmt::Debug {
    /// The error to refuse a call with, before anything is done. `partition` is topic and
    /// partition, if the call names one.
    fn refusal(&self, call: Call, partition: Option<(&str, u32)>) -> Option<BrokerError>;

    /// What goes wrong with a produce that is taken in.
    fn produce(&self, topic: &str, partition: u32) -> ProduceFault;

    /// What goes wrong with an answer of a fetch that carries records; `alone` if it is not one
    /// of a stream.
    fn fetch(&self, topic: &str, partition: u32, alone: bool) -> FetchFault;

    /// How many records before the asked offset a fetch begins. They are marked as to be skipped.
    fn records_again(&self, topic: &str, partition: u32) -> u64;
}
