//! Consumer groups: members, who of them reads which partition, and how far each group has come.
//!
//! A pure state machine, one per group shard. Raft orders commands; [`State::apply`] executes them,
//! the same on every replica. Nothing here does I/O, reads a clock or draws a random number. What
//! only the coordinator knows, since when a member was not heard of, is in [`Sessions`], which is
//! not replicated: what follows from it is proposed as a command and checked again when applied.
//!
//! ```text
//!  member ──▶ coordinator ──Command──▶ Raft ──▶ State::apply ──▶ Outcome, Effects
//!               │  ▲                                                        │
//!               │  └───── resolve, assign, tell members ◀───────────────────┘
//!               └─ Sessions: heard of? gives back what was revoked? ──▶ Expire
//! ```
//!
//! How a partition moves (`holdings.rs` has the picture): the target changes, its holder is told to
//! give it back, says that it has (or leaves, or is expired), and only then the next one gets it.
//! No other partition stands still meanwhile.

mod assign;
mod command;
mod epoch;
mod error;
mod explain;
mod format;
mod group;
mod holdings;
mod limits;
mod member;
mod name;
mod offsets;
mod outcome;
mod sessions;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

pub use assign::{
    ASSIGNORS, AssignInput, Assignment, Assignor, MemberInput, Racks, Range, UniformSticky,
    assignor, moves,
};
pub use command::{Action, Change, Command, Committer, ExpiryCause, Join, OffsetCommit};
pub use epoch::{GroupEpoch, MemberEpoch};
pub use error::{DecodeError, ErrorKind};
pub use explain::{Explainer, PartitionBounds, Reason};
pub use group::{Group, MemberAssignment, Phase};
pub use holdings::Holding;
pub use limits::{
    GROUP_MEMBERS_MAX, GROUP_OFFSETS_MAX, GROUP_PARTITIONS_MAX, GROUP_TOPICS_MAX, GROUPS_MAX,
    LABEL_BYTES_MAX, NAME_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, PATTERN_BYTES_MAX,
    REVOCATION_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN, SHARD_MEMBERS_MAX, SHARD_OFFSETS_MAX,
    SHARD_TEXT_BYTES_MAX, SUBSCRIBED_NAMES_MAX,
};
pub use member::Member;
pub use name::{GroupName, InstanceId, MemberId};
pub use offsets::CommittedOffset;
pub use outcome::{Applied, Bound, Effect, Outcome, Refusal, Removal, Text};
pub use sessions::{Proposal, Sessions};
pub use state::State;
pub use subscription::{Resolution, Subscription};
