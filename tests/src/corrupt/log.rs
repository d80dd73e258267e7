//! Specimens of bare logs: closed, running, and recovered after a power cut; and the judge of what
//! a damaged log serves.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::{CrashMode, Disk, Random, SeededRandom, SimDisk};
use duramen_log::{
    Frame, FrameKind, Log, LogError, LogIdentity, LogStart, NewFrame, OpenError, Recovery,
    dump_file, verify_dir,
};
use duramen_types::{ClusterId, LogIndex, NodeId, ReplicaId, Term, Timestamp};

use super::region::{self, Place};
use super::{Damage, Region, Specimen, Verdict};
use crate::crashpoints::small_segments;

const DIR: &str = "/logs/p0";

/// How a specimen came to be as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Its process was killed; the last frames were not synced.
    Running,
    /// Its power was cut, it was opened again, and killed.
    Recovered,
}

struct LogSpecimen {
    state: State,
    disk: SimDisk,
    frames: Vec<Frame>,
    start: LogStart,
    /// One past the last index that was synced.
    synced_end: LogIndex,
    regions: Vec<Region>,
    others: Vec<(Damage, SimDisk)>,
}

/// One of each state.
pub(super) fn specimens(seed: u64) -> Vec<Box<dyn Specimen>> {
    let states = [State::Closed, State::Running, State::Recovered];
    let made = states.map(|state| make(seed, state).expect("nothing is damaged yet"));
    made.into_iter().map(|specimen| Box::new(specimen) as Box<dyn Specimen>).collect()
}

fn identity(replica: u64) -> LogIdentity {
    LogIdentity { cluster: ClusterId::from_bytes([9; 16]), replica: ReplicaId::new(replica) }
}

fn open(sim: &SimDisk, replica: u64) -> Result<(Arc<Log>, Recovery), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(replica ^ sim.mutations()));
    Log::open(&disk, &random, Path::new(DIR), identity(replica), small_segments())
}

/// Why a specimen could not be made: never without a fault.
type Made<T> = Result<T, Box<dyn std::error::Error>>;

fn make(seed: u64, state: State) -> Made<LogSpecimen> {
    let (disk, synced_end) = tell(seed, state, 7, 1)?;
    let (replica, _) = tell(seed, state, 8, 1)?;
    let (foreign, _) = tell(seed, state, 7, 2)?;
    let (log, _) = open(&disk.fork(0), 7)?;
    let (start, end) = (log.start(), log.end_index());
    let frames = log.read(start.first_index, end, u64::MAX)?;
    drop(log);
    let mut regions = Vec::new();
    let files = disk.durable_files();
    let last = files.keys().rfind(|path| is_segment(path)).cloned();
    for (path, bytes) in &files {
        let places = if is_segment(path) { self::frames(&disk, path) } else { Vec::new() };
        regions.extend(region::of_file(path, bytes, &places, Some(path) == last.as_ref()));
    }
    let others = vec![(Damage::SwapReplica, replica), (Damage::SwapForeign, foreign)];
    Ok(LogSpecimen { state, disk, frames, start, synced_end, regions, others })
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// The frames of a segment file.
pub(super) fn frames(sim: &SimDisk, path: &Path) -> Vec<Place> {
    let disk: Arc<dyn Disk> = Arc::new(sim.fork(0));
    let dir = path.parent().unwrap_or(path);
    let start = verify_dir(&disk, dir, &mut |_| {}).map(|report| report.start_index);
    let mut places = Vec::new();
    let dumped = dump_file(&disk, path, &mut |sight| {
        places.push(Place {
            position: sight.position,
            payload_bytes: sight.payload.len() as u64,
            is_trimmed: start.as_ref().is_ok_and(|start| sight.header.index < *start),
        });
    });
    dumped.expect("nothing is damaged yet");
    places
}

/// A log with truncates, a trim, several terms and segments. Replicas of one history differ in
/// nothing but their local envelopes.
fn tell(seed: u64, state: State, replica: u64, history: u64) -> Made<(SimDisk, LogIndex)> {
    let sim = SimDisk::new(seed);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed ^ replica << 32 ^ history << 48));
    disk.create_dir_all(Path::new("/logs"))?;
    disk.sync_dir(Path::new("/"))?;
    let id = identity(replica);
    let log = Log::create(&disk, &random, Path::new(DIR), id, small_segments())?;
    let draw = SeededRandom::new(seed ^ history << 16);
    let append = |log: &Log, count: u64, term: u64| -> Made<()> {
        for _ in 0..count {
            log.append(&[frame(log.end_index(), term, history, &draw)])?;
            if draw.below(4) == 0 {
                log.sync()?;
            }
        }
        Ok(())
    };
    append(&log, 25, 1)?;
    log.truncate_after(Some(LogIndex::new(19)))?;
    append(&log, 14, 2)?;
    log.set_committed(LogIndex::new(18));
    let start = log.log_start_at(LogIndex::new(9))?;
    log.trim_to(LogStart { state: Bytes::from_static(b"the state at nine"), ..start })?;
    log.remove_garbage()?;
    append(&log, 8, 3)?;
    log.sync()?;
    let mut synced_end = log.end_index();
    match state {
        State::Closed => log.close()?,
        State::Running => {
            log.append(&[
                frame(log.end_index(), 3, history, &draw),
                frame(log.end_index().next(), 3, history, &draw),
            ])?;
        }
        State::Recovered => {
            sim.crash(CrashMode::KeepNone);
            sim.reopen();
            let (log, _) = open(&sim, replica)?;
            synced_end = log.end_index();
        }
    }
    let left = sim.fork(seed);
    left.crash(CrashMode::KeepAll);
    left.reopen();
    Ok((left, synced_end))
}

fn frame(index: LogIndex, term: u64, history: u64, draw: &dyn Random) -> NewFrame {
    let is_data = index.get() % 6 != 5;
    let time = Timestamp::from_millis(1000 + i64::try_from(index.get()).unwrap_or(0) * 10);
    let len = usize::try_from(20 + draw.below(400)).unwrap_or(0);
    let fill = u8::try_from(1 + draw.below(200)).unwrap_or(0);
    let mut payload = vec![fill; len];
    payload[0] = u8::try_from(history).unwrap_or(0);
    NewFrame {
        kind: if is_data { FrameKind::Data } else { FrameKind::Internal(4) },
        term: Term::new(term),
        leader: NodeId::new(3),
        index,
        records: if is_data { 2 } else { 0 },
        append_time: time,
        max_timestamp: if is_data { time } else { Timestamp::MIN },
        payload: payload.into(),
    }
}

impl Specimen for LogSpecimen {
    fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "log-closed",
            State::Running => "log-running",
            State::Recovered => "log-recovered",
        }
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn judge(&self, disk: &SimDisk, _: &Region) -> Verdict {
        let as_disk: Arc<dyn Disk> = Arc::new(disk.fork(1));
        let verified = verify_dir(&as_disk, Path::new(DIR), &mut |_| {});
        let is_sound = verified.is_ok_and(|report| report.problems.is_empty());
        let damaged_files = disk.durable_files();
        let (log, recovery) = match open(disk, 7) {
            Ok(opened) => opened,
            Err(error) => return Verdict::Detected(refusal(&error)),
        };
        if log.start() != self.start {
            // Another log's start makes every frame of this one look damaged.
            return if log.is_damaged() {
                Verdict::Detected("damaged")
            } else {
                Verdict::ServedBad(format!("the log starts at {:?}", log.start()))
            };
        }
        // So that sealed segments are mapped.
        if let Some(last) = log.end_index().prev() {
            log.set_committed(last);
        }
        let is_cut = log.end_index() < self.synced_end && recovery.end_lost.is_none();
        if is_cut || self.is_shortened(disk, &damaged_files, &recovery) {
            let (end, torn) = (log.end_index(), recovery.torn);
            let what = format!("it ends at {end} and not {}: {torn:?}", self.synced_end);
            return Verdict::CutAcknowledged(what);
        }
        let (is_lost, is_damaged) = (recovery.end_lost.is_some(), !recovery.damaged.is_empty());
        let read = self.read(&log);
        if (is_lost || is_damaged) && !is_remembered(disk, &log) {
            return Verdict::ServedBad("damage was forgotten after a clean close".into());
        }
        match read {
            Err(what) => Verdict::ServedBad(what),
            Ok(_) if is_lost => Verdict::Detected("end lost"),
            Ok(_) if is_damaged => Verdict::Detected("damaged"),
            Ok(_) if recovery.torn.is_some() => Verdict::Detected("torn"),
            Ok(refused) if refused > 0 => Verdict::Detected("found by a reader"),
            Ok(_) if log.end_index() < self.end() => Verdict::Detected("torn"),
            Ok(_) if !is_sound => Verdict::Detected("found by verification"),
            Ok(_) => Verdict::Unnoticed,
        }
    }

    fn others(&self) -> &[(Damage, SimDisk)] {
        &self.others
    }
}

/// Whether a log that was found damaged is found so again after a sync and a close.
fn is_remembered(disk: &SimDisk, log: &Log) -> bool {
    // They may fail on a damaged log; it must not matter.
    drop(log.sync().and_then(|_| log.close()));
    match open(disk, 7) {
        Ok((log, recovery)) => {
            log.is_damaged() && (!recovery.damaged.is_empty() || recovery.end_lost.is_some())
        }
        Err(_) => true,
    }
}

fn refusal(error: &OpenError) -> &'static str {
    match error {
        OpenError::MetaLost => "metadata lost",
        OpenError::StartLost => "log start lost",
        OpenError::WrongReplica { .. } | OpenError::WrongCluster { .. } => "somebody else's",
        OpenError::Missing => "missing",
        _ => "refused",
    }
}

impl LogSpecimen {
    fn end(&self) -> LogIndex {
        self.frames.last().map_or(self.start.first_index, |frame| frame.header.index.next())
    }

    /// Whether opening took bytes away from a file although nothing was torn.
    fn is_shortened(
        &self,
        disk: &SimDisk,
        before: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>,
        recovery: &Recovery,
    ) -> bool {
        let after = disk.durable_files();
        recovery.torn.is_none()
            && before.iter().filter(|(path, _)| is_segment(path)).any(|(path, bytes)| {
                let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let left = after.get(path).map_or(0, Vec::len);
                written > 128 && left < written && self.state == State::Closed
            })
    }

    /// Reads everything in every way. Answers how many reads were refused; the error is something
    /// served that was not written.
    fn read(&self, log: &Log) -> Result<u64, String> {
        let mut refused = 0;
        for frame in &self.frames {
            let index = frame.header.index;
            match log.read(index, index.next(), 1) {
                Ok(read) if read.first() == Some(frame) => {}
                Ok(read) => return Err(format!("{index}: {:?}", read.first())),
                Err(LogError::Corrupt { .. }) => refused += 1,
                Err(LogError::OutOfRange { .. }) if index >= log.end_index() => {}
                Err(error) => return Err(format!("{index}: {error}")),
            }
            refused += self.look_up(log, frame)?;
        }
        // In long reads too, which begin anywhere.
        for (at, frame) in self.frames.iter().enumerate().step_by(5) {
            let Ok(read) = log.read(frame.header.index, log.end_index(), u64::MAX) else {
                continue;
            };
            if let Some((found, _)) = read.iter().zip(&self.frames[at..]).find(|(a, b)| a != b) {
                return Err(format!("{} in a long read", found.header.index));
            }
        }
        Ok(refused)
    }

    /// By offset and by time.
    fn look_up(&self, log: &Log, frame: &Frame) -> Result<u64, String> {
        let header = &frame.header;
        if !header.is_data() || header.index >= log.end_index() {
            return Ok(0);
        }
        let by_offset = log.frame_for_offset(header.base_offset);
        let by_time = log.find_timestamp(header.max_timestamp, log.end_index());
        let mut refused = 0;
        for (how, found) in [("offset", by_offset), ("time", by_time)] {
            match found {
                Ok(Some(found)) if found == *header => {}
                Ok(found) => return Err(format!("{} by {how}: {found:?}", header.index)),
                Err(LogError::Corrupt { .. }) => refused += 1,
                Err(error) => return Err(format!("{} by {how}: {error}", header.index)),
            }
        }
        Ok(refused)
    }
}
