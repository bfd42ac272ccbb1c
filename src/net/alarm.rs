//! Precise wake-ups, for pacing: the ring's wait ends at their instant, not at the wheel's next tick.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Net;
use super::hub::Waiter;
use super::slab::{Key, Slab};
use crate::base::clock::{Deadline, Now};

/// Entries that may be stale before they are swept out of the heap.
const STALE_MIN: usize = 64;

/// All alarms of a ring.
pub(super) struct Alarms {
    slots: Slab<Slot>,
    /// Instants with their alarms. An entry whose alarm has another instant by now is stale.
    due: BinaryHeap<Reverse<(Deadline, Key)>>,
}

struct Slot {
    deadline: Deadline,
    waiter: Waiter,
}

impl Alarms {
    pub(super) fn new() -> Self {
        Self {
            slots: Slab::new(),
            due: BinaryHeap::new(),
        }
    }

    /// Time until the first alarm, at `now`; `None` if there is none.
    pub(super) fn left(&self, now: Now) -> Option<Duration> {
        self.due.peek().and_then(|Reverse((at, _))| at.left(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    fn set(&mut self, key: Key, deadline: Deadline) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        slot.deadline = deadline;
        if deadline == Deadline::NEVER {
            return;
        }
        if self.due.len() > STALE_MIN.max(2 * self.slots.len()) {
            let slots = &self.slots;
            self.due.retain(|Reverse((at, key))| {
                slots.get(*key).is_some_and(|slot| slot.deadline == *at)
            });
        }
        self.due.push(Reverse((deadline, key)));
    }

    /// Wakes whoever is due at `now`; gives how many.
    pub(super) fn fire(&mut self, now: Now, woken: &mut u64) -> usize {
        let mut count = 0;
        while let Some(Reverse((at, key))) = self.due.peek().copied() {
            if !at.is_over(now) {
                break;
            }
            self.due.pop();
            if let Some(slot) = self.slots.get_mut(key)
                && slot.deadline == at
            {
                slot.waiter.wake(woken);
                count += 1;
            }
        }
        count
    }
}

/// A wake-up at an instant, late by no more than the kernel's timer (tens of microseconds; less with
/// a timer slack of 1 ns, see `prctl(2)`) and the turn in progress. Costs a heap entry for each
/// [`Alarm::set`]: deadlines that seldom come are a [`super::Timer`]'s.
pub struct Alarm {
    net: Net,
    key: Key,
}

impl Alarm {
    pub(super) fn new(net: Net) -> Self {
        let key = net.state().alarms.slots.insert(Slot {
            deadline: Deadline::NEVER,
            waiter: Waiter::default(),
        });
        Self { net, key }
    }

    /// Sets or moves the instant.
    pub fn set(&mut self, deadline: Deadline) {
        let mut state = self.net.state();
        state.alarms.set(self.key, deadline);
        // A parked core must learn of it.
        if state.hub.driver.is_some() {
            state.hub.touch();
        }
    }

    /// Ready once the instant has passed, until another is set.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.net.now();
        let mut state = self.net.state();
        let Some(slot) = state.alarms.slots.get_mut(self.key) else {
            return Poll::Pending;
        };
        if slot.deadline.is_over(now) {
            return Poll::Ready(());
        }
        slot.waiter.register(cx);
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.net.state().alarms.slots.remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(alarms: &mut Alarms, at: u64) -> Key {
        let key = alarms.slots.insert(Slot {
            deadline: Deadline::NEVER,
            waiter: Waiter::default(),
        });
        alarms.set(key, Deadline(at));
        key
    }

    #[test]
    fn the_first_instant_is_waited_for_and_a_moved_one_is_not() {
        let mut alarms = Alarms::new();
        let first = alarm(&mut alarms, 500);
        alarm(&mut alarms, 900);
        assert_eq!(alarms.left(Now(100)), Some(Duration::from_nanos(400)));
        alarms.set(first, Deadline(2_000));
        let mut woken = 0;
        assert_eq!(alarms.fire(Now(600), &mut woken), 0, "moved away");
        assert_eq!(alarms.left(Now(600)), Some(Duration::from_nanos(300)));
        assert_eq!(alarms.fire(Now(900), &mut woken), 1);
        assert_eq!(alarms.fire(Now(2_000), &mut woken), 1);
        assert!(alarms.is_empty());
    }

    #[test]
    fn alarms_that_are_moved_for_ever_take_no_more_memory() {
        let mut alarms = Alarms::new();
        let key = alarm(&mut alarms, 1_000);
        for at in 0..100_000 {
            alarms.set(key, Deadline(1_000_000 + at));
        }
        assert!(alarms.due.len() <= 2 * STALE_MIN, "{}", alarms.due.len());
    }
}
