//! What is said of a set of runs in one number: which load to quote, CPU time, memory.

use crate::load::result::{ProcessUse, RunResult};

use super::input::{Load, RunSet};
use super::slo::Slo;
use super::statistics::{Interval, median, range};

/// The share of planned operations that may be missing where a system still keeps up.
const BEHIND: f64 = 0.01;

/// How many latencies must lie beyond a quantile before it is worth saying.
const BEYOND: f64 = 10.0;

/// A value of each run: the median, and the least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median of the runs.
    pub median: f64,
    /// From the least to the greatest run.
    pub range: Interval,
}

impl Spread {
    /// Of `values`, one a run; `None` when there is none.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(values)?,
            range: range(values)?,
        })
    }
}

/// Loads that every run of all sets has.
pub fn common_loads(sets: &[&RunSet]) -> Vec<Load> {
    let Some((first, rest)) = sets.split_first() else {
        return Vec::new();
    };
    let others: Vec<Vec<Load>> = rest.iter().map(|set| set.loads()).collect();
    let everywhere = |load: &Load| {
        others
            .iter()
            .all(|loads| loads.iter().any(|other| other.same(*load)))
    };
    first.loads().into_iter().filter(everywhere).collect()
}

/// The load at which `sets` are compared when nobody names one: the highest at which all of `judges`
/// keep the objective; without one the highest at which they keep up; else the lowest. Latencies of a
/// system that has fallen behind say only how long the test was.
pub fn quoted_load(sets: &[&RunSet], judges: &[&RunSet], slo: Option<&Slo>) -> Option<Load> {
    let common = common_loads(sets);
    let kept = |load: &&Load| {
        judges
            .iter()
            .all(|set| slo.is_some_and(|slo| slo.kept_by_all(set, **load)))
    };
    let kept_up = |load: &&Load| judges.iter().all(|set| keeps_up(set, **load));
    let highest = common.iter().rev().find(kept);
    highest
        .or_else(|| common.iter().rev().find(kept_up))
        .or_else(|| common.first())
        .copied()
}

fn keeps_up(set: &RunSet, load: Load) -> bool {
    set.at(load)
        .into_iter()
        .all(|point| point.failed_share() <= BEHIND)
}

/// Whether every run has enough latencies at `load` to speak of `quantile`.
pub fn speaks_of(set: &RunSet, load: Load, quantile: f64) -> bool {
    let points = set.at(load);
    // A hair of room: 1 - 0.99 is a little more than 0.01.
    let enough = |count: u64| count as f64 * (1.0 - quantile) >= BEYOND * (1.0 - 1e-9);
    points
        .into_iter()
        .all(|point| enough(point.response.count()))
}

/// The median over runs of a response quantile, with their range.
pub fn response(set: &RunSet, load: Load, quantile: f64) -> Option<Spread> {
    Spread::of(&set.quantiles(load, quantile))
}

/// The p99 of `set` at `rate`, and the rates tried that it lies between: on the line through them, with
/// latencies on a logarithmic scale. `None` outside the rates tried.
pub fn p99_at(set: &RunSet, rate: f64) -> Option<(f64, (f64, f64))> {
    let mut below = None;
    for load in set.loads() {
        let Load::Offered(tried) = load else { continue };
        let value = median(&set.quantiles(load, 0.99))?.max(1.0);
        if Load::Offered(rate).same(load) {
            return Some((value, (tried, tried)));
        }
        if tried > rate {
            let (lower, low): (f64, f64) = below?;
            let share = (rate - lower) / (tried - lower);
            return Some((
                (low.ln() * (1.0 - share) + value.ln() * share).exp(),
                (lower, tried),
            ));
        }
        below = Some((tried, value));
    }
    None
}

/// A value of the process under test in each run that counts; `None` unless every one measured it.
pub fn process(set: &RunSet, value: impl Fn(&RunResult, &ProcessUse) -> f64) -> Option<Vec<f64>> {
    let runs = set.counted();
    let values = runs.iter().map(|run| {
        run.result
            .process
            .as_ref()
            .map(|used| value(&run.result, used))
    });
    values
        .collect::<Option<Vec<f64>>>()
        .filter(|values| !values.is_empty())
}

/// CPU time by operation in microseconds, in each run that counts. `None` unless all measured it.
pub fn cpu(set: &RunSet) -> Option<Vec<f64>> {
    process(set, |_, used| used.cpu_us_per_operation)
        .filter(|values| values.iter().all(|v| *v > 0.0))
}

/// The user part of the CPU time of each run that counts, from 0 to 1.
pub fn user_share(set: &RunSet) -> Option<Vec<f64>> {
    process(set, |_, used| match used.user_us + used.system_us {
        0 => 0.0,
        all => used.user_us as f64 / all as f64,
    })
}

/// Memory by idle connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleMemory {
    /// KiB by connection.
    pub kib: f64,
    /// Connections held, least and most.
    pub held: (u32, u32),
    /// From the growth between runs that held different numbers. Otherwise the whole process is divided
    /// by its connections: an upper bound.
    pub by_growth: bool,
}

/// Memory by idle connection from the runs that held some: the slope of the least-squares line of
/// resident memory over connections, or the whole process by its connections.
pub fn idle_memory(set: &RunSet) -> Option<IdleMemory> {
    let held: Vec<(u32, f64)> = set
        .holding()
        .into_iter()
        .filter_map(|run| Some((run.held(), run.result.process.as_ref()?.rss_kib as f64)))
        .collect();
    let least = held.iter().map(|(count, _)| *count).min()?;
    let most = held.iter().map(|(count, _)| *count).max()?;
    let by_growth = most > least;
    let kib = match by_growth {
        true => slope(&held),
        false => median(
            &held
                .iter()
                .map(|(count, kib)| kib / f64::from(*count))
                .collect::<Vec<_>>(),
        )?,
    };
    Some(IdleMemory {
        kib,
        held: (least, most),
        by_growth,
    })
}

fn slope(points: &[(u32, f64)]) -> f64 {
    let count = points.len() as f64;
    let x_mean = points.iter().map(|(x, _)| f64::from(*x)).sum::<f64>() / count;
    let y_mean = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let off = |x: u32| f64::from(x) - x_mean;
    let both: f64 = points.iter().map(|(x, y)| off(*x) * (y - y_mean)).sum();
    let square: f64 = points.iter().map(|(x, _)| off(*x).powi(2)).sum();
    both / square
}
