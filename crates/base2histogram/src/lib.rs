//! Histograms that count nothing.
//!
//! openraft keeps seventeen histograms for each group, 34 KiB, whether its feature that shows them is
//! on or not; and the package that they come from makes 26 MB of tables at the first one, for every
//! precision there is. Duramen has metrics of its own and that feature off. This package has the
//! names that openraft uses, and is given to it instead by `[patch.crates-io]`. If a later openraft
//! uses more of them, it does not compile.

use std::fmt;
use std::marker::PhantomData;

/// Takes values and keeps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one, as it stays.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: PhantomData }
    }

    /// Takes a value.
    pub const fn record(&mut self, _value: u64) {}

    /// Takes a value so many times.
    pub const fn record_n(&mut self, _value: u64, _count: u64) {}

    /// What an empty histogram says.
    #[must_use]
    pub const fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: 0,
            p0_1: 0,
            p1: 0,
            p5: 0,
            p10: 0,
            p50: 0,
            p90: 0,
            p99: 0,
            p99_9: 0,
        }
    }
}

/// Percentiles of the values taken: none, and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were taken.
    pub samples: u64,
    /// The 0.1th percentile.
    pub p0_1: u64,
    /// The 1st percentile.
    pub p1: u64,
    /// The 5th percentile.
    pub p5: u64,
    /// The 10th percentile.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}

/// A drawing of histograms: there is nothing to draw.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// Adds a histogram.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}
