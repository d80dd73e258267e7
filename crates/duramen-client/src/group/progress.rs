//! How far one partition is processed. Pure.
//!
//! Invariant: every record below `next` that was handed out is processed; what is out, or waits
//! for an earlier one, is at `next` or above. `next` is what may be committed: what was fetched and
//! not handed out never is, and of what was processed out of order only the contiguous prefix.

use std::collections::BTreeMap;

use duramen_types::{Offset, Term};

/// One partition, from one position to the next loss, reset or seek.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    next: Offset,
    /// Of the record before `next`.
    leader_epoch: Term,
    /// Handed out and not below `next`.
    out: BTreeMap<Offset, Out>,
    /// Of `out`, those that are not processed.
    unprocessed: usize,
    /// The first one that was given up: nothing is committed beyond.
    given_up: Option<Offset>,
    committed: Option<Offset>,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    leader_epoch: Term,
    done: bool,
}

impl Progress {
    /// Goes on at a position.
    pub(super) fn new(position: Offset, leader_epoch: Term, committed: Option<Offset>) -> Self {
        Self { next: position, leader_epoch, committed, ..Self::default() }
    }

    pub(super) fn hand_out(&mut self, offset: Offset, leader_epoch: Term) {
        if self.out.insert(offset, Out { leader_epoch, done: false }).is_none() {
            self.unprocessed += 1;
        }
    }

    /// A record is processed; whether it was out.
    pub(super) fn done(&mut self, offset: Offset) -> bool {
        let Some(out) = self.out.get_mut(&offset).filter(|out| !out.done) else { return false };
        out.done = true;
        self.unprocessed -= 1;
        if self.given_up.is_some_and(|given_up| offset > given_up) {
            self.out.remove(&offset);
        }
        while let Some(first) = self.out.first_entry() {
            if !first.get().done {
                break;
            }
            self.next = first.key().next();
            self.leader_epoch = first.get().leader_epoch;
            first.remove();
        }
        true
    }

    /// A record will never be processed here; whether it was out.
    pub(super) fn give_up(&mut self, offset: Offset) -> bool {
        if self.out.get(&offset).is_none_or(|out| out.done) {
            return false;
        }
        self.out.remove(&offset);
        self.unprocessed -= 1;
        let first = self.given_up.map_or(offset, |known| known.min(offset));
        self.given_up = Some(first);
        // What was processed behind it can never be committed: no need to remember it.
        self.out.retain(|at, out| !out.done || *at < first);
        true
    }

    /// Records that are out and not processed.
    pub(super) const fn unprocessed(&self) -> usize {
        self.unprocessed
    }

    /// Records that are out, or processed behind one that is not.
    pub(super) fn held(&self) -> usize {
        self.out.len()
    }

    /// The first record that is out and not processed.
    pub(super) fn first_unprocessed(&self) -> Option<Offset> {
        self.out.iter().find(|(_, out)| !out.done).map(|(offset, _)| *offset)
    }

    /// What ought to be committed. Never less than what is: only a reset goes back.
    pub(super) fn due(&self) -> Option<(Offset, Term)> {
        let is_news = self.committed.is_none_or(|committed| self.next > committed);
        is_news.then_some((self.next, self.leader_epoch))
    }

    /// So much is committed, or more.
    pub(super) fn committed(&mut self, offset: Offset) {
        self.committed = Some(self.committed.map_or(offset, |known| known.max(offset)));
    }

    pub(super) const fn last_committed(&self) -> Option<Offset> {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Offset {
        Offset::new(offset)
    }

    fn due(progress: &Progress) -> Option<u64> {
        progress.due().map(|(offset, _)| offset.get())
    }

    fn started(out: &[u64]) -> Progress {
        let mut progress = Progress::new(at(5), Term::ZERO, Some(at(5)));
        out.iter().for_each(|offset| progress.hand_out(at(*offset), Term::new(*offset)));
        progress
    }

    #[test]
    fn only_the_contiguous_prefix_is_due() {
        let mut progress = started(&[5, 6, 9, 10]);
        assert_eq!(due(&progress), None);
        assert!(progress.done(at(6)) && progress.done(at(9)));
        assert_eq!((due(&progress), progress.unprocessed(), progress.held()), (None, 2, 4));
        assert!(progress.done(at(5)));
        // 7 and 8 do not exist: the topic is compacted.
        assert_eq!(progress.due(), Some((at(10), Term::new(9))));
        assert!(!progress.done(at(5)), "twice");
        progress.committed(at(10));
        assert_eq!((due(&progress), progress.held()), (None, 1));
        assert_eq!(progress.first_unprocessed(), Some(at(10)));
    }

    #[test]
    fn nothing_is_committed_beyond_what_was_given_up() {
        let mut progress = started(&[5, 6, 7, 8]);
        assert!(progress.done(at(7)) && progress.give_up(at(6)) && !progress.give_up(at(6)));
        assert_eq!((progress.unprocessed(), progress.held()), (2, 2));
        assert!(progress.done(at(8)) && progress.done(at(5)));
        assert_eq!((due(&progress), progress.held()), (Some(6), 0));
        progress.hand_out(at(9), Term::ZERO);
        assert!(progress.done(at(9)));
        assert_eq!((due(&progress), progress.held()), (Some(6), 0));
    }

    #[test]
    fn a_position_before_the_committed_one_is_not_committed() {
        let mut progress = Progress::new(at(3), Term::ZERO, Some(at(5)));
        assert_eq!(due(&progress), None);
        (3..6).for_each(|offset| progress.hand_out(at(offset), Term::ZERO));
        assert!((3..5).all(|offset| progress.done(at(offset))));
        assert_eq!(due(&progress), None);
        assert!(progress.done(at(5)));
        assert_eq!(due(&progress), Some(6));
        assert_eq!(due(&Progress::new(at(0), Term::ZERO, None)), Some(0), "the initial position");
    }
}
