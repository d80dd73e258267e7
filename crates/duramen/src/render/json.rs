//! A record as a line of JSON: null is not empty, and bytes that are not UTF-8 are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::borrow::Cow;

use super::Shown;

/// What stands beside bytes that are not UTF-8.
const ENCODING: &str = "base64";

/// A record as JSON. The fields are part of the command's contract.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RecordJson<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    /// Milliseconds since the epoch.
    timestamp: i64,
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    headers: Headers<'a>,
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

impl<'a> RecordJson<'a> {
    /// The record's JSON.
    pub(crate) fn new(record: &Shown<'a>) -> Self {
        let (key, key_encoding) = optional(record.key);
        let (value, value_encoding) = optional(record.value);
        Self {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp.as_millis(),
            key,
            key_encoding,
            headers: Headers(record.headers.clone()),
            value,
            value_encoding,
        }
    }
}

/// Pairs of name and value; a third element says that the value is encoded.
#[derive(Debug)]
struct Headers<'a>(Vec<(&'a [u8], Option<&'a [u8]>)>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            let key = String::from_utf8_lossy(key);
            match optional(*value) {
                (value, None) => list.serialize_element(&(key, value))?,
                (value, Some(encoding)) => list.serialize_element(&(key, value, encoding))?,
            }
        }
        list.end()
    }
}

fn optional(bytes: Option<&[u8]>) -> (Option<Cow<'_, str>>, Option<&'static str>) {
    match bytes.map(text_or_base64) {
        None => (None, None),
        Some((text, encoding)) => (Some(text), encoding),
    }
}

/// Bytes as text, and how they are encoded if they are not UTF-8.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (Cow<'_, str>, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(_) => (BASE64.encode(bytes).into(), Some(ENCODING)),
    }
}

/// Adds the record's JSON, without a line end.
pub(super) fn render(record: &Shown<'_>, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &RecordJson::new(record)).expect("strings and numbers are JSON");
}

#[cfg(test)]
mod tests {
    use super::super::Renderer;
    use super::super::tests::{rendered, sample};
    use super::*;

    #[test]
    fn a_record_has_the_fields_of_the_contract_in_order() {
        let text = rendered(&Renderer::Json, &sample());
        assert_eq!(
            text,
            "{\"topic\":\"quakes\",\"partition\":3,\"offset\":42,\"timestamp\":1517363399650,\
             \"key\":\"uw61\",\"headers\":[[\"a\",\"1\"],[\"b\",null]],\
             \"value\":\"{\\\"mag\\\":0.31}\"}\n"
        );
    }

    #[test]
    fn null_is_not_empty() {
        let record = Shown { key: None, value: Some(b""), headers: vec![], ..sample() };
        let text = rendered(&Renderer::Json, &record);
        assert!(text.contains("\"key\":null"), "{text}");
        assert!(text.contains("\"value\":\"\""), "{text}");
        assert!(text.contains("\"headers\":[]"), "{text}");
        let record = Shown { key: Some(b""), value: None, ..sample() };
        let text = rendered(&Renderer::Json, &record);
        assert!(text.contains("\"key\":\"\""), "{text}");
        assert!(text.contains("\"value\":null"), "{text}");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_base64_and_say_so() {
        let record = Shown {
            key: Some(&[0xff, 0x00]),
            value: Some(&[0xfe]),
            headers: vec![(b"raw", Some(&[0xff])), (b"text", Some(b"x"))],
            ..sample()
        };
        let text = rendered(&Renderer::Json, &record);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["key"], "/wA=");
        assert_eq!(value["key_encoding"], "base64");
        assert_eq!(value["value"], "/g==");
        assert_eq!(value["value_encoding"], "base64");
        assert_eq!(value["headers"], serde_json::json!([["raw", "/w==", "base64"], ["text", "x"]]));
    }

    #[test]
    fn line_breaks_stay_inside_the_line() {
        let record = Shown { value: Some(b"a\nb"), ..sample() };
        assert_eq!(rendered(&Renderer::Json, &record).lines().count(), 1);
    }
}
