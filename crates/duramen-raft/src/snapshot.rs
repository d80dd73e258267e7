//! A snapshot as it is stored and as it travels.
//!
//! A partition's snapshot is the small state at the log's start, so a follower that installs it
//! receives all retained records afterwards. A state machine's is its full state at last applied.

use std::io;
use std::path::Path;

use bytes::Bytes;
use duramen_env::Disk;
use duramen_log::{LogIdentity, LogStart};
use duramen_proto::internal as pb;
use duramen_types::{LogIndex, Offset, Timestamp};
use prost::Message as _;

use crate::checkpoint;
use crate::tracker::{TrackError, Tracker};
use crate::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, term_of};
use crate::{replica, wire};

const NAME: &str = "snapshot";

/// A snapshot, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SnapshotFile {
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) next_offset: Offset,
    pub(crate) chain: u64,
    pub(crate) append_time: Timestamp,
    pub(crate) state: Bytes,
}

impl SnapshotFile {
    /// The snapshot that a partition's log start is.
    pub(crate) fn of_log_start(start: &LogStart) -> Result<Self, TrackError> {
        Ok(Self {
            last_log_id: replica::before(start),
            membership: Tracker::decode(&start.state)?.membership,
            next_offset: start.base_offset,
            chain: start.prev_chain,
            append_time: start.prev_append_time,
            state: start.state.clone(),
        })
    }

    /// One past the last index that the snapshot covers.
    pub(crate) fn end_index(&self) -> LogIndex {
        self.last_log_id.map_or(LogIndex::ZERO, |id| LogIndex::new(id.index + 1))
    }

    /// Where a log that begins after this snapshot starts.
    pub(crate) fn log_start(&self, is_partition: bool) -> LogStart {
        let state = if is_partition {
            self.state.clone()
        } else {
            Tracker { membership: self.membership.clone(), ..Tracker::default() }.encode()
        };
        LogStart {
            first_index: self.end_index(),
            base_offset: self.next_offset,
            prev_term: self.last_log_id.as_ref().map(term_of),
            prev_chain: self.chain,
            prev_append_time: self.append_time,
            state,
        }
    }

    /// The snapshot as openraft passes it on.
    pub(crate) fn into_raft(self) -> Snapshot {
        let meta = SnapshotMeta {
            last_log_id: self.last_log_id,
            last_membership: self.membership.clone(),
        };
        Snapshot { meta, snapshot: self.encode() }
    }

    /// Stores it durably, in the place of an earlier one.
    pub(crate) fn save(&self, disk: &dyn Disk, dir: &Path, owner: LogIdentity) -> io::Result<()> {
        checkpoint::write(disk, dir, owner, NAME, &self.encode())
    }

    /// Reads the stored one, if there is one.
    pub(crate) fn load(
        disk: &dyn Disk,
        dir: &Path,
        owner: LogIdentity,
    ) -> io::Result<Option<Self>> {
        let Some(bytes) = checkpoint::read(disk, &dir.join(NAME), owner)? else { return Ok(None) };
        let snapshot = Self::decode(&bytes);
        snapshot.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub(crate) fn encode(&self) -> Bytes {
        let file = pb::SnapshotFile {
            last_log_id: self.last_log_id.map(wire::log_id_to_wire),
            membership: Some(wire::membership_to_wire(&self.membership)),
            next_offset: self.next_offset.get(),
            chain: self.chain,
            append_time: self.append_time.as_millis(),
            state: self.state.clone(),
        };
        file.encode_to_vec().into()
    }

    /// Reads an encoded one; `None` if it does not hold together.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let file = pb::SnapshotFile::decode(bytes).ok()?;
        Some(Self {
            last_log_id: file.last_log_id.map(wire::log_id_from_wire).transpose().ok()?,
            membership: wire::membership_from_wire(file.membership?).ok()?,
            next_offset: Offset::new(file.next_offset),
            chain: file.chain,
            append_time: Timestamp::from_millis(file.append_time),
            state: file.state,
        })
    }
}
