//! What was counted, and what is printed of it: the fields of `duramen bench --json`.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::usage::{Usage, rss_anon_mb};
use crate::{Error, Load};

/// The longest latency told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// When counting begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Window {
    /// From now on, after the warm-up.
    pub(crate) fn new(load: &Load) -> Self {
        let begin = Instant::now() + load.warmup();
        Self { begin, end: begin + load.measured() }
    }

    pub(crate) fn contains(&self, now: Instant) -> bool {
        self.begin <= now && now < self.end
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// What is counted within a window.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    /// In microseconds, three digits.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) errors: u64,
    /// The first of the errors.
    pub(crate) error: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latencies =
            Histogram::new_with_max(LATENCY_US_MAX, 3).expect("an hour in three digits is allowed");
        Self { records: 0, latencies, errors: 0, error: None }
    }

    /// A record that took so long.
    pub(crate) fn count(&mut self, latency: Duration) {
        self.records += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn fail(&mut self, error: impl Into<String>) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.into());
    }

    /// Takes over the errors of another tally.
    pub(crate) fn fail_all(&mut self, other: &Self) {
        self.errors += other.errors;
        if self.error.is_none() {
            self.error.clone_from(&other.error);
        }
    }
}

/// What was used within a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metered {
    took: Duration,
    before: Usage,
    after: Usage,
    rss_anon_mb: Option<f64>,
}

/// Takes what is used.
pub(crate) struct Meter(JoinHandle<Metered>);

/// Takes the processes' CPU time when the window begins and when it ends, on a thread of its own.
pub(crate) fn meter(window: Window, pids: &[u32]) -> Meter {
    let pids = pids.to_vec();
    Meter(thread::spawn(move || {
        thread::sleep(window.begin.saturating_duration_since(Instant::now()));
        let (before, began) = (Usage::now(&pids), Instant::now());
        thread::sleep(window.end.saturating_duration_since(Instant::now()));
        let (after, took) = (Usage::now(&pids), began.elapsed());
        Metered { took, before, after, rss_anon_mb: rss_anon_mb(&pids) }
    }))
}

impl Meter {
    /// What was used, once the window is over.
    pub(crate) fn read(self) -> Result<Metered, Error> {
        self.0.join().map_err(|_| "the meter panicked".into())
    }
}

/// All of a measurement.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) tally: Tally,
    pub(crate) metered: Metered,
}

/// What is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
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
    server_rss_anon_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report {
    pub(crate) fn new(bench: &'static str, load: &Load, counted: &Counted) -> Self {
        let Counted { tally, metered } = counted;
        let seconds = metered.took.as_secs_f64();
        let records = tally.records as f64;
        let gb = records * f64::from(load.size) / 1e9;
        let per_gb = |now: Option<f64>, then: Option<f64>| {
            let used = now? - then?;
            (gb > 0.0).then(|| rounded(used / gb))
        };
        let quantile = |quantile| tally.latencies.value_at_quantile(quantile);
        Self {
            bench,
            size: load.size,
            partitions: load.partitions,
            replicas: load.replicas,
            seconds: rounded(seconds),
            records: tally.records,
            mb_per_s: rounded(gb * 1e3 / seconds),
            records_per_s: rounded(records / seconds),
            server_cpu_s_per_gb: per_gb(metered.after.servers, metered.before.servers),
            client_cpu_s_per_gb: per_gb(metered.after.client, metered.before.client),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: tally.latencies.max(),
            errors: tally.errors,
            server_rss_anon_mb: metered.rss_anon_mb.map(rounded),
            error: tally.error.clone(),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
