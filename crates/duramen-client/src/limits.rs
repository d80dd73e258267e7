//! Limits and defaults of the client, each with its reason.

use std::time::Duration;

/// Default for how long a call may take, retries included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Default for how long a record may be under way before its delivery fails.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// A call is given up on one node, and tried on another, after this part of its time.
pub(crate) const ATTEMPTS_PER_CALL: u32 = 3;

/// A node describes the cluster and its topics from memory: one that has not after this long is
/// left for another.
pub(crate) const DESCRIBE_ATTEMPT: Duration = Duration::from_secs(1);

/// After so long without any answer to what is under way, other nodes are asked who leads: a
/// frozen leader breaks no connection, and an election takes about a second.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// First wait between two attempts; it doubles from there.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// Longest wait between attempts: a leader is elected in about a second, and a client that sleeps
/// on adds to the outage.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Longest wait of a producer that a node has no room for: what is sent again too soon takes the room
/// of what would be accepted.
pub(crate) const OVERLOADED_WAIT_MAX: Duration = Duration::from_secs(2);

/// So many answers in a row that say a replica is damaged, and no other one between them: no
/// replica is sound, and waiting helps nobody.
pub(crate) const DAMAGED_ANSWERS_MAX: u32 = 12;

/// How often a node may answer that it knows no such topic before it is believed: a node that has
/// just started learns of topics late.
pub(crate) const UNKNOWN_TOPIC_RETRIES: u32 = 3;

/// Redirects to another leader that are followed at once; further ones wait.
pub(crate) const REDIRECTS_AT_ONCE: u32 = 3;

/// Refused joins that are not told: for about as long as an election takes, a coordinator that is
/// not elected yet is nothing to know of.
pub(crate) const JOINS_NOT_TOLD: u32 = 10;

/// Default for how long a batch waits for more records.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// Default for the bytes of a batch: just below the server's default `max.message.bytes`.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// The largest batch or record that any option allows: half of what a message may have.
pub(crate) const BATCH_BYTES_LIMIT: usize = 16 << 20;

/// Default for the bytes of records under way in a producer.
pub(crate) const IN_FLIGHT_BYTES: usize = 32 << 20;

/// Requests of one partition under way at a time: servers remember this many of a producer.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 5;

/// Bytes of batches that are put into one request; a larger batch goes alone. What servers make one
/// entry of.
pub(crate) const REQUEST_BYTES: usize = 2 << 20;

/// Batches that are put into one request.
pub(crate) const REQUEST_BATCHES: usize = 2_048;

/// Beyond the time that a node is given for a request, wait this long for its answer.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Requests queued before one node's produce stream.
pub(crate) const STREAM_QUEUE: usize = 16;

/// Default for the bytes that a consumer buffers, over all of its partitions.
pub(crate) const BUFFER_BYTES: usize = 32 << 20;

/// The least credit a partition is given, however many share the buffer.
pub(crate) const CREDIT_BYTES_MIN: u64 = 64 << 10;

/// The most credit a partition is given: more does not make a replay faster.
pub(crate) const CREDIT_BYTES_MAX: u64 = 8 << 20;

/// Bytes that one fetch answer should have at most.
pub(crate) const FETCH_BYTES: u64 = 1 << 20;

/// Messages queued towards one fetch stream: its start and grants of credit.
pub(crate) const CREDIT_QUEUE: usize = 4;

/// The most that one batch may decompress to.
pub(crate) const DECOMPRESSED_BYTES: usize = 128 << 20;

/// Groups whose coordinators are remembered.
pub(crate) const COORDINATORS_KNOWN_MAX: usize = 4_096;

/// Default for how long a member of a group may be silent; the server's.
pub(crate) const SESSION: Duration = Duration::from_secs(10);

/// Default for how long a member may take to give a partition back; the server's.
pub(crate) const REVOCATION: Duration = Duration::from_secs(60);

/// Default for how often a group consumer commits: what a crash repeats is a second's work.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Default for how long a record may be out without another one being asked for.
pub(crate) const PROCESSING: Duration = Duration::from_secs(300);

/// Default for the records that are out, or wait for an earlier one, in a group consumer.
pub(crate) const UNPROCESSED_MAX: usize = 10_000;

/// Default for how long a group consumer's end may take.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Events of a group consumer that wait to be read.
pub(crate) const EVENTS_MAX: usize = 1_024;

/// Callers that wait for a commit at a time.
pub(crate) const COMMIT_WAITERS: usize = 64;

/// Messages queued towards a coordinator.
pub(crate) const MEMBER_QUEUE: usize = 64;

/// Heartbeats whose answers are waited for.
pub(crate) const HEARTBEATS_MAX: usize = 32;

/// No answer of the coordinator for so long: another stream is opened. At least this, and a quarter
/// of a session.
pub(crate) const MEMBER_SILENCE: Duration = Duration::from_secs(1);

/// What a member of a group looks after when nothing is due.
pub(crate) const MEMBER_TICK: Duration = Duration::from_millis(100);

/// Partitions in one commit: with the longest names within what a coordinator takes in one message.
pub(crate) const COMMIT_PARTITIONS_MAX: usize = 2_000;
