//! Service level objectives: what a caller may demand of latencies, and the rate up to which a system
//! keeps it, the *knee*.

use crate::load::histogram::Latencies;
use crate::load::result::{GroupResult, Step};

use super::input::{Load, Point, RunSet};
use super::units;

/// The share of operations that may fail where an objective does not say it.
const ERRORS_DEFAULT: f64 = 0.001;

const EXAMPLE: &str = "write it like \"p99=2ms\" or \"p99=2ms,p99.9=10ms,errors=0.001\"";

/// Limits that hold together.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Latencies: quantile from 0 to 1, and the longest response in nanoseconds at it.
    pub limits: Vec<(f64, f64)>,
    /// The share of operations that may fail.
    pub errors: f64,
}

impl Slo {
    /// Reads `p99=2ms,p999=10ms,errors=0.001`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut slo = Self {
            limits: Vec::new(),
            errors: ERRORS_DEFAULT,
        };
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{}` has no `=`: {EXAMPLE}", part.trim()))?;
            slo.add(name.trim(), value.trim())?;
        }
        slo.limits.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(slo)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name == "errors" {
            let share = value
                .parse()
                .ok()
                .filter(|share| (0.0..=1.0).contains(share));
            self.errors = share
                .ok_or_else(|| format!("`errors={value}` is no share from 0 to 1: {EXAMPLE}"))?;
            return Ok(());
        }
        let quantile =
            parse_quantile(name).ok_or_else(|| format!("`{name}` is no percentile: {EXAMPLE}"))?;
        let limit = parse_nanos(value)
            .ok_or_else(|| format!("`{value}` is no length of time: {EXAMPLE}"))?;
        if self.limits.iter().any(|(known, _)| *known == quantile) {
            return Err(format!("`{name}` is there twice: {EXAMPLE}"));
        }
        self.limits.push((quantile, limit));
        Ok(())
    }

    /// Whether what a run did at one load keeps all limits.
    pub fn kept(&self, point: &Point) -> bool {
        !point.is_overloaded() && self.holds(&point.response, point.failed_share())
    }

    /// Whether these response times keep all limits, where the share `failed` of operations failed.
    pub fn holds(&self, response: &Latencies, failed: f64) -> bool {
        let within = |(quantile, limit): &(f64, f64)| response.quantile(*quantile) as f64 <= *limit;
        self.limits.iter().all(within) && failed <= self.errors
    }

    /// Whether a step keeps all limits, its groups together.
    pub fn kept_in(&self, step: &Step) -> bool {
        let (response, failed) = outcome(&step.groups);
        !step.overloaded && self.holds(&response, failed)
    }

    /// Whether every run that counts keeps it at `load`.
    pub fn kept_by_all(&self, set: &RunSet, load: Load) -> bool {
        set.at(load).into_iter().all(|point| self.kept(point))
    }

    /// How far `set` keeps it.
    pub fn knee(&self, set: &RunSet) -> Knee {
        let mut knee = Knee::default();
        for load in set.loads() {
            let Load::Offered(rate) = load else { continue };
            if self.kept_by_all(set, load) {
                knee.kept = Some(rate);
            } else {
                knee.broken = Some(rate);
                break;
            }
        }
        knee
    }
}

/// All response times of these groups, and the share of their operations that did not end with a right answer.
pub fn outcome<'a>(groups: impl IntoIterator<Item = &'a GroupResult>) -> (Latencies, f64) {
    let mut response = Latencies::new();
    let (mut planned, mut right) = (0, 0);
    for group in groups {
        // A histogram that cannot be read is refused where a file is read.
        if let Ok(latencies) = group.response.latencies() {
            response.merge(&latencies);
        }
        planned += group.planned.saturating_sub(group.withdrawn);
        right += group.completed.saturating_sub(group.wrong);
    }
    let failed = 1.0 - right as f64 / planned.max(1) as f64;
    (response, failed.max(0.0))
}

impl std::fmt::Display for Slo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (quantile, limit) in &self.limits {
            write!(
                f,
                "{} ≤ {}, ",
                percentile(*quantile),
                units::duration(*limit)
            )?;
        }
        write!(f, "failures ≤ {}", units::percent(self.errors, 3))
    }
}

/// How far an objective is kept, by offered rates that were tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Knee {
    /// The highest rate at which, and below which, every run kept it.
    pub kept: Option<f64>,
    /// The lowest rate at which a run broke it.
    pub broken: Option<f64>,
}

/// `p50`, `p99.9`.
pub fn percentile(quantile: f64) -> String {
    format!("p{}", units::percent(quantile, 4).trim_end_matches(" %"))
}

/// `p99`, `p99.9` and `p999` alike: without a point the digits after the second are decimals.
fn parse_quantile(name: &str) -> Option<f64> {
    let digits = name.strip_prefix('p')?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let percent: f64 = match (digits.contains('.'), digits.split_at_checked(2)) {
        (false, Some((whole, decimals))) if digits != "100" => {
            format!("{whole}.{decimals}").parse().ok()?
        }
        _ => digits.parse().ok()?,
    };
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// A length of time with its unit, in nanoseconds.
/// A length of time above 0, in nanoseconds; `None` when it is none.
pub(crate) fn parse_nanos(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
    let factor = match text.get(number.len()..)?.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3_600e9,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    (value > 0.0).then_some(value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_as_written() {
        let check = |text: &str, expect: &str| {
            let found = match Slo::parse(text) {
                Ok(slo) => slo.to_string(),
                Err(error) => error,
            };
            assert!(found.starts_with(expect), "{text}: {found}");
        };
        check("p99=2ms", "p99 ≤ 2.00 ms, failures ≤ 0.1 %");
        check("p99.9=10ms, p50=300us", "p50 ≤ 300 µs, p99.9 ≤ 10.0 ms");
        check("p999=1s,errors=0", "p99.9 ≤ 1.00 s, failures ≤ 0 %");
        check("p100=1s", "p100 ≤ 1.00 s");
        check("p5=10ns", "p5 ≤ 10.0 ns");
        check("p99", "`p99` has no `=`: write it like");
        check("q99=2ms", "`q99` is no percentile");
        check("p99=2", "`2` is no length of time");
        check("p99=0ms", "`0ms` is no length of time");
        check("errors=2", "`errors=2` is no share");
        check("p50=1h", "p50 ≤ 3600 s, ");
        check("p99=2ms,p99=3ms", "`p99` is there twice");
    }
}
