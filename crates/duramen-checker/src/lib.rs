//! Histories in, anomalies out: what a replicated log must never show its clients.
//!
//! A harness writes down in a [`History`] what its clients asked for and were told, and what it
//! saw of the cluster besides; [`check`] says what of it cannot be if the log keeps its promises.
//! The rules are those of Jepsen's Kafka checker (`jepsen/tests/kafka.clj`), and ours.
//!
//! ```text
//! clients ──invoke, complete──▶ ┌─────────┐
//! observers ──────observe─────▶ │ History │ ──check(options)──▶ Report: anomalies, figures
//! dumps, groups, producers ───▶ └─────────┘
//! ```
//!
//! What is unknown stays unknown: an operation without an answer may have happened or not, and may
//! happen later. Such a send counts as happened when one of its values was read.
//!
//! There are no transactions: an operation sends or polls, never both. So there are no cycles of
//! writes and reads to look for (G0, G1c), and a *precommitted read* is one that was over before
//! the value's send began.
//!
//! This crate knows nothing of Duramen: what it judges cannot mislead it. Every pass is linear in
//! the history but for sorting.
//!
//! ```
//! use duramen_checker::{Call, History, Options, Outcome, Placed, Record, check};
//!
//! let mut history = History::default();
//! let send = history.invoke(0, 10, Call::Send(&[(7, 100)]));
//! history.complete(send, 20, Outcome::Sent(&[Placed { offset: Some(0), epoch: 1 }]));
//! history.invoke(1, 30, Call::Assign { keys: &[7], from_start: true });
//! let poll = history.invoke(1, 40, Call::Poll);
//! history.complete(poll, 50, Outcome::Polled(&[Record { key: 7, offset: 0, value: 100 }]));
//! let report = check(&history, &Options::default());
//! assert!(report.is_sound(), "{report}");
//! ```

mod anomaly;
mod check;
mod event;
mod history;
mod report;

pub use anomaly::Anomaly;
pub use check::check;
pub use event::{
    Commit, CommitAnswer, Entry, GroupEvent, Observation, ProducedBatch, QueueOutcome, ReplicaDump,
};
pub use history::{
    Call, Fate, History, Key, Mark, Micros, OpId, Outcome, Placed, Process, Record, Sent, Value,
};
pub use report::{Figures, Finding, Options, Report};
