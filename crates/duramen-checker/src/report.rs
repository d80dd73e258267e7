//! What a check may assume, and what it found.

use std::collections::BTreeMap;
use std::fmt;

use crate::anomaly::Anomaly;
use crate::history::{Key, Micros};

/// What the checker may assume of a history.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At the end every process that polls has come to rest and somebody has read every key from
    /// its log start to its high watermark, after which the log start was observed once more. So
    /// what was acknowledged has been seen.
    pub final_read: bool,
    /// Offsets have no holes, so a gap in what is read is an anomaly.
    pub dense_offsets: bool,
    /// Producers are idempotent, so a value that is stored twice is an anomaly.
    pub idempotent: bool,
    /// Anomalies of one name that are kept; all are counted.
    pub kept_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { final_read: true, dense_offsets: true, idempotent: true, kept_max: 20 }
    }
}

/// An anomaly, and whether it fails the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub anomaly: Anomaly,
    /// Whether it is against what was promised.
    pub fails: bool,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Operations.
    pub ops: u64,
    /// Values that were acknowledged.
    pub acknowledged: u64,
    /// Values of unknown outcome that were read.
    pub unknown_stored: u64,
    /// Values of unknown outcome that were not.
    pub unknown_unseen: u64,
    /// Values whose send failed.
    pub refused: u64,
    /// Records given by polls, with repetitions.
    pub records_read: u64,
    /// Records that a subscribed process was given in more than one poll (consume-counts).
    pub consumed_again: u64,
    /// The longest that a process was surely behind the end of a log, in microseconds
    /// (worst-realtime-lag).
    pub worst_lag: Micros,
    /// The key on which it was.
    pub worst_lag_key: Option<Key>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Anomalies in the order of finding, at most [`Options::kept_max`] of a name.
    pub findings: Vec<Finding>,
    /// How many there are of each name, and whether any of them fails the test.
    pub counts: BTreeMap<&'static str, (u64, bool)>,
    /// What was counted on the way.
    pub figures: Figures,
}

impl Report {
    /// Whether nothing is against what was promised.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.failures() == 0
    }

    /// How many kinds of anomaly fail the test.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.counts.values().filter(|(_, fails)| *fails).count()
    }

    /// How many anomalies of a name there are, whether they fail the test or not.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn add(&mut self, anomaly: Anomaly, options: &Options) {
        let fails = anomaly.fails(options.idempotent);
        let (count, any_fails) = self.counts.entry(anomaly.name()).or_default();
        *count += 1;
        *any_fails |= fails;
        if *count <= options.kept_max {
            self.findings.push(Finding { anomaly, fails });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return write!(f, "no anomalies in {} operations", self.figures.ops);
        }
        for (name, (count, fails)) in &self.counts {
            let note = if *fails { "" } else { " (allowed)" };
            writeln!(f, "{name}: {count}{note}")?;
        }
        for Finding { anomaly, .. } in &self.findings {
            writeln!(f, "  {}: {anomaly}", anomaly.name())?;
        }
        Ok(())
    }
}
