//! What a system adds to the latency of a direct connection: the difference of quantiles, never the
//! quantile of differences, because no request took both ways.

use super::input::{Load, RunSet};
use super::statistics::{Interval, Random, difference_interval, mean};
use super::summary;

/// The system without anything between.
pub const DIRECT: &str = "direct";

/// The percentiles that are told apart.
const QUANTILES: &[f64] = &[0.50, 0.90, 0.99, 0.999];

/// What one system adds at one percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// The system.
    pub system: String,
    /// The percentile, from 0 to 1.
    pub quantile: f64,
    /// Mean over runs of the direct quantile, in nanoseconds.
    pub direct: f64,
    /// Mean over runs of the system's quantile less that, in nanoseconds.
    pub nanos: f64,
    /// Bootstrap interval of the difference; absent with fewer than three runs on a side.
    pub interval: Option<Interval>,
}

impl Added {
    /// Of every system but [`DIRECT`], at each percentile that all runs have enough latencies for.
    /// Empty without a system of that name.
    pub fn of(sets: &[RunSet], load: Load, seed: u64) -> Vec<Self> {
        let Some(direct) = sets.iter().find(|set| set.system == DIRECT) else {
            return Vec::new();
        };
        let mut random = Random::new(seed);
        let mut rows = Vec::new();
        for set in sets.iter().filter(|set| set.system != DIRECT) {
            for quantile in QUANTILES {
                if [direct, set]
                    .iter()
                    .all(|set| summary::speaks_of(set, load, *quantile))
                {
                    rows.push(Self::at(direct, set, load, *quantile, &mut random));
                }
            }
        }
        rows
    }

    fn at(direct: &RunSet, set: &RunSet, load: Load, quantile: f64, random: &mut Random) -> Self {
        let (base, new) = (
            direct.quantiles(load, quantile),
            set.quantiles(load, quantile),
        );
        let enough = base.len().min(new.len()) >= super::compare::RUNS_MIN;
        Self {
            system: set.system.clone(),
            quantile,
            direct: mean(&base),
            nanos: mean(&new) - mean(&base),
            interval: enough
                .then(|| difference_interval(&new, &base, random))
                .flatten(),
        }
    }

    /// Whether the way through the system would be quicker than the way without it.
    pub fn is_impossible(&self) -> bool {
        self.nanos < 0.0
    }

    /// The percentiles of `rows`, each once, rising.
    pub fn quantiles(rows: &[Self]) -> Vec<f64> {
        let mut quantiles: Vec<f64> = rows.iter().map(|row| row.quantile).collect();
        quantiles.sort_by(f64::total_cmp);
        quantiles.dedup();
        quantiles
    }
}
