//! How long a member can be sure that it is one. Pure: time is an argument.
//!
//! A session goes on for so long after the coordinator has heard of the member. The member knows
//! only when it *sent* something that was answered: `until <= sent + session` never lies beyond the
//! coordinator's own deadline, however long the answer was on its way or lay unread.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// The lease of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    until: Option<Instant>,
    sent: VecDeque<(u64, Instant)>,
    sequence: u64,
}

impl Lease {
    /// Whether records may be handed out.
    pub(super) fn is_sure(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What was sent then is confirmed.
    pub(super) fn confirm(&mut self, sent: Instant, session: Duration, unsure: Duration) {
        let until = sent + session.saturating_sub(unsure);
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    /// Notes a heartbeat; gives its sequence.
    pub(super) fn sent(&mut self, now: Instant) -> u64 {
        self.sequence += 1;
        if self.sent.len() >= limits::HEARTBEATS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.sequence, now));
        self.sequence
    }

    /// A heartbeat was answered; whether it was one that waited for an answer.
    pub(super) fn answered(&mut self, sequence: u64, session: Duration, unsure: Duration) -> bool {
        let Some(place) = self.sent.iter().position(|(sent, _)| *sent == sequence) else {
            return false;
        };
        let Some((_, sent)) = self.sent.get(place).copied() else { return false };
        self.sent.drain(..=place);
        self.confirm(sent, session, unsure);
        true
    }

    /// Since when an answer is waited for.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.sent.front().map(|(_, sent)| *sent)
    }

    /// The stream has ended: what was sent on it is not answered any more.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// It is a member no more.
    pub(super) fn end(&mut self) {
        self.until = None;
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lease = Lease::default();
        assert!(!lease.is_sure(start));
        let first = lease.sent(at(0));
        let second = lease.sent(at(3));
        assert_eq!(lease.waiting_since(), Some(at(0)));
        // The answer comes after 9 s and is worth one more.
        assert!(lease.answered(first, SESSION, Duration::ZERO));
        assert!(lease.is_sure(at(9)) && !lease.is_sure(at(10)));
        assert!(lease.answered(second, SESSION, Duration::from_secs(2)));
        assert!(lease.is_sure(at(10)) && !lease.is_sure(at(11)));
        assert!(!lease.answered(second, SESSION, Duration::ZERO), "repeated");
        assert_eq!(lease.waiting_since(), None);
    }

    #[test]
    fn a_later_answer_of_an_earlier_heartbeat_takes_nothing_back() {
        let start = Instant::now();
        let mut lease = Lease::default();
        lease.confirm(start + SESSION, SESSION, Duration::ZERO);
        lease.confirm(start, SESSION, Duration::ZERO);
        assert!(lease.is_sure(start + SESSION));
        lease.end();
        assert!(!lease.is_sure(start));
    }
}
