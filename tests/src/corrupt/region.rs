//! Regions of the files of a node: what each byte is for.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Damage;

/// Why damage may go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The bytes mean nothing.
    Unused,
    /// A second copy is used.
    SecondCopy,
    /// It is derived, and made anew or done without.
    Derived,
    /// What was put in its place holds the same history.
    SameHistory,
    /// It lies below the log start.
    Trimmed,
    /// Nobody was told that it is there: it was never synced.
    Unsynced,
}

impl Why {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::SecondCopy => "second copy",
            Self::Derived => "derived",
            Self::SameHistory => "same history",
            Self::Trimmed => "trimmed",
            Self::Unsynced => "unsynced",
        }
    }
}

/// A run of bytes with one meaning.
#[derive(Clone, Debug)]
pub struct Region {
    /// The file.
    pub path: PathBuf,
    /// What kind of file it is.
    pub kind: &'static str,
    /// What the bytes are for.
    pub class: &'static str,
    /// Where they are.
    pub range: Range<u64>,
    /// Why damage to them may go unnoticed.
    harmless: Option<Why>,
}

impl Region {
    /// Kind and class, for tables.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.kind, self.class)
    }

    /// Why this damage may go unnoticed here; `None` if it may not.
    #[must_use]
    pub fn why(&self, damage: Damage) -> Option<Why> {
        match damage {
            // The whole file is another one, whatever the region was.
            Damage::SwapReplica if self.kind.starts_with("segment") => Some(Why::SameHistory),
            // Until the log is trimmed to it, all that it holds can be had from the log.
            Damage::Remove if self.kind == "snapshot" => Some(Why::Derived),
            // What is behind the last frame or record means nothing, and it is no sound frame.
            Damage::DuplicateTail if self.kind != "index" => Some(Why::Unused),
            // A cut or a sector may take away no more than zeros that were never written.
            Damage::Truncate | Damage::ZeroSector | Damage::StaleSector
                if matches!(self.class, "room" | "padding") =>
            {
                Some(Why::Unused)
            }
            // What its sector held before may lack no more than what was never synced.
            Damage::StaleSector if matches!(self.class, "last-record" | "last-crc") => {
                Some(Why::Unsynced)
            }
            _ => self.harmless,
        }
    }
}

/// Collects the regions of one file.
struct Regions<'a> {
    path: &'a Path,
    kind: &'static str,
    len: u64,
    all: Vec<Region>,
}

impl Regions<'_> {
    fn add(&mut self, class: &'static str, range: Range<u64>, harmless: Option<Why>) {
        let range = range.start.min(self.len)..range.end.min(self.len);
        if !range.is_empty() {
            let (path, kind) = (self.path.to_owned(), self.kind);
            self.all.push(Region { path, kind, class, range, harmless });
        }
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Where a frame is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) payload_bytes: u64,
    /// It lies below the log start.
    pub(super) is_trimmed: bool,
}

/// The regions of a file that a node writes. `frames` are those of a segment; `is_last` is the
/// log's last segment.
pub(super) fn of_file(path: &Path, bytes: &[u8], frames: &[Place], is_last: bool) -> Vec<Region> {
    let name = name_of(path);
    let kind = match name {
        "meta" | "log-start" | "hardstate" | "snapshot" => name_kind(name),
        "identity.json" => "identity",
        _ if name.starts_with("checkpoint-") => "checkpoint",
        _ if name.ends_with(".index") => "index",
        _ if name.ends_with(".log") && is_last => "segment-active",
        _ if name.ends_with(".log") => "segment-sealed",
        _ => return Vec::new(),
    };
    let len = bytes.len() as u64;
    let mut regions = Regions { path, kind, len, all: Vec::new() };
    match kind {
        "meta" => meta(&mut regions),
        "log-start" => log_start(&mut regions),
        "hardstate" => votes(&mut regions, bytes),
        "index" => index(&mut regions, bytes),
        "identity" => regions.add("text", 0..len, Some(Why::Unused)),
        "snapshot" | "checkpoint" => {
            let harmless = (kind == "checkpoint").then_some(Why::Derived);
            regions.add("head", 0..36, harmless);
            regions.add("payload", 36..len, harmless);
        }
        _ => segment(&mut regions, frames),
    }
    regions.all
}

fn name_kind(name: &str) -> &'static str {
    match name {
        "meta" => "meta",
        "log-start" => "log-start",
        "hardstate" => "hardstate",
        _ => "snapshot",
    }
}

fn segment(regions: &mut Regions<'_>, frames: &[Place]) {
    // All of a head can be derived; it is written again when it is found bad.
    let derived = Some(Why::Derived);
    regions.add("head", 0..72, derived);
    regions.add("head-zeros", 72..124, derived);
    regions.add("head-crc", 124..128, derived);
    let mut end = 128;
    for Place { position, payload_bytes: payload, is_trimmed } in frames.iter().copied() {
        let at = |from: u64, to: u64| position + from..position + to;
        end = (position + 120 + payload).next_multiple_of(8);
        if is_trimmed {
            regions.add("trimmed", position..end, Some(Why::Trimmed));
            continue;
        }
        regions.add("envelope", at(0, 40), None);
        regions.add("envelope-crc", at(40, 44), None);
        regions.add("envelope-zeros", at(44, 48), None);
        regions.add("header", at(48, 108), None);
        regions.add("payload-crc", at(108, 112), None);
        regions.add("chain", at(112, 120), None);
        regions.add("payload", at(120, 120 + payload), None);
        regions.add("padding", position + 120 + payload..end, Some(Why::Unused));
    }
    regions.add("room", end..regions.len, Some(Why::Unused));
}

fn meta(regions: &mut Regions<'_>) {
    let second = Some(Why::SecondCopy);
    for (slot, [fields, zeros, crc]) in [
        (0, ["slot-0", "slot-0-zeros", "slot-0-crc"]),
        (4096, ["slot-1", "slot-1-zeros", "slot-1-crc"]),
    ] {
        regions.add(fields, slot..slot + 80, second);
        regions.add(zeros, slot + 80..slot + 4092, second);
        regions.add(crc, slot + 4092..slot + 4096, second);
    }
}

fn log_start(regions: &mut Regions<'_>) {
    regions.add("fields", 0..84, None);
    regions.add("crc", 84..88, None);
    regions.add("state", 88..regions.len, None);
}

fn votes(regions: &mut Regions<'_>, bytes: &[u8]) {
    let second = Some(Why::SecondCopy);
    for (slot, [fields, zeros, crc]) in [
        (0, ["slot-0", "slot-0-zeros", "slot-0-crc"]),
        (512, ["slot-1", "slot-1-zeros", "slot-1-crc"]),
    ] {
        regions.add(fields, slot..slot + 24, second);
        regions.add(zeros, slot + 24..slot + 508, second);
        regions.add(crc, slot + 508..slot + 512, second);
    }
    // The head counts the records that were synced.
    let count =
        |slot: usize| bytes.get(slot + 32..)?.first_chunk().copied().map(u64::from_le_bytes);
    let synced = count(0).max(count(512)).unwrap_or(0);
    let records = bytes.get(1024..).unwrap_or_default().chunks(64);
    let written = records.take_while(|record| record.iter().any(|byte| *byte != 0)).count() as u64;
    for record in 0..written {
        let position = 1024 + record * 64;
        let harmless = (record >= synced).then_some(Why::Unsynced);
        let is_beside_unsynced = position / 512 == (1024 + synced * 64) / 512;
        let [fields, crc] =
            if is_beside_unsynced { ["last-record", "last-crc"] } else { ["record", "record-crc"] };
        regions.add(fields, position..position + 60, harmless);
        regions.add(crc, position + 60..position + 64, harmless);
    }
    regions.add("room", 1024 + written * 64..regions.len, Some(Why::Unused));
}

fn index(regions: &mut Regions<'_>, bytes: &[u8]) {
    let derived = Some(Why::Derived);
    let count = bytes.get(144..148).and_then(|count| count.first_chunk().copied());
    let terms = count.map_or(0, u32::from_le_bytes);
    let entries = 160 + u64::from(terms) * 16;
    regions.add("head", 0..152, derived);
    regions.add("crcs", 152..160, derived);
    regions.add("terms", 160..entries, derived);
    regions.add("entries", entries..regions.len, derived);
}
