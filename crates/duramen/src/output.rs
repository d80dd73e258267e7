//! The only place that writes to stdout and stderr: results there, everything else here.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CliError;

/// Writes bytes to stdout as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(failed)
}

/// Writes a line to stdout.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a value to stdout as one line of JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    write(&bytes)
}

/// Writes a line to stderr, for people. There is nowhere to say that it failed.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn failed(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CliError::OutputClosed;
    }
    CliError::System { action: "write to stdout", source: error }
}
