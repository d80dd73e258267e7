//! `duramen replay`: a range of a topic again, into another topic or to stdout.

mod pace;
mod plan;
mod source;
mod state;
mod tail;
mod transfer;

use std::path::PathBuf;

use clap::Args;
use duramen_client::{Client, TopicDescription};

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::render::{RenderArgs, Renderer, Shown};
use crate::signals::Signals;
use crate::time::TimeSpec;
use crate::{limits, output};
use pace::Pace;
use plan::Plan;
use source::Source;
use state::Selection;
#[cfg(feature = "fuzz")]
pub(crate) use state::fuzz as fuzz_state;
use transfer::Transfer;

const EXAMPLES: &str = "\
Examples:
  duramen replay quakes --since 2018-02-01 --until 2018-02-02 --to quakes-again
  duramen replay quakes --partition 2 --from-offset 100 --to-offset 200
  duramen replay quakes --tempo 3600 --template '{time} {key}'    an hour a second
  duramen replay quakes --to copy --rate 1000 --by-key

Into a topic, records keep their key, value, headers and timestamp, byte by byte, and their
partition, or the one of their key with --by-key. The end of the range is where the topic ends at
the start. A replay into a topic that was interrupted goes on where it stopped when the same command
is run again, and writes no record twice; its state is in a file (--state) until it is done.";

/// Options of `duramen replay`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The topic to read
    topic: String,
    /// Read only this partition; may be given more than once
    #[arg(long)]
    partition: Vec<u32>,
    /// From this offset on, in each partition
    #[arg(long, value_name = "N")]
    from_offset: Option<u64>,
    /// Up to before this offset, in each partition
    #[arg(long, value_name = "N")]
    to_offset: Option<u64>,
    /// Only records with this timestamp or a later one
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only records with an earlier timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The topic to write; stdout if not given
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Choose the partition of each record by its key; needed if the numbers of partitions differ
    #[arg(long, requires = "to")]
    by_key: bool,
    /// Records a second at most
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// So many times as fast as the records' timestamps say, merged by timestamp
    #[arg(long, value_name = "FACTOR", value_parser = positive, conflicts_with = "rate")]
    tempo: Option<f64>,
    /// Where to note how far it is; a file of its own for each pair of topics if not given
    #[arg(long, value_name = "FILE", requires = "to")]
    state: Option<PathBuf>,
    /// Forget an interrupted replay and begin again
    #[arg(long, requires = "to")]
    restart: bool,
    #[command(flatten)]
    render: RenderArgs,
    #[command(flatten)]
    client: ClientArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "give a number above 0".into())
}

/// Runs the command.
pub(crate) async fn run(args: ReplayArgs, context: Context) -> Result<(), CliError> {
    if args.to.as_ref() == Some(&args.topic) {
        return Err(CliError::Usage("--to must name another topic than the one to read".into()));
    }
    let (since, until) = args.times(&context)?;
    let mut signals = Signals::new()?;
    let client = args.client.connect(&context).await?;
    let topic = client.admin().describe_topic(&args.topic).await?;
    let Some(to) = args.to.clone() else {
        let plan = Plan::new(&client, &topic, &args.selection(), since, until).await?;
        return show(&args, &context, &client, &plan, &mut signals).await;
    };
    let target = client.admin().describe_topic(&to).await?;
    args.check_partitions(&topic, &target)?;
    let path = match &args.state {
        Some(path) => path.clone(),
        None => state::default_path(client.cluster_id(), topic.id, target.id)?,
    };
    let transfer = Transfer {
        context,
        client,
        source: topic,
        target,
        path,
        selection: args.selection(),
        since,
        until,
        restart: args.restart,
        merge: args.by_key || args.tempo.is_some(),
    };
    transfer.run(args.pace(), &mut signals).await
}

impl ReplayArgs {
    fn times(&self, context: &Context) -> Result<(Option<i64>, Option<i64>), CliError> {
        let now = context.now();
        let read = |text: &Option<String>| match text.as_deref().map(TimeSpec::parse) {
            None => Ok(None),
            Some(Ok(spec)) => Ok(Some(spec.resolve(now).as_millis())),
            Some(Err(error)) => Err(CliError::Usage(error.to_string())),
        };
        Ok((read(&self.since)?, read(&self.until)?))
    }

    fn selection(&self) -> Selection {
        Selection {
            partitions: self.partition.clone(),
            from_offset: self.from_offset,
            to_offset: self.to_offset,
            since: self.since.clone(),
            until: self.until.clone(),
            by_key: self.by_key,
        }
    }

    fn pace(&self) -> Pace {
        match (self.rate, self.tempo) {
            (Some(rate), _) => Pace::rate(rate),
            (_, Some(tempo)) => Pace::tempo(tempo),
            _ => Pace::full_speed(),
        }
    }

    fn check_partitions(
        &self,
        source: &TopicDescription,
        target: &TopicDescription,
    ) -> Result<(), CliError> {
        let (from, to) = (source.partitions.len(), target.partitions.len());
        if self.by_key || from == to {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "{} has {from} partitions and {} has {to}: add --by-key to choose partitions by key, or \
             create a topic with {from} partitions",
            source.name, target.name
        )))
    }
}

/// Replays to stdout.
async fn show(
    args: &ReplayArgs,
    context: &Context,
    client: &Client,
    plan: &Plan,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let renderer = args.render.renderer(context.json)?;
    let mut source = Source::open(client, &args.topic, plan, args.tempo.is_some()).await?;
    let mut buffer = Vec::with_capacity(limits::OUTPUT_BYTES);
    let shown = print(&mut source, args.pace(), &renderer, &mut buffer, signals).await;
    output::write(&buffer)?;
    shown
}

async fn print(
    source: &mut Source,
    mut pace: Pace,
    renderer: &Renderer,
    buffer: &mut Vec<u8>,
    signals: &mut Signals,
) -> Result<(), CliError> {
    loop {
        let record = tokio::select! {
            biased;
            () = signals.next() => return Err(CliError::Interrupted),
            record = source.next() => record?,
        };
        let Some(record) = record else { return Ok(()) };
        if let Some(due) = pace.due(record.timestamp) {
            output::write(buffer)?;
            buffer.clear();
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = signals.next() => return Err(CliError::Interrupted),
            }
        }
        renderer.render(&Shown::owned(&record), buffer);
        if buffer.len() >= limits::OUTPUT_BYTES {
            output::write(buffer)?;
            buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!(positive("2.5"), Ok(2.5));
        for wrong in ["0", "-1", "nan", "inf", "x"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
    }
}
