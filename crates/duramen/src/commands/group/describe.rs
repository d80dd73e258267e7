//! `duramen group describe` and `duramen group members`.

use std::time::Duration;

use duramen_client::{GroupDescription, GroupMember, GroupPartition, GroupReason};
use serde::Serialize;

use super::{NameArgs, PartitionJson, count, phase};
use crate::context::Context;
use crate::error::CliError;
use crate::partitions::{compact, topic_text};
use crate::{output, table};

const PARTITIONS: [&str; 8] =
    ["TOPIC", "PARTITION", "MEMBER", "COMMITTED", "END", "LAG", "WAITS", "REASON"];

const MEMBERS: [&str; 8] =
    ["MEMBER", "INSTANCE", "CLIENT", "TOPICS", "READS", "GIVES BACK", "HEARD", "EXPIRES"];

/// Runs `describe`.
pub(super) async fn run(args: &NameArgs, context: &Context) -> Result<(), CliError> {
    let group = args.client.connect(context).await?.groups().describe(&args.group).await?;
    if context.json {
        return output::json(&GroupJson::new(&group));
    }
    for line in head(&group) {
        output::line(&line)?;
    }
    if !group.partitions.is_empty() {
        output::line("")?;
        table::print(&PARTITIONS, group.partitions.iter().map(row).collect())?;
    }
    if !group.reasons.is_empty() {
        output::line("")?;
        for reason in &group.reasons {
            output::line(&format!("{}: {}", reason.code, reason.text))?;
        }
        output::line(&format!("what to do: duramen group explain {}", group.group))?;
    }
    Ok(())
}

/// Runs `members`.
pub(super) async fn members(args: &NameArgs, context: &Context) -> Result<(), CliError> {
    let group = args.client.connect(context).await?.groups().describe(&args.group).await?;
    if context.json {
        return output::json(&group.members.iter().map(MemberJson::new).collect::<Vec<_>>());
    }
    table::print(&MEMBERS, group.members.iter().map(member_row).collect())
}

/// The group as a whole.
fn head(group: &GroupDescription) -> [String; 2] {
    let GroupDescription { group: name, shard, epoch, fence, lag_records, lag_max, .. } = group;
    let members = count(group.members.len() as u64, "member");
    let lag = match lag_records {
        0 => "nothing behind".to_owned(),
        records => {
            format!("{} behind, the first waits {}", count(*records, "record"), span(*lag_max))
        }
    };
    let coordinator = table::or_dash(group.coordinator);
    [
        format!("{name}: {}, {members}, {lag}", phase(group.phase)),
        format!("coordinator {coordinator}, shard {shard}, epoch {epoch}, fence {fence}"),
    ]
}

fn row(partition: &GroupPartition) -> Vec<String> {
    let committed = partition.committed.as_ref().map(|committed| committed.offset);
    vec![
        topic_text(&partition.partition),
        partition.partition.partition.to_string(),
        table::or_dash(partition.holder.as_ref()),
        table::or_dash(committed),
        table::or_dash(partition.high_watermark),
        table::or_dash(partition.lag_records),
        table::or_dash(partition.lag.map(span)),
        table::or_dash(partition.reason.as_ref().map(|reason| &reason.code)),
    ]
}

fn member_row(member: &GroupMember) -> Vec<String> {
    let text = |text: String| if text.is_empty() { "-".into() } else { text };
    let heard = if member.away { Some("away".into()) } else { member.heard_ago.map(span) };
    vec![
        member.member_id.clone(),
        table::or_dash(member.instance_id.as_ref()),
        text(member.client.clone()),
        topics(member),
        text(compact(&member.granted)),
        text(compact(&member.revoked)),
        table::or_dash(heard),
        table::or_dash(member.expires_in.map(span)),
    ]
}

/// What a member wants to read: names, and its pattern between slashes.
fn topics(member: &GroupMember) -> String {
    let names = member.subscription.topics.iter().cloned();
    let pattern = member.subscription.pattern.iter().map(|pattern| format!("/{pattern}/"));
    table::list(names.chain(pattern))
}

/// A duration without spaces: tenths of seconds while it is short.
fn span(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let whole = Duration::from_secs(duration.as_secs());
    humantime::format_duration(whole).to_string().replace(' ', "")
}

#[derive(Debug, Serialize)]
struct GroupJson {
    group: String,
    phase: &'static str,
    coordinator: Option<u64>,
    shard: u32,
    epoch: u64,
    fence: u64,
    lag_records: u64,
    lag_ms_max: u64,
    reasons: Vec<ReasonJson>,
    members: Vec<MemberJson>,
    partitions: Vec<GroupPartitionJson>,
}

#[derive(Debug, Serialize)]
struct GroupPartitionJson {
    #[serde(flatten)]
    partition: PartitionJson,
    member: Option<String>,
    /// Who ought to read it; another one than `member` while it is on its way.
    target: Option<String>,
    committed: Option<u64>,
    /// Milliseconds since the epoch.
    committed_at: Option<i64>,
    log_start_offset: Option<u64>,
    high_watermark: Option<u64>,
    lag_records: Option<u64>,
    lag_ms: Option<u64>,
    reason: Option<ReasonJson>,
}

#[derive(Debug, Serialize)]
struct MemberJson {
    member: String,
    instance: Option<String>,
    client: String,
    rack: String,
    topics: Vec<String>,
    pattern: Option<String>,
    epoch: u64,
    session_ms: u64,
    away: bool,
    reads: Vec<PartitionJson>,
    gives_back: Vec<PartitionJson>,
    heard_ago_ms: Option<u64>,
    expires_in_ms: Option<u64>,
}

/// A reason as JSON.
#[derive(Debug, Serialize)]
struct ReasonJson {
    code: String,
    text: String,
}

impl ReasonJson {
    fn new(reason: &GroupReason) -> Self {
        Self { code: reason.code.clone(), text: reason.text.clone() }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl GroupJson {
    fn new(group: &GroupDescription) -> Self {
        Self {
            group: group.group.clone(),
            phase: phase(group.phase),
            coordinator: group.coordinator.map(|node| node.get()),
            shard: group.shard,
            epoch: group.epoch,
            fence: group.fence,
            lag_records: group.lag_records,
            lag_ms_max: millis(group.lag_max),
            reasons: group.reasons.iter().map(ReasonJson::new).collect(),
            members: group.members.iter().map(MemberJson::new).collect(),
            partitions: group.partitions.iter().map(GroupPartitionJson::new).collect(),
        }
    }
}

impl GroupPartitionJson {
    fn new(partition: &GroupPartition) -> Self {
        let committed = partition.committed.as_ref();
        Self {
            partition: PartitionJson::new(&partition.partition),
            member: partition.holder.clone(),
            target: partition.target.clone(),
            committed: committed.map(|committed| committed.offset.get()),
            committed_at: committed.map(|committed| committed.committed_at.as_millis()),
            log_start_offset: partition.log_start_offset.map(|offset| offset.get()),
            high_watermark: partition.high_watermark.map(|offset| offset.get()),
            lag_records: partition.lag_records,
            lag_ms: partition.lag.map(millis),
            reason: partition.reason.as_ref().map(ReasonJson::new),
        }
    }
}

impl MemberJson {
    fn new(member: &GroupMember) -> Self {
        Self {
            member: member.member_id.clone(),
            instance: member.instance_id.clone(),
            client: member.client.clone(),
            rack: member.rack.clone(),
            topics: member.subscription.topics.clone(),
            pattern: member.subscription.pattern.clone(),
            epoch: member.epoch,
            session_ms: millis(member.session),
            away: member.away,
            reads: member.granted.iter().map(PartitionJson::new).collect(),
            gives_back: member.revoked.iter().map(PartitionJson::new).collect(),
            heard_ago_ms: member.heard_ago.map(millis),
            expires_in_ms: member.expires_in.map(millis),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use duramen_client::{
        CommittedOffset, GroupPhase, GroupSubscription, NamedPartition, NodeId, Offset,
        PartitionId, Term, Timestamp,
    };

    use super::*;

    pub(crate) fn reason(code: &str, text: &str) -> GroupReason {
        GroupReason { code: code.into(), text: text.into() }
    }

    pub(crate) fn partition(id: u32, reason: GroupReason) -> GroupPartition {
        let committed = CommittedOffset {
            offset: Offset::new(3),
            leader_epoch: Term::new(1),
            metadata: String::new(),
            committed_at: Timestamp::from_millis(7),
        };
        GroupPartition {
            partition: NamedPartition::new("quakes", PartitionId::new(id)),
            holder: Some("m".into()),
            target: Some("m".into()),
            committed: Some(committed),
            log_start_offset: Some(Offset::new(0)),
            high_watermark: Some(Offset::new(10)),
            lag_records: Some(7),
            lag: Some(Duration::from_millis(1_500)),
            reason: Some(reason),
        }
    }

    fn member() -> GroupMember {
        GroupMember {
            member_id: "m".into(),
            instance_id: Some("one".into()),
            client: "duramen-cli".into(),
            rack: String::new(),
            subscription: GroupSubscription {
                topics: vec!["quakes".into()],
                pattern: Some("q.*".into()),
            },
            epoch: 4,
            session: Duration::from_secs(10),
            revocation: Duration::from_secs(60),
            away: false,
            granted: vec![
                NamedPartition::new("quakes", PartitionId::new(0)),
                NamedPartition::new("quakes", PartitionId::new(1)),
            ],
            revoked: vec![],
            heard_ago: Some(Duration::from_millis(900)),
            expires_in: Some(Duration::from_secs(125)),
        }
    }

    pub(crate) fn group(partitions: Vec<GroupPartition>) -> GroupDescription {
        GroupDescription {
            group: "billing".into(),
            phase: GroupPhase::Stable,
            epoch: 2,
            fence: 4,
            coordinator: Some(NodeId::new(1)),
            shard: 9,
            members: vec![member()],
            partitions,
            reasons: vec![],
            lag_records: 7,
            lag_max: Duration::from_millis(1_500),
        }
    }

    #[test]
    fn a_group_says_how_far_behind_it_is() {
        let [first, second] = head(&group(vec![]));
        assert_eq!(first, "billing: stable, 1 member, 7 records behind, the first waits 1.5s");
        assert_eq!(second, "coordinator 1, shard 9, epoch 2, fence 4");
        let [first, _] = head(&GroupDescription { lag_records: 0, ..group(vec![]) });
        assert!(first.ends_with("nothing behind"), "{first}");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let known = partition(1, reason("reading", "m reads it"));
        let expected = ["quakes", "1", "m", "3", "10", "7", "1.5s", "reading"];
        assert_eq!(row(&known), expected);
        let unknown = GroupPartition {
            holder: None,
            committed: None,
            high_watermark: None,
            lag_records: None,
            lag: None,
            ..known
        };
        assert_eq!(row(&unknown), ["quakes", "1", "-", "-", "-", "-", "-", "reading"]);
    }

    #[test]
    fn a_member_is_one_row() {
        let expected =
            ["m", "one", "duramen-cli", "quakes,/q.*/", "quakes 0-1", "-", "0.9s", "2m5s"];
        assert_eq!(member_row(&member()), expected);
        let away = GroupMember { away: true, ..member() };
        assert_eq!(member_row(&away)[6], "away");
    }

    #[test]
    fn json_has_the_fields_of_the_contract() {
        let group = group(vec![partition(1, reason("reading", "m reads it"))]);
        let json = serde_json::to_value(GroupJson::new(&group)).unwrap();
        assert_eq!(
            json["partitions"][0],
            serde_json::json!({
                "topic": "quakes", "partition": 1, "member": "m", "target": "m", "committed": 3,
                "committed_at": 7, "log_start_offset": 0, "high_watermark": 10, "lag_records": 7,
                "lag_ms": 1500, "reason": {"code": "reading", "text": "m reads it"},
            })
        );
        assert_eq!(json["members"][0]["reads"][1]["partition"], 1);
        assert_eq!((&json["phase"], &json["lag_ms_max"]), (&"stable".into(), &1500.into()));
    }
}
