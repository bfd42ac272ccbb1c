//! When to try an endpoint again after a connect that failed.

use std::time::Duration;

use crate::base::{
    clock::{Deadline, Now},
    prng::Prng,
};

/// Exponential back-off with jitter, one per endpoint and core.
///
/// The wait after the n-th failure in a row is between half and all of `first * 2^(n-1)`, at most
/// `longest`, so that cores and nodes do not return to a restarted server in step. After the wait
/// one attempt at a time is made until one succeeds.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    until: Deadline,
}

impl Backoff {
    /// No failure yet. `first` is the longest wait after one failure, `longest` after many.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            until: Deadline(0),
        }
    }

    /// A connect failed. Failures of attempts that ran side by side count once: a failure inside
    /// the wait changes nothing.
    pub fn on_failure(&mut self, now: Now, prng: &mut Prng) {
        if self.failures > 0 && !self.until.is_over(now) {
            return;
        }
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let full = self.first.saturating_mul(doubled).min(self.longest);
        let half = full / 2;
        let spread = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(prng.below(spread.saturating_add(1)));
        self.until = now.plus(half.saturating_add(jitter));
    }

    /// A connect succeeded: the next failure starts from the shortest wait.
    pub fn on_success(&mut self) {
        self.failures = 0;
        self.until = Deadline(0);
    }

    /// Whether a connect may start, when `connecting` attempts are under way.
    pub fn may_try(&self, now: Now, connecting: u32) -> bool {
        self.failures == 0 || (self.until.is_over(now) && connecting == 0)
    }

    /// Whether the endpoint is being left alone at `now`.
    pub fn is_waiting(&self, now: Now) -> bool {
        self.failures > 0 && !self.until.is_over(now)
    }

    /// When the next attempt may start; `None` when nothing failed.
    pub fn retry_at(&self) -> Option<Deadline> {
        (self.failures > 0).then_some(self.until)
    }

    /// Failures in a row, those of one volley counted once.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn waits_double_within_their_jitter_up_to_the_longest() {
        for seed in 0..100 {
            let mut prng = Prng::new(seed);
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1000));
            let mut now = Now(0);
            for full in [100, 200, 400, 800, 1000, 1000, 1000] {
                backoff.on_failure(now, &mut prng);
                let wait = backoff.retry_at().unwrap().0 - now.0;
                assert!(
                    (full / 2 * MS..=full * MS).contains(&wait),
                    "seed {seed}: {wait}"
                );
                assert!(backoff.is_waiting(now) && !backoff.may_try(now, 0));
                now = Now(now.0 + wait);
                assert!(backoff.may_try(now, 0), "one attempt after the wait");
                assert!(!backoff.may_try(now, 1), "and only one");
            }
            backoff.on_success();
            assert!(backoff.may_try(now, 7) && backoff.retry_at().is_none());
        }
    }

    #[test]
    fn a_volley_of_failures_counts_once_and_many_failures_do_not_overflow() {
        let mut prng = Prng::new(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for _ in 0..50 {
            backoff.on_failure(Now(0), &mut prng);
        }
        assert_eq!(backoff.failures(), 1);
        for n in 1..200 {
            backoff.on_failure(Now(n * 10_000 * MS), &mut prng);
            assert!(backoff.is_waiting(Now(n * 10_000 * MS)));
        }
        let wait = backoff.retry_at().unwrap().0 - 199 * 10_000 * MS;
        assert!(wait <= 5_000 * MS);
    }
}
