//! What was measured, as JSON or for people.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Bench;
use super::usage::{Usage, memory_mb};
use crate::error::CliError;
use crate::{numbers, output};

/// Latencies in microseconds.
pub(super) type Latencies = Histogram<u64>;

/// The longest latency told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// An empty histogram with three digits. Its range is fixed: one that could grow would not do so
/// for `saturating_record`, which takes everything beyond the range as its end.
pub(super) fn latencies() -> Latencies {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("an hour in three digits is allowed")
}

/// Adds a latency.
pub(super) fn record(latencies: &mut Latencies, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

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

/// What a measurement counted while it was measured.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) records: u64,
    pub(super) took: Duration,
    pub(super) latencies: Latencies,
    pub(super) errors: u64,
    pub(super) error: Option<String>,
    pub(super) before: Usage,
    pub(super) after: Usage,
}

impl Report {
    pub(super) fn new(bench: &'static str, on: &Bench, counted: &Counted) -> Self {
        let Counted { records, took, latencies, errors, error, before, after } = counted;
        let bytes = on.bytes(*records);
        let (server_cpu_s_per_gb, client_cpu_s_per_gb) = after.per_gb(*before, bytes);
        let (server_rss_mb, server_rss_anon_mb) = memory_mb(&on.pids);
        Self {
            bench,
            size: on.args.size,
            partitions: on.args.partitions,
            replicas: on.args.replicas,
            seconds: numbers::rounded(took.as_secs_f64()),
            records: *records,
            mb_per_s: numbers::rounded(numbers::mb_per_second(bytes, *took)),
            records_per_s: numbers::rounded(numbers::per_second(*records, *took)),
            server_cpu_s_per_gb,
            client_cpu_s_per_gb,
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            errors: *errors,
            server_rss_mb,
            server_rss_anon_mb,
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
            (
                "CPU seconds per GB",
                format!(
                    "nodes {}, client {}",
                    known(self.server_cpu_s_per_gb),
                    known(self.client_cpu_s_per_gb)
                ),
            ),
            (
                "memory in MB",
                format!(
                    "{} in the largest node, {} without file pages",
                    known(self.server_rss_mb),
                    known(self.server_rss_anon_mb)
                ),
            ),
            ("errors", self.errors.to_string()),
        ];
        for (name, value) in rows {
            output::line(&format!("{name:<20}{value}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_recorded_as_it_was() {
        let mut histogram = latencies();
        record(&mut histogram, Duration::from_millis(250));
        let median = histogram.value_at_quantile(0.5);
        assert!((249_000..=251_000).contains(&median), "{median}");
    }
}
