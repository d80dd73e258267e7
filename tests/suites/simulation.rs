//! A simulated cluster keeps its promises under faults, and repeats itself under its seed.

use std::process::Command;

/// What a process of its own prints of a seed.
fn simulate(seed: u64, arguments: &[&str]) -> String {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_duramen-sim"))
        .args(["run", &seed])
        .args(arguments)
        .output();
    let output = output.expect("the simulator was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a trace is text")
}

#[test]
fn one_seed_gives_one_trace_in_two_processes() {
    let first = simulate(11, &["--trace"]);
    assert!(first.lines().count() > 2_000, "the trace tells what happened");
    assert_eq!(first, simulate(11, &["--trace"]));
}

#[test]
fn nothing_acknowledged_is_lost_to_power_cuts_of_leaders() {
    let trace = simulate(7, &["--trace", "--faults", "power-leader,power-all"]);
    assert!(trace.lines().any(|line| line.contains("power-leader of")));
    assert!(trace.lines().any(|line| line.contains("power-all of")));
}
