//! Bugs planted on purpose, to prove that the tests find them.
//!
//! A build without the feature `planted` has none of them: [`is_planted`] is `false` at compile
//! time there. Only `cargo xtask mutants` builds with it.

/// A bug that breaks a promise, each at one place of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A log's sync returns without having synced.
    SkipFsync,
    /// A sync that failed is tried again, and believed.
    RetryFailedSync,
    /// Recovery cuts the log at the first frame with a bad checksum, wherever it is.
    TruncateOnBadChecksum,
    /// Frames of another replica are appended whether they continue the log or not.
    SkipChainCheck,
    /// The log start is moved to the end of the log, wherever it was to go.
    TrimAboveCommit,
    /// An entry counts as durable as soon as it is written.
    AcknowledgeBeforeSync,
    /// Fetches return entries that are not committed.
    ServeAboveHighWatermark,
    /// A new leader knows no producer sequences.
    ForgetProducers,
    /// A wiped or damaged replica begins anew under its old id.
    ReuseReplicaId,
    /// A damaged replica takes part as if it were whole.
    VoteWhenDamaged,
    /// Votes are granted without being made durable.
    ForgetVote,
    /// A leader answers a produce when its own disk has it, without a majority.
    AcknowledgeWithoutMajority,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SkipFsync,
        Self::RetryFailedSync,
        Self::TruncateOnBadChecksum,
        Self::SkipChainCheck,
        Self::TrimAboveCommit,
        Self::AcknowledgeBeforeSync,
        Self::ServeAboveHighWatermark,
        Self::ForgetProducers,
        Self::ReuseReplicaId,
        Self::VoteWhenDamaged,
        Self::ForgetVote,
        Self::AcknowledgeWithoutMajority,
    ];

    /// The name on command lines: `forget-vote`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipFsync => "skip-fsync",
            Self::RetryFailedSync => "retry-failed-sync",
            Self::TruncateOnBadChecksum => "truncate-on-bad-checksum",
            Self::SkipChainCheck => "skip-chain-check",
            Self::TrimAboveCommit => "trim-above-commit",
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::ServeAboveHighWatermark => "serve-above-high-watermark",
            Self::ForgetProducers => "forget-producers",
            Self::ReuseReplicaId => "reuse-replica-id",
            Self::VoteWhenDamaged => "vote-when-damaged",
            Self::ForgetVote => "forget-vote",
            Self::AcknowledgeWithoutMajority => "acknowledge-without-majority",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Whether this process has this bug.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn is_planted(_bug: Planted) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on::{is_planted, plant};

#[cfg(feature = "planted")]
mod on {
    use std::sync::OnceLock;

    use super::Planted;

    static BUG: OnceLock<Planted> = OnceLock::new();

    /// Whether this process has this bug.
    #[must_use]
    pub fn is_planted(bug: Planted) -> bool {
        BUG.get() == Some(&bug)
    }

    /// Gives this process a bug, for good. The first one stays.
    pub fn plant(bug: Planted) {
        BUG.get_or_init(|| bug);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for bug in Planted::ALL {
            assert_eq!(Planted::parse(bug.name()), Some(bug));
        }
        assert_eq!(Planted::parse("none"), None);
    }
}
