//! Random histories of logs that keep their promises.

use std::collections::BTreeMap;

use duramen_checker::{
    Entry, Key, Observation, Placed, ProducedBatch, QueueOutcome, Record, ReplicaDump, Value,
};
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::members::Members;
use super::script::{Answer, Ask, Script, Step};

/// How much happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) keys: u32,
    pub(crate) processes: u32,
    pub(crate) steps: u32,
}

/// A client.
#[derive(Default)]
struct Process {
    /// What it waits for.
    open: Option<Open>,
    /// Where it reads next.
    positions: BTreeMap<Key, u64>,
    is_subscribed: bool,
    epoch: u32,
    sequences: BTreeMap<Key, u32>,
}

struct Open {
    op: usize,
    send: Option<Send>,
}

#[derive(Clone)]
struct Send {
    process: u32,
    epoch: u32,
    pairs: Vec<(Key, Value)>,
    sequences: Vec<u32>,
    stored: Option<Vec<Placed>>,
}

/// The cluster that there is not.
pub(crate) struct World {
    pub(crate) script: Script,
    pub(crate) random: Xoshiro256PlusPlus,
    size: Size,
    epochs: Vec<u64>,
    processes: Vec<Process>,
    /// Sends of unknown outcome that are still on their way.
    late: Vec<Send>,
    batches: Vec<ProducedBatch>,
    acknowledged: Vec<(Key, Value)>,
    value: Value,
}

/// A history in which nothing is wrong.
pub(crate) fn clean(seed: u64, size: Size) -> Script {
    let keys = size.keys as usize;
    let mut world = World {
        script: Script {
            logs: vec![Vec::new(); keys],
            log_starts: vec![0; keys],
            ..Script::default()
        },
        random: Xoshiro256PlusPlus::seed_from_u64(seed),
        size,
        epochs: vec![1; keys],
        processes: (0..size.processes).map(|_| Process::default()).collect(),
        late: Vec::new(),
        batches: Vec::new(),
        acknowledged: Vec::new(),
        value: 1000,
    };
    let mut members = Members::new(&mut world);
    for _ in 0..size.steps {
        let process = world.random.random_range(0..size.processes);
        match world.random.random_range(0..100) {
            0..70 => world.act(process),
            70..74 => world.crash(process),
            74..76 => world.trim(),
            76..78 => {
                let key = world.key();
                world.epochs[key as usize] += 1;
            }
            78..85 => world.observe(),
            85..88 => {
                if let Some(mut send) = world.late.pop() {
                    world.store(&mut send);
                }
            }
            _ => members.act(&mut world),
        }
    }
    world.finish();
    world.script
}

impl World {
    pub(crate) fn key(&mut self) -> Key {
        self.random.random_range(0..self.size.keys)
    }

    fn keys(&mut self) -> Vec<Key> {
        (0..self.size.keys).filter(|_| self.random.random_bool(0.6)).collect()
    }

    pub(crate) fn log_start(&self, key: Key) -> u64 {
        self.script.log_starts[key as usize]
    }

    /// The process starts something, or what it waits for comes to its end.
    fn act(&mut self, number: u32) {
        match self.processes[number as usize].open.take() {
            Some(Open { op, send: Some(send) }) => self.end_send(number, op, send),
            Some(Open { op, send: None }) => self.end_poll(number, op),
            None => match self.random.random_range(0..20) {
                0..9 => self.begin_send(number),
                9..18 => {
                    let op = self.script.invoke(number, Ask::Poll);
                    self.processes[number as usize].open = Some(Open { op, send: None });
                }
                _ => self.turn(number),
            },
        }
    }

    fn begin_send(&mut self, number: u32) {
        let mut pairs = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            self.value += 1;
            pairs.push((self.key(), self.value));
        }
        let op = self.script.invoke(number, Ask::Send(pairs.clone()));
        let process = &mut self.processes[number as usize];
        let next = |(key, _): &(Key, Value)| {
            let next = process.sequences.entry(*key).or_default();
            *next += 1;
            *next - 1
        };
        let sequences = pairs.iter().map(next).collect();
        let mut send =
            Send { process: number, epoch: process.epoch, pairs, sequences, stored: None };
        if self.random.random_bool(0.5) {
            self.store(&mut send);
        }
        self.processes[number as usize].open = Some(Open { op, send: Some(send) });
    }

    /// The cluster stores what was sent.
    fn store(&mut self, send: &mut Send) {
        let mut stored = Vec::new();
        for (&(key, value), &sequence) in send.pairs.iter().zip(&send.sequences) {
            let offset = self.script.end(key);
            self.script.logs[key as usize].push(value);
            stored.push(Placed { offset: Some(offset), epoch: self.epochs[key as usize] });
            let (producer, epoch) = (u64::from(send.process), send.epoch);
            self.batches.push(ProducedBatch { producer, epoch, key, sequence, records: 1, offset });
        }
        send.stored = Some(stored);
    }

    fn end_send(&mut self, number: u32, op: usize, mut send: Send) {
        let chance = self.random.random_range(0..20);
        if chance < 3 {
            // Or nobody ever says so.
            if self.random.random_bool(0.7) {
                self.script.complete(op, Answer::Unknown);
            }
            if send.stored.is_none() && self.random.random_bool(0.5) {
                self.late.push(send);
            }
            self.renew(number);
        } else if chance == 3 && send.stored.is_none() {
            self.script.complete(op, Answer::Failed);
            self.renew(number);
        } else {
            if send.stored.is_none() {
                self.store(&mut send);
            }
            let mut placed = send.stored.unwrap_or_default();
            for (at, &(key, value)) in send.pairs.iter().enumerate() {
                self.acknowledged.push((key, value));
                if self.random.random_bool(0.5) {
                    let batch =
                        self.batches.iter().rev().find(|batch| {
                            (batch.key, Some(batch.offset)) == (key, placed[at].offset)
                        });
                    self.script
                        .push(Step::Acknowledged(*batch.expect("what is stored has a batch")));
                }
                if self.random.random_bool(0.05) {
                    placed[at].offset = None;
                }
            }
            self.script.complete(op, Answer::Sent(placed));
        }
    }

    /// A new producer takes over.
    fn renew(&mut self, number: u32) {
        let process = &mut self.processes[number as usize];
        process.epoch += 1;
        process.sequences.clear();
    }

    fn end_poll(&mut self, number: u32, op: usize) {
        let process = &mut self.processes[number as usize];
        match self.random.random_range(0..20) {
            0 => return self.script.complete(op, Answer::Failed),
            1 => {
                self.script.complete(op, Answer::Unknown);
                for (key, position) in &mut process.positions {
                    *position = self.random.random_range(0..=self.script.end(*key));
                }
                return;
            }
            _ => {}
        }
        let mut records = Vec::new();
        for (&key, position) in &mut process.positions {
            *position = (*position).max(self.script.log_starts[key as usize]);
            let mut limit = self.random.random_range(0..8);
            let moves = process.is_subscribed && self.random.random_bool(0.1);
            if moves {
                self.script.push(Step::Rebalanced { op, key });
            }
            while *position < self.script.end(key) && limit > 0 {
                records.push(self.script.record(key, *position));
                *position += 1;
                limit -= 1;
            }
            if moves {
                let low = self.script.log_starts[key as usize].min(*position);
                *position = self.random.random_range(low..=*position);
            }
            if self.random.random_bool(0.3) {
                let high_watermark = self.script.end(key);
                self.script.push(Step::Watermark { op, key, high_watermark });
            }
        }
        self.script.complete(op, Answer::Polled(records));
    }

    /// The process reads other keys, or from elsewhere.
    fn turn(&mut self, number: u32) {
        let keys = self.keys();
        let choice = self.random.random_range(0..4);
        let fails = self.random.random_bool(0.1);
        let answer = if fails { Answer::Failed } else { Answer::Done };
        let ask = match choice {
            0 => Ask::Assign(keys.clone(), true),
            1 => Ask::Assign(keys.clone(), false),
            2 => Ask::Subscribe(keys.clone()),
            _ => {
                let Some(&key) = keys.first() else { return };
                self.script.op(number, Ask::Seek(key), answer);
                if let Some(position) = self.processes[number as usize].positions.get_mut(&key)
                    && !fails
                {
                    *position = self.random.random_range(0..=self.script.end(key));
                }
                return;
            }
        };
        self.script.op(number, ask, answer);
        if fails {
            return;
        }
        let process = &mut self.processes[number as usize];
        process.positions.retain(|key, _| keys.contains(key) && choice != 0);
        process.is_subscribed = choice == 2;
        for key in keys {
            let elsewhere = self.random.random_range(0..=self.script.end(key));
            let start = if choice == 0 { 0 } else { elsewhere };
            process.positions.entry(key).or_insert(start);
        }
    }

    fn crash(&mut self, number: u32) {
        let process = &mut self.processes[number as usize];
        if let Some(Open { op, send }) = process.open.take() {
            self.script.complete(op, Answer::Unknown);
            self.late.extend(send.filter(|send| send.stored.is_none()));
        }
        self.processes[number as usize].positions.clear();
        self.renew(number);
        self.script.op(number, Ask::Crash, Answer::Done);
    }

    fn trim(&mut self) {
        let key = self.key();
        let (start, end) = (self.log_start(key), self.script.end(key));
        // Not so often that little is left.
        if end > start + 8 {
            self.script.log_starts[key as usize] += self.random.random_range(0..4);
        }
    }

    fn observe(&mut self) {
        let key = self.key();
        self.observe_key(key);
    }

    fn observe_key(&mut self, key: Key) {
        let what = Observation {
            high_watermark: Some(self.script.end(key)),
            log_start: Some(self.log_start(key)),
            leader_epoch: Some(self.epochs[key as usize]),
        };
        let observer = self.random.random_range(0..3);
        self.script.push(Step::Observe { observer, key, what });
    }

    /// Everything comes to rest and is read once more.
    fn finish(&mut self) {
        let reader = self.size.processes;
        let keys: Vec<_> = (0..self.size.keys).collect();
        self.script.op(reader, Ask::Assign(keys.clone(), true), Answer::Done);
        for &key in &keys {
            let end = self.script.end(key);
            let mut next = self.log_start(key);
            while next < end {
                let stop = end.min(next + 50);
                let records: Vec<Record> =
                    (next..stop).map(|offset| self.script.record(key, offset)).collect();
                self.script.op(reader, Ask::Poll, Answer::Polled(records));
                next = stop;
            }
        }
        for key in keys {
            self.observe_key(key);
            self.dump(key);
        }
        for batch in std::mem::take(&mut self.batches) {
            if batch.offset >= self.log_start(batch.key) {
                self.script.push(Step::Stored(batch));
            }
        }
        self.queue();
    }

    fn dump(&mut self, key: Key) {
        let (mut entries, mut base_offset, mut index) = (Vec::new(), 0, 1);
        while base_offset < self.script.end(key) {
            let left =
                u32::try_from(self.script.end(key) - base_offset).expect("histories are small");
            let records = self.random.random_range(0..4).min(left);
            let (term, chain) = (1 + index / 10, index * 0x9e37_79b9);
            entries.push(Entry { index, term, base_offset, records, chain, payload_crc: records });
            base_offset += u64::from(records);
            index += 1;
        }
        for replica in 1..=3 {
            let log_start = self.log_start(key);
            // Whole segments are trimmed: something before the log start may be left.
            let first = entries.partition_point(|entry| entry.base_offset <= log_start);
            let first = first.saturating_sub(1 + self.random.random_range(0..3));
            let mut entries = entries[first..].to_vec();
            let behind = self.random.random_range(0..3);
            if let Some(last) = entries.last_mut().filter(|_| behind > 0) {
                // Not committed here: it may be another one.
                last.chain += replica;
            }
            let committed_end = index - behind.min(1).min(index - 1);
            self.script.push(Step::Dump(ReplicaDump {
                key,
                replica,
                log_start,
                committed_end,
                entries,
            }));
        }
    }

    fn queue(&mut self) {
        for (key, value) in self.acknowledged.clone() {
            self.script.push(Step::Queued { key, value, outcome: QueueOutcome::InFlight });
            let outcome = match self.random.random_range(0..10) {
                0 => QueueOutcome::InFlight,
                1 => QueueOutcome::DeadLettered,
                2 => QueueOutcome::Expired,
                _ => QueueOutcome::Acked,
            };
            self.script.push(Step::Queued { key, value, outcome });
        }
    }
}
