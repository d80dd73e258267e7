//! openraft's state machine: for partitions it only moves the high watermark, for other groups it
//! applies commands.
//!
//! Applying a committed entry yields an outcome that is the same on every replica, or stops the
//! node; nothing in between.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use duramen_log::{Frame, FrameKind};
use duramen_types::{LogIndex, MetadataIndex, Term};
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use crate::entry;
use crate::replica::{Opened, Replica, before, lock};
use crate::snapshot::SnapshotFile;
use crate::store;
use crate::types::{Applied, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, log_id};

/// The state machine of a group that is not a partition.
///
/// All calls for one group come from one place, in order.
pub trait StateMachine: Send + 'static {
    /// Applies a committed command and gives its outcome, encoded. It draws nothing: no clock, no
    /// randomness. A command that cannot be read has an outcome too.
    fn apply(&mut self, index: MetadataIndex, command: &[u8]) -> Bytes;

    /// The whole state, encoded.
    fn snapshot(&self) -> Bytes;

    /// Whether an encoded state can be read; changes nothing.
    ///
    /// # Errors
    /// If [`Self::restore`] could not take it over.
    fn check(&self, state: &[u8]) -> Result<(), RestoreError>;

    /// Takes over an encoded state.
    ///
    /// # Errors
    /// If it cannot be read; the node stops.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;

    /// Everything up to this index is applied; called after each batch, also for entries that are
    /// no commands.
    fn advanced(&mut self, index: MetadataIndex);
}

/// An encoded state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the snapshot of a state machine")]
pub struct RestoreError {
    /// What was wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The state machine of one replica, as openraft sees it.
pub(crate) struct Machine {
    replica: Arc<Replica>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    pub(crate) fn new(replica: Arc<Replica>, opened: Opened) -> Self {
        Self { replica, applied: opened.applied, membership: opened.membership }
    }

    fn apply_one(&mut self, entry: &crate::types::Entry) -> io::Result<Applied> {
        let frame = entry.frame.as_ref().ok_or_else(|| io::Error::other("entry without frame"))?;
        let header = &frame.header;
        let index = MetadataIndex::new(header.index.get());
        self.applied = Some(entry.log_id);
        let mut outcome = Bytes::new();
        match header.kind {
            FrameKind::Internal(entry::MEMBERSHIP) => {
                if let crate::types::LogPayload::Membership(membership) = &entry.payload {
                    let id = log_id(header.term, header.index);
                    self.membership = StoredMembership::new(Some(id), membership.clone());
                }
            }
            FrameKind::Internal(entry::COMMAND) => {
                if let Some(machine) = &self.replica.machine {
                    outcome = lock(machine).apply(index, &frame.payload);
                }
            }
            FrameKind::Internal(entry::LOG_START) => self.move_log_start(frame),
            FrameKind::Data | FrameKind::Internal(_) => {}
        }
        let (base_offset, append_time) = (header.base_offset, header.append_time);
        let rejected = header.kind == FrameKind::Internal(entry::REJECTED);
        Ok(Applied { base_offset, append_time, outcome, rejected, index })
    }

    fn move_log_start(&self, frame: &Frame) {
        if let Some(target) = entry::decode_log_start(&frame.payload)
            && target > self.replica.log.start().first_index
            && target <= frame.header.index
        {
            self.replica.set_log_start_target(target);
        }
    }

    fn publish(&self, last: &Frame, leader_term: Option<Term>) {
        let header = &last.header;
        if let Some(machine) = &self.replica.machine {
            lock(machine).advanced(MetadataIndex::new(header.index.get()));
        }
        self.replica.progress.send_modify(|progress| {
            progress.applied_end = header.index.next();
            progress.high_watermark = progress.high_watermark.max(header.end_offset());
            progress.leader_term = leader_term.unwrap_or(progress.leader_term);
        });
        if self.replica.has_checkpoint_waiting() {
            self.replica.wake.notify_one();
        }
    }

    fn builder(&self) -> SnapshotBuilder {
        // The state is taken now, so that it is as of `applied`; the rest happens elsewhere.
        let state = self.replica.machine.as_ref().map(|machine| lock(machine).snapshot());
        let (applied, membership) = (self.applied, self.membership.clone());
        SnapshotBuilder { replica: Arc::clone(&self.replica), applied, membership, state }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut last: Option<Frame> = None;
        let mut leader_term = None;
        let mut answers = Vec::new();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let applied = self.apply_one(&entry)?;
            if let Some(responder) = responder {
                answers.push((responder, applied));
            }
            if let Some(frame) = entry.frame {
                if frame.header.kind == FrameKind::Internal(entry::BLANK) {
                    leader_term = Some(frame.header.term);
                }
                last = Some(frame);
            }
        }
        if let Some(last) = last {
            self.publish(&last, leader_term);
        }
        // After the high watermark moved: who was acknowledged can fetch the record at once.
        for (responder, applied) in answers {
            responder.send(applied);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> io::Result<()> {
        let snapshot = SnapshotFile::decode(&data)
            .filter(|snapshot| snapshot.last_log_id == meta.last_log_id)
            .ok_or_else(|| io::Error::other("the snapshot cannot be read"))?;
        let (last, membership) = (snapshot.last_log_id, snapshot.membership.clone());
        let replica = Arc::clone(&self.replica);
        let installing = move || install(&replica, &snapshot);
        self.replica.env.tasks.blocking("snapshot-install", installing).await?;
        self.applied = last;
        self.membership = membership;
        self.replica.progress.send_modify(|progress| {
            progress.applied_end = last.map_or(LogIndex::ZERO, |id| LogIndex::new(id.index + 1));
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let replica = Arc::clone(&self.replica);
        let reading = move || replica.snapshot();
        let snapshot = self.replica.env.tasks.blocking("snapshot-read", reading).await?;
        Ok(snapshot.map(SnapshotFile::into_raft))
    }
}

/// Stores a received snapshot and moves the log's start to it.
fn install(replica: &Replica, snapshot: &SnapshotFile) -> io::Result<()> {
    if let Some(machine) = &replica.machine {
        lock(machine).restore(&snapshot.state).map_err(io::Error::other)?;
        let last = snapshot.end_index().prev().unwrap_or_default();
        lock(machine).advanced(MetadataIndex::new(last.get()));
    }
    snapshot.save(&*replica.env.disk, &replica.dir, replica.log.identity())?;
    let first = snapshot.end_index();
    if replica.log.end_index() < first {
        return store::reset(replica, snapshot);
    }
    // The log already reaches beyond: it keeps what follows, and openraft purges the rest.
    replica.progress.send_modify(|progress| {
        progress.high_watermark = progress.high_watermark.max(snapshot.next_offset);
    });
    Ok(())
}

/// Builds one snapshot.
pub(crate) struct SnapshotBuilder {
    replica: Arc<Replica>,
    applied: Option<LogId>,
    membership: StoredMembership,
    state: Option<Bytes>,
}

impl SnapshotBuilder {
    fn build(self) -> io::Result<SnapshotFile> {
        let replica = &self.replica;
        let snapshot = match self.state {
            Some(state) => full_state(replica, self.applied, self.membership, state)?,
            None => {
                let start = replica.log.start();
                let target = replica.log_start_target().unwrap_or(start.first_index);
                if target <= start.first_index {
                    return SnapshotFile::of_log_start(&start).map_err(io::Error::other);
                }
                let start = replica.log_start_at(target)?;
                SnapshotFile::of_log_start(&start).map_err(io::Error::other)?
            }
        };
        snapshot.save(&*replica.env.disk, &replica.dir, replica.log.identity())?;
        Ok(snapshot)
    }
}

/// The snapshot of a state machine as of its last applied entry.
fn full_state(
    replica: &Replica,
    applied: Option<LogId>,
    membership: StoredMembership,
    state: Bytes,
) -> io::Result<SnapshotFile> {
    let start = replica.log.start();
    let (next_offset, chain, append_time) = match applied {
        Some(id) if applied != before(&start) => {
            let header =
                replica.log.header_at(LogIndex::new(id.index)).map_err(io::Error::other)?;
            (header.end_offset(), header.chain, header.append_time)
        }
        _ => (start.base_offset, start.prev_chain, start.prev_append_time),
    };
    Ok(SnapshotFile { last_log_id: applied, membership, next_offset, chain, append_time, state })
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let builder = Self {
            replica: Arc::clone(&self.replica),
            applied: self.applied,
            membership: self.membership.clone(),
            state: self.state.clone(),
        };
        let building = move || builder.build();
        let snapshot = self.replica.env.tasks.blocking("snapshot-build", building).await?;
        Ok(snapshot.into_raft())
    }
}
