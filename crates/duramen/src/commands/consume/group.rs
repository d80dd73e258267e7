//! `duramen consume --group`: what a member of a group is given, to stdout, committed once it is
//! written.

use std::time::Duration;

use clap::Args;
use duramen_client::{
    Admin, Client, ClientError, GroupConsumer, GroupEvent, GroupOptions, GroupPhase, GroupRecord,
    GroupSubscription, NamedPartition, Processing, RebalanceListener, Start, Ticket,
};
use tokio::time::{Instant, MissedTickBehavior};

use super::ConsumeArgs;
use super::ends::Ends;
use crate::context::Context;
use crate::error::{CliError, full_text};
use crate::partitions::compact;
use crate::render::{Renderer, Shown};
use crate::signals::Signals;
use crate::{limits, output};

/// What only members of a group can be told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Group options")]
pub(super) struct GroupArgs {
    /// Read as a member of this group: its members share the partitions and what is committed
    #[arg(long, value_name = "GROUP", conflicts_with = "partition")]
    pub(super) group: Option<String>,
    /// Read all topics whose whole names match, now and later, instead of topics by name
    #[arg(long, value_name = "REGEX", requires = "group", conflicts_with = "topics")]
    pattern: Option<String>,
    /// Be this instance: a new life of it takes over what the old one had, and a signal leaves the
    /// partitions waiting for it for a session
    #[arg(long, value_name = "ID", requires = "group")]
    instance: Option<String>,
    /// The member is gone if nothing was heard of it for so many seconds; 10 if not given
    #[arg(long, value_name = "SECONDS", requires = "group")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_800))]
    session: Option<u64>,
    /// End after so many seconds without a record
    #[arg(long, value_name = "SECONDS", requires = "group")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    idle_exit: Option<u64>,
    /// Do not say on stderr what happens in the group
    #[arg(long, short, requires = "group")]
    quiet: bool,
}

/// How reading ended, if nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There is no more, or it is enough.
    Done,
    Signal,
}

/// Runs the command.
pub(super) async fn run(
    args: &ConsumeArgs,
    group: &str,
    context: &Context,
) -> Result<(), CliError> {
    let renderer = args.render.renderer(context.json)?;
    let options = args.group_options(context)?;
    let subscription = match &args.group.pattern {
        Some(pattern) => GroupSubscription::pattern(pattern),
        None => GroupSubscription::topics(&args.topics),
    };
    let mut signals = Signals::new()?;
    let client = args.client.connect(context).await?;
    let mut reader = Reader {
        group,
        admin: client.admin(),
        client: &client,
        ends: Ends::default(),
        follow: args.follow,
        quiet: args.group.quiet,
        idle_exit: args.group.idle_exit.map(Duration::from_secs),
        left: args.count.unwrap_or(u64::MAX),
        last: Instant::now(),
        renderer,
        buffer: Vec::with_capacity(limits::OUTPUT_BYTES),
        written: Vec::new(),
    };
    if !args.follow {
        reader.ends.of_topics(&reader.admin, &args.topics).await?;
    }
    let mut consumer = tokio::select! {
        () = signals.next() => return Ok(()),
        consumer = client.group_consumer(group, subscription, options) => consumer?,
    };
    if !args.group.quiet {
        consumer.listen(Teller { group: group.to_owned(), lost_at: None });
    }
    let outcome = reader.pump(&mut consumer, &mut signals).await;
    let outcome = outcome.and_then(|ended| reader.flush().map(|()| ended));
    // What was not written is given up here, so that it is not committed.
    drop(reader);
    let left = match (&outcome, &args.group.instance) {
        (Ok(Ended::Signal), Some(_)) => consumer.close_for_restart().await,
        _ => consumer.close().await,
    };
    outcome?;
    Ok(left?)
}

impl ConsumeArgs {
    fn group_options(&self, context: &Context) -> Result<GroupOptions, CliError> {
        let since = self.since.map(|since| since.resolve(context.now()));
        let start = self.start(since);
        if matches!(start, Start::Offset(_)) {
            return Err(CliError::Usage(
                "partitions of a group differ: --offset takes first or last; to move what is \
                 committed: duramen group reset"
                    .into(),
            ));
        }
        let mut options = GroupOptions { start, ..GroupOptions::default() };
        options.processing = Processing::Explicit;
        options.instance_id.clone_from(&self.group.instance);
        if let Some(seconds) = self.group.session {
            options.session = Duration::from_secs(seconds);
        }
        Ok(options)
    }
}

/// Writes what a member is given.
struct Reader<'a> {
    group: &'a str,
    admin: Admin,
    client: &'a Client,
    ends: Ends,
    follow: bool,
    quiet: bool,
    idle_exit: Option<Duration>,
    /// Records still to be written.
    left: u64,
    /// When the last record came.
    last: Instant,
    renderer: Renderer,
    buffer: Vec<u8>,
    /// Of the records in the buffer: processed when it is written.
    written: Vec<Ticket>,
}

impl Reader<'_> {
    /// Moves records to stdout until there are no more, enough came or a signal comes.
    async fn pump(
        &mut self,
        consumer: &mut GroupConsumer,
        signals: &mut Signals,
    ) -> Result<Ended, CliError> {
        let mut look = tokio::time::interval(limits::GROUP_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.last = Instant::now();
        while self.left > 0 {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(Ended::Signal),
                record = consumer.next() => match record {
                    None => return Ok(Ended::Done),
                    Some(Ok(record)) => self.take(consumer, record).await?,
                    // Whoever reads stdout took a pause: the next call joins anew.
                    Some(Err(error @ ClientError::ProcessingTimeout { .. })) => {
                        output::note(&format!("warning: {}", full_text(&error)));
                    }
                    Some(Err(error)) => return Err(error.into()),
                },
                // Nothing is there at the moment: what is gathered need not wait.
                () = std::future::ready(()), if !self.written.is_empty() => self.flush()?,
                _ = look.tick() => {
                    let is_idle = self.idle_exit.is_some_and(|max| self.last.elapsed() >= max);
                    if is_idle || (!self.follow && self.is_over(consumer).await?) {
                        return Ok(Ended::Done);
                    }
                }
            }
        }
        Ok(Ended::Done)
    }

    async fn take(
        &mut self,
        consumer: &mut GroupConsumer,
        record: GroupRecord,
    ) -> Result<(), CliError> {
        if !self.follow {
            let end = self.ends.of(&self.admin, &record.topic, record.partition).await?;
            if end.is_before(record.offset) {
                // Dropped, so that it stays uncommitted; the partition rests until the end.
                // If it is no longer assigned, nothing more comes of it anyway.
                drop(consumer.pause(&record.topic, record.partition));
                return Ok(());
            }
        }
        let (record, ticket) = record.into_parts();
        self.renderer.render(&Shown::owned(&record), &mut self.buffer);
        self.written.push(ticket);
        self.left -= 1;
        self.last = Instant::now();
        if self.buffer.len() >= limits::OUTPUT_BYTES || self.written.len() >= limits::GROUP_RECORDS
        {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is gathered; from then on it may be committed.
    fn flush(&mut self) -> Result<(), CliError> {
        output::write(&self.buffer)?;
        self.buffer.clear();
        for ticket in self.written.drain(..) {
            ticket.done();
        }
        Ok(())
    }

    /// Whether all that the member has is read to its end, and nothing is on its way to it.
    async fn is_over(&mut self, consumer: &mut GroupConsumer) -> Result<bool, CliError> {
        let mut is_read = true;
        let assigned = consumer.assignment();
        for named in &assigned {
            let end = match self.ends.of_named(&self.admin, named).await {
                Ok(end) => end,
                // Deleted: the group will take it away.
                Err(ClientError::UnknownTopic { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            // Meanwhile it may have been taken away.
            let position = consumer.position(&named.topic, named.partition).ok().flatten();
            let is_at_end = position.is_some_and(|position| end.is_reached(position));
            is_read &= is_at_end;
            if !is_at_end {
                // A reset may have moved it back behind the end where it rests.
                drop(consumer.resume(&named.topic, named.partition));
            }
        }
        if !is_read {
            return Ok(false);
        }
        let groups = self.client.groups();
        let described = tokio::time::timeout(limits::DESCRIBE_LEADER, groups.describe(self.group));
        let Ok(Ok(described)) = described.await else { return Ok(false) };
        let member_id = consumer.member_id();
        let member = described.members.iter().find(|member| member.member_id == member_id);
        let is_told = member.is_some_and(|member| same(&member.granted, &assigned));
        let is_over = described.phase == GroupPhase::Stable && is_told;
        if is_over && assigned.is_empty() && !self.quiet {
            let group = self.group;
            output::note(&format!("group {group}: nothing to read; duramen group explain {group}"));
        }
        Ok(is_over)
    }
}

fn same(granted: &[NamedPartition], assigned: &[NamedPartition]) -> bool {
    granted.len() == assigned.len() && granted.iter().all(|named| assigned.contains(named))
}

/// Says on stderr what happens in the group.
struct Teller {
    group: String,
    /// When it was last said that the coordinator is not reached.
    lost_at: Option<Instant>,
}

impl RebalanceListener for Teller {
    fn event(&mut self, event: &GroupEvent) {
        if matches!(event, GroupEvent::Disconnected(_)) {
            // Every attempt says so, several a second.
            if self.lost_at.is_some_and(|at| at.elapsed() < limits::DISCONNECTED_AGAIN) {
                return;
            }
            self.lost_at = Some(Instant::now());
        }
        if let Some(text) = told(event) {
            output::note(&format!("group {}: {text}", self.group));
        }
    }
}

/// An event in words, if people want to know.
fn told(event: &GroupEvent) -> Option<String> {
    Some(match event {
        GroupEvent::Joined { member_id } => format!("joined as {member_id}"),
        GroupEvent::Granted(partitions) => format!("reads {}", compact(partitions)),
        GroupEvent::Revoked(partitions) => format!("gives back {}", compact(partitions)),
        GroupEvent::Lost(partitions) => {
            format!("lost {}: what was not committed is read again", compact(partitions))
        }
        GroupEvent::Reset(partition) => format!("{partition} was reset: goes on there"),
        GroupEvent::Jumped { partition, from, to } => {
            format!("{partition} no longer keeps {from}: goes on at {to}")
        }
        GroupEvent::Fenced { partition, error } => {
            format!("{partition} was not committed: {}", full_text(error))
        }
        GroupEvent::CommitFailed(error) => {
            format!("a commit failed and is tried again: {}", full_text(error))
        }
        GroupEvent::Disconnected(error) => {
            format!("the coordinator is not reached, it goes on trying: {}", full_text(error))
        }
        GroupEvent::Missed(count) => format!("{count} events were not told"),
        // Said by the one before it, or this command's own doing.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use duramen_client::{Offset, PartitionId};

    use super::*;

    #[test]
    fn an_event_is_one_short_line() {
        let named = |id| NamedPartition::new("quakes", PartitionId::new(id));
        let said = |event: GroupEvent| told(&event).unwrap();
        assert_eq!(said(GroupEvent::Granted(vec![named(0), named(1)])), "reads quakes 0-1");
        assert_eq!(said(GroupEvent::Revoked(vec![named(1)])), "gives back quakes 1");
        assert_eq!(said(GroupEvent::Reset(named(1))), "quakes-1 was reset: goes on there");
        let jumped =
            GroupEvent::Jumped { partition: named(0), from: Offset::new(1), to: Offset::new(9) };
        assert_eq!(said(jumped), "quakes-0 no longer keeps 1: goes on at 9");
        assert_eq!(told(&GroupEvent::Released(vec![named(1)])), None);
    }

    #[test]
    fn the_coordinator_and_the_member_agree_if_they_name_the_same() {
        let named = |id| NamedPartition::new("quakes", PartitionId::new(id));
        assert!(same(&[named(0), named(1)], &[named(1), named(0)]));
        assert!(!same(&[named(0)], &[named(1)]));
        assert!(!same(&[named(0)], &[]));
    }
}
