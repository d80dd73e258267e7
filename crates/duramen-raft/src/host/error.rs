//! Why a host or a replica could not be opened.

use std::io;
use std::path::PathBuf;

use duramen_log::{DamagedRange, ErrorKind, LogError, OpenError};
use duramen_types::Term;
use openraft::ConfigError;

use crate::hard_state::HardStateError;
use crate::types::GroupId;

/// Why the host could not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The votes cannot be read.
    #[error(transparent)]
    HardState(#[from] HardStateError),
    /// Directories could not be made.
    #[error("could not prepare {path}")]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// openraft refuses the built-in configuration.
    #[error("could not configure Raft")]
    Config(#[from] ConfigError),
}

/// Why a replica could not be opened. In none of these cases may the replica vote or acknowledge.
#[derive(Debug, thiserror::Error)]
pub enum GroupOpenError {
    /// The replica was here once and is gone, emptied or somebody else's.
    #[error("could not open the replica of {group} in {path}: its log is lost")]
    Lost {
        /// The group.
        group: GroupId,
        /// Where it was.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: Box<OpenError>,
    },
    /// Part of what it acknowledged cannot be read any more.
    #[error(
        "could not serve the replica of {group} in {path}: log indexes {} are damaged",
        list(ranges)
    )]
    Damaged {
        /// The group.
        group: GroupId,
        /// Where it is.
        path: PathBuf,
        /// What is damaged.
        ranges: Vec<DamagedRange>,
    },
    /// Part of what it holds does not check, found while it was opened.
    #[error("could not open the replica of {group} in {path}: it is damaged")]
    Unreadable {
        /// The group.
        group: GroupId,
        /// Where it is.
        path: PathBuf,
        /// What does not check.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log has entries of a later term than the replica's vote: the vote was lost, and with it
    /// maybe others. The votes were put aside; for a partition the node stops as well.
    #[error("could not open the replica of {group}: its vote for term {term} is lost")]
    VoteLost {
        /// The group.
        group: GroupId,
        /// The term of the log's last entry.
        term: Term,
    },
    /// The log could not be made or read.
    #[error("could not {action} the replica of {group}")]
    Io {
        /// The group.
        group: GroupId,
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl GroupOpenError {
    /// Whether the replica is lost or damaged for good, rather than not to be opened just now.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Damaged { .. } | Self::Unreadable { .. } => true,
            Self::VoteLost { .. } | Self::Io { .. } => false,
        }
    }
}

/// Whether stored bytes do not check, rather than the disk not answering.
pub(super) fn is_corrupt(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else { return error.kind() == io::ErrorKind::InvalidData };
    if let Some(log) = inner.downcast_ref::<LogError>() {
        return log.kind() == ErrorKind::Corrupt;
    }
    match inner.downcast_ref::<io::Error>() {
        Some(inner) => is_corrupt(inner),
        None => error.kind() == io::ErrorKind::InvalidData,
    }
}

/// Ranges for people; of many, the first few.
fn list(ranges: &[DamagedRange]) -> String {
    const SHOWN: usize = 5;
    let shown = ranges.iter().take(SHOWN).map(|range| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{} to {}", range.first, range.last),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ranges.len() > SHOWN {
        text.push_str(&format!(" and {} more ranges", ranges.len() - SHOWN));
    }
    text
}
