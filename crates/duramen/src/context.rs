//! What every command gets: the seams of the environment and the global options.

use duramen_env::Env;
use duramen_types::Timestamp;

use crate::cli::GlobalArgs;
use crate::error::CliError;
use crate::logging::{self, LogOptions};

/// The environment of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Clock, randomness, disk, network, tasks.
    pub(crate) env: Env,
    /// Whether results are printed as JSON.
    pub(crate) json: bool,
    /// How much more is said on stderr.
    pub(crate) verbose: u8,
    /// What was said about logging.
    pub(crate) log: LogOptions,
}

impl Context {
    /// The real world with these options.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        Self {
            env: Env::real(),
            json: global.json,
            verbose: global.verbose,
            log: LogOptions { filter: global.log.clone(), format: global.log_format },
        }
    }

    /// Starts logging as a client command does: warnings only, unless asked for more.
    pub(crate) fn init_logging(&self) -> Result<(), CliError> {
        let default = match self.verbose {
            0 => "warn",
            1 => "warn,duramen=info",
            _ => "info",
        };
        logging::init(&self.log, default)
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }
}
