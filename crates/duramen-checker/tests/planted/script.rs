//! A history that can still be edited.

use std::collections::BTreeMap;

use duramen_checker::{
    Call, Commit, CommitAnswer, GroupEvent, History, Key, Observation, Outcome, Placed,
    ProducedBatch, QueueOutcome, Record, ReplicaDump, Value,
};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Send(Vec<(Key, Value)>),
    Poll,
    Assign(Vec<Key>, bool),
    Subscribe(Vec<Key>),
    Seek(Key),
    Crash,
}

/// What it is told.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Sent(Vec<Placed>),
    Polled(Vec<Record>),
    Done,
    Failed,
    Unknown,
}

/// One thing to be written down. Operations and questions have numbers of their own.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Invoke { op: usize, process: u32, ask: Ask },
    Complete { op: usize, answer: Answer },
    Rebalanced { op: usize, key: Key },
    Watermark { op: usize, key: Key, high_watermark: u64 },
    Observe { observer: u32, key: Key, what: Observation },
    Dump(ReplicaDump),
    Question(usize),
    Commit { group: u32, question: usize, commit: (u32, u64, Key, u64), answer: CommitAnswer },
    Fetched { group: u32, question: usize, key: Key, offset: Option<u64> },
    Group { group: u32, event: GroupEvent },
    Stored(ProducedBatch),
    Acknowledged(ProducedBatch),
    Queued { key: Key, value: Value, outcome: QueueOutcome },
}

/// Steps, and the logs that they came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// Values of each key by offset.
    pub(crate) logs: Vec<Vec<Value>>,
    pub(crate) log_starts: Vec<u64>,
    pub(crate) numbers: usize,
}

impl Script {
    /// A number that no operation and no question has.
    pub(crate) fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(crate) fn invoke(&mut self, process: u32, ask: Ask) -> usize {
        let op = self.number();
        self.push(Step::Invoke { op, process, ask });
        op
    }

    pub(crate) fn complete(&mut self, op: usize, answer: Answer) {
        self.push(Step::Complete { op, answer });
    }

    /// An operation that is over at once.
    pub(crate) fn op(&mut self, process: u32, ask: Ask, answer: Answer) -> usize {
        let op = self.invoke(process, ask);
        self.complete(op, answer);
        op
    }

    pub(crate) fn commit(
        &mut self,
        group: u32,
        commit: (u32, u64, Key, u64),
        answer: CommitAnswer,
    ) {
        let question = self.number();
        self.push(Step::Question(question));
        self.push(Step::Commit { group, question, commit, answer });
    }

    pub(crate) fn fetched(&mut self, group: u32, key: Key, offset: Option<u64>) {
        let question = self.number();
        self.push(Step::Question(question));
        self.push(Step::Fetched { group, question, key, offset });
    }

    pub(crate) fn group(&mut self, group: u32, event: GroupEvent) {
        self.push(Step::Group { group, event });
    }

    /// The record of a key at an offset.
    pub(crate) fn record(&self, key: Key, offset: u64) -> Record {
        let value = self.logs[key as usize][usize::try_from(offset).expect("histories are small")];
        Record { key, offset, value }
    }

    pub(crate) fn end(&self, key: Key) -> u64 {
        self.logs[key as usize].len() as u64
    }

    pub(crate) fn history(&self) -> History {
        let mut history = History::default();
        let (mut ops, mut questions) = (BTreeMap::new(), BTreeMap::new());
        for (time, step) in (0..).map(|number| 100 * number).zip(&self.steps) {
            match step.clone() {
                Step::Invoke { op, process, ask } => {
                    let call = match &ask {
                        Ask::Send(values) => Call::Send(values),
                        Ask::Poll => Call::Poll,
                        Ask::Assign(keys, from_start) => {
                            Call::Assign { keys, from_start: *from_start }
                        }
                        Ask::Subscribe(keys) => Call::Subscribe(keys),
                        Ask::Seek(key) => Call::Seek(*key),
                        Ask::Crash => Call::Crash,
                    };
                    ops.insert(op, history.invoke(process, time, call));
                }
                Step::Complete { op, answer } => {
                    let outcome = match &answer {
                        Answer::Sent(placed) => Outcome::Sent(placed),
                        Answer::Polled(records) => Outcome::Polled(records),
                        Answer::Done => Outcome::Done,
                        Answer::Failed => Outcome::Failed,
                        Answer::Unknown => Outcome::Unknown,
                    };
                    history.complete(ops[&op], time, outcome);
                }
                Step::Rebalanced { op, key } => history.rebalanced(ops[&op], key),
                Step::Watermark { op, key, high_watermark } => {
                    history.answered_watermark(ops[&op], key, high_watermark);
                }
                Step::Observe { observer, key, what } => history.observe(observer, key, what),
                Step::Dump(dump) => history.dump(dump),
                Step::Question(question) => {
                    questions.insert(question, history.mark());
                }
                Step::Commit { group, question, commit, answer } => {
                    let (member, generation, key, offset) = commit;
                    let asked = questions[&question];
                    let commit = Commit { asked, member, generation, key, offset, answer };
                    history.group(group, GroupEvent::Committed(commit));
                }
                Step::Fetched { group, question, key, offset } => {
                    let asked = questions[&question];
                    history.group(group, GroupEvent::Fetched { asked, key, offset });
                }
                Step::Group { group, event } => history.group(group, event),
                Step::Stored(batch) => history.stored_batch(batch),
                Step::Acknowledged(batch) => history.acknowledged_batch(batch),
                Step::Queued { key, value, outcome } => history.queued(5, key, value, outcome),
            }
        }
        history
    }
}
