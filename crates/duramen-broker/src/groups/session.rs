//! The stream of one member, at its coordinator.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use duramen_group::{
    Action, Change, CommittedOffset, Committer, GroupName, Join, MemberEpoch, MemberId,
    OffsetCommit, Outcome, Refusal, Subscription,
};
use duramen_types::{Term, TopicId, TopicPartition};
use tokio::sync::watch;

use super::shard::{Shard, Submitted};
use crate::error::BrokerError;
use crate::member::Member;

/// What a member is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its epoch.
    pub epoch: MemberEpoch,
    /// What it reads.
    pub granted: Vec<Granted>,
    /// What it has to give back.
    pub revoked: Vec<TopicPartition>,
    /// Names of the topics in it that exist.
    pub names: BTreeMap<TopicId, String>,
    /// Its session, in milliseconds.
    pub session_ms: u32,
    /// The time that it has to give back, in milliseconds.
    pub revocation_ms: u32,
}

/// A partition that a member reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The partition.
    pub partition: TopicPartition,
    /// If it is not the one that the member knows, it goes on at the committed offset.
    pub since: MemberEpoch,
    /// The committed offset.
    pub committed: Option<CommittedOffset>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The member's epoch.
    pub epoch: MemberEpoch,
    /// How long ago this node last knew for sure that it is the coordinator.
    pub unsure: Duration,
}

/// A member that joins, or goes on.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The group.
    pub group: GroupName,
    /// The member.
    pub join: Join,
    /// Zero joins; otherwise the epoch of the assignment that the member has.
    pub epoch: MemberEpoch,
}

/// What a member asks for while its stream is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAction {
    /// It holds nothing any more of what was revoked by this epoch.
    Acknowledge(MemberEpoch),
    /// It wants to read something else.
    Subscribe(MemberEpoch, Subscription),
    /// It commits.
    Commit(MemberEpoch, Vec<OffsetCommit>),
    /// It leaves; a static one may say that it will be back.
    Leave(MemberEpoch, bool),
}

/// A member's stream at its coordinator. Dropped without a leave it says nothing about membership.
#[derive(Debug)]
pub struct GroupSession {
    member: Arc<Member>,
    shard: Arc<Shard>,
    term: Term,
    at: (GroupName, MemberId),
    stream: u64,
    changes: watch::Receiver<u64>,
    /// Whether the assignment may be another one than what was told.
    due: bool,
    told: Option<Assignment>,
}

impl Drop for GroupSession {
    fn drop(&mut self) {
        self.shard.close_stream(&self.at, self.stream);
    }
}

impl GroupSession {
    pub(super) async fn open(
        member: &Arc<Member>,
        shard: Arc<Shard>,
        request: JoinRequest,
    ) -> Result<Self, BrokerError> {
        let term = shard.term().ok_or(BrokerError::NoLeader)?;
        let JoinRequest { group, join, epoch } = request;
        let at = (group, join.member.clone());
        if epoch == MemberEpoch::ZERO {
            shard.propose(term, &at.0, Action::Join(join)).await?;
        } else {
            shard.heard(term, (&at.0, &at.1), epoch)?;
        }
        let opened = shard.open_stream(term, at.clone());
        let (stream, changes) = opened.ok_or(BrokerError::NoLeader)?;
        let member = Arc::clone(member);
        Ok(Self { member, shard, term, at, stream, changes, due: true, told: None })
    }

    /// Waits until there is something to tell: at once the first time.
    ///
    /// # Errors
    /// [`BrokerError`]: the stream ends. The member was removed, or this node coordinates no more.
    pub async fn assignment(&mut self) -> Result<Assignment, BrokerError> {
        loop {
            if std::mem::take(&mut self.due) {
                let now = self.look()?;
                if self.told.as_ref() != Some(&now) {
                    self.told = Some(now.clone());
                    return Ok(now);
                }
            }
            if self.changes.changed().await.is_err() {
                return Err(self.ended());
            }
            self.due = true;
        }
    }

    /// Why no more is told.
    fn ended(&self) -> BrokerError {
        match self.shard.term() {
            Some(term) if term == self.term && !self.shard.is_stream(&self.at, self.stream) => {
                BrokerError::StreamReplaced
            }
            _ => BrokerError::NoLeader,
        }
    }

    fn look(&self) -> Result<Assignment, BrokerError> {
        let state = self.shard.state();
        let group = state.group(&self.at.0).ok_or(BrokerError::Group(Refusal::UnknownMember))?;
        let member = group.member(&self.at.1).filter(|member| !member.away);
        let (Some(member), Some(found)) = (member, group.assignment(&self.at.1)) else {
            return Err(BrokerError::Group(Refusal::UnknownMember));
        };
        let granted = found.granted.into_iter().map(|(partition, since)| {
            let committed = group.committed(partition).cloned();
            Granted { partition, since, committed }
        });
        let granted: Vec<Granted> = granted.collect();
        let revoked: Vec<TopicPartition> = found.revoked.into_iter().collect();
        let topics = granted.iter().map(|granted| granted.partition).chain(revoked.iter().copied());
        let names = self.member.topic_names(topics.map(|partition| partition.topic));
        let (session_ms, revocation_ms) = (member.session_ms, member.revocation_ms);
        let epoch = found.epoch;
        Ok(Assignment { epoch, granted, revoked, names, session_ms, revocation_ms })
    }

    /// The member was heard of.
    ///
    /// # Errors
    /// [`BrokerError`]: the stream ends.
    pub fn heartbeat(&self, epoch: MemberEpoch) -> Result<Beat, BrokerError> {
        let unsure = self.shard.group.led_ago().ok_or(BrokerError::NoLeader)?;
        let epoch = self.shard.heard(self.term, (&self.at.0, &self.at.1), epoch)?;
        Ok(Beat { epoch, unsure })
    }

    /// Does what the member asks for, in the order of the calls; what comes of it is in the future.
    ///
    /// # Errors
    /// [`BrokerError`]: nothing was done.
    pub async fn submit(
        &self,
        action: MemberAction,
    ) -> Result<impl Future<Output = Result<Done, BrokerError>> + Send + use<>, BrokerError> {
        let member = self.at.1.clone();
        let action = match action {
            MemberAction::Acknowledge(epoch) => Action::Acknowledge { member, epoch },
            MemberAction::Subscribe(epoch, subscription) => {
                Action::Subscribe { member, epoch, subscription }
            }
            MemberAction::Commit(epoch, offsets) => {
                Action::Commit { committer: Committer::Member { member, epoch }, offsets }
            }
            MemberAction::Leave(epoch, returns) => Action::Leave { member, epoch, returns },
        };
        let change = Change::Group { group: self.at.0.clone(), action };
        let submitted = self.shard.submit(self.term, change).await?;
        Ok(done(submitted))
    }
}

/// What came of what a member asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done; what changes for the member is told as its assignment.
    Changed,
    /// All is committed but these.
    Committed(Vec<(TopicPartition, Refusal)>),
    /// It has left.
    Left,
}

async fn done(submitted: Submitted) -> Result<Done, BrokerError> {
    Ok(match submitted.outcome().await? {
        Outcome::Committed { refused } => Done::Committed(refused),
        Outcome::Left => Done::Left,
        _ => Done::Changed,
    })
}
