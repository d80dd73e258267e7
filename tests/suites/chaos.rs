//! A small part of `cargo xtask chaos`: each cheap nemesis a few times, and the quick scenarios.

use std::path::PathBuf;
use std::time::Duration;

use duramen_tests::chaos::campaign::{RunOptions, run};
use duramen_tests::chaos::scenarios::{ALL, play_one};
use duramen_tests::chaos::{LoadOptions, Nemesis, Network, namespaces};
use duramen_tests::processes::{say, size};

/// What is quick and sure to be felt also under little load.
const QUICK: [Nemesis; 11] = [
    Nemesis::KillOne,
    Nemesis::KillLeader,
    Nemesis::KillMajority,
    Nemesis::KillAll,
    Nemesis::PauseLeader,
    Nemesis::CutLeader,
    Nemesis::CutRing,
    Nemesis::CutOneWay,
    Nemesis::SlowLinks,
    Nemesis::RollingRestart,
    Nemesis::Wipe,
];

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("DURAMEN_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_duramen-under-test").into(), PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whatever_strikes() {
    let nemeses = QUICK.to_vec();
    let options = RunOptions {
        program: program(),
        nodes: 3,
        rounds: size("DURAMEN_CHAOS_ROUNDS", u64::try_from(nemeses.len()).unwrap()),
        seed: size("DURAMEN_CHAOS_SEED", 1),
        nemeses,
        audit_every: 25,
        load: LoadOptions { pace: Duration::from_millis(5), ..LoadOptions::default() },
        network: Network::Proxies,
    };
    let run = run(&options).await;
    say(run.figures(&options).to_line());
    assert!(run.findings.is_empty(), "{:?}", run.findings);
    assert!(run.counts.acknowledged > 0 && run.audit.alike > 0, "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_broke_other_logs_does_not_break_this_one() {
    for scenario in ALL.into_iter().filter(|scenario| scenario.quick) {
        let figures = play_one(&program(), scenario, 1).await;
        let figures = figures.unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        say(format_args!("{}: {figures}", scenario.name));
    }
}

/// The cuts once more, in a network where packets are really lost.
#[test]
fn nothing_acknowledged_is_lost_when_packets_are() {
    if let Err(reason) = namespaces::available() {
        return say(format_args!("SKIPPED: {reason}"));
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_duramen-chaos"))
        .args(["--network", "namespaces", "--nemeses", "cut-leader,cut-one-way,cut-minority"])
        .args(["--rounds", &size("DURAMEN_CHAOS_ROUNDS", 3).to_string()])
        .env("DURAMEN_PROGRAM", program())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    say(said.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
