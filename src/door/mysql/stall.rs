//! Whether a peer takes what is queued for it.

use std::time::Duration;

use crate::base::clock::{Deadline, Now};

/// A peer's queue as last looked at. What the queue shows is enough as long as it moves; when it has
/// not for a while, the kernel is asked, which knows of bytes taken out of the middle of a send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// Since when the queue has not moved; `None` while nothing waits in it.
    since: Option<Now>,
    taken: u64,
    /// What the kernel said when it was asked, and when that was.
    asked: Option<(Now, u64)>,
}

impl Stall {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            taken: 0,
            asked: None,
        }
    }

    /// Looks at the queue: `unsent` bytes wait, and `taken` were taken so far.
    pub(super) fn look(&mut self, now: Now, unsent: usize, taken: u64) {
        if unsent == 0 {
            self.since = None;
        } else if self.since.is_none() || taken != self.taken {
            (self.since, self.asked) = (Some(now), None);
        }
        self.taken = taken;
    }

    /// When to see whether the peer has taken anything within `limit`: [`Stall::is_over`] then.
    pub(super) fn deadline(&self, limit: Duration) -> Deadline {
        match (self.since, self.asked) {
            (None, _) => Deadline::NEVER,
            (Some(since), None) => since.plus(limit / 4),
            (Some(_), Some((asked, _))) => asked.plus(limit - limit / 4),
        }
    }

    /// Whether the peer has taken nothing for `limit`. `progress` is a figure of the kernel's that
    /// changes as bytes are taken.
    pub(super) fn is_over(
        &mut self,
        now: Now,
        limit: Duration,
        progress: impl FnOnce() -> u64,
    ) -> bool {
        if !self.deadline(limit).is_over(now) {
            return false;
        }
        let progress = progress();
        if self.asked.is_some_and(|(_, before)| before == progress) {
            return true;
        }
        self.asked = Some((now, progress));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_nanos(100);

    #[test]
    fn only_a_peer_that_takes_nothing_of_what_waits_is_looked_at() {
        let mut stall = Stall::new();
        // Instant, unsent, taken, deadline.
        for (now, unsent, taken, expect) in [
            (1, 0, 0, Deadline::NEVER),
            (5, 100, 0, Deadline(30)),
            (9, 300, 0, Deadline(30)),
            (12, 300, 1, Deadline(37)),
            (21, 400, 1, Deadline(37)),
            (23, 0, 401, Deadline::NEVER),
            (30, 7, 401, Deadline(55)),
        ] {
            stall.look(Now(now), unsent, taken);
            assert_eq!(stall.deadline(LIMIT), expect, "at {now}");
        }
    }

    #[test]
    fn a_peer_that_takes_parts_of_a_large_send_is_not_stalled() {
        let mut stall = Stall::new();
        stall.look(Now(0), 1000, 0);
        assert!(!stall.is_over(Now(24), LIMIT, || 1), "not asked yet");
        for (now, progress) in [(25, 1), (100, 2), (175, 3)] {
            assert!(!stall.is_over(Now(now), LIMIT, || progress), "at {now}");
            stall.look(Now(now), 1000, 0);
        }
        assert_eq!(stall.deadline(LIMIT), Deadline(250));
        assert!(stall.is_over(Now(250), LIMIT, || 3));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_stalled_at_the_limit() {
        let mut stall = Stall::new();
        stall.look(Now(0), 1000, 0);
        assert!(!stall.is_over(Now(25), LIMIT, || 7));
        assert!(!stall.is_over(Now(99), LIMIT, || 7));
        assert!(stall.is_over(Now(100), LIMIT, || 7));
    }
}
