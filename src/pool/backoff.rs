//! When to try an endpoint again after a connect that failed.

use std::time::Duration;

use crate::base::{
    clock::{Deadline, Now},
    prng::Prng,
};

/// Losses in a row after which an endpoint is taken for down as if it had refused.
const LOSSES_MAX: u32 = 3;

/// What a failed connect says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is down, or lets nobody in: it has said so, or nobody answers.
    Down,
    /// One connection was lost, which may be that connection's alone.
    Lost,
}

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
    is_down: bool,
}

impl Backoff {
    /// No failure yet. `first` is the longest wait after one failure, `longest` after many.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            until: Deadline(0),
            is_down: false,
        }
    }

    /// A connect failed. Failures of attempts that ran side by side count once: a failure inside
    /// the wait changes nothing.
    pub fn on_failure(&mut self, sign: Sign, now: Now, prng: &mut Prng) {
        self.is_down |= sign == Sign::Down;
        if self.is_waiting(now) {
            return;
        }
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.is_down |= self.failures >= LOSSES_MAX;
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
        self.is_down = false;
    }

    /// Whether a connect may start, when `connecting` attempts are under way.
    pub fn may_try(&self, now: Now, connecting: u32) -> bool {
        self.failures == 0 || (self.until.is_over(now) && connecting == 0)
    }

    /// Whether the endpoint is being left alone at `now`.
    pub fn is_waiting(&self, now: Now) -> bool {
        self.failures > 0 && !self.until.is_over(now)
    }

    /// Whether the endpoint is being left alone at `now` and nobody need wait for the next attempt. One
    /// lost connection does not say that.
    pub fn is_given_up(&self, now: Now) -> bool {
        self.is_down && self.is_waiting(now)
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
                backoff.on_failure(Sign::Down, now, &mut prng);
                let wait = backoff.until.0 - now.0;
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
            assert!(backoff.may_try(now, 7) && backoff.failures() == 0);
        }
    }

    #[test]
    fn a_volley_of_failures_counts_once_and_many_failures_do_not_overflow() {
        let mut prng = Prng::new(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for _ in 0..50 {
            backoff.on_failure(Sign::Down, Now(0), &mut prng);
        }
        assert_eq!(backoff.failures(), 1);
        for n in 1..200 {
            backoff.on_failure(Sign::Down, Now(n * 10_000 * MS), &mut prng);
            assert!(backoff.is_waiting(Now(n * 10_000 * MS)));
        }
        let wait = backoff.until.0 - 199 * 10_000 * MS;
        assert!(wait <= 5_000 * MS);
    }
    #[test]
    fn an_endpoint_is_given_up_after_a_refusal_or_losses_in_a_row() {
        let mut prng = Prng::new(1);
        let check = |signs: &[Sign], expect: bool, prng: &mut Prng| {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
            let mut now = Now(0);
            for sign in signs {
                now = Now(now.0 + 1_000 * MS);
                backoff.on_failure(*sign, now, prng);
                assert!(backoff.is_waiting(now));
            }
            assert_eq!(backoff.is_given_up(now), expect, "{signs:?}");
            now = Now(now.0 + 1_000 * MS);
            assert!(!backoff.is_given_up(now), "{signs:?}: tried again");
            backoff.on_success();
            backoff.on_failure(Sign::Lost, now, prng);
            assert!(!backoff.is_given_up(now), "{signs:?}: forgotten");
            backoff.on_failure(Sign::Down, now, prng);
            assert!(backoff.is_given_up(now), "{signs:?}: of the same volley");
        };
        check(&[Sign::Lost], false, &mut prng);
        check(&[Sign::Lost, Sign::Lost], false, &mut prng);
        check(&[Sign::Lost, Sign::Lost, Sign::Lost], true, &mut prng);
        check(&[Sign::Down], true, &mut prng);
        check(&[Sign::Lost, Sign::Down], true, &mut prng);
    }
}
