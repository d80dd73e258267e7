//! `duramen consume`: records of a topic to stdout, alone or as a member of a group.

mod ends;
mod group;

use std::collections::BTreeMap;

use clap::Args;
use duramen_client::{
    Admin, ClientError, Consumer, ConsumerBatch, ConsumerOptions, End, Offset, PartitionId, Start,
    Timestamp,
};

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::render::{RenderArgs, Renderer, Shown};
use crate::signals::Signals;
use crate::time::TimeSpec;
use crate::{limits, output};

const EXAMPLES: &str = "\
Examples:
  duramen consume quakes                                   everything, then ends
  duramen consume quakes --last 3 --json                   the last three of each partition
  duramen consume quakes --partition 2 --offset 100 --count 10
  duramen consume quakes --since 2018-02-01 --print-key
  duramen consume quakes --offset last --follow --template '{time} {key}'
  duramen consume quakes orders --group billing --follow   shares the partitions with the group
  duramen consume --pattern 'quakes-.*' --group billing --idle-exit 10

Without --follow it ends where each partition's high watermark was at the start. Partitions are
merged as they come; the order within a partition is kept.

With --group it goes on where the group has committed; --offset first|last, --since and --last say
where to begin in partitions that the group has never committed. A record is committed once its
line is written. SIGINT and SIGTERM end it in good order: it commits, leaves, and exits with 0. Without
--follow it ends when all that it is given is read up to where it ended when it came, and nothing
is on its way between members.";

/// Options of `duramen consume`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConsumeArgs {
    /// The topic; with --group any number of them
    #[arg(value_name = "TOPIC", required_unless_present = "pattern")]
    topics: Vec<String>,
    /// Read only this partition; may be given more than once
    #[arg(long)]
    partition: Vec<u32>,
    /// Where to start in each partition: an offset, first or last
    #[arg(long, value_name = "N|first|last", value_parser = Position::parse)]
    #[arg(conflicts_with_all = ["since", "last"])]
    offset: Option<Position>,
    /// Only records with this timestamp or a later one
    #[arg(long, value_name = "TIME", value_parser = TimeSpec::parse, conflicts_with = "last")]
    since: Option<TimeSpec>,
    /// Start so many records before the end of each partition
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for more records at the end
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    group: group::GroupArgs,
    #[command(flatten)]
    render: RenderArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Where to start, as `--offset` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    At(u64),
    First,
    Last,
}

impl Position {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "first" | "earliest" => Ok(Self::First),
            "last" | "latest" => Ok(Self::Last),
            _ => text.parse().map(Self::At).map_err(|_| "give a number, first or last".into()),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: ConsumeArgs, context: Context) -> Result<(), CliError> {
    if let Some(group) = args.group.group.clone() {
        return group::run(&args, &group, &context).await;
    }
    let topic = args.only_topic()?;
    let mut sink = Sink {
        renderer: args.render.renderer(context.json)?,
        since: args.since.map(|since| since.resolve(context.now())),
        left: args.count.unwrap_or(u64::MAX),
        buffer: Vec::with_capacity(limits::OUTPUT_BYTES),
    };
    let mut signals = Signals::new()?;
    let client = args.client.connect(&context).await?;
    let options = args.options(&client.admin(), topic, sink.since).await?;
    let mut consumer = client.consumer(topic, options).await?;
    let outcome = pump(&mut consumer, &mut sink, &mut signals).await;
    sink.flush()?;
    match outcome {
        // A reader without an end is ended by a signal: that is how it should be.
        Err(CliError::Interrupted) if args.follow => Ok(()),
        outcome => outcome,
    }
}

impl ConsumeArgs {
    fn only_topic(&self) -> Result<&str, CliError> {
        match &self.topics[..] {
            [topic] => Ok(topic),
            _ => Err(CliError::Usage(
                "one reader reads one topic: add --group to read several".into(),
            )),
        }
    }

    fn start(&self, since: Option<Timestamp>) -> Start {
        match (self.offset, since, self.last) {
            (Some(Position::At(offset)), ..) => Start::Offset(Offset::new(offset)),
            (Some(Position::Last), ..) => Start::Last(0),
            (_, Some(since), _) => Start::Timestamp(since),
            (_, _, Some(last)) => Start::Last(last),
            _ => Start::First,
        }
    }

    async fn options(
        &self,
        admin: &Admin,
        topic: &str,
        since: Option<Timestamp>,
    ) -> Result<ConsumerOptions, CliError> {
        let start = self.start(since);
        let mut options = ConsumerOptions::default().start(start);
        if !self.partition.is_empty() {
            options = options.partitions(self.partition.iter().copied().map(PartitionId::new));
        }
        if let Start::Offset(offset) = start {
            options.starts = self.starts(admin, topic, offset).await?;
        }
        options.end = if self.follow { End::Never } else { End::HighWatermark };
        Ok(options)
    }

    /// Where to start for an offset. Of all partitions, some may be shorter and have nothing to
    /// give then; a partition that was named must have come to it.
    async fn starts(
        &self,
        admin: &Admin,
        topic: &str,
        offset: Offset,
    ) -> Result<BTreeMap<PartitionId, Start>, CliError> {
        let named = self.partition.iter().copied().map(PartitionId::new);
        let asked = named.map(|id| (id, Start::Last(0))).collect();
        let found = admin.list_offsets(topic, &asked).await?;
        let mut starts = BTreeMap::new();
        for (partition, known) in found {
            if offset > known.high_watermark && !self.partition.is_empty() {
                return Err(CliError::Client(ClientError::OffsetOutOfRange {
                    topic: topic.into(),
                    partition,
                    offset,
                    log_start_offset: Some(known.log_start_offset),
                    high_watermark: Some(known.high_watermark),
                }));
            }
            starts.insert(partition, Start::Offset(offset.min(known.high_watermark)));
        }
        Ok(starts)
    }
}

/// Moves batches from the consumer to stdout until it ends, enough came or a signal comes.
async fn pump(
    consumer: &mut Consumer,
    sink: &mut Sink,
    signals: &mut Signals,
) -> Result<(), CliError> {
    while sink.left > 0 {
        let batch = tokio::select! {
            biased;
            () = signals.next() => return Err(CliError::Interrupted),
            batch = consumer.next_batch() => batch,
            // Nothing is there at the moment: what is gathered need not wait.
            () = std::future::ready(()), if sink.has_gathered() => {
                sink.flush()?;
                continue;
            }
        };
        match batch {
            None => return Ok(()),
            Some(batch) => sink.take(&batch?)?,
        }
    }
    Ok(())
}

/// Shows records on stdout, many at a time.
struct Sink {
    renderer: Renderer,
    since: Option<Timestamp>,
    left: u64,
    buffer: Vec<u8>,
}

impl Sink {
    fn take(&mut self, batch: &ConsumerBatch) -> Result<(), CliError> {
        let (topic, partition) = (batch.topic(), batch.partition().get());
        for record in batch.views() {
            if self.left == 0 {
                break;
            }
            if self.since.is_some_and(|since| record.timestamp < since) {
                continue;
            }
            self.renderer.render(&Shown::view(topic, partition, &record), &mut self.buffer);
            self.left -= 1;
            if self.buffer.len() >= limits::OUTPUT_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn has_gathered(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let written = output::write(&self.buffer);
        self.buffer.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_number_or_a_name() {
        assert_eq!(Position::parse("12"), Ok(Position::At(12)));
        assert_eq!(Position::parse("first"), Ok(Position::First));
        assert_eq!(Position::parse("latest"), Ok(Position::Last));
        assert!(Position::parse("-1").is_err());
        assert!(Position::parse("middle").is_err());
    }
}
