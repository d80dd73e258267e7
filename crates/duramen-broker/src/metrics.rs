//! Names of the broker's metrics, and what is recorded under them.

use std::time::Duration;

use duramen_group::GroupName;
use duramen_types::{PartitionId, TopicPartition};

use crate::member::Member;
use crate::partition::PartitionHandle;

/// Seconds a produce took, from its arrival to its acknowledgement.
pub const PRODUCE_SECONDS: &str = "duramen_produce_seconds";
/// Bytes of batches acknowledged.
pub const PRODUCE_BYTES: &str = "duramen_produce_bytes_total";
/// Records acknowledged.
pub const PRODUCE_RECORDS: &str = "duramen_produce_records_total";
/// Bytes of batches fetched.
pub const FETCH_BYTES: &str = "duramen_fetch_bytes_total";
/// High watermark, by topic and partition.
pub const HIGH_WATERMARK: &str = "duramen_high_watermark";
/// Log start offset, by topic and partition.
pub const LOG_START_OFFSET: &str = "duramen_log_start_offset";
/// Bytes of a replica's segments, by topic and partition.
pub const LOG_BYTES: &str = "duramen_log_bytes";
/// Bytes that wait or are in flight in a partition's produce queue.
pub const QUEUE_BYTES: &str = "duramen_produce_queue_bytes";
/// Free bytes of the data directory's disk.
pub const DISK_FREE_BYTES: &str = "duramen_disk_free_bytes";
/// Replicas that take no part because they are lost or damaged.
pub const REPLICAS_OUT: &str = "duramen_replicas_out";

/// Replicas of partitions led here that are being replaced.
pub const REPLACEMENTS: &str = "duramen_replacements";
/// Replicas replaced under this node's lead.
pub const REPLACED: &str = "duramen_replicas_replaced_total";

pub(crate) fn replaced() {
    metrics::counter!(REPLACED).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is far away")]
pub(crate) fn replacements(count: usize) {
    metrics::gauge!(REPLACEMENTS).set(count as f64);
}

pub(crate) fn produced(bytes: usize, records: u32, took: Duration) {
    metrics::counter!(PRODUCE_BYTES).increment(bytes as u64);
    metrics::counter!(PRODUCE_RECORDS).increment(u64::from(records));
    metrics::histogram!(PRODUCE_SECONDS).record(took);
}

pub(crate) fn fetched(bytes: usize) {
    metrics::counter!(FETCH_BYTES).increment(bytes as u64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes are far away")]
pub(crate) fn disk_free(bytes: u64) {
    metrics::gauge!(DISK_FREE_BYTES).set(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is far away")]
pub(crate) fn replicas_out(count: usize) {
    metrics::gauge!(REPLICAS_OUT).set(count as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is far away")]
pub(crate) fn partition(member: &Member, id: TopicPartition, handle: &PartitionHandle) {
    let Some(topic) = member.metadata().state().topic_by_id(id.topic).map(|t| t.name.clone())
    else {
        return;
    };
    let labels = [("topic", topic), ("partition", id.partition.to_string())];
    let progress = *handle.group.progress().borrow();
    metrics::gauge!(HIGH_WATERMARK, &labels).set(progress.high_watermark.get() as f64);
    metrics::gauge!(LOG_START_OFFSET, &labels).set(progress.log_start_offset.get() as f64);
    metrics::gauge!(LOG_BYTES, &labels).set(handle.group.log_bytes() as f64);
    metrics::gauge!(QUEUE_BYTES, &labels).set(handle.queued_bytes() as f64);
}

/// Records that a group has not committed, by group, topic and partition.
pub const GROUP_LAG_RECORDS: &str = "duramen_group_lag_records";
/// How long ago the first of them was appended, in seconds.
pub const GROUP_LAG_SECONDS: &str = "duramen_group_lag_seconds";
/// Consumer groups, by shard that this node coordinates.
pub const CONSUMER_GROUPS: &str = "duramen_consumer_groups";

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is far away")]
pub(crate) fn group_lag(
    group: &GroupName,
    topic: &str,
    partition: PartitionId,
    lag: crate::groups::Lag,
) {
    let labels = [
        ("group", group.to_string()),
        ("topic", topic.to_owned()),
        ("partition", partition.to_string()),
    ];
    metrics::gauge!(GROUP_LAG_RECORDS, &labels).set(lag.records as f64);
    metrics::gauge!(GROUP_LAG_SECONDS, &labels).set(lag.millis as f64 / 1_000.0);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is far away")]
pub(crate) fn groups(shard: PartitionId, count: usize) {
    metrics::gauge!(CONSUMER_GROUPS, "shard" => shard.to_string()).set(count as f64);
}
