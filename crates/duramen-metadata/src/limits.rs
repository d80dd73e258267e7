//! Limits and defaults of the metadata, each with its reason.

/// Partitions of one topic: a command with all of them still fits one frame between nodes.
pub const PARTITIONS_MAX: u32 = 10_000;

/// Bytes of a topic's name: with a partition number and a separator it fits a file name.
pub const NAME_BYTES_MAX: usize = 249;

/// Names that begin so are Duramen's own.
pub const RESERVED_PREFIX: &str = "__duramen";

/// The topic whose partitions are the shards of consumer groups.
pub const GROUPS_TOPIC: &str = "__duramen_groups";

/// Shards of consumer groups. One Raft group per consumer group is what broke NATS at 3,000
/// groups; a fixed number costs what sixteen partitions cost.
pub const GROUP_SHARDS: u32 = 16;

/// Ids of deleted topics remembered, so that a node that slept knows what to remove.
pub const DELETED_TOPICS_MAX: usize = 10_000;

/// Replaced replicas remembered, so that a node that slept knows which files to remove.
pub const REMOVED_REPLICAS_MAX: usize = 10_000;

/// Replaced incarnations of nodes remembered, so that none of them comes back.
pub const RETIRED_INCARNATIONS_MAX: usize = 10_000;

/// Replicas of a partition when the request does not say, if there are as many nodes.
pub const REPLICATION_FACTOR_DEFAULT: u32 = 3;

/// Producer ids end here: Kafka's clients read them as signed.
pub(crate) const PRODUCER_ID_END: u64 = i64::MAX as u64;
