//! Stories of sessions.

use super::*;
use crate::command::{Action, ExpiryCause};
use crate::outcome::{Outcome, Removal};
use crate::state::tests::{Log, id, join, name, one_reader};

const SECOND: Duration = Duration::from_secs(1);

fn expiry(proposals: &[Proposal]) -> Vec<(&str, ExpiryCause)> {
    let one = |proposal| match proposal {
        &Proposal { action: Action::Expire { ref member, cause, .. }, .. } => {
            (member.as_str(), cause)
        }
        other => panic!("{other:?}"),
    };
    proposals.iter().map(one).collect()
}

/// Goes on with a log and its sessions.
fn observe(sessions: &mut Sessions, log: &Log, now: Duration) {
    sessions.observe(&log.state, &log.effects, now);
}

#[test]
fn a_member_that_is_heard_of_stays() {
    let mut log = Log::default();
    let mut sessions = Sessions::default();
    log.join("a");
    observe(&mut sessions, &log, SECOND);
    let (name, a) = (name(), id("a"));
    assert_eq!(sessions.next_due(), Some(SECOND * 11));
    let epoch = log.epoch("a");
    let heard = sessions.heartbeat(&log.state, (&name, &a), epoch, SECOND * 9);
    assert_eq!(heard, Ok(epoch));
    assert_eq!(sessions.due(&log.state, SECOND * 11, 10), []);
    assert_eq!(sessions.next_due(), Some(SECOND * 19));
    assert_eq!(sessions.session(&name, &a), Some((SECOND * 9, SECOND * 19)));
    let due = sessions.due(&log.state, SECOND * 19, 10);
    assert_eq!(expiry(&due), [("a", ExpiryCause::Session)]);
    // It is proposed again only after a while: the first may be on its way.
    assert_eq!(sessions.due(&log.state, SECOND * 19, 10), []);
    assert_eq!(sessions.due(&log.state, SECOND * 20, 10).len(), 1);
    assert_eq!(log.apply(due[0].action.clone()), Outcome::Expired);
    observe(&mut sessions, &log, SECOND * 20);
    assert_eq!(sessions.next_due(), None);
    let gone = sessions.heartbeat(&log.state, (&name, &a), epoch, SECOND * 21);
    assert_eq!(gone, Err(Refusal::UnknownMember));
    assert_eq!(sessions.last_fenced(&name), Some((&a, SECOND * 21)));
}

#[test]
fn an_expiry_that_was_overtaken_by_what_the_member_did_is_refused() {
    let mut log = one_reader();
    let mut sessions = Sessions::adopt(&log.state, SECOND);
    let due = sessions.due(&log.state, SECOND * 11, 10);
    log.join("b");
    log.assign();
    assert_eq!(
        log.apply(due[0].action.clone()),
        Outcome::Refused(Refusal::WrongEpoch { current: log.epoch("a") })
    );
}

#[test]
fn a_new_coordinator_gives_everybody_a_full_session() {
    let mut log = one_reader();
    log.join("b");
    log.assign();
    let mut sessions = Sessions::adopt(&log.state, SECOND * 100);
    assert_eq!(sessions.due(&log.state, SECOND * 109, 10), []);
    assert_eq!(sessions.revocation_end(&name(), &id("a")), Some(SECOND * 160));
    assert_eq!(sessions.revocation_end(&name(), &id("b")), None);
    assert_eq!(sessions.due(&log.state, SECOND * 110, 0), [], "without room nothing is taken");
    let due = sessions.due(&log.state, SECOND * 110, 1);
    assert_eq!(expiry(&due), [("a", ExpiryCause::Session)], "no more than asked for");
    assert_eq!(sessions.due(&log.state, SECOND * 110, 10).len(), 1);
}

#[test]
fn a_member_that_calls_and_gives_nothing_back_is_removed_in_the_end() {
    let mut log = one_reader();
    let mut sessions = Sessions::adopt(&log.state, Duration::ZERO);
    log.join("b");
    observe(&mut sessions, &log, SECOND);
    log.assign();
    observe(&mut sessions, &log, SECOND);
    for second in 1..=60 {
        for member in ["a", "b"] {
            let at = (&name(), &id(member));
            sessions.heartbeat(&log.state, at, log.epoch(member), SECOND * second).unwrap();
        }
        assert_eq!(sessions.due(&log.state, SECOND * second, 10), []);
    }
    let due = sessions.due(&log.state, SECOND * 61, 10);
    assert_eq!(expiry(&due), [("a", ExpiryCause::Revocation)]);
    // Had it given back in time, the clock would have stopped.
    log.acknowledge("a");
    observe(&mut sessions, &log, SECOND * 61);
    assert_eq!(sessions.revocation_end(&name(), &id("a")), None);
}

#[test]
fn a_static_member_that_is_away_has_a_session_to_come_back() {
    let mut log = Log::default();
    let mut sessions = Sessions::default();
    let with = |member: &str| crate::Join { instance: crate::InstanceId::new("i"), ..join(member) };
    log.apply(Action::Join(with("a")));
    observe(&mut sessions, &log, Duration::ZERO);
    let epoch = log.epoch("a");
    log.apply(Action::Leave { member: id("a"), epoch, returns: true });
    observe(&mut sessions, &log, SECOND * 5);
    let late = sessions.heartbeat(&log.state, (&name(), &id("a")), epoch, SECOND * 6);
    assert_eq!(late, Err(Refusal::UnknownMember), "a heartbeat from before it left");
    log.apply(Action::Join(with("b")));
    observe(&mut sessions, &log, SECOND * 7);
    let taken_over = |effect: &Effect| {
        matches!(effect, Effect::MemberRemoved { reason: Removal::TakenOver, .. })
    };
    assert!(log.effects.iter().any(taken_over));
    assert_eq!(sessions.session(&name(), &id("a")), None);
    assert_eq!(sessions.next_due(), Some(SECOND * 17));
}
