//! Which parts of a mapped segment were found sound a short time ago.
//!
//! A mapped segment never changes, so what was read and found sound is still so in memory. Only the
//! disk may give something else when a page that was dropped is read again; therefore everything is
//! checked again after [`CHECK_AGE_MAX`].

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{CHECK_AGE_MAX, CHECKED_RANGES_MAX};

/// The sound parts of one segment.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the first of them was checked.
    since: Duration,
    /// In their order, apart from each other.
    ranges: Vec<Range<u64>>,
}

impl Checked {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all bytes of a range were checked less than [`CHECK_AGE_MAX`] before `now`.
    pub(crate) fn covers(&self, range: &Range<u64>, now: Duration) -> bool {
        let mut state = self.lock();
        if now.saturating_sub(state.since) >= CHECK_AGE_MAX {
            state.ranges.clear();
        }
        let at = state.ranges.partition_point(|known| known.end < range.end);
        state.ranges.get(at).is_some_and(|known| known.start <= range.start)
    }

    /// Notes that a range was found sound.
    pub(crate) fn add(&self, range: Range<u64>, now: Duration) {
        let mut state = self.lock();
        if state.ranges.is_empty() {
            state.since = now;
        }
        let ranges = &mut state.ranges;
        let from = ranges.partition_point(|known| known.end < range.start);
        let to = ranges.partition_point(|known| known.start <= range.end);
        let joined = ranges.get(from..to).unwrap_or_default();
        let start = joined.first().map_or(range.start, |first| first.start.min(range.start));
        let end = joined.last().map_or(range.end, |last| last.end.max(range.end));
        ranges.splice(from..to, std::iter::once(start..end));
        if ranges.len() > CHECKED_RANGES_MAX {
            let sizes = ranges.iter().map(|known| known.end - known.start).enumerate();
            if let Some((smallest, _)) = sizes.min_by_key(|(_, size)| *size) {
                ranges.remove(smallest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use duramen_env::{Random, SeededRandom};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    /// Against a set of single bytes.
    #[test]
    fn it_covers_what_was_added_and_nothing_else() {
        let random = SeededRandom::new(7);
        for _ in 0..20 {
            let checked = Checked::default();
            let mut bytes = BTreeSet::new();
            for _ in 0..12 {
                let start = random.below(60);
                let range = start..start + 1 + random.below(64 - start);
                checked.add(range.clone(), NOW);
                bytes.extend(range);
                for from in 0..64 {
                    for to in from + 1..=64 {
                        let all = (from..to).all(|at| bytes.contains(&at));
                        assert_eq!(checked.covers(&(from..to), NOW), all, "{from}..{to}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_checked_long_ago_is_checked_again() {
        let checked = Checked::default();
        checked.add(0..10, NOW);
        let later = NOW + CHECK_AGE_MAX / 2;
        checked.add(10..20, later);
        assert!(checked.covers(&(0..20), later));
        let end = NOW + CHECK_AGE_MAX;
        assert!(!checked.covers(&(0..10), end) && !checked.covers(&(10..20), end));
        checked.add(0..10, end);
        assert!(checked.covers(&(0..10), end + CHECK_AGE_MAX / 2));
    }

    #[test]
    fn of_many_parts_the_smallest_are_forgotten() {
        let checked = Checked::default();
        for at in 0..=CHECKED_RANGES_MAX as u64 {
            let size = if at == 5 { 1 } else { 10 };
            checked.add(at * 100..at * 100 + size, NOW);
        }
        assert!(!checked.covers(&(500..501), NOW));
        assert!(checked.covers(&(400..410), NOW) && checked.covers(&(600..610), NOW));
    }
}
