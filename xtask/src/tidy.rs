//! The rules that neither the compiler nor clippy checks: layers, sizes, names, links.

mod documents;
mod packages;
mod source;

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::steps::cargo_command;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the workspace, or the package.
    place: String,
    /// Counted from 1; 0 is the whole file.
    line: usize,
    rule: String,
}

impl Finding {
    fn new(place: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { place: place.into(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.place, self.rule),
            line => write!(f, "{}:{line}: {}", self.place, self.rule),
        }
    }
}

/// A text file of the workspace.
pub(crate) struct File {
    /// Relative to the workspace, with slashes.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Checks all rules.
pub(crate) fn run(root: &Path) -> Result<Vec<Finding>, Box<dyn Error>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    let mut findings = packages::check(&metadata(root)?);
    for file in &files {
        findings.extend(source::check_text(file));
        if file.has_extension("rs") {
            findings.extend(source::check_rust(file));
        }
        if file.has_extension("toml") {
            findings.extend(packages::check_manifest(file));
            findings.extend(packages::check_profile(file));
        }
        if file.has_extension("md") {
            findings.extend(documents::check(file, |path| root.join(path).exists()));
        }
    }
    Ok(findings)
}

/// Reads all text files below a directory, by name; build output and git's own files are left
/// out.
fn collect(root: &Path, dir: &Path, files: &mut Vec<File>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type()?;
        if entry.file_name() == "target" || entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file()
            // What is not UTF-8 is not text.
            && let Ok(text) = String::from_utf8(fs::read(&path)?)
        {
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
    Ok(())
}

/// What cargo knows of the workspace.
fn metadata(root: &Path) -> Result<serde_json::Value, Box<dyn Error>> {
    let mut cargo = cargo_command(root);
    let output = cargo.args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
