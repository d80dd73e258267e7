//! The replicas of a node as directories: made, looked at, put aside, removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duramen_env::Env;
use duramen_log::{Log, LogOptions, OpenError};
use duramen_types::{PartitionId, ReplicaId, TopicId, TopicPartition};

use super::{GroupOpenError, RaftHost};
use crate::types::GroupId;

pub(super) const PARTITIONS: &str = "partitions";
const METADATA: &str = "metadata";
const METADATA_GIVEN_UP: &str = "metadata.lost";

impl RaftHost {
    /// Where a replica's files are.
    #[must_use]
    pub fn replica_dir(&self, id: GroupId, replica: ReplicaId) -> PathBuf {
        match id {
            GroupId::Metadata => self.dir.join(METADATA),
            GroupId::Partition(partition) => {
                self.dir.join(PARTITIONS).join(format!("{partition}-{:016x}", replica.get()))
            }
        }
    }

    /// Creates the empty log of a replica that never took part. Durable when this returns. A log
    /// that is there already stays; what a crash left of an earlier try goes.
    ///
    /// # Errors
    /// [`GroupOpenError::Io`], also if the replica has voted and its log cannot be opened: it took
    /// part once and must not begin anew.
    pub async fn create_replica(
        &self,
        id: GroupId,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<(), GroupOpenError> {
        let (env, path) = (self.env.clone(), self.replica_dir(id, replica));
        let identity = self.identity(replica);
        let took_part = self.hard_state.get(id, replica).is_some();
        let creating = move || {
            if env.disk.exists(&path)? {
                let there = Log::open(&env.disk, &env.random, &path, identity, options);
                match there {
                    Ok((log, _)) => return log.close().map_err(io::Error::other),
                    Err(error @ OpenError::Io { .. }) => return Err(io::Error::other(error)),
                    Err(lost) if took_part => return Err(io::Error::other(lost)),
                    Err(_) => env.disk.remove_dir_all(&path)?,
                }
            }
            env.disk.create_dir_all(&path)?;
            if let Some(parent) = path.parent() {
                env.disk.sync_dir(parent)?;
            }
            Log::create(&env.disk, &env.random, &path, identity, options)
                .map_err(io::Error::other)?
                .close()
                .map_err(io::Error::other)
        };
        let created = self.env.tasks.blocking("replica-create", creating).await;
        created.map_err(|source| GroupOpenError::Io {
            group: id,
            action: "create",
            source: Box::new(source),
        })
    }

    /// Looks at a replica's log without letting it take part. Reads the disk.
    ///
    /// # Errors
    /// As [`RaftHost::open_group`].
    pub async fn examine(
        &self,
        group: GroupId,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<(), GroupOpenError> {
        let log = self.open_log(group, replica, options).await?;
        let closed = self.env.tasks.blocking("log-close", move || log.close()).await;
        closed.map_err(|source| GroupOpenError::Io {
            group,
            action: "close",
            source: Box::new(source),
        })
    }

    /// Stops a replica, if it is open, and removes its data, durably.
    ///
    /// # Errors
    /// As the disk says; what is left is removed at the next try.
    pub async fn remove_replica(&self, id: GroupId, replica: ReplicaId) -> io::Result<()> {
        if self.group(id).is_some_and(|group| group.replica() == replica) {
            self.close_group(id).await;
        }
        let (disk, path) = (Arc::clone(&self.env.disk), self.replica_dir(id, replica));
        let removing = move || {
            if disk.exists(&path)? {
                disk.remove_dir_all(&path)?;
            }
            path.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
        };
        self.env.tasks.blocking("replica-remove", removing).await?;
        // The vote goes last: a log must never come back without it.
        self.hard_state.forget(id, replica)
    }

    /// The partition replicas that have a directory here, open or not. Reads the disk.
    ///
    /// # Errors
    /// As the disk says.
    pub fn replicas_on_disk(&self) -> io::Result<Vec<(TopicPartition, ReplicaId)>> {
        let entries = self.env.disk.list(&self.dir.join(PARTITIONS))?;
        Ok(entries.iter().filter_map(|entry| parse_replica_dir(&entry.name)).collect())
    }

    /// Stops the node's replica of the metadata and puts its damaged files aside, durably, so that
    /// the next start does not trust them.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn give_up_metadata(&self) -> io::Result<()> {
        self.close_group(GroupId::Metadata).await;
        let disk = &self.env.disk;
        disk.rename(&self.dir.join(METADATA), &self.dir.join(METADATA_GIVEN_UP))?;
        disk.sync_dir(&self.dir)
    }

    /// Whether a replica's directory exists.
    ///
    /// # Errors
    /// As the disk says.
    pub fn has_replica(&self, id: GroupId, replica: ReplicaId) -> io::Result<bool> {
        self.env.disk.exists(&self.replica_dir(id, replica))
    }
}

/// Whether a directory holds replicas, of whatever kind.
pub(super) fn has_replicas(env: &Env, dir: &Path) -> io::Result<bool> {
    Ok(env.disk.exists(&dir.join(METADATA))? || !env.disk.list(&dir.join(PARTITIONS))?.is_empty())
}

/// The partition and the replica that a directory's name speaks of.
fn parse_replica_dir(name: &str) -> Option<(TopicPartition, ReplicaId)> {
    let (rest, replica) = name.rsplit_once('-')?;
    let (topic, partition) = rest.rsplit_once('-')?;
    let (topic, partition) = (TopicId::parse(topic)?, partition.parse().ok()?);
    let replica = ReplicaId::new(u64::from_str_radix(replica, 16).ok()?);
    Some((TopicPartition { topic, partition: PartitionId::new(partition) }, replica))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_whose_it_is() {
        let id =
            TopicPartition { topic: TopicId::from_bytes([9; 16]), partition: PartitionId::new(12) };
        let name = |replica: ReplicaId| format!("{id}-{:016x}", replica.get());
        let replica = ReplicaId::new(0xfedc_ba98_7654_3210);
        assert_eq!(parse_replica_dir(&name(replica)), Some((id, replica)));
        for other in ["", "lost+found", "a-0-0", "a-b-c-d-e-f"] {
            assert_eq!(parse_replica_dir(other), None, "{other}");
        }
    }
}
