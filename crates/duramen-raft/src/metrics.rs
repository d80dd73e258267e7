//! Names of the metrics of replication, and what is recorded under them.

use std::time::Duration;

/// Seconds an append took to write, without its sync.
pub const APPEND_SECONDS: &str = "duramen_log_append_seconds";
/// Bytes of payload appended.
pub const APPEND_BYTES: &str = "duramen_log_append_bytes_total";
/// Seconds a sync took.
pub const SYNC_SECONDS: &str = "duramen_log_sync_seconds";
/// Seconds from proposal to commit.
pub const COMMIT_SECONDS: &str = "duramen_commit_seconds";
/// Elections this node called.
pub const ELECTIONS: &str = "duramen_elections_total";
/// Replicas that this node, as their leader, found without what they had acknowledged.
pub const ACKNOWLEDGED_LOST: &str = "duramen_acknowledged_lost_total";
/// Groups this node leads.
pub const GROUPS_LED: &str = "duramen_groups_led";
/// Groups this node has a replica of.
pub const GROUPS: &str = "duramen_groups";
/// Groups this node has a replica of that have no work and cost no heartbeats.
pub const GROUPS_HIBERNATING: &str = "duramen_groups_hibernating";

pub(crate) fn appended(bytes: usize, took: Duration) {
    metrics::counter!(APPEND_BYTES).increment(bytes as u64);
    metrics::histogram!(APPEND_SECONDS).record(took);
}

pub(crate) fn synced(took: Duration) {
    metrics::histogram!(SYNC_SECONDS).record(took);
}

pub(crate) fn committed(took: Duration) {
    metrics::histogram!(COMMIT_SECONDS).record(took);
}

pub(crate) fn acknowledged_lost() {
    metrics::counter!(ACKNOWLEDGED_LOST).increment(1);
}

pub(crate) fn election() {
    metrics::counter!(ELECTIONS).increment(1);
}

/// Groups of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Groups {
    pub(crate) all: usize,
    pub(crate) led: usize,
    pub(crate) hibernating: usize,
}

impl Groups {
    #[expect(clippy::cast_precision_loss, reason = "a node has far fewer than 2^52 groups")]
    pub(crate) fn report(self) {
        metrics::gauge!(GROUPS).set(self.all as f64);
        metrics::gauge!(GROUPS_LED).set(self.led as f64);
        metrics::gauge!(GROUPS_HIBERNATING).set(self.hibernating as f64);
    }
}
