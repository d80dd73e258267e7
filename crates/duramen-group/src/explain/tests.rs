//! Each reason once.

use std::collections::BTreeMap;

use duramen_types::MetadataIndex;

use super::*;
use crate::command::Action;
use crate::epoch::MemberEpoch;
use crate::name::InstanceId;
use crate::state::tests::{Log, at, id, join, name, one_reader};
use crate::subscription::Resolution;

/// What is said of a group and of its partition 0, which has the offsets 10 to 20.
struct Said {
    group: Vec<Reason>,
    partition: Reason,
}

fn ask(log: &Log, sessions: Option<(&Sessions, Duration)>) -> Said {
    let bounds = |_| {
        let (log_start, high_watermark) = (Offset::new(10), Offset::new(20));
        Some(PartitionBounds { log_start, high_watermark })
    };
    let now = Timestamp::from_millis(1_000);
    let explainer = Explainer { state: &log.state, sessions, now, bounds: &bounds };
    let said =
        Said { group: explainer.group(&name()), partition: explainer.partition(&name(), at(1, 0)) };
    for reason in said.group.iter().chain([&said.partition]) {
        assert!(!reason.to_string().is_empty());
    }
    said
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_group_that_nobody_is_in() {
    let mut log = Log::default();
    assert_eq!(ask(&log, None).partition, Reason::UnknownGroup);
    log.join("a");
    let epoch = log.epoch("a");
    log.now = 500;
    log.apply(Action::Leave { member: id("a"), epoch, returns: false });
    let said = ask(&log, None);
    let reason = Reason::NoMembers { for_ms: 500 };
    assert_eq!((said.group, said.partition), (vec![reason.clone()], reason));
}

#[test]
fn a_group_on_its_way_to_a_target() {
    let mut log = Log::default();
    log.join("a");
    let said = ask(&log, None);
    assert_eq!((said.group, said.partition), (vec![Reason::NotResolved], Reason::NotResolved));
    let names = BTreeMap::from([("t1".into(), None)]);
    let index = MetadataIndex::new(1);
    log.apply(Action::Resolve(Resolution { index, names, ..Resolution::default() }));
    let said = ask(&log, None);
    assert_eq!(said.group, [Reason::NothingMatches]);
    assert_eq!(said.partition, Reason::NotSubscribed { topic: at(1, 0).topic });
    log.resolve(2, 2);
    let said = ask(&log, None);
    assert_eq!((said.group, said.partition), (vec![Reason::TargetDue], Reason::TargetDue));
    let bounds = |_| None;
    let now = Timestamp::EPOCH;
    let explainer = Explainer { state: &log.state, sessions: None, now, bounds: &bounds };
    assert_eq!(explainer.partition(&name(), at(1, 2)), Reason::UnknownPartition { count: 2 });
}

#[test]
fn a_partition_that_waits_for_its_last_holder() {
    let mut log = one_reader();
    log.join("b");
    log.assign();
    let sessions = Sessions::adopt(&log.state, seconds(0));
    let explainer = Explainer {
        state: &log.state,
        sessions: Some((&sessions, seconds(1))),
        now: Timestamp::EPOCH,
        bounds: &|_| None,
    };
    let reason = explainer.partition(&name(), at(1, 3));
    let expected = Reason::WaitsForRevocation {
        partition: at(1, 3),
        holder: id("a"),
        next: Some(id("b")),
        waiting_ms: Some(1_000),
        removed_in_ms: Some(9_000),
    };
    assert_eq!(reason, expected);
    let text = reason.to_string();
    let says = "waits for a to give it back, for 1000 ms now, then b gets it; a is removed in 9000";
    assert!(text.contains(says), "{text}");
    assert!(explainer.group(&name()).contains(&expected));
    assert_eq!(explainer.partitions(&name()).len(), 4);
}

#[test]
fn members_that_are_silent_away_fenced_or_too_many() {
    let mut log = Log::default();
    let instance = InstanceId::new("i");
    log.apply(Action::Join(crate::Join { instance, ..join("a") }));
    log.join("b");
    log.resolve(1, 1);
    log.assign();
    let mut sessions = Sessions::adopt(&log.state, seconds(0));
    let silent = |member, silent_ms, expires_in_ms| Reason::Silent {
        member: id(member),
        silent_ms,
        expires_in_ms,
    };
    let said = ask(&log, Some((&sessions, seconds(6))));
    let idle = Reason::Idle { members: 1 };
    assert_eq!(said.group, [silent("a", 6_000, 4_000), silent("b", 6_000, 4_000), idle]);
    assert_eq!(said.partition, silent("a", 6_000, 4_000));
    let b = (&name(), &id("b"));
    let now = seconds(6);
    sessions.heartbeat(&log.state, b, log.epoch("b"), now).unwrap();
    sessions.heartbeat(&log.state, (&name(), &id("x")), MemberEpoch::ZERO, now).unwrap_err();
    let epoch = log.epoch("a");
    log.apply(Action::Leave { member: id("a"), epoch, returns: true });
    let said = ask(&log, Some((&sessions, seconds(7))));
    let away = Reason::Away { member: id("a"), expires_in_ms: Some(3_000) };
    let fenced = Reason::Fenced { member: id("x"), ago_ms: 1_000 };
    assert_eq!(said.group, [fenced, away.clone(), Reason::Idle { members: 1 }]);
    assert_eq!(said.partition, away);
}

#[test]
fn offsets_and_what_there_is_to_read() {
    let mut log = one_reader();
    let partition = at(1, 0);
    let holder = id("a");
    assert_eq!(ask(&log, None).partition, Reason::NeverCommitted { partition, holder });
    let epoch = log.epoch("a");
    let mut commit = |offset| {
        assert_eq!(log.commit("a", epoch, offset), []);
        (ask(&log, None).partition, Offset::new(offset))
    };
    let (said, committed) = commit(5);
    let log_start = Offset::new(10);
    assert_eq!(said, Reason::BelowLogStart { partition, committed, log_start });
    let holder = id("a");
    let reading = Reason::Reading { partition, holder, lag: Some(8), committed_ago_ms: 1_000 };
    assert_eq!(commit(12).0, reading);
    let (said, committed) = commit(20);
    assert_eq!(said, Reason::AtEnd { partition, committed });
    let (said, committed) = commit(21);
    let high_watermark = Offset::new(20);
    assert_eq!(said, Reason::PastEnd { partition, committed, high_watermark });
    let group = ask(&log, None).group;
    assert_eq!(group.first(), Some(&said));
}

#[test]
fn topics_have_their_names_in_reasons_and_members_keep_theirs() {
    let partition = at(1, 3);
    let topic = partition.topic;
    // A member may be called like a topic's id.
    let holder = id(&topic.to_string());
    let reason = Reason::NeverCommitted { partition, holder };
    let names = BTreeMap::from([(topic, "rings".to_owned())]);
    let said = format!("{topic} reads rings-3 and has never committed");
    assert_eq!(reason.named(&names).to_string(), said);
    let said = format!("{topic} reads {topic}-3 and has never committed");
    assert_eq!(reason.to_string(), said);
}
