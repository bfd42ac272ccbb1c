//! Sessions that wait for a connection: a bounded first-in-first-out queue with O(1) removal.

use crate::base::clock::{Deadline, Now};

/// A place in the queue. Stale once the waiter was served or left; a stale id is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaiterId {
    slot: usize,
    generation: u32,
}

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

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// `None` while the slot is free.
    waiter: Option<(u64, Now, Deadline)>,
    /// Towards the oldest waiter.
    older: Option<usize>,
    /// Towards the newest waiter; of a free slot, the next free one.
    newer: Option<usize>,
}

/// The queue: a slab of doubly linked slots, so that a session that leaves frees its place at once.
#[derive(Debug)]
pub struct Waiters {
    slots: Vec<Slot>,
    free: Option<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    len: u32,
    max: u32,
}

impl Waiters {
    /// An empty queue of at most `max` waiters.
    pub fn new(max: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: None,
            oldest: None,
            newest: None,
            len: 0,
            max,
        }
    }

    /// How many wait.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Queues the session `owner` behind all others.
    ///
    /// # Errors
    /// [`Full`] at the bound given to [`Waiters::new`].
    pub fn enqueue(&mut self, owner: u64, now: Now, deadline: Deadline) -> Result<WaiterId, Full> {
        if self.len >= self.max {
            return Err(Full);
        }
        let slot = self.free_slot();
        let older = self.newest;
        let place = self.slots.get_mut(slot).ok_or(Full)?;
        self.free = place.newer;
        place.waiter = Some((owner, now, deadline));
        place.older = older;
        place.newer = None;
        let generation = place.generation;
        match older.and_then(|o| self.slots.get_mut(o)) {
            Some(o) => o.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
        self.newest = Some(slot);
        self.len += 1;
        Ok(WaiterId { slot, generation })
    }

    /// Removes a waiter that gave up; `false` when it was served or removed before.
    pub fn cancel(&mut self, id: WaiterId) -> bool {
        let is_current = self
            .slots
            .get(id.slot)
            .is_some_and(|s| s.generation == id.generation && s.waiter.is_some());
        is_current && self.remove(id.slot).is_some()
    }

    /// The waiter that waits longest.
    pub fn oldest(&self) -> Option<Waiter> {
        self.oldest.and_then(|slot| self.waiter(slot))
    }

    /// Removes the waiter that waits longest.
    pub fn pop_oldest(&mut self) -> Option<Waiter> {
        self.oldest.and_then(|slot| self.remove(slot))
    }

    /// Removes the longest waiter if its deadline is over. With one wait limit for all, calling
    /// this until `None` finds every overdue waiter.
    pub fn pop_overdue(&mut self, now: Now) -> Option<Waiter> {
        let is_over = self.oldest()?.deadline.is_over(now);
        if is_over { self.pop_oldest() } else { None }
    }

    fn waiter(&self, slot: usize) -> Option<Waiter> {
        let place = self.slots.get(slot)?;
        let (owner, since, deadline) = place.waiter?;
        let generation = place.generation;
        Some(Waiter {
            id: WaiterId { slot, generation },
            owner,
            since,
            deadline,
        })
    }

    fn free_slot(&mut self) -> usize {
        self.free.unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                waiter: None,
                older: None,
                newer: None,
            });
            self.slots.len() - 1
        })
    }

    fn remove(&mut self, slot: usize) -> Option<Waiter> {
        let waiter = self.waiter(slot)?;
        let free = self.free;
        let place = self.slots.get_mut(slot)?;
        let (older, newer) = (place.older, place.newer);
        place.waiter = None;
        place.generation = place.generation.wrapping_add(1);
        place.older = None;
        place.newer = free;
        self.free = Some(slot);
        match older.and_then(|o| self.slots.get_mut(o)) {
            Some(o) => o.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|n| self.slots.get_mut(n)) {
            Some(n) => n.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        Some(waiter)
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
        assert!(waiters.cancel(first));
        assert!(!waiters.cancel(first), "an id is good once");
        let third = waiters.enqueue(3, Now(2), Deadline(11)).unwrap();
        assert_ne!(first, third, "a reused slot gets an id of its own");
        assert_eq!(waiters.pop_overdue(Now(9)), None);
        assert_eq!(waiters.pop_overdue(Now(10)).map(|w| w.owner), Some(2));
        assert_eq!(waiters.pop_oldest().map(|w| w.owner), Some(3));
        assert!(waiters.len() == 0 && waiters.pop_oldest().is_none());
        assert!(!waiters.cancel(third));
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
                        assert_eq!(waiters.pop_oldest().map(|w| w.owner), expect, "seed {seed}");
                    }
                    _ if !model.is_empty() => {
                        let bound = u64::try_from(model.len()).unwrap();
                        let at = usize::try_from(prng.below(bound)).unwrap();
                        let (id, _) = model.remove(at).unwrap();
                        assert!(waiters.cancel(id), "seed {seed}");
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
