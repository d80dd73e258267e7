//! Runs one simulated cluster under a seed and prints its trace: `duramen-sim SEED`.

use std::io::Write as _;

use duramen_tests::simulation::{Scenario, SimError, run};

fn main() -> Result<(), SimError> {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let seed = std::env::args().nth(1).ok_or("usage: duramen-sim SEED")?.parse()?;
    let report = run(Scenario { seed, partitions: 3, records: 60 })?;
    let mut out = std::io::stdout().lock();
    for line in &report.trace {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
