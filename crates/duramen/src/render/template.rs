//! A record in a text of the user's own: `{offset} {key}: {value}`.

use super::{Shown, headers_text};
use crate::time;

use super::text::number;

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    null: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Time,
    Key,
    Value,
    Headers,
    Header(String),
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error(
        "template: {{{name}}} is nothing of a record; there are topic, partition, offset, \
         timestamp, time, key, value, headers and header:NAME"
    )]
    UnknownField { name: String },
    #[error("template: a brace is open; write {{{{ and }}}} for braces of your own")]
    LooseBrace,
    #[error("template: \\{escape} means nothing; there are \\n, \\t, \\r, \\0 and \\\\")]
    UnknownEscape { escape: String },
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str, null: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '\\' => plain.push(escape(rest.next())?),
                '{' | '}' if rest.next_if_eq(&next).is_some() => plain.push(next),
                '{' => {
                    let name: String = std::iter::from_fn(|| rest.next_if(|c| *c != '}')).collect();
                    rest.next().ok_or(TemplateError::LooseBrace)?;
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(field(&name)?);
                }
                '}' => return Err(TemplateError::LooseBrace),
                _ => plain.push(next),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts, null: null.to_owned() })
    }

    /// Adds the record's text.
    pub(super) fn render(&self, record: &Shown<'_>, out: &mut Vec<u8>) {
        let null = self.null.as_bytes();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => number(record.partition.into(), out),
                Part::Offset => number(record.offset, out),
                Part::Timestamp => {
                    out.extend_from_slice(record.timestamp.as_millis().to_string().as_bytes());
                }
                Part::Time => out.extend_from_slice(time::show(record.timestamp).as_bytes()),
                Part::Key => out.extend_from_slice(record.key.unwrap_or(null)),
                Part::Value => out.extend_from_slice(record.value.unwrap_or(null)),
                Part::Headers => headers_text(record, &self.null, out),
                Part::Header(name) => {
                    let mut headers = record.headers.iter();
                    let found = headers.find(|(key, _)| *key == name.as_bytes());
                    out.extend_from_slice(found.and_then(|(_, value)| *value).unwrap_or(null));
                }
            }
        }
    }
}

fn escape(next: Option<char>) -> Result<char, TemplateError> {
    match next {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('0') => Ok('\0'),
        Some('\\') => Ok('\\'),
        other => Err(TemplateError::UnknownEscape { escape: other.into_iter().collect() }),
    }
}

fn field(name: &str) -> Result<Part, TemplateError> {
    Ok(match name {
        "topic" => Part::Topic,
        "partition" => Part::Partition,
        "offset" => Part::Offset,
        "timestamp" => Part::Timestamp,
        "time" => Part::Time,
        "key" => Part::Key,
        "value" => Part::Value,
        "headers" => Part::Headers,
        _ => match name.strip_prefix("header:") {
            Some(header) => Part::Header(header.to_owned()),
            None => return Err(TemplateError::UnknownField { name: name.to_owned() }),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::Renderer;
    use super::super::tests::{rendered, sample};
    use super::*;

    fn with(template: &str, record: &Shown<'_>) -> String {
        rendered(&Renderer::Template(Template::parse(template, "null").unwrap()), record)
    }

    #[test]
    fn every_part_of_a_record_has_a_name() {
        let text = "{topic}-{partition}@{offset} {timestamp} {time} {key}={value} {headers}";
        assert_eq!(
            with(text, &sample()),
            "quakes-3@42 1517363399650 2018-01-31T01:49:59.650Z uw61={\"mag\":0.31} a=1,b=null\n"
        );
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        assert_eq!(with("{header:a} {header:b} {header:c}", &sample()), "1 null null\n");
    }

    #[test]
    fn braces_and_escapes_can_be_written() {
        assert_eq!(with(r"{{{key}}}\t\\", &sample()), "{uw61}\t\\\n");
    }

    #[test]
    fn null_and_empty_differ() {
        let record = Shown { key: None, value: Some(b""), ..sample() };
        assert_eq!(with("[{key}] [{value}]", &record), "[null] []\n");
    }

    #[test]
    fn a_wrong_template_says_what_is_wrong() {
        let wrong = |text: &str| Template::parse(text, "").unwrap_err();
        assert_eq!(wrong("{ofset}"), TemplateError::UnknownField { name: "ofset".into() });
        assert_eq!(wrong("{key"), TemplateError::LooseBrace);
        assert_eq!(wrong("key}"), TemplateError::LooseBrace);
        assert_eq!(wrong(r"\q"), TemplateError::UnknownEscape { escape: "q".into() });
        assert_eq!(wrong("end\\"), TemplateError::UnknownEscape { escape: String::new() });
    }
}
