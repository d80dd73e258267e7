//! What was measured, as JSON or for people.

use serde::Serialize;

use super::Bench;
use super::tally::{Counted, Tally};
use crate::error::CliError;
use crate::{numbers, output};

/// What was measured. The fields are part of the command's contract.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) bench: &'static str,
    size: u32,
    partitions: u32,
    replicas: u32,
    seconds: f64,
    records: u64,
    mb_per_s: f64,
    records_per_s: f64,
    server_cpu_s_per_gb: Option<f64>,
    client_cpu_s_per_gb: Option<f64>,
    server_cpu_s_per_million: Option<f64>,
    client_cpu_s_per_million: Option<f64>,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    errors: u64,
    server_rss_mb: Option<f64>,
    server_rss_anon_mb: Option<f64>,
    /// The first thing that went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report {
    pub(super) fn new(bench: &'static str, on: &Bench, counted: &Counted) -> Self {
        let Counted { tally, used } = counted;
        let Tally { records, latencies, errors, error } = tally;
        let (bytes, took) = (on.bytes(*records), used.took);
        let (server_cpu_s_per_gb, client_cpu_s_per_gb) = used.cpu_per(numbers::float(bytes) / 1e9);
        let (server_cpu_s_per_million, client_cpu_s_per_million) =
            used.cpu_per(numbers::float(*records) / 1e6);
        Self {
            bench,
            size: on.args.size,
            partitions: on.args.partitions,
            replicas: on.args.replicas,
            seconds: numbers::rounded(took.as_secs_f64()),
            records: *records,
            mb_per_s: numbers::rounded(numbers::mb_per_second(bytes, took)),
            records_per_s: numbers::rounded(numbers::per_second(*records, took)),
            server_cpu_s_per_gb,
            client_cpu_s_per_gb,
            server_cpu_s_per_million,
            client_cpu_s_per_million,
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            errors: *errors,
            server_rss_mb: used.memory.resident_mb,
            server_rss_anon_mb: used.memory.anonymous_mb,
            error: error.clone(),
        }
    }

    /// Prints it; errors make the command fail.
    pub(super) fn print(&self, json: bool) -> Result<(), CliError> {
        if json {
            output::json(self)?;
        } else {
            self.print_text()?;
        }
        match &self.error {
            None => Ok(()),
            Some(error) => {
                Err(CliError::Failed(format!("{} records failed: {error}", self.errors)))
            }
        }
    }

    fn print_text(&self) -> Result<(), CliError> {
        let known = |value: Option<f64>| value.map_or("?".into(), |value| format!("{value:.2}"));
        let millis = |micros: u64| format!("{:.2}", numbers::float(micros) / 1000.0);
        let cpu = |nodes, client| format!("nodes {}, client {}", known(nodes), known(client));
        let rows = [
            (
                "throughput",
                format!(
                    "{:.1} MB/s, {} records/s",
                    self.mb_per_s,
                    numbers::grouped_rate(self.records_per_s)
                ),
            ),
            (
                "latency in ms",
                format!(
                    "p50 {}  p99 {}  p99.9 {}  max {}",
                    millis(self.p50_us),
                    millis(self.p99_us),
                    millis(self.p999_us),
                    millis(self.max_us)
                ),
            ),
            ("CPU seconds per GB", cpu(self.server_cpu_s_per_gb, self.client_cpu_s_per_gb)),
            (
                "per million records",
                cpu(self.server_cpu_s_per_million, self.client_cpu_s_per_million),
            ),
            (
                "peak memory in MB",
                format!(
                    "{} in the largest node, {} without file pages",
                    known(self.server_rss_mb),
                    known(self.server_rss_anon_mb)
                ),
            ),
            ("errors", self.errors.to_string()),
        ];
        for (name, value) in rows {
            output::line(&format!("{name:<21}{value}"))?;
        }
        Ok(())
    }
}
