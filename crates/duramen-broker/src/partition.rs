//! A partition that this node has a replica of: the queue of produce requests and its owner.

mod actor;
mod gathering;
mod overlay;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Env, TaskHandle};
use duramen_raft::{BatchId, Group};
use duramen_types::{Offset, Term, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::error::BrokerError;
use crate::groups::{Shard, ShardHandle};
use crate::limits;

/// Validated batches of one produce request.
#[derive(Debug)]
pub(crate) struct ProduceItem {
    /// Batches back to back, until they are proposed.
    pub(crate) batches: Bytes,
    /// Bytes of them.
    pub(crate) bytes: usize,
    /// Records in them.
    pub(crate) records: u32,
    /// Largest timestamp of the records.
    pub(crate) max_timestamp: Timestamp,
    /// The idempotence triple of all of it, if its batches are a producer's.
    pub(crate) producer: Option<BatchId>,
    pub(crate) reply: oneshot::Sender<Result<Produced, BrokerError>>,
}

/// Where batches were appended, and on how many disks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// When the leader appended them.
    pub append_time: Timestamp,
    /// The leader's term.
    pub leader_epoch: Term,
    /// Offset of the first record kept.
    pub log_start_offset: Offset,
    /// Whether they had been appended by an earlier try.
    pub duplicate: bool,
    /// Voters that are known to have them on disk.
    pub synced_replicas: u32,
    /// Voters of the partition.
    pub replicas: u32,
}

/// Whether so many bytes more may wait where so many do; a request alone always may.
fn fits(waiting: usize, size: usize, refused_for: Duration) -> bool {
    let (waited, half) = (refused_for.as_millis(), limits::REFUSED_HALF.as_millis());
    let reserved = limits::PARTITION_BYTES_RESERVED as u128 * waited / (waited + half);
    let most = limits::PARTITION_BYTES_MAX as u128 + reserved;
    waiting == 0 || (waiting + size) as u128 <= most
}

/// A replica of a partition, with its queue. The queue is bounded in requests and in bytes.
#[derive(Debug)]
pub(crate) struct PartitionHandle {
    pub(crate) group: Arc<Group>,
    queue: mpsc::Sender<ProduceItem>,
    bytes: Arc<AtomicUsize>,
    _actor: TaskHandle<()>,
    /// Consumer groups, if it is a shard of those.
    shard: Option<ShardHandle>,
}

impl PartitionHandle {
    /// Starts the owner of a replica's produce queue.
    pub(crate) fn start(env: &Env, group: Arc<Group>, shard: Option<ShardHandle>) -> Arc<Self> {
        let (queue, items) = mpsc::channel(limits::PARTITION_REQUESTS_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let owner = actor::Actor::new(Arc::clone(&group), items, Arc::clone(&bytes));
        let actor = env.tasks.critical("partition", owner.run());
        Arc::new(Self { group, queue, bytes, _actor: actor, shard })
    }

    /// The consumer groups in it, if it is a shard of those.
    pub(crate) fn shard(&self) -> Option<&Arc<Shard>> {
        self.shard.as_ref().map(|handle| &handle.shard)
    }

    /// Whether somebody who has been refused for so long would have room for so many bytes now.
    pub(crate) fn has_room(&self, size: usize, refused_for: Duration) -> bool {
        fits(self.queued_bytes(), size, refused_for)
    }

    /// Queues batches; the answer comes by the item's reply. Requests of one caller keep their
    /// order. Whoever has been refused for longer finds room where others do not.
    pub(crate) fn queue(
        &self,
        item: ProduceItem,
        refused_for: Duration,
    ) -> Result<(), BrokerError> {
        let size = item.bytes;
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        if !fits(before, size, refused_for) {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            return Err(BrokerError::Overloaded);
        }
        self.queue.try_send(item).map_err(|error| {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => BrokerError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => BrokerError::NoLeader,
            }
        })
    }

    /// Bytes that wait or are in flight.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_somebody_was_refused_the_more_may_wait() {
        let (most, reserved) = (limits::PARTITION_BYTES_MAX, limits::PARTITION_BYTES_RESERVED);
        let half = limits::REFUSED_HALF;
        let cases = [
            (Duration::ZERO, most),
            (half, most + reserved / 2),
            (half * 3, most + reserved * 3 / 4),
        ];
        for (refused_for, room) in cases {
            assert!(fits(room - 10, 10, refused_for), "{refused_for:?}");
            assert!(!fits(room - 10, 11, refused_for), "{refused_for:?}");
        }
        assert!(!fits(most, reserved, Duration::MAX), "it has an end");
        assert!(fits(0, 2 * most, Duration::ZERO), "a request alone");
    }
}
