//! Limits and timings of the use cases, each with its reason.

use std::time::Duration;

/// Bytes of batches that one produce request may carry.
pub const PRODUCE_BYTES_MAX: usize = 16 << 20;

/// Bytes that one fetch may ask for.
pub const FETCH_BYTES_MAX: u64 = 16 << 20;

/// Bytes that a fetch gives when it does not say.
pub const FETCH_BYTES_DEFAULT: u64 = 1 << 20;

/// Records and headers that one answer in plain form gives: a record of seven bytes in a batch takes
/// a hundred and more in memory, and a compressed batch may hold millions. The rest comes with the
/// next answer.
pub const PLAIN_ITEMS_MAX: usize = duramen_proto::limits::RECORD_ITEMS_MAX;

/// Bytes of keys, values and headers in one answer in plain form, decompressed; a single larger
/// record goes alone.
pub const PLAIN_BYTES_MAX: usize = 16 << 20;

/// How long a fetch may wait for records.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a produce may take when it does not say.
pub const PRODUCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a produce may take at most.
pub const PRODUCE_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Bytes of batches that may wait or be in flight in one partition; a producer that has more is
/// told to slow down.
pub const PARTITION_BYTES_MAX: usize = 64 << 20;

/// Bytes beyond that, for those who were told so before: else whoever is in gets in again, and others
/// wait for ever.
pub const PARTITION_BYTES_RESERVED: usize = 32 << 20;

/// How long somebody has been refused who may use half of that; all of it is for those who have been
/// for ever.
pub const REFUSED_HALF: Duration = Duration::from_secs(2);

/// Requests that may wait in one partition.
pub const PARTITION_REQUESTS_MAX: usize = 8_192;

/// Bytes that are gathered into one entry; a single larger batch goes alone. Costs of an entry are
/// fixed, so entries are big; but what fits one HTTP/2 frame is not put together on its way.
pub const ENTRY_BYTES: usize = 2 << 20;

/// A request of at least this many bytes that is an entry by itself is not copied. It keeps the
/// buffer that it was received in, of which it is half or more.
pub const KEPT_IN_PLACE_MIN: usize = ENTRY_BYTES / 2;

/// Entries of one partition in flight; while they are, arriving batches gather into the next.
pub const ENTRIES_IN_FLIGHT: usize = 4;

/// What a client is told to wait when a partition is saturated.
pub const OVERLOADED_RETRY: Duration = Duration::from_millis(50);

/// What a client is told to wait when a leader is being elected.
pub const NO_LEADER_RETRY: Duration = Duration::from_millis(100);

/// A leader that a replica has not heard of for so long, a few elections, is not named to clients
/// any more: the replica would send them to it for ever if no other one can be elected.
pub const LEADER_SILENCE: Duration = Duration::from_secs(3);

/// How long a call waits for metadata that it names.
pub const METADATA_WAIT: Duration = Duration::from_secs(10);

/// How long a metadata change is tried.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Raft groups that a node founds at once.
pub const FOUND_AT_ONCE: usize = 64;

/// How long it waits for their leaders before it founds more.
pub const FOUND_WAIT: Duration = Duration::from_secs(1);

/// How long the creation of a topic waits for its partitions to be formed.
pub const FORM_WAIT: Duration = Duration::from_secs(5);

/// Replicas opened at the same time.
pub const OPENED_IN_PARALLEL: usize = 16;

/// How often the gauges of replicas are set.
pub const GAUGES_INTERVAL: Duration = Duration::from_secs(2);

/// How often retention looks at the partitions that this node leads.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(2);

/// How often a replica's log is read whole to see that it still checks.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often the scrubber looks for replicas that are due.
pub const SCRUB_LOOK: Duration = Duration::from_secs(1);

/// Bytes that the scrubber reads at a time.
pub const SCRUB_STEP_BYTES: u64 = 1 << 20;

/// Bytes that the scrubber reads in a second at most, so that it leaves the disk to others.
pub const SCRUB_BYTES_PER_SECOND: u64 = 32 << 20;

/// How often the free space of the disk is looked at.
pub const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// Free space below which no records are taken, so that a full node can still trim, elect and
/// answer.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// How often a node that waits for others asks them again.
pub const BOOTSTRAP_INTERVAL: Duration = Duration::from_millis(100);

/// How often it says what it waits for.
pub const BOOTSTRAP_NOTICE: Duration = Duration::from_secs(5);

/// How long one bootstrap call may take.
pub const BOOTSTRAP_CALL: Duration = Duration::from_secs(2);

/// How often the leader of the metadata group looks at who should vote.
pub const VOTERS_INTERVAL: Duration = Duration::from_millis(500);

/// Voters of the metadata group at most; all other nodes are learners.
pub const METADATA_VOTERS_MAX: usize = 5;

/// How often a node looks whether its replica of the metadata has stopped by itself.
pub const STOPPED_INTERVAL: Duration = Duration::from_secs(1);

/// How often the leader of a partition looks at the replacement of one of its replicas.
pub const REPLACE_INTERVAL: Duration = Duration::from_millis(200);

/// How often it is looked whether there are such replicas; changed metadata is looked at at once.
pub const REPLACE_LOOK: Duration = Duration::from_secs(1);

/// How long one step of a replacement may take before it is looked at again.
pub const REPLACE_STEP: Duration = Duration::from_secs(10);

/// Replacements that a node takes further at the same time.
pub const REPLACED_IN_PARALLEL: usize = 16;

/// Entries that a new replica may be behind to be made a voter: about what is in flight.
pub const PROMOTE_LAG_MAX: u64 = 64;

/// How long it may not have answered then: a few heartbeats.
pub const PROMOTE_SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long a replica that was caught up is waited for when it is to vote; then the voters change
/// without it, so that another one can take its place.
pub const PROMOTE_WAIT: Duration = Duration::from_secs(60);

/// Producer ids taken from the metadata group at a time.
pub const PRODUCER_BLOCK: u64 = 1_000;

/// Bytes that a decompressed batch may have when the node must look inside.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// What commands brought about and the coordinator of a shard has not looked at yet; with more it
/// looks at all of its groups.
pub const GROUP_EFFECTS_MAX: usize = 100_000;

/// Proposals of one shard's coordinator that are under way at a time.
pub const GROUP_PROPOSALS_MAX: usize = 128;

/// As many of them may be about who reads what: the others are left for members and groups whose
/// time has run out.
pub const GROUP_PLANS_MAX: usize = 64;

/// How often a coordinator looks for groups that nobody uses.
pub const GROUP_RETIRE_INTERVAL: Duration = Duration::from_secs(60);

/// A group without members and commits is deleted after so long, in milliseconds: 30 days.
pub const GROUP_RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Bytes that a compiled pattern may take.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Compiled patterns that the coordinator of a shard keeps.
pub const PATTERNS_COMPILED_MAX: usize = 256;

/// The session of a member that names none, in milliseconds.
pub const SESSION_MS: u32 = 10_000;

/// The time that a member which names none has to give a partition back, in milliseconds.
pub const REVOCATION_MS: u32 = 60_000;

/// Requests of one member that are under way at a time; then its stream waits.
pub const MEMBER_REQUESTS_MAX: usize = 32;

/// Offsets in one commit or reset.
pub const COMMIT_OFFSETS_MAX: usize = 10_000;

/// How long another node may take to say what can be read of its partitions.
pub const BOUNDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Partitions asked for in one such question.
pub const BOUNDS_QUERIES_MAX: usize = 10_000;

/// How often the lag of groups goes into the metrics.
pub const LAG_INTERVAL: Duration = Duration::from_secs(10);

/// Partitions of groups whose lag a node has in its metrics; of more only the API tells.
pub const LAG_METRICS_MAX: usize = 20_000;
