//! How a replica's log is synced for its group commit.

use std::io;
use std::sync::Arc;

use duramen_env::Clock;
use duramen_log::{Log, LogError};

use crate::group_commit::{Sync, Synced};
use crate::metrics;

/// The log of one replica.
pub(super) struct LogSync {
    pub(super) log: Arc<Log>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Sync for LogSync {
    fn sync(&self) -> io::Result<Synced> {
        let started = self.clock.monotonic();
        let synced = match self.log.sync_frames() {
            // Closing synced all there was.
            Ok(_) | Err(LogError::Closed) => Ok(Synced::Done),
            Err(LogError::Full) => Ok(Synced::NoRoom),
            Err(error) => Err(io::Error::other(error)),
        };
        metrics::synced(self.clock.monotonic().saturating_sub(started));
        synced
    }

    fn after_sync(&self) {
        match self.log.note_synced() {
            Ok(()) | Err(LogError::Closed) => {}
            // The log takes nothing any more, and whoever writes next hears why.
            Err(error) => tracing::error!(%error, "could not note how far a log is durable"),
        }
    }
}
