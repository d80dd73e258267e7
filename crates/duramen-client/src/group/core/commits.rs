//! Commits, one at a time, and the acknowledgements that wait for them.

use std::collections::BTreeMap;
use std::time::Duration;

use duramen_proto::v1::{self, ErrorCode};
use duramen_types::{Offset, PartitionId, TopicId, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Core, Exit, Intent, LinkEnd};
use crate::admin::groups::partition_error;
use crate::failure::Failure;
use crate::group::event::GroupEvent;
use crate::group::options::CommitMode;
use crate::group::part::Stage;
use crate::{ClientError, CommitOutcome, GroupOffset, GroupOptions, limits};

/// What a caller of `commit` is told.
pub(in crate::group) type Committed = Result<Vec<CommitOutcome>, ClientError>;

/// Commits of one member.
#[derive(Debug)]
pub(in crate::group) struct Commits {
    next_id: u64,
    in_flight: Option<InFlight>,
    waiters: Vec<Waiter>,
    soon: bool,
    /// When all that was due was last sent.
    last: Instant,
    /// After a failure: not before.
    retry_at: Option<Instant>,
    /// The last commit was refused for a reason that time may not mend.
    refused: bool,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    sent: Instant,
    /// Whether it has all that was due; otherwise only initial positions.
    whole: bool,
    /// With the life of the part, since it may have begun another one by the answer.
    offsets: BTreeMap<TopicPartition, (u64, GroupOffset)>,
    waiters: Vec<Waiter>,
    /// More was due than one commit takes: the waiters wait for that too.
    more: bool,
}

/// A caller, and what is known of its commit so far.
#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Committed>,
    outcomes: Vec<CommitOutcome>,
}

impl Waiter {
    /// Answers; who has stopped waiting does not want it.
    fn answer(self, error: Option<&ClientError>) {
        drop(self.sender.send(error.map_or(Ok(self.outcomes), |error| Err(error.clone()))));
    }
}

impl Commits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_id: 0,
            in_flight: None,
            waiters: Vec::new(),
            soon: false,
            last: now,
            retry_at: None,
            refused: false,
        }
    }

    /// Asks for a commit of what is processed by now. Callers are bounded by a semaphore.
    pub(in crate::group) fn ask(&mut self, waiter: Option<oneshot::Sender<Committed>>) {
        match waiter {
            Some(sender) => self.waiters.push(Waiter { sender, outcomes: Vec::new() }),
            None => self.soon = true,
        }
    }

    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|commit| commit.sent)
    }

    /// When a commit may be due by itself.
    pub(super) fn wakes_at(&self, options: &GroupOptions) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let interval =
            (options.commit_mode == CommitMode::Auto).then(|| self.last + options.commit_interval);
        self.retry_at.or(interval)
    }

    /// Whether it was sent is not known: it is sent again on the next stream, if there is one.
    pub(super) fn link_ended(&mut self) {
        if let Some(commit) = self.in_flight.take() {
            self.soon |= commit.whole && commit.waiters.is_empty();
            self.waiters.extend(commit.waiters);
        }
        self.retry_at = None;
    }

    /// Nobody need wait any more.
    pub(super) fn fail(&mut self, error: &ClientError) {
        let commit = self.in_flight.take();
        let waiting = std::mem::take(&mut self.waiters);
        let waiting = waiting.into_iter().chain(commit.into_iter().flat_map(|one| one.waiters));
        waiting.for_each(|waiter| waiter.answer(Some(error)));
        (self.soon, self.retry_at, self.refused) = (false, None, false);
    }

    fn has(&self, key: TopicPartition) -> bool {
        self.in_flight.as_ref().is_some_and(|commit| commit.offsets.contains_key(&key))
    }
}

impl Core {
    /// The commit to send now, if there is one.
    pub(super) fn plan_commit(&mut self, now: Instant) -> Option<v1::Commit> {
        if self.commits.in_flight.is_some() || self.commits.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let auto = self.options.commit_mode == CommitMode::Auto;
        let asked = self.commits.soon || !self.commits.waiters.is_empty();
        let leaving = auto && matches!(self.intent, Intent::Leave(_)) && !self.commits.refused;
        let interval = auto && now >= self.commits.last + self.options.commit_interval;
        let mut parts = self.parts.values();
        let returning = auto && parts.any(|part| part.revoked && part.progress.unprocessed() == 0);
        let all = asked || leaving || interval || returning;
        let initial = |stage| stage == Stage::Initial;
        let mut offsets = BTreeMap::new();
        let mut more = false;
        for (key, part) in &self.parts {
            let Some((offset, leader_epoch)) = part.due() else { continue };
            if offsets.len() >= limits::COMMIT_PARTITIONS_MAX {
                more = true;
                break;
            }
            if all || initial(part.stage) {
                let offset =
                    GroupOffset { leader_epoch, ..GroupOffset::new(part.name.clone(), offset) };
                offsets.insert(*key, (part.life, offset));
            }
        }
        self.commits.retry_at = None;
        self.commits.soon = false;
        if all {
            self.commits.last = now;
        }
        if offsets.is_empty() {
            let waiters = std::mem::take(&mut self.commits.waiters);
            waiters.into_iter().for_each(|waiter| waiter.answer(None));
            return None;
        }
        self.commits.next_id += 1;
        let id = self.commits.next_id;
        let wire = offsets.values().map(|(_, offset)| offset.to_wire()).collect();
        // A commit of initial positions alone is not what callers wait for.
        let waiters = if all { std::mem::take(&mut self.commits.waiters) } else { Vec::new() };
        self.commits.in_flight =
            Some(InFlight { id, sent: now, whole: all, offsets, waiters, more });
        Some(v1::Commit { correlation_id: id, epoch: self.epoch, offsets: wire })
    }

    /// Takes in the answer to a commit.
    pub(super) fn committed(
        &mut self,
        now: Instant,
        reply: v1::CommitReply,
    ) -> Result<(), LinkEnd> {
        let is_due = |commit: &mut InFlight| commit.id == reply.correlation_id;
        let Some(commit) = self.commits.in_flight.take_if(is_due) else { return Ok(()) };
        if let Some(error) = reply.error {
            return self.commit_failed(now, commit, error);
        }
        self.commits.refused = false;
        let mut refused = BTreeMap::new();
        for one in reply.refused {
            let partition = one.partition.unwrap_or_default();
            if let Some(topic) = TopicId::from_slice(&partition.topic_id) {
                let partition = PartitionId::new(partition.partition);
                refused.insert(TopicPartition { topic, partition }, one.error.unwrap_or_default());
            }
        }
        let mut outcomes = Vec::new();
        for (key, (life, offset)) in commit.offsets {
            let result = match refused.remove(&key) {
                None => {
                    self.commit_done(key, life, offset.offset);
                    Ok(())
                }
                Some(error) => Err(self.commit_refused(now, key, (life, &offset), error)),
            };
            let (partition, offset) = (offset.partition, offset.offset);
            outcomes.push(CommitOutcome { partition, offset, result });
        }
        for mut waiter in commit.waiters {
            waiter.outcomes.extend(outcomes.iter().cloned());
            if commit.more {
                self.commits.waiters.push(waiter);
            } else {
                waiter.answer(None);
            }
        }
        self.commits.soon |= commit.more && commit.whole;
        self.waker.wake();
        Ok(())
    }

    fn commit_done(&mut self, key: TopicPartition, life: u64, offset: Offset) {
        let Some(part) = self.parts.get_mut(&key).filter(|part| part.life == life) else { return };
        part.progress.committed(offset);
        if part.stage == Stage::Initial {
            part.stage = Stage::Ready;
        }
    }

    /// One partition was refused: what it means depends on why.
    fn commit_refused(
        &mut self,
        now: Instant,
        key: TopicPartition,
        (life, offset): (u64, &GroupOffset),
        error: v1::Error,
    ) -> ClientError {
        let code = error.code();
        let failure = partition_error(&self.group, error);
        let partition = offset.partition.clone();
        let Some(part) = self.parts.get_mut(&key).filter(|part| part.life == life) else {
            return failure;
        };
        match code {
            ErrorCode::PartitionNotHeld
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition => {
                part.void = true;
                part.stop();
            }
            // Somebody has committed more: it is not to be tried again, and all else goes on.
            ErrorCode::OffsetBehind => self.commit_done(key, life, offset.offset),
            _ => {
                self.commits.retry_at = Some(now + self.options.commit_interval);
                self.commits.refused = true;
            }
        }
        self.events.push(GroupEvent::Fenced { partition, error: failure.clone() });
        failure
    }

    /// Nothing was committed.
    fn commit_failed(
        &mut self,
        now: Instant,
        commit: InFlight,
        error: v1::Error,
    ) -> Result<(), LinkEnd> {
        let code = error.code();
        let retry_after = Duration::from_millis(error.retry_after_ms.into());
        let failure = Failure::Refused(Box::new(error.clone()));
        if failure.is_transient() {
            let wait = limits::BACKOFF_MAX.max(retry_after);
            self.commits.soon |= commit.whole && commit.waiters.is_empty();
            self.commits.waiters.extend(commit.waiters);
            self.commits.retry_at = Some(now + wait);
            self.events.push(GroupEvent::CommitFailed(failure.into_error()));
            if code == ErrorCode::NotLeader {
                return Err(LinkEnd::Refused(Box::new(error)));
            }
            return Ok(());
        }
        let told = partition_error(&self.group, error.clone());
        commit.waiters.into_iter().for_each(|waiter| waiter.answer(Some(&told)));
        if is_lost(code) {
            return Err(LinkEnd::Refused(Box::new(error)));
        }
        self.commits.retry_at = Some(now + self.options.commit_interval);
        self.commits.refused = true;
        self.events.push(GroupEvent::CommitFailed(told));
        Ok(())
    }

    /// The epoch to acknowledge now, if there is one: the highest up to which all that was revoked
    /// is processed and committed.
    pub(super) fn plan_acknowledgement(&mut self) -> Option<u64> {
        let open = self.revoked.iter().filter(|(key, _)| !self.is_drained(**key));
        let blocked = open.map(|(_, epoch)| *epoch).min().unwrap_or(u64::MAX);
        let epoch = self.revoked.values().copied().filter(|epoch| *epoch < blocked).max()?;
        let link = self.link.as_mut()?;
        if link.acknowledged.is_some_and(|acknowledged| acknowledged >= epoch) {
            return None;
        }
        link.acknowledged = Some(epoch);
        Some(epoch)
    }

    /// Whether nothing of a revoked partition is out, due or under way.
    fn is_drained(&self, key: TopicPartition) -> bool {
        let Some(part) = self.parts.get(&key) else { return true };
        let auto = self.options.commit_mode == CommitMode::Auto;
        let asked = self.commits.soon || !self.commits.waiters.is_empty();
        // What cannot be committed is not worth being expelled for.
        let is_due = (auto || asked) && !self.commits.refused && part.due().is_some();
        part.progress.unprocessed() == 0 && !is_due && !self.commits.has(key)
    }

    /// Whether there is nothing to wait for before it leaves.
    pub(super) fn may_leave(&self) -> bool {
        if self.commits.in_flight.is_some() || !self.commits.waiters.is_empty() {
            return false;
        }
        let auto = self.options.commit_mode == CommitMode::Auto;
        let is_due = || self.parts.values().any(|part| part.due().is_some());
        let park = self.intent == Intent::Leave(Exit::Park) && self.commits.retry_at.is_some();
        !auto || self.commits.refused || park || !is_due()
    }
}

/// Whether a code says that the member is none any more.
pub(super) const fn is_lost(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownMember | ErrorCode::StaleMemberEpoch | ErrorCode::UnknownGroup)
}
