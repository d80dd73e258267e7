//! A node's disk survives power cuts at every point, calls that fail, and damage, in little; the
//! campaigns `crashpoints` and `corrupt` do the same at length.

use duramen_tests::{corrupt, crashpoints};

/// Runs one trace of a subject.
fn sweep(subject: &str, faults_max: u64) {
    let subject = Some(subject.to_owned());
    let options = crashpoints::Options {
        traces: 1,
        from: 3,
        subject,
        faults_max,
        ..crashpoints::Options::default()
    };
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
    let options = corrupt::Options { files: 2_500, from: 0, stop_early: false };
    let outcome = corrupt::run(&options, &mut |_| {});
    let figures = outcome.figures.to_line();
    assert!(outcome.findings.is_empty(), "{figures}: {:#?}", outcome.findings);
    assert!(outcome.table.len() > 300, "few regions were tried: {}", outcome.table.len());
}
