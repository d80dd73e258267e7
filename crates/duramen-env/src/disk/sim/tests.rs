//! The simulated disk against the machine's, and crashes against what the model allows.

mod against_the_machine;
mod crashes;
mod faults;

use std::path::PathBuf;

use super::*;

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

/// A disk with one file whose name is durable.
fn disk_with_file(seed: u64) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(&path("")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&path(name), OpenMode::Read).unwrap();
    file.map(file.len().unwrap()).unwrap().to_vec()
}
