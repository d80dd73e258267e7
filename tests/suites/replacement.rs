//! A replica is replaced whatever happens to it and whoever loses power meanwhile. `DURAMEN_CASES`
//! gives the number of cases.

use std::time::Duration;

use duramen_tests::replacement::{Case, Loss, Victim, run};

/// Cases of a run without `DURAMEN_CASES`.
const CASES: u64 = 10;

/// A case of a number: all losses and victims in turn, in time each with each, and moments spread
/// over the whole.
fn case(number: u64) -> Case {
    let number_of = usize::try_from(number).unwrap_or(0);
    let (losses, victims) = (Loss::ALL.len(), Victim::ALL.len());
    Case {
        seed: number,
        loss: Loss::ALL[number_of % losses],
        victim: Victim::ALL[(number_of + number_of / losses) % victims],
        after: Duration::from_millis(number * 137 % 1_000),
    }
}

/// `DURAMEN_LOG` shows what the nodes say.
fn show_logs() {
    if std::env::var_os("DURAMEN_LOG").is_some() {
        let format = tracing_subscriber::fmt().without_time().with_ansi(false);
        drop(format.with_max_level(tracing::Level::INFO).try_init());
    }
}

#[test]
fn a_replica_is_replaced_whoever_loses_power_meanwhile() {
    show_logs();
    let cases = std::env::var("DURAMEN_CASES").ok().and_then(|count| count.parse().ok());
    let first = std::env::var("DURAMEN_FROM").ok().and_then(|first| first.parse().ok());
    let first = first.unwrap_or(0);
    for number in first..first + cases.unwrap_or(CASES) {
        let case = case(number);
        let acknowledged = run(case).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(acknowledged >= 80, "{case}: {acknowledged} acknowledged");
    }
}
