//! One table of a plan, read key by key: every error has its line and, for a name, the nearest one
//! that there is.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draw::MILLION;

/// Names further away than this are no typo.
const NEAR: f64 = 0.7;

/// Why a plan is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// It is not TOML.
    #[error("{message}")]
    Syntax {
        /// Where and why.
        message: String,
    },
    /// A name that means nothing here.
    #[error("line {line}: there is no {what} {found:?}{}; there is {known}", nearest(.near))]
    Unknown {
        /// The line, from 1.
        line: usize,
        /// What kind of name.
        what: &'static str,
        /// The name.
        found: String,
        /// The one that was meant, perhaps.
        near: Option<String>,
        /// The names that there are.
        known: String,
    },
    /// A value that cannot be.
    #[error("line {line}: {key} must be {expected}, not {found}")]
    Value {
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What it can be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A key that must be there.
    #[error("line {line}: {key} is missing: {why}")]
    Missing {
        /// The line of the table, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// There is no fault in it.
    #[error("there is no [[fault]] in it; --faults-example prints a plan")]
    Empty,
}

fn nearest(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!(", did you mean {near}?"))
}

/// An error about a name, with the nearest of those that there are.
pub(super) fn unknown(
    line: usize,
    what: &'static str,
    found: &str,
    known: &[&'static str],
) -> PlanError {
    let likeness = |name: &&&str| strsim::jaro_winkler(name, found);
    let near = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let near = near.filter(|name| likeness(name) > NEAR).map(|name| (*name).to_owned());
    PlanError::Unknown { line, what, found: found.to_owned(), near, known: known.join(", ") }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

/// A table of a plan.
pub(super) struct Table<'a> {
    text: &'a str,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// A table at its place in the text.
    pub(super) fn new(text: &'a str, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { text, span, table }
    }

    /// The table's line.
    pub(super) fn line(&self) -> usize {
        line_of(self.text, self.span.start)
    }

    /// Refuses keys other than these.
    pub(super) fn only(&self, known: &[&'static str]) -> Result<(), PlanError> {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                return Err(unknown(line_of(self.text, key.span().start), "key", name, known));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut entries = self.table.iter();
        entries.find(|(key, _)| key.get_ref().as_ref() == name).map(|(_, value)| value)
    }

    /// Whether a key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The line of a key's value; the table's if there is none.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.find(name).map_or(self.line(), |value| line_of(self.text, value.span().start))
    }

    /// An error about a key's value.
    pub(super) fn wrong(&self, key: &str, expected: impl Into<String>) -> PlanError {
        let found = self.find(key).and_then(|value| self.text.get(value.span()));
        PlanError::Value {
            line: self.line_of(key),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.unwrap_or("nothing").to_owned(),
        }
    }

    /// A text.
    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        value.get_ref().as_str().map(Some).ok_or_else(|| self.wrong(key, "a text in quotes"))
    }

    /// A list of texts, or one.
    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let value = value.get_ref();
        let items = match value.as_array() {
            Some(items) => items.iter().map(|item| item.get_ref().as_str()).collect(),
            None => value.as_str().map(|item| vec![item]),
        };
        items.map(Some).ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// A whole number, at least 1.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| self.wrong(key, "a whole number from 1"))
    }

    /// A share of one, in parts of a million.
    pub(super) fn share(&self, key: &str) -> Result<Option<u32>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => "",
        };
        let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        // Seconds have micros as a share of one has parts of a million.
        let share = share.map(|share| Duration::from_secs_f64(share).as_micros());
        let share = share.and_then(|ppm| u32::try_from(ppm).ok()).filter(|ppm| *ppm <= MILLION);
        share.map(Some).ok_or_else(|| self.wrong(key, "a number from 0 to 1"))
    }

    /// A time such as "200ms".
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let duration = value.get_ref().as_str().and_then(parse_duration);
        duration.map(Some).ok_or_else(|| self.wrong(key, r#"a time such as "200ms" or "1m 30s""#))
    }

    /// A time, or the shortest and the longest one.
    pub(super) fn range(&self, key: &str) -> Result<Option<(Duration, Duration)>, PlanError> {
        let Some(texts) = self.strings(key)? else { return Ok(None) };
        let times: Option<Vec<_>> = texts.iter().map(|text| parse_duration(text)).collect();
        let range = match times.as_deref() {
            Some([time]) => Some((*time, *time)),
            Some([low, high]) if low <= high => Some((*low, *high)),
            _ => None,
        };
        let expected = r#"a time such as "200ms", or two: ["20ms", "200ms"]"#;
        range.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// Whether a value is a number.
    pub(super) fn is_number(&self, key: &str) -> bool {
        self.find(key).is_some_and(|value| value.get_ref().is_integer())
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}
