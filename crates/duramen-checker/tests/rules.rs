//! The exact edges of the rules: what is owed, what is allowed, what stays unknown.

use duramen_checker::{
    Call, GroupEvent, History, Observation, Options, Outcome, Placed, Record, Report, Value, check,
};

fn send(history: &mut History, value: Value, offset: Option<u64>) {
    let op = history.invoke(1, 0, Call::Send(&[(0, value)]));
    history.complete(op, 1, Outcome::Sent(&[Placed { offset, epoch: 1 }]));
}

fn send_unknown(history: &mut History, values: &[(u32, Value)]) {
    let op = history.invoke(2, 0, Call::Send(values));
    history.complete(op, 1, Outcome::Unknown);
}

/// A process that reads these offsets and values from the beginning.
fn read(history: &mut History, records: &[(u64, Value)]) {
    let op = history.invoke(9, 0, Call::Assign { keys: &[0], from_start: true });
    history.complete(op, 1, Outcome::Done);
    let record = |&(offset, value): &_| Record { key: 0, offset, value };
    let records: Vec<_> = records.iter().map(record).collect();
    let op = history.invoke(9, 2, Call::Poll);
    history.complete(op, 3, Outcome::Polled(&records));
}

fn report(history: &History, final_read: bool) -> Report {
    check(history, &Options { final_read, ..Options::default() })
}

fn names(history: &History, final_read: bool) -> Vec<&'static str> {
    report(history, final_read).counts.into_keys().collect()
}

#[test]
fn what_is_past_everything_read_is_not_lost_but_unseen_in_the_end() {
    let mut history = History::default();
    send(&mut history, 10, Some(0));
    send(&mut history, 11, Some(1));
    read(&mut history, &[(0, 10)]);
    assert!(names(&history, false).is_empty());
    assert_eq!(names(&history, true), ["unseen"]);
}

#[test]
fn what_is_below_something_read_is_lost_at_once() {
    let mut history = History::default();
    send(&mut history, 10, Some(0));
    send(&mut history, 11, Some(1));
    let poll = history.invoke(3, 0, Call::Poll);
    history.complete(poll, 1, Outcome::Polled(&[Record { key: 0, offset: 1, value: 11 }]));
    assert_eq!(names(&history, false), ["lost-write"]);
}

#[test]
fn an_acknowledgement_without_an_offset_raises_no_bound_and_is_seen_in_the_end() {
    let mut history = History::default();
    send(&mut history, 10, None);
    assert!(names(&history, false).is_empty());
    assert_eq!(names(&history, true), ["unseen"]);
    read(&mut history, &[(0, 10)]);
    assert!(names(&history, true).is_empty());
}

#[test]
fn an_unknown_send_may_be_there_or_not_and_once_only() {
    let mut history = History::default();
    send_unknown(&mut history, &[(0, 10)]);
    assert!(names(&history, true).is_empty());
    read(&mut history, &[(0, 10)]);
    let sound = report(&history, true);
    assert!(sound.is_sound());
    assert_eq!((sound.figures.unknown_stored, sound.figures.unknown_unseen), (1, 0));
    read(&mut history, &[(0, 10), (1, 10)]);
    assert_eq!(names(&history, true), ["duplicate"]);
}

#[test]
fn what_retention_took_is_not_owed_and_leaves_no_gap() {
    let mut history = History::default();
    for offset in 0..4 {
        send(&mut history, 10 + offset, Some(offset));
    }
    read(&mut history, &[(2, 12), (3, 13)]);
    let before = names(&history, true);
    assert_eq!(before, ["lost-write", "offset-gap", "unseen"]);
    history.observe(0, 0, Observation { log_start: Some(2), ..Observation::default() });
    assert!(names(&history, true).is_empty());
    history.observe(0, 0, Observation { log_start: Some(1), ..Observation::default() });
    assert_eq!(names(&history, true), ["log-start-regressed"]);
}

#[test]
fn a_subscribed_process_may_skip_and_go_back() {
    for is_subscribed in [false, true] {
        let mut history = History::default();
        for offset in 0..3 {
            send(&mut history, 10 + offset, Some(offset));
        }
        read(&mut history, &[(0, 10), (1, 11), (2, 12)]);
        let call = if is_subscribed {
            Call::Subscribe(&[0])
        } else {
            Call::Assign { keys: &[0], from_start: false }
        };
        let op = history.invoke(4, 0, call);
        history.complete(op, 1, Outcome::Done);
        for offset in [0, 2, 1] {
            let poll = history.invoke(4, 0, Call::Poll);
            let record = Record { key: 0, offset, value: 10 + offset };
            history.complete(poll, 1, Outcome::Polled(&[record]));
        }
        let report = report(&history, true);
        assert_eq!((report.count("poll-skip"), report.count("nonmonotonic-poll")), (1, 1));
        assert_eq!(report.is_sound(), is_subscribed, "{report}");
    }
}

#[test]
fn a_seek_and_a_crash_drop_the_position() {
    for call in [Call::Seek(0), Call::Crash] {
        let mut history = History::default();
        send(&mut history, 10, Some(0));
        send(&mut history, 11, Some(1));
        read(&mut history, &[(0, 10), (1, 11)]);
        let op = history.invoke(9, 0, call);
        history.complete(op, 1, Outcome::Done);
        let poll = history.invoke(9, 0, Call::Poll);
        history.complete(poll, 1, Outcome::Polled(&[Record { key: 0, offset: 0, value: 10 }]));
        assert!(names(&history, true).is_empty());
    }
}

#[test]
fn what_an_unknown_send_left_may_come_late_but_not_before_an_answer() {
    let mut history = History::default();
    let late = history.invoke(1, 0, Call::Send(&[(0, 10)]));
    history.complete(late, 1, Outcome::Unknown);
    send(&mut history, 11, Some(0));
    read(&mut history, &[(0, 11), (1, 10)]);
    assert!(names(&history, true).is_empty());

    let mut history = History::default();
    send(&mut history, 10, Some(1));
    let unknown = history.invoke(1, 0, Call::Send(&[(0, 11)]));
    history.complete(unknown, 1, Outcome::Unknown);
    send(&mut history, 12, Some(0));
    read(&mut history, &[(0, 12), (1, 10)]);
    assert_eq!(names(&history, true), ["nonmonotonic-send"]);
}

#[test]
fn without_idempotence_a_value_may_be_stored_twice() {
    let mut history = History::default();
    send(&mut history, 10, Some(0));
    read(&mut history, &[(0, 10), (1, 10)]);
    assert!(!report(&history, true).is_sound());
    let options = Options { idempotent: false, ..Options::default() };
    assert!(check(&history, &options).is_sound());
}

#[test]
fn offsets_may_have_holes_where_the_option_says_so() {
    let mut history = History::default();
    send(&mut history, 10, Some(0));
    send(&mut history, 11, Some(2));
    read(&mut history, &[(0, 10), (2, 11)]);
    assert_eq!(names(&history, true), ["offset-gap"]);
    let options = Options { dense_offsets: false, ..Options::default() };
    assert!(check(&history, &options).is_sound());
}

#[test]
fn a_question_that_was_under_way_owes_nothing_of_what_came_after_it() {
    let mut history = History::default();
    send(&mut history, 10, Some(0));
    read(&mut history, &[(0, 10)]);
    let asked = history.mark();
    let delivered = GroupEvent::Delivered { member: 1, key: 0, offsets: 0..1 };
    history.group(1, delivered);
    let commit = duramen_checker::Commit {
        asked: history.mark(),
        member: 1,
        generation: 1,
        key: 0,
        offset: 1,
        answer: duramen_checker::CommitAnswer::Accepted,
    };
    history.group(1, GroupEvent::Committed(commit));
    history.group(1, GroupEvent::Fetched { asked, key: 0, offset: None });
    assert!(names(&history, true).is_empty());
    let asked = history.mark();
    history.group(1, GroupEvent::Fetched { asked, key: 0, offset: None });
    assert_eq!(names(&history, true), ["group-offset-regressed"]);
}

#[test]
fn one_history_goes_on_with_another() {
    let (mut first, mut second) = (History::default(), History::default());
    send(&mut first, 10, Some(0));
    read(&mut first, &[(0, 10)]);
    send(&mut second, 11, Some(1));
    read(&mut second, &[(0, 10), (1, 11)]);
    first.extend(second);
    let report = report(&first, true);
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.figures.acknowledged, first.sent().count()), (2, 2));
}
