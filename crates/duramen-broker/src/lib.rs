//! The use cases of a node: produce, fetch, topics, cluster; and what carries a node into its
//! cluster and keeps it there. Knows no wire format: listeners translate.

mod authorize;
mod bootstrap;
mod broker;
mod cluster;
mod error;
mod fetch;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod groups;
mod identity;
mod leadership;
pub mod limits;
mod member;
mod metadata;
pub mod metrics;
mod moves;
mod partition;
mod produce;
mod producer_ids;
mod quarantine;
mod record;
mod shared_identity;
mod topics;

pub use authorize::{AllowAll, Authorizer, Caller, Operation, Resource};
pub use broker::{Broker, NodeError, StartOptions};
pub use cluster::{ClusterDescription, NodeDescription};
pub use error::{BrokerError, ErrorKind};
pub use fetch::{FetchLimits, Fetched, ListedOffset, PartitionName, Position, Reader};
pub use groups::{
    Assignment, Beat, Coordinator, Done, Granted, GroupDescription, GroupList, GroupPartition,
    GroupSession, JoinRequest, Lag, ListedGroup, MemberAction, MemberDescription,
};
pub use identity::{Founder, Identity, IdentityError, Phase};
pub use moves::{MoveRequest, ReplacementDescription, ReplacementState};
pub use partition::Produced;
pub use produce::{ProducePayload, ProduceRequest, Queued};
pub use record::{PlainRecord, PlainRecords, plain_records};
pub use topics::{ConfigValue, PartitionDescription, TopicDescription};
