//! `duramen dump`: what a segment file holds, frame by frame.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use duramen_log::{FrameHeader, FrameKind, FrameSight, dump_file};
use duramen_record::{Batch, BatchError, split_batches};
use duramen_types::Timestamp;
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::render::{Shown, text_or_base64};
use crate::{limits, output, time};

const EXAMPLES: &str = "\
Examples:
  duramen dump data/1/partitions/TOPIC-0-REPLICA/00000000000000000000.log
  duramen dump FILE --records
  duramen dump FILE --json | jq 'select(.kind == \"data\") | .base_offset'

A segment of any partition or of the metadata group can be shown, also while the node runs. Frames
that are damaged are listed at the end; exit code 1 if there are any before the last sound one.";

/// Options of `duramen dump`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DumpArgs {
    /// A segment file
    file: PathBuf,
    /// Show the records of each frame
    #[arg(long)]
    records: bool,
}

/// A frame as JSON.
#[derive(Debug, Serialize)]
struct FrameJson {
    position: u64,
    index: u64,
    term: u64,
    leader: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    internal_kind: Option<u8>,
    base_offset: u64,
    records: u32,
    append_time: i64,
    max_timestamp: Option<i64>,
    payload_bytes: u32,
    payload_crc: String,
    chain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    batches: Vec<BatchJson>,
}

/// A batch of a frame as JSON.
#[derive(Debug, Serialize)]
struct BatchJson {
    base_offset: u64,
    last_offset: u64,
    bytes: usize,
    compression: String,
    producer_id: Option<u64>,
    producer_epoch: Option<u16>,
    base_sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    record_list: Vec<RecordJson>,
}

/// A record of a batch as JSON.
#[derive(Debug, Serialize)]
struct RecordJson {
    offset: u64,
    timestamp: i64,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

/// A damaged place as JSON.
#[derive(Debug, Serialize)]
struct ProblemJson {
    problem: String,
    position: u64,
    index: u64,
}

/// Runs the command.
pub(crate) fn run(args: &DumpArgs, context: &Context) -> Result<(), CliError> {
    let mut dump = Dump {
        json: context.json,
        records: args.records,
        buffer: Vec::with_capacity(limits::OUTPUT_BYTES),
        frames: 0,
        end: 0,
        outcome: Ok(()),
    };
    let path = &args.file;
    if path.is_dir() {
        return Err(CliError::Usage(format!(
            "{} is a directory: give one of the .log files in it, or use duramen verify",
            path.display()
        )));
    }
    let problems = dump_file(&context.env.disk, path, &mut |frame| dump.see(&frame))
        .map_err(|source| CliError::Log { path: path.clone(), source })?;
    let mut is_damaged = false;
    for (index, position, fault) in problems {
        is_damaged |= position < dump.end;
        let problem = ProblemJson { problem: fault.to_string(), position, index: index.get() };
        dump.problem(&problem);
    }
    dump.finish(path)?;
    if is_damaged { Err(CliError::Reported) } else { Ok(()) }
}

/// Writes frames to stdout.
struct Dump {
    json: bool,
    records: bool,
    buffer: Vec<u8>,
    frames: u64,
    /// Where the last sound frame ends.
    end: u64,
    /// Whether stdout still takes anything.
    outcome: Result<(), CliError>,
}

impl Dump {
    fn see(&mut self, frame: &FrameSight<'_>) {
        self.frames += 1;
        self.end = self.end.max(frame.position + frame.header.frame_bytes());
        if self.outcome.is_err() {
            return;
        }
        let batches = if frame.header.is_data() { self.batches(frame.payload) } else { vec![] };
        if self.json {
            let line = frame_json(frame.position, frame.header, batches);
            self.json_line(&line);
        } else {
            self.line(&frame_text(frame.position, frame.header));
            for batch in batches {
                self.batch_text(batch);
            }
        }
        self.flush_if(limits::OUTPUT_BYTES);
    }

    fn batches(&self, payload: &[u8]) -> Vec<BatchJson> {
        let batches = split_batches(Bytes::copy_from_slice(payload));
        let mut shown = Vec::new();
        for batch in batches {
            match batch {
                Ok(batch) => shown.push(batch_json(&batch, self.records)),
                Err(error) => {
                    shown.push(BatchJson { error: Some(error.to_string()), ..unreadable() });
                }
            }
        }
        shown
    }

    fn batch_text(&mut self, batch: BatchJson) {
        let BatchJson { base_offset, last_offset, bytes, compression, .. } = &batch;
        let producer = match (batch.producer_id, batch.producer_epoch, batch.base_sequence) {
            (Some(id), Some(epoch), Some(sequence)) => {
                format!(" producer={id} epoch={epoch} sequence={sequence}")
            }
            _ => String::new(),
        };
        let error =
            batch.error.as_ref().map_or_else(String::new, |error| format!(" ERROR {error}"));
        self.line(&format!(
            "  batch offsets={base_offset}..={last_offset} bytes={bytes} \
             compression={compression}{producer}{error}"
        ));
        for record in batch.record_list {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
            let timestamp = time::show(Timestamp::from_millis(record.timestamp));
            let (key, value) = (text(&record.key), text(&record.value));
            self.line(&format!("    {} {timestamp} {key} {value}", record.offset));
        }
    }

    fn problem(&mut self, problem: &ProblemJson) {
        if self.json {
            self.json_line(problem);
        } else {
            let ProblemJson { problem, position, index } = problem;
            self.line(&format!("at byte {position}, entry {index} is due: {problem}"));
        }
    }

    fn finish(&mut self, path: &Path) -> Result<(), CliError> {
        self.flush_if(1);
        std::mem::replace(&mut self.outcome, Ok(()))?;
        output::note(&format!("{}: {} frames", path.display(), self.frames));
        Ok(())
    }

    fn line(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(b'\n');
    }

    fn json_line<T: Serialize>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.buffer, value).expect("strings and numbers are JSON");
        self.buffer.push(b'\n');
    }

    fn flush_if(&mut self, bytes: usize) {
        if self.buffer.len() >= bytes {
            self.outcome = output::write(&self.buffer);
            self.buffer.clear();
        }
    }
}

fn kind_name(kind: FrameKind) -> (&'static str, Option<u8>) {
    match kind {
        FrameKind::Data => ("data", None),
        FrameKind::Internal(number) => ("internal", Some(number)),
    }
}

fn frame_json(position: u64, header: &FrameHeader, batches: Vec<BatchJson>) -> FrameJson {
    let (kind, internal_kind) = kind_name(header.kind);
    let newest = Some(header.max_timestamp).filter(|newest| *newest != Timestamp::MIN);
    FrameJson {
        position,
        index: header.index.get(),
        term: header.term.get(),
        leader: header.leader.get(),
        kind,
        internal_kind,
        base_offset: header.base_offset.get(),
        records: header.records,
        append_time: header.append_time.as_millis(),
        max_timestamp: newest.map(Timestamp::as_millis),
        payload_bytes: header.payload_len,
        payload_crc: format!("{:08x}", header.payload_crc),
        chain: format!("{:016x}", header.chain),
        batches,
    }
}

fn frame_text(position: u64, header: &FrameHeader) -> String {
    let kind = match kind_name(header.kind) {
        (name, None) => name.to_owned(),
        (name, Some(number)) => format!("{name}({number})"),
    };
    let FrameHeader { index, term, leader, base_offset, records, payload_len, chain, .. } = header;
    let append_time = time::show(header.append_time);
    format!(
        "byte={position} index={index} term={term} leader={leader} {kind} offset={base_offset} \
         records={records} bytes={payload_len} appended={append_time} chain={chain:016x}"
    )
}

fn batch_json(batch: &Batch, records: bool) -> BatchJson {
    let header = batch.header();
    let compression = match header.attributes.compression() {
        Ok(compression) => format!("{compression:?}").to_lowercase(),
        Err(error) => error.to_string(),
    };
    let mut record_list = Vec::new();
    let mut error = batch.view().validate().err();
    if records && let Err(wrong) = list_records(batch, &mut record_list) {
        error.get_or_insert(wrong);
    }
    BatchJson {
        base_offset: header.base_offset.get(),
        last_offset: header.last_offset().get(),
        bytes: header.size_bytes,
        compression,
        producer_id: header.producer.map(|producer| producer.id.get()),
        producer_epoch: header.producer.map(|producer| producer.epoch.get()),
        base_sequence: header.producer.map(|producer| producer.base_sequence.get()),
        error: error.map(|error| error.to_string()),
        record_list,
    }
}

fn unreadable() -> BatchJson {
    BatchJson {
        base_offset: 0,
        last_offset: 0,
        bytes: 0,
        compression: String::new(),
        producer_id: None,
        producer_epoch: None,
        base_sequence: None,
        error: None,
        record_list: Vec::new(),
    }
}

fn list_records(batch: &Batch, list: &mut Vec<RecordJson>) -> Result<(), BatchError> {
    let payload = batch.payload(limits::DECOMPRESSED_BYTES)?;
    for record in batch.records(&payload) {
        let shown = Shown::view("", 0, &record?);
        let text = |bytes: Option<&[u8]>| match bytes.map(text_or_base64) {
            None => (None, None),
            Some((text, encoding)) => (Some(text.into_owned()), encoding),
        };
        let (key, key_encoding) = text(shown.key);
        let (value, value_encoding) = text(shown.value);
        list.push(RecordJson {
            offset: shown.offset,
            timestamp: shown.timestamp.as_millis(),
            key,
            key_encoding,
            value,
            value_encoding,
        });
    }
    Ok(())
}
