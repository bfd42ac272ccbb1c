//! Whether a peer takes what is queued for it.

use std::time::Duration;

use crate::base::clock::{Deadline, Now};

/// A peer's queue as last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// Since when nothing was taken; `None` while nothing waits to be.
    since: Option<Now>,
    taken: u64,
}

impl Stall {
    pub(super) const fn new() -> Self {
        Self {
            since: None,
            taken: 0,
        }
    }

    /// Looks at the queue: `unsent` bytes wait, and `taken` were taken so far.
    pub(super) fn look(&mut self, now: Now, unsent: usize, taken: u64) {
        if unsent == 0 {
            self.since = None;
        } else if self.since.is_none() || taken != self.taken {
            self.since = Some(now);
        }
        self.taken = taken;
    }

    /// When the peer has taken nothing for `limit`.
    pub(super) fn deadline(&self, limit: Duration) -> Deadline {
        self.since
            .map_or(Deadline::NEVER, |since| since.plus(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_that_takes_nothing_of_what_waits_is_stalled() {
        let limit = Duration::from_nanos(10);
        let mut stall = Stall::new();
        // Instant, unsent, taken, deadline.
        for (now, unsent, taken, expect) in [
            (1, 0, 0, Deadline::NEVER),
            (5, 100, 0, Deadline(15)),
            (9, 300, 0, Deadline(15)),
            (12, 300, 1, Deadline(22)),
            (21, 400, 1, Deadline(22)),
            (23, 0, 401, Deadline::NEVER),
            (30, 7, 401, Deadline(40)),
        ] {
            stall.look(Now(now), unsent, taken);
            assert_eq!(stall.deadline(limit), expect, "at {now}");
        }
    }
}
