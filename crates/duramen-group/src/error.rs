//! What a caller can do about a refusal, and errors of reading stored bytes.

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again: the state may have changed.
    Retry,
    /// The caller is stale: refresh, or stop.
    Fenced,
    /// The request is wrong and stays so.
    Invalid,
    /// Stored or received bytes are damaged.
    Corrupt,
    /// The node must stop.
    Fatal,
}

/// Why bytes are not a command, an outcome or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of something.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes are left over.
    #[error("{bytes} bytes are left over")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
    /// Written by a later Duramen.
    #[error("format version {found} is not known here")]
    UnknownVersion {
        /// The version.
        found: u8,
    },
    /// A command, outcome or code that a later Duramen wrote.
    #[error("{what} {found} is not known here")]
    Unknown {
        /// What it is.
        what: &'static str,
        /// Its number.
        found: u8,
    },
    /// A field has a value that no writer writes.
    #[error("{field} is missing or out of range")]
    Field {
        /// The field.
        field: &'static str,
    },
}

impl DecodeError {
    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated | Self::LeftOver { .. } | Self::Field { .. } => ErrorKind::Corrupt,
            Self::UnknownVersion { .. } | Self::Unknown { .. } => ErrorKind::Fatal,
        }
    }
}
