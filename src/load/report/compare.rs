//! Is the new build better, worse or the same? A verdict for each metric, from repeated runs.

use serde::Serialize;

use super::input::{Load, Point, RunSet};
use super::slo::{Slo, percentile};
use super::statistics::{self, Interval, Random};
use super::{summary, units};

/// Runs on each side below which there is no verdict.
pub const RUNS_MIN: usize = 3;

/// Runs on each side that one should have.
pub const RUNS_WANTED: usize = 5;

/// An achieved rate this near to the offered one is the plan, not a finding.
const AS_OFFERED: f64 = 0.005;

/// The percentiles that are judged.
const QUANTILES: &[f64] = &[0.50, 0.90, 0.99, 0.999];

/// What is asked of a comparison.
#[derive(Clone, Debug)]
pub struct Question {
    /// A change of less than this share is none.
    pub margin: f64,
    /// The seed of the bootstrap.
    pub seed: u64,
    /// The offered rate to compare at; chosen when absent.
    pub rate: Option<f64>,
    /// The objective that helps to choose the rate.
    pub slo: Option<Slo>,
}

/// Why two sets cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// More than one system on a side, or none.
    #[error("{side} has runs of {found}: give a directory with runs of one system")]
    Systems {
        /// Which side.
        side: &'static str,
        /// The systems there.
        found: String,
    },
    /// No load is common to all runs.
    #[error(
        "no offered rate is common to all runs: the first side has {base}, the second {new}; run both with one scenario"
    )]
    NoCommonLoad {
        /// Rates of the base.
        base: String,
        /// Rates of the new side.
        new: String,
    },
    /// The rate asked for was not run.
    #[error("not every run has the rate {wanted}: all have {found}")]
    NoSuchRate {
        /// The rate asked for.
        wanted: String,
        /// The rates there are.
        found: String,
    },
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The system of the base.
    pub base_system: String,
    /// The system of the new side.
    pub new_system: String,
    /// Valid runs, base and new.
    pub runs: (usize, usize),
    /// Runs left out because they are invalid, base and new.
    pub invalid: (usize, usize),
    /// The offered rate compared at; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered_rate: Option<f64>,
    /// A change of less than this share is none.
    pub margin: f64,
    /// The seed of the bootstrap.
    pub seed: u64,
    /// Draws of the bootstrap.
    pub resamples: usize,
    /// The share of repetitions in which an interval holds the true ratio.
    pub confidence: f64,
    /// How many tests share Holm's correction.
    pub tests: usize,
    /// What a reader must know first.
    pub warnings: Vec<String>,
    /// One row for each metric.
    pub metrics: Vec<MetricRow>,
}

/// One metric on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct MetricRow {
    /// Its name: `p50`, `rate`, `cpu`, `rss`.
    pub name: String,
    /// Its unit in this record.
    pub unit: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// The value of each run of the base.
    pub base: Vec<f64>,
    /// The value of each run of the new side.
    pub new: Vec<f64>,
    /// Geometric mean of new over that of base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Bootstrap interval of the ratio, lower and upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// p of the exact Mann-Whitney test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The same after Holm's correction over the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_adjusted: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// The verdict in words.
    pub words: String,
}

/// What follows from one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better by more than the margin may hide.
    Better,
    /// Worse: a regression.
    Worse,
    /// Within the margin.
    Same,
    /// Too few or too different runs.
    CannotTell,
    /// Not measured, or not worth a test; the words say why.
    NotTested,
}

/// A metric before its test.
struct Candidate {
    name: String,
    unit: &'static str,
    more_is_better: bool,
    base: Vec<f64>,
    new: Vec<f64>,
    /// Why it is not tested.
    left_out: Option<String>,
}

impl Comparison {
    /// Compares `new` with `base`.
    ///
    /// # Errors
    /// [`CompareError`] where the runs have no load in common.
    pub fn of(base: &RunSet, new: &RunSet, question: &Question) -> Result<Self, CompareError> {
        let load = choose_load(base, new, question)?;
        let candidates = candidates(base, new, load);
        let runs = (believable(base), believable(new));
        let enough = runs.0.min(runs.1) >= RUNS_MIN;
        let tested = candidates.iter().filter(|metric| metric.left_out.is_none());
        let p: Vec<f64> = tested
            .map(|metric| statistics::mann_whitney(&metric.base, &metric.new))
            .collect();
        let tests = p.len();
        let mut results = p.iter().copied().zip(statistics::holm(&p));
        let mut random = Random::new(question.seed);
        let metrics = candidates
            .into_iter()
            .map(|metric| match metric.left_out {
                None if enough => {
                    let p = results.next().unwrap_or((1.0, 1.0));
                    tested_row(metric, p, tests, question.margin, &mut random)
                }
                None => {
                    let words = format!("cannot tell (fewer than {RUNS_MIN} valid runs on a side)");
                    untested_row(metric, Verdict::CannotTell, words)
                }
                Some(ref why) => {
                    let words = format!("not tested ({why})");
                    untested_row(metric, Verdict::NotTested, words)
                }
            })
            .collect();
        Ok(Self {
            base_system: base.system.clone(),
            new_system: new.system.clone(),
            runs,
            invalid: (invalid(base), invalid(new)),
            offered_rate: load.offered(),
            margin: question.margin,
            seed: question.seed,
            resamples: statistics::RESAMPLES,
            confidence: statistics::CONFIDENCE,
            tests,
            warnings: warnings(base, new),
            metrics,
        })
    }

    /// Where it compares, in words.
    pub fn at(&self) -> String {
        at_load(self.offered_rate.map_or(Load::Closed, Load::Offered))
    }

    /// Whether a side has too few runs for any verdict.
    pub fn refused(&self) -> bool {
        self.runs.0.min(self.runs.1) < RUNS_MIN
    }

    /// Whether a metric is worse.
    pub fn regressed(&self) -> bool {
        self.metrics
            .iter()
            .any(|metric| metric.verdict == Verdict::Worse)
    }

    /// Whether a metric that was tested has no answer.
    pub fn inconclusive(&self) -> bool {
        self.metrics
            .iter()
            .any(|metric| metric.verdict == Verdict::CannotTell)
    }
}

fn choose_load(base: &RunSet, new: &RunSet, question: &Question) -> Result<Load, CompareError> {
    let common = summary::common_loads(&[base, new]);
    let Some(wanted) = question.rate else {
        return summary::quoted_load(&[base, new], &[base], question.slo.as_ref()).ok_or_else(
            || CompareError::NoCommonLoad {
                base: show_loads(&base.loads()),
                new: show_loads(&new.loads()),
            },
        );
    };
    let found = common.iter().find(|load| load.same(Load::Offered(wanted)));
    found.copied().ok_or_else(|| CompareError::NoSuchRate {
        wanted: units::rate(wanted),
        found: show_loads(&common),
    })
}

/// A load in words.
pub fn show_load(load: Load) -> String {
    match load {
        Load::Offered(rate) => format!("{} offered", units::rate(rate)),
        Load::Closed => "closed loop".to_owned(),
    }
}

/// Where something was measured, in words.
pub fn at_load(load: Load) -> String {
    match load {
        Load::Offered(rate) => format!("at {} offered", units::rate(rate)),
        Load::Closed => "in a closed loop".to_owned(),
    }
}

/// Loads in words.
pub fn show_loads(loads: &[Load]) -> String {
    match loads.is_empty() {
        true => "none".to_owned(),
        false => loads
            .iter()
            .map(|load| show_load(*load))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Runs of `set` that a verdict may rest on.
fn believable(set: &RunSet) -> usize {
    match set.all_invalid() {
        true => 0,
        false => set.counted().len(),
    }
}

/// Runs of `set` that do not count.
fn invalid(set: &RunSet) -> usize {
    set.runs
        .iter()
        .filter(|run| !run.result.validity.valid)
        .count()
}

fn candidates(base: &RunSet, new: &RunSet, load: Load) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = QUANTILES
        .iter()
        .map(|quantile| latency(base, new, load, *quantile))
        .collect();
    candidates.push(rate(base, new, load));
    candidates.push(used(
        "cpu",
        "µs/operation",
        summary::cpu(base),
        summary::cpu(new),
    ));
    let rss = |set| summary::process(set, |_, used| used.rss_kib as f64);
    candidates.push(used("rss", "KiB", rss(base), rss(new)));
    for candidate in &mut candidates {
        let positive = |values: &[f64]| values.iter().all(|value| *value > 0.0);
        if candidate.left_out.is_none() && !(positive(&candidate.base) && positive(&candidate.new))
        {
            candidate.left_out = Some("a run has the value 0".to_owned());
        }
    }
    candidates
}

fn latency(base: &RunSet, new: &RunSet, load: Load, quantile: f64) -> Candidate {
    let spoken =
        summary::speaks_of(base, load, quantile) && summary::speaks_of(new, load, quantile);
    Candidate {
        name: percentile(quantile),
        unit: "ns",
        more_is_better: false,
        base: base.quantiles(load, quantile),
        new: new.quantiles(load, quantile),
        left_out: (!spoken).then(|| "fewer than ten latencies of a run lie beyond it".to_owned()),
    }
}

fn rate(base: &RunSet, new: &RunSet, load: Load) -> Candidate {
    let (base, new) = (
        base.values(load, Point::achieved),
        new.values(load, Point::achieved),
    );
    let planned = |offered: f64| {
        let mut all = base.iter().chain(&new);
        all.all(|rate| (rate / offered - 1.0).abs() <= AS_OFFERED)
    };
    let left_out = match load {
        Load::Offered(offered) if planned(offered) => Some("as offered on both sides".to_owned()),
        _ => None,
    };
    Candidate {
        name: "rate".to_owned(),
        unit: "operations/s",
        more_is_better: true,
        base,
        new,
        left_out,
    }
}

/// A metric of the process under test.
fn used(
    name: &str,
    unit: &'static str,
    base: Option<Vec<f64>>,
    new: Option<Vec<f64>>,
) -> Candidate {
    let left_out =
        (base.is_none() || new.is_none()).then(|| "not measured in every run".to_owned());
    Candidate {
        name: name.to_owned(),
        unit,
        more_is_better: false,
        base: base.unwrap_or_default(),
        new: new.unwrap_or_default(),
        left_out,
    }
}

fn untested_row(metric: Candidate, verdict: Verdict, words: String) -> MetricRow {
    MetricRow {
        ratio: statistics::ratio(&metric.base, &metric.new),
        interval: None,
        p: None,
        p_adjusted: None,
        verdict,
        words,
        name: metric.name,
        unit: metric.unit,
        more_is_better: metric.more_is_better,
        base: metric.base,
        new: metric.new,
    }
}

fn tested_row(
    metric: Candidate,
    p: (f64, f64),
    tests: usize,
    margin: f64,
    random: &mut Random,
) -> MetricRow {
    let ratio = statistics::ratio(&metric.base, &metric.new).unwrap_or(1.0);
    let interval = statistics::ratio_interval(&metric.base, &metric.new, random);
    let verdict = judge(ratio, interval, p.1, margin, metric.more_is_better);
    let words = match verdict {
        Verdict::Same => format!("same within ±{}", units::percent(margin, 2)),
        Verdict::CannotTell => {
            let needed = statistics::runs_needed(&metric.base, &metric.new, margin, tests);
            needed.map_or(
                "cannot tell (needs more than 1000 runs)".to_owned(),
                |runs| format!("cannot tell (needs ~{runs} runs)"),
            )
        }
        _ => change_word(&metric.name, ratio).to_owned(),
    };
    MetricRow {
        interval: interval.map(|interval| (interval.low, interval.high)),
        p: Some(p.0),
        p_adjusted: Some(p.1),
        ratio: Some(ratio),
        ..untested_row(metric, verdict, words)
    }
}

/// A difference counts when the test sees it after its correction, the interval leaves out 1, and the
/// interval is not all within the margin.
fn judge(
    ratio: f64,
    interval: Option<Interval>,
    p: f64,
    margin: f64,
    more_is_better: bool,
) -> Verdict {
    let Some(interval) = interval else {
        return Verdict::CannotTell;
    };
    // The same distance either way: a ratio and its inverse are one change.
    if interval.low >= 1.0 / (1.0 + margin) && interval.high <= 1.0 + margin {
        return Verdict::Same;
    }
    match (
        p < statistics::SIGNIFICANCE && !interval.holds(1.0),
        (ratio > 1.0) == more_is_better,
    ) {
        (false, _) => Verdict::CannotTell,
        (true, true) => Verdict::Better,
        (true, false) => Verdict::Worse,
    }
}

fn change_word(name: &str, ratio: f64) -> &'static str {
    match (name, ratio > 1.0) {
        ("rate", true) => "faster",
        ("rate", false) => "slower",
        ("cpu" | "rss", true) => "more",
        ("cpu" | "rss", false) => "less",
        (_, true) => "slower",
        (_, false) => "faster",
    }
}

fn warnings(base: &RunSet, new: &RunSet) -> Vec<String> {
    let mut warnings = Vec::new();
    for (side, set) in [("base", base), ("new", new)] {
        let (count, bad) = (believable(set), invalid(set));
        if set.all_invalid() {
            warnings.push(format!(
                "every run of {side} is invalid: its figures must not be quoted"
            ));
        } else if bad > 0 {
            warnings.push(format!(
                "{bad} of {} runs of {side} are invalid and left out",
                set.runs.len()
            ));
        }
        if count < RUNS_MIN {
            warnings.push(format!(
                "{side} has {count} of at least {RUNS_MIN} valid runs: no verdict"
            ));
        } else if count < RUNS_WANTED {
            warnings.push(format!(
                "{side} has {count} runs; {RUNS_WANTED} or more are wanted"
            ));
        }
    }
    let runs = || base.counted().into_iter().chain(new.counted());
    let differs = |same: &dyn Fn(&crate::load::report::input::Run) -> String| {
        let mut values: Vec<String> = runs().map(same).collect();
        values.sort();
        values.dedup();
        values.len() > 1
    };
    if differs(&|run| run.result.scenario.clone()) {
        warnings.push("the runs have different scenarios".to_owned());
    }
    if differs(&|run| format!("{:?}", run.result.machine)) {
        warnings.push(
            "the runs are of different machines, or of one whose settings changed".to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_the_test_the_interval_and_more_than_the_margin() {
        let check = |ratio, low, high, p, more_is_better, expect| {
            let found = judge(ratio, Some(Interval { low, high }), p, 0.05, more_is_better);
            assert_eq!(found, expect, "{ratio} [{low}, {high}] p {p}");
        };
        check(1.2, 1.1, 1.3, 0.01, false, Verdict::Worse);
        check(1.2, 1.1, 1.3, 0.01, true, Verdict::Better);
        check(0.8, 0.7, 0.9, 0.01, false, Verdict::Better);
        check(0.8, 0.7, 0.9, 0.01, true, Verdict::Worse);
        check(1.2, 1.1, 1.3, 0.06, false, Verdict::CannotTell);
        check(1.2, 0.99, 1.3, 0.01, false, Verdict::CannotTell);
        check(1.02, 1.01, 1.03, 0.01, false, Verdict::Same);
        check(1.0, 0.97, 1.03, 0.9, false, Verdict::Same);
        check(1.0, 0.90, 1.03, 0.9, false, Verdict::CannotTell);
        assert_eq!(judge(2.0, None, 0.0, 0.05, false), Verdict::CannotTell);
    }
}
