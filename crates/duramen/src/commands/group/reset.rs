//! `duramen group reset` and `duramen group import`: planned, shown, and done as it was shown.

use duramen_client::{
    Clamp, ClientError, ExportedOffset, GroupAdmin, Offset, PartitionId, ResetPlan, ResetScope,
    ResetStep, ResetTo, SkipReason,
};
use serde::Serialize;

use super::offsets;
use super::{HowArgs, ImportArgs, PartitionJson, ResetArgs, count};
use crate::context::Context;
use crate::error::CliError;
use crate::partitions::topic_text;
use crate::{limits, output, table};

/// Runs `reset`.
pub(super) async fn run(args: &ResetArgs, context: &Context) -> Result<(), CliError> {
    let to = args.to(context)?;
    let groups = args.client.connect(context).await?.groups();
    reset(&groups, &args.group, &to, &args.how, context).await
}

/// Runs `import`.
pub(super) async fn import(args: &ImportArgs, context: &Context) -> Result<(), CliError> {
    let to = ResetTo::Exported(offsets::read(&args.file)?);
    let groups = args.client.connect(context).await?.groups();
    reset(&groups, &args.group, &to, &args.how, context).await
}

impl ResetArgs {
    fn to(&self, context: &Context) -> Result<ResetTo, CliError> {
        if let Some(path) = &self.from_file {
            return Ok(ResetTo::Exported(offsets::read(path)?));
        }
        Ok(match (self.to_offset, self.to_time, self.shift) {
            (Some(offset), ..) => ResetTo::Offset(Offset::new(offset)),
            (_, Some(time), _) => ResetTo::Timestamp(time.resolve(context.now())),
            (_, _, Some(by)) => ResetTo::Shift(by),
            _ if self.to_earliest => ResetTo::Earliest,
            _ if self.to_latest => ResetTo::Latest,
            _ => ResetTo::Current,
        })
    }
}

impl HowArgs {
    /// Which partitions to reset.
    fn scope(&self, to: &ResetTo) -> ResetScope {
        let Some(topic) = &self.topic else { return ResetScope::All };
        match to {
            // Only what is in the list: the topic's other partitions are nobody's wish.
            ResetTo::Exported(list) => ResetScope::Only(self.listed(list, topic)),
            _ => ResetScope::Only(vec![(topic.clone(), self.partition.map(PartitionId::new))]),
        }
    }

    fn listed(&self, list: &[ExportedOffset], topic: &str) -> Vec<(String, Option<PartitionId>)> {
        let of_topic = list.iter().filter(|one| one.topic == topic);
        let wanted =
            of_topic.filter(|one| self.partition.is_none_or(|wanted| wanted == one.partition));
        wanted.map(|one| (one.topic.clone(), Some(PartitionId::new(one.partition)))).collect()
    }
}

async fn reset(
    groups: &GroupAdmin,
    group: &str,
    to: &ResetTo,
    how: &HowArgs,
    context: &Context,
) -> Result<(), CliError> {
    let scope = how.scope(to);
    let mut attempts = 0;
    let plan = loop {
        attempts += 1;
        let plan = groups.plan_reset(group, &scope, to).await?;
        check(&plan)?;
        if how.dry_run {
            break plan;
        }
        match groups.apply(&plan, how.force).await {
            Ok(_) => break plan,
            Err(ClientError::GroupChanged { .. }) if attempts < limits::RESET_ATTEMPTS => {
                output::note(&format!("{group} has changed meanwhile: planned again"));
                tokio::time::sleep(limits::RESET_WAIT).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if context.json {
        return output::json(&PlanJson::new(&plan, how.dry_run));
    }
    show(&plan, how.dry_run)
}

/// Whether anything of what was asked for can be done.
fn check(plan: &ResetPlan) -> Result<(), CliError> {
    let group = &plan.group;
    if !plan.steps.is_empty() {
        return Ok(());
    }
    let Some((partition, reason)) = plan.skipped.first() else {
        return Err(CliError::Failed(format!(
            "{group} has no such partition to reset; name one that it has not read yet with \
             --topic, or look at: duramen group describe {group}"
        )));
    };
    let others = match plan.skipped.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let (partition, why) = (partition.to_string(), words(*reason));
    Err(CliError::Failed(format!("nothing to reset in {group}: {partition}: {why}{others}")))
}

fn show(plan: &ResetPlan, dry_run: bool) -> Result<(), CliError> {
    let header = ["TOPIC", "PARTITION", "NOW", "THEN", "ASKED FOR"];
    table::print(&header, plan.steps.iter().map(row).collect())?;
    for (partition, reason) in &plan.skipped {
        output::line(&format!("{partition} stays as it is: {}", words(*reason)))?;
    }
    let partitions = count(plan.steps.len() as u64, "partition");
    output::line(&match dry_run {
        true => format!("would reset {partitions} of {}; nothing was changed", plan.group),
        false => format!("reset {partitions} of {}", plan.group),
    })
}

fn row(step: &ResetStep) -> Vec<String> {
    vec![
        topic_text(&step.to.partition),
        step.to.partition.partition.to_string(),
        table::or_dash(step.from),
        step.to.offset.to_string(),
        table::or_dash(step.clamped.map(asked)),
    ]
}

/// Where a step was to go that does not go there.
fn asked(clamp: Clamp) -> String {
    match clamp {
        Clamp::ToLogStart(asked) => format!("{asked}, no longer kept"),
        Clamp::ToHighWatermark(asked) => format!("{asked}, past the end"),
    }
}

const fn words(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NeverCommitted => "nothing was ever committed that could be moved",
        SkipReason::TopicGone => "the topic was deleted, or is another one by now",
        SkipReason::UnknownPartition => "the topic has no such partition",
        SkipReason::NotExported => "it is not in the file",
    }
}

#[derive(Debug, Serialize)]
struct PlanJson {
    group: String,
    applied: bool,
    partitions: Vec<StepJson>,
    skipped: Vec<SkippedJson>,
}

#[derive(Debug, Serialize)]
struct StepJson {
    #[serde(flatten)]
    partition: PartitionJson,
    now: Option<u64>,
    then: u64,
    /// What was asked for, if it is not there; it may lie below zero.
    asked_for: Option<i64>,
    log_start_offset: u64,
    high_watermark: u64,
}

#[derive(Debug, Serialize)]
struct SkippedJson {
    #[serde(flatten)]
    partition: PartitionJson,
    reason: &'static str,
}

impl PlanJson {
    fn new(plan: &ResetPlan, dry_run: bool) -> Self {
        let skipped = plan.skipped.iter().map(|(partition, reason)| SkippedJson {
            partition: PartitionJson::new(partition),
            reason: words(*reason),
        });
        Self {
            group: plan.group.clone(),
            applied: !dry_run,
            partitions: plan.steps.iter().map(StepJson::new).collect(),
            skipped: skipped.collect(),
        }
    }
}

impl StepJson {
    fn new(step: &ResetStep) -> Self {
        let asked_for = step.clamped.map(|clamp| match clamp {
            Clamp::ToLogStart(asked) | Clamp::ToHighWatermark(asked) => {
                i64::try_from(asked).unwrap_or(if asked < 0 { i64::MIN } else { i64::MAX })
            }
        });
        Self {
            partition: PartitionJson::new(&step.to.partition),
            now: step.from.map(|offset| offset.get()),
            then: step.to.offset.get(),
            asked_for,
            log_start_offset: step.log_start_offset.get(),
            high_watermark: step.high_watermark.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use duramen_client::{GroupOffset, NamedPartition};

    use super::*;

    fn named(id: u32) -> NamedPartition {
        NamedPartition::new("quakes", PartitionId::new(id))
    }

    fn step(clamped: Option<Clamp>) -> ResetStep {
        ResetStep {
            to: GroupOffset::new(named(3), Offset::new(10)),
            from: Some(Offset::new(40)),
            clamped,
            log_start_offset: Offset::new(10),
            high_watermark: Offset::new(50),
        }
    }

    fn plan(steps: Vec<ResetStep>, skipped: Vec<(NamedPartition, SkipReason)>) -> ResetPlan {
        ResetPlan { group: "billing".into(), fence: Some(1), steps, skipped }
    }

    fn how(topic: Option<&str>, partition: Option<u32>) -> HowArgs {
        HowArgs { topic: topic.map(str::to_owned), partition, dry_run: false, force: false }
    }

    #[test]
    fn a_step_says_where_it_was_asked_to_go_if_it_does_not() {
        assert_eq!(row(&step(None)), ["quakes", "3", "40", "10", "-"]);
        let clamped = row(&step(Some(Clamp::ToLogStart(-60))));
        assert_eq!(clamped, ["quakes", "3", "40", "10", "-60, no longer kept"]);
        assert_eq!(asked(Clamp::ToHighWatermark(70)), "70, past the end");
    }

    #[test]
    fn json_says_whether_it_was_done() {
        let plan = plan(
            vec![step(Some(Clamp::ToLogStart(-60)))],
            vec![(named(1), SkipReason::NeverCommitted)],
        );
        let json = serde_json::to_value(PlanJson::new(&plan, true)).unwrap();
        assert_eq!(json["applied"], false);
        assert_eq!(
            json["partitions"][0],
            serde_json::json!({"topic": "quakes", "partition": 3, "now": 40, "then": 10,
                "asked_for": -60, "log_start_offset": 10, "high_watermark": 50})
        );
        assert_eq!(json["skipped"][0]["partition"], 1);
    }

    #[test]
    fn a_reset_of_nothing_is_a_failure_that_says_why() {
        assert!(check(&plan(vec![step(None)], vec![])).is_ok());
        let gone = vec![(named(9), SkipReason::UnknownPartition)];
        let text = check(&plan(vec![], gone)).unwrap_err().full_text();
        assert_eq!(text, "nothing to reset in billing: quakes-9: the topic has no such partition");
        let text = check(&plan(vec![], vec![])).unwrap_err().full_text();
        assert!(text.contains("--topic"), "{text}");
    }

    #[test]
    fn of_a_file_only_the_named_partitions_are_taken() {
        let one = |topic: &str, partition| ExportedOffset {
            topic: topic.into(),
            partition,
            offset: 1,
            leader_epoch: 0,
            metadata: String::new(),
        };
        let to = ResetTo::Exported(vec![one("quakes", 0), one("quakes", 1), one("orders", 0)]);
        assert_eq!(how(None, None).scope(&to), ResetScope::All);
        let only = |ids: &[u32]| {
            let names = ids.iter().map(|id| ("quakes".to_owned(), Some(PartitionId::new(*id))));
            ResetScope::Only(names.collect())
        };
        assert_eq!(how(Some("quakes"), None).scope(&to), only(&[0, 1]));
        assert_eq!(how(Some("quakes"), Some(1)).scope(&to), only(&[1]));
        let all = ResetScope::Only(vec![("quakes".into(), None)]);
        assert_eq!(how(Some("quakes"), None).scope(&ResetTo::Latest), all);
    }
}
