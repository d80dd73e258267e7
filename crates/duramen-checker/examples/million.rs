//! Checks a generated history of a million operations and prints what it took.
//!
//! `cargo run --release -p duramen-checker --example million`

#[path = "../tests/planted/clean.rs"]
mod clean;
#[path = "../tests/planted/members.rs"]
mod members;
#[path = "../tests/planted/script.rs"]
mod script;

use std::time::Instant;

use duramen_checker::{Options, check};

/// The most memory that the process had, in MiB, where the system says so.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a figure is measured here")]
fn main() {
    let size = clean::Size { keys: 16, processes: 32, steps: 2_800_000 };
    let history = clean::clean(7, size).history();
    let began = Instant::now();
    let report = check(&history, &Options::default());
    let seconds = began.elapsed().as_secs_f64();
    assert!(report.is_sound(), "{report}");
    let figures = report.figures;
    println!(
        "ops {}, acknowledged {}, records_read {}, check_s {seconds:.2}, peak_mib {} (generator \
         included)",
        figures.ops,
        figures.acknowledged,
        figures.records_read,
        peak_mib().unwrap_or(0),
    );
}
