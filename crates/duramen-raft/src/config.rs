//! openraft's configuration, the same for every group but for who keeps time and snapshots.

use std::sync::Arc;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::limits;

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The configuration of partitions: a snapshot is the state at the log's start and is built only
/// when retention moves that start.
pub(crate) fn partition() -> Result<Arc<Config>, ConfigError> {
    Ok(Arc::new(base().validate()?))
}

/// The configuration of groups with a real state machine: a snapshot is the full state at last
/// applied, written after so many entries. A part of them is kept behind it, for followers that
/// lag a little.
pub(crate) fn state_machine(snapshot_entries: u64) -> Result<Arc<Config>, ConfigError> {
    let config = Config {
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_entries),
        max_in_snapshot_log_to_keep: limits::ENTRIES_KEPT_BEHIND_SNAPSHOT.min(snapshot_entries / 5),
        ..base()
    };
    Ok(Arc::new(config.validate()?))
}

fn base() -> Config {
    Config {
        cluster_name: "duramen".to_owned(),
        heartbeat_interval: millis(limits::HEARTBEAT_INTERVAL),
        // Openraft's own elections are off; of these only the longer counts: it is the leader's lease.
        election_timeout_min: millis(limits::LEADER_LEASE) - 1,
        election_timeout_max: millis(limits::LEADER_LEASE),
        // The shared ticker beats; a group whose replication is acknowledged needs no beat.
        heartbeat_min_interval: Some(120),
        enable_tick: false,
        enable_pre_vote: Some(true),
        // A leader whose own sync lagged would come back in its old term with other entries.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        quorum_loss_probe_interval: None,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        // The reader cuts by bytes.
        max_payload_entries: 4_096,
        max_append_entries: Some(4_096),
        broadcast_submitted_on_append: Some(true),
        api_channel_size: Some(limits::API_CHANNEL),
        notification_channel_size: Some(4_096),
        state_machine_channel_size: Some(256),
        install_snapshot_timeout: millis(limits::CALL_TIMEOUT),
        backoff: "50ms 100ms 200ms 400ms 800ms 1s".to_owned(),
        ..Config::default()
    }
}
