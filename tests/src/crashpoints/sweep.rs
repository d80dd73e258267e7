//! One trace of one subject: every crash point in every mode, and calls that fail.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;

use duramen_env::{CrashMode, DiskCall, DiskImage, Fault, SimDisk};

use super::call_name;
use super::subject::{Expected, Found, Step, Subject, Wrong, WrongKind};
use crate::campaign::{Figures, Finding, progress};
use crate::guard;

/// How often the modes that draw are tried at each point.
const DRAWS: [(CrashMode, u64); 4] = [
    (CrashMode::KeepNone, 1),
    (CrashMode::KeepAll, 1),
    (CrashMode::KeepPrefix, 2),
    (CrashMode::KeepRandom, 3),
];

/// Of so many crashes one is followed by crashes at every point of its recovery.
const NESTED_EVERY: u64 = 64;
/// Of so many crashes one is followed by a life of its own.
const CARRY_ON_EVERY: u64 = 16;
/// Operations after a call that failed without ending the story.
const STEPS_AFTER_FAULT: u64 = 12;

/// The one point or fault of a trace that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// The crash point of this number.
    Point(u64),
    /// The failing call: its kind and its number.
    Fault(&'static FaultKind, u64),
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(point) => write!(f, "point:{point}"),
            Self::Fault(kind, number) => write!(f, "{}:{number}", kind.name),
        }
    }
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither point:NUMBER nor KIND-OF-FAULT:NUMBER");
        let (name, number) = text.split_once(':').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        if name == "point" {
            return Ok(Self::Point(number));
        }
        let kind = FaultKind::ALL.iter().find(|kind| kind.name == name).ok_or_else(wrong)?;
        Ok(Self::Fault(kind, number))
    }
}

/// A way in which a call fails.
#[derive(Debug)]
pub struct FaultKind {
    name: &'static str,
    call: DiskCall,
    shape: fn(Fault) -> Fault,
}

impl PartialEq for FaultKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FaultKind {}

const fn fault(name: &'static str, call: DiskCall, shape: fn(Fault) -> Fault) -> FaultKind {
    FaultKind { name, call, shape }
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        fault("sync-eio", DiskCall::Sync, |fault| fault),
        fault("sync-lies", DiskCall::Sync, Fault::lying),
        fault("sync-dir-eio", DiskCall::SyncDir, |fault| fault),
        fault("write-eio", DiskCall::Write, |fault| fault),
        fault("write-torn", DiskCall::Write, Fault::partial),
        fault("write-full", DiskCall::Write, |fault| fault.error(ErrorKind::StorageFull)),
        fault("write-torn-full", DiskCall::Write, |fault| {
            fault.error(ErrorKind::StorageFull).partial()
        }),
        fault("allocate-eio", DiskCall::Allocate, |fault| fault),
        fault("allocate-full", DiskCall::Allocate, |fault| fault.error(ErrorKind::StorageFull)),
        fault("set-len-eio", DiskCall::SetLen, |fault| fault),
        fault("rename-eio", DiskCall::Rename, |fault| fault),
        fault("remove-eio", DiskCall::Remove, |fault| fault),
        fault("open-eio", DiskCall::Open, |fault| fault),
        fault("open-full", DiskCall::Open, |fault| fault.error(ErrorKind::StorageFull)),
    ];
}

/// What was tried and what was found.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Crash points: moments after a mutating call.
    pub points: u64,
    /// Crashes recovered from: points times modes and draws, faults and nested ones included.
    pub tried: u64,
    /// Of these, crashes in the middle of a recovery.
    pub nested: u64,
    /// Calls that were made to fail.
    pub faults: u64,
    /// Crashes after which acknowledged data was gone.
    pub lost: u64,
    /// Crashes after which something was there that never was.
    pub changed: u64,
    /// Crashes that ended in damage or a refusal.
    pub refused: u64,
    /// Recoveries that came to something else the second time.
    pub unstable: u64,
    /// Panics.
    pub panics: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.tried += other.tried;
        self.nested += other.nested;
        self.faults += other.faults;
        self.lost += other.lost;
        self.changed += other.changed;
        self.refused += other.refused;
        self.unstable += other.unstable;
        self.panics += other.panics;
    }

    /// Sets the figures.
    pub fn report(&self, traces: u64, figures: &mut Figures) {
        figures
            .set("traces", traces)
            .set("points", self.points)
            .set("crashes", self.tried)
            .set("in_recovery", self.nested)
            .set("faults", self.faults)
            .set("lost", self.lost)
            .set("changed", self.changed)
            .set("refused", self.refused)
            .set("unstable", self.unstable)
            .set("panics", self.panics);
    }
}

/// The sweep of one trace.
#[derive(Debug)]
pub struct Sweep {
    subject: Subject,
    seed: u64,
    only: Option<Only>,
    faults_max: u64,
    tally: Tally,
    findings: Vec<Finding>,
    /// Mutating calls of the story, by kind, for the faults.
    calls: BTreeMap<DiskCall, u64>,
}

/// Where in a sweep something was found.
#[derive(Clone, Copy)]
struct Spot {
    only: Only,
    operation: &'static str,
    mode: &'static str,
}

impl Sweep {
    /// A sweep of a subject's trace under a seed.
    #[must_use]
    pub fn new(subject: Subject, seed: u64, only: Option<Only>, faults_max: u64) -> Self {
        let (tally, findings, calls) = (Tally::default(), Vec::new(), BTreeMap::new());
        Self { subject, seed, only, faults_max, tally, findings, calls }
    }

    /// Tries everything.
    pub fn run(&mut self) {
        match self.only {
            Some(Only::Fault(kind, number)) => {
                self.fault(kind, number);
            }
            Some(Only::Point(_)) => self.points(),
            None => {
                self.points();
                self.faults();
            }
        }
    }

    /// What was counted and found.
    #[must_use]
    pub fn finish(self) -> (Tally, Vec<Finding>) {
        (self.tally, self.findings)
    }

    /// Tells the story once, and crashes every image of the disk that it leaves.
    fn points(&mut self) {
        let mut story = (self.subject.begin)(self.seed);
        story.disk().set_images(true);
        story.disk().set_trace(matches!(self.only, Some(Only::Point(_))));
        let mut point = 0;
        for _ in 0..self.subject.operations {
            let Step { operation, during, after, is_over, wrong } = story.step();
            let spot = Spot { only: Only::Point(point), operation, mode: "none" };
            if let Some(wrong) = wrong.or_else(|| unexpected_end(is_over)) {
                self.note(spot, &wrong);
                return;
            }
            let images = story.disk().take_images();
            self.show(point, operation, &images, &story.disk().take_trace());
            let last = images.len().saturating_sub(1);
            for (at, image) in images.iter().enumerate() {
                *self.calls.entry(image.call()).or_default() += 1;
                let expected = if at == last { &*after } else { &*during };
                self.point(point, operation, image, expected);
                point += 1;
            }
        }
    }

    /// For a single point: what the operation asked of the disk.
    fn show(&self, point: u64, operation: &str, images: &[DiskImage], trace: &[String]) {
        let points = point..point + images.len() as u64;
        if matches!(self.only, Some(Only::Point(only)) if points.contains(&only)) {
            progress(format_args!("points {points:?}, {operation}:"));
            trace.iter().for_each(progress);
        }
    }

    fn point(
        &mut self,
        point: u64,
        operation: &'static str,
        image: &DiskImage,
        expected: &dyn Expected,
    ) {
        let is_due = point % self.subject.stride == self.seed % self.subject.stride;
        if self.only.map_or(!is_due, |only| only != Only::Point(point)) {
            return;
        }
        self.tally.points += 1;
        for (mode, draws) in DRAWS {
            for draw in 0..draws {
                let seed = self.seed ^ point << 20 ^ draw << 60;
                let spot = Spot { only: Only::Point(point), operation, mode: mode_name(mode) };
                let disk = image.crashed(mode, seed);
                // A single point is looked at from all sides.
                let all = self.only.is_some();
                let number = self.tally.tried + self.seed;
                let nested = all || number.is_multiple_of(NESTED_EVERY);
                let carry_on = all || number % CARRY_ON_EVERY == 1;
                self.check(spot, &disk, expected, (nested, carry_on));
            }
        }
    }

    /// Recovers twice, and more often where it is asked for.
    fn check(
        &mut self,
        spot: Spot,
        disk: &SimDisk,
        expected: &dyn Expected,
        (nested, carry_on): (bool, bool),
    ) {
        self.tally.tried += 1;
        disk.set_images(nested);
        let Some(found) = self.recover(spot, disk, expected) else { return };
        let images = disk.take_images();
        disk.set_images(false);
        cut(disk);
        let files = self.subject.quiet.then(|| disk.durable_files());
        let Some(again) = self.recover(spot, disk, expected) else { return };
        cut(disk);
        self.compare(spot, "recovering twice", &found, &again);
        if files.is_some_and(|files| files != disk.durable_files()) {
            let what = "recovering twice left other bytes than once".to_owned();
            self.note(spot, &Wrong { kind: WrongKind::Unstable, what });
        }
        if carry_on && let Err(wrong) = self.guarded(spot, || expected.carry_on(disk)) {
            self.note(spot, &wrong);
        }
        for (at, image) in (0..).zip(&images) {
            let mode = CrashMode::ALL[at % CrashMode::ALL.len()];
            let disk = image.crashed(mode, self.seed ^ at as u64);
            self.tally.tried += 1;
            self.tally.nested += 1;
            let Some(again) = self.recover(spot, &disk, expected) else { return };
            self.compare(spot, "a crash in the middle of recovery", &found, &again);
        }
    }

    fn recover(&mut self, spot: Spot, disk: &SimDisk, expected: &dyn Expected) -> Option<Found> {
        match self.guarded(spot, || expected.recover(disk)) {
            Ok(found) => Some(found),
            Err(wrong) => {
                self.note(spot, &wrong);
                None
            }
        }
    }

    fn compare(&mut self, spot: Spot, how: &str, found: &Found, again: &Found) {
        if found != again {
            let what = format!("{how}: {again} and not {found}");
            self.note(spot, &Wrong { kind: WrongKind::Unstable, what });
        }
    }

    /// A panic counts, and where it ends the process the command that repeats it is told first.
    fn guarded<T>(
        &mut self,
        spot: Spot,
        work: impl FnOnce() -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        match guard::run(&self.repeat(spot.only), work) {
            Ok(outcome) => outcome,
            Err(panic) => {
                self.tally.panics += 1;
                Err(Wrong::refused(format!("a panic: {panic}")))
            }
        }
    }

    /// Tells the story again and again, each time with another call that fails.
    fn faults(&mut self) {
        for kind in &FaultKind::ALL {
            let count = self.calls.get(&kind.call).copied().unwrap_or(0);
            let stride = if self.faults_max == 0 { 1 } else { count.div_ceil(self.faults_max) };
            let stride = stride.max(1);
            let mut number = self.seed % stride;
            while number < count && self.fault(kind, number) {
                number += stride;
            }
        }
    }

    /// One telling; answers whether the call came that was to fail.
    fn fault(&mut self, kind: &'static FaultKind, number: u64) -> bool {
        let only = Only::Fault(kind, number);
        let mut story = (self.subject.begin)(self.seed);
        let disk = story.disk().clone();
        let before = disk.faults_hit();
        disk.inject((kind.shape)(Fault::new(kind.call).after(number)));
        let mut left = self.subject.operations;
        let mut last = None;
        while left > 0 {
            let repeat = self.repeat(only);
            let Ok(step) = guard::run(&repeat, || story.step()) else {
                self.tally.panics += 1;
                let wrong = Wrong::refused("a panic after a call that failed");
                self.note(Spot { only, operation: "none", mode: "none" }, &wrong);
                return true;
            };
            let hit = disk.faults_hit() > before;
            left = if hit { (left - 1).min(STEPS_AFTER_FAULT) } else { left - 1 };
            let is_over = step.is_over || step.wrong.is_some();
            let step = last.insert(step);
            if let Some(wrong) = step.wrong.take() {
                self.note(Spot { only, operation: step.operation, mode: "none" }, &wrong);
                return true;
            }
            if is_over {
                break;
            }
        }
        if disk.faults_hit() == before {
            return false;
        }
        disk.clear_faults();
        self.tally.faults += 1;
        let Some(Step { operation, during, after, is_over, .. }) = last else { return true };
        let expected = if is_over { during } else { after };
        let number = self.tally.tried;
        for (at, mode) in (0..).zip([None, Some(CrashMode::KeepNone), Some(CrashMode::KeepRandom)])
        {
            let fork = disk.fork(self.seed ^ number);
            if let Some(mode) = mode {
                fork.crash(mode);
                fork.reopen();
            }
            let spot = Spot { only, operation, mode: mode.map_or("kill", mode_name) };
            self.check(spot, &fork, &*expected, (false, (number + at).is_multiple_of(4)));
        }
        true
    }

    fn note(&mut self, spot: Spot, wrong: &Wrong) {
        match wrong.kind {
            WrongKind::Lost => self.tally.lost += 1,
            WrongKind::Changed => self.tally.changed += 1,
            WrongKind::Refused => self.tally.refused += 1,
            WrongKind::Unstable => self.tally.unstable += 1,
        }
        let (subject, seed, kind) = (self.subject.name, self.seed, wrong.kind);
        let Spot { only, operation, mode } = spot;
        let what = &wrong.what;
        self.findings.push(Finding {
            what: format!(
                "{subject} seed {seed}, {only}, in {operation}, {mode}: {kind:?}: {what}"
            ),
            repeat: self.repeat(only),
        });
    }

    fn repeat(&self, only: Only) -> String {
        let (subject, seed) = (self.subject.name, self.seed);
        format!(
            "cargo xtask crashpoints --traces 1 --from {seed} --subject {subject} --only {only}"
        )
    }
}

/// Without a fault no story ends before its time.
fn unexpected_end(is_over: bool) -> Option<Wrong> {
    is_over.then(|| Wrong::refused("the story ended without a fault"))
}

/// Cuts the power and switches it on again.
fn cut(disk: &SimDisk) {
    disk.crash(CrashMode::KeepNone);
    disk.reopen();
}

fn mode_name(mode: CrashMode) -> &'static str {
    match mode {
        CrashMode::KeepNone => "keep-none",
        CrashMode::KeepAll => "keep-all",
        CrashMode::KeepPrefix => "keep-prefix",
        CrashMode::KeepRandom => "keep-random",
    }
}

/// For the list of what can fail, in help texts.
impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, call_name(self.call))
    }
}
