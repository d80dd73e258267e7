//! One anomaly of each kind, planted into a history that has none.

use duramen_checker::{
    CommitAnswer, GroupEvent, Key, Observation, Placed, QueueOutcome, Record, Value,
};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::script::{Answer, Ask, Script, Step};

/// All kinds, by name.
pub(crate) const KINDS: [&str; 35] = [
    "inconsistent-offsets",
    "duplicate",
    "lost-write",
    "aborted-read",
    "precommitted-read",
    "invented",
    "contradicted",
    "unseen",
    "offset-gap",
    "poll-skip",
    "nonmonotonic-poll",
    "int-poll-skip",
    "int-nonmonotonic-poll",
    "int-nonmonotonic-send",
    "int-send-skip",
    "nonmonotonic-send",
    "read-above-high-watermark",
    "high-watermark-regressed",
    "log-start-regressed",
    "leader-epoch-regressed",
    "ack-epoch-regressed",
    "replicas-differ",
    "replica-hole",
    "offset-map-differs",
    "group-offset-regressed",
    "group-offset-past-end",
    "fenced-commit-accepted",
    "two-owners",
    "commit-forgotten",
    "never-delivered",
    "sequence-gap",
    "sequence-repeated",
    "two-outcomes",
    "no-outcome",
    "value-reused",
];

/// A client that does nothing else.
const PROCESS: u32 = 900;
/// A group that does nothing else.
const GROUP: u32 = 90;
/// Later than any other.
const EPOCH: u64 = 1 << 40;

/// Somebody who makes a sound history unsound.
pub(crate) struct Saboteur<'a> {
    pub(crate) script: &'a mut Script,
    pub(crate) random: Xoshiro256PlusPlus,
}

impl Saboteur<'_> {
    /// Plants an anomaly; none if the history has no place for it.
    pub(crate) fn plant(&mut self, kind: &str) -> Option<()> {
        match kind {
            "lost-write" | "aborted-read" | "precommitted-read" | "invented" | "contradicted"
            | "unseen" | "offset-gap" => self.edit_sends(kind),
            "int-nonmonotonic-send"
            | "int-send-skip"
            | "nonmonotonic-send"
            | "ack-epoch-regressed"
            | "value-reused" => self.send_badly(kind),
            "high-watermark-regressed" | "log-start-regressed" | "leader-epoch-regressed" => {
                self.observe_badly(kind);
                Some(())
            }
            "replicas-differ" | "replica-hole" | "offset-map-differs" => self.edit_dump(kind),
            "group-offset-regressed"
            | "group-offset-past-end"
            | "fenced-commit-accepted"
            | "two-owners"
            | "commit-forgotten"
            | "never-delivered" => self.commit_badly(kind),
            "sequence-gap" | "sequence-repeated" => self.edit_batches(kind),
            "two-outcomes" | "no-outcome" => self.edit_queue(kind),
            _ => self.read_badly(kind),
        }
    }

    fn key(&mut self) -> Key {
        let keys = u32::try_from(self.script.logs.len()).expect("histories are small");
        self.random.random_range(0..keys)
    }

    /// A key with five records that are kept, and the first of them.
    fn place(&mut self) -> Option<(Key, u64)> {
        let key = self.key();
        let (start, end) = (self.script.log_starts[key as usize], self.script.end(key));
        (start + 5 < end).then(|| (key, self.random.random_range(start..end - 5)))
    }

    /// The keys and values of sends with this kind of answer.
    fn sends(&self, wanted: fn(&Answer) -> bool) -> Vec<(usize, Key, Value)> {
        let mut sends = Vec::new();
        for step in &self.script.steps {
            let Step::Complete { op, answer } = step else { continue };
            let Some(pairs) = self.pairs(*op).filter(|_| wanted(answer)) else { continue };
            sends.extend(pairs.iter().map(|(key, value)| (*op, *key, *value)));
        }
        sends
    }

    fn pairs(&self, wanted: usize) -> Option<&Vec<(Key, Value)>> {
        self.script.steps.iter().find_map(|step| match step {
            Step::Invoke { op, ask: Ask::Send(pairs), .. } if *op == wanted => Some(pairs),
            _ => None,
        })
    }

    fn offset(&self, key: Key, value: Value) -> Option<u64> {
        let log = &self.script.logs[key as usize];
        let offset = log.iter().position(|other| *other == value)? as u64;
        (offset >= self.script.log_starts[key as usize]).then_some(offset)
    }

    /// Nobody reads what is at an offset, or from it on.
    fn hide(&mut self, key: Key, hidden: std::ops::Range<u64>) {
        for step in &mut self.script.steps {
            if let Step::Complete { answer: Answer::Polled(records), .. } = step {
                records.retain(|record| record.key != key || !hidden.contains(&record.offset));
            }
        }
    }

    /// Whether a send's answer says at which offset a value is.
    fn is_placed(&self, op: usize, pair: (Key, Value)) -> Option<bool> {
        let at = self.pairs(op)?.iter().position(|other| *other == pair)?;
        self.script.steps.iter().find_map(|step| match step {
            Step::Complete { op: other, answer: Answer::Sent(placed) } if *other == op => {
                Some(placed.get(at)?.offset.is_some())
            }
            _ => None,
        })
    }

    fn edit_sends(&mut self, kind: &str) -> Option<()> {
        let sends = match kind {
            "offset-gap" => self.sends(|answer| matches!(answer, Answer::Unknown)),
            _ => self.sends(|answer| matches!(answer, Answer::Sent(_))),
        };
        let &(op, key, value) = sends.choose(&mut self.random)?;
        let offset = self.offset(key, value)?;
        let end = self.script.end(key);
        let is_of = |step: &Step| match step {
            Step::Invoke { op: other, .. } | Step::Complete { op: other, .. } => *other == op,
            _ => false,
        };
        // What was acknowledged without its offset is nowhere for sure.
        if kind == "lost-write" && !self.is_placed(op, (key, value))? {
            return None;
        }
        match kind {
            "lost-write" | "offset-gap" if offset + 1 < end => self.hide(key, offset..offset + 1),
            "unseen" => self.hide(key, offset..end),
            "invented" => self.script.steps.retain(|step| !is_of(step)),
            "precommitted-read" => {
                let (moved, rest): (Vec<_>, _) = self.script.steps.drain(..).partition(is_of);
                self.script.steps = rest;
                self.script.steps.extend(moved);
            }
            "aborted-read" | "contradicted" => {
                let at = self.pairs(op)?.iter().position(|pair| *pair == (key, value))?;
                for step in &mut self.script.steps {
                    match step {
                        Step::Complete { op: other, answer } if *other == op => match answer {
                            Answer::Sent(placed) if kind == "contradicted" => {
                                placed[at].offset = Some(end + 7);
                            }
                            answer => *answer = Answer::Failed,
                        },
                        _ => {}
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn read(&mut self, key: Key, offsets: &[u64]) -> usize {
        let record = |offset: &u64| self.script.record(key, *offset);
        let records = offsets.iter().map(record).collect();
        self.script.op(PROCESS, Ask::Poll, Answer::Polled(records))
    }

    fn read_badly(&mut self, kind: &str) -> Option<()> {
        let (key, at) = self.place()?;
        self.script.op(PROCESS, Ask::Assign(vec![key], false), Answer::Done);
        let value = self.script.record(key, at).value;
        match kind {
            "inconsistent-offsets" => {
                let record = Record { key, offset: at + 2, value };
                self.script.op(PROCESS, Ask::Poll, Answer::Polled(vec![record]));
            }
            "duplicate" => {
                let offset = self.script.end(key);
                let record = Record { key, offset, value };
                self.script.op(PROCESS, Ask::Poll, Answer::Polled(vec![record]));
            }
            "poll-skip" => {
                self.read(key, &[at, at + 1]);
                self.script.op(PROCESS, Ask::Poll, Answer::Polled(vec![]));
                self.read(key, &[at + 3]);
            }
            "nonmonotonic-poll" => {
                self.read(key, &[at, at + 1]);
                self.read(key, &[at + 1, at + 2]);
            }
            "int-poll-skip" => {
                self.read(key, &[at, at + 2]);
            }
            "int-nonmonotonic-poll" => {
                self.read(key, &[at, at + 1, at]);
            }
            "read-above-high-watermark" => {
                let op = self.read(key, &[at, at + 1]);
                self.script.push(Step::Watermark { op, key, high_watermark: at + 1 });
            }
            _ => return None,
        }
        Some(())
    }

    fn send_badly(&mut self, kind: &str) -> Option<()> {
        let key = self.key();
        let end = self.script.end(key);
        let placed = |offset| Placed { offset: Some(offset), epoch: EPOCH };
        let values = [1, 2, 3];
        let pairs = |values: &[Value]| Ask::Send(values.iter().map(|v| (key, *v)).collect());
        let sent = |offsets: &[u64]| Answer::Sent(offsets.iter().map(|at| placed(*at)).collect());
        let stored: &[Value] = match kind {
            "int-nonmonotonic-send" => {
                self.script.op(PROCESS, pairs(&values[..2]), sent(&[end + 1, end]));
                &[2, 1]
            }
            "nonmonotonic-send" => {
                self.script.op(PROCESS, pairs(&values[..1]), sent(&[end + 1]));
                self.script.op(PROCESS, pairs(&values[1..2]), sent(&[end]));
                &[2, 1]
            }
            "int-send-skip" => {
                self.script.op(PROCESS, pairs(&values[..2]), sent(&[end, end + 2]));
                self.script.op(PROCESS + 1, pairs(&values[2..]), sent(&[end + 1]));
                &[1, 3, 2]
            }
            "ack-epoch-regressed" => {
                self.script.op(PROCESS, pairs(&values[..1]), sent(&[end]));
                let second = Placed { offset: Some(end + 1), epoch: EPOCH - 1 };
                self.script.op(PROCESS, pairs(&values[1..2]), Answer::Sent(vec![second]));
                &[1, 2]
            }
            _ => {
                let &(_, key, value) =
                    self.sends(|answer| matches!(answer, Answer::Sent(_))).first()?;
                self.script.op(PROCESS, Ask::Send(vec![(key, value)]), Answer::Unknown);
                return Some(());
            }
        };
        let record = |(offset, value): (u64, &Value)| Record { key, offset, value: *value };
        let records = (end..).zip(stored).map(record).collect();
        self.script.op(PROCESS + 2, Ask::Poll, Answer::Polled(records));
        for value in stored {
            self.script.push(Step::Queued { key, value: *value, outcome: QueueOutcome::Acked });
        }
        Some(())
    }

    fn observe_badly(&mut self, kind: &str) {
        // Of a key and by an observer that there are not otherwise.
        for figure in [7, 9, 8] {
            let mut what = Observation::default();
            match kind {
                "high-watermark-regressed" => what.high_watermark = Some(figure),
                "log-start-regressed" => what.log_start = Some(figure),
                _ => what.leader_epoch = Some(figure),
            }
            self.script.push(Step::Observe { observer: 50, key: 99, what });
        }
    }

    fn edit_dump(&mut self, kind: &str) -> Option<()> {
        let dump = |step: &mut Step| match step {
            Step::Dump(dump) if dump.entries.len() > 8 => Some(dump.clone()),
            _ => None,
        };
        let dumps: Vec<_> = self.script.steps.iter_mut().filter_map(dump).collect();
        let mut dump = dumps.choose(&mut self.random)?.clone();
        // All replicas have it, and it is committed.
        let at = self.random.random_range(5..dump.entries.len() - 2);
        match kind {
            "replicas-differ" if self.random.random_bool(0.5) => dump.entries[at].payload_crc += 1,
            "replicas-differ" => dump.entries[at].chain ^= 1 << 17,
            "replica-hole" => {
                dump.entries.remove(at);
            }
            _ => {
                for entry in &mut dump.entries[at..] {
                    entry.base_offset += 1;
                }
            }
        }
        for step in &mut self.script.steps {
            match step {
                Step::Dump(other) if (other.key, other.replica) == (dump.key, dump.replica) => {
                    *other = dump.clone();
                }
                _ => {}
            }
        }
        Some(())
    }

    fn commit_badly(&mut self, kind: &str) -> Option<()> {
        let accepted = CommitAnswer::Accepted;
        let (key, at) = self.place()?;
        let script = &mut *self.script;
        let claim =
            |member, generation| GroupEvent::Claimed { member, generation, keys: vec![key] };
        script.group(GROUP, GroupEvent::Reset { key, offset: at });
        script.group(GROUP, claim(1, 1));
        let offsets = at..at + 4;
        script.group(GROUP, GroupEvent::Delivered { member: 1, key, offsets });
        script.commit(GROUP, (1, 1, key, at + 4), accepted);
        match kind {
            "group-offset-regressed" if self.random.random_bool(0.5) => {
                script.fetched(GROUP, key, Some(at + 3));
            }
            "group-offset-regressed" => script.commit(GROUP, (1, 1, key, at + 3), accepted),
            "group-offset-past-end" => {
                let end = script.end(key);
                let offsets = at + 4..end;
                script.group(GROUP, GroupEvent::Delivered { member: 1, key, offsets });
                script.commit(GROUP, (1, 1, key, end + 1), accepted);
            }
            "fenced-commit-accepted" => {
                script.group(GROUP, claim(2, 2));
                script.commit(GROUP, (1, 1, key, at + 4), accepted);
            }
            "two-owners" => script.group(GROUP, claim(2, 1)),
            "commit-forgotten" => {
                script.group(GROUP, GroupEvent::CoordinatorChanged);
                let found = if self.random.random_bool(0.5) { None } else { Some(at) };
                script.fetched(GROUP, key, found);
            }
            _ => script.commit(GROUP, (1, 1, key, at + 5), accepted),
        }
        Some(())
    }

    fn edit_batches(&mut self, kind: &str) -> Option<()> {
        let stored = |step: &Step| match step {
            Step::Stored(batch) => Some(*batch),
            _ => None,
        };
        let all: Vec<_> = self.script.steps.iter().filter_map(stored).collect();
        let batch = *all.choose(&mut self.random)?;
        let is_near = |sequence: u32| {
            let wanted = (batch.producer, batch.epoch, batch.key, sequence);
            all.iter().any(|one| (one.producer, one.epoch, one.key, one.sequence) == wanted)
        };
        if kind == "sequence-gap" {
            let is_inside =
                batch.sequence > 0 && is_near(batch.sequence - 1) && is_near(batch.sequence + 1);
            if !is_inside {
                return None;
            }
            let is_it = |step: &Step| matches!(step, Step::Stored(other) if *other == batch);
            self.script.steps.retain(|step| !is_it(step));
        } else {
            let mut again = batch;
            again.offset = self.script.end(batch.key) + 3;
            let is_stored = self.random.random_bool(0.5);
            let step = if is_stored { Step::Stored(again) } else { Step::Acknowledged(again) };
            self.script.push(step);
        }
        Some(())
    }

    fn edit_queue(&mut self, kind: &str) -> Option<()> {
        let ended = |step: &Step| match step {
            Step::Queued { key, value, outcome } if *outcome != QueueOutcome::InFlight => {
                Some((*key, *value, *outcome))
            }
            _ => None,
        };
        let all: Vec<_> = self.script.steps.iter().filter_map(ended).collect();
        let &(key, value, outcome) = all.choose(&mut self.random)?;
        self.offset(key, value)?;
        if kind == "two-outcomes" {
            let other = match outcome {
                QueueOutcome::Acked => QueueOutcome::InFlight,
                _ => QueueOutcome::Acked,
            };
            self.script.push(Step::Queued { key, value, outcome: other });
        } else {
            // A key without any is no queue.
            all.iter().find(|other| other.0 == key && other.1 != value)?;
            let is_its = |step: &Step| matches!(step, Step::Queued { key: k, value: v, .. } if (*k, *v) == (key, value));
            self.script.steps.retain(|step| !is_its(step));
        }
        Some(())
    }
}
