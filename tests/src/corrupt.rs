//! The corruption table: every region of every kind of file that a node writes, damaged in every
//! way, and what opening and reading make of it.
//!
//! A *specimen* is a disk as a node left it, with what must be on it. A *cell* is a region of one
//! of its files and a damage. Each case damages a fork of a specimen at one place of a cell, opens
//! everything, reads everything and verifies. Damage may go unnoticed only where the bytes are not
//! used, are derived and made anew, or stand in a second copy: each such region says why.

mod damage;
mod log;
mod region;
mod things;

use std::collections::BTreeMap;

use duramen_env::{Random as _, SeededRandom, SimDisk};
use serde_json::{Map, Value};

use crate::campaign::{Figures, Finding};
use crate::guard;

pub use damage::Damage;
pub use region::{Region, Why};

/// What became of a damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Noticed, and classified so: `damaged`, `end-lost`, `torn`, `refused` …
    Detected(&'static str),
    /// Nothing was noticed, and everything was as it should be.
    Unnoticed,
    /// Something else was served than what was written.
    ServedBad(String),
    /// Something acknowledged was cut off as if it had been torn.
    CutAcknowledged(String),
}

/// A disk and what must be on it.
pub trait Specimen {
    /// Its name: `log-closed`, `votes`.
    fn name(&self) -> &'static str;

    /// The disk, to be forked.
    fn disk(&self) -> &SimDisk;

    /// All regions of all files.
    fn regions(&self) -> &[Region];

    /// Opens, reads and verifies everything on a damaged fork.
    fn judge(&self, disk: &SimDisk, region: &Region) -> Verdict;

    /// The files that a file can be mistaken for: its own name on the disks of others.
    fn others(&self) -> &[(Damage, SimDisk)];
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many files to damage.
    pub files: u64,
    /// The first case.
    pub from: u64,
    /// Stop at the first finding.
    pub stop_early: bool,
}

/// Cases of one set of specimens; then others are made.
const CASES_PER_SEED: u64 = 2_000;

/// A prime that no count of cells is a multiple of.
const CELL_STRIDE: u64 = 1_000_003;

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was counted.
    pub figures: Figures,
    /// What must not have happened.
    pub findings: Vec<Finding>,
    /// How often each damage of each region came to what.
    pub table: BTreeMap<(String, &'static str), BTreeMap<String, u64>>,
    /// Files damaged up to and with the first finding.
    pub files_to_first: Option<u64>,
}

#[derive(Default)]
struct Counts {
    corrupted: u64,
    detected: u64,
    harmless: BTreeMap<String, u64>,
    undetected: u64,
    served_bad: u64,
    cut_acknowledged: u64,
    panics: u64,
}

/// Damages files; `progress` hears of each set of specimens.
pub fn run(options: &Options, progress: &mut dyn FnMut(u64)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut counts = Counts::default();
    let mut specimens = Specimens::default();
    for case in options.from..options.from.saturating_add(options.files) {
        if case % CASES_PER_SEED == 0 {
            progress(case);
        }
        specimens.renew(case / CASES_PER_SEED);
        one(case, &specimens, &mut counts, &mut outcome);
        if !outcome.findings.is_empty() {
            outcome.files_to_first.get_or_insert(counts.corrupted);
            if options.stop_early {
                break;
            }
        }
    }
    counts.report(&mut outcome.figures);
    outcome
}

/// The specimens of one seed, and all their cells.
#[derive(Default)]
struct Specimens {
    seed: Option<u64>,
    all: Vec<Box<dyn Specimen>>,
    /// Specimen, regions of one class, damage.
    cells: Vec<(usize, Vec<usize>, Damage)>,
}

impl Specimens {
    fn renew(&mut self, seed: u64) {
        if self.seed == Some(seed) {
            return;
        }
        self.seed = Some(seed);
        self.all = log::specimens(seed);
        self.all.extend(things::specimens(seed));
        self.cells.clear();
        for (at, specimen) in self.all.iter().enumerate() {
            let mut classes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (number, region) in specimen.regions().iter().enumerate() {
                classes.entry(region.name()).or_default().push(number);
            }
            for regions in classes.into_values() {
                for damage in Damage::ALL {
                    self.cells.push((at, regions.clone(), damage));
                }
            }
        }
    }
}

/// One case. Where a damage does not apply or changes nothing, nothing is counted.
fn one(case: u64, specimens: &Specimens, counts: &mut Counts, outcome: &mut Outcome) {
    let draw = SeededRandom::new(case);
    // Cases that follow each other go to distant cells, so that a few of them see all kinds.
    let cell = case.wrapping_mul(CELL_STRIDE) % specimens.cells.len() as u64;
    let cell = usize::try_from(cell).unwrap_or(0);
    let (specimen, regions, damage) = &specimens.cells[cell];
    let specimen = &specimens.all[*specimen];
    let region = usize::try_from(draw.below(regions.len() as u64)).unwrap_or(0);
    let region = &specimen.regions()[regions[region]];
    let disk = specimen.disk().fork(case);
    if !damage.apply(&**specimen, &disk, region, &draw) {
        return;
    }
    counts.corrupted += 1;
    let repeat = format!("cargo xtask corrupt --files 1 --from {case}");
    let verdict = guard::run(&repeat, || specimen.judge(&disk, region));
    let why = region.why(*damage);
    let name = format!("{} {}", specimen.name(), region.name());
    let class = match (&verdict, why) {
        (Err(_), _) => "panic".to_owned(),
        (Ok(Verdict::Detected(class)), _) => (*class).to_owned(),
        (Ok(Verdict::Unnoticed), Some(why)) => format!("harmless: {}", why.name()),
        (Ok(Verdict::Unnoticed), None) => "UNDETECTED".to_owned(),
        (Ok(Verdict::ServedBad(_)), _) => "SERVED BAD".to_owned(),
        (Ok(Verdict::CutAcknowledged(_)), _) => "CUT".to_owned(),
    };
    let row = outcome.table.entry((name.clone(), damage.name())).or_default();
    *row.entry(class).or_default() += 1;
    let what = match (verdict, why) {
        (Ok(Verdict::Detected(_)), _) => return counts.detected += 1,
        (Ok(Verdict::Unnoticed), Some(why)) => {
            return *counts.harmless.entry(why.name().to_owned()).or_default() += 1;
        }
        (Ok(Verdict::Unnoticed), None) => {
            counts.undetected += 1;
            "nobody noticed".to_owned()
        }
        (Ok(Verdict::ServedBad(what)), _) => {
            counts.served_bad += 1;
            format!("served bad: {what}")
        }
        (Ok(Verdict::CutAcknowledged(what)), _) => {
            counts.cut_acknowledged += 1;
            format!("cut though acknowledged: {what}")
        }
        (Err(panic), _) => {
            counts.panics += 1;
            format!("a panic: {panic}")
        }
    };
    let (path, damage) = (region.path.display(), damage.name());
    let what = format!("case {case}, {name}, {damage} in {path}: {what}");
    outcome.findings.push(Finding { what, repeat });
}

impl Counts {
    fn report(&self, figures: &mut Figures) {
        let harmless: Map<String, Value> =
            self.harmless.iter().map(|(why, count)| (why.clone(), (*count).into())).collect();
        figures
            .set("corrupted", self.corrupted)
            .set("detected", self.detected)
            .set("harmless", harmless)
            .set("undetected", self.undetected)
            .set("served_bad", self.served_bad)
            .set("cut_acknowledged", self.cut_acknowledged)
            .set("panics", self.panics);
    }
}
