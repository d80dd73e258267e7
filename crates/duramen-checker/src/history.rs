//! What clients asked for and were told, in the order in which it happened.

use std::fmt;
use std::ops::Range;

use crate::event::{
    AnsweredWatermark, Commit, GroupEvent, InGroup, Observation, Observed, Produced, ProducedBatch,
    QueueOutcome, Queued, ReplicaDump,
};

/// A partition; the harness maps them one to one.
pub type Key = u32;
/// What a record carries: like no other value of its key.
pub type Value = u64;
/// A client that does one thing after the other: a producer, a consumer, or both.
pub type Process = u32;
/// Microseconds since any moment that all of a history have in common.
pub type Micros = u64;

/// Stands for an offset that nobody was told.
const NOT_TOLD: u64 = u64::MAX;

/// An operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub(crate) usize);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {}", self.0)
    }
}

/// A moment between two events of a history: what is written down later has happened later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(crate) u64);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Store these values, those of one key in this order.
    Send(&'a [(Key, Value)]),
    /// Give the next records.
    Poll,
    /// Read these keys from now on, and no others.
    Assign {
        /// The keys.
        keys: &'a [Key],
        /// From their first kept record, and not from where the process or its group is.
        from_start: bool,
    },
    /// Read what the group gives of these keys from now on.
    Subscribe(&'a [Key]),
    /// Read this key from elsewhere.
    Seek(Key),
    /// The client is gone, and another takes over under the same number.
    Crash,
}

/// Where a value was stored, as its producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its offset, if it was told.
    pub offset: Option<u64>,
    /// The leader's epoch.
    pub epoch: u64,
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// Its offset.
    pub offset: u64,
    /// Its value.
    pub value: Value,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// All values of the send are stored, in the order of the call.
    Sent(&'a [Placed]),
    /// The poll gave these records, those of one key in the order in which it gave them. A poll
    /// that gave records and then failed ends with what it gave.
    Polled(&'a [Record]),
    /// Anything else is done.
    Done,
    /// It did not happen and will not.
    Failed,
    /// It may or may not have happened, and may yet. After an unknown send the sends of the
    /// process begin anew, as after a crash; after an unknown poll its polls.
    Unknown,
}

/// What became of a value, as its producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored.
    Acknowledged(Placed),
    /// It is not stored.
    Failed,
    /// It may or may not be stored; or its producer still waits.
    Unknown,
}

/// A value that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The operation.
    pub op: OpId,
    /// Its process.
    pub process: Process,
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// What became of it.
    pub fate: Fate,
    /// When it was sent.
    pub invoked: Micros,
    /// When its producer was told what became of it.
    pub completed: Option<Micros>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Send,
    Poll,
    Assign { from_start: bool },
    Subscribe,
    Seek,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Failed,
    Unknown,
}

/// An operation. What it carries lies in the array of its kind.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) process: Process,
    pub(crate) kind: Kind,
    pub(crate) end: End,
    pub(crate) invoked: Micros,
    pub(crate) completed: Option<Micros>,
    pub(crate) began: Mark,
    pub(crate) ended: Mark,
    pub(crate) payload: Range<usize>,
}

/// A value of a send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Key,
    pub(crate) value: Value,
    offset: u64,
    pub(crate) epoch: u64,
}

impl Pair {
    /// The offset that its producer was told.
    pub(crate) fn offset(&self) -> Option<u64> {
        (self.offset != NOT_TOLD).then_some(self.offset)
    }
}

/// What happened, in the order in which it was written down: a send that is written down after
/// another's answer was sent after that answer. One of many threads' clients is behind a lock.
///
/// A process may have several sends under way; they count in the order of their calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(crate) ops: Vec<Op>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) records: Vec<Record>,
    pub(crate) keys: Vec<Key>,
    pub(crate) rebalanced: Vec<(usize, Key)>,
    pub(crate) watermarks: Vec<AnsweredWatermark>,
    pub(crate) observed: Vec<Observed>,
    pub(crate) dumps: Vec<ReplicaDump>,
    pub(crate) groups: Vec<InGroup>,
    pub(crate) produced: Vec<Produced>,
    pub(crate) queued: Vec<Queued>,
    now: u64,
}

impl History {
    /// A client asks for something. Without an outcome it stays unknown.
    pub fn invoke(&mut self, process: Process, time: Micros, call: Call<'_>) -> OpId {
        let (kind, payload) = match call {
            Call::Send(values) => {
                let pair = |&(key, value): &_| Pair { key, value, offset: NOT_TOLD, epoch: 0 };
                (Kind::Send, append(&mut self.pairs, values.iter().map(pair)))
            }
            Call::Poll => (Kind::Poll, 0..0),
            Call::Assign { keys, from_start } => {
                (Kind::Assign { from_start }, append(&mut self.keys, keys.iter().copied()))
            }
            Call::Subscribe(keys) => {
                (Kind::Subscribe, append(&mut self.keys, keys.iter().copied()))
            }
            Call::Seek(key) => (Kind::Seek, append(&mut self.keys, [key])),
            Call::Crash => (Kind::Crash, 0..0),
        };
        let began = self.next();
        let op = Op {
            process,
            kind,
            end: End::Unknown,
            invoked: time,
            completed: None,
            began,
            ended: Mark(u64::MAX),
            payload,
        };
        self.ops.push(op);
        OpId(self.ops.len() - 1)
    }

    /// A client is told what became of what it asked for.
    ///
    /// # Panics
    /// If the operation has its outcome, or this is none for it: a fault of the harness.
    pub fn complete(&mut self, op: OpId, time: Micros, outcome: Outcome<'_>) {
        let ended = self.next();
        let op = &mut self.ops[op.0];
        assert!(op.completed.is_none(), "an operation has one outcome");
        op.completed = Some(time);
        op.ended = ended;
        match outcome {
            Outcome::Sent(placed) => {
                assert_eq!(op.kind, Kind::Send, "only sends are sent");
                let pairs = &mut self.pairs[op.payload.clone()];
                assert_eq!(pairs.len(), placed.len(), "one place for each value");
                for (pair, placed) in pairs.iter_mut().zip(placed) {
                    pair.offset = placed.offset.unwrap_or(NOT_TOLD);
                    pair.epoch = placed.epoch;
                }
            }
            Outcome::Polled(records) => {
                assert_eq!(op.kind, Kind::Poll, "only polls give records");
                op.payload = append(&mut self.records, records.iter().copied());
            }
            Outcome::Done => {
                let has_more = matches!(op.kind, Kind::Send | Kind::Poll);
                assert!(!has_more, "sends and polls have outcomes of their own");
            }
            Outcome::Failed | Outcome::Unknown => {}
        }
        op.end = match outcome {
            Outcome::Failed => End::Failed,
            Outcome::Unknown => End::Unknown,
            Outcome::Sent(_) | Outcome::Polled(_) | Outcome::Done => End::Ok,
        };
    }

    /// The group took the key from the process or gave it, during this poll: its records of the
    /// key may skip or go back.
    pub fn rebalanced(&mut self, poll: OpId, key: Key) {
        self.rebalanced.push((poll.0, key));
    }

    /// The answer to a poll said that this is one past the last offset of the key that may be
    /// read.
    pub fn answered_watermark(&mut self, poll: OpId, key: Key, high_watermark: u64) {
        self.watermarks.push(AnsweredWatermark { op: poll.0, key, high_watermark });
    }

    /// Somebody is told about a key.
    pub fn observe(&mut self, observer: u32, key: Key, what: Observation) {
        let mark = self.next();
        self.observed.push(Observed { mark, observer, key, what });
    }

    /// What a replica has on disk. Any time will do: what is committed stays as it is.
    pub fn dump(&mut self, dump: ReplicaDump) {
        self.dumps.push(dump);
    }

    /// Something happens in a consumer group.
    pub fn group(&mut self, group: u32, event: GroupEvent) {
        let mark = self.next();
        self.groups.push(InGroup { mark, group, event });
    }

    /// A batch that the log of its key has at the end. All of that log are told, in any order.
    pub fn stored_batch(&mut self, batch: ProducedBatch) {
        self.produced.push(Produced { is_stored: true, batch });
    }

    /// A batch that was acknowledged, once more for each answer.
    pub fn acknowledged_batch(&mut self, batch: ProducedBatch) {
        self.produced.push(Produced { is_stored: false, batch });
    }

    /// What becomes of a value in a queue group.
    pub fn queued(&mut self, queue: u32, key: Key, value: Value, outcome: QueueOutcome) {
        self.queued.push(Queued { queue, key, value, outcome });
    }

    /// Goes on with another history, all of which happened after this one.
    pub fn extend(&mut self, later: Self) {
        let (ops, mark) = (self.ops.len(), self.now);
        let later_mark = |at: Mark| Mark(at.0.saturating_add(mark));
        for mut op in later.ops {
            let shift = match op.kind {
                Kind::Send => self.pairs.len(),
                Kind::Poll => self.records.len(),
                _ => self.keys.len(),
            };
            op.payload = op.payload.start + shift..op.payload.end + shift;
            (op.began, op.ended) = (later_mark(op.began), later_mark(op.ended));
            self.ops.push(op);
        }
        self.pairs.extend(later.pairs);
        self.records.extend(later.records);
        self.keys.extend(later.keys);
        self.rebalanced.extend(later.rebalanced.into_iter().map(|(op, key)| (op + ops, key)));
        for mut answer in later.watermarks {
            answer.op += ops;
            self.watermarks.push(answer);
        }
        for mut seen in later.observed {
            seen.mark = later_mark(seen.mark);
            self.observed.push(seen);
        }
        for mut one in later.groups {
            one.mark = later_mark(one.mark);
            match &mut one.event {
                GroupEvent::Committed(Commit { asked, .. }) | GroupEvent::Fetched { asked, .. } => {
                    *asked = later_mark(*asked)
                }
                _ => {}
            }
            self.groups.push(one);
        }
        self.dumps.extend(later.dumps);
        self.produced.extend(later.produced);
        self.queued.extend(later.queued);
        self.now += later.now;
    }

    /// The moment now.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark(self.now)
    }

    /// Everything that was sent, in the order of sending.
    pub fn sent(&self) -> impl Iterator<Item = Sent> + '_ {
        let sends = self.ops.iter().enumerate().filter(|(_, op)| op.kind == Kind::Send);
        sends.flat_map(|(id, op)| {
            self.pairs[op.payload.clone()].iter().map(move |pair| {
                let placed = Placed { offset: pair.offset(), epoch: pair.epoch };
                Sent {
                    op: OpId(id),
                    process: op.process,
                    key: pair.key,
                    value: pair.value,
                    fate: match op.end {
                        End::Ok => Fate::Acknowledged(placed),
                        End::Failed => Fate::Failed,
                        End::Unknown => Fate::Unknown,
                    },
                    invoked: op.invoked,
                    completed: op.completed,
                }
            })
        })
    }

    /// Operations written down.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether no operation is written down.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    const fn next(&mut self) -> Mark {
        self.now += 1;
        Mark(self.now)
    }
}

/// Appends to an array and says where.
fn append<T>(array: &mut Vec<T>, more: impl IntoIterator<Item = T>) -> Range<usize> {
    let start = array.len();
    array.extend(more);
    start..array.len()
}
