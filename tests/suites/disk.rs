//! A node's disk survives power cuts at every point, calls that fail, and damage, in little; the
//! campaigns `crashpoints` and `corrupt` do the same at length. `DURAMEN_TRACES` and
//! `DURAMEN_FILES` make it longer.

use duramen_tests::{corrupt, crashpoints};

fn size(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|size| size.parse().ok()).unwrap_or(default)
}

/// Runs a few traces of a subject.
fn sweep(subject: &str, faults_max: u64) {
    let (subject, traces) = (Some(subject.to_owned()), size("DURAMEN_TRACES", 1));
    let only = None;
    let stop_early = false;
    let options = crashpoints::Options { traces, from: 3, subject, only, faults_max, stop_early };
    let outcome = crashpoints::run(&options, &mut |_, _| {});
    let figures = outcome.figures.to_line();
    assert!(outcome.findings.is_empty(), "{figures}: {:#?}", outcome.findings);
    let crashes = figures.split(", ").find_map(|part| part.strip_prefix("crashes "));
    let crashes: u64 = crashes.and_then(|count| count.parse().ok()).expect("it is counted");
    assert!(crashes > 500, "nearly nothing was tried: {figures}");
}

#[test]
fn a_log_of_small_segments_survives_every_crash_point() {
    sweep("log-small-segments", 2);
}

#[test]
fn a_log_with_little_in_flight_survives_every_crash_point() {
    sweep("log-bounded-flight", 2);
}

#[test]
fn votes_survive_every_crash_point() {
    sweep("votes", 2);
}

#[test]
fn an_identity_survives_every_crash_point() {
    sweep("identity", 3);
}

#[test]
fn damage_is_always_found_and_never_served() {
    let options =
        corrupt::Options { files: size("DURAMEN_FILES", 2_500), from: 0, stop_early: false };
    let outcome = corrupt::run(&options, &mut |_| {});
    let figures = outcome.figures.to_line();
    assert!(outcome.findings.is_empty(), "{figures}: {:#?}", outcome.findings);
    assert!(outcome.table.len() > 300, "few regions were tried: {}", outcome.table.len());
}
