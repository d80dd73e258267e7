//! Options of a group consumer.

use std::time::Duration;

use crate::{ClientError, OutOfRange, Start, limits};

/// When a record that was handed out counts as processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processing {
    /// When the next one is asked for, or [`done`](super::GroupRecord::done) is called on it.
    #[default]
    OnNext,
    /// When [`done`](super::GroupRecord::done) is called on it, in whatever order. Dropping it
    /// without gives it up: nothing of its partition is committed from there on, until the
    /// consumer seeks or another one takes over, who reads it again.
    Explicit,
}

/// Who says when to commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// Every [`commit_interval`](GroupOptions::commit_interval), before partitions are given back,
    /// and at [`close`](super::GroupConsumer::close).
    #[default]
    Auto,
    /// Only [`commit`](super::GroupConsumer::commit) and
    /// [`commit_soon`](super::GroupConsumer::commit_soon). What is not committed when a partition
    /// is given back is read again by its next consumer. The initial position of a partition is
    /// committed all the same.
    Manual,
}

/// Options of a [`GroupConsumer`](super::GroupConsumer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Where to start in partitions that the group has never committed. Default: at the first
    /// record kept. Looked up once and committed at once.
    pub start: Start,
    /// What to do when the committed offset is no longer kept. Default: go on at the first record
    /// kept; a [`GroupEvent::Jumped`](super::GroupEvent::Jumped) tells of it.
    pub out_of_range: OutOfRange,
    /// When a record counts as processed.
    pub processing: Processing,
    /// Who says when to commit.
    pub commit_mode: CommitMode,
    /// How often to commit what was processed. Default 1 s.
    pub commit_interval: Duration,
    /// The member is gone if nothing was heard of it for so long: 1 s to 30 min. Default 10 s.
    pub session: Duration,
    /// The member is gone if it does not give a partition back for so long: at most an hour.
    /// Default 60 s.
    pub revocation: Duration,
    /// How long a record may be out without another one being asked for, before the consumer leaves
    /// the group so that others go on. Default 5 min.
    pub max_processing: Duration,
    /// Makes it a static member: a new life of the instance takes over what the old one had. Two
    /// lives at a time take the partitions from each other.
    pub instance_id: Option<String>,
    /// Where it runs, for assignors that know of racks.
    pub rack: String,
    /// Bytes to buffer over all partitions, as fetched. A partition always gets 64 KiB and the
    /// batch it is at. Default 32 MiB.
    pub buffer_bytes: usize,
    /// Records that were handed out and are not yet processed, or wait for an earlier one that is
    /// not; with so many no further one is handed out. Default 10,000.
    pub unprocessed_max: usize,
    /// How long [`close`](super::GroupConsumer::close) may take. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            start: Start::First,
            out_of_range: OutOfRange::First,
            processing: Processing::OnNext,
            commit_mode: CommitMode::Auto,
            commit_interval: limits::COMMIT_INTERVAL,
            session: limits::SESSION,
            revocation: limits::REVOCATION,
            max_processing: limits::PROCESSING,
            instance_id: None,
            rack: String::new(),
            buffer_bytes: limits::BUFFER_BYTES,
            unprocessed_max: limits::UNPROCESSED_MAX,
            close_timeout: limits::CLOSE_WAIT,
        }
    }
}

impl GroupOptions {
    /// Starts here in partitions that the group has never committed.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Records count as processed when `done` is called on them.
    #[must_use]
    pub fn explicit(self) -> Self {
        Self { processing: Processing::Explicit, ..self }
    }

    /// Commits only when told to.
    #[must_use]
    pub fn manual_commits(self) -> Self {
        Self { commit_mode: CommitMode::Manual, ..self }
    }

    /// Makes it a static member.
    #[must_use]
    pub fn instance_id(self, instance_id: impl Into<String>) -> Self {
        Self { instance_id: Some(instance_id.into()), ..self }
    }

    pub(super) fn validate(&self) -> Result<(), ClientError> {
        let second = Duration::from_secs(1);
        let refuse = |option, rule| Err(ClientError::InvalidOption { option, rule });
        if self.session < second || self.session > 1_800 * second {
            return refuse("session", "must be from a second to 30 minutes");
        }
        if self.revocation < Duration::from_millis(1) || self.revocation > 3_600 * second {
            return refuse("revocation", "must be longer than zero and at most an hour");
        }
        if self.commit_interval.is_zero() {
            return refuse("commit_interval", "must be longer than zero");
        }
        if self.max_processing.is_zero() {
            return refuse("max_processing", "must be longer than zero");
        }
        if self.unprocessed_max == 0 {
            return refuse("unprocessed_max", "must be at least one");
        }
        if self.instance_id.as_deref().is_some_and(str::is_empty) {
            return refuse("instance_id", "must not be empty; leave it out");
        }
        if matches!(self.start, Start::Offset(_)) {
            return refuse("start", "partitions differ: name a place, not an offset");
        }
        Ok(())
    }
}
