//! The `duramen` command: a server, a cluster for development, and the tools around them.

mod cli;
mod commands;
mod connect;
mod context;
mod direct;
mod error;
mod faults;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod limits;
mod logging;
mod nodes;
mod numbers;
mod output;
mod partitions;
mod render;
mod server;
mod signals;
mod table;
mod threads;
mod time;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use context::Context;
use error::CliError;

/// Runs the command that the process was called with, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads::asynchronous()?)
        .enable_all()
        .thread_name("duramen")
        .build()
        .map_err(|source| CliError::System { action: "start the async runtime", source })?;
    let context = Context::new(&cli.global);
    let outcome = runtime.block_on(Box::pin(cli.command.run(context)));
    // A read of stdin that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    outcome
}
