//! What consumer groups commit is kept, stays within the log, and stands for what was delivered.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Pass;
use crate::anomaly::Anomaly;
use crate::event::{Commit, CommitAnswer, GroupEvent};
use crate::history::{Key, Mark};

pub(super) fn check(pass: &mut Pass<'_>) {
    let history = pass.history;
    let mut steps = Vec::with_capacity(history.groups.len());
    for one in &history.groups {
        if let GroupEvent::Committed(commit) = &one.event {
            steps.push((commit.asked, one.group, Step::Asked(commit)));
        }
        steps.push((one.mark, one.group, Step::Happened(&one.event)));
    }
    // A question at a mark comes after what was written down at it.
    steps.sort_by_key(|(mark, ..)| *mark);
    let mut groups = BTreeMap::<u32, Group>::new();
    for (mark, number, step) in steps {
        let group = groups.entry(number).or_insert_with(|| Group { number, ..Group::default() });
        match step {
            Step::Asked(commit) => group.asked(mark, commit),
            Step::Happened(event) => group.happened(pass, mark, event),
        }
    }
    for group in groups.values() {
        group.check_delivered(pass);
    }
}

enum Step<'a> {
    Asked(&'a Commit),
    Happened(&'a GroupEvent),
}

/// What a group must know: an answer to a question asked after the mark may not be lower.
#[derive(Clone, Copy)]
struct Floor {
    since: Mark,
    generation: u64,
    offset: u64,
}

#[derive(Default)]
struct Committed {
    /// By mark.
    floors: Vec<Floor>,
    /// When the floor was last made lower.
    lowered: Mark,
    /// The highest offset that was committed.
    highest: u64,
    /// Nothing below it is owed: somebody moved the group.
    moved_to: u64,
    delivered: Vec<Range<u64>>,
}

impl Committed {
    /// The floor for a question asked at a mark, unless it was made lower since.
    fn floor(&self, asked: Mark) -> Option<Floor> {
        let count = self.floors.partition_point(|floor| floor.since <= asked);
        let floor = self.floors[..count].last().copied();
        floor.filter(|_| self.lowered <= asked)
    }

    fn set(&mut self, since: Mark, generation: u64, offset: u64) {
        let last = self.floors.last();
        if last.is_some_and(|last| offset < last.offset) {
            self.lowered = since;
        }
        self.floors.push(Floor { since, generation, offset });
    }

    fn raise(&mut self, since: Mark, generation: u64, offset: u64) {
        match self.floors.last() {
            Some(last) if last.offset >= offset && last.generation >= generation => {}
            Some(last) => {
                let (generation, offset) =
                    (generation.max(last.generation), offset.max(last.offset));
                self.set(since, generation, offset);
            }
            None => self.set(since, generation, offset),
        }
    }
}

#[derive(Default)]
struct Group {
    number: u32,
    owners: BTreeMap<(u64, Key), u32>,
    /// The highest generation that was known, by mark.
    generations: Vec<(Mark, u64)>,
    coordinator_changed: Mark,
    keys: BTreeMap<Key, Committed>,
}

impl Group {
    /// From here on a commit may take effect: of a new generation, also a lower one.
    fn asked(&mut self, mark: Mark, commit: &Commit) {
        let key = self.keys.entry(commit.key).or_default();
        let Some(last) = key.floors.last() else { return };
        let is_lower = commit.generation > last.generation && commit.offset < last.offset;
        if is_lower && commit.answer != CommitAnswer::Refused {
            key.set(mark, commit.generation, commit.offset);
        }
    }

    fn happened(&mut self, pass: &mut Pass<'_>, mark: Mark, event: &GroupEvent) {
        match event {
            GroupEvent::Claimed { member, generation, keys } => {
                self.claimed(pass, mark, *member, *generation, keys);
            }
            GroupEvent::Committed(commit) => self.committed(pass, mark, commit),
            GroupEvent::Reset { key, offset } => {
                let key = self.keys.entry(*key).or_default();
                let last = key.floors.last().copied();
                let generation = last.map_or(0, |last| last.generation);
                let floor = last.map_or(0, |last| last.offset.min(*offset));
                key.set(mark, generation, floor);
                key.lowered = mark;
                key.moved_to = key.moved_to.max(*offset);
            }
            GroupEvent::CoordinatorChanged => self.coordinator_changed = mark,
            GroupEvent::Fetched { asked, key, offset } => {
                self.fetched(pass, (*asked, mark), *key, *offset);
            }
            GroupEvent::Delivered { key, offsets, .. } => {
                self.keys.entry(*key).or_default().delivered.push(offsets.clone());
            }
        }
    }

    fn claimed(
        &mut self,
        pass: &mut Pass<'_>,
        mark: Mark,
        member: u32,
        generation: u64,
        keys: &[Key],
    ) {
        let group = self.number;
        if self.generations.last().is_none_or(|(_, last)| *last < generation) {
            self.generations.push((mark, generation));
        }
        for &key in keys {
            let first = *self.owners.entry((generation, key)).or_insert(member);
            if first != member {
                pass.add(Anomaly::TwoOwners { group, key, generation, first, second: member });
            }
        }
    }

    fn committed(&mut self, pass: &mut Pass<'_>, mark: Mark, commit: &Commit) {
        let Commit { asked, member, generation, key, offset, answer } = *commit;
        if answer != CommitAnswer::Accepted {
            return;
        }
        let group = self.number;
        let known = self.generations.partition_point(|(since, _)| *since <= asked);
        let current = self.generations[..known].last().map_or(0, |(_, current)| *current);
        let is_fenced = generation < current;
        if is_fenced {
            pass.add(Anomaly::FencedCommitAccepted {
                group,
                key,
                member,
                offset,
                generation,
                current,
            });
        }
        check_end(pass, group, key, offset);
        let committed = self.keys.entry(key).or_default();
        committed.highest = committed.highest.max(offset);
        if let Some(floor) = committed.floor(asked)
            && floor.generation == generation
            && offset < floor.offset
        {
            let (before, after) = (floor.offset, offset);
            pass.add(Anomaly::GroupOffsetRegressed { group, key, before, after });
        }
        // One of an earlier generation may have been overtaken by the next, or by a reset.
        let is_last = committed.floors.last().is_none_or(|last| last.generation <= generation);
        if is_last && committed.lowered <= asked {
            committed.raise(mark, generation, offset);
        }
    }

    fn fetched(
        &mut self,
        pass: &mut Pass<'_>,
        (asked, mark): (Mark, Mark),
        key: Key,
        found: Option<u64>,
    ) {
        let group = self.number;
        let after = found.unwrap_or(0);
        check_end(pass, group, key, after);
        let committed = self.keys.entry(key).or_default();
        committed.highest = committed.highest.max(after);
        match committed.floor(asked) {
            Some(floor) if after < floor.offset && floor.since < self.coordinator_changed => {
                let committed = floor.offset;
                pass.add(Anomaly::CommitForgotten { group, key, committed, found });
            }
            Some(floor) if after < floor.offset => {
                let before = floor.offset;
                pass.add(Anomaly::GroupOffsetRegressed { group, key, before, after });
            }
            _ => {
                let generation = committed.floors.last().map_or(0, |last| last.generation);
                // Unless a reset overtook the answer.
                if committed.lowered <= asked {
                    committed.raise(mark, generation, after);
                }
            }
        }
    }

    /// Everything below what was committed was given to a member.
    fn check_delivered(&self, pass: &mut Pass<'_>) {
        let group = self.number;
        for (&key, committed) in &self.keys {
            let Some(known) = pass.index.keys.get(&key) else { continue };
            let mut delivered = committed.delivered.clone();
            delivered.sort_unstable_by_key(|offsets| (offsets.start, offsets.end));
            let mut next = committed.moved_to.max(known.log_start);
            let mut ranges = delivered.iter().peekable();
            for offset in known.offsets(next, committed.highest) {
                while let Some(range) = ranges.next_if(|range| range.start <= offset) {
                    next = next.max(range.end);
                }
                if next <= offset {
                    let committed = committed.highest;
                    pass.add(Anomaly::NeverDelivered { group, key, committed, offset });
                }
            }
        }
    }
}

fn check_end(pass: &mut Pass<'_>, group: u32, key: Key, offset: u64) {
    let end = pass.index.keys.get(&key).and_then(super::index::KeyIndex::end);
    if let Some(end) = end.filter(|end| *end < offset) {
        pass.add(Anomaly::GroupOffsetPastEnd { group, key, offset, end });
    }
}
