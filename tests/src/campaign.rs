//! What all long test programs have in common: how they end.
//!
//! A campaign prints progress on stderr, its figures as the last line of stdout (one JSON object
//! with `--json`), and for every failure what went wrong and the one command that repeats it. It
//! ends with 1 if anything failed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use crate::guard;

/// What a campaign counted, in the order in which it is printed.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    values: Map<String, Value>,
}

impl Figures {
    /// Adds a figure. Names are `snake_case` and carry their unit: `virtual_s`, `worst_ms`.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// The figures as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.values.clone()).to_string()
    }

    /// The figures as one line for people: `seeds 200, virtual_s 12000, lost 0`.
    #[must_use]
    pub fn to_line(&self) -> String {
        let figure = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name} {text}"),
            Value::Object(inner) => {
                let inner: Vec<_> = inner.iter().map(|(name, n)| format!("{name} {n}")).collect();
                format!("{name} ({})", inner.join(", "))
            }
            value => format!("{name} {value}"),
        };
        self.values.iter().map(figure).collect::<Vec<_>>().join(", ")
    }
}

/// Something that must not have happened.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was found.
    pub what: String,
    /// The command that shows it again, run in the project's directory.
    pub repeat: String,
}

/// Prints the findings and, as the last line, the figures; the exit code says whether all is well.
pub fn finish(figures: &Figures, findings: &[Finding], json: bool) -> ExitCode {
    for finding in findings {
        progress(format_args!("FAILED: {}\n  repeat: {}", finding.what, finding.repeat));
    }
    let line = if json { figures.to_json() } else { figures.to_line() };
    drop(writeln!(std::io::stdout().lock(), "{line}"));
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a campaign of many cases in one process ends.
#[derive(Args, Debug)]
pub struct Ending {
    /// Give this process a bug first; needs a build with the feature `planted`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Findings printed; more are only counted.
    #[arg(long, default_value_t = 20)]
    findings: usize,
    /// Stop at the first finding.
    #[arg(long)]
    pub stop: bool,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Ending {
    /// Plants the bug, if one was asked for.
    ///
    /// # Errors
    /// The exit code, where there is no such bug or this build has none.
    pub fn plant(&self) -> Result<(), ExitCode> {
        let Some(bug) = &self.planted else { return Ok(()) };
        guard::plant(bug).map_err(|error| {
            progress(error);
            ExitCode::FAILURE
        })
    }

    /// As [`finish`], with no more findings than asked for.
    pub fn finish(&self, figures: &Figures, mut findings: Vec<Finding>) -> ExitCode {
        let more = findings.len().saturating_sub(self.findings);
        if more > 0 {
            findings.truncate(self.findings);
            let what = format!("and {more} more");
            findings.push(Finding { what, repeat: "the commands above".into() });
        }
        finish(figures, &findings, self.json)
    }
}

/// Says on stderr how far a campaign is.
pub fn progress(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_order_in_both_forms() {
        let mut figures = Figures::default();
        figures.set("seeds", 3).set("lost", 0).set("faults", serde_json::json!({"kill": 2}));
        assert_eq!(figures.to_line(), "seeds 3, lost 0, faults (kill 2)");
        assert_eq!(figures.to_json(), r#"{"seeds":3,"lost":0,"faults":{"kill":2}}"#);
    }

    #[test]
    fn a_finding_fails_the_campaign() {
        let finding = Finding { what: "lost".into(), repeat: "cargo xtask sim".into() };
        assert_eq!(finish(&Figures::default(), &[], false), ExitCode::SUCCESS);
        assert_eq!(finish(&Figures::default(), &[finding], true), ExitCode::FAILURE);
    }
}
