//! Why a command failed: a message, what to do about it, and the exit code.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use duramen_client::{ClientError, ErrorCode};
use duramen_log::VerifyError;

use crate::output;

/// Exit code of a command that failed.
const FAILED: u8 = 1;

/// Exit code of a command that was called in a wrong way.
const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command was called in a wrong way; the text says how to call it.
    #[error("{0}")]
    Usage(String),
    /// The cluster refused or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be used.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system refused.
    #[error("could not {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A log directory or segment could not be read.
    #[error("could not read {}", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// Whoever read stdout has gone: nothing is wrong.
    #[error("the reader of stdout has gone")]
    OutputClosed,
    /// A signal ended it before it was done.
    #[error("interrupted before it was done")]
    Interrupted,
    /// It failed in a way that only it knows.
    #[error("{0}")]
    Failed(String),
    /// It failed, and has said so on stdout.
    #[error("failed")]
    Reported,
}

impl CliError {
    /// For `map_err`: a file could not be used.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Usage(_) => ExitCode::from(USAGE),
            _ => ExitCode::from(FAILED),
        }
    }

    /// Says on stderr what went wrong and what to do.
    pub(crate) fn report(&self) {
        if matches!(self, Self::OutputClosed | Self::Reported) {
            return;
        }
        output::note(&format!("error: {}", self.full_text()));
        if let Some(hint) = self.hint() {
            output::note(&format!("  try: {hint}"));
        }
    }

    /// The message with its causes.
    pub(crate) fn full_text(&self) -> String {
        full_text(self)
    }

    /// What to do about it, if something helps.
    fn hint(&self) -> Option<String> {
        let Self::Client(error) = self else { return None };
        let hint = match error {
            ClientError::UnknownTopic { topic } => {
                format!(
                    "duramen topic create {topic} --partitions 6, or look at: duramen topic list"
                )
            }
            ClientError::UnknownPartition { topic, .. } => {
                format!("duramen topic describe {topic}")
            }
            ClientError::OffsetOutOfRange {
                log_start_offset: Some(first),
                high_watermark: Some(end),
                ..
            } => format!("the partition has offsets from {first} to before {end}"),
            ClientError::OffsetOutOfRange { .. } => "--offset first".into(),
            ClientError::Timeout { .. } | ClientError::Connection { .. } => {
                "is a node running there? `duramen dev` starts a cluster on this machine; \
                 --servers or DURAMEN_SERVERS name another"
                    .into()
            }
            ClientError::GroupChanged { group } => {
                format!("it is busy: again in a while, or --force; duramen group members {group}")
            }
            _ => return code_hint(error.code()?).map(str::to_owned),
        };
        Some(hint)
    }
}

/// An error's message with its causes, each said once.
pub(crate) fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn code_hint(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::NotEnoughNodes => Some("fewer --replicas, or start more nodes"),
        ErrorCode::TopicExists => Some("another name, or add --if-not-exists"),
        ErrorCode::RecordTooLarge => {
            Some("duramen topic alter TOPIC --config max.message.bytes=16MiB")
        }
        ErrorCode::UnknownGroup => {
            Some("duramen group list; a group is made by its first member or its first offset")
        }
        ErrorCode::GroupInUse => {
            Some("stop its members, or: duramen group remove GROUP MEMBER, for each")
        }
        ErrorCode::DiskFull => Some("free space on the nodes, or lower retention.ms"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_causes_once() {
        let source = io::Error::other("no such disk");
        let error = CliError::file("open", "data")(source);
        assert_eq!(error.full_text(), "could not open data: no such disk");
    }

    #[test]
    fn a_missing_topic_says_how_to_create_it() {
        let error = CliError::from(ClientError::UnknownTopic { topic: "quakes".into() });
        assert!(error.hint().unwrap().starts_with("duramen topic create quakes"));
    }
}
