//! Limits and timings of replication, each with its reason.

use std::time::Duration;

/// How often a leader asserts itself to idle followers.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(150);

/// How long after it heard of its leader a voter votes for nobody else, and how long a leader that
/// hears of no majority goes on taking writes that it cannot commit.
pub const LEADER_LEASE: Duration = Duration::from_millis(500);

/// Shortest silence after which a follower campaigns: others heard of the leader a little later than
/// it did, and a campaign within their lease is lost and costs as much time again.
pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(550);
const _: () =
    assert!(ELECTION_TIMEOUT_MIN.as_millis() > (LEADER_LEASE.as_millis() + TICK.as_millis()));

/// Longest such silence.
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(850);

/// How often the shared ticker looks at the groups.
pub const TICK: Duration = Duration::from_millis(25);

/// Elections that a node begins in one tick, a millisecond's work each: where too many compete for
/// the same cores and disk, all of them take so long that they begin anew.
pub const CAMPAIGNS_PER_TICK: u32 = 16;

/// How long a group must have had nothing to do before it hibernates: longer than answers to beats
/// are waited for, so that none of them is about an earlier time that the group hibernated.
pub const HIBERNATE_AFTER: Duration = Duration::from_secs(3);
const _: () = assert!(HIBERNATE_AFTER.as_millis() > 2 * ELECTION_TIMEOUT_MAX.as_millis());

/// What the logs of a node keep of their latest frames in memory, together: for followers, and for
/// readers at the end.
pub const TAIL_BYTES_MAX: u64 = 256 << 20;

/// What one of them may keep at least, beside its newest entry for a moment.
pub const TAIL_BYTES_MIN: u64 = 128 << 10;

/// An append stream whose oldest request has no answer for this long ends itself: openraft sets no
/// time limit, and a hung stream would stall the follower and retention for ever.
pub const APPEND_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Appends in flight in one stream.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;

/// How long followers are not told what is committed where entries may follow that tell them. Less
/// than a person notices; more than the time between the entries of a busy partition.
pub const COMMIT_HOLD: Duration = Duration::from_millis(5);

/// Bytes in flight in one stream.
pub const APPEND_BYTES_IN_FLIGHT_MAX: usize = 8 << 20;

/// Bytes of entries in one append; a single larger entry goes alone.
pub const APPEND_BYTES_MAX: u64 = 2 << 20;

/// Frames waiting to go out on one link.
pub const LINK_QUEUE_FRAMES: usize = 1_024;

/// Appends a receiver handles at once on one link before it stops reading it.
pub const LINK_APPENDS_PARKED_MAX: usize = 1_024;

/// Wait before a lost link is made again: first and longest.
pub const LINK_RETRY_MIN: Duration = Duration::from_millis(20);
/// See [`LINK_RETRY_MIN`].
pub const LINK_RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a vote, transfer or snapshot call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a chosen voter may take to take over from its leader; nothing is written meanwhile.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1);

/// Entries that a voter may lack when it is to take over: no more than what is in flight, since it
/// must have them all before it can be elected, and nothing is written meanwhile.
pub const TRANSFER_LAG_ENTRIES_MAX: u64 = 256;

/// Files synced at the same time.
pub const SYNCS_IN_PARALLEL: usize = 16;

/// How long a log that the disk has no room for waits before it tries again.
pub const NO_ROOM_WAIT: Duration = Duration::from_millis(500);

/// Syncs of one log in a row before others that wait have their turn.
pub const SYNC_ROUNDS: usize = 8;

/// Proposals that wait in openraft's own channel for one group.
pub const API_CHANNEL: u64 = 1_024;

/// Metadata entries after which its state is written as a snapshot.
pub const SNAPSHOT_AFTER_ENTRIES: u64 = 5_000;

/// Metadata entries kept behind a snapshot, for followers that lag a little.
pub const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 1_000;

/// Producers remembered per partition; the longest unseen goes first.
pub const PRODUCERS_MAX: usize = 10_000;

/// Runs of batches remembered per producer: the most requests that a producer may have in flight
/// (Kafka's rule, where a request has one batch).
pub const PRODUCER_RUNS: usize = 5;

/// A producer is forgotten when it appended nothing for this long by the frames' append times.
pub const PRODUCER_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest encoded snapshot of a group.
pub const SNAPSHOT_BYTES_MAX: usize = 16 << 20;
