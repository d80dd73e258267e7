//! The log's story: everything that a replica's log can be asked to do, at random, with a model of
//! what it must hold.

mod model;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::{CrashMode, Disk, Random, SeededRandom, SimDisk};
use duramen_log::{
    Frame, FrameKind, Log, LogError, LogIdentity, LogOptions, LogStart, NewFrame, OpenError,
    Recovery, verify_dir,
};
use duramen_types::{ClusterId, LogIndex, NodeId, Offset, ReplicaId, Term, Timestamp};

use super::subject::{Step, Story, Wrong, chain};
use model::{History, Model};

const DIR: &str = "/logs/p0";
const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId::from_bytes([9; 16]), replica: ReplicaId::new(7) };

/// A log, its model, and what the story draws from.
struct LogStory {
    sim: SimDisk,
    place: Place,
    random: SeededRandom,
    log: Option<Arc<Log>>,
    model: Model,
    term: u64,
    /// Frames that a truncate took and that still continue the log: as another replica sends them.
    cut: Vec<Frame>,
}

/// Where the log is and how it behaves.
#[derive(Clone, Debug)]
struct Place {
    options: LogOptions,
}

impl Place {
    fn open(&self, sim: &SimDisk) -> Result<(Arc<Log>, Recovery), OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(sim.mutations()));
        Log::open(&disk, &random, Path::new(DIR), IDENTITY, self.options)
    }

    /// Adds what a verification finds.
    fn explain(&self, sim: &SimDisk, wrong: Wrong) -> Wrong {
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let found = match verify_dir(&disk, Path::new(DIR), &mut |_| {}) {
            Ok(report) => {
                let (start, end) = (report.start_index, report.end_index);
                let (durable_end, problems) = (report.durable_end, report.problems);
                format!("log {start} to {end}, durable to {durable_end}: {problems:?}")
            }
            Err(error) => chain(&error),
        };
        let fault = self.open(sim).ok().and_then(|(log, _)| first_fault(&log));
        let fault = fault.as_ref().map_or_else(String::new, |fault| chain(fault));
        Wrong { what: format!("{}; {found} {fault}", wrong.what), ..wrong }
    }
}

/// The first frame that cannot be read.
fn first_fault(log: &Log) -> Option<LogError> {
    let first = log.start().first_index.get();
    (first..log.end_index().get())
        .map(LogIndex::new)
        .find_map(|index| log.read(index, index.next(), 1).err())
}

/// A new log under these options; the seed decides the story.
pub(super) fn begin(seed: u64, options: LogOptions) -> Box<dyn Story> {
    let sim = SimDisk::new(seed);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(!seed));
    disk.create_dir_all(Path::new("/logs")).expect("nothing was injected yet");
    disk.sync_dir(Path::new("/")).expect("nothing was injected yet");
    let created = Log::create(&disk, &random, Path::new(DIR), IDENTITY, options);
    let place = Place { options };
    let log = Some(created.expect("an empty directory takes a log"));
    let model = Model::new(place.clone());
    let random = SeededRandom::new(seed);
    Box::new(LogStory { sim, place, random, log, model, term: 1, cut: Vec::new() })
}

/// What an operation came to.
type Done = Result<(), Failed>;

/// Why an operation did not do what it was to do.
enum Failed {
    /// The log refused or failed.
    Log(LogError),
    /// The log could not be opened again.
    Open(OpenError),
    /// A promise was broken.
    Wrong(Wrong),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl Story for LogStory {
    fn disk(&self) -> &SimDisk {
        &self.sim
    }

    fn step(&mut self) -> Step {
        let before = self.model.clone();
        let mut during = None;
        let (operation, done) = self.operate(&mut during);
        let (is_over, wrong) = match done {
            Ok(()) => (false, None),
            Err(Failed::Log(LogError::Full)) => {
                self.model = before.clone();
                (false, None)
            }
            Err(Failed::Wrong(wrong)) => (true, Some(wrong)),
            // The process would stop.
            Err(_) if self.sim.faults_hit() > 0 => (true, None),
            Err(Failed::Log(error)) => (true, Some(Wrong::refused(chain(&error)))),
            Err(Failed::Open(error)) => (true, Some(Wrong::refused(chain(&error)))),
        };
        let during = during.unwrap_or(before);
        Step {
            operation,
            during: Box::new(during),
            after: Box::new(self.model.clone()),
            is_over,
            wrong,
        }
    }
}

impl LogStory {
    fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().expect("open between operations"))
    }

    /// Draws an operation and does it. `during` becomes what holds while it runs, if that is not
    /// what held before.
    fn operate(&mut self, during: &mut Option<Model>) -> (&'static str, Done) {
        match self.random.below(100) {
            0..38 => ("append", self.append(during)),
            38..44 => ("append-canonical", self.append_canonical(during)),
            44..66 => ("sync", self.sync()),
            66..76 => ("commit", self.commit()),
            76..83 => ("truncate", self.truncate(during)),
            83..88 => ("trim", self.trim(during)),
            88..91 => ("roll", self.log().roll().map_err(Failed::from)),
            91 => ("reset", self.reset(during)),
            92 => ("shed", self.shed()),
            93..95 => ("close", self.close()),
            95..97 => ("kill", self.kill()),
            _ => ("power-cut", self.power_cut()),
        }
    }

    fn end(&self) -> u64 {
        self.model.now.end()
    }

    fn payload(&self, index: u64) -> Bytes {
        let options = &self.place.options;
        let most = options.inflight_bytes_max.min(options.segment_bytes) / 8;
        let len = match self.random.below(24) {
            0 => 0,
            1 if most > 8000 => 33_000,
            2..5 => self.random.below(most.min(2500)),
            _ => 10 + self.random.below(150),
        };
        let fill = u8::try_from(self.random.below(255)).unwrap_or(0) + 1;
        let mut bytes = vec![fill; usize::try_from(len).unwrap_or(0)];
        // Zeros at the end of a payload must not look like room that was never written.
        if index.is_multiple_of(5) {
            let half = bytes.len() / 2;
            bytes[half..].fill(0);
        }
        bytes.into()
    }

    fn append(&mut self, during: &mut Option<Model>) -> Done {
        self.term += u64::from(self.random.below(12) == 0);
        let count = 1 + self.random.below(5);
        let frames: Vec<NewFrame> = (self.end()..self.end() + count)
            .map(|index| {
                let is_data = self.random.below(6) > 0;
                let time = Timestamp::from_millis(1000 + i64::try_from(index).unwrap_or(0) * 10);
                NewFrame {
                    kind: if is_data { FrameKind::Data } else { FrameKind::Internal(4) },
                    term: Term::new(self.term),
                    leader: NodeId::new(3),
                    index: LogIndex::new(index),
                    records: if is_data { 2 } else { 0 },
                    append_time: time,
                    max_timestamp: if is_data { time } else { Timestamp::MIN },
                    payload: self.payload(index),
                }
            })
            .collect();
        let ghosts = frames.iter().map(|new| (new.index, new.term, new.payload.clone()));
        self.model.ghosts.push(ghosts.collect());
        *during = Some(self.model.clone());
        let log = self.log();
        log.append(&frames)?;
        self.cut.clear();
        self.take_appended(&log)
    }

    fn append_canonical(&mut self, during: &mut Option<Model>) -> Done {
        let next = LogIndex::new(self.end());
        if self.cut.first().is_none_or(|frame| frame.header.index != next) {
            return self.append(during);
        }
        self.refuse_foreign()?;
        let count = 1 + usize::try_from(self.random.below(self.cut.len() as u64)).unwrap_or(0);
        // No more than an append takes at once.
        let mut room = self.place.options.inflight_bytes_max;
        let fits = |frame: &&Frame| {
            let left = room.checked_sub(frame.header.frame_bytes());
            left.inspect(|left| room = *left).is_some()
        };
        let count = self.cut[..count].iter().take_while(fits).count().max(1);
        let frames: Vec<Frame> = self.cut.drain(..count).collect();
        let ghost = |frame: &Frame| (frame.header.index, frame.header.term, frame.payload.clone());
        self.model.ghosts.push(frames.iter().map(ghost).collect());
        *during = Some(self.model.clone());
        let log = self.log();
        log.append_canonical(&frames)?;
        self.take_appended(&log)
    }

    /// A frame at the right place of another history is not taken, and writes nothing.
    fn refuse_foreign(&self) -> Done {
        let Some(mut foreign) = self.cut.first().cloned() else { return Ok(()) };
        foreign.header.chain ^= 1;
        match self.log().append_canonical(&[foreign]) {
            Err(LogError::Diverged { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Failed::Wrong(Wrong::changed("a frame of another history was appended"))),
        }
    }

    /// What the log says that it appended is what it must hold from now on.
    fn take_appended(&mut self, log: &Log) -> Done {
        let end = LogIndex::new(self.end());
        let mut next = end;
        while next < log.end_index() {
            let read = log.read(next, log.end_index(), u64::MAX)?;
            next = read.last().map_or(next, |frame| frame.header.index.next());
            self.model.now.frames.extend(read);
        }
        // They are promised as frames now; what an earlier append left stays possible.
        self.model.ghosts.pop();
        Ok(())
    }

    fn sync(&mut self) -> Done {
        let durable = self.log().sync()?;
        let end = self.end();
        if durable.map_or(0, |last| last.get() + 1) < end {
            return Err(Failed::Wrong(Wrong::lost("a sync answered less than was appended")));
        }
        self.model.now.durable_end = end;
        self.model.ghosts.clear();
        Ok(())
    }

    fn commit(&mut self) -> Done {
        let model = &mut self.model;
        let (from, end) =
            (model.committed_end.max(model.start().first_index.get()), model.now.end());
        if end > from {
            let end = from + 1 + self.random.below(end - from);
            self.log.iter().for_each(|log| log.set_committed(LogIndex::new(end - 1)));
            model.committed_end = end;
        }
        Ok(())
    }

    fn truncate(&mut self, during: &mut Option<Model>) -> Done {
        let model = &mut self.model;
        let least = model.committed_end.max(model.start().first_index.get());
        let end = least + self.random.below(model.now.end() - least + 1);
        let before = model.now.clone();
        let cut = model.now.truncate(end);
        if !cut.is_empty() {
            let mut both = model.clone();
            both.before = Some(before);
            both.now_or_cut = true;
            *during = Some(both);
        }
        self.log().truncate_after(end.checked_sub(1).map(LogIndex::new))?;
        if !cut.is_empty() {
            self.cut = cut;
            // A truncate is durable, and it cuts what failed appends left behind the end.
            self.model.ghosts.clear();
        }
        Ok(())
    }

    fn trim(&mut self, during: &mut Option<Model>) -> Done {
        let first = self.model.start().first_index.get();
        let most = self.model.committed_end.max(first);
        let index = first + self.random.below(most - first + 1);
        let log = self.log();
        let state = Bytes::from(format!("state at {index}, {}", self.random.next_u64()));
        let start = LogStart { state, ..log.log_start_at(LogIndex::new(index))? };
        self.model.starts.push(start.clone());
        *during = Some(self.model.clone());
        log.trim_to(start.clone())?;
        self.model.starts = vec![start];
        self.model.now.durable_end = self.model.now.durable_end.max(index);
        log.remove_garbage()?;
        Ok(())
    }

    fn reset(&mut self, during: &mut Option<Model>) -> Done {
        let end = self.end();
        let ahead = 1 + self.random.below(40);
        self.term += 1;
        let start = LogStart {
            first_index: LogIndex::new(end + ahead),
            base_offset: Offset::new((end + ahead) * 3),
            prev_term: Some(Term::new(self.term)),
            prev_chain: self.random.next_u64(),
            prev_append_time: Timestamp::from_millis(0),
            state: Bytes::from(format!("reset {}", self.random.next_u64())),
        };
        self.model.starts.push(start.clone());
        self.model.resetting = Some(start.clone());
        *during = Some(self.model.clone());
        self.log().reset_to(start.clone())?;
        self.cut.clear();
        self.model = Model::at(self.place.clone(), start);
        Ok(())
    }

    fn shed(&mut self) -> Done {
        self.log().shed();
        Ok(())
    }

    fn close(&mut self) -> Done {
        self.log().close()?;
        self.log = None;
        self.model.now.durable_end = self.end();
        self.model.ghosts.clear();
        let recovery = self.reopen()?;
        if !recovery.clean && self.sim.faults_hit() == 0 {
            return Err(Failed::Wrong(Wrong::refused("a closed log was not clean at open")));
        }
        Ok(())
    }

    fn kill(&mut self) -> Done {
        // What no sync has written yet was in its memory alone.
        self.log = None;
        self.sim.kill();
        self.reopen().map(drop)
    }

    fn power_cut(&mut self) -> Done {
        let modes = CrashMode::ALL;
        let mode = modes[usize::try_from(self.random.below(4)).unwrap_or(0)];
        self.log = None;
        self.sim.crash(mode);
        self.sim.reopen();
        self.reopen().map(drop)
    }

    /// Opens the log again; what it holds is checked and becomes the model.
    fn reopen(&mut self) -> Result<Recovery, Failed> {
        let (log, recovery) = self.place.open(&self.sim)?;
        model::sound(&recovery).map_err(Failed::Wrong)?;
        let found = History::read(&log).map_err(Failed::Log)?;
        self.model.check(&log, &found).map_err(Failed::Wrong)?;
        let committed = log.committed_index().map_or(0, |last| last.get() + 1);
        self.model.settle(found, committed);
        self.cut.clear();
        self.log = Some(log);
        Ok(recovery)
    }
}
