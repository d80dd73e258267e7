//! Who votes in a group: learners, voters, transfer of leadership.
//!
//! A replica joins as a learner, catches up, and only then votes: a voter that has nothing yet
//! would halve the faults a group survives. One change at a time per group.

use std::collections::BTreeSet;

use duramen_types::ReplicaId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::group::Group;

/// A change of membership that did not happen, or whose outcome is not known.
#[derive(Debug, thiserror::Error)]
#[error("could not change who votes in the group")]
pub struct MembershipError {
    /// What Raft said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> MembershipError {
    MembershipError { source: Box::new(error) }
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// Replicas that vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Replicas that only receive.
    pub learners: BTreeSet<ReplicaId>,
}

impl Group {
    /// The members, as of the last membership entry in this replica's log.
    #[must_use]
    pub fn membership(&self) -> GroupMembers {
        let metrics = self.raft().server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        GroupMembers {
            voters: membership.voter_ids().map(ReplicaId::new).collect(),
            learners: membership.learner_ids().map(ReplicaId::new).collect(),
        }
    }

    /// Entries that each follower is behind this leader; `None` for one that never answered.
    /// Empty if this replica does not lead.
    #[must_use]
    pub fn lag(&self) -> Vec<(ReplicaId, Option<u64>)> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let end = metrics.last_log_index.map_or(0, |index| index + 1);
        let Some(replication) = &metrics.replication else { return Vec::new() };
        let followers = replication.iter().map(|(id, matched)| {
            let lag = matched.as_ref().map(|matched| end.saturating_sub(matched.index + 1));
            (ReplicaId::new(*id), lag)
        });
        followers.collect()
    }

    /// Adds a replica that receives and does not vote; fine if it is one already. Only on the
    /// leader.
    ///
    /// # Errors
    /// [`MembershipError`]; try again.
    pub async fn add_learner(&self, replica: ReplicaId) -> Result<(), MembershipError> {
        self.raft().add_learner(replica.get(), (), false).await.map(|_| ()).map_err(failed)
    }

    /// Makes exactly these replicas the voters; they must be members. Voters that are left out
    /// are no members any more. Only on the leader.
    ///
    /// # Errors
    /// [`MembershipError`]; try again.
    pub async fn change_voters(&self, voters: &BTreeSet<ReplicaId>) -> Result<(), MembershipError> {
        let voters: BTreeSet<u64> = voters.iter().map(|id| id.get()).collect();
        let change = ChangeMembers::ReplaceAllVoters(voters);
        self.raft().change_membership(change, false).await.map(|_| ()).map_err(failed)
    }

    /// Asks this leader to hand over to another voter, which must be caught up: writes stop until
    /// the other one leads.
    ///
    /// # Errors
    /// [`MembershipError`] if this replica has stopped.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), MembershipError> {
        self.raft().trigger().transfer_leader(to.get()).await.map_err(failed)
    }
}
