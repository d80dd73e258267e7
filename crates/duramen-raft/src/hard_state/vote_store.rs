//! The vote file by itself, without replicas: for tests and tools that look at nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{Disk, Tasks};
use duramen_types::{ClusterId, NodeId, ReplicaId, Term};
use openraft::vote::leader_id_std::LeaderId;

use super::{HardState, HardStateError, Owner, Settings};
use crate::types::{GroupId, Vote};

/// What a replica promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedVote {
    /// The term.
    pub term: Term,
    /// Who got the vote.
    pub voted_for: ReplicaId,
    /// Whether that replica is known to lead.
    pub committed: bool,
}

/// The votes of all replicas of one data directory. A running [`RaftHost`](crate::RaftHost) has
/// the same file: use one or the other.
#[derive(Debug)]
pub struct VoteStore(HardState);

impl VoteStore {
    /// Opens the file in a directory, for a node of a cluster, or creates it if there are no
    /// replicas, so that there cannot have been one. The file is rewritten when it holds at least
    /// `compact_records_min` records and more than twice the live ones. What it holds is durable
    /// when this returns.
    ///
    /// # Errors
    /// [`HardStateError`]; the node must not start.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        (cluster, node): (ClusterId, NodeId),
        has_replicas: bool,
        compact_records_min: u64,
    ) -> Result<Self, HardStateError> {
        let owner = Owner { cluster, node };
        let settings = Settings { owner, has_replicas, compact_records_min };
        HardState::open_with(disk, dir, settings, Tasks::inline()).map(Self)
    }

    /// The vote of a replica, if it ever cast one.
    #[must_use]
    pub fn get(&self, group: GroupId, replica: ReplicaId) -> Option<SavedVote> {
        let vote = self.0.get(group, replica)?;
        Some(SavedVote {
            term: Term::new(vote.leader_id.term),
            voted_for: ReplicaId::new(vote.leader_id.voted_for),
            committed: vote.committed,
        })
    }

    /// Saves a vote; it is durable when this returns. Needs a Tokio runtime.
    ///
    /// # Errors
    /// As the disk says; a failed sync is final.
    pub async fn save(
        &self,
        group: GroupId,
        replica: ReplicaId,
        vote: SavedVote,
    ) -> io::Result<()> {
        let SavedVote { term, voted_for, committed } = vote;
        let leader_id = LeaderId { term: term.get(), voted_for: voted_for.get() };
        self.0.save(group, replica, Vote { leader_id, committed }).await
    }

    /// Forgets a removed replica's vote, not durably.
    ///
    /// # Errors
    /// As the disk says.
    pub fn forget(&self, group: GroupId, replica: ReplicaId) -> io::Result<()> {
        self.0.forget(group, replica)
    }
}
