//! What comes of a command: done, or refused for a reason that is the same on every node; and what
//! the coordinator has to do then.

use duramen_types::{MetadataIndex, Offset, TopicPartition};

use crate::command::ExpiryCause;
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::error::ErrorKind;
use crate::name::{GroupName, MemberId};

/// What came of a command, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What came of it.
    pub outcome: Outcome,
    /// What the coordinator does about it; other replicas do nothing. Whoever becomes coordinator
    /// later finds the same in the state.
    pub effects: Vec<Effect>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The member is there, now or since an earlier try.
    Joined {
        /// Its epoch.
        epoch: MemberEpoch,
    },
    /// The member has the subscription, now or since an earlier try.
    Subscribed {
        /// Its epoch.
        epoch: MemberEpoch,
    },
    /// The member is gone or away, now or since an earlier try.
    Left,
    /// The member was removed.
    Expired,
    /// What the member has given back is free.
    Acknowledged {
        /// Partitions that this command freed.
        freed: u32,
    },
    /// The subscriptions are what was told.
    Resolved {
        /// The group epoch then.
        epoch: GroupEpoch,
    },
    /// The target is in force.
    Assigned {
        /// Partitions that have or had another holder than their target.
        moving: u32,
    },
    /// Offsets are committed, all but those refused.
    Committed {
        /// Those refused, each with its reason.
        refused: Vec<(TopicPartition, Refusal)>,
    },
    /// The offsets are set.
    Reset {
        /// The fence then.
        fence: MemberEpoch,
    },
    /// Offsets are deleted, all but those refused.
    OffsetsDeleted {
        /// Those refused, each with its reason.
        refused: Vec<(TopicPartition, Refusal)>,
    },
    /// The group is gone.
    Deleted,
    /// Offsets of the topics are gone.
    TopicsForgotten {
        /// How many.
        offsets: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command, or one partition of it, changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no group of this name.
    #[error("there is no such group")]
    UnknownGroup,
    /// The group has no such member, or it is away: it left, was expired or was taken over.
    #[error("the group has no such member: it left, expired, or another took its instance over")]
    UnknownMember,
    /// The epoch is an earlier or later one than it can be.
    #[error("the member's epoch is {current}: learn the assignment, then try again")]
    WrongEpoch {
        /// The member's epoch.
        current: MemberEpoch,
    },
    /// The member does not hold the partition, or has not since the epoch that it named.
    #[error("the partition is not the member's, or was not at the epoch it named")]
    NotHeld,
    /// An offset is committed already that is higher.
    #[error("offset {committed} is committed: only a reset goes back")]
    Behind {
        /// The committed offset.
        committed: Offset,
    },
    /// The group has changed since its offsets were read.
    #[error("the group has changed, its fence is {fence}: read its offsets again")]
    GroupChanged {
        /// The fence.
        fence: MemberEpoch,
    },
    /// The group has members.
    #[error("the group has members")]
    HasMembers,
    /// A member holds the partition or is about to.
    #[error("a member of the group reads the partition")]
    PartitionInUse,
    /// The group was in use.
    #[error("the group was in use")]
    NotIdle,
    /// The metadata was read at an earlier index than what is known.
    #[error("the metadata is older than what is known, of index {known}")]
    StaleMetadata {
        /// The index of what is known.
        known: MetadataIndex,
    },
    /// The target was computed for another group epoch.
    #[error("the target is for another group epoch than {current}")]
    StaleTarget {
        /// The group epoch.
        current: GroupEpoch,
    },
    /// The target names a partition twice, or one that is not its member's to read.
    #[error("the target has a partition twice or one that its member does not read")]
    BadTarget,
    /// A topic has no number of partitions.
    #[error("a topic is named without its number of partitions")]
    BadResolution,
    /// The member is there under another instance.
    #[error("the member has another instance id")]
    OtherInstance,
    /// A text is too long.
    #[error("the {field} is too long")]
    TooLong {
        /// Which.
        field: Text,
    },
    /// A time is out of its range.
    #[error("the session or revocation time is out of range")]
    BadTime,
    /// There would be too many of something.
    #[error("there are too many {what}")]
    TooMany {
        /// Of what.
        what: Bound,
    },
}

/// A text with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The metadata of an offset.
    OffsetMetadata,
    /// A name or pattern, or there are too many of them.
    Subscription,
    /// The client's name or its rack.
    Label,
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OffsetMetadata => "metadata of an offset",
            Self::Subscription => "subscription",
            Self::Label => "client name or rack",
        })
    }
}

/// Something of which there may be only so much; see `limits.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Groups of the shard.
    Groups,
    /// Members of the group.
    Members,
    /// Members of the shard.
    ShardMembers,
    /// Topics of the group.
    Topics,
    /// Partitions of the group.
    Partitions,
    /// Offsets of the group.
    Offsets,
    /// Offsets of the shard.
    ShardOffsets,
    /// Bytes of text of the shard.
    ShardText,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Groups => "groups",
            Self::Members => "members in the group",
            Self::ShardMembers => "members in the shard",
            Self::Topics => "topics in the group",
            Self::Partitions => "partitions in the group",
            Self::Offsets => "committed offsets in the group",
            Self::ShardOffsets => "committed offsets in the shard",
            Self::ShardText => "names and metadata in the shard",
        })
    }
}

impl Refusal {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::StaleMetadata { .. } | Self::StaleTarget { .. } | Self::NotIdle => {
                ErrorKind::Retry
            }
            Self::UnknownMember
            | Self::WrongEpoch { .. }
            | Self::NotHeld
            | Self::Behind { .. }
            | Self::GroupChanged { .. } => ErrorKind::Fenced,
            Self::UnknownGroup
            | Self::HasMembers
            | Self::PartitionInUse
            | Self::BadTarget
            | Self::BadResolution
            | Self::OtherInstance
            | Self::TooLong { .. }
            | Self::BadTime
            | Self::TooMany { .. } => ErrorKind::Invalid,
        }
    }
}

/// What the coordinator does after a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look up the group's subscriptions in the metadata and propose what they are.
    ResolutionDue {
        /// The group.
        group: GroupName,
    },
    /// Compute a target and propose it.
    TargetDue {
        /// The group.
        group: GroupName,
    },
    /// A session begins: the member has joined.
    MemberJoined {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
    },
    /// Tell the member its assignment, and time what it has to give back.
    AssignmentChanged {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
    },
    /// Tell the member that it is none any more; its session ends.
    MemberRemoved {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// Why.
        reason: Removal,
    },
    /// The group is gone.
    GroupRemoved {
        /// The group.
        group: GroupName,
    },
}

/// Why a member is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It left.
    Left,
    /// It was expired.
    Expired(ExpiryCause),
    /// Another life of its instance took over.
    TakenOver,
}
