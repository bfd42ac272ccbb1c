//! What a detour adds: blocks of load on the direct way and on the way via, alternating, compared
//! percentile by percentile.

use super::histogram::Latencies;
use super::report::statistics::{Interval, Random, difference_interval, mean};

/// The percentiles that are compared.
pub const QUANTILES: &[(f64, &str)] = &[
    (0.50, "p50"),
    (0.90, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
];

/// Latencies that a percentile needs beyond itself in every block before it is told.
const BEYOND: f64 = 10.0;

/// Which way a block takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server itself.
    Direct,
    /// Through what is under test.
    Via,
}

/// The order of `pairs` pairs of blocks: A B B A A B B A …, so that a steady drift hits both alike.
pub fn order(pairs: usize) -> Vec<Way> {
    let pair = |index: usize| match index.is_multiple_of(2) {
        true => [Way::Direct, Way::Via],
        false => [Way::Via, Way::Direct],
    };
    (0..pairs).flat_map(pair).collect()
}

/// The difference at one percentile, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The percentile's name.
    pub name: &'static str,
    /// Mean over the direct blocks.
    pub direct: f64,
    /// Mean over the blocks via.
    pub via: f64,
    /// The bootstrap interval of their difference, at 95 %; absent with fewer than two blocks a side.
    pub interval: Option<Interval>,
}

/// Compares the blocks, at the percentiles that all of them have enough latencies for.
pub fn compare(direct: &[Latencies], via: &[Latencies], seed: u64) -> Vec<Difference> {
    let mut random = Random::new(seed);
    let fewest = direct.iter().chain(via).map(Latencies::count).min();
    let fewest = fewest.unwrap_or_default() as f64;
    let told = QUANTILES
        .iter()
        .filter(|(quantile, _)| fewest * (1.0 - quantile) >= BEYOND);
    told.map(|(quantile, name)| {
        let of = |blocks: &[Latencies]| -> Vec<f64> {
            blocks
                .iter()
                .map(|block| block.quantile(*quantile) as f64)
                .collect()
        };
        let (base, new) = (of(direct), of(via));
        Difference {
            name,
            direct: mean(&base),
            via: mean(&new),
            interval: difference_interval(&new, &base, &mut random),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_drift_hits_both_ways_alike() {
        let order = order(4);
        let place = |way| -> usize {
            order
                .iter()
                .enumerate()
                .filter(|(_, other)| **other == way)
                .map(|(place, _)| place)
                .sum()
        };
        assert_eq!(order.len(), 8);
        assert_eq!(place(Way::Direct), place(Way::Via));
    }

    #[test]
    fn a_known_addition_is_found_and_thin_percentiles_are_left_out() {
        let block = |added: u64, salt: u64| {
            let mut latencies = Latencies::new();
            (0..5_000).for_each(|n| latencies.record(100_000 + added + (n * 37 + salt) % 10_000));
            latencies
        };
        let direct: Vec<_> = (0..5).map(|salt| block(0, salt * 11)).collect();
        let via: Vec<_> = (0..5).map(|salt| block(30_000, salt * 7)).collect();
        let rows = compare(&direct, &via, 1);
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names, ["p50", "p90", "p99"]);
        for row in rows {
            let interval = row.interval.unwrap();
            assert!(
                interval.low < 30_500.0 && interval.high > 29_500.0,
                "{row:?} {interval:?}"
            );
        }
    }
}
