//! `duramen group replay`: a part of a topic once more for a group's handler, whose own offsets
//! stay where they are.

use clap::Args;
use duramen_client::{Offset, PartitionId, ReplayJob, ReplayOptions, Start};

use crate::connect::ClientArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::output;
use crate::render::{RenderArgs, Renderer, Shown};
use crate::signals::Signals;
use crate::time::TimeSpec;

/// Options of `duramen group replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The group
    group: String,
    /// The topic
    topic: String,
    /// What this replay is called: the same name goes on where an interrupted one stopped
    #[arg(long, default_value = "cli")]
    id: String,
    /// Only this partition; may be given more than once
    #[arg(long)]
    partition: Vec<u32>,
    /// From this offset on, in each partition
    #[arg(long, value_name = "N", conflicts_with = "since")]
    from_offset: Option<u64>,
    /// Up to before this offset, in each partition
    #[arg(long, value_name = "N", conflicts_with = "until")]
    to_offset: Option<u64>,
    /// From the first record from which on none is older
    #[arg(long, value_name = "TIME", value_parser = TimeSpec::parse)]
    since: Option<TimeSpec>,
    /// Up to before the first record from which on none is older
    #[arg(long, value_name = "TIME", value_parser = TimeSpec::parse)]
    until: Option<TimeSpec>,
    /// Records a second at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    render: RenderArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the command.
pub(super) async fn run(args: &ReplayArgs, context: &Context) -> Result<(), CliError> {
    let renderer = args.render.renderer(context.json)?;
    let mut signals = Signals::new()?;
    let client = args.client.connect(context).await?;
    let options = args.options(context);
    let mut job = client.replay(&args.group, &args.id, &args.topic, options).await?;
    let shadow = job.group().to_owned();
    let outcome = pump(&mut job, &renderer, &mut signals).await;
    if matches!(outcome, Err(CliError::OutputClosed)) {
        // Closing would say that the record which could not be written is processed.
        return outcome;
    }
    job.close().await?;
    if matches!(outcome, Err(CliError::Interrupted)) {
        output::note(&format!("how far it is stays with {shadow}: the same command goes on"));
    }
    outcome?;
    // It is done: the same command begins again.
    Ok(client.groups().delete_group(&shadow).await?)
}

impl ReplayArgs {
    fn options(&self, context: &Context) -> ReplayOptions {
        let now = context.now();
        let place = |offset: Option<u64>, time: Option<TimeSpec>| {
            let time = time.map(|time| Start::Timestamp(time.resolve(now)));
            offset.map(|offset| Start::Offset(Offset::new(offset))).or(time)
        };
        let partitions: Vec<_> = self.partition.iter().copied().map(PartitionId::new).collect();
        ReplayOptions {
            from: place(self.from_offset, self.since).unwrap_or(Start::First),
            to: place(self.to_offset, self.until).unwrap_or(Start::Last(0)),
            partitions: Some(partitions).filter(|partitions| !partitions.is_empty()),
            records_per_second: self.rate,
        }
    }
}

/// Moves records to stdout until the end or a signal. One at a time: asking for the next one says
/// that the last one is processed.
async fn pump(
    job: &mut ReplayJob,
    renderer: &Renderer,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let mut line = Vec::new();
    loop {
        let record = tokio::select! {
            biased;
            () = signals.next() => return Err(CliError::Interrupted),
            record = job.next() => record,
        };
        let Some(record) = record.transpose()? else { return Ok(()) };
        line.clear();
        renderer.render(&Shown::owned(&record), &mut line);
        output::write(&line)?;
    }
}
