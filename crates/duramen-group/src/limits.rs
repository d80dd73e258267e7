//! Limits of groups, each with its reason.

/// Groups of one shard: with sixteen shards more than a cluster's programs have names.
pub const GROUPS_MAX: usize = 100_000;

/// Members of one group: each change of a group is worked out over all of them.
pub const GROUP_MEMBERS_MAX: usize = 2_000;

/// Members of all groups of a shard: every one has a session and a stream at the coordinator.
pub const SHARD_MEMBERS_MAX: usize = 200_000;

/// Topics that one group reads.
pub const GROUP_TOPICS_MAX: usize = 10_000;

/// Partitions that one group reads: a target with all of them fits one entry of the log.
pub const GROUP_PARTITIONS_MAX: usize = 100_000;

/// Committed offsets of one group.
pub const GROUP_OFFSETS_MAX: usize = 100_000;

/// Committed offsets of all groups of a shard: some two hundred megabytes.
pub const SHARD_OFFSETS_MAX: usize = 2_000_000;

/// Text of all groups of a shard in bytes: names, ids, subscriptions, metadata of offsets.
pub const SHARD_TEXT_BYTES_MAX: usize = 256 << 20;

/// Bytes of the name of a group, a member or an instance, as of a topic.
pub const NAME_BYTES_MAX: usize = 249;

/// Bytes of a rack or of the name that a client gives itself.
pub const LABEL_BYTES_MAX: usize = 255;

/// Topic names in one subscription; who wants more has a pattern.
pub const SUBSCRIBED_NAMES_MAX: usize = 1_000;

/// Bytes of a pattern, whose compilation may take a multiple of them.
pub const PATTERN_BYTES_MAX: usize = 1_000;

/// Bytes of the metadata string of a committed offset, as Kafka's default.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

/// The shortest session, in milliseconds: below it a pause of the network is a crash.
pub const SESSION_MS_MIN: u32 = 1_000;

/// The longest session, in milliseconds: a crash pauses its partitions for as long.
pub const SESSION_MS_MAX: u32 = 30 * 60 * 1_000;

/// The longest time that a member may take to give a partition back, in milliseconds.
pub const REVOCATION_MS_MAX: u32 = 60 * 60 * 1_000;
