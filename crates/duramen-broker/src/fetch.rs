//! Fetch: committed batches of one partition, from a position on, up to the high watermark.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duramen_log::LogError;
use duramen_raft::Progress;
use duramen_record::split_batches;
use duramen_types::{MetadataIndex, Offset, PartitionId, Term, Timestamp, TopicId, TopicPartition};
use tokio::time::Instant;

use crate::authorize::{Caller, Operation, Resource};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits;
use crate::member::{Found, Member};
use crate::metrics;
use crate::partition::PartitionHandle;

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The record of this offset; at the high watermark: what comes next.
    Offset(Offset),
    /// The first record whose timestamp is at least this.
    Timestamp(Timestamp),
    /// The first record kept.
    First,
    /// This many records before the high watermark.
    Last(u64),
}

/// A partition as a read names it.
#[derive(Clone, Debug)]
pub struct PartitionName {
    /// The topic's name.
    pub topic: String,
    /// Its id; nil = whatever topic has the name.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Wait until this much of the metadata is known here.
    pub metadata_index: MetadataIndex,
}

/// How much to read, and how long to wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchLimits {
    /// Stop after about this many bytes; 0 = 1 MiB.
    pub bytes_max: u64,
    /// Wait until this many bytes are there; 0 = 1.
    pub bytes_min: u64,
    /// Wait this long; zero = not at all.
    pub wait_max: Duration,
}

impl FetchLimits {
    /// After about how many bytes to stop.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        match self.bytes_max {
            0 => limits::FETCH_BYTES_DEFAULT,
            bytes => bytes.min(limits::FETCH_BYTES_MAX),
        }
    }
}

/// What a fetch gives.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The leader's term.
    pub leader_epoch: Term,
    /// First offset kept.
    pub log_start_offset: Offset,
    /// One past the last committed.
    pub high_watermark: Offset,
    /// Where the data begins: earlier records in the first batch are to be skipped.
    pub start_offset: Offset,
    /// One past the last record given.
    pub next_offset: Offset,
    /// Batches back to back, an item per log entry; empty if nothing came in time.
    pub batches: Vec<Bytes>,
}

impl Fetched {
    /// Its first part, of about so many bytes but of a batch at least, and the rest, where a single
    /// entry is more than that. Batches that end before the start go.
    ///
    /// # Errors
    /// If its batches cannot be read.
    pub fn cut(mut self, bytes_max: u64) -> Result<(Self, Option<Self>), BrokerError> {
        let entry = match &self.batches[..] {
            [entry] if entry.len() as u64 > bytes_max => entry.clone(),
            _ => return Ok((self, None)),
        };
        let (mut begin, mut end, mut next_offset) = (0, 0, self.start_offset);
        for batch in split_batches(entry.clone()) {
            let batch = batch?;
            let after = end + batch.bytes().len();
            if batch.header().next_offset() <= self.start_offset {
                begin = after;
            } else if end > begin && (after - begin) as u64 > bytes_max {
                let batches = vec![entry.slice(end..)];
                let rest = Self { start_offset: next_offset, batches, ..self };
                (self.next_offset, self.batches) = (next_offset, vec![entry.slice(begin..end)]);
                return Ok((self, Some(rest)));
            } else {
                next_offset = batch.header().next_offset();
            }
            end = after;
        }
        self.batches = vec![entry.slice(begin..)];
        Ok((self, None))
    }
}

/// Where a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The position's offset.
    pub offset: Offset,
    /// First offset kept.
    pub log_start_offset: Offset,
    /// One past the last committed.
    pub high_watermark: Offset,
    /// The leader's term.
    pub leader_epoch: Term,
}

/// A partition that a caller reads: found, authorized, and led by this node.
#[derive(Debug)]
pub struct Reader {
    member: Arc<Member>,
    id: TopicPartition,
    handle: Arc<PartitionHandle>,
    topic_id: TopicId,
    term: Term,
}

impl Broker {
    /// Opens a partition that this node leads for reading.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn reader(
        &self,
        caller: &Caller,
        name: &PartitionName,
    ) -> Result<Reader, BrokerError> {
        let resource = Resource::Topic(&name.topic);
        let member = self.admit_at(caller, Operation::Fetch, resource, name.metadata_index).await?;
        let found = member.find_for_clients(&name.topic, name.topic_id, name.partition)?;
        Reader::open(member, &found)
    }
}

impl Reader {
    fn open(member: &Arc<Member>, found: &Found) -> Result<Self, BrokerError> {
        let handle = member.led(found)?;
        let term = handle.group.serving_term().ok_or(BrokerError::NoLeader)?;
        let member = Arc::clone(member);
        Ok(Self { member, id: found.id, handle, topic_id: found.id.topic, term })
    }

    /// The topic's id.
    #[must_use]
    pub const fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Where a position is now.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn locate(&self, position: Position) -> Result<ListedOffset, BrokerError> {
        self.check_leader()?;
        let progress = self.progress();
        let offset = match position {
            Position::Offset(offset) => offset,
            Position::First => progress.log_start_offset,
            Position::Last(count) => {
                progress.high_watermark.saturating_sub(count).max(progress.log_start_offset)
            }
            Position::Timestamp(time) => self.find(time, progress).await?,
        };
        Ok(ListedOffset {
            offset,
            log_start_offset: progress.log_start_offset,
            high_watermark: progress.high_watermark,
            leader_epoch: self.term,
        })
    }

    async fn find(&self, time: Timestamp, progress: Progress) -> Result<Offset, BrokerError> {
        let found = self.handle.group.find_timestamp(time).await;
        let found = found.map_err(|error| self.storage(&error))?;
        let Some((base_offset, batches)) = found else { return Ok(progress.high_watermark) };
        for batch in split_batches(batches) {
            let batch = batch?;
            if batch.header().max_timestamp < time {
                continue;
            }
            let payload = batch.payload(limits::DECOMPRESSED_BYTES_MAX)?;
            for record in batch.records(&payload) {
                let record = record?;
                if record.timestamp >= time && record.offset >= progress.log_start_offset {
                    return Ok(record.offset);
                }
            }
        }
        Ok(base_offset.max(progress.log_start_offset))
    }

    /// Reads from an offset on, waiting for records if there are none yet.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn fetch(&self, offset: Offset, wanted: FetchLimits) -> Result<Fetched, BrokerError> {
        let bytes_max = wanted.most_bytes();
        let bytes_min = wanted.bytes_min.clamp(1, bytes_max);
        let deadline = Instant::now() + wanted.wait_max.min(limits::FETCH_WAIT_MAX);
        let mut progress = self.handle.group.progress();
        loop {
            self.check_leader()?;
            let now = *progress.borrow_and_update();
            self.check_range(offset, now)?;
            let fetched = self.handle.group.read(offset, bytes_max).await;
            let fetched = fetched.map_err(|error| self.storage(&error))?;
            let bytes: usize = fetched.batches.iter().map(Bytes::len).sum();
            let enough = bytes as u64 >= bytes_min;
            if enough || Instant::now() >= deadline {
                metrics::fetched(bytes);
                return Ok(Fetched {
                    topic_id: self.topic_id,
                    leader_epoch: self.term,
                    log_start_offset: now.log_start_offset,
                    high_watermark: now.high_watermark,
                    start_offset: offset,
                    next_offset: fetched.next_offset,
                    batches: fetched.batches,
                });
            }
            // A change of leader shows as a change of progress or as the end of this wait.
            let wait = deadline.min(Instant::now() + Duration::from_millis(500));
            if let Ok(Err(_)) = tokio::time::timeout_at(wait, progress.changed()).await {
                return Err(BrokerError::NoLeader);
            }
        }
    }

    fn check_range(&self, offset: Offset, now: Progress) -> Result<(), BrokerError> {
        if offset < now.log_start_offset || offset > now.high_watermark {
            return Err(BrokerError::OffsetOutOfRange {
                offset,
                log_start_offset: now.log_start_offset,
                high_watermark: now.high_watermark,
            });
        }
        Ok(())
    }

    fn check_leader(&self) -> Result<(), BrokerError> {
        // An elected leader of a later term would serve as well, but the caller's epoch changed.
        if self.handle.group.serving_term() == Some(self.term) {
            return Ok(());
        }
        Err(BrokerError::NoLeader)
    }

    /// A log that does not check takes its replica out: another one leads then.
    fn storage(&self, error: &LogError) -> BrokerError {
        let reason = error.to_string();
        if error.kind() == duramen_log::ErrorKind::Corrupt {
            self.member.take_out(self.id, self.handle.group.replica(), reason.clone());
            return BrokerError::CorruptReplica { reason };
        }
        BrokerError::Storage { reason }
    }

    fn progress(&self) -> Progress {
        *self.handle.group.progress().borrow()
    }
}

#[cfg(test)]
mod tests {
    use duramen_record::stamp;

    use super::*;
    use crate::produce::build;
    use crate::record::PlainRecord;

    #[test]
    fn a_large_entry_is_given_in_parts_that_end_with_batches() {
        let mut entry = Vec::new();
        for base in [10, 13, 16, 19] {
            let records = vec![PlainRecord::default(); 3];
            let mut batch = build(&records, None, Timestamp::EPOCH).unwrap().to_vec();
            stamp(&mut batch, Offset::new(base), Term::new(1)).unwrap();
            entry.append(&mut batch);
        }
        let size = entry.len() / 4;
        let fetched = |from| Fetched {
            topic_id: TopicId::NIL,
            leader_epoch: Term::new(1),
            log_start_offset: Offset::ZERO,
            high_watermark: Offset::new(22),
            start_offset: Offset::new(from),
            next_offset: Offset::new(22),
            batches: vec![entry.clone().into()],
        };
        // Each part's offsets, and its batches.
        type Parts = &'static [(u64, u64, std::ops::Range<usize>)];
        let cases: [(u64, usize, Parts); 5] = [
            (10, 4 * size, &[(10, 22, 0..4)]),
            (10, 4 * size - 1, &[(10, 19, 0..3), (19, 22, 3..4)]),
            (12, 2 * size, &[(12, 16, 0..2), (16, 22, 2..4)]),
            (13, 2 * size, &[(13, 19, 1..3), (19, 22, 3..4)]),
            (18, 1, &[(18, 19, 2..3), (19, 22, 3..4)]),
        ];
        for (from, bytes_max, expected) in cases {
            let mut rest = Some(fetched(from));
            for (start, next, batches) in expected {
                let (part, more) = rest.take().unwrap().cut(bytes_max as u64).unwrap();
                assert_eq!(part.start_offset, Offset::new(*start));
                assert_eq!(part.next_offset, Offset::new(*next), "from {from}");
                assert_eq!(part.batches[0], entry[batches.start * size..batches.end * size]);
                rest = more;
            }
            assert!(rest.is_none(), "from {from}, {bytes_max} bytes");
        }
        // A fault gives again what ends before the start: nothing of that is left.
        let after = Fetched { next_offset: Offset::new(30), ..fetched(30) };
        let (part, rest) = after.cut(1).unwrap();
        assert!(part.batches[0].is_empty() && rest.is_none());
        assert_eq!(part.next_offset, Offset::new(30));
    }
}
