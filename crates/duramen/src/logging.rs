//! Logging: what is logged and how, to stderr.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::error::CliError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What was said about logging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// What is logged; `None` = as RUST_LOG says, else the default.
    pub(crate) filter: Option<String>,
    /// How; `None` = text.
    pub(crate) format: Option<LogFormat>,
}

/// Starts logging. Call it once.
pub(crate) fn init(options: &LogOptions, default: &str) -> Result<(), CliError> {
    let from_env = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let text = options.filter.clone().or(from_env).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        CliError::Usage(format!("{text:?} is no log filter ({error}): give a level such as info"))
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let started = match options.format.unwrap_or_default() {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::Failed(format!("could not start logging: {error}")))
}
