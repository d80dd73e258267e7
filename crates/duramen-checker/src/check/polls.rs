//! Each process reads each key in order and passes over nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::index::id;
use super::{Pass, count};
use crate::anomaly::Anomaly;
use crate::history::{End, Key, Kind, Op, Process};

/// Where the readers of one process are.
#[derive(Debug, Default)]
struct Reader {
    is_subscribed: bool,
    /// The last offset that was read of each key, and by which poll.
    positions: BTreeMap<Key, (u64, usize)>,
    /// Keys that are read from their first record, none of which came yet.
    from_start: BTreeSet<Key>,
}

impl Reader {
    fn forget(&mut self) {
        self.positions.clear();
        self.from_start.clear();
    }

    fn turn(&mut self, op: &Op, keys: &[Key]) {
        if op.end == End::Failed && op.kind != Kind::Crash {
            return;
        }
        let is_new = op.end == End::Unknown;
        match op.kind {
            Kind::Crash => self.forget(),
            Kind::Seek => {
                for key in keys {
                    self.positions.remove(key);
                    self.from_start.remove(key);
                }
            }
            Kind::Assign { from_start: true } => {
                self.is_subscribed = false;
                self.forget();
                self.from_start.extend(keys.iter().filter(|_| !is_new));
            }
            Kind::Assign { from_start: false } | Kind::Subscribe => {
                // Who leaves a group goes on where the group is, and the other way round.
                let turns = self.is_subscribed != (op.kind == Kind::Subscribe);
                self.is_subscribed = op.kind == Kind::Subscribe;
                let is_new = is_new || turns;
                self.positions.retain(|key, _| keys.contains(key) && !is_new);
                self.from_start.retain(|key| keys.contains(key) && !is_new);
            }
            Kind::Send | Kind::Poll => {}
        }
    }
}

/// A step of a process from one offset to the next.
#[derive(Clone, Copy)]
enum Step {
    Next,
    /// Over records that are there.
    Skip,
    /// Over offsets that nobody knows, and that should be there.
    Gap(u64),
    Back,
}

pub(super) fn check(pass: &mut Pass<'_>) {
    let mut exempt = pass.history.rebalanced.clone();
    exempt.sort_unstable();
    let mut readers = BTreeMap::<Process, Reader>::new();
    let mut consumed = Vec::new();
    for (number, op) in pass.history.ops.iter().enumerate() {
        if op.kind == Kind::Send {
            continue;
        }
        let reader = readers.entry(op.process).or_default();
        match (op.kind, op.end) {
            (Kind::Poll, End::Ok) => {
                if reader.is_subscribed {
                    let records = &pass.history.records[op.payload.clone()];
                    let taken = |record: &crate::Record| (op.process, record.key, record.value);
                    let taken: BTreeSet<_> = records.iter().map(taken).collect();
                    consumed.extend(taken);
                }
                Poll { number, op, exempt: &exempt }.check(pass, reader);
            }
            (Kind::Poll, End::Unknown) => reader.forget(),
            (Kind::Poll, End::Failed) => {}
            _ => reader.turn(op, &pass.history.keys[op.payload.clone()]),
        }
    }
    consumed.sort_unstable();
    let again = consumed.windows(2).filter(|pair| pair[0] == pair[1]);
    pass.report.figures.consumed_again = count(again.count());
}

struct Poll<'a> {
    number: usize,
    op: &'a Op,
    /// Keys that were rebalanced during a poll, ascending.
    exempt: &'a [(usize, Key)],
}

impl Poll<'_> {
    fn is_exempt(&self, key: Key) -> bool {
        self.exempt.binary_search(&(self.number, key)).is_ok()
    }

    fn check(&self, pass: &mut Pass<'_>, reader: &mut Reader) {
        let mut within = BTreeMap::<Key, u64>::new();
        for record in &pass.history.records[self.op.payload.clone()] {
            let (key, offset) = (record.key, record.offset);
            match within.insert(key, offset) {
                _ if self.is_exempt(key) => {}
                Some(last) => self.check_within(pass, key, last, offset),
                None => self.check_across(pass, reader, key, offset),
            }
        }
        for (key, last) in within {
            reader.positions.insert(key, (last, self.number));
            reader.from_start.remove(&key);
        }
        let first = self.exempt.partition_point(|(number, _)| *number < self.number);
        let exempt = self.exempt[first..].iter().take_while(|(number, _)| *number == self.number);
        for (_, key) in exempt {
            reader.positions.remove(key);
        }
    }

    fn check_within(&self, pass: &mut Pass<'_>, key: Key, last: u64, next: u64) {
        let poll = id(self.number);
        match step(pass, key, last, next) {
            Step::Next => {}
            Step::Skip => pass.add(Anomaly::IntPollSkip { key, poll, last, next }),
            Step::Back => pass.add(Anomaly::IntNonmonotonicPoll { key, poll, last, next }),
            Step::Gap(expected) => self.add_gap(pass, key, expected, next),
        }
    }

    fn check_across(&self, pass: &mut Pass<'_>, reader: &Reader, key: Key, next: u64) {
        let (process, poll) = (self.op.process, id(self.number));
        let is_subscribed = reader.is_subscribed;
        let Some(&(last, before)) = reader.positions.get(&key) else {
            if reader.from_start.contains(&key) {
                self.check_start(pass, key, next);
            }
            return;
        };
        let before = id(before);
        match step(pass, key, last, next) {
            Step::Next => {}
            Step::Skip => pass.add(Anomaly::PollSkip {
                key,
                process,
                before,
                last,
                poll,
                next,
                is_subscribed,
            }),
            Step::Back => pass.add(Anomaly::NonmonotonicPoll {
                key,
                process,
                before,
                last,
                poll,
                next,
                is_subscribed,
            }),
            Step::Gap(_) if is_subscribed => {}
            Step::Gap(expected) => self.add_gap(pass, key, expected, next),
        }
    }

    /// The first record of a key that is read from its first record.
    fn check_start(&self, pass: &mut Pass<'_>, key: Key, found: u64) {
        let Some(known) = pass.index.keys.get(&key) else { return };
        let is_missed = if pass.options.dense_offsets {
            known.log_start < found
        } else {
            known.has_within(known.log_start, found)
        };
        if is_missed {
            self.add_gap(pass, key, known.log_start, found);
        }
    }

    fn add_gap(&self, pass: &mut Pass<'_>, key: Key, expected: u64, found: u64) {
        let (process, poll) = (self.op.process, id(self.number));
        pass.add(Anomaly::OffsetGap { key, process, poll, expected, found });
    }
}

fn step(pass: &Pass<'_>, key: Key, last: u64, next: u64) -> Step {
    let Some(known) = pass.index.keys.get(&key) else { return Step::Next };
    let expected = known.log_start.max(last + 1);
    if next <= last {
        Step::Back
    } else if known.has_within(expected, next) {
        Step::Skip
    } else if pass.options.dense_offsets && expected < next {
        Step::Gap(expected)
    } else {
        Step::Next
    }
}
