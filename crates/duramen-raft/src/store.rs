//! openraft's log storage on top of the segment log.
//!
//! An append writes and returns; the completion is reported when a sync covered it and everything
//! before it. Offsets and leader epochs are stamped here, as a pure function of the log before.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use duramen_env::planted::{Planted, is_planted};
use duramen_env::witness::Deed;
use duramen_log::{Frame, FrameHeader, FrameKind, NewFrame};
use duramen_record::{BatchHeader, stamp};
use duramen_types::{LogIndex, Offset, ReplicaId, Term, Timestamp};
use futures::{Stream, StreamExt as _};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::entry;
use crate::limits;
use crate::metrics;
use crate::replica::{self, Replica};
use crate::snapshot::SnapshotFile;
use crate::tracker::{self, Tracker};
use crate::types::{Entry, LogId, LogPayload, Proposal, TypeConfig, Vote, log_id, term_of};
use crate::wire;

/// Headers read at a time for apply.
const HEADERS_AT_A_TIME: usize = 1_024;

/// The log storage of one replica.
#[derive(Clone)]
pub(crate) struct LogStore {
    replica: Arc<Replica>,
}

impl LogStore {
    pub(crate) const fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }

    fn write(&self, entries: Vec<Entry>) -> io::Result<()> {
        let started = self.replica.env.clock.monotonic();
        let mut bytes = 0;
        if entries.iter().all(|entry| entry.frame.is_some()) {
            let frames: Vec<Frame> = entries.into_iter().filter_map(|entry| entry.frame).collect();
            bytes += self.append_received(&frames)?;
        } else {
            for entry in entries {
                bytes += self.append_own(entry)?;
            }
        }
        let took = self.replica.env.clock.monotonic().saturating_sub(started);
        metrics::appended(bytes, took);
        Ok(())
    }

    /// Appends what a leader sent, unchanged; gives the bytes of payload.
    fn append_received(&self, frames: &[Frame]) -> io::Result<usize> {
        let log = &self.replica.log;
        let active = log.active_first_index();
        log.append_canonical(frames).map_err(|error| self.replica.io_error(error))?;
        for frame in frames {
            let is_forgotten = is_planted(Planted::ForgetProducers);
            if is_forgotten && matches!(frame.header.kind, FrameKind::Data) {
                continue;
            }
            self.track(frame, active)?;
        }
        Ok(frames.iter().map(|frame| frame.payload.len()).sum())
    }

    /// Appends an entry of this leader, stamped; gives the bytes of payload.
    fn append_own(&self, entry: Entry) -> io::Result<usize> {
        let log = &self.replica.log;
        let active = log.active_first_index();
        let new = self.new_frame(entry)?;
        if matches!(new.kind, FrameKind::Internal(entry::BLANK)) {
            self.replica.tell(Deed::Led { term: new.term });
        }
        let bytes = new.payload.len();
        let index = new.index;
        log.append(&[new]).map_err(|error| self.replica.io_error(error))?;
        let appended = log.read(index, index.next(), 0);
        for frame in appended.map_err(|error| self.replica.io_error(error))? {
            self.track(&frame, active)?;
        }
        Ok(bytes)
    }

    /// Takes an appended frame into account; where a segment ends, a checkpoint is taken.
    fn track(&self, frame: &Frame, active_before: LogIndex) -> io::Result<()> {
        let replica = &self.replica;
        replica.lock_tracker(|tracker| tracker.appended(frame)).map_err(io::Error::other)?;
        let active = replica.log.active_first_index();
        if active != active_before && frame.header.index.next() == active {
            replica.offer_checkpoint(&frame.header);
        }
        Ok(())
    }

    fn new_frame(&self, entry: Entry) -> io::Result<NewFrame> {
        let log = &self.replica.log;
        let term = term_of(&entry.log_id);
        let (kind, payload, records, max_timestamp) = match entry.payload {
            LogPayload::Blank => {
                (FrameKind::Internal(entry::BLANK), Bytes::new(), 0, Timestamp::MIN)
            }
            LogPayload::Membership(membership) => {
                let payload = wire::encode_membership(&membership);
                (FrameKind::Internal(entry::MEMBERSHIP), payload, 0, Timestamp::MIN)
            }
            LogPayload::Proposed(proposal) => match entry::kind_of(&proposal) {
                FrameKind::Data if !self.continues(&proposal)? => {
                    (FrameKind::Internal(entry::REJECTED), Bytes::new(), 0, Timestamp::MIN)
                }
                FrameKind::Data => {
                    let (records, max_timestamp) = (proposal.records, proposal.max_timestamp);
                    let payload = stamped(proposal, log.end_offset(), term)?;
                    (FrameKind::Data, payload, records, max_timestamp)
                }
                kind @ FrameKind::Internal(_) => (kind, proposal.payload, 0, Timestamp::MIN),
            },
            LogPayload::Stored => return Err(io::Error::other("a stored entry proposed anew")),
        };
        Ok(NewFrame {
            kind,
            term,
            leader: self.replica.node,
            index: LogIndex::new(entry.log_id.index),
            records,
            append_time: self.replica.env.clock.now(),
            max_timestamp,
            payload,
        })
    }

    /// Whether every batch of a proposal is the next one of its producer. It was, when it was
    /// proposed; but an entry proposed before it may have been refused since (its leader's lease
    /// had run out for a moment), and a log must not have a gap in a producer's sequence.
    fn continues(&self, proposal: &Proposal) -> io::Result<bool> {
        let runs = tracker::runs(&proposal.payload).map(|run| run.map(|(run, _)| run));
        let runs: Vec<_> = runs.collect::<Result<_, _>>().map_err(io::Error::other)?;
        Ok(self.replica.lock_tracker(|tracker| tracker.producers.accepts(&runs)))
    }

    /// Reads whole entries; at least one, then up to a number of bytes. May read the disk.
    async fn read(&self, start: u64, end: u64, bytes: u64) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (start, end) = (LogIndex::new(start), LogIndex::new(end));
        let replica = Arc::clone(&self.replica);
        let frames = if replica.log.is_cached(start) {
            replica.log.read(start, end, bytes)
        } else {
            let reading = move || replica.log.read(start, end, bytes);
            self.replica.env.tasks.blocking("log-read", reading).await
        };
        let frames = frames.map_err(|error| self.replica.io_error(error))?;
        frames.into_iter().map(|frame| entry::from_frame(frame).map_err(io::Error::other)).collect()
    }

    /// Reads entries as apply needs them: without the payload where the header says all.
    async fn read_stubs(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if self.replica.machine.is_some() {
            return self.read(start, end, limits::APPEND_BYTES_MAX).await;
        }
        let (first, last) = (LogIndex::new(start), LogIndex::new(end));
        let headers = self.replica.log.read_headers(first, last, HEADERS_AT_A_TIME);
        let headers = headers.map_err(|error| self.replica.io_error(error))?;
        let mut entries = Vec::with_capacity(headers.len());
        for header in headers {
            let index = header.index.get();
            if entry::apply_needs_payload(header.kind) {
                entries.extend(self.read(index, index + 1, 0).await?);
            } else {
                entries.push(stub(header));
            }
        }
        Ok(entries)
    }

    fn range<R: RangeBounds<u64>>(&self, range: &R) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => self.replica.log.start().first_index.get(),
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        (start, end.min(self.replica.log.end_index().get()))
    }
}

/// An entry of which only the header is known.
fn stub(header: FrameHeader) -> Entry {
    let payload = match header.kind {
        FrameKind::Internal(entry::BLANK) => LogPayload::Blank,
        _ => LogPayload::Stored,
    };
    let log_id = log_id(header.term, header.index);
    Entry { log_id, payload, frame: Some(Frame { header, payload: Bytes::new() }) }
}

/// Writes offset and leader epoch into the batches of a proposal, in place where nobody else
/// holds its bytes.
fn stamped(proposal: Proposal, base: Offset, term: Term) -> io::Result<Bytes> {
    let mut payload = match proposal.payload.try_into_mut() {
        Ok(payload) => payload,
        Err(shared) => BytesMut::from(&shared[..]),
    };
    let mut rest = &mut payload[..];
    let mut offset = base;
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).map_err(io::Error::other)?;
        if header.size_bytes > rest.len() {
            return Err(io::Error::other("a proposal ends within a batch"));
        }
        let (batch, after) = rest.split_at_mut(header.size_bytes);
        stamp(batch, offset, term).map_err(io::Error::other)?;
        offset = offset.saturating_add(u64::from(header.record_count));
        rest = after;
    }
    Ok(payload.freeze())
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = self.range(&range);
        // What is purged may be missing here; the readers that must not miss any say so.
        let mut start = start.max(self.replica.log.start().first_index.get());
        let mut entries = Vec::new();
        while start < end {
            let more = self.read_stubs(start, end).await?;
            start += more.len() as u64;
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = self.range(&range);
        let store = self.clone();
        let chunks = futures::stream::unfold((store, start), move |(store, start)| async move {
            if start >= end {
                return None;
            }
            match store.read_stubs(start, end).await {
                Ok(entries) => {
                    let next = start + entries.len() as u64;
                    let entries: Vec<_> = entries.into_iter().map(Ok).collect();
                    Some((futures::stream::iter(entries), (store, next)))
                }
                Err(error) => Some((futures::stream::iter(vec![Err(error)]), (store, end))),
            }
        });
        chunks.flatten().boxed()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, limits::APPEND_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.replica.hard_state.get(self.replica.group, self.replica.id))
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> io::Result<Vec<LogId>> {
        // The last log id of each term, as openraft's own search gives them.
        let (first, last) = (*range.start(), *range.end());
        let mut ids = Vec::new();
        let mut term = term_of(&first);
        for (next_term, start) in self.replica.log.terms() {
            if start.get() > first.index && start.get() <= last.index && next_term != term {
                ids.push(log_id(term, start.prev().unwrap_or_default()));
                term = next_term;
            }
        }
        ids.push(last);
        Ok(ids)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = replica::before(&self.replica.log.start());
        let last = self.replica.log.last().map(|(term, index)| log_id(term, index));
        Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let replica = &self.replica;
        let saved = replica.hard_state.save(replica.group, replica.id, *vote).await;
        saved.inspect_err(|error| {
            replica.fail_stop.fail(format!("a vote could not be saved: {error}"));
        })?;
        let candidate = ReplicaId::new(vote.leader_id.voted_for);
        let (term, elected) = (Term::new(vote.leader_id.term), vote.committed);
        replica.tell(Deed::Voted { term, candidate, elected });
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = committed
            && let Some(last) = self.replica.log.end_index().prev()
        {
            self.replica.log.set_committed(LogIndex::new(id.index).min(last));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let log = &self.replica.log;
        let (Some(committed), Some((_, last))) = (log.committed_index(), log.last()) else {
            return Ok(None);
        };
        let index = committed.min(last);
        if index < log.start().first_index {
            return Ok(replica::before(&log.start()));
        }
        let header = log.header_at(index).map_err(|error| self.replica.io_error(error))?;
        Ok(Some(log_id(header.term, index)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let last = entries.last().map(|entry| entry.log_id);
        self.write(entries)?;
        let replica = Arc::clone(&self.replica);
        let report = move |outcome: Result<(), Arc<io::Error>>| {
            if let (Ok(()), Some(id)) = (&outcome, last) {
                let (last, term) = (LogIndex::new(id.index), term_of(&id));
                replica.tell(Deed::Acknowledged { last, term });
            }
            let outcome = outcome.map_err(|error| {
                let group = replica.group;
                replica.fail_stop.fail(format!("could not sync the log of {group}: {error}"));
                io::Error::new(error.kind(), error)
            });
            callback.io_completed(outcome);
        };
        if is_planted(Planted::AcknowledgeBeforeSync) {
            report(Ok(()));
            self.replica.commit.request(Box::new(|_| {}));
        } else {
            self.replica.commit.request(Box::new(report));
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let replica = Arc::clone(&self.replica);
        let last = last.map(|id| LogIndex::new(id.index));
        let truncating = move || {
            let from = last.map_or(LogIndex::ZERO, LogIndex::next);
            replica.tell(Deed::Truncated { from });
            replica.log.truncate_after(last).map_err(|error| replica.io_error(error))?;
            let tracker = replica.tracker_before(replica.log.end_index())?;
            replica.truncated(tracker);
            Ok(())
        };
        self.replica.env.tasks.blocking("log-truncate", truncating).await
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let replica = Arc::clone(&self.replica);
        let purging = move || purge(&replica, id);
        self.replica.env.tasks.blocking("log-purge", purging).await
    }
}

/// Moves the log's start to after an entry.
fn purge(replica: &Replica, mut id: LogId) -> io::Result<()> {
    if is_planted(Planted::TrimAboveCommit)
        && let Some((term, last)) = replica.log.last()
    {
        id = log_id(term, last);
    }
    let first = LogIndex::new(id.index + 1);
    if replica.log.start().first_index >= first {
        return Ok(());
    }
    if replica.log.end_index() < first {
        let snapshot = replica.snapshot()?.filter(|snapshot| snapshot.end_index() == first);
        let snapshot = snapshot.ok_or_else(|| {
            io::Error::other("asked to continue after an entry of which there is no snapshot")
        })?;
        return reset(replica, &snapshot);
    }
    // A snapshot holds nothing but committed entries; what the log remembers of that after a crash
    // may lag behind the snapshot.
    replica.log.set_committed(LogIndex::new(id.index));
    let start = replica.log_start_at(first)?;
    replica.log.trim_to(start).map_err(|error| replica.io_error(error))?;
    replica.log_start_moved();
    replica.log.remove_garbage().map_err(|error| replica.io_error(error))?;
    Ok(())
}

/// Drops the log and continues after a snapshot.
pub(crate) fn reset(replica: &Replica, snapshot: &SnapshotFile) -> io::Result<()> {
    let start = snapshot.log_start(replica.machine.is_none());
    let tracker = Tracker::decode(&start.state).map_err(io::Error::other)?;
    replica.tell(Deed::Truncated { from: start.first_index });
    replica.log.reset_to(start).map_err(|error| replica.io_error(error))?;
    replica.truncated(tracker);
    replica.log_start_moved();
    Ok(())
}
