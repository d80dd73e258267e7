//! What the consumers of a group processed, all together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who processed what, how often.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: Mutex<BTreeMap<u32, Vec<u8>>>,
}

/// Counts over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) processed: u64,
    pub(super) distinct: u64,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<u8>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was processed.
    pub(super) fn note(&self, partition: u32, offset: u64) {
        let mut pages = self.lock();
        let page = pages.entry(partition).or_default();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if page.len() <= at {
            page.resize(at + 1, 0);
        }
        page[at] = page[at].saturating_add(1);
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for times in self.lock().values().flatten() {
            counts.processed += u64::from(*times);
            counts.distinct += u64::from(*times > 0);
        }
        counts
    }

    /// Records below these ends, by partition, that nobody processed.
    pub(super) fn missing(&self, ends: &BTreeMap<u32, u64>) -> u64 {
        let pages = self.lock();
        let missing = |(partition, end): (&u32, &u64)| {
            let page = pages.get(partition).map_or(&[][..], Vec::as_slice);
            let end = usize::try_from(*end).unwrap_or(usize::MAX);
            let seen = page.iter().take(end).filter(|times| **times > 0).count();
            end.saturating_sub(seen) as u64
        };
        ends.iter().map(missing).sum()
    }
}

/// What one consumer has read of its partitions since it got them: order, from where, and how far.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    /// The first and the last record.
    read: BTreeMap<u32, (u64, u64)>,
}

impl Tenure {
    /// Notes a record; false if it is not after the one before.
    pub(super) fn note(&mut self, partition: u32, offset: u64) -> bool {
        let Some((_, last)) = self.read.get_mut(&partition) else {
            self.read.insert(partition, (offset, offset));
            return true;
        };
        let is_later = *last < offset;
        *last = offset;
        is_later
    }

    /// The partition came anew, or is gone. Gives how many records of it were read.
    pub(super) fn forget(&mut self, partition: u32) -> u64 {
        self.read.remove(&partition).map_or(0, |(first, last)| last.saturating_sub(first) + 1)
    }

    /// How many records were read of all partitions that lie behind what is committed.
    pub(super) fn beyond(&self, committed: impl Fn(u32) -> u64) -> u64 {
        let beyond = |(partition, (first, last)): (&u32, &(u64, u64))| {
            (last + 1).saturating_sub(committed(*partition).max(*first))
        };
        self.read.iter().map(beyond).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_came_twice_is_counted() {
        let book = Book::default();
        for (partition, offset) in [(0, 0), (0, 1), (0, 1), (1, 3)] {
            book.note(partition, offset);
        }
        assert_eq!(book.counts(), Counts { processed: 4, distinct: 3 });
        assert_eq!(book.missing(&BTreeMap::from([(0, 2), (1, 4), (2, 1)])), 4);
    }

    #[test]
    fn records_of_one_tenure_come_in_order() {
        let mut tenure = Tenure::default();
        assert!(tenure.note(0, 5) && tenure.note(0, 6) && !tenure.note(0, 6));
        assert_eq!((tenure.forget(0), tenure.forget(0)), (2, 0));
        assert!(tenure.note(0, 2) && tenure.note(0, 3) && tenure.note(1, 7));
        assert_eq!(tenure.beyond(|_| 0), 3, "what lies before was read by others");
        assert_eq!(tenure.beyond(|_| 3), 2);
    }
}
