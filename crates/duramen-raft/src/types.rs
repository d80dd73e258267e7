//! The types that openraft is instantiated with: one configuration for all three kinds of group.

use std::fmt;

use bytes::Bytes;
use duramen_log::Frame;
use duramen_types::{LogIndex, MetadataIndex, Offset, Term, Timestamp, TopicPartition};
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::OneshotResponder;
use openraft::vote::leader_id_std;

use crate::runtime::EnvRuntime;

/// A replica incarnation, as openraft numbers its nodes.
pub(crate) type RaftNodeId = u64;
/// The leader part of a log id: the term.
pub(crate) type CommittedLeader = leader_id_std::CommittedLeaderId<u64>;
/// Term and index of an entry.
pub(crate) type LogId = openraft::LogId<CommittedLeader>;
/// Who a replica voted for.
pub(crate) type Vote = openraft::Vote<leader_id_std::LeaderId<u64, RaftNodeId>>;
/// Voters and learners.
pub(crate) type Membership = openraft::Membership<RaftNodeId, ()>;
/// Membership and the entry that set it.
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeader, RaftNodeId, ()>;
/// What a snapshot is about.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeader, RaftNodeId, ()>;
/// A snapshot: metadata and encoded state.
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeader, RaftNodeId, (), Bytes>;

/// The instantiation of openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Applied;
    type NodeId = RaftNodeId;
    type Node = ();
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, RaftNodeId>;
    type Vote = Vote;
    type Payload = LogPayload;
    type Entry = Entry;
    type AsyncRuntime = EnvRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Makes a log id of a term and an index.
pub(crate) fn log_id(term: Term, index: LogIndex) -> LogId {
    LogId::new_term_index(term.get(), index.get())
}

/// The term of a log id.
pub(crate) fn term_of(id: &LogId) -> Term {
    Term::new(id.leader_id.term)
}

/// A Raft group of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupId {
    /// Nodes, topics, placement, configuration. One for the cluster.
    Metadata,
    /// One partition of one topic.
    Partition(TopicPartition),
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata"),
            Self::Partition(partition) => fmt::Display::fmt(partition, f),
        }
    }
}

/// What a leader asks its group to append.
#[derive(Debug)]
pub struct Proposal {
    /// What the payload is.
    pub kind: ProposalKind,
    /// Record batches back to back, an encoded command, or nothing.
    pub payload: Bytes,
    /// Records in the payload; 0 unless it is record batches.
    pub records: u32,
    /// Largest timestamp of the records.
    pub max_timestamp: Timestamp,
}

/// What a proposal's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalKind {
    /// Record batches, stamped with offset and leader epoch at append.
    Batches,
    /// A command of the metadata group or a group shard.
    Command,
    /// Everything below this log index may go (retention).
    LogStart(LogIndex),
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.payload.len())
    }
}

/// What became of a committed entry.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Offset of the entry's first record; the end offset for entries without records.
    pub base_offset: Offset,
    /// When its leader appended it.
    pub append_time: Timestamp,
    /// What the state machine answered to a command; empty otherwise.
    pub outcome: Bytes,
    /// Its batches did not continue their producers' sequences: nothing was appended.
    pub rejected: bool,
    /// The entry's log index.
    pub index: MetadataIndex,
}

/// The payload of an entry.
#[derive(Debug)]
pub(crate) enum LogPayload {
    /// A new leader's first entry.
    Blank,
    /// Voters and learners from here on.
    Membership(Membership),
    /// Proposed here, not yet in the log.
    Proposed(Proposal),
    /// Anything but blank and membership, as it is in a log: the entry's frame has the bytes.
    Stored,
}

impl fmt::Display for LogPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Membership(membership) => write!(f, "membership {membership}"),
            Self::Proposed(proposal) => fmt::Display::fmt(proposal, f),
            Self::Stored => f.write_str("stored"),
        }
    }
}

impl RaftPayload for LogPayload {
    type D = Proposal;
    type NodeId = RaftNodeId;
    type Node = ();

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, data: Proposal) -> Self {
        Self::Proposed(data)
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self::Membership(membership)
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Self::Membership(membership) => Some(membership.clone()),
            _ => None,
        }
    }
}

/// One entry of a Raft log: new (without a frame) or as a log holds it (with its frame, whose
/// payload is empty where only the header was asked for).
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId,
    pub(crate) payload: LogPayload,
    pub(crate) frame: Option<Frame>,
}

impl Entry {
    /// Bytes of records that come with the entry.
    pub(crate) fn record_bytes(&self) -> usize {
        let records = self.frame.as_ref().filter(|frame| frame.header.is_data());
        records.map_or(0, |frame| frame.payload.len())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.log_id, self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeader;
    type Payload = LogPayload;

    fn new(log_id: LogId, payload: LogPayload) -> Self {
        Self { log_id, payload, frame: None }
    }

    fn log_id_parts(&self) -> (&CommittedLeader, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}
