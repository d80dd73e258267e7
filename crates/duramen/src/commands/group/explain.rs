//! `duramen group explain`: why a group makes no progress, and what to do about it.

use duramen_client::{GroupDescription, GroupReason, NamedPartition};
use serde::Serialize;

use super::{ExplainArgs, PartitionJson, phase};
use crate::context::Context;
use crate::error::CliError;
use crate::output;
use crate::partitions::{compact, topic_text};

/// A cause, with what it holds up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    reason: GroupReason,
    /// Empty if it is said of the group as a whole.
    partitions: Vec<NamedPartition>,
}

/// Runs the command.
pub(super) async fn run(args: &ExplainArgs, context: &Context) -> Result<(), CliError> {
    let group = args.client.connect(context).await?.groups().describe(&args.group).await?;
    let causes = causes(&group, args.topic.as_deref(), args.partition)?;
    if context.json {
        return output::json(&ExplainJson::new(&group, &causes));
    }
    for line in lines(&group, &causes) {
        output::line(&line)?;
    }
    Ok(())
}

/// The causes: of all of the group first, then of partitions; of what was asked for only, if it is
/// one topic or partition.
fn causes(
    group: &GroupDescription,
    topic: Option<&str>,
    partition: Option<u32>,
) -> Result<Vec<Cause>, CliError> {
    let whole = group.reasons.iter().filter(|_| topic.is_none());
    let mut causes: Vec<Cause> =
        whole.map(|reason| Cause { reason: reason.clone(), partitions: Vec::new() }).collect();
    let mut found_any = false;
    for found in &group.partitions {
        let named = &found.partition;
        let is_asked = topic.is_none_or(|topic| topic_text(named) == topic)
            && partition.is_none_or(|partition| partition == named.partition.get());
        if !is_asked {
            continue;
        }
        found_any = true;
        let Some(reason) = &found.reason else { continue };
        // Of a whole group only what is wrong is of interest.
        if topic.is_none() && is_fine(&reason.code) {
            continue;
        }
        match causes.iter_mut().find(|cause| cause.reason == *reason) {
            Some(cause) => cause.partitions.push(named.clone()),
            None => causes.push(Cause { reason: reason.clone(), partitions: vec![named.clone()] }),
        }
    }
    if topic.is_some() && !found_any {
        let name = &group.group;
        return Err(CliError::Failed(format!(
            "{name} neither reads that nor has it committed there; look at: duramen group describe \
             {name}"
        )));
    }
    Ok(causes)
}

/// Whether it says that nothing is wrong.
fn is_fine(code: &str) -> bool {
    matches!(code, "reading" | "at-end")
}

fn lines(group: &GroupDescription, causes: &[Cause]) -> Vec<String> {
    let name = &group.group;
    if causes.is_empty() {
        let what = match group.lag_records {
            0 => "it has read everything".to_owned(),
            behind => format!("it is {behind} records behind and reads"),
        };
        return vec![format!("{name} is {}: nothing is in its way; {what}", phase(group.phase))];
    }
    let mut lines = Vec::new();
    for cause in causes {
        let of = match &cause.partitions[..] {
            [] => String::new(),
            partitions => format!(" ({})", compact(partitions)),
        };
        lines.push(format!("{}: {}{of}", cause.reason.code, cause.reason.text));
        lines.push(format!("  do: {}", hint(group, cause)));
    }
    lines
}

/// What to do about a cause.
fn hint(group: &GroupDescription, cause: &Cause) -> String {
    let name = &group.group;
    let first = cause.partitions.first().or_else(|| said_of(group, &cause.reason));
    let topic = first.map_or_else(|| subscribed(group), topic_text);
    let place = match first {
        Some(named) => format!("--topic {topic} --partition {}", named.partition),
        None => format!("--topic {topic}"),
    };
    let member = group
        .members
        .iter()
        .find(|member| cause.reason.text.contains(&member.member_id))
        .map_or("MEMBER", |member| &member.member_id);
    advice(&cause.reason.code, &Names { name, topic: &topic, place: &place, member })
}

/// What an advice may name.
struct Names<'a> {
    name: &'a str,
    topic: &'a str,
    /// The options that name the partition.
    place: &'a str,
    member: &'a str,
}

fn advice(code: &str, Names { name, topic, place, member }: &Names<'_>) -> String {
    match code {
        "unknown-group" => {
            format!(
                "look at: duramen group list; the first member makes it: duramen consume TOPIC --group {name}"
            )
        }
        "no-members" => format!("start a consumer: duramen consume {topic} --group {name}"),
        "not-resolved" => {
            "nothing, it takes a moment; if it stays, see whether all nodes live: duramen cluster \
             describe"
                .into()
        }
        "nothing-matches" => {
            "look at the names: duramen topic list; create the topic, or subscribe to one that is \
             there"
                .into()
        }
        "not-subscribed" => format!(
            "start a member that reads it, or forget it: duramen group delete {name} --offsets \
             --topic {topic}"
        ),
        "unknown-partition" => format!(
            "see which there are: duramen topic describe {topic}; forget the others: duramen \
             group delete {name} --offsets {place}"
        ),
        "target-due" => {
            "nothing, it takes a moment; if it stays, the coordinator's log says why".into()
        }
        "waits-for-revocation" => format!(
            "see why it does not give it back: a record that takes long? It may be removed: \
             duramen group remove {name} {member}"
        ),
        "silent" => format!(
            "see whether its process runs and reaches the cluster; if it will not be back: \
             duramen group remove {name} {member}"
        ),
        "away" => format!(
            "start that instance again, or do not wait for it: duramen group remove {name} {member}"
        ),
        "fenced" => "restart that consumer: it has to join again".into(),
        "idle" => "nothing is lost; stop some members, or read topics with more partitions".into(),
        "never-committed" => {
            "see whether the member processes anything, and commits it: its log says".into()
        }
        "below-log-start" => format!(
            "those records are gone; members go on at the first one kept, or: duramen group reset \
             {name} --to-earliest {place}; to keep more: duramen topic alter {topic} --config \
             retention.ms=…"
        ),
        "past-end" => format!("duramen group reset {name} --to-latest {place}"),
        "at-end" => "nothing: it waits for new records".into(),
        "reading" => format!(
            "nothing; if it falls behind, make it faster or add members: duramen group describe \
             {name}"
        ),
        "no-leader" => {
            format!(
                "see which nodes are down: duramen topic describe {topic}; duramen cluster describe"
            )
        }
        _ => "this program does not know more: a newer one may".into(),
    }
}

/// The partition that the reason of a whole group is about, if a partition says the same.
fn said_of<'a>(group: &'a GroupDescription, reason: &GroupReason) -> Option<&'a NamedPartition> {
    let same = |found: &&duramen_client::GroupPartition| found.reason.as_ref() == Some(reason);
    group.partitions.iter().find(same).map(|found| &found.partition)
}

/// A topic of the group, to be put into an example.
fn subscribed(group: &GroupDescription) -> String {
    let wanted = group.members.iter().flat_map(|member| &member.subscription.topics).next();
    let known = || group.partitions.first().map(|found| topic_text(&found.partition));
    wanted.cloned().or_else(known).unwrap_or_else(|| "TOPIC".into())
}

#[derive(Debug, Serialize)]
struct ExplainJson {
    group: String,
    phase: &'static str,
    causes: Vec<CauseJson>,
}

#[derive(Debug, Serialize)]
struct CauseJson {
    code: String,
    text: String,
    hint: String,
    partitions: Vec<PartitionJson>,
}

impl ExplainJson {
    fn new(group: &GroupDescription, causes: &[Cause]) -> Self {
        let causes = causes.iter().map(|cause| CauseJson {
            code: cause.reason.code.clone(),
            text: cause.reason.text.clone(),
            hint: hint(group, cause),
            partitions: cause.partitions.iter().map(PartitionJson::new).collect(),
        });
        Self { group: group.group.clone(), phase: phase(group.phase), causes: causes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::{group, partition, reason};
    use super::*;

    /// As `Reason` in group.proto lists them.
    const CODES: [&str; 18] = [
        "unknown-group",
        "no-members",
        "not-resolved",
        "nothing-matches",
        "not-subscribed",
        "unknown-partition",
        "target-due",
        "waits-for-revocation",
        "silent",
        "away",
        "fenced",
        "idle",
        "never-committed",
        "below-log-start",
        "past-end",
        "at-end",
        "reading",
        "no-leader",
    ];

    #[test]
    fn every_code_has_a_hint() {
        let group = group(vec![partition(0, reason("reading", ""))]);
        for code in CODES {
            let cause = Cause { reason: reason(code, "said"), partitions: vec![] };
            let hint = hint(&group, &cause);
            assert!(!hint.starts_with("this program"), "{code}");
        }
        let unknown = Cause { reason: reason("tired", "it sleeps"), partitions: vec![] };
        assert!(hint(&group, &unknown).starts_with("this program"));
    }

    #[test]
    fn the_cause_comes_first_and_then_what_to_do() {
        let gone = reason("below-log-start", "quakes-3 is committed up to 1 and begins at 5 now");
        let mut group =
            group(vec![partition(2, reason("reading", "")), partition(3, gone.clone())]);
        group.reasons = vec![reason("silent", "m was not heard of for 6000 ms")];
        let lines = lines(&group, &causes(&group, None, None).unwrap());
        assert_eq!(lines[0], "silent: m was not heard of for 6000 ms");
        assert!(lines[1].starts_with("  do: "), "{lines:?}");
        assert!(lines[1].ends_with("duramen group remove billing m"), "{lines:?}");
        let text = gone.text;
        assert_eq!(lines[2], format!("below-log-start: {text} (quakes 3)"));
        assert!(lines[3].contains("--to-earliest --topic quakes --partition 3"), "{lines:?}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn partitions_that_wait_for_the_same_are_one_cause() {
        let none = || reason("no-members", "no member for 5 ms");
        let mut group = group(vec![partition(0, none()), partition(1, none())]);
        group.members.clear();
        group.reasons = vec![none()];
        let causes = causes(&group, None, None).unwrap();
        assert_eq!(causes.len(), 1);
        let lines = lines(&group, &causes);
        assert_eq!(lines[0], "no-members: no member for 5 ms (quakes 0-1)");
        assert_eq!(lines[1], "  do: start a consumer: duramen consume quakes --group billing");
    }

    #[test]
    fn a_partition_that_was_asked_for_is_explained_even_if_all_is_well() {
        let group = group(vec![partition(0, reason("at-end", "quakes-0 is read to its end at 3"))]);
        assert!(causes(&group, None, None).unwrap().is_empty());
        let of_one = causes(&group, Some("quakes"), Some(0)).unwrap();
        assert_eq!(of_one[0].reason.code, "at-end");
        assert!(causes(&group, Some("quakes"), Some(7)).is_err());
    }

    #[test]
    fn a_group_that_is_well_says_so() {
        let lines = lines(&group(vec![]), &[]);
        assert_eq!(
            lines,
            ["billing is stable: nothing is in its way; it is 7 records behind and reads"]
        );
    }
}
