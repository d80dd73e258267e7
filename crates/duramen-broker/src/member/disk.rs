//! Watches the free space, so that a full disk is met before an append and not in it.

use super::Member;
use crate::limits;

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut interval = tokio::time::interval(limits::DISK_INTERVAL);
    loop {
        interval.tick().await;
        let (disk, dir) = (member.env.disk.clone(), member.options.dir.clone());
        let free = member.env.tasks.blocking("disk-space", move || disk.free_bytes(&dir)).await;
        match free {
            Ok(free) => {
                crate::metrics::disk_free(free);
                member.host.set_disk_full(free < member.options.disk_reserve_bytes);
            }
            Err(error) => tracing::warn!(%error, "could not learn how much disk is free"),
        }
    }
}
