//! Why one attempt on one node failed, and whether another attempt makes sense.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use duramen_net::ChannelError;
use duramen_proto::v1::{self, ErrorCode};
use prost::Message as _;
use tonic::{Code, Status};

use crate::ClientError;

/// The outcome of one attempt that did not succeed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The node said no.
    Refused(Box<v1::Error>),
    /// Nothing was sent: no node is known, or no connection could be made.
    NotSent(ClientError),
    /// The connection broke, or no answer came in time.
    Lost(ClientError),
    /// The record's own time is over; not even tried.
    Expired,
    /// Another attempt cannot help.
    Final(ClientError),
}

impl Failure {
    /// What a failed call says.
    pub(crate) fn from_status(status: &Status, address: &Arc<str>) -> Self {
        if let Some(error) = error_in(status) {
            return Self::Refused(Box::new(error));
        }
        let error =
            ClientError::Connection { address: Arc::clone(address), reason: reason(status).into() };
        if let Some(channel) = channel_error(status) {
            return match channel {
                ChannelError::Lost { .. } => Self::Lost(error),
                ChannelError::BadAddress { .. } => Self::Final(error),
                ChannelError::Silent { .. }
                | ChannelError::ConnectTimeout { .. }
                | ChannelError::Connect { .. }
                | ChannelError::Handshake { .. } => Self::NotSent(error),
            };
        }
        let code = match status.code() {
            Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange => {
                ErrorCode::InvalidRequest
            }
            Code::PermissionDenied | Code::Unauthenticated => ErrorCode::Denied,
            _ => return Self::Lost(error),
        };
        Self::Final(ClientError::Refused { code, message: status.message().into() })
    }

    /// The node's code, if it gave one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code()),
            _ => None,
        }
    }

    /// Whether the request may have taken effect.
    pub(crate) fn maybe_done(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Refused(error) => matches!(
                error.code(),
                ErrorCode::UnknownOutcome | ErrorCode::Storage | ErrorCode::CorruptReplica
            ),
            Self::NotSent(_) | Self::Expired | Self::Final(_) => false,
        }
    }

    /// Whether it says that the replica asked is damaged: another one may be sound.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::CorruptReplica | ErrorCode::Storage))
    }

    /// Whether another attempt, there or elsewhere, may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) => true,
            Self::Expired | Self::Final(_) => false,
            Self::Refused(error) => matches!(
                error.code(),
                ErrorCode::UnknownTopic
                    | ErrorCode::NotLeader
                    | ErrorCode::Unavailable
                    | ErrorCode::UnknownOutcome
                    | ErrorCode::Overloaded
                    | ErrorCode::CorruptReplica
                    | ErrorCode::Storage
                    | ErrorCode::Deadline
                    | ErrorCode::ShuttingDown
                    | ErrorCode::DiskFull
            ),
        }
    }

    /// Whether the node is the right one and only wants time.
    pub(crate) fn is_about_load(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::Overloaded | ErrorCode::DiskFull | ErrorCode::Deadline)
        )
    }

    /// How long the node asks to wait.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Refused(error) => Duration::from_millis(error.retry_after_ms.into()),
            _ => Duration::ZERO,
        }
    }

    /// The failure as a caller sees it.
    pub(crate) fn into_error(self) -> ClientError {
        match self {
            Self::Refused(error) => {
                ClientError::Refused { code: error.code(), message: error.message.into() }
            }
            Self::NotSent(error) | Self::Lost(error) | Self::Final(error) => error,
            Self::Expired => ClientError::Timeout {
                what: "deliver",
                after: Duration::ZERO,
                maybe_done: false,
                last: None,
            },
        }
    }
}

/// The typed error in a refusal's trailer.
fn error_in(status: &Status) -> Option<v1::Error> {
    let bytes = status.metadata().get_bin(v1::ERROR_TRAILER)?.to_bytes().ok()?;
    v1::Error::decode(bytes).ok()
}

/// The transport's error behind a status.
fn channel_error(status: &Status) -> Option<&ChannelError> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(channel) = error.downcast_ref() {
            return Some(channel);
        }
        source = error.source();
    }
    None
}

/// The status with what is behind it, on one line.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
