//! All passes over a history.

mod index;

use index::Index;

use crate::anomaly::Anomaly;
use crate::history::History;
use crate::report::{Options, Report};

/// Says what of a history cannot be if the log keeps its promises.
#[must_use]
pub fn check(history: &History, options: &Options) -> Report {
    let mut pass = Pass::new(history, options);
    pass.report.figures.ops = u64::try_from(history.len()).unwrap_or(u64::MAX);
    pass.report
}

/// What every pass has: the history, what follows from it, and what was found so far.
struct Pass<'a> {
    history: &'a History,
    options: &'a Options,
    index: Index,
    report: Report,
}

impl<'a> Pass<'a> {
    fn new(history: &'a History, options: &'a Options) -> Self {
        Self { history, options, index: Index::new(history), report: Report::default() }
    }

    fn add(&mut self, anomaly: Anomaly) {
        self.report.add(anomaly, self.options);
    }
}
