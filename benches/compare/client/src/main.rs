//! The load client of `compare.py`: puts the same work on Kafka, NATS and Redis as `duramen bench`
//! puts on Duramen, measures it in the same way and prints one JSON object with the same fields.

mod flight;
mod kafka;
mod nats;
mod payload;
mod received;
mod redis;
mod report;
mod schedule;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use report::{Counted, Report};

/// What can go wrong; it is only ever printed.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Puts work on a peer and measures it.
#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How much can be written
    Produce(Load),
    /// How much can be read: writes first, then reads all of it again and again
    Consume(Load),
    /// How long a record takes from producer to consumer, at a fixed rate
    E2e(Load),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    Kafka,
    Nats,
    Redis,
}

/// Options of every measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    #[arg(long, value_enum)]
    peer: Peer,
    /// The nodes
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT", required = true)]
    servers: Vec<String>,
    /// Process ids of the nodes, to measure what they use
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    size: u32,
    /// Partitions of the topic; streams for NATS and Redis
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    partitions: u32,
    /// Replicas of each partition
    #[arg(long, default_value_t = 1)]
    replicas: u32,
    /// How long is measured, in seconds
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// How long it runs before that, in seconds
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// How long a batch waits for more records, in milliseconds (Kafka)
    #[arg(long, default_value_t = 5)]
    linger_ms: u32,
    /// Records a second (end to end)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How much is written before it is read, in megabytes
    #[arg(long, default_value_t = 256)]
    preload_mb: u64,
    /// Records without an acknowledgement at most (NATS, Redis)
    #[arg(long, default_value_t = 8000)]
    in_flight: u32,
    /// Send pipelines as transactions, which are synced at once (Redis)
    #[arg(long)]
    transactions: bool,
    /// A topic option, such as flush.messages=1 (Kafka)
    #[arg(long, value_name = "NAME=VALUE")]
    topic_option: Vec<String>,
    /// An option of librdkafka's producer, such as max.in.flight=5 (Kafka)
    #[arg(long, value_name = "NAME=VALUE")]
    client_option: Vec<String>,
}

impl Load {
    fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Records to write before they are read.
    fn preload(&self) -> u64 {
        let records = self.preload_mb.saturating_mul(1_000_000) / u64::from(self.size);
        records.max(u64::from(self.partitions))
    }

    /// How many of them each partition gets when they go in turn.
    fn preloads(&self) -> Vec<u64> {
        let (count, partitions) = (self.preload(), u64::from(self.partitions));
        let of = |partition| count / partitions + u64::from(partition < count % partitions);
        (0..partitions).map(of).collect()
    }
}

fn main() -> ExitCode {
    let (name, load, counted) = match Command::parse().bench {
        Bench::Produce(load) => ("produce", load.clone(), produce(&load)),
        Bench::Consume(load) => ("consume", load.clone(), consume(&load)),
        Bench::E2e(load) => ("e2e", load.clone(), e2e(&load)),
    };
    let printed = counted.and_then(|counted| {
        println!("{}", serde_json::to_string(&Report::new(name, &load, &counted))?);
        Ok(counted.tally.error)
    });
    match printed {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(error)) => fail(&error),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn produce(load: &Load) -> Result<Counted, Error> {
    match load.peer {
        Peer::Kafka => kafka::produce(load),
        Peer::Nats => nats::produce(load),
        Peer::Redis => redis::produce(load),
    }
}

fn consume(load: &Load) -> Result<Counted, Error> {
    match load.peer {
        Peer::Kafka => kafka::consume(load),
        Peer::Nats => nats::consume(load),
        Peer::Redis => redis::consume(load),
    }
}

fn e2e(load: &Load) -> Result<Counted, Error> {
    match load.peer {
        Peer::Kafka => kafka::e2e(load),
        Peer::Nats => nats::e2e(load),
        Peer::Redis => redis::e2e(load),
    }
}
