//! The kinds of faults, and what a fault does apart from when and where.

use std::fmt;
use std::time::Duration;

use duramen_broker::BrokerError;
use duramen_grpc::Call;
use duramen_types::Term;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Syncs of the disk take longer.
    SlowFsync,
    /// One sync fails: the node stops, as it must, and is started again.
    FsyncError,
    /// The disk has no room: produces are refused.
    DiskFull,
    /// A produce is done and its answer lost with its stream.
    LostAck,
    /// The answer to a produce comes late.
    LateAck,
    /// Calls are refused with an error that allows a retry.
    Refuse,
    /// Another replica leads.
    LeaderChange,
    /// A node is killed and started again.
    Kill,
    /// A node stands still for a while.
    Freeze,
    /// A fetch ends after an answer, and the next one begins before its offset.
    DuplicateDelivery,
    /// Answers of a fetch come late.
    SlowFetch,
    /// A fetch breaks instead of giving an answer.
    CutStream,
}

/// How long a fault of a kind is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// For a while, in which it hits operations, each with a probability.
    Operations,
    /// For a while.
    Span,
    /// Once.
    Once,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 12] = [
        Self::SlowFsync,
        Self::FsyncError,
        Self::DiskFull,
        Self::LostAck,
        Self::LateAck,
        Self::Refuse,
        Self::LeaderChange,
        Self::Kill,
        Self::Freeze,
        Self::DuplicateDelivery,
        Self::SlowFetch,
        Self::CutStream,
    ];

    /// The name in plans and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SlowFsync => "slow_fsync",
            Self::FsyncError => "fsync_error",
            Self::DiskFull => "disk_full",
            Self::LostAck => "lost_ack",
            Self::LateAck => "late_ack",
            Self::Refuse => "refuse",
            Self::LeaderChange => "leader_change",
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::DuplicateDelivery => "duplicate_delivery",
            Self::SlowFetch => "slow_fetch",
            Self::CutStream => "cut_stream",
        }
    }

    /// The kind of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long a fault of this kind is there.
    pub(crate) const fn shape(self) -> Shape {
        match self {
            Self::DiskFull | Self::Freeze => Shape::Span,
            Self::FsyncError | Self::LeaderChange | Self::Kill => Shape::Once,
            _ => Shape::Operations,
        }
    }

    /// Whether it is a delay.
    pub(super) const fn is_delay(self) -> bool {
        matches!(self, Self::SlowFsync | Self::LateAck | Self::SlowFetch)
    }

    /// Whether it hits calls of clients for a topic.
    pub(super) const fn is_of_topic(self) -> bool {
        matches!(self.shape(), Shape::Operations) && !matches!(self, Self::SlowFsync)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error that a refused call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// Too much is waiting.
    Overloaded,
    /// Another node leads, nobody says which.
    NotLeader,
    /// No leader is known.
    Unavailable,
    /// The node goes down.
    ShuttingDown,
}

impl Refusal {
    /// All of them.
    pub(super) const ALL: [Self; 4] =
        [Self::Overloaded, Self::NotLeader, Self::Unavailable, Self::ShuttingDown];

    /// The name in plans and reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::NotLeader => "not_leader",
            Self::Unavailable => "unavailable",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The error as the broker would give it.
    pub(super) const fn error(self) -> BrokerError {
        match self {
            Self::Overloaded => BrokerError::Overloaded,
            Self::NotLeader => BrokerError::NotLeader { leader: None, leader_epoch: Term::ZERO },
            Self::Unavailable => BrokerError::NoLeader,
            Self::ShuttingDown => BrokerError::ShuttingDown,
        }
    }
}

/// Calls that can be refused, by their names in plans.
pub(super) const CALLS: [(&str, Call); 4] = [
    ("produce", Call::Produce),
    ("fetch", Call::Fetch),
    ("list_offsets", Call::ListOffsets),
    ("init_producer", Call::InitProducer),
];

/// The name of a call in plans.
pub(super) fn call_name(call: Call) -> &'static str {
    CALLS.iter().find(|(_, known)| *known == call).map_or("", |(name, _)| name)
}

/// What a fault does, apart from when and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Action {
    /// What goes wrong.
    pub(crate) kind: Kind,
    /// How many of a million operations it hits.
    pub(crate) ppm: u32,
    /// The shortest and the longest delay.
    pub(crate) delay: (Duration, Duration),
    /// Only calls for this topic.
    pub(crate) topic: Option<String>,
    /// Only calls for this partition of it.
    pub(crate) partition: Option<u32>,
    /// The error of refused calls.
    pub(crate) error: Refusal,
    /// Names of the calls that are refused.
    pub(crate) calls: Vec<String>,
    /// How many records are given again.
    pub(crate) records: u64,
}
