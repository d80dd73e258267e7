//! The stored corpus: inputs that coverage-guided fuzzing found to be interesting.

use std::path::{Path, PathBuf};

/// Where the inputs of a decoder are kept.
#[must_use]
pub fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The stored inputs of a decoder, in the order of their names; none where nothing is stored.
pub(super) fn stored(name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(corpus_dir(name)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
