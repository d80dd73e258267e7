//! `duramen server`: one node of a cluster.

mod config;
mod faults;
mod http;
mod run;

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::error::CliError;
use crate::logging;

pub(crate) use config::ENVIRONMENT;
#[cfg(feature = "fuzz")]
pub(crate) use config::read as read_config;
use config::{Layer, ServerConfig};

const EXAMPLES: &str = "\
Examples:
  duramen server --config /etc/duramen/duramen.toml
  duramen server --id 1 --dir data/1 --listen 127.0.0.1:7650 \\
      --seed 127.0.0.1:7650,127.0.0.1:7660,127.0.0.1:7670

Three servers started with the same seed list form a cluster by themselves; a later one joins
through any of them. Every option can also be set in the file of --config and by a variable: --id is
id there and DURAMEN_ID here. A flag wins over a variable, a variable over the file, the file over
the default. SIGTERM and SIGINT end the server in good order.";

/// Options of `duramen server`; what is not given comes from the environment, the file or a default.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServerArgs {
    /// A file with these options (TOML) [env: DURAMEN_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's number in the cluster, from 1
    #[arg(long)]
    id: Option<u64>,
    /// The node's data directory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where clients are served [default: 127.0.0.1:7650]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where other nodes are served [default: two ports behind --listen]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// Where metrics and health are, or "off" [default: one port behind --listen]
    #[arg(long, value_name = "HOST:PORT")]
    http_listen: Option<String>,
    /// Where clients reach this node, if not at --listen
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where other nodes reach this node, if not at --peer-listen
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// Where metrics and health are reached, if not at --http-listen
    #[arg(long, value_name = "HOST:PORT")]
    advertise_http: Option<String>,
    /// The nodes that form the cluster, as clients reach them; the same list, in the same order, on
    /// each of them
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    seed: Option<Vec<String>>,
    /// Where the node stands; replicas of a partition are spread over racks
    #[arg(long)]
    rack: Option<String>,
    /// Listen beyond this machine although nothing is authenticated or encrypted
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    insecure: Option<bool>,
    /// Free bytes of the disk below which no records are taken [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    disk_reserve_bytes: Option<u64>,
    /// What computes who reads what in consumer groups: uniform or range, the same on each node
    /// [default: uniform]
    #[arg(long, value_name = "NAME")]
    group_assignor: Option<String>,
    /// End when stdin is closed; for whoever starts servers and may die
    #[arg(long)]
    exit_with_stdin: bool,
    /// Misbehave as ordered on stdin, with draws of this seed; for `dev --faults`
    #[arg(long, hide = true, value_name = "SEED", requires = "exit_with_stdin")]
    faults_from_stdin: Option<u64>,
}

/// Runs the command.
pub(crate) async fn run(args: ServerArgs, context: Context) -> Result<(), CliError> {
    let stdin = match (args.exit_with_stdin, args.faults_from_stdin) {
        (_, Some(seed)) => Stdin::Faults { seed },
        (true, None) => Stdin::Life,
        (false, None) => Stdin::Unused,
    };
    let config = args.resolve(&context)?;
    if matches!(stdin, Stdin::Faults { .. }) {
        config.check_unreachable()?;
    }
    logging::init(&config.log, config::LOG_DEFAULT)?;
    run::run(config, context, stdin).await
}

/// What the server's stdin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdin {
    /// Nothing.
    Unused,
    /// The server ends when it is closed.
    Life,
    /// That, and faults on purpose are ordered through it.
    Faults {
        /// Decides what the faults draw.
        seed: u64,
    },
}

impl ServerArgs {
    /// Lays flags over variables over the file over the defaults.
    fn resolve(self, context: &Context) -> Result<ServerConfig, CliError> {
        let environment = Layer::from_environment(|name| std::env::var(name).ok())?;
        let file = self.config.clone();
        let file = file.or_else(|| std::env::var_os(config::FILE_VARIABLE).map(PathBuf::from));
        let file = match file.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Layer::from_file(&path)?,
            None => Layer::default(),
        };
        let mut flags = self.layer();
        flags.log.clone_from(&context.log.filter);
        flags.log_format = context.log.format;
        ServerConfig::new(flags.or(environment).or(file))
    }

    fn layer(self) -> Layer {
        Layer {
            id: self.id,
            dir: self.dir,
            listen: self.listen,
            peer_listen: self.peer_listen,
            http_listen: self.http_listen,
            advertise: self.advertise,
            advertise_peer: self.advertise_peer,
            advertise_http: self.advertise_http,
            seed: self.seed,
            rack: self.rack,
            insecure: self.insecure,
            disk_reserve_bytes: self.disk_reserve_bytes,
            group_assignor: self.group_assignor,
            log: None,
            log_format: None,
        }
    }
}
