//! Latency histograms: nanoseconds, three significant digits, up to ten minutes; and their forms in
//! files.
//!
//! A plan of intended starts exists, so values are recorded as they are and never "corrected"
//! (HdrHistogram issue 148).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart, in nanoseconds; longer ones count as this.
pub const LONGEST_NS: u64 = 600_000_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        match Histogram::new_with_bounds(1, LONGEST_NS, DIGITS) {
            Ok(histogram) => Self(histogram),
            Err(_) => unreachable!("the bounds are constants that the library allows"),
        }
    }

    /// Adds a latency.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.min(LONGEST_NS));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        // Fails only where the bounds differ, and they never do.
        let _same_bounds = self.0.add(&other.0);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many latencies there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value in nanoseconds that the share `quantile` (0 to 1) of latencies does not exceed; 0
    /// when empty.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The mean in nanoseconds; 0 when empty.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The least and the greatest, in nanoseconds; 0 when empty.
    pub fn bounds(&self) -> (u64, u64) {
        match self.count() {
            0 => (0, 0),
            _ => (self.0.min(), self.0.max()),
        }
    }

    /// The library's own form, for its writers.
    pub fn inner(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The form for `result.json`.
    pub fn summary(&self) -> Summary {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _written = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        let (min, max) = self.bounds();
        Summary {
            count: self.count(),
            min_ns: min,
            mean_ns: self.mean(),
            p50_ns: self.quantile(0.50),
            p90_ns: self.quantile(0.90),
            p95_ns: self.quantile(0.95),
            p99_ns: self.quantile(0.99),
            p999_ns: self.quantile(0.999),
            p9999_ns: self.quantile(0.9999),
            max_ns: max,
            hdr_v2: BASE64.encode(bytes),
        }
    }
}

/// A histogram in a result file: the numbers most often asked for, and all of it in HdrHistogram's V2
/// form (compressed, base64), which the tools of that project read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many latencies.
    pub count: u64,
    /// The least.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The median.
    pub p50_ns: u64,
    /// 90 % are not longer.
    pub p90_ns: u64,
    /// 95 %.
    pub p95_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// The greatest.
    pub max_ns: u64,
    /// The whole histogram.
    pub hdr_v2: String,
}

/// The histogram in a result file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`hdr_v2` is no HdrHistogram in V2 form: {0}")]
pub struct BadHistogram(String);

impl Summary {
    /// The whole histogram.
    ///
    /// # Errors
    /// [`BadHistogram`] when `hdr_v2` is damaged.
    pub fn latencies(&self) -> Result<Latencies, BadHistogram> {
        let bytes = BASE64
            .decode(&self.hdr_v2)
            .map_err(|error| BadHistogram(error.to_string()))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| BadHistogram(error.to_string()))?;
        let mut latencies = Latencies::new();
        latencies
            .0
            .add(&histogram)
            .map_err(|error| BadHistogram(error.to_string()))?;
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_its_form_in_a_file() {
        let mut latencies = Latencies::new();
        for nanos in [0, 1, 999, 50_000, 2_000_000, LONGEST_NS, u64::MAX] {
            latencies.record(nanos);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 7);
        assert_eq!(summary.latencies().unwrap(), latencies);
        assert!(summary.p50_ns.abs_diff(50_000) <= 50);
        let damaged = Summary {
            hdr_v2: "AAAA".to_owned(),
            ..summary
        };
        assert!(damaged.latencies().is_err());
    }

    #[test]
    fn merging_counts_both_and_clearing_none() {
        let (mut a, mut b) = (Latencies::new(), Latencies::new());
        a.record(10);
        b.record(30);
        a.merge(&b);
        assert_eq!((a.count(), a.bounds()), (2, (10, 30)));
        a.clear();
        assert_eq!((a.count(), a.bounds()), (0, (0, 0)));
    }
}
