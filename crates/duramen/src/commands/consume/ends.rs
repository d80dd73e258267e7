//! Where a member that does not follow has read enough: where each partition ended when the
//! member first got it.

use std::collections::BTreeMap;
use std::sync::Arc;

use duramen_client::{Admin, ClientError, NamedPartition, Offset, PartitionId, Start};

/// A partition of the topic that has the name now.
type Key = (Arc<str>, PartitionId);

/// The ends that are known.
#[derive(Debug, Default)]
pub(super) struct Ends {
    known: BTreeMap<Key, End>,
}

/// How far a partition is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    log_start: Offset,
    high_watermark: Offset,
}

impl End {
    /// Whether a record lies beyond.
    pub(super) fn is_before(self, offset: Offset) -> bool {
        offset >= self.high_watermark
    }

    /// Whether who is at this position has read everything. What is gone by retention counts as
    /// read: no record will ever move the position over it.
    pub(super) fn is_reached(self, position: Offset) -> bool {
        position.max(self.log_start) >= self.high_watermark
    }
}

impl Ends {
    /// The end of a partition, asked for once.
    pub(super) async fn of(
        &mut self,
        admin: &Admin,
        topic: &Arc<str>,
        partition: PartitionId,
    ) -> Result<End, ClientError> {
        if let Some(end) = self.known.get(&(Arc::clone(topic), partition)) {
            return Ok(*end);
        }
        let asked = BTreeMap::from([(partition, Start::Last(0))]);
        let found = admin.list_offsets(topic, &asked).await?;
        let found = found
            .get(&partition)
            .ok_or_else(|| ClientError::UnknownPartition { topic: Arc::clone(topic), partition })?;
        let (log_start, high_watermark) = (found.log_start_offset, found.high_watermark);
        let end = End { log_start, high_watermark };
        self.known.insert((Arc::clone(topic), partition), end);
        Ok(end)
    }

    /// Asks for the ends of all partitions of topics that are named, before anything is read.
    pub(super) async fn of_topics(
        &mut self,
        admin: &Admin,
        topics: &[String],
    ) -> Result<(), ClientError> {
        for topic in topics {
            let name: Arc<str> = topic.as_str().into();
            for (partition, found) in admin.list_offsets(topic, &BTreeMap::new()).await? {
                let (log_start, high_watermark) = (found.log_start_offset, found.high_watermark);
                let end = End { log_start, high_watermark };
                self.known.insert((Arc::clone(&name), partition), end);
            }
        }
        Ok(())
    }

    /// The end of a partition that a member has.
    pub(super) async fn of_named(
        &mut self,
        admin: &Admin,
        named: &NamedPartition,
    ) -> Result<End, ClientError> {
        self.of(admin, &named.topic, named.partition).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(log_start: u64, high_watermark: u64) -> End {
        End { log_start: Offset::new(log_start), high_watermark: Offset::new(high_watermark) }
    }

    #[test]
    fn a_partition_is_read_when_the_position_is_at_its_end() {
        assert!(!end(0, 5).is_reached(Offset::new(4)));
        assert!(end(0, 5).is_reached(Offset::new(5)));
        assert!(end(0, 5).is_before(Offset::new(5)));
        assert!(!end(0, 5).is_before(Offset::new(4)));
    }

    #[test]
    fn what_retention_removed_need_not_be_read() {
        assert!(end(100, 100).is_reached(Offset::new(7)));
        assert!(!end(99, 100).is_reached(Offset::new(7)));
    }
}
