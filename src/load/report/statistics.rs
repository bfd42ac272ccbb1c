//! The statistics of reports: every value stands for one whole run, never for one request.
//!
//! Requests of one run share its warm caches, its process and its minute on the machine, so they are
//! no independent samples; runs are.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The share of repetitions in which an interval holds the true value.
pub const CONFIDENCE: f64 = 0.95;

/// Below this an adjusted p counts as a difference.
pub const SIGNIFICANCE: f64 = 1.0 - CONFIDENCE;

/// How often a bootstrap draws.
pub const RESAMPLES: usize = 20_000;

/// Up to this many runs of both sides together the distribution of ranks is counted out.
const EXACT_MAX: usize = 50;

/// The chance wanted to see a difference that exists, where a number of runs is proposed.
const POWER: f64 = 0.80;

/// Runs beyond this are not worth proposing.
const RUNS_MAX: usize = 1000;

/// Two ends, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies between the ends.
    pub fn holds(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A small generator of random numbers (SplitMix64, Steele and others 2014). Its own, because a seed
/// printed today must give the same intervals in every later version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `values`, each as likely; 0 when there is none.
    fn pick(&mut self, values: &[f64]) -> f64 {
        // The high half of a product is even enough: the bias is below 2^-32 for any number of runs.
        let wide = u128::from(self.next()) * values.len() as u128;
        let index = usize::try_from(wide >> 64).unwrap_or(0);
        values.get(index).copied().unwrap_or(0.0)
    }
}

/// The mean; 0 when empty.
pub fn mean(values: &[f64]) -> f64 {
    match values.len() {
        0 => 0.0,
        count => values.iter().sum::<f64>() / count as f64,
    }
}

/// The median: the middle value, or the mean of the two; `None` when empty.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The least and the greatest; `None` when empty.
pub fn range(values: &[f64]) -> Option<Interval> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some(Interval { low, high })
}

/// The bootstrap interval of `mean(a) - mean(b)`; `None` when a side has fewer than two values.
///
/// Both sides are drawn again with replacement. With few values the plain percentiles of such draws
/// are too narrow, so they are widened as Hesterberg (2015, "What Teachers Should Know About the
/// Bootstrap", section 5.3) does: by the t distribution and the factor sqrt(n / (n - 1)), with n the
/// smaller side.
pub fn difference_interval(a: &[f64], b: &[f64], random: &mut Random) -> Option<Interval> {
    let smaller = a.len().min(b.len());
    if smaller < 2 {
        return None;
    }
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut draw = |side: &[f64]| {
                let sum: f64 = side.iter().map(|_| random.pick(side)).sum();
                sum / side.len() as f64
            };
            draw(a) - draw(b)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let tail = widened_tail(smaller);
    let at = |share: f64| {
        let index = (share * (RESAMPLES - 1) as f64).round() as usize;
        drawn.get(index).copied().unwrap_or(0.0)
    };
    Some(Interval {
        low: at(tail),
        high: at(1.0 - tail),
    })
}

/// The share of draws to leave out on each side for `count` values.
fn widened_tail(count: usize) -> f64 {
    let n = count as f64;
    let t = student_quantile(n - 1.0);
    normal().cdf(-(n / (n - 1.0)).sqrt() * t)
}

/// The bootstrap interval of the ratio of the geometric means, `new` over `base`; `None` when a side
/// has fewer than two values or one that is not above 0.
pub fn ratio_interval(base: &[f64], new: &[f64], random: &mut Random) -> Option<Interval> {
    let (base, new) = (logarithms(base)?, logarithms(new)?);
    let log = difference_interval(&new, &base, random)?;
    Some(Interval {
        low: log.low.exp(),
        high: log.high.exp(),
    })
}

/// The ratio of the geometric means, `new` over `base`; `None` as in [`ratio_interval`].
pub fn ratio(base: &[f64], new: &[f64]) -> Option<f64> {
    let (base, new) = (logarithms(base)?, logarithms(new)?);
    match base.is_empty() || new.is_empty() {
        true => None,
        false => Some((mean(&new) - mean(&base)).exp()),
    }
}

/// The geometric mean; `None` when empty or where a value is not above 0.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs = logarithms(values)?;
    (!logs.is_empty()).then(|| mean(&logs).exp())
}

fn logarithms(values: &[f64]) -> Option<Vec<f64>> {
    let log = |value: &f64| (*value > 0.0 && value.is_finite()).then(|| value.ln());
    values.iter().map(log).collect()
}

/// The two-sided p of the Mann-Whitney test that `a` and `b` come from one distribution; 1 when a side
/// is empty.
///
/// Up to 50 values the distribution of the rank sum is counted out over all ways to deal the ranks
/// that are there, ties with their middle ranks; p is twice the smaller tail. Beyond, the normal
/// approximation with the corrections for ties and for continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(a, b);
    match ranks.len() <= EXACT_MAX {
        true => exact_p(&ranks, a.len()),
        false => approximate_p(&ranks, a.len()),
    }
}

/// Twice the middle rank of each value of `a`, then of `b`: whole numbers even with ties.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    all.iter()
        .map(|value| {
            let less = all.iter().filter(|other| *other < value).count();
            let equal = all.iter().filter(|other| *other == value).count();
            2 * less + equal + 1
        })
        .collect()
}

/// Counts the ways to deal `chosen` of the ranks by their sum.
fn exact_p(ranks: &[usize], chosen: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // ways[k][s]: ways to choose k ranks with the sum s. At most C(50, 25) < 2^47: exact in f64.
    let mut ways = vec![vec![0.0_f64; total + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for (seen, rank) in ranks.iter().enumerate() {
        for k in (1..=chosen.min(seen + 1)).rev() {
            for sum in (*rank..=total).rev() {
                ways[k][sum] += ways[k - 1][sum - rank];
            }
        }
    }
    let observed: usize = ranks.iter().take(chosen).sum();
    let dealt = &ways[chosen];
    let all: f64 = dealt.iter().sum();
    let at_most: f64 = dealt.iter().take(observed + 1).sum();
    let at_least: f64 = dealt.iter().skip(observed).sum();
    (2.0 * at_most.min(at_least) / all).min(1.0)
}

fn approximate_p(ranks: &[usize], chosen: usize) -> f64 {
    let (n, m) = (chosen as f64, (ranks.len() - chosen) as f64);
    let count = n + m;
    let sum = ranks.iter().take(chosen).sum::<usize>() as f64 / 2.0;
    let u = sum - n * (n + 1.0) / 2.0;
    // Every member of a tie of t values adds t^2 - 1, so the tie adds t^3 - t.
    let ties: f64 = ranks
        .iter()
        .map(|rank| ranks.iter().filter(|other| *other == rank).count() as f64)
        .map(|t| t * t - 1.0)
        .sum();
    let variance = n * m / 12.0 * (count + 1.0 - ties / (count * (count - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let off = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    (2.0 * normal().sf(off / variance.sqrt())).min(1.0)
}

/// The least p that [`mann_whitney`] can give for sides of `n` and `m` values without ties.
pub fn least_p(n: usize, m: usize) -> f64 {
    // 2 / C(n + m, n), multiplied out.
    let ways = (1..=n).fold(1.0, |ways, k| ways * (m + k) as f64 / k as f64);
    (2.0 / ways).min(1.0)
}

/// Holm's step-down correction (1979): the adjusted p of each test, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut floor = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        let left = (p.len() - rank) as f64;
        floor = floor.max(p[index] * left).min(1.0);
        adjusted[index] = floor;
    }
    adjusted
}

/// About how many runs a side would settle the matter: show the difference seen, or show that the
/// ratio is within `1 ± margin`, whichever is cheaper. `None` beyond 1000.
///
/// From the spread of the logarithms seen, for a chance of four in five. `tests` is the number of
/// tests that share the correction: fewer runs than it needs for its least p settle nothing.
pub fn runs_needed(base: &[f64], new: &[f64], margin: f64, tests: usize) -> Option<usize> {
    let (base, new) = (logarithms(base)?, logarithms(new)?);
    let difference = (mean(&new) - mean(&base)).abs();
    let spread = variance(&base) + variance(&new);
    let z = normal().inverse_cdf(0.5 + CONFIDENCE / 2.0) + normal().inverse_cdf(POWER);
    let enough = |distance: f64| (z * z * spread / (distance * distance)).ceil().max(2.0);
    let reachable = (2..RUNS_MAX).find(|n| least_p(*n, *n) * tests as f64 <= SIGNIFICANCE)? as f64;
    let shown = enough(difference).max(reachable);
    let room = margin.ln_1p() - difference;
    let same = if room > 0.0 {
        enough(room)
    } else {
        f64::INFINITY
    };
    let more = base.len().min(new.len()) + 1;
    let needed = shown.min(same);
    (needed <= RUNS_MAX as f64).then(|| more.max(needed as usize))
}

/// The variance of what `values` are a sample of; 0 for fewer than two.
fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    squares / (values.len() - 1) as f64
}

fn normal() -> Normal {
    Normal::standard()
}

/// The two-sided quantile of Student's t for [`CONFIDENCE`].
fn student_quantile(freedom: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(student) => student.inverse_cdf(0.5 + CONFIDENCE / 2.0),
        // Only without a degree of freedom, and then there is no interval at all.
        Err(_) => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expect: f64) {
        let off = (found - expect).abs() / expect.abs().max(1e-12);
        assert!(off < 1e-6, "found {found}, expected {expect}");
    }

    /// Sides of `n` values of which exactly `u` pairs are out of order.
    fn with_u(n: usize, mut u: usize) -> (Vec<f64>, Vec<f64>) {
        let mut a: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let b: Vec<f64> = (0..n).map(|i| (100 + i) as f64).collect();
        // Lifting the greatest values of `a` over some of `b` adds as many pairs.
        for value in a.iter_mut().rev() {
            let over = u.min(n);
            *value += 99.5 - *value + over as f64 + *value / 1000.0;
            u -= over;
            if u == 0 {
                break;
            }
        }
        (a, b)
    }

    #[test]
    fn mann_whitney_agrees_with_the_published_tables() {
        let check = |n: usize, u: usize, expect: f64| {
            let (a, b) = with_u(n, u);
            let pairs = a.iter().flat_map(|x| b.iter().filter(move |y| *y < x));
            assert_eq!(pairs.count(), u);
            close(mann_whitney(&a, &b), expect);
            close(mann_whitney(&b, &a), expect);
        };
        // Mann and Whitney 1947, table I, n = m = 5: one-sided .004 .008 .016 .028 .048 .075; here the
        // same to more digits, from scipy 1.17.1 (mannwhitneyu, method="exact").
        check(5, 0, 0.007936507936507936);
        check(5, 1, 0.015873015873015872);
        check(5, 2, 0.031746031746031744);
        check(5, 3, 0.05555555555555555);
        check(5, 4, 0.09523809523809523);
        check(5, 5, 0.15079365079365079);
        // The critical values at 5 %, two-sided, of any textbook: 13 for 8 and 8, 23 for 10 and 10, 127
        // for 20 and 20: the last p below 0.05 and the first above it.
        check(8, 13, 0.049883449883449886);
        check(8, 14, 0.06495726495726496);
        check(10, 23, 0.04325705454497824);
        check(10, 24, 0.05242590227110351);
        check(20, 127, 0.04909032518937244);
        check(20, 128, 0.05239952187284973);
    }

    #[test]
    #[allow(clippy::approx_constant, reason = "a measured 3.14")]
    fn mann_whitney_agrees_with_scipy_for_unequal_sides_and_ties() {
        // The example of scipy's own page.
        let (males, females) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
        close(mann_whitney(&males, &females), 0.1111111111111111);
        // scipy 1.17.1: permutation_test over the rank sum of middle ranks, all ways counted.
        let a = [1.0, 2.0, 2.0, 3.0, 3.0];
        let b = [2.0, 3.0, 4.0, 4.0, 5.0, 5.0];
        close(mann_whitney(&a, &b), 0.06060606060606061);
        let depressed = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        let after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
        close(mann_whitney(&depressed, &after), 0.12990538872891813);
        // All alike: nothing to tell.
        close(mann_whitney(&[7.0; 5], &[7.0; 5]), 1.0);
        close(mann_whitney(&[7.0; 30], &[7.0; 30]), 1.0);
        close(mann_whitney(&[], &[1.0]), 1.0);
    }

    #[test]
    fn mann_whitney_beyond_fifty_values_is_the_corrected_approximation() {
        // scipy 1.17.1: mannwhitneyu(x, y, method="asymptotic"), for numpy.linspace(1, 9, 30) rounded
        // to one digit and 28 of the same times 1.15.
        let a = [
            1.0, 1.3, 1.6, 1.8, 2.1, 2.4, 2.7, 2.9, 3.2, 3.5, 3.8, 4.0, 4.3, 4.6, 4.9, 5.1, 5.4,
            5.7, 6.0, 6.2, 6.5, 6.8, 7.1, 7.3, 7.6, 7.9, 8.2, 8.4, 8.7, 9.0,
        ];
        let b = [
            1.2, 1.5, 1.8, 2.2, 2.5, 2.9, 3.2, 3.5, 3.9, 4.2, 4.6, 4.9, 5.2, 5.6, 5.9, 6.3, 6.6,
            6.9, 7.3, 7.6, 8.0, 8.3, 8.6, 9.0, 9.3, 9.7, 10.0, 10.4,
        ];
        close(mann_whitney(&a, &b), 0.30435522271228876);
    }

    #[test]
    fn the_least_p_is_that_of_sides_fully_apart() {
        for n in 2..8 {
            let (a, b) = with_u(n, 0);
            close(least_p(n, n), mann_whitney(&a, &b));
        }
        close(least_p(3, 3), 0.1);
        close(least_p(5, 5), 2.0 / 252.0);
    }

    #[test]
    fn holm_agrees_with_worked_examples() {
        let check = |p: &[f64], expect: &[f64]| {
            for (found, expect) in holm(p).into_iter().zip(expect) {
                close(found, *expect);
            }
        };
        // The example of Wikipedia's page on the method; R: p.adjust(c(.01,.04,.03,.005), "holm").
        check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        check(&[0.04], &[0.04]);
        check(&[0.6, 0.5], &[1.0, 1.0]);
        // Never lower than the one before it.
        check(&[0.01, 0.011, 0.012], &[0.03, 0.03, 0.03]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn intervals_are_widened_for_few_runs() {
        // scipy 1.17.1: norm.cdf(-sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)).
        close(widened_tail(5), 0.0009541005518824907);
        close(widened_tail(10), 0.008550639024406366);
        let few = [10.0, 11.0, 12.0, 13.0, 14.0];
        let wide = difference_interval(&few, &[10.0; 5], &mut Random::new(1)).unwrap();
        // Student's interval of the mean is 2 ± 1.96; the bootstrap's is of that kind.
        assert!((wide.low - 0.04).abs() < 0.4, "{wide:?}");
        assert!((wide.high - 3.96).abs() < 0.4, "{wide:?}");
        assert_eq!(difference_interval(&few, &[1.0], &mut Random::new(1)), None);
    }

    #[test]
    fn an_interval_is_the_same_for_the_same_seed() {
        let (a, b) = ([1.0, 1.2, 1.1, 1.4, 1.3], [2.0, 2.3, 2.1, 2.5, 2.2]);
        let draw = |seed| ratio_interval(&a, &b, &mut Random::new(seed)).unwrap();
        assert_eq!(draw(7), draw(7));
        assert!(draw(7).holds(ratio(&a, &b).unwrap()));
        assert_eq!(ratio_interval(&[0.0, 1.0], &b, &mut Random::new(7)), None);
        assert_eq!(ratio(&[], &b), None);
    }

    #[test]
    fn more_runs_are_proposed_for_more_noise_and_never_fewer_than_the_correction_needs() {
        let quiet = [100.0, 101.0, 99.0, 100.5, 99.5];
        let noisy = [100.0, 150.0, 70.0, 120.0, 85.0];
        let few = runs_needed(&quiet, &quiet, 0.05, 7).unwrap();
        let many = runs_needed(&noisy, &noisy, 0.05, 7).unwrap();
        assert!(few == 6 && many > 100, "{few} {many}");
        let apart = [200.0, 201.0, 199.0, 200.5, 199.5];
        assert_eq!(runs_needed(&quiet[..3], &apart[..3], 0.05, 7), Some(6));
        assert!(runs_needed(&quiet, &noisy, 0.0001, 7).is_none_or(|runs| runs > 100));
    }

    #[test]
    fn medians_and_ranges() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(
            range(&[3.0, 1.0]),
            Some(Interval {
                low: 1.0,
                high: 3.0
            })
        );
    }
}
