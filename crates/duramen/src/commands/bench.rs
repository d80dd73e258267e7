//! `duramen bench`: measures a cluster, its own or another.

mod consume;
mod e2e;
mod payload;
mod produce;
mod report;
mod tally;
mod usage;

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use duramen_client::{Client, NewTopic, ProducerOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::produce::Codec;
use crate::connect;
use crate::context::Context;
use crate::error::CliError;
use crate::nodes::LocalCluster;
use crate::signals::Signals;
use crate::{limits, numbers, output};
use report::Report;
use tally::Window;

const PRODUCE: &str = "\
Examples:
  duramen bench produce --size 1024 --seconds 10
  duramen bench produce --partitions 6 --producers 3 --json
  duramen bench produce --servers 127.0.0.1:7650 --pids $(pgrep -d, -f 'duramen server')

As fast as the producers' windows allow. Latency is from when a producer has taken a record in to
its acknowledgement.";

const CONSUME: &str = "\
Examples:
  duramen bench consume --preload-mb 1024 --consumers 2
  duramen bench consume --preload-mb 4096 --cold

Writes first, then reads all of it again and again. Latency is the wait for each batch.";

const E2E: &str = "\
Example:
  duramen bench e2e --rate 1000 --seconds 30

Open loop: a record is due every 1/rate seconds, whatever became of those before, and its latency
is from when it was due to when a consumer has it.";

/// Measures.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How much can be written
    #[command(after_help = PRODUCE)]
    Produce(ProduceArgs),
    /// How much can be read
    #[command(after_help = CONSUME)]
    Consume(ConsumeArgs),
    /// How long a record takes from producer to consumer
    #[command(after_help = E2E)]
    E2e(E2eArgs),
}

/// Options of every measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// The cluster to measure; one of its own is started, and removed, if not given
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    servers: Vec<String>,
    /// Nodes of the cluster that is started
    #[arg(long, default_value_t = 3, conflicts_with = "servers")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=limits::DEV_NODES_MAX))]
    nodes: u64,
    /// Where the cluster that is started has its data
    #[arg(long, conflicts_with = "servers")]
    dir: Option<PathBuf>,
    /// Process ids of the nodes, if they run on this machine, to measure what they use
    #[arg(long, value_delimiter = ',', requires = "servers")]
    pids: Vec<u32>,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..=8_388_608))]
    size: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Replicas of each partition
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// How long is measured, in seconds
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// How long it runs before that, in seconds
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Records of a batch at most; as many as fit into a batch of 1 MiB if not given
    #[arg(long)]
    batch_records: Option<u32>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t)]
    compression: Codec,
    /// Seed of the records' bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the topic
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    common: BenchArgs,
    /// Producers, each with its own connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    producers: u32,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    common: BenchArgs,
    /// Consumers, each with its own connections; each reads everything
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    consumers: u32,
    /// How much is written first, in megabytes
    #[arg(long, default_value_t = 256)]
    preload_mb: u64,
    /// Read once, from the disk: what the system has of the data in memory is dropped first
    #[arg(long, conflicts_with = "servers")]
    cold: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct E2eArgs {
    #[command(flatten)]
    common: BenchArgs,
    /// Records a second
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, default_value_t = 0)]
    linger_ms: u64,
}

impl BenchCommand {
    const fn common(&self) -> &BenchArgs {
        match self {
            Self::Produce(args) => &args.common,
            Self::Consume(args) => &args.common,
            Self::E2e(args) => &args.common,
        }
    }
}

/// What a measurement works on.
struct Bench {
    context: Context,
    args: BenchArgs,
    servers: Vec<String>,
    /// Processes of the nodes, as far as they are known.
    pids: Vec<u32>,
    /// Where the data is of a cluster of its own.
    data: Option<PathBuf>,
    topic: String,
    /// That it goes on, for a person who looks.
    spinner: ProgressBar,
}

/// Runs one of the measurements. A signal ends it, and nothing is left of it.
pub(crate) async fn run(command: BenchCommand, context: Context) -> Result<(), CliError> {
    let args = command.common().clone();
    for (name, seconds) in [("seconds", args.seconds), ("warmup", args.warmup)] {
        let least = if name == "seconds" { 0.1 } else { 0.0 };
        if !seconds.is_finite() || seconds < least || seconds > 1e6 {
            return Err(CliError::Usage(format!("--{name} {seconds}: give {least} to 1000000")));
        }
    }
    let mut signals = Signals::new()?;
    let cluster = match args.servers.is_empty() {
        true => {
            output::note(&format!("starting {} nodes", args.nodes));
            let starting = LocalCluster::start(&context, args.nodes, args.dir.as_deref());
            Some(or_signal(&mut signals, starting).await?)
        }
        false => None,
    };
    let servers = cluster.as_ref().map_or_else(|| args.servers.clone(), LocalCluster::servers);
    let pids = cluster.as_ref().map_or_else(|| args.pids.clone(), LocalCluster::pids);
    let topic = format!("bench-{:08x}", context.env.random.below(1 << 32));
    let json = context.json;
    let data = cluster.as_ref().map(|cluster| cluster.dir().to_path_buf());
    let spinner = spinner();
    let bench = Bench { context, args, servers, pids, data, topic, spinner };
    let measured = Box::pin(bench.measure(&command, &mut signals)).await;
    bench.spinner.finish_and_clear();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    measured?.print(json)
}

/// Does something, unless a signal comes before it is done.
async fn or_signal<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::select! {
        done = work => done,
        () = signals.next() => Err(CliError::Interrupted),
    }
}

fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed}");
    let spinner = ProgressBar::new_spinner();
    spinner.set_style(style.unwrap_or(ProgressStyle::default_spinner()));
    spinner.enable_steady_tick(limits::SPINNER_TICK);
    spinner
}

impl Bench {
    async fn measure(
        &self,
        command: &BenchCommand,
        signals: &mut Signals,
    ) -> Result<Report, CliError> {
        let client = or_signal(signals, self.client()).await?;
        let topic = NewTopic::new(&self.topic)
            .partitions(self.args.partitions)
            .replication_factor(self.args.replicas);
        // What is measured must not be trimmed meanwhile.
        client.admin().create_topic(topic.config("retention.ms", "-1")).await?;
        let measured = or_signal(signals, self.load(command)).await;
        // A cluster of its own goes as a whole.
        let deleted = match self.args.keep || self.data.is_some() {
            true => Ok(()),
            false => client.admin().delete_topic(&self.topic).await,
        };
        // Why there is no report is said first.
        let report = measured?;
        deleted?;
        Ok(report)
    }

    async fn load(&self, command: &BenchCommand) -> Result<Report, CliError> {
        match command {
            BenchCommand::Produce(args) => Box::pin(produce::run(self, args)).await,
            BenchCommand::Consume(args) => Box::pin(consume::run(self, args)).await,
            BenchCommand::E2e(args) => Box::pin(e2e::run(self, args)).await,
        }
    }

    /// A client with connections of its own.
    async fn client(&self) -> Result<Client, CliError> {
        connect::connect(&self.context, &self.servers, Duration::from_secs(30)).await
    }

    /// How so many producers batch.
    fn producer_options(&self, linger_ms: u64, producers: u32) -> ProducerOptions {
        let defaults = ProducerOptions::default();
        let size = usize::try_from(self.args.size).unwrap_or(usize::MAX);
        let batch_bytes = match self.args.batch_records {
            // A record takes a few bytes more than its value.
            Some(records) => {
                let records = usize::try_from(records).unwrap_or(usize::MAX);
                size.saturating_add(16).saturating_mul(records).clamp(1, defaults.batch_bytes)
            }
            None => defaults.batch_bytes,
        };
        // More than the window takes would only wait, and be counted as latency. Few producers fill
        // their requests with small batches, many need not.
        let shared = defaults.batch_bytes / usize::try_from(producers).unwrap_or(usize::MAX).max(1);
        let in_flight_bytes = batch_bytes
            .max(shared)
            .saturating_mul(defaults.requests_in_flight)
            .saturating_mul(limits::WINDOWS_AHEAD)
            .min(defaults.in_flight_bytes);
        ProducerOptions {
            linger: Duration::from_millis(linger_ms),
            batch_bytes,
            in_flight_bytes,
            record_bytes_max: limits::RECORD_BYTES_MAX,
            compression: self.args.compression.into(),
            ..defaults
        }
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.args.warmup)
    }

    fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.args.seconds)
    }

    /// From now on, after the warm-up.
    fn window(&self) -> Window {
        Window::new(self.warmup(), self.measured())
    }

    /// Megabytes that so many records are.
    fn bytes(&self, records: u64) -> u64 {
        records.saturating_mul(u64::from(self.args.size))
    }

    /// Says what is being done.
    fn say(&self, what: &str) {
        self.spinner.suspend(|| output::note(what));
    }

    fn describe(&self, what: &str) {
        self.say(&format!(
            "{what}: values of {} bytes, {} x {}, {} s after {} s",
            numbers::grouped(self.args.size.into()),
            self.args.partitions,
            self.args.replicas,
            self.args.seconds,
            self.args.warmup
        ));
    }
}
