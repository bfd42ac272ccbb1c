//! Intended starts: a plan of rates becomes instants, core by core, without a clock.
//!
//! Every core works out its own share from the plan alone: arrival number k belongs to core
//! k mod n, so that together they make the rate and never fire at once.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_distr::Exp1;

use super::scenario::{Arrivals, Scenario};

/// The highest rate, in operations per second: more than any machine makes.
pub const RATE_MAX: u64 = 10_000_000;

/// Slices in which a ramp is reported.
const RAMP_SLICES: u32 = 10;

/// A stretch of time with one law of arrivals.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// How operations arrive.
    pub law: Law,
    /// Its beginning, in nanoseconds after the run's.
    pub began: u64,
    /// Its length in nanoseconds.
    pub length: u64,
    /// Whether it counts; warm-ups do not.
    pub counts: bool,
    /// Whether a step begins with it: what waits then belongs to the one before.
    pub begins_step: bool,
}

impl Stretch {
    /// Its end, in nanoseconds after the run's beginning.
    pub fn end(&self) -> u64 {
        self.began.saturating_add(self.length)
    }
}

/// How operations arrive; rates in operations per second, over all cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// When a connection has its answer.
    Closed,
    /// Evenly.
    Constant(f64),
    /// With exponential gaps.
    Poisson(f64),
    /// From the first rate to the second, evenly.
    Ramp(f64, f64),
}

impl Law {
    /// The rate offered on average; `None` in a closed loop.
    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Constant(rate) | Self::Poisson(rate) => Some(rate),
            Self::Ramp(from, to) => Some(f64::midpoint(from, to)),
        }
    }
}

/// The stretches of a scenario, in order and without gaps.
pub fn plan(scenario: &Scenario) -> Vec<Stretch> {
    let mut plan = Plan::default();
    let (warmup, duration) = (scenario.warmup, scenario.duration);
    match &scenario.arrivals {
        Arrivals::Closed { .. } | Arrivals::Max => plan.measured(Law::Closed, warmup, duration),
        Arrivals::Constant { rate } => plan.measured(Law::Constant(*rate), warmup, duration),
        Arrivals::Poisson { rate } => plan.measured(Law::Poisson(*rate), warmup, duration),
        Arrivals::Ramp { from, to } => {
            plan.add(Law::Constant(*from), warmup, false);
            let slope = (to - from) / f64::from(RAMP_SLICES);
            for slice in 0..RAMP_SLICES {
                let begin = from + slope * f64::from(slice);
                plan.add(
                    Law::Ramp(begin, begin + slope),
                    duration / RAMP_SLICES,
                    true,
                );
            }
        }
        Arrivals::Steps {
            rates,
            is_poisson,
            shuffled,
        } => {
            let mut rates = rates.clone();
            if *shuffled {
                rates.shuffle(&mut SmallRng::seed_from_u64(scenario.seed));
            }
            for rate in rates {
                let law = match is_poisson {
                    true => Law::Poisson(rate),
                    false => Law::Constant(rate),
                };
                plan.measured(law, warmup, duration);
            }
        }
    }
    plan.stretches
}

#[derive(Default)]
struct Plan {
    stretches: Vec<Stretch>,
    /// The next stretch begins a step.
    begins_step: bool,
}

impl Plan {
    fn add(&mut self, law: Law, length: Duration, counts: bool) {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        if length == 0 {
            return;
        }
        let began = self.stretches.last().map_or(0, Stretch::end);
        self.stretches.push(Stretch {
            law,
            began,
            length,
            counts,
            begins_step: std::mem::take(&mut self.begins_step),
        });
    }

    fn measured(&mut self, law: Law, warmup: Duration, duration: Duration) {
        self.begins_step = true;
        self.add(law, warmup, false);
        self.add(law, duration, true);
    }
}

/// One arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its intended start, in nanoseconds after the run's beginning.
    pub at: u64,
    /// The stretch it belongs to.
    pub stretch: usize,
}

/// One core's arrivals, ascending.
pub struct Schedule {
    plan: Vec<Stretch>,
    core: u32,
    cores: u32,
    stretch: usize,
    /// Arrivals of this core in the current stretch so far.
    index: u64,
    /// Of the last one, after the stretch's beginning; for exponential gaps.
    last: f64,
    random: SmallRng,
}

const SECOND: f64 = 1e9;

impl Schedule {
    /// The arrivals of the core `core` of `cores`, counted from 0.
    pub fn new(plan: Vec<Stretch>, core: u32, cores: u32, seed: u64) -> Self {
        let mut mixed = crate::base::prng::Prng::new(seed ^ (u64::from(core) << 40));
        Self {
            plan,
            core,
            cores: cores.max(1),
            stretch: 0,
            index: 0,
            last: 0.0,
            random: SmallRng::seed_from_u64(mixed.next_u64()),
        }
    }

    /// Nanoseconds after the stretch's beginning of the core's next arrival in it.
    fn offset(&mut self, law: Law, length: u64) -> Option<f64> {
        let number = (self.index * u64::from(self.cores) + u64::from(self.core)) as f64;
        match law {
            Law::Closed => None,
            Law::Constant(rate) => (rate > 0.0).then(|| number / rate * SECOND),
            Law::Poisson(rate) => {
                if rate <= 0.0 {
                    return None;
                }
                let gap: f64 = self.random.sample(Exp1);
                self.last += gap * f64::from(self.cores) / rate * SECOND;
                Some(self.last)
            }
            Law::Ramp(from, to) => {
                // After t seconds there were from·t + slope·t²/2 arrivals; solved for t.
                let slope = (to - from) / (length as f64 / SECOND);
                let under = from * from + 2.0 * slope * number;
                if slope == 0.0 {
                    return (from > 0.0).then(|| number / from * SECOND);
                }
                (under >= 0.0).then(|| (under.sqrt() - from) / slope * SECOND)
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let stretch = self.plan.get(self.stretch)?;
            let (law, began, length) = (stretch.law, stretch.began, stretch.length);
            let offset = self.offset(law, length).filter(|at| *at < length as f64);
            if let Some(offset) = offset {
                self.index += 1;
                return Some(Arrival {
                    at: began.saturating_add(offset as u64),
                    stretch: self.stretch,
                });
            }
            self.stretch += 1;
            self.index = 0;
            self.last = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(law: Law, seconds: u64, core: u32, cores: u32) -> Vec<u64> {
        let plan = vec![Stretch {
            law,
            began: 0,
            length: seconds * 1_000_000_000,
            counts: true,
            begins_step: true,
        }];
        Schedule::new(plan, core, cores, 7).map(|a| a.at).collect()
    }

    #[test]
    fn cores_together_make_an_even_rate() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|core| arrivals(Law::Constant(1000.0), 2, core, 3))
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 2000);
        assert!(
            all.windows(2)
                .all(|pair| (pair[1] - pair[0]).abs_diff(1_000_000) <= 1)
        );
    }

    #[test]
    fn a_ramp_has_as_many_arrivals_as_its_mean_rate_and_ends_denser() {
        let all = arrivals(Law::Ramp(100.0, 300.0), 10, 0, 1);
        assert_eq!(all.len(), 2000);
        let first = all.iter().filter(|at| **at < 1_000_000_000).count();
        let last = all.iter().filter(|at| **at >= 9_000_000_000).count();
        assert!(
            (108..=112).contains(&first) && (288..=292).contains(&last),
            "{first} {last}"
        );
        assert!(all.is_sorted());
        assert_eq!(arrivals(Law::Ramp(300.0, 100.0), 10, 0, 1).len(), 2000);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let all = arrivals(Law::Poisson(10_000.0), 10, 0, 1);
        let count = all.len() as f64;
        assert!((count / 100_000.0 - 1.0).abs() < 0.02, "{count}");
        let gaps: Vec<f64> = all
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        // e^-1 of exponential gaps are longer than the mean.
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn a_plan_has_no_gaps_and_shuffles_by_its_seed() {
        let scenario = |seed| Scenario {
            seed,
            cores: 1,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            arrivals: Arrivals::Steps {
                rates: (1..=20).map(f64::from).collect(),
                is_poisson: false,
                shuffled: true,
            },
            groups: Vec::new(),
            verify: false,
            slo: None,
        };
        let stretches = plan(&scenario(1));
        assert_eq!(stretches.len(), 40);
        assert!(
            stretches
                .windows(2)
                .all(|pair| pair[0].end() == pair[1].began)
        );
        let rates =
            |seed| -> Vec<_> { plan(&scenario(seed)).iter().map(|s| s.law.rate()).collect() };
        assert_eq!(rates(1), rates(1));
        assert_ne!(rates(1), rates(2));
    }
}
