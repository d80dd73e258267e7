//! `duramen group delete` and `duramen group remove`.

use duramen_client::{GroupDescription, NamedPartition, PartitionId};

use super::{DeleteArgs, PartitionJson, RemoveArgs, count};
use crate::context::Context;
use crate::error::{CliError, full_text};
use crate::output;
use crate::partitions::compact;

/// Runs `delete`.
pub(super) async fn delete(args: &DeleteArgs, context: &Context) -> Result<(), CliError> {
    let groups = args.client.connect(context).await?.groups();
    let Some(topic) = args.topic.as_ref().filter(|_| args.offsets) else {
        groups.delete_group(&args.group).await?;
        if context.json {
            return output::json(&serde_json::json!({ "deleted": args.group }));
        }
        return output::line(&format!("deleted {}", args.group));
    };
    let wanted = wanted(&groups.describe(&args.group).await?, topic, args.partition)?;
    let refused = groups.delete_offsets(&args.group, &wanted).await?;
    let is_refused = |named: &NamedPartition| {
        refused.iter().any(|refused| {
            refused.partition.partition == named.partition
                && [named.topic_id, duramen_client::TopicId::NIL]
                    .contains(&refused.partition.topic_id)
        })
    };
    let (left, deleted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|named| is_refused(named));
    for refused in &refused {
        output::note(&format!("{}: {}", refused.partition, full_text(&refused.error)));
    }
    if context.json {
        let json = |all: &[NamedPartition]| all.iter().map(PartitionJson::new).collect::<Vec<_>>();
        output::json(&serde_json::json!({
            "group": args.group, "deleted": json(&deleted), "refused": json(&left),
        }))?;
    } else if !deleted.is_empty() {
        output::line(&format!("deleted the offsets of {} in {}", compact(&deleted), args.group))?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let left = count(left.len() as u64, "offset");
    Err(CliError::Failed(format!(
        "{left} were not deleted; stop the members that read there first"
    )))
}

/// The partitions of a topic with a committed offset, or the one that is named.
fn wanted(
    group: &GroupDescription,
    topic: &str,
    partition: Option<u32>,
) -> Result<Vec<NamedPartition>, CliError> {
    let partition = partition.map(PartitionId::new);
    let found = group.partitions.iter().filter(|found| {
        // A deleted topic has no name any more, only the id that is shown instead.
        let named = &found.partition;
        found.committed.is_some()
            && (&*named.topic == topic || named.topic_id.to_string() == topic)
            && partition.is_none_or(|partition| partition == named.partition)
    });
    let found: Vec<_> = found.map(|found| found.partition.clone()).collect();
    if found.is_empty() {
        let of = partition.map_or(String::new(), |partition| format!(" partition {partition}"));
        return Err(CliError::Failed(format!(
            "{name} has committed nothing in {topic}{of}; look at: duramen group describe {name}",
            name = group.group
        )));
    }
    Ok(found)
}

/// Runs `remove`.
pub(super) async fn remove(args: &RemoveArgs, context: &Context) -> Result<(), CliError> {
    let groups = args.client.connect(context).await?.groups();
    let group = groups.describe(&args.group).await?;
    let member = member_id(&group, &args.member)?;
    groups.remove_member(&args.group, member).await?;
    if context.json {
        return output::json(&serde_json::json!({ "group": args.group, "removed": member }));
    }
    output::line(&format!("removed {member} from {}", args.group))
}

/// The id of the member that is named by its id or its instance.
fn member_id<'a>(group: &'a GroupDescription, name: &str) -> Result<&'a str, CliError> {
    let by_id = group.members.iter().find(|member| member.member_id == name);
    let by_instance =
        || group.members.iter().find(|member| member.instance_id.as_deref() == Some(name));
    let found = by_id.or_else(by_instance).map(|member| member.member_id.as_str());
    found.ok_or_else(|| {
        let group = &group.group;
        CliError::Failed(format!(
            "{group} has no member {name:?}; look at: duramen group members {group}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::{group, partition, reason};
    use super::*;

    #[test]
    fn a_member_is_found_by_its_id_or_its_instance() {
        let group = group(vec![]);
        assert_eq!(member_id(&group, "m").unwrap(), "m");
        assert_eq!(member_id(&group, "one").unwrap(), "m");
        let text = member_id(&group, "two").unwrap_err().full_text();
        assert!(text.ends_with("duramen group members billing"), "{text}");
    }

    #[test]
    fn only_what_is_committed_can_be_deleted() {
        let mut never = partition(1, reason("never-committed", ""));
        never.committed = None;
        let group = group(vec![partition(0, reason("reading", "")), never]);
        assert_eq!(wanted(&group, "quakes", None).unwrap().len(), 1);
        assert!(wanted(&group, "quakes", Some(1)).is_err());
        let text = wanted(&group, "orders", None).unwrap_err().full_text();
        assert!(text.starts_with("billing has committed nothing in orders"), "{text}");
    }
}
