//! What a harness sees of a cluster besides the answers to its clients.

use std::ops::Range;

use crate::history::{Key, Mark, Value};

/// What somebody was told about a key, each figure on its own. None of them ever goes back for one
/// observer: one who asks one process of a node, from its start to its end, or the leader of one
/// epoch. Followers lag behind the leader, so who asks different replicas is several observers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// One past the last offset that may be read.
    pub high_watermark: Option<u64>,
    /// The first offset that is kept.
    pub log_start: Option<u64>,
    /// The leader's epoch.
    pub leader_epoch: Option<u64>,
}

/// What one replica of a key has on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaDump {
    /// The key.
    pub key: Key,
    /// Which replica.
    pub replica: u64,
    /// The first offset that it keeps.
    pub log_start: u64,
    /// One past the last log index that it knows to be committed.
    pub committed_end: u64,
    /// Its entries, by ascending log index. What it has trimmed is missing at the front.
    pub entries: Vec<Entry>,
}

/// One entry of a replica's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its log index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The offset of its first record, or of the next one if it has none.
    pub base_offset: u64,
    /// Its records.
    pub records: u32,
    /// The hash of the log up to it.
    pub chain: u64,
    /// The checksum of its payload.
    pub payload_crc: u32,
}

/// Something that happened in a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A member was told that these keys are its own.
    Claimed {
        /// The member.
        member: u32,
        /// In which generation.
        generation: u64,
        /// Which keys.
        keys: Vec<Key>,
    },
    /// A member asked for a commit and had its answer, or gave up waiting.
    Committed(Commit),
    /// An operator or a member sets the committed offset on purpose, or the group begins there:
    /// written down before it is asked for.
    Reset {
        /// Of which key.
        key: Key,
        /// The next offset to be read.
        offset: u64,
    },
    /// Another node coordinates the group.
    CoordinatorChanged,
    /// Somebody asked for the committed offset and was told.
    Fetched {
        /// When the question was asked.
        asked: Mark,
        /// Of which key.
        key: Key,
        /// The next offset to be read, if one is committed.
        offset: Option<u64>,
    },
    /// The application of a member was given these records: written down before their commit is
    /// asked for.
    Delivered {
        /// The member.
        member: u32,
        /// Of which key.
        key: Key,
        /// From the first offset to one past the last.
        offsets: Range<u64>,
    },
}

/// A commit of a group's offset, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When it was asked for.
    pub asked: Mark,
    /// The member.
    pub member: u32,
    /// The generation that the member believed in.
    pub generation: u64,
    /// The key.
    pub key: Key,
    /// The next offset to be read.
    pub offset: u64,
    /// The answer.
    pub answer: CommitAnswer,
}

/// What a member was told about its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It is done.
    Accepted,
    /// It is not done and will not be.
    Refused,
    /// It may or may not be done.
    Unknown,
}

/// A batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// The producer's id.
    pub producer: u64,
    /// The producer's epoch.
    pub epoch: u32,
    /// The key.
    pub key: Key,
    /// The sequence of its first record: from 0, and 0 again after 2^31 - 1.
    pub sequence: u32,
    /// Its records.
    pub records: u32,
    /// The offset of its first record.
    pub offset: u64,
}

/// What became of a value in a queue group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueOutcome {
    /// It is with a worker, or waits for one.
    InFlight,
    /// A worker is done with it.
    Acked,
    /// It went to the dead-letter topic.
    DeadLettered,
    /// It was given up for its age.
    Expired,
}

/// An observation, by whom and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pub(crate) mark: Mark,
    pub(crate) observer: u32,
    pub(crate) key: Key,
    pub(crate) what: Observation,
}

/// The high watermark that came with the answer to a poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredWatermark {
    pub(crate) op: usize,
    pub(crate) key: Key,
    pub(crate) high_watermark: u64,
}

/// An event of a group.
#[derive(Clone, Debug)]
pub(crate) struct InGroup {
    pub(crate) mark: Mark,
    pub(crate) group: u32,
    pub(crate) event: GroupEvent,
}

/// A batch, and how it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Produced {
    /// Of a list of everything a log has, not of an answer to a client.
    pub(crate) is_stored: bool,
    pub(crate) batch: ProducedBatch,
}

/// What became of a value in a queue group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) queue: u32,
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) outcome: QueueOutcome,
}
