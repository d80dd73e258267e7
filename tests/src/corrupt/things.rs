//! Specimens of everything but the bare log: votes, identity, and a whole node with its groups.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{CrashMode, Disk, SimDisk};
use duramen_log::verify_dir;

use super::{Damage, Region, Specimen, Verdict, region};
use crate::crashpoints::{Expected, SUBJECTS, WrongKind};

/// What a story left on its disk.
struct Thing {
    name: &'static str,
    disk: SimDisk,
    expected: Box<dyn Expected>,
    regions: Vec<Region>,
    others: Vec<(Damage, SimDisk)>,
}

/// The subjects that are not bare logs, each after a story of so many operations.
const THINGS: [(&str, u64); 3] = [("votes", 60), ("identity", 6), ("node", 90)];

/// Made anew for each seed.
pub(super) fn specimens(seed: u64) -> Vec<Box<dyn Specimen>> {
    let specimen = |(name, operations)| -> Box<dyn Specimen> {
        let told = |seed| tell(name, seed, operations).expect("a subject of this name is told");
        let ((disk, expected), (other, _)) = (told(seed), told(!seed));
        let regions = regions(&disk);
        let others = vec![(Damage::SwapForeign, other)];
        Box::new(Thing { name, disk, expected, regions, others })
    };
    THINGS.map(specimen).into()
}

/// Tells a story; everything is on the medium then.
fn tell(name: &str, seed: u64, operations: u64) -> Option<(SimDisk, Box<dyn Expected>)> {
    let subject = SUBJECTS.iter().find(|subject| subject.name == name)?;
    let mut story = (subject.begin)(seed);
    let mut expected = None;
    let mut left = operations;
    while left > 0 {
        let step = story.step();
        // What a power cut leaves is judged by the crash points: until a log was recovered, damage of
        // its end cannot be told from what the cut took.
        left = left.saturating_sub(1).max(u64::from(step.operation == "power-cut"));
        expected = Some(step.after);
    }
    let disk = story.disk().fork(seed);
    if name == "identity" {
        // As in a directory that has been used.
        disk.create_dir_all(Path::new("/node/partitions")).ok()?;
    }
    disk.crash(CrashMode::KeepAll);
    disk.reopen();
    Some((disk, expected?))
}

fn regions(disk: &SimDisk) -> Vec<Region> {
    let files = disk.durable_files();
    let paths: Vec<_> = files.keys().cloned().collect();
    let mut regions = Vec::new();
    for (path, bytes) in &files {
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        let later = paths.iter().any(|other| {
            other > path && other.parent() == path.parent() && other.extension() == path.extension()
        });
        let frames = if is_segment { super::log::frames(disk, path) } else { Vec::new() };
        regions.extend(region::of_file(path, bytes, &frames, !later));
    }
    regions
}

/// Whether verification finds nothing wrong with any log.
fn verifies(disk: &SimDisk) -> bool {
    let files = disk.durable_files();
    let segments = files.keys().filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    let dirs: BTreeSet<_> = segments.filter_map(|path| path.parent()).collect();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    dirs.into_iter().all(|dir| {
        verify_dir(&disk, dir, &mut |_| {}).is_ok_and(|report| report.problems.is_empty())
    })
}

impl Specimen for Thing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn judge(&self, disk: &SimDisk, _: &Region) -> Verdict {
        let is_sound = verifies(&disk.fork(1));
        match self.expected.recover(disk) {
            // Not everything is read when a node starts: the scrubber verifies what is left.
            Ok(_) if !is_sound => Verdict::Detected("found by verification"),
            Ok(_) => Verdict::Unnoticed,
            Err(wrong) => match wrong.kind {
                WrongKind::Refused => Verdict::Detected("refused"),
                WrongKind::Lost | WrongKind::Changed | WrongKind::Unstable => {
                    Verdict::ServedBad(wrong.what)
                }
            },
        }
    }

    fn others(&self) -> &[(Damage, SimDisk)] {
        &self.others
    }
}
