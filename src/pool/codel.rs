//! When a queue stands: it does not empty any more, and each who is served has waited for longer than the target.
//!
//! The signal of CoDel (K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 2012; RFC 8289,
//! section 5): a wait above the target is a burst unless it lasts for an interval. What is done about it is
//! not its control law, which slows down one sender that goes by its losses: those who wait are many and each has
//! asked once, so all who have waited for twice the target are turned away for as long as the queue stands (as in
//! B. Maurer, "Fail at Scale", ACM Queue 2015).

use std::time::Duration;

use crate::base::clock::{Deadline, Now};

/// How long waits must be above the target: a burst of that length is served and not turned away (RFC 8289,
/// section 4.3).
const INTERVAL: Duration = Duration::from_millis(100);

/// What is known of the waits of a queue that is served from its front.
///
/// Waits are counted while the queue is being served and is longer than what comes for it: whoever waits for
/// his pool's turn at the gate, or for a connection that is being opened, waits for nothing that a shorter queue
/// would mend. Instants of that clock are called `Now` here as well.
#[derive(Debug, Default)]
pub(super) struct Codel {
    /// A wait that is none too long; `None`: every wait is right.
    target: Option<Duration>,
    /// Since when waits are above the target. `None`: since who waits longest has waited for the target.
    above: Option<Deadline>,
    /// What the clock read at `at`, and whether it has run since then.
    clock: Now,
    at: Now,
    runs: bool,
}

impl Codel {
    /// Another target from now on.
    pub(super) fn set_target(&mut self, target: Option<Duration>) {
        if self.target != target {
            (self.target, self.above) = (target, None);
            self.runs &= target.is_some();
        }
    }

    /// Whether the queue is being served, and too slowly for its length, from now on.
    pub(super) fn run(&mut self, runs: bool, now: Now) {
        let runs = runs && self.target.is_some();
        if runs != self.runs {
            (self.clock, self.at, self.runs) = (self.read(now), now, runs);
        }
    }

    /// What the clock reads.
    pub(super) fn read(&self, now: Now) -> Now {
        match self.runs {
            true => Now(self.clock.plus(now.since(self.at)).0),
            false => self.clock,
        }
    }

    /// Who waited longest, since the clock read `left`, has left: what it read as the next one came, if there is
    /// one.
    pub(super) fn has_left(&mut self, left: Now, next: Option<Now>, now: Now) {
        let Some(target) = self.target else {
            return;
        };
        let clock = self.read(now);
        let above = self.above.unwrap_or(left.plus(target));
        let is_above = next.is_some_and(|next| next.plus(target).is_over(clock));
        self.above = is_above.then_some(above);
    }

    /// When who waits longest, since the clock read `since`, is to be turned away if nothing changes until then.
    pub(super) fn turns_away(&self, since: Now) -> Deadline {
        let Some(target) = self.target.filter(|_| self.runs) else {
            return Deadline::NEVER;
        };
        let above = self.above.unwrap_or(since.plus(target));
        let stands = Now(above.0).plus(INTERVAL);
        let due = stands.max(since.plus(target.saturating_mul(2)));
        self.at.plus(due.left(self.clock).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;
    use std::collections::VecDeque;

    const MS: u64 = 1_000_000;
    const TARGET: Duration = Duration::from_millis(50);

    fn codel() -> Codel {
        let mut codel = Codel::default();
        codel.set_target(Some(TARGET));
        codel.run(true, Now(0));
        codel
    }

    /// A queue with one server, on which times are ms.
    struct Line {
        codel: Codel,
        queue: VecDeque<u64>,
        /// Waits of those who were served, and moments at which others were turned away.
        waits: Vec<u64>,
        away: Vec<u64>,
    }

    impl Line {
        /// One comes each `per` ms while `comes` says so; one is served each 10 ms.
        fn run(ms: u64, per: u64, comes: impl Fn(u64) -> bool) -> Self {
            let mut line = Self {
                codel: codel(),
                queue: VecDeque::new(),
                waits: Vec::new(),
                away: Vec::new(),
            };
            for now in 0..ms {
                while let Some(&first) = line.queue.front()
                    && line
                        .codel
                        .turns_away(Now(first * MS))
                        .is_over(Now(now * MS))
                {
                    line.leave(now);
                    line.away.push(now);
                }
                if now % 10 == 0
                    && let Some(first) = line.leave(now)
                {
                    line.waits.push(now - first);
                }
                if now % per == 0 && comes(now) {
                    line.queue.push_back(now);
                }
            }
            line
        }

        fn leave(&mut self, now: u64) -> Option<u64> {
            let first = self.queue.pop_front()?;
            let next = self.queue.front().map(|next| Now(next * MS));
            self.codel.has_left(Now(first * MS), next, Now(now * MS));
            Some(first)
        }
    }

    #[test]
    fn bursts_are_served_and_what_stands_is_turned_away() {
        let below = Line::run(60_000, 12, |_| true);
        assert_eq!(below.away.len(), 0, "less than can be served");

        // 16 in 80 ms, each second: half of them wait longer than the target, for less than an interval.
        let bursts = Line::run(60_000, 5, |now| now % 1_000 < 80);
        assert_eq!(bursts.away.len(), 0);
        assert_eq!(bursts.waits.iter().max(), Some(&85));

        // Twice what can be served: every second one is turned away, and who is served has waited for twice the
        // target at most once it has begun.
        let over = Line::run(60_000, 5, |_| true);
        let served = over.waits.len();
        assert_eq!(served, 5_999, "nothing of what can be served is lost");
        assert!(
            (5_950..6_000).contains(&over.away.len()),
            "{}",
            over.away.len()
        );
        assert!(over.waits.iter().skip(50).all(|wait| *wait <= 100));

        // It ends when the overload ends.
        let ends = Line::run(60_000, 5, |now| now < 10_000);
        assert!(ends.away.iter().all(|at| *at < 10_100));
    }

    #[test]
    fn nobody_is_turned_away_without_a_target_and_one_that_changes_counts_from_then_on() {
        let mut codel = Codel::default();
        codel.run(true, Now(0));
        codel.has_left(Now(0), Some(Now(1)), Now(9_000 * MS));
        assert_eq!(codel.turns_away(Now(1)), Deadline::NEVER);
        codel.set_target(Some(TARGET));
        codel.run(true, Now(0));
        assert_eq!(
            codel.turns_away(Now(1)),
            Deadline(150 * MS + 1),
            "an interval above the target"
        );
        codel.has_left(Now(1), Some(Now(2)), Now(200 * MS));
        assert_eq!(
            codel.turns_away(Now(100 * MS)),
            Deadline(200 * MS),
            "it stands since 50 ms"
        );
        codel.set_target(Some(TARGET * 10));
        assert_eq!(codel.turns_away(Now(100 * MS)), Deadline(1_100 * MS));
        codel.set_target(None);
        assert_eq!(codel.turns_away(Now(100 * MS)), Deadline::NEVER);
    }

    #[test]
    fn what_is_waited_for_others_does_not_count() {
        let mut codel = codel();
        // Not served from 100 ms to 900 ms.
        codel.run(false, Now(100 * MS));
        assert_eq!(codel.turns_away(Now(0)), Deadline::NEVER);
        assert_eq!(
            codel.read(Now(500 * MS)),
            Now(100 * MS),
            "who comes then has not waited"
        );
        codel.run(true, Now(900 * MS));
        assert_eq!(
            codel.turns_away(Now(0)),
            Deadline(950 * MS),
            "50 ms are left"
        );
        assert_eq!(codel.turns_away(Now(100 * MS)), Deadline(1_050 * MS));
        codel.run(true, Now(920 * MS));
        assert_eq!(
            codel.turns_away(Now(0)),
            Deadline(950 * MS),
            "nothing has changed"
        );
        codel.set_target(None);
        codel.set_target(Some(TARGET));
        assert_eq!(
            codel.turns_away(Now(0)),
            Deadline::NEVER,
            "until somebody says that it runs"
        );
    }

    /// Since when waits are above the target, by looking back at who waited longest from when: `(from, since)`.
    fn looked_back(heads: &[(u64, u64)]) -> u64 {
        let target = u64::try_from(TARGET.as_nanos()).unwrap();
        let mut above = u64::MAX;
        for (from, since) in heads.iter().rev() {
            above = above.min((since + target).max(*from));
            if since + target > *from {
                break;
            }
        }
        above
    }

    #[test]
    fn any_mix_of_comings_and_leavings_is_what_looking_back_says() {
        for seed in 0..300 {
            let mut prng = Prng::new(seed);
            let (mut codel, mut now) = (codel(), 0);
            let mut queue = VecDeque::new();
            // Of who waited longest since the queue was empty.
            let mut heads = Vec::new();
            for _ in 0..300 {
                now += prng.below(40 * MS);
                if prng.below(5) < 3 {
                    queue.push_back(now);
                    if queue.len() == 1 {
                        heads = vec![(now, now)];
                    }
                } else if let Some(left) = queue.pop_front() {
                    let next = queue.front().copied();
                    codel.has_left(Now(left), next.map(Now), Now(now));
                    heads.extend(next.map(|next| (now, next)));
                }
                let Some(&first) = queue.front() else {
                    continue;
                };
                let stands = Now(looked_back(&heads)).plus(INTERVAL);
                let expect = stands.max(Now(first).plus(TARGET * 2));
                assert_eq!(
                    codel.turns_away(Now(first)),
                    expect,
                    "seed {seed}, at {now}"
                );
            }
        }
    }
}
