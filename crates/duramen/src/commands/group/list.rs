//! `duramen group list`.

use duramen_client::GroupList;
use serde::Serialize;

use super::{ListArgs, phase};
use crate::context::Context;
use crate::error::CliError;
use crate::{output, table};

/// Runs the command.
pub(super) async fn run(args: &ListArgs, context: &Context) -> Result<(), CliError> {
    let list = args.client.connect(context).await?.groups().list().await?;
    if let Some(text) = missing(&list) {
        output::note(&text);
    }
    if context.json {
        return output::json(&ListJson::new(list));
    }
    let rows = list.groups.into_iter().map(|group| {
        let phase = phase(group.phase).to_owned();
        vec![group.group, phase, group.members.to_string(), group.offsets.to_string()]
    });
    table::print(&["GROUP", "PHASE", "MEMBERS", "OFFSETS"], rows.collect())
}

/// What is to be said of shards that did not answer.
fn missing(list: &GroupList) -> Option<String> {
    let (missing, count) = (&list.shards_missing, list.shard_count);
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "warning: {} of {count} shards did not answer ({}): their groups are not listed; \
         look at: duramen cluster describe",
        missing.len(),
        table::list(missing)
    ))
}

#[derive(Debug, Serialize)]
struct ListJson {
    groups: Vec<ListedJson>,
    shards_missing: Vec<u32>,
    shard_count: u32,
}

#[derive(Debug, Serialize)]
struct ListedJson {
    group: String,
    phase: &'static str,
    members: u32,
    offsets: u32,
}

impl ListJson {
    fn new(list: GroupList) -> Self {
        let GroupList { groups, shards_missing, shard_count } = list;
        let groups = groups.into_iter().map(|group| ListedJson {
            group: group.group,
            phase: phase(group.phase),
            members: group.members,
            offsets: group.offsets,
        });
        Self { groups: groups.collect(), shards_missing, shard_count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_did_not_answer_are_named() {
        let list = |shards_missing| GroupList { groups: vec![], shards_missing, shard_count: 16 };
        assert_eq!(missing(&list(vec![])), None);
        let text = missing(&list(vec![3, 5])).unwrap();
        assert!(text.starts_with("warning: 2 of 16 shards did not answer (3,5)"), "{text}");
    }
}
