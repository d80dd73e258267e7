//! A record as a line of text: the value as it is, and columns before it if asked for.

use std::io::Write;

use super::{Shown, headers_text};
use crate::time;

/// Which columns a line has.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one switch a column, as on the command line")]
pub(crate) struct TextFormat {
    pub(super) timestamp: bool,
    pub(super) partition: bool,
    pub(super) offset: bool,
    pub(super) headers: bool,
    pub(super) key: bool,
    pub(super) separator: String,
    pub(super) null: String,
}

impl TextFormat {
    /// Adds the line, without its end.
    pub(super) fn render(&self, record: &Shown<'_>, out: &mut Vec<u8>) {
        if self.timestamp {
            out.extend_from_slice(time::show(record.timestamp).as_bytes());
            self.separate(out);
        }
        if self.partition {
            number(record.partition.into(), out);
            self.separate(out);
        }
        if self.offset {
            number(record.offset, out);
            self.separate(out);
        }
        if self.headers {
            headers_text(record, &self.null, out);
            self.separate(out);
        }
        if self.key {
            out.extend_from_slice(record.key.unwrap_or(self.null.as_bytes()));
            self.separate(out);
        }
        out.extend_from_slice(record.value.unwrap_or(self.null.as_bytes()));
    }

    fn separate(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.separator.as_bytes());
    }
}

/// Adds a number.
pub(super) fn number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("memory takes every write");
}

#[cfg(test)]
mod tests {
    use super::super::Renderer;
    use super::super::tests::{rendered, sample};
    use super::*;

    fn format() -> TextFormat {
        TextFormat { separator: "\t".into(), null: "null".into(), ..TextFormat::default() }
    }

    #[test]
    fn text_is_the_value_alone() {
        assert_eq!(rendered(&Renderer::Text(format()), &sample()), "{\"mag\":0.31}\n");
    }

    #[test]
    fn columns_come_before_the_value() {
        let all = TextFormat {
            timestamp: true,
            partition: true,
            offset: true,
            headers: true,
            key: true,
            ..format()
        };
        assert_eq!(
            rendered(&Renderer::Text(all), &sample()),
            "2018-01-31T01:49:59.650Z\t3\t42\ta=1,b=null\tuw61\t{\"mag\":0.31}\n"
        );
    }

    #[test]
    fn null_looks_as_asked_and_empty_is_empty() {
        let dash = Renderer::Text(TextFormat { key: true, null: "-".into(), ..format() });
        let record = Shown { key: None, value: Some(b""), ..sample() };
        assert_eq!(rendered(&dash, &record), "-\t\n");
    }
}
