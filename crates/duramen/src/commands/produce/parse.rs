//! A line of input as a record: key, timestamp and headers; the value is the whole line.

use bytes::Bytes;
use clap::ValueEnum;
use duramen_client::{PartitionId, ProducerRecord, RecordHeader, Timestamp};
use serde_json::Value;

use crate::time;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// Any text.
    Lines,
    /// A JSON value; blank lines are skipped.
    Json,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("has no field {field:?}; a record without it must say null")]
    NoField { field: String },
    #[error("field {field:?} is no key: a text, number or null is needed")]
    NoKey { field: String },
    #[error(
        "field {field:?} is no time: milliseconds since 1970 or RFC 3339 is needed, not {found}"
    )]
    NoTime { field: String, found: String },
    #[error("has no {separator:?} between key and value")]
    NoSeparator { separator: String },
}

/// Makes records of lines.
#[derive(Debug)]
pub(crate) struct LineParser {
    pub(super) format: LineFormat,
    pub(super) key_field: Option<String>,
    pub(super) timestamp_field: Option<String>,
    pub(super) key_separator: Option<String>,
    pub(super) headers: Vec<RecordHeader>,
    pub(super) partition: Option<PartitionId>,
}

impl LineParser {
    /// The record of a line; `None` for a line that is none.
    pub(crate) fn parse(&self, line: Bytes) -> Result<Option<ProducerRecord>, LineError> {
        let mut record = ProducerRecord {
            partition: self.partition,
            headers: self.headers.clone(),
            ..ProducerRecord::default()
        };
        match self.format {
            LineFormat::Lines => {
                let (key, value) = self.split(line)?;
                record.key = key;
                record.value = Some(value);
            }
            LineFormat::Json => {
                if line.trim_ascii().is_empty() {
                    return Ok(None);
                }
                let json: Value = serde_json::from_slice(&line)?;
                if let Some(field) = &self.key_field {
                    record.key = key(&json, field)?;
                }
                if let Some(field) = &self.timestamp_field {
                    record.timestamp = timestamp(&json, field)?;
                }
                record.value = Some(line);
            }
        }
        Ok(Some(record))
    }

    fn split(&self, line: Bytes) -> Result<(Option<Bytes>, Bytes), LineError> {
        let Some(separator) = &self.key_separator else { return Ok((None, line)) };
        let place = memchr::memmem::find(&line, separator.as_bytes())
            .ok_or_else(|| LineError::NoSeparator { separator: separator.clone() })?;
        Ok((Some(line.slice(..place)), line.slice(place + separator.len()..)))
    }
}

/// A field by its name, or by a JSON pointer (RFC 6901) if it begins with a slash.
fn find<'a>(json: &'a Value, field: &str) -> Result<&'a Value, LineError> {
    let found = if field.starts_with('/') { json.pointer(field) } else { json.get(field) };
    found.ok_or_else(|| LineError::NoField { field: field.to_owned() })
}

fn key(json: &Value, field: &str) -> Result<Option<Bytes>, LineError> {
    match find(json, field)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into())),
        plain @ (Value::Number(_) | Value::Bool(_)) => Ok(Some(plain.to_string().into())),
        Value::Array(_) | Value::Object(_) => Err(LineError::NoKey { field: field.to_owned() }),
    }
}

fn timestamp(json: &Value, field: &str) -> Result<Option<Timestamp>, LineError> {
    let value = find(json, field)?;
    let found = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64().map(Timestamp::from_millis),
        Value::String(text) => time::parse_instant(text),
        _ => None,
    };
    let wrong = || LineError::NoTime { field: field.to_owned(), found: value.to_string() };
    found.map(Some).ok_or_else(wrong)
}

/// Whether a line is a record to any parser, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(line: &Bytes) -> bool {
    let parser = |format, field: Option<&str>| LineParser {
        format,
        key_field: field.map(str::to_owned),
        timestamp_field: field.map(|_| "time".to_owned()),
        key_separator: field.map(|_| ":".to_owned()),
        headers: vec![],
        partition: None,
    };
    let fields = [None, Some("id"), Some("/in/k")];
    let parsers = fields
        .into_iter()
        .flat_map(|field| [parser(LineFormat::Lines, field), parser(LineFormat::Json, field)]);
    parsers
        .map(|parser| parser.parse(line.clone()))
        .filter(|parsed| matches!(parsed, Ok(Some(_))))
        .count()
        > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#" {"id":"uw61","n":7,"time":1517363399650,"at":"2018-01-31T01:49:59.650Z","no":null,"in":{"k":"deep"}} "#;

    fn json(key: Option<&str>, timestamp: Option<&str>) -> LineParser {
        LineParser {
            format: LineFormat::Json,
            key_field: key.map(str::to_owned),
            timestamp_field: timestamp.map(str::to_owned),
            key_separator: None,
            headers: vec![],
            partition: None,
        }
    }

    fn parsed(parser: &LineParser, line: &str) -> ProducerRecord {
        parser.parse(Bytes::from(line.to_owned())).unwrap().unwrap()
    }

    #[test]
    fn the_value_is_the_whole_line_unchanged() {
        let record = parsed(&json(Some("id"), Some("time")), LINE);
        assert_eq!(record.value.as_deref(), Some(LINE.as_bytes()));
        assert_eq!(record.key.as_deref(), Some(&b"uw61"[..]));
        assert_eq!(record.timestamp, Some(Timestamp::from_millis(1_517_363_399_650)));
    }

    #[test]
    fn a_key_may_be_a_number_or_deep_inside() {
        assert_eq!(parsed(&json(Some("n"), None), LINE).key.as_deref(), Some(&b"7"[..]));
        assert_eq!(parsed(&json(Some("/in/k"), None), LINE).key.as_deref(), Some(&b"deep"[..]));
        assert_eq!(parsed(&json(Some("no"), None), LINE).key, None);
    }

    #[test]
    fn a_timestamp_may_be_text() {
        let record = parsed(&json(None, Some("at")), LINE);
        assert_eq!(record.timestamp, Some(Timestamp::from_millis(1_517_363_399_650)));
        assert_eq!(parsed(&json(None, Some("no")), LINE).timestamp, None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_an_error_and_not_a_null() {
        let error = |parser: LineParser, line: &str| {
            parser.parse(Bytes::from(line.to_owned())).unwrap_err().to_string()
        };
        assert!(error(json(Some("idd"), None), LINE).contains("no field \"idd\""));
        assert!(error(json(Some("in"), None), LINE).contains("is no key"));
        assert!(error(json(None, Some("id")), LINE).contains("is no time"));
        assert!(error(json(None, None), "{").contains("not JSON"));
    }

    #[test]
    fn blank_lines_between_json_are_skipped() {
        assert!(json(None, None).parse(Bytes::from_static(b" \r")).unwrap().is_none());
    }

    #[test]
    fn a_plain_line_is_a_value_and_may_have_a_key_before_it() {
        let mut parser = LineParser { format: LineFormat::Lines, ..json(None, None) };
        assert_eq!(parsed(&parser, "").value.as_deref(), Some(&b""[..]));
        parser.key_separator = Some("::".into());
        let record = parsed(&parser, "a::b::c");
        assert_eq!(record.key.as_deref(), Some(&b"a"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"b::c"[..]));
        assert!(parser.parse(Bytes::from_static(b"ab")).is_err());
    }
}
