//! Where a group consumer reads: its partitions, their positions, and moving them.

use duramen_types::{Offset, PartitionId, TopicPartition};

use super::GroupConsumer;
use super::part::{Part, Stage};
use crate::{ClientError, NamedPartition, Start};

impl GroupConsumer {
    /// The partitions that it reads now.
    #[must_use]
    pub fn assignment(&self) -> Vec<NamedPartition> {
        let core = self.shared.lock();
        let granted = core.parts.values().filter(|part| !part.revoked);
        granted.map(|part| part.name.clone()).collect()
    }

    /// Where the next record of a partition is sought; `None` while that is looked up.
    ///
    /// # Errors
    /// [`ClientError::NotAssigned`].
    pub fn position(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<Option<Offset>, ClientError> {
        let core = self.shared.lock();
        let part = core.find(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
        if part.stage == Stage::Locating {
            return Ok(None);
        }
        let current = self.current.as_ref().filter(|current| current.life == part.life);
        let position = current.map(|current| current.records.next_offset());
        Ok(Some(position.unwrap_or_else(|| part.slot.position())))
    }

    /// Gives nothing of a partition until it is resumed. It stays this member's, and is fetched
    /// until its share of the buffer is full.
    ///
    /// # Errors
    /// [`ClientError::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: PartitionId) -> Result<(), ClientError> {
        self.set_paused(topic, partition, true)
    }

    /// Goes on with a partition that was paused.
    ///
    /// # Errors
    /// [`ClientError::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: PartitionId) -> Result<(), ClientError> {
        self.set_paused(topic, partition, false)
    }

    fn set_paused(
        &mut self,
        topic: &str,
        partition: PartitionId,
        paused: bool,
    ) -> Result<(), ClientError> {
        let mut core = self.shared.lock();
        let found = core.find(topic, partition).map(|part| part.name.clone());
        let name = found.ok_or_else(|| not_assigned(topic, partition))?;
        let key = TopicPartition { topic: name.topic_id, partition };
        let Some(part) = core.parts.get_mut(&key) else { return Ok(()) };
        part.paused = paused;
        part.slot.set_paused(paused);
        let life = part.life;
        if paused && let Some(current) = self.current.take_if(|current| current.life == life) {
            current.slot.put_back(current.records.into_batch());
        }
        Ok(())
    }

    /// Goes on elsewhere in a partition; also starts one again that has failed. Records of it that
    /// are out say nothing any more. Committed is never an offset below the one that is committed
    /// already: only a reset of the group goes back.
    ///
    /// # Errors
    /// [`ClientError::NotAssigned`], or no answer in time about where the place is.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: PartitionId,
        start: Start,
    ) -> Result<(), ClientError> {
        let not_assigned = || not_assigned(topic, partition);
        let found = self.shared.lock().find(topic, partition).map(Part::pinned);
        let pinned = found.ok_or_else(not_assigned)?;
        let to = match start {
            Start::Offset(offset) => offset,
            _ => {
                let asked = [(partition, start)].into();
                let found = self.shared.terms.cluster.list_offsets(&pinned, &asked).await?;
                found.get(&partition).map(|found| found.offset).unwrap_or_default()
            }
        };
        let key = TopicPartition { topic: pinned.id, partition };
        let mut core = self.shared.lock();
        if !core.moved(key, to) {
            return Err(not_assigned());
        }
        if let Some(part) = core.parts.get(&key) {
            part.slot.begin(to, start == Start::First);
        }
        self.current.take_if(|current| current.key == key);
        self.last.take_if(|(last, ..)| *last == key);
        Ok(())
    }
}

fn not_assigned(topic: &str, partition: PartitionId) -> ClientError {
    ClientError::NotAssigned { topic: topic.into(), partition }
}
