//! Damage to the files of a node that does not run.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Outcome;

/// The segments of a replica, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn segments(replica: &Path) -> Outcome<Vec<PathBuf>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(replica)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            segments.push(path);
        }
    }
    segments.sort();
    Ok(segments)
}

/// Flips one bit of a byte.
///
/// # Errors
/// The file has no such byte, or cannot be written.
pub fn flip_bit(path: &Path, position: u64) -> Outcome {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, position)?;
    Ok(file.sync_all()?)
}

/// Writes what a power cut leaves of a frame that was not synced: its first half. `end` is where
/// the frames of the segment end.
///
/// # Errors
/// The file cannot be written.
pub fn append_garbage(path: &Path, end: u64) -> Outcome {
    let file = File::options().write(true).open(path)?;
    let mut torn = [0xA5; 75];
    torn[..4].copy_from_slice(b"DFRM");
    file.write_all_at(&torn, end)?;
    Ok(file.sync_all()?)
}
