//! What must not be found in a history.

use thiserror::Error;

use crate::event::QueueOutcome;
use crate::history::{Key, OpId, Process, Value};

/// Something that a log which keeps its promises does not show. Offsets, indices and times are
/// those of the history; in a pair of offsets or operations the earlier comes first.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are named in each variant's message")]
pub enum Anomaly {
    /// One offset holds several values.
    #[error("key {key}: offset {offset} holds value {first} and value {second}")]
    InconsistentOffset { key: Key, offset: u64, first: Value, second: Value },
    /// One value is at several offsets.
    #[error("key {key}: value {value} is at offsets {first} and {second}")]
    Duplicate { key: Key, value: Value, first: u64, second: u64 },
    /// A value that is stored was never read, and a later one was.
    #[error(
        "key {key}: value {value} of {op}, stored at offset {offset}, was never read, and the \
         readers came to offset {bound}"
    )]
    LostWrite { key: Key, value: Value, offset: u64, op: OpId, bound: u64 },
    /// A value was read whose send failed (G1a).
    #[error("key {key}: value {value} of {send}, which failed, was read by {poll} at {offset}")]
    AbortedRead { key: Key, value: Value, offset: u64, send: OpId, poll: OpId },
    /// A value was read before it was sent.
    #[error("key {key}: value {value} was read by {poll} at {offset} before {send} sent it")]
    PrecommittedRead { key: Key, value: Value, offset: u64, send: OpId, poll: OpId },
    /// A value was read that nobody sent.
    #[error("key {key}: value {value}, read by {poll} at offset {offset}, was never sent")]
    Invented { key: Key, value: Value, offset: u64, poll: OpId },
    /// A value was acknowledged at one offset and read at another.
    #[error(
        "key {key}: {send} was told that value {value} is at offset {acknowledged}; {poll} read \
         it at offset {offset}"
    )]
    Contradicted { key: Key, value: Value, acknowledged: u64, send: OpId, offset: u64, poll: OpId },
    /// A value that was acknowledged was read by nobody, though everything was read at the end.
    #[error("key {key}: value {value} of {op} was acknowledged at {offset:?} and never read")]
    Unseen { key: Key, value: Value, offset: Option<u64>, op: OpId },
    /// The offsets of what was read have a gap, and those of this log have none.
    #[error("key {key}: {poll} of process {process} read offset {found}, where {expected} is next")]
    OffsetGap { key: Key, process: Process, poll: OpId, expected: u64, found: u64 },
    /// Two successive polls of a process passed over a record.
    #[error("key {key}: process {process} read {last} in {before} and then {next} in {poll}")]
    PollSkip {
        key: Key,
        process: Process,
        before: OpId,
        last: u64,
        poll: OpId,
        next: u64,
        /// The group moves the process about: no fault of the log.
        is_subscribed: bool,
    },
    /// Of two successive polls of a process the later one began before the end of the earlier.
    #[error("key {key}: process {process} read {last} in {before} and then {next} again in {poll}")]
    NonmonotonicPoll {
        key: Key,
        process: Process,
        before: OpId,
        last: u64,
        poll: OpId,
        next: u64,
        /// The group moves the process about: no fault of the log.
        is_subscribed: bool,
    },
    /// One poll passed over a record.
    #[error("key {key}: {poll} gave offset {last} and then {next}")]
    IntPollSkip { key: Key, poll: OpId, last: u64, next: u64 },
    /// One poll went back.
    #[error("key {key}: {poll} gave offset {last} and then went back to {next}")]
    IntNonmonotonicPoll { key: Key, poll: OpId, last: u64, next: u64 },
    /// Values of one send are stored in another order.
    #[error("key {key}: {op} sent what is at offset {last} before what is at {next}")]
    IntNonmonotonicSend { key: Key, op: OpId, last: u64, next: u64 },
    /// Values of one send have others between them. Nobody promised otherwise.
    #[error("key {key}: {op} sent what is at offsets {last} and {next}, others between")]
    IntSendSkip { key: Key, op: OpId, last: u64, next: u64 },
    /// Values of two successive sends of a process are stored in another order.
    #[error(
        "key {key}: process {process} sent what is at offset {last} in {before} and what is at \
         {next} in {op}"
    )]
    NonmonotonicSend { key: Key, process: Process, before: OpId, last: u64, op: OpId, next: u64 },
    /// A record was read that was not yet readable by what its readers were told.
    #[error("key {key}: {poll} read offset {offset} while the high watermark was {high_watermark}")]
    ReadAboveHighWatermark { key: Key, poll: OpId, offset: u64, high_watermark: u64 },
    /// The high watermark went back for one observer.
    #[error("key {key}: observer {observer} saw the high watermark at {before}, then {after}")]
    HighWatermarkRegressed { key: Key, observer: u32, before: u64, after: u64 },
    /// The log start went back for one observer.
    #[error("key {key}: observer {observer} saw the log start at {before}, then {after}")]
    LogStartRegressed { key: Key, observer: u32, before: u64, after: u64 },
    /// The leader epoch went back for one observer.
    #[error("key {key}: observer {observer} saw the leader epoch at {before}, then {after}")]
    LeaderEpochRegressed { key: Key, observer: u32, before: u64, after: u64 },
    /// Records were acknowledged by leaders of epochs in another order than their offsets.
    #[error(
        "key {key}: {op} was acknowledged at offset {offset} by epoch {epoch}, and an earlier \
         offset by epoch {before}"
    )]
    AckEpochRegressed { key: Key, op: OpId, offset: u64, epoch: u64, before: u64 },
    /// Two replicas have different bytes at one committed index.
    #[error("key {key}: replicas {first} and {second} differ at the committed index {index}")]
    ReplicasDiffer { key: Key, index: u64, first: u64, second: u64 },
    /// A replica lacks a committed entry between its first one and its end.
    #[error("key {key}: replica {replica} has no entry at the committed index {index}")]
    ReplicaHole { key: Key, replica: u64, index: u64 },
    /// Two replicas, or two entries of one, do not agree which offset an index has.
    #[error(
        "key {key}: index {index} is offset {base} for replica {replica}, and {expected} for \
         replica {other}"
    )]
    OffsetMapDiffers { key: Key, index: u64, replica: u64, base: u64, other: u64, expected: u64 },
    /// A group's committed offset went back within a generation (g1).
    #[error("group {group}, key {key}: the committed offset was {before}, then {after}")]
    GroupOffsetRegressed { group: u32, key: Key, before: u64, after: u64 },
    /// A group's committed offset is past the end of the log (g2).
    #[error("group {group}, key {key}: offset {offset} is committed, and the log ends at {end}")]
    GroupOffsetPastEnd { group: u32, key: Key, offset: u64, end: u64 },
    /// A commit of a generation that was over was accepted (g3).
    #[error(
        "group {group}, key {key}: member {member} committed {offset} in generation {generation} \
         after generation {current} had begun"
    )]
    FencedCommitAccepted {
        group: u32,
        key: Key,
        member: u32,
        offset: u64,
        generation: u64,
        current: u64,
    },
    /// A key had two owners in one generation (g4).
    #[error("group {group}, key {key}: members {first} and {second} own it in {generation}")]
    TwoOwners { group: u32, key: Key, generation: u64, first: u32, second: u32 },
    /// A new coordinator did not know a commit that was accepted (g5).
    #[error(
        "group {group}, key {key}: {committed} was committed, a new coordinator knew {found:?}"
    )]
    CommitForgotten { group: u32, key: Key, committed: u64, found: Option<u64> },
    /// An offset was committed past a record that no member was given (g6).
    #[error("group {group}, key {key}: {committed} is committed and {offset} was never delivered")]
    NeverDelivered { group: u32, key: Key, committed: u64, offset: u64 },
    /// The sequences of a producer have a gap (p1).
    #[error(
        "key {key}: producer {producer} in epoch {epoch} has sequence {found} at offset {offset}, \
         where {expected} is next"
    )]
    SequenceGap { key: Key, producer: u64, epoch: u32, offset: u64, expected: u32, found: u32 },
    /// A batch of a producer is stored twice (p2).
    #[error(
        "key {key}: producer {producer} in epoch {epoch} has sequence {sequence} at offsets \
         {first} and {second}"
    )]
    SequenceRepeated { key: Key, producer: u64, epoch: u32, sequence: u32, first: u64, second: u64 },
    /// A value of a queue came to several ends, or to another after its end.
    #[error("queue {queue}, key {key}: value {value} is {first:?} and then {second:?}")]
    TwoOutcomes { queue: u32, key: Key, value: Value, first: QueueOutcome, second: QueueOutcome },
    /// Nothing became of a value of a queue.
    #[error("queue {queue}, key {key}: nothing became of value {value}, sent by {op}")]
    NoOutcome { queue: u32, key: Key, value: Value, op: OpId },
    /// The harness sent one value twice, and nothing can be said about it.
    #[error("key {key}: the harness sent value {value} in {first} and in {second}")]
    ValueReused { key: Key, value: Value, first: OpId, second: OpId },
}

impl Anomaly {
    /// What the anomaly is called, as in Jepsen where it is Jepsen's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InconsistentOffset { .. } => "inconsistent-offsets",
            Self::Duplicate { .. } => "duplicate",
            Self::LostWrite { .. } => "lost-write",
            Self::AbortedRead { .. } => "aborted-read",
            Self::PrecommittedRead { .. } => "precommitted-read",
            Self::Invented { .. } => "invented",
            Self::Contradicted { .. } => "contradicted",
            Self::Unseen { .. } => "unseen",
            Self::OffsetGap { .. } => "offset-gap",
            Self::PollSkip { .. } => "poll-skip",
            Self::NonmonotonicPoll { .. } => "nonmonotonic-poll",
            Self::IntPollSkip { .. } => "int-poll-skip",
            Self::IntNonmonotonicPoll { .. } => "int-nonmonotonic-poll",
            Self::IntNonmonotonicSend { .. } => "int-nonmonotonic-send",
            Self::IntSendSkip { .. } => "int-send-skip",
            Self::NonmonotonicSend { .. } => "nonmonotonic-send",
            Self::ReadAboveHighWatermark { .. } => "read-above-high-watermark",
            Self::HighWatermarkRegressed { .. } => "high-watermark-regressed",
            Self::LogStartRegressed { .. } => "log-start-regressed",
            Self::LeaderEpochRegressed { .. } => "leader-epoch-regressed",
            Self::AckEpochRegressed { .. } => "ack-epoch-regressed",
            Self::ReplicasDiffer { .. } => "replicas-differ",
            Self::ReplicaHole { .. } => "replica-hole",
            Self::OffsetMapDiffers { .. } => "offset-map-differs",
            Self::GroupOffsetRegressed { .. } => "group-offset-regressed",
            Self::GroupOffsetPastEnd { .. } => "group-offset-past-end",
            Self::FencedCommitAccepted { .. } => "fenced-commit-accepted",
            Self::TwoOwners { .. } => "two-owners",
            Self::CommitForgotten { .. } => "commit-forgotten",
            Self::NeverDelivered { .. } => "never-delivered",
            Self::SequenceGap { .. } => "sequence-gap",
            Self::SequenceRepeated { .. } => "sequence-repeated",
            Self::TwoOutcomes { .. } => "two-outcomes",
            Self::NoOutcome { .. } => "no-outcome",
            Self::ValueReused { .. } => "value-reused",
        }
    }

    /// Whether it is against what was promised, given an idempotent producer or none. The rest is
    /// worth a look only.
    #[must_use]
    pub const fn fails(&self, is_idempotent: bool) -> bool {
        match self {
            Self::PollSkip { is_subscribed, .. } | Self::NonmonotonicPoll { is_subscribed, .. } => {
                !*is_subscribed
            }
            Self::IntSendSkip { .. } => false,
            Self::Duplicate { .. } | Self::Contradicted { .. } => is_idempotent,
            _ => true,
        }
    }
}
