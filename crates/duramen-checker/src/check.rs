//! All passes over a history.

mod groups;
mod index;
mod lag;
mod observed;
mod polls;
mod producers;
mod queues;
mod replicas;
mod sends;
mod values;

use index::Index;

use crate::anomaly::Anomaly;
use crate::history::History;
use crate::report::{Options, Report};

/// Says what of a history cannot be if the log keeps its promises.
#[must_use]
pub fn check(history: &History, options: &Options) -> Report {
    let index = Index::new(history);
    let mut pass = Pass { history, options: *options, index: &index, report: Report::default() };
    pass.report.figures.ops = count(history.len());
    values::check(&mut pass);
    polls::check(&mut pass);
    sends::check(&mut pass);
    lag::measure(&mut pass);
    observed::check(&mut pass);
    replicas::check(&mut pass);
    groups::check(&mut pass);
    producers::check(&mut pass);
    queues::check(&mut pass);
    pass.report
}

/// What every pass has: the history, what follows from it, and what was found so far.
struct Pass<'a> {
    history: &'a History,
    options: Options,
    index: &'a Index,
    report: Report,
}

impl Pass<'_> {
    fn add(&mut self, anomaly: Anomaly) {
        self.report.add(anomaly, &self.options);
    }
}

/// A length as a figure.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
