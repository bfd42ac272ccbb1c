//! Instants on the monotonic clock. Only `net` and `control` read the clock; everything else is told.

use std::time::Duration;

/// Nanoseconds since the process started, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u64);

impl Now {
    /// The instant `after` this one; saturates at [`Deadline::NEVER`].
    pub fn plus(self, after: Duration) -> Deadline {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Deadline(self.0.saturating_add(nanos))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The instant at which a wait ends, in the units of [`Now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(pub u64);

impl Deadline {
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Whether `now` is at or past the deadline.
    pub fn is_over(self, now: Now) -> bool {
        self != Self::NEVER && now.0 >= self.0
    }

    /// Time left at `now`; zero when over, `None` when it never comes.
    pub fn left(self, now: Now) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(now.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_over_at_its_instant_and_never_is_not() {
        let deadline = Now(5).plus(Duration::from_nanos(10));
        assert_eq!(deadline, Deadline(15));
        assert!(!deadline.is_over(Now(14)));
        assert!(deadline.is_over(Now(15)));
        assert!(!Deadline::NEVER.is_over(Now(u64::MAX)));
        assert_eq!(Now(u64::MAX).plus(Duration::MAX), Deadline::NEVER);
    }
}
