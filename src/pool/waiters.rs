//! Sessions that wait for a connection: a bounded first-in-first-out queue with O(1) removal.

use std::time::Duration;

use super::chain::{Chain, Place};
use super::codel::Codel;
use crate::base::clock::{Deadline, Now};

/// A place in the queue. Stale once the waiter was served or left; a stale id is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaiterId(Place);

/// The queue is full: the session is refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many sessions wait for a connection")]
pub struct Full;

/// A session in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its place.
    pub id: WaiterId,
    /// The session's number, never 0.
    pub owner: u64,
    /// When it began to wait.
    pub since: Now,
    /// When it stops waiting.
    pub deadline: Deadline,
}

/// Owner, beginning and deadline.
type Waiting = (u64, Now, Deadline);

/// The queue: a session that leaves frees its place at once.
#[derive(Debug)]
pub struct Waiters {
    /// Each with what CoDel's clock read as it came.
    queue: Chain<(Waiting, Now)>,
    max: u32,
    codel: Codel,
}

impl Waiters {
    /// An empty queue of at most `max` waiters.
    pub fn new(max: u32) -> Self {
        Self {
            queue: Chain::default(),
            max,
            codel: Codel::default(),
        }
    }

    /// Another bound from now on; who waits goes on waiting.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// Waits above this target are turned away from now on where the queue stands.
    pub fn set_target(&mut self, target: Option<Duration>) {
        self.codel.set_target(target);
    }

    /// How many wait.
    pub fn len(&self) -> u32 {
        self.queue.len()
    }

    /// Whether somebody of the queue is being served, and more wait than connections come for, from now on.
    pub fn run(&mut self, runs: bool, now: Now) {
        self.codel.run(runs, now);
    }

    /// Queues the session `owner` behind all others.
    ///
    /// # Errors
    /// [`Full`] at the bound given to [`Waiters::new`].
    pub fn enqueue(&mut self, owner: u64, now: Now, deadline: Deadline) -> Result<WaiterId, Full> {
        if self.len() >= self.max {
            return Err(Full);
        }
        let waiting = ((owner, now, deadline), self.codel.read(now));
        Ok(WaiterId(self.queue.push(waiting)))
    }

    /// Removes a waiter that gave up; `false` when it was served or removed before.
    pub fn cancel(&mut self, id: WaiterId, now: Now) -> bool {
        let was_first = self.queue.oldest() == Some(id.0);
        let Some((_, came)) = self.queue.remove(id.0) else {
            return false;
        };
        if was_first {
            let next = self.first().map(|(_, came)| came);
            self.codel.has_left(came, next, now);
        }
        true
    }

    /// The waiter that waits longest.
    pub fn oldest(&self) -> Option<Waiter> {
        self.first().map(|(oldest, _)| oldest)
    }

    /// The same, with what CoDel's clock read as it came.
    fn first(&self) -> Option<(Waiter, Now)> {
        let place = self.queue.oldest()?;
        let &((owner, since, deadline), came) = self.queue.get(place)?;
        let waiter = Waiter {
            id: WaiterId(place),
            owner,
            since,
            deadline,
        };
        Some((waiter, came))
    }

    /// Removes the waiter that waits longest.
    pub fn pop_oldest(&mut self, now: Now) -> Option<Waiter> {
        let waiter = self.oldest()?;
        self.cancel(waiter.id, now).then_some(waiter)
    }

    /// Removes the longest waiter if it is to be turned away, as the queue stands. `None` when no more are.
    pub fn pop_turned_away(&mut self, now: Now) -> Option<Waiter> {
        let is_over = self.turns_away().is_over(now);
        if is_over { self.pop_oldest(now) } else { None }
    }

    /// When the longest waiter is to be turned away.
    pub fn turns_away(&self) -> Deadline {
        let first = self.first();
        first.map_or(Deadline::NEVER, |(_, came)| self.codel.turns_away(came))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;
    use std::collections::VecDeque;

    #[test]
    fn the_bound_holds_and_a_leaver_frees_its_place() {
        let mut waiters = Waiters::new(2);
        let first = waiters.enqueue(1, Now(0), Deadline(9)).unwrap();
        waiters.enqueue(2, Now(1), Deadline(10)).unwrap();
        assert_eq!(waiters.enqueue(3, Now(2), Deadline(11)), Err(Full));
        assert!(waiters.cancel(first, Now(2)));
        assert!(!waiters.cancel(first, Now(2)), "an id is good once");
        let third = waiters.enqueue(3, Now(2), Deadline(11)).unwrap();
        assert_ne!(first, third, "a reused slot gets an id of its own");
        assert_eq!(waiters.pop_oldest(Now(3)).map(|w| w.owner), Some(2));
        assert_eq!(waiters.pop_oldest(Now(3)).map(|w| w.owner), Some(3));
        assert!(waiters.len() == 0 && waiters.pop_oldest(Now(3)).is_none());
        assert!(!waiters.cancel(third, Now(3)));
    }

    #[test]
    fn who_waits_too_long_in_a_queue_that_stands_is_turned_away_and_the_others_wait_on() {
        const MS: u64 = 1_000_000;
        let mut waiters = Waiters::new(9);
        waiters.set_target(Some(Duration::from_millis(50)));
        waiters.run(true, Now(0));
        let ids = [0, 10, 140].map(|ms| {
            let waiter = waiters.enqueue(ms + 1, Now(ms * MS), Deadline::NEVER);
            waiter.unwrap()
        });
        assert_eq!(waiters.turns_away(), Deadline(150 * MS));
        assert_eq!(waiters.pop_turned_away(Now(150 * MS - 1)), None);
        // One that leaves from the middle changes nothing.
        let later = waiters.enqueue(142, Now(141 * MS), Deadline::NEVER);
        assert!(waiters.cancel(later.unwrap(), Now(142 * MS)));
        let mut away = || waiters.pop_turned_away(Now(150 * MS)).map(|w| w.id);
        assert_eq!([away(), away(), away()], [Some(ids[0]), Some(ids[1]), None]);
        assert_eq!(
            waiters.turns_away(),
            Deadline(290 * MS),
            "a target and an interval for who is left"
        );
    }

    #[test]
    fn any_mix_of_operations_keeps_the_order_of_a_plain_queue() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut waiters = Waiters::new(8);
            let mut model: VecDeque<(WaiterId, u64)> = VecDeque::new();
            for step in 1..400 {
                match prng.below(5) {
                    0 | 1 => match waiters.enqueue(step, Now(step), Deadline::NEVER) {
                        Ok(id) => model.push_back((id, step)),
                        Err(Full) => assert_eq!(model.len(), 8, "seed {seed}"),
                    },
                    2 | 3 => {
                        let expect = model.pop_front().map(|(_, owner)| owner);
                        let popped = waiters.pop_oldest(Now(step));
                        assert_eq!(popped.map(|w| w.owner), expect, "seed {seed}");
                    }
                    _ if !model.is_empty() => {
                        let bound = u64::try_from(model.len()).unwrap();
                        let at = usize::try_from(prng.below(bound)).unwrap();
                        let (id, _) = model.remove(at).unwrap();
                        assert!(waiters.cancel(id, Now(step)), "seed {seed}");
                    }
                    _ => {}
                }
                assert_eq!(usize::try_from(waiters.len()).unwrap(), model.len());
                assert_eq!(
                    waiters.oldest().map(|w| w.owner),
                    model.front().map(|(_, owner)| *owner)
                );
            }
        }
    }
}
