//! A partition's log as clients see it. Together with the log's own index, this is the one place
//! where offsets meet log indexes.

use std::sync::Arc;

use bytes::Bytes;
use duramen_env::planted::{Planted, is_planted};
use duramen_log::{Frame, FrameHeader, LogError, LogOptions, SegmentInfo};
use duramen_types::{LogIndex, Offset, Term, Timestamp};
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::group::Group;
use crate::producers::{BatchId, Check};

/// Stored batches of a partition.
#[derive(Clone, Debug, Default)]
pub struct FetchedBatches {
    /// Record batches back to back, one item per log entry. The first may begin before the offset
    /// that was asked for.
    pub batches: Vec<Bytes>,
    /// One past the last record in them.
    pub next_offset: Offset,
}

/// Where retention would put the log's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimTarget {
    /// The first index to keep.
    pub index: LogIndex,
    /// Bytes that would go.
    pub bytes: u64,
}

impl Group {
    /// Reads committed batches from the one that holds `offset` on: at least one if there is any,
    /// then up to a number of bytes. May read the disk.
    ///
    /// # Errors
    /// [`LogError`]; an offset below the log start is `OffsetOutOfRange`.
    pub async fn read(&self, offset: Offset, bytes_max: u64) -> Result<FetchedBatches, LogError> {
        let mut progress = *self.progress().borrow();
        if is_planted(Planted::ServeAboveHighWatermark) {
            progress.high_watermark = self.replica.log.end_offset();
            progress.applied_end = self.replica.log.end_index();
        }
        if offset >= progress.high_watermark {
            return Ok(FetchedBatches { batches: Vec::new(), next_offset: offset });
        }
        let below = progress.applied_end;
        let replica = Arc::clone(&self.replica);
        let now = replica.env.clock.monotonic();
        let log = &replica.log;
        let frames = if log.is_offset_cached(offset) || log.is_offset_warm(offset, now) {
            log.read_at_offset(offset, below, bytes_max, now)
        } else {
            let reading = move || replica.log.read_at_offset(offset, below, bytes_max, now);
            self.replica.env.tasks.blocking("fetch-read", reading).await
        }?;
        Ok(fetched(offset, frames))
    }

    /// The committed frame whose batches hold the first record that is not older than a time, or
    /// `None` if all are older. May read the disk.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn find_timestamp(
        &self,
        time: Timestamp,
    ) -> Result<Option<(Offset, Bytes)>, LogError> {
        let below = self.progress().borrow().applied_end;
        let replica = Arc::clone(&self.replica);
        let finding = move || {
            let Some(header) = replica.log.find_timestamp(time, below)? else { return Ok(None) };
            let frames = replica.log.read(header.index, header.index.next(), 0)?;
            Ok(frames.into_iter().next().map(|frame| (header.base_offset, frame.payload)))
        };
        self.replica.env.tasks.blocking("find-timestamp", finding).await
    }

    /// By which leader and when the record at an offset was appended, if it is kept. May read the
    /// disk.
    pub async fn appended_at(&self, offset: Offset) -> Option<(Term, Timestamp)> {
        let replica = Arc::clone(&self.replica);
        let finding = move || replica.log.frame_for_offset(offset);
        let header = if self.replica.log.is_offset_cached(offset) {
            finding()
        } else {
            self.replica.env.tasks.blocking("find-offset", finding).await
        };
        header.ok().flatten().map(|header| (header.term, header.append_time))
    }

    /// Compares a batch with what its producer appended.
    #[must_use]
    pub fn check_producer(&self, batch: &BatchId) -> Check {
        self.replica.lock_tracker(|tracker| tracker.producers.check(batch))
    }

    /// Changes how the log behaves from here on.
    pub fn set_log_options(&self, options: LogOptions) {
        self.replica.log.set_options(options);
    }

    /// Seals the active segment if its first entry is older than a time, so that retention by time
    /// also reaches a partition that takes no more records.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn roll_if_older(&self, time: Timestamp) -> Result<(), LogError> {
        let segments = self.replica.log.segments();
        match segments.last() {
            Some(active) if !active.sealed && active.end_offset > active.base_offset => {
                if active.last_append_time < time { self.replica.log.roll() } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Where the log may start when records appended before a time may go, and when no more than a
    /// number of bytes are to be kept; `None` if nothing may go. Only whole sealed segments whose
    /// entries are all committed go.
    #[must_use]
    pub fn trim_target(&self, before: Option<Timestamp>, bytes: Option<u64>) -> Option<TrimTarget> {
        let committed_end = self.progress().borrow().applied_end;
        let segments = self.replica.log.segments();
        let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut trimmed = 0;
        let mut target = None;
        for segment in segments.iter().filter(|segment| segment.sealed) {
            let too_old = before.is_some_and(|time| segment.last_append_time < time);
            let too_much =
                bytes.is_some_and(|bytes| total.saturating_sub(trimmed + segment.bytes) >= bytes);
            let end = segment.last_index.next();
            if !(too_old || too_much) || end > committed_end {
                break;
            }
            trimmed += segment.bytes;
            target = Some(TrimTarget { index: end, bytes: trimmed });
        }
        target
    }

    /// The segments of the log, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.replica.log.segments()
    }

    /// Bytes of the log's segments.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.bytes).sum()
    }

    /// One past the last index in the log.
    #[must_use]
    pub fn log_end(&self) -> LogIndex {
        self.replica.log.end_index()
    }

    /// Reads committed entries from an index (or the log's start) to another one and checks them;
    /// gives where to go on, which is `from` itself while what follows is not committed, or `None` at
    /// the end. Reads the disk.
    ///
    /// # Errors
    /// [`LogError`]; of kind `Corrupt` where the log does not check.
    pub async fn scrub(
        &self,
        from: LogIndex,
        end: LogIndex,
        bytes_max: u64,
    ) -> Result<Option<LogIndex>, LogError> {
        let committed = self.progress().borrow().applied_end;
        let replica = Arc::clone(&self.replica);
        let reading = move || {
            let from = from.max(replica.log.start().first_index);
            // Truncated meanwhile, perhaps.
            let end = end.min(replica.log.end_index());
            if from >= end {
                return Ok(None);
            }
            if from >= committed {
                return Ok(Some(from));
            }
            let frames = replica.log.read(from, end.min(committed), bytes_max)?;
            Ok(frames.last().map(|frame| frame.header.index.next()))
        };
        self.replica.env.tasks.blocking("scrub", reading).await
    }

    /// How many voters have a committed entry on disk for sure, and how many voters there are.
    #[must_use]
    pub fn quorum(&self) -> (u32, u32) {
        let metrics = self.server().borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids().count();
        let voters = u32::try_from(voters).unwrap_or(u32::MAX);
        (voters / 2 + 1, voters)
    }

    /// Index and chain hash of the log's last entry; two replicas with the same pair have the same
    /// history.
    #[must_use]
    pub fn log_tip(&self) -> (LogIndex, u64) {
        let log = &self.replica.log;
        (log.end_index().prev().unwrap_or_default(), log.chain_at_end())
    }
}

fn fetched(offset: Offset, frames: Vec<Frame>) -> FetchedBatches {
    let next_offset = frames.last().map_or(offset, |frame| FrameHeader::end_offset(&frame.header));
    let batches = frames.into_iter().map(|frame| frame.payload).collect();
    FetchedBatches { batches, next_offset }
}
