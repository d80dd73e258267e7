//! What the log of a group shard holds: one command an entry, with its time and all that was drawn.

use std::collections::BTreeMap;

use duramen_types::{MetadataIndex, Offset, Term, Timestamp, TopicId, TopicPartition};

use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::name::{GroupName, InstanceId, MemberId};
use crate::subscription::{Resolution, Subscription};

/// A change of the groups of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The coordinator's wall clock. Apply never lets time go back: an earlier one counts as the
    /// latest that was seen.
    pub at: Timestamp,
    /// What is to be done.
    pub change: Change,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something with one group.
    Group {
        /// Its name.
        group: GroupName,
        /// What.
        action: Action,
    },
    /// Forgets the offsets of topics that were deleted, in all groups.
    ForgetTopics {
        /// Where the metadata no longer had them: what was read before is refused from now on.
        index: MetadataIndex,
        /// Their ids, which are never used again.
        topics: Vec<TopicId>,
    },
}

/// What is to be done with a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Adds a member; makes the group if there is none. Harmless if repeated.
    Join(Join),
    /// Changes what a member wants to read.
    Subscribe {
        /// The member.
        member: MemberId,
        /// The epoch that it knows, which must be its present one.
        epoch: MemberEpoch,
        /// What it wants.
        subscription: Subscription,
    },
    /// A member goes, and holds nothing any more.
    Leave {
        /// The member.
        member: MemberId,
        /// The epoch that it knows.
        epoch: MemberEpoch,
        /// Whether a static member will be back: its partitions wait for it for a session.
        returns: bool,
    },
    /// Removes a member that was not heard of, or that does not give back what it must.
    Expire {
        /// The member.
        member: MemberId,
        /// Its epoch when that was found: refused if the member has another one by now.
        epoch: MemberEpoch,
        /// What was found.
        cause: ExpiryCause,
    },
    /// A member holds no partition any more that was revoked from it at this epoch or before.
    Acknowledge {
        /// The member.
        member: MemberId,
        /// The epoch of the assignment that it follows.
        epoch: MemberEpoch,
    },
    /// Tells what the subscriptions are in the metadata.
    Resolve(Resolution),
    /// Gives the target assignment that was computed for a group epoch.
    Assign {
        /// The group epoch, which must be the present one.
        epoch: GroupEpoch,
        /// The partitions of each member; none is in it twice.
        target: BTreeMap<MemberId, Vec<TopicPartition>>,
    },
    /// Commits offsets. They never go back.
    Commit {
        /// Who commits.
        committer: Committer,
        /// What.
        offsets: Vec<OffsetCommit>,
    },
    /// Sets offsets, also back, and fences: see `Group::reset`.
    Reset {
        /// The fence that whoever asked saw; refused if it has moved on. `None` does not care.
        fence: Option<MemberEpoch>,
        /// The offsets.
        offsets: Vec<OffsetCommit>,
    },
    /// Deletes offsets of partitions that no member holds.
    DeleteOffsets {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Deletes a group without members.
    Delete,
    /// Deletes a group that had no member and no commit for as long as this.
    Retire {
        /// How long, in milliseconds.
        idle_ms: u64,
    },
}

/// A member to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its id, drawn for this life of this consumer.
    pub member: MemberId,
    /// Its instance, if it is static: it takes over from the member that has the instance.
    pub instance: Option<InstanceId>,
    /// The name that the client gives itself, for people; may be empty.
    pub client: Box<str>,
    /// Where it is; may be empty.
    pub rack: Box<str>,
    /// What it wants to read.
    pub subscription: Subscription,
    /// It is gone if it is not heard of for so long, in milliseconds.
    pub session_ms: u32,
    /// It is gone if it does not give back a partition for so long, in milliseconds.
    pub revocation_ms: u32,
}

/// Why a member is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCause {
    /// It was not heard of for its session.
    Session,
    /// It did not give back what was revoked from it.
    Revocation,
}

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committer {
    /// A member, for partitions that it has held since this epoch or before.
    Member {
        /// The member.
        member: MemberId,
        /// The epoch that it knows.
        epoch: MemberEpoch,
    },
    /// A consumer without membership, while the group has no members.
    Standalone {
        /// The fence that came with the offsets it read; refused if it has moved on. `None` does
        /// not care, and makes the group if there is none.
        fence: Option<MemberEpoch>,
    },
}

/// One offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that the group will read.
    pub offset: Offset,
    /// The leader epoch of the record before it, if known.
    pub leader_epoch: Option<Term>,
    /// Whatever the client wants to keep with it; may be empty.
    pub metadata: Box<str>,
}
