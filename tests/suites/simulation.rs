//! A simulated cluster loses nothing to a power cut, and repeats itself under its seed.

use std::process::Command;

use duramen_tests::simulation::{Report, Scenario, run};

fn simulate(seed: u64) -> Report {
    run(Scenario { seed, partitions: 3, records: 60 }).expect("a simulated cluster runs to its end")
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut_of_a_leader() {
    let report = simulate(7);
    assert!(report.trace.iter().any(|line| line.ends_with("power of node 1 cut")));
    assert_eq!(report.acknowledged.len(), 120, "every record was acknowledged once");
    assert_eq!(report.read, report.acknowledged);
}

/// The trace of a seed, made by a process of its own.
fn trace(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_duramen-sim")).arg(seed.to_string()).output();
    let output = output.expect("the simulator was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a trace is text")
}

#[test]
fn one_seed_gives_one_trace_in_two_processes() {
    let first = trace(11);
    assert!(first.lines().count() > 200, "the trace tells what happened");
    assert_eq!(first, trace(11));
    assert_ne!(first, trace(12), "another seed takes another course");
}
