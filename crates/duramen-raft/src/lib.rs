//! openraft bound to the segment log: log storage, state machines, and many groups over one
//! network. The only crate that names openraft.
//!
//! - [`RaftHost`] holds all groups of a node; [`Group`] is one replica of one of them.
//! - A partition's Raft log *is* its data: there is no second write.
//! - Acknowledged means: on disk here and everything before it, on a majority.
//!
//! Three rules are safety, and each has a test: no leader comes back in its old term after a
//! restart; applied and committed never lie beyond the durable log end; an append stream ends by
//! itself when answers stop.

mod checkpoint;
mod config;
mod entry;
mod fail_stop;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod group;
mod group_commit;
mod hard_state;
mod hibernation;
mod host;
pub mod limits;
mod machine;
mod membership;
pub mod metrics;
mod network;
mod partition;
mod producers;
mod replica;
mod runtime;
mod snapshot;
mod store;
mod ticker;
mod tracker;
#[cfg(test)]
mod trials;
mod types;
mod wire;

pub use fail_stop::FailStop;
pub use group::{Group, GroupStatus, ProposeError, Proposed};
pub use hard_state::{HardStateError, SavedVote, VoteStore};
pub use host::{GroupOpenError, GroupSpec, HostError, RaftHost};
pub use machine::{RestoreError, StateMachine};
pub use membership::{ChangeError, GroupMembers, ReplicaLag, TransferError};
pub use network::{LocalNode, Loss, PeerHandler};
pub use partition::{FetchedBatches, TrimTarget};
pub use producers::{BatchId, Check};
pub use replica::Progress;
pub use runtime::seed_elections;
pub use tracker::batch_id;
pub use types::{Applied, GroupId, Proposal, ProposalKind};
