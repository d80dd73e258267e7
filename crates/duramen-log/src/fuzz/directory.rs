//! Recovery of a whole log directory, as one input.
//!
//! ```text
//! +----------+------+---------------+-------+------
//! | name len | name | file len u32  | bytes | next file …
//! | u8       |      | little-endian |       |
//! +----------+------+---------------+-------+------
//! ```
//! A length that says more than there is takes what there is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duramen_env::fuzz::Verdict;
use duramen_env::{Disk, OpenMode, Random, SeededRandom, SimDisk};
use duramen_types::{LogIndex, NodeId, Offset, Term, Timestamp};

use super::identity;
use crate::{
    FRAME_OVERHEAD_BYTES, FrameKind, Log, LogError, LogIdentity, LogOptions, NewFrame, OpenError,
    Recovery, meta, verify_dir,
};

const DIR: &str = "/log";

/// Indexes looked at on either end of a recovered log: a damaged one may claim any number.
const LOOKED_AT: u64 = 64;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 1500,
        tail_cache_bytes: 600,
        extent_bytes_min: 4096,
        extent_bytes_max: 8192,
        index_interval_bytes: 256,
        ..LogOptions::default()
    }
}

/// The files in an input: names and where their bytes lie.
pub(super) fn pieces(bytes: &[u8]) -> impl Iterator<Item = (String, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let name_len = usize::from(*bytes.get(at)?);
        let name = bytes.get(at + 1..at + 1 + name_len)?;
        let rest = at + 1 + name_len;
        let len = bytes.get(rest..)?.first_chunk::<4>()?;
        let begin = rest + 4;
        let end = begin.saturating_add(u32::from_le_bytes(*len) as usize).min(bytes.len());
        at = end;
        Some((String::from_utf8_lossy(name).into_owned(), begin..end))
    })
}

/// A disk with these files, all durable.
fn disk_of(bytes: &[u8]) -> io::Result<Arc<dyn Disk>> {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR))?;
    for (name, range) in pieces(bytes) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if name.is_empty() || !name.chars().all(plain) || !name.contains(char::is_alphanumeric) {
            continue;
        }
        let file = disk.open(&Path::new(DIR).join(name), OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(bytes.get(range).unwrap_or_default(), 0)?;
        file.sync_data()?;
    }
    disk.sync_dir(Path::new(DIR))?;
    Ok(Arc::new(disk))
}

fn open(disk: &Arc<dyn Disk>, identity: LogIdentity) -> Result<(Arc<Log>, Recovery), OpenError> {
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
    Log::open(disk, &random, Path::new(DIR), identity, options())
}

/// What a log tells its readers: its ends, and the chain hash or the fault of each index.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    start: (LogIndex, Offset),
    end: (LogIndex, Offset, u64),
    frames: BTreeMap<LogIndex, Option<u64>>,
}

impl Told {
    fn by(log: &Log) -> Result<Self, &'static str> {
        let start = log.start();
        let (first, end) = (start.first_index, log.end_index());
        let front = first.get()..end.get().min(first.get().saturating_add(LOOKED_AT));
        let back = end.get().saturating_sub(LOOKED_AT).max(front.end)..end.get();
        let mut frames = BTreeMap::new();
        for index in front.chain(back).map(LogIndex::new) {
            let frame = match log.read(index, index.saturating_add(1), 1 << 20) {
                Ok(frames) => frames.into_iter().next(),
                Err(LogError::Corrupt { .. }) => None,
                Err(_) => return Err("an index within the log cannot be read"),
            };
            if let Some(frame) = &frame
                && (crc32fast::hash(&frame.payload) != frame.header.payload_crc
                    || frame.header.index != index)
            {
                return Err("a frame was served that does not check");
            }
            frames.insert(index, frame.map(|frame| frame.header.chain));
        }
        let end = (end, log.end_offset(), log.chain_at_end());
        Ok(Self { start: (first, start.base_offset), end, frames })
    }
}

/// Opens the directory, reads all of it, looks for offsets and times, and goes on writing.
pub(super) fn recover(bytes: &[u8]) -> Verdict {
    let Ok(disk) = disk_of(bytes) else { return Verdict::Refused };
    drop(verify_dir(&disk, Path::new(DIR), &mut |_| {}));
    let whose = meta::peek(disk.as_ref(), Path::new(DIR)).map_or(identity(), |meta| meta.identity);
    if open(&disk, whose).is_err() {
        return Verdict::Refused;
    }
    match reopen(&disk, whose) {
        Ok(()) => Verdict::Accepted,
        Err(what) => Verdict::Broken(what),
    }
}

/// What must hold of a log that has opened once.
fn reopen(disk: &Arc<dyn Disk>, whose: LogIdentity) -> Result<(), &'static str> {
    const AGAIN: &str = "it opens once and not again";
    let (log, second) = open(disk, whose).map_err(|_| AGAIN)?;
    let ends = |log: &Log| (log.start(), log.end_index(), log.end_offset(), log.chain_at_end());
    let before = ends(&log);
    drop(log);
    let (log, third) = open(disk, whose).map_err(|_| AGAIN)?;
    // The first open may have cut a torn tail; from then on all of them find the same.
    if third != second || ends(&log) != before {
        return Err("recovering twice is not recovering once");
    }
    let told = Told::by(&log)?;
    drop(log);
    let log = match open(disk, whose) {
        Ok((log, _)) => log,
        // Readers found damage that an index had hidden: with it, the whole may not hold together.
        Err(_) if told.frames.values().any(Option::is_none) => return Ok(()),
        Err(_) => return Err(AGAIN),
    };
    // Segments with an index are not scanned, so that reading may find damage, and with it what
    // lies behind; what was served stays what it was. Only behind damage can a file that was made
    // up, checksums and all, hold two frames of one index: there is no chain there to tell them apart.
    let again = Told::by(&log)?.frames;
    let changed = |(index, chain): (&LogIndex, &Option<u64>)| {
        let before = told.frames.get(index).copied().flatten();
        let follows = index.prev().is_none_or(|prev| again.get(&prev).is_some_and(Option::is_some));
        follows && before.is_some() && chain.is_some() && before != *chain
    };
    if again.iter().any(changed) {
        return Err("a frame that was served has changed");
    }
    seek(&log, &told);
    go_on(&log);
    drop(log);
    verify_dir(disk, Path::new(DIR), &mut |_| {})
        .map(drop)
        .map_err(|_| "a log that was opened cannot be verified")
}

/// Every way of looking for a place; any answer is fine that is one.
fn seek(log: &Log, told: &Told) {
    let times = [i64::MIN, 0, 1_060, i64::MAX].map(Timestamp::from_millis);
    for offset in [told.start.1, told.end.1, Offset::new(told.end.1.get() / 2)] {
        drop((
            log.frame_for_offset(offset),
            log.read_at_offset(offset, told.end.0, 1 << 16, Duration::ZERO),
        ));
        for time in times {
            drop(log.find_timestamp(time, told.end.0));
        }
    }
    drop((log.terms(), log.segments(), log.read_headers(told.start.0, told.end.0, 64)));
    let middle = told.start.0.get().midpoint(told.end.0.get());
    drop(log.log_start_at(LogIndex::new(middle)).and_then(|start| log.trim_to(start)));
}

/// A log that opened takes the next frame, or says why not.
fn go_on(log: &Log) {
    let term = log.last().map_or(Term::new(1), |(term, _)| term);
    let frames = [new_frame(log.end_index().get(), term.get())];
    drop(log.append(&frames).and_then(|_| log.sync()).and_then(|_| log.close()));
}

fn new_frame(index: u64, term: u64) -> NewFrame {
    let step = index % 50;
    let bytes = [40, 70, 100, 130].iter().cycle().nth(usize::try_from(step).unwrap_or(0));
    NewFrame {
        kind: if step % 9 == 4 { FrameKind::Internal(0) } else { FrameKind::Data },
        term: Term::new(term),
        leader: NodeId::new(3),
        index: LogIndex::new(index),
        records: if step % 9 == 4 { 0 } else { 2 },
        append_time: Timestamp::from_millis(1_000 + step.cast_signed() * 10),
        max_timestamp: Timestamp::from_millis(500 + step.cast_signed() * 10),
        payload: vec![u8::try_from(step).unwrap_or(0) + 1; bytes.copied().unwrap_or(0)].into(),
    }
}

/// How a log came to be what it is.
#[derive(Clone, Copy)]
enum Story {
    Empty,
    /// Two segments and an active one, closed.
    Closed,
    /// The same, trimmed, truncated and not closed.
    Cut,
}

/// The files of a log written by the log itself.
fn written(story: Story) -> Result<Vec<(String, Vec<u8>)>, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(2));
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(2));
    let Ok(log) = Log::create(&disk, &random, Path::new(DIR), identity(), options()) else {
        return Ok(Vec::new());
    };
    if !matches!(story, Story::Empty) {
        for index in 0..16 {
            log.append(&[new_frame(index, 1 + index / 6)])?;
        }
        log.sync()?;
    }
    match story {
        Story::Empty | Story::Closed => log.close()?,
        Story::Cut => {
            log.set_committed(LogIndex::new(9));
            log.trim_to(log.log_start_at(LogIndex::new(8))?)?;
            log.truncate_after(Some(LogIndex::new(13)))?;
            log.append(&[new_frame(14, 5)])?;
            log.sync()?;
        }
    }
    let mut files = Vec::new();
    for entry in disk.list(Path::new(DIR)).unwrap_or_default() {
        let Ok(file) = disk.open(&Path::new(DIR).join(&entry.name), OpenMode::Read) else {
            continue;
        };
        let mut bytes = vec![0; usize::try_from(entry.len).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        // Space that is allocated and not used yet tells the decoders nothing.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let keep = if entry.name == "meta" { read } else { used.next_multiple_of(8).min(read) };
        bytes.truncate(keep);
        files.push((entry.name, bytes));
    }
    Ok(files)
}

fn stories() -> impl Iterator<Item = Vec<(String, Vec<u8>)>> {
    [Story::Empty, Story::Closed, Story::Cut].into_iter().filter_map(|story| written(story).ok())
}

/// Whole directories.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let pack = |files: Vec<(String, Vec<u8>)>| {
        let mut bytes = Vec::new();
        for (name, file) in files {
            bytes.push(u8::try_from(name.len()).unwrap_or(0));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&u32::try_from(file.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(&file);
        }
        bytes
    };
    stories().map(pack).collect()
}

/// The files of one kind out of all stories.
pub(super) fn files(extension: &str) -> Vec<Vec<u8>> {
    let files = stories().flatten().filter(|(name, _)| name.ends_with(extension));
    files.map(|(_, bytes)| bytes).collect()
}

/// Heads of frames.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let head = |file: Vec<u8>| Some(file.get(128..128 + FRAME_OVERHEAD_BYTES)?.to_vec());
    files(".log").into_iter().filter_map(head).collect()
}
