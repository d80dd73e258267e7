//! What a run found and counted, for people and as JSON for whoever runs many.

use serde_json::{Value, json};

use super::director::Losses;
use super::fault::Tally;

/// Each run is to have at least so many acknowledgements,
pub(super) const ACKNOWLEDGED_MIN: u64 = 1_000;
/// and so many kinds of fault that took effect.
const KINDS_MIN: usize = 5;

/// What a run found and counted.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Promises that were broken; none is well.
    pub findings: Vec<String>,
    /// Events in their order, with simulated milliseconds; only if it was asked for.
    pub trace: Vec<String>,
    /// The hash of all events, kept or not.
    pub trace_hash: u64,
    /// What was counted.
    pub figures: RunFigures,
}

/// What was counted in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFigures {
    /// Simulated time in all, in milliseconds.
    pub virtual_ms: u64,
    /// Simulated time under faults.
    pub faults_ms: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records certainly not stored.
    pub refused: u64,
    /// Records of which their producer does not know.
    pub unknown: u64,
    /// Records read, repetitions counted.
    pub read: u64,
    /// Faults that took effect.
    pub faults: Tally,
    /// What happened to the nodes.
    pub losses: Losses,
    /// How long after the last fault every partition served.
    pub served_ms: u64,
    /// How long after the last fault all replicas were the same.
    pub converged_ms: u64,
    /// Times that a replica came to lead.
    pub leaders: u64,
    /// Suffixes cut on Raft's word.
    pub truncations: u64,
}

macro_rules! fields {
    ($action:ident) => {
        $action!(
            virtual_ms,
            faults_ms,
            acknowledged,
            refused,
            unknown,
            read,
            served_ms,
            converged_ms,
            leaders,
            truncations
        )
    };
}

impl RunFigures {
    /// What a run lacks to count as one: it is the harness that has failed then.
    #[must_use]
    pub fn lacks(&self, kinds_allowed: usize, faults_min_ms: u64) -> Option<String> {
        if self.faults_ms < faults_min_ms {
            return Some(format!("faults for only {} ms", self.faults_ms));
        }
        if self.acknowledged < ACKNOWLEDGED_MIN {
            return Some(format!("only {} acknowledgements", self.acknowledged));
        }
        let kinds = self.faults.kinds();
        (kinds < KINDS_MIN.min(kinds_allowed)).then(|| format!("only {kinds} kinds of fault"))
    }

    fn to_json(&self) -> Value {
        macro_rules! object {
            ($($field:ident),*) => { json!({ $(stringify!($field): self.$field,)* }) };
        }
        let mut value = fields!(object);
        value["faults"] = self.faults.to_json();
        value["losses"] = json!([
            self.losses.restarts,
            self.losses.stopped,
            self.losses.power_majority,
            self.losses.power_all,
            self.losses.replaced
        ]);
        value
    }

    fn from_json(value: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        macro_rules! read {
            ($($field:ident),*) => {
                Self { $($field: number(&value[stringify!($field)]),)* ..Self::default() }
            };
        }
        let losses = |at: usize| number(&value["losses"][at]);
        Self {
            faults: Tally::from_json(&value["faults"]),
            losses: Losses {
                restarts: losses(0),
                stopped: losses(1),
                power_majority: losses(2),
                power_all: losses(3),
                replaced: losses(4),
            },
            ..fields!(read)
        }
    }
}

impl Outcome {
    /// As one JSON object; the trace is left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "seed": self.seed,
            "findings": self.findings,
            "trace_hash": format!("{:016x}", self.trace_hash),
            "figures": self.figures.to_json(),
        })
    }

    /// Reads what [`Outcome::to_json`] wrote.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let findings = value["findings"].as_array()?.iter();
        let hash = value["trace_hash"].as_str()?;
        Some(Self {
            seed: value["seed"].as_u64()?,
            findings: findings.filter_map(|text| Some(text.as_str()?.to_owned())).collect(),
            trace: Vec::new(),
            trace_hash: u64::from_str_radix(hash, 16).ok()?,
            figures: RunFigures::from_json(&value["figures"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_back() {
        let figures = RunFigures {
            virtual_ms: 90_000,
            acknowledged: 2_000,
            truncations: 3,
            losses: Losses {
                restarts: 4,
                stopped: 3,
                power_majority: 2,
                power_all: 1,
                replaced: 5,
            },
            ..RunFigures::default()
        };
        let findings = vec!["lost".to_owned()];
        let outcome =
            Outcome { seed: 7, findings, trace: Vec::new(), trace_hash: u64::MAX, figures };
        let back = Outcome::from_json(&outcome.to_json()).unwrap();
        assert_eq!(back.figures, outcome.figures);
        assert_eq!((back.seed, back.trace_hash), (7, u64::MAX));
        assert_eq!(back.findings, outcome.findings);
    }
}
