//! Who takes part in a group and who leads it, and changes of both.
//!
//! One change at a time. A replica comes in as a learner, catches up, and is made a voter then: a
//! voter that has nothing yet would only weaken the majority.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duramen_types::{LogIndex, ReplicaId};
use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};

use crate::group::Group;
use crate::limits;
use crate::types::{LogId, TypeConfig};

/// Why a change of members is not known to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was changed: this replica does not lead.
    #[error("could not change the members: this replica does not lead")]
    NotLeader {
        /// The leader it knows of.
        leader: Option<ReplicaId>,
    },
    /// Nothing was changed: an earlier change is under way.
    #[error("could not change the members: an earlier change is under way")]
    InProgress,
    /// Nothing was changed: this replica leads but has not committed an entry of its term yet.
    #[error("could not change the members: this replica does not lead for sure yet")]
    NotReady,
    /// Nothing was changed: a voter must have been made a learner before.
    #[error("could not make replica {replica} a voter: it is not a member")]
    NotMember {
        /// The replica.
        replica: ReplicaId,
    },
    /// Nothing was changed: a group needs a voter, and a learner is not to be a voter.
    #[error("could not change the members: the change is not a valid one")]
    Invalid,
    /// Nothing was changed: the members are not those that the change was meant for.
    #[error("could not change the members: they are others by now")]
    Outdated,
    /// The leader changed meanwhile: the change may be done, half done (both the old and the new
    /// voters decide then; the same change finishes it), or not done.
    #[error("could not learn whether the members changed")]
    Unknown,
    /// The replica has stopped.
    #[error("could not change the members: the replica has stopped")]
    Stopped,
}

/// Why leadership did not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This replica does not lead.
    #[error("could not hand over leadership: this replica does not lead")]
    NotLeader {
        /// The leader it knows of.
        leader: Option<ReplicaId>,
    },
    /// The target is no voter.
    #[error("could not hand over leadership: replica {to} is no voter")]
    NotVoter {
        /// The target.
        to: ReplicaId,
    },
    /// The target lacks too many entries: nothing was tried.
    #[error("could not hand over leadership: replica {to} lacks {entries} entries")]
    Behind {
        /// The target.
        to: ReplicaId,
        /// How many entries it lacks.
        entries: u64,
    },
    /// The target has not answered its leader lately: nothing was tried.
    #[error("could not hand over leadership: replica {to} does not answer")]
    Silent {
        /// The target.
        to: ReplicaId,
    },
    /// The target did not take over in time. The group takes no writes until the next election,
    /// which has been called.
    #[error("could not hand over leadership: replica {to} did not take over in time")]
    TimedOut {
        /// The target.
        to: ReplicaId,
    },
    /// The replica has stopped.
    #[error("could not hand over leadership: the replica has stopped")]
    Stopped,
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// Replicas that vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Replicas that only receive.
    pub learners: BTreeSet<ReplicaId>,
}

/// How far one replica is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaLag {
    /// The last index it is known to have; `None` if it is not known to have any.
    pub matched: Option<LogIndex>,
    /// Entries of the leader's log that it is not known to have.
    pub entries: u64,
    /// How long ago what it answered last had been sent to it; `None` if it never answered this
    /// leader.
    pub silent_for: Option<Duration>,
}

type Answer =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

impl Group {
    /// The members, as of the last membership entry in this replica's log, committed or not; the
    /// voters of both sides while they change.
    #[must_use]
    pub fn membership(&self) -> GroupMembers {
        let metrics = self.server().borrow_watched();
        let membership = metrics.membership_config.membership();
        GroupMembers {
            voters: membership.voter_ids().map(ReplicaId::new).collect(),
            learners: membership.learner_ids().map(ReplicaId::new).collect(),
        }
    }

    /// Whether there are members that only receive.
    #[must_use]
    pub fn has_learners(&self) -> bool {
        let metrics = self.server().borrow_watched();
        metrics.membership_config.membership().learner_ids().next().is_some()
    }

    /// Whether the last change of members is complete and committed. While it is not, the same
    /// change finishes it.
    #[must_use]
    pub fn is_membership_settled(&self) -> bool {
        let metrics = self.server().borrow_watched();
        let stored = &metrics.membership_config;
        let end = stored.log_id().map_or(0, |id| id.index + 1);
        let is_joint = stored.membership().get_joint_config().len() > 1;
        !is_joint && self.progress().borrow().applied_end.get() >= end
    }

    /// How far each member is, this replica included; `None` unless it leads.
    #[must_use]
    pub fn replication(&self) -> Option<BTreeMap<ReplicaId, ReplicaLag>> {
        let metrics = self.data().borrow_watched();
        let end = metrics.last_log.map_or(0, |last| last.index + 1);
        let heard = metrics.heartbeat.as_ref();
        let vouchers = self.hibernation().vouchers();
        let lag = |(id, matched): (&u64, &Option<LogId>)| {
            let have = matched.map_or(0, |matched| matched.index + 1);
            let matched = matched.map(|matched| LogIndex::new(matched.index));
            let silent_for = heard.and_then(|heard| Some((*heard.get(id)?)?.elapsed()));
            let vouched = vouchers.get(&ReplicaId::new(*id)).copied();
            let silent_for = silent_for.into_iter().chain(vouched).min();
            let entries = end.saturating_sub(have);
            (ReplicaId::new(*id), ReplicaLag { matched, entries, silent_for })
        };
        metrics.replication.as_ref().map(|members| members.iter().map(lag).collect())
    }

    /// Makes a replica a learner: it receives the log from now on, in the background. Its node
    /// must be known (`RaftHost::set_members`) on every node that may lead. Done already is fine.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_learner(&self, replica: ReplicaId) -> Result<(), ChangeError> {
        self.awaken().await;
        changed(self.raft().add_learner(replica.get(), (), false).await)
    }

    /// Takes a learner out of the group. It is not told.
    ///
    /// # Errors
    /// [`ChangeError`]; `Invalid` if it votes.
    pub async fn remove_learner(&self, replica: ReplicaId) -> Result<(), ChangeError> {
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([replica.get()]));
        self.awaken().await;
        changed(self.raft().change_membership(change, false).await)
    }

    /// Makes exactly these replicas the voters; each must be a member already. Former voters are
    /// out of the group then and are not told. A leader that is not among them finishes the change
    /// and steps down.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_voters(&self, voters: &BTreeSet<ReplicaId>) -> Result<(), ChangeError> {
        let voters: BTreeSet<u64> = voters.iter().map(|id| id.get()).collect();
        self.awaken().await;
        changed(self.raft().change_membership(voters, false).await)
    }

    /// Changes the voters from exactly these to those, or finishes that change; each must be a
    /// member already. Nothing happens if the voters are neither of the two nor both together. A
    /// leader that is not among the new ones finishes the change and steps down.
    ///
    /// # Errors
    /// [`ChangeError`]; `Outdated` if the voters are others.
    pub async fn change_voters_from(
        &self,
        from: &BTreeSet<ReplicaId>,
        to: &BTreeSet<ReplicaId>,
    ) -> Result<(), ChangeError> {
        self.awaken().await;
        let seen = {
            let metrics = self.server().borrow_watched();
            let stored = &metrics.membership_config;
            let is_known = stored.membership().get_joint_config().iter().all(|config| {
                let config: BTreeSet<_> = config.iter().copied().map(ReplicaId::new).collect();
                config == *from || config == *to
            });
            if !is_known {
                return Err(ChangeError::Outdated);
            }
            *stored.log_id()
        };
        let voters: BTreeSet<u64> = to.iter().map(|id| id.get()).collect();
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: seen };
        changed(self.raft().change_membership_if(voters, false, [unchanged]).await)
    }

    /// Hands leadership to another voter that has nearly the whole log, and waits until this
    /// replica knows it as the leader. Writes are refused meanwhile.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), TransferError> {
        let mut status = self.status();
        if status.stopped {
            return Err(TransferError::Stopped);
        }
        if !status.is_leader {
            return Err(TransferError::NotLeader { leader: status.leader });
        }
        if to == self.replica() {
            return Ok(());
        }
        if !self.membership().voters.contains(&to) {
            return Err(TransferError::NotVoter { to });
        }
        self.awaken().await;
        let lag = self.replication().and_then(|members| members.get(&to).copied());
        let Some(lag) = lag else { return Err(TransferError::Silent { to }) };
        if lag.silent_for.is_none_or(|silent_for| silent_for >= limits::ELECTION_TIMEOUT_MIN) {
            return Err(TransferError::Silent { to });
        }
        if lag.entries > limits::TRANSFER_LAG_ENTRIES_MAX {
            return Err(TransferError::Behind { to, entries: lag.entries });
        }
        let triggered = self.raft().trigger().transfer_leader(to.get()).await;
        triggered.map_err(|_| TransferError::Stopped)?;
        let moved = async {
            while status.leader != Some(to) && !status.stopped {
                status = self.status_changed(status).await;
            }
        };
        if tokio::time::timeout(limits::TRANSFER_TIMEOUT, moved).await.is_ok() {
            return if status.stopped { Err(TransferError::Stopped) } else { Ok(()) };
        }
        // A leader whose transfer failed takes no more writes in this term.
        let elected = self.raft().trigger().elect(true).await;
        elected.map_err(|_| TransferError::Stopped)?;
        Err(TransferError::TimedOut { to })
    }
}

fn changed(answer: Answer) -> Result<(), ChangeError> {
    match answer {
        Ok(_) => Ok(()),
        Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        Err(RaftError::APIError(error)) => Err(match error {
            ClientWriteError::ForwardToLeader(forward) => {
                ChangeError::NotLeader { leader: forward.leader_id.map(ReplicaId::new) }
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                ChangeError::InProgress
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(
                missing,
            )) => ChangeError::NotMember { replica: ReplicaId::new(missing.node_id) },
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::EmptyMembership(_)
                | ChangeMembershipError::UnsupportedMembershipTransition(_)
                | ChangeMembershipError::NodeMetadataChanged(_),
            ) => ChangeError::Invalid,
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::UncommittedLeaderLog(_),
            ) => ChangeError::NotReady,
            ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_) => {
                ChangeError::Unknown
            }
        }),
    }
}
