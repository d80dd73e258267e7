//! Every decoder takes a short run of damaged inputs, and the driver notices what is broken.

use std::process::{Command, Output};

use serde_json::Value;

fn fuzz(arguments: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duramen-fuzz"));
    let output = command.args(arguments).arg("--json").output().expect("the fuzzer was built");
    let said = String::from_utf8_lossy(&output.stdout);
    let figures = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (output, figures.unwrap_or_default())
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_decoder_takes_any_bytes() {
    let (output, figures) = fuzz(&["--seconds", "20", "--seed", "7"]);
    assert!(output.status.success(), "{}", errors(&output));
    for (name, executions) in figures["by_decoder"].as_object().expect("figures by decoder") {
        assert!(executions.as_u64() > Some(50), "{name} had {executions} inputs");
    }
    assert!(figures["accepted"].as_u64() > Some(1_000), "mutations get deep");
    assert_eq!(figures["panics"], 0);
}

/// Runs a decoder that is broken on purpose; gives the figures and what was said.
fn broken(name: &str) -> (Value, String) {
    let (output, figures) = fuzz(&["--seconds", "2", "--target", name]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    (figures, errors(&output))
}

#[test]
fn a_panic_is_found_and_its_input_repeats_it() {
    let (figures, said) = broken("planted-panic");
    assert!(figures["panics"].as_u64() > Some(0));
    assert!(said.contains("a length that nobody checked"), "{said}");
    let repeat =
        said.lines().find_map(|line| line.trim().strip_prefix("repeat: cargo xtask fuzz "));
    let arguments: Vec<&str> = repeat.expect("a command that repeats it").split(' ').collect();
    let (again, _) = fuzz(&arguments);
    assert!(!again.status.success() && errors(&again).contains("a length that nobody checked"));
}

#[test]
fn memory_taken_because_a_length_claims_it_is_found() {
    let (figures, said) = broken("planted-memory");
    assert!(figures["over_allocations"].as_u64() > Some(0), "{said}");
    assert_eq!(figures["panics"], 0);
}

#[test]
fn a_lost_value_is_found() {
    let (figures, said) = broken("planted-loss");
    assert!(figures["round_trip_failures"].as_u64() > Some(0), "{said}");
}

#[test]
fn coverage_says_visibly_when_it_is_not_there() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duramen-fuzz"));
    let output = command.args(["--coverage", "--json"]).env("PATH", "").output();
    let output = output.expect("the fuzzer was built");
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("SKIPPED"), "{}", errors(&output));
}
