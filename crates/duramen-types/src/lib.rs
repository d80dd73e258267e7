//! The nouns of Duramen: one newtype a number, with arithmetic only.
//!
//! `fetch(LogIndex::new(4))` must not compile where an [`Offset`] is due, so every number that
//! crosses a crate boundary has a type of its own. Nothing here does I/O, allocates on a hot path
//! or knows another crate of the workspace.

mod id;
mod number;
mod timestamp;

pub use id::{ClusterId, TopicId, TopicPartition};
pub use number::{
    LogIndex, MetadataIndex, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, ReplicaId,
    Sequence, Term,
};
pub use timestamp::Timestamp;
