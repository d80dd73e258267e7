//! `duramen produce`: records from a file or stdin into a topic.

mod lines;
mod parse;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use duramen_client::{
    ClientError, Compression, Delivery, PartitionId, Producer, ProducerOptions, RecordHeader,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::commands::topic::parse_pair;
use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::signals::Signals;
use crate::{limits, numbers, output};
use lines::Lines;
#[cfg(feature = "fuzz")]
pub(crate) use parse::fuzz as fuzz_line;
use parse::{LineFormat, LineParser};

const EXAMPLES: &str = "\
Examples:
  duramen produce quakes --file quakes.ndjson --key-field id --timestamp-field time
  seq 1000 | duramen produce numbers
  printf 'k1:v1\\nk2:v2\\n' | duramen produce pairs --key-separator :

The value of a record is the whole line, unchanged, also with --format json. A line is sent as soon
as it is read. The command ends when every record is acknowledged: on a majority of disks.";

/// Options of `duramen produce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: String,
    /// Where to read; stdin if not given, or "-"
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// What a line is; json if --key-field or --timestamp-field is given
    #[arg(long, value_enum)]
    format: Option<LineFormat>,
    /// The JSON field that becomes the key: a name, or a pointer such as /user/id
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,
    /// The JSON field that becomes the timestamp: milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "FIELD")]
    timestamp_field: Option<String>,
    /// Of a line that is not JSON, what stands before this is the key
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["key_field", "timestamp_field"])]
    key_separator: Option<String>,
    /// A header of every record
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// Write to this partition; by key, or any, if not given
    #[arg(long)]
    partition: Option<u32>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t)]
    compression: Codec,
    /// How long a record may be under way, retries included
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2m")]
    delivery_timeout: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// A compression, as the command line names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// What became of the input.
#[derive(Debug, Default, Serialize)]
struct Summary {
    topic: String,
    /// Records read.
    read: u64,
    /// Records on a majority of disks.
    acknowledged: u64,
    /// Records read and not acknowledged.
    failed: u64,
    /// Bytes of lines read.
    bytes: u64,
    seconds: f64,
    records_per_s: f64,
    mb_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: ProduceArgs, context: Context) -> Result<(), CliError> {
    let parser = args.parser()?;
    let mut signals = Signals::new()?;
    let (input, bar) = args.open().await?;
    let client = args.client.connect(&context).await?;
    let options = ProducerOptions {
        compression: args.compression.into(),
        delivery_timeout: args.delivery_timeout,
        record_bytes_max: limits::RECORD_BYTES_MAX,
        ..ProducerOptions::default()
    };
    let producer = client.producer(&args.topic, options).await?;
    let start = context.env.clock.monotonic();
    let mut pump = Pump { producer, parser, bar, read: 0, bytes: 0 };
    let (deliveries, waiting) = mpsc::channel(limits::DELIVERIES);
    let (fed, (acknowledged, refused)) = tokio::join!(
        Box::pin(pump.feed(Lines::new(input, limits::RECORD_BYTES_MAX), deliveries, &mut signals)),
        tally(waiting),
    );
    pump.bar.finish_and_clear();
    let took = context.env.clock.monotonic().saturating_sub(start);
    let error = fed.err().or(refused.map(CliError::from));
    let (read, bytes) = (pump.read, pump.bytes);
    let summary = Summary {
        topic: args.topic,
        read,
        acknowledged,
        failed: read.saturating_sub(acknowledged),
        bytes,
        seconds: took.as_secs_f64(),
        records_per_s: numbers::rounded(numbers::per_second(acknowledged, took)),
        mb_per_s: numbers::rounded(numbers::mb_per_second(bytes, took)),
        error: error.as_ref().map(CliError::full_text),
    };
    summary.print(context.json)?;
    error.map_or(Ok(()), Err)
}

impl ProduceArgs {
    fn parser(&self) -> Result<LineParser, CliError> {
        let has_fields = self.key_field.is_some() || self.timestamp_field.is_some();
        let format = match self.format {
            Some(LineFormat::Lines) if has_fields => {
                return Err(CliError::Usage(
                    "--key-field and --timestamp-field need --format json".into(),
                ));
            }
            Some(LineFormat::Json) if self.key_separator.is_some() => {
                return Err(CliError::Usage("--key-separator needs --format lines".into()));
            }
            Some(format) => format,
            None if has_fields => LineFormat::Json,
            None => LineFormat::Lines,
        };
        if self.key_separator.as_deref() == Some("") {
            return Err(CliError::Usage("--key-separator cannot be empty".into()));
        }
        let headers = self.header.iter().map(|(key, value)| RecordHeader {
            key: key.clone(),
            value: Some(value.clone().into()),
        });
        Ok(LineParser {
            format,
            key_field: self.key_field.clone(),
            timestamp_field: self.timestamp_field.clone(),
            key_separator: self.key_separator.clone(),
            headers: headers.collect(),
            partition: self.partition.map(PartitionId::new),
        })
    }

    /// The input and a progress bar for it, which is hidden unless a person looks.
    async fn open(&self) -> Result<(Box<dyn AsyncRead + Send + Unpin>, ProgressBar), CliError> {
        let is_watched = std::io::stderr().is_terminal();
        let Some(path) = self.file.as_ref().filter(|path| path.as_os_str() != "-") else {
            let is_typed = std::io::stdin().is_terminal();
            let bar = if is_watched && !is_typed { bar(None) } else { ProgressBar::hidden() };
            return Ok((Box::new(tokio::io::stdin()), bar));
        };
        let file = tokio::fs::File::open(path).await.map_err(CliError::file("open", path))?;
        let length = file.metadata().await.map_err(CliError::file("read", path))?.len();
        let bar = if is_watched { bar(Some(length)) } else { ProgressBar::hidden() };
        Ok((Box::new(file), bar))
    }
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg} records, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{spinner} {bytes} {bytes_per_sec} {msg} records"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()))
}

/// Takes lines in and sends them.
struct Pump {
    producer: Producer,
    parser: LineParser,
    bar: ProgressBar,
    read: u64,
    bytes: u64,
}

impl Pump {
    /// Sends every line until the input ends, one is bad, a delivery failed or a signal comes.
    async fn feed(
        &mut self,
        mut lines: Lines<Box<dyn AsyncRead + Send + Unpin>>,
        deliveries: mpsc::Sender<Delivery>,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        let outcome = loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = signals.next() => break Err(CliError::Interrupted),
                // A delivery has failed: what comes after it must not be stored without it.
                () = deliveries.closed() => break Ok(()),
            };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(CliError::Failed(error.to_string())),
            };
            let bytes = line.len();
            let record = match self.parser.parse(line) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    break Err(CliError::Failed(format!("line {}: {error}", lines.number())));
                }
            };
            self.read += 1;
            self.bytes += bytes as u64;
            self.show();
            match self.producer.send(record).await {
                Ok(delivery) => {
                    if deliveries.send(delivery).await.is_err() {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error.into()),
            }
        };
        drop(deliveries);
        self.producer.flush().await;
        outcome
    }

    fn show(&self) {
        if self.read.is_multiple_of(1_000) && !self.bar.is_hidden() {
            self.bar.set_position(self.bytes + self.read);
            self.bar.set_message(numbers::grouped(self.read));
        }
    }
}

/// Counts deliveries until all are there or one failed.
async fn tally(mut waiting: mpsc::Receiver<Delivery>) -> (u64, Option<ClientError>) {
    let mut acknowledged = 0;
    let mut refused = None;
    while let Some(delivery) = waiting.recv().await {
        match delivery.await {
            Ok(_) => acknowledged += 1,
            Err(error) => {
                // Nothing more is sent; what is under way is still counted.
                waiting.close();
                refused.get_or_insert(error);
            }
        }
    }
    (acknowledged, refused)
}

impl Summary {
    fn print(&self, json: bool) -> Result<(), CliError> {
        if json {
            return output::json(self);
        }
        let count = numbers::grouped(self.acknowledged);
        let rate = numbers::grouped_rate(self.records_per_s);
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {} not", numbers::grouped(failed)),
        };
        output::line(&format!(
            "{count} records acknowledged{failed} in {:.2} s ({rate} records/s, {:.1} MB/s)",
            self.seconds, self.mb_per_s
        ))
    }
}
