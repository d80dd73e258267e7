//! Records as they are shown: JSON lines, text, or a template.

mod json;
mod template;
mod text;

use clap::{Args, ValueEnum};
use duramen_client::{ConsumerRecord, Timestamp};
use duramen_record::RecordView;

use crate::error::CliError;

pub(crate) use json::text_or_base64;
#[cfg(feature = "fuzz")]
pub(crate) use template::Template;
#[cfg(not(feature = "fuzz"))]
use template::Template;
use text::TextFormat;

/// A record about to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Shown<'a> {
    /// A record that borrows from its batch.
    pub(crate) fn view(topic: &'a str, partition: u32, record: &RecordView<'a>) -> Self {
        Self {
            topic,
            partition,
            offset: record.offset.get(),
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers.clone().map(|header| (header.key, header.value)).collect(),
        }
    }

    /// A record of its own.
    pub(crate) fn owned(record: &'a ConsumerRecord) -> Self {
        let headers = record.headers.iter();
        Self {
            topic: &record.topic,
            partition: record.partition.get(),
            offset: record.offset.get(),
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: headers
                .map(|header| (header.key.as_bytes(), header.value.as_deref()))
                .collect(),
        }
    }
}

/// Which form records are shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// A line with the value, and what --print-… add.
    Text,
    /// A line of JSON with everything.
    Json,
}

/// How records are shown.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct RenderArgs {
    /// The form of a record; --json is the same as --format json
    #[arg(long, value_enum)]
    pub(crate) format: Option<RecordFormat>,
    /// Put the timestamp before the value
    #[arg(long)]
    print_timestamp: bool,
    /// Put the partition before the value
    #[arg(long)]
    print_partition: bool,
    /// Put the offset before the value
    #[arg(long)]
    print_offset: bool,
    /// Put the headers before the value
    #[arg(long)]
    print_headers: bool,
    /// Put the key before the value
    #[arg(long)]
    print_key: bool,
    /// What stands between the columns of a text line
    #[arg(long, default_value = "\t")]
    separator: String,
    /// How a null key or value looks in text
    #[arg(long, default_value = "null")]
    null: String,
    /// A text of your own: {topic} {partition} {offset} {timestamp} {time} {key} {value} {headers}
    /// {header:NAME}, with \n, \t, {{ and }}
    #[arg(long, value_name = "TEXT", conflicts_with_all = [
        "format", "print_timestamp", "print_partition", "print_offset", "print_headers",
        "print_key",
    ])]
    template: Option<String>,
}

/// A form that records are shown in.
#[derive(Clone, Debug)]
pub(crate) enum Renderer {
    Json,
    Text(TextFormat),
    Template(Template),
}

impl RenderArgs {
    /// The form asked for.
    pub(crate) fn renderer(&self, json: bool) -> Result<Renderer, CliError> {
        if let Some(template) = &self.template {
            let template = Template::parse(template, &self.null)
                .map_err(|error| CliError::Usage(error.to_string()))?;
            return Ok(Renderer::Template(template));
        }
        if json || self.format == Some(RecordFormat::Json) {
            return Ok(Renderer::Json);
        }
        Ok(Renderer::Text(TextFormat {
            timestamp: self.print_timestamp,
            partition: self.print_partition,
            offset: self.print_offset,
            headers: self.print_headers,
            key: self.print_key,
            separator: self.separator.clone(),
            null: self.null.clone(),
        }))
    }
}

impl Renderer {
    /// Adds a record and the end of its line.
    pub(crate) fn render(&self, record: &Shown<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::render(record, out),
            Self::Text(format) => format.render(record, out),
            Self::Template(template) => template.render(record, out),
        }
        out.push(b'\n');
    }
}

/// Headers in one column: `name=value` with commas between.
fn headers_text(record: &Shown<'_>, null: &str, out: &mut Vec<u8>) {
    for (place, (key, value)) in record.headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or(null.as_bytes()));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with everything.
    pub(crate) fn sample() -> Shown<'static> {
        Shown {
            topic: "quakes",
            partition: 3,
            offset: 42,
            timestamp: Timestamp::from_millis(1_517_363_399_650),
            key: Some(b"uw61"),
            value: Some(b"{\"mag\":0.31}"),
            headers: vec![(b"a", Some(b"1")), (b"b", None)],
        }
    }

    pub(crate) fn rendered(renderer: &Renderer, record: &Shown<'_>) -> String {
        let mut out = Vec::new();
        renderer.render(record, &mut out);
        String::from_utf8(out).unwrap()
    }
}
