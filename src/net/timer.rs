//! Deadlines of tasks.

use std::task::{Context, Poll};

use super::Net;
use super::hub::Waiter;
use super::slab::Key;
use super::state::{State, Target, TimerSlot};
use crate::base::clock::Deadline;

/// A slot in the core's deadline wheel, without a deadline at first. Fires at most a millisecond or two
/// late, never early. Moving the deadline later costs a store.
pub struct Timer {
    net: Net,
    key: Key,
    /// As it was set last: the wheel need not be asked.
    deadline: Deadline,
}

impl Timer {
    pub(super) fn new(net: Net) -> Self {
        let mut state = net.state();
        let slot = TimerSlot {
            entry: crate::net::wheel::EntryId::NONE,
            passed: false,
            waiter: Waiter::default(),
        };
        let key = state.timers.insert(slot);
        let entry = state.wheel.insert(Target::Timer(key));
        if let Some(slot) = state.timers.get_mut(key) {
            slot.entry = entry;
        }
        drop(state);
        Self {
            net,
            key,
            deadline: Deadline::NEVER,
        }
    }

    /// Sets or moves the deadline.
    #[inline]
    pub fn set(&mut self, deadline: Deadline) {
        self.deadline = deadline;
        let mut state = self.net.state();
        let State {
            timers, wheel, hub, ..
        } = &mut *state;
        let Some(slot) = timers.get_mut(self.key) else {
            return;
        };
        slot.passed = false;
        // A parked core must learn of a deadline that comes before the one it parked until.
        if wheel.set(slot.entry, deadline) && hub.driver.is_some() {
            hub.touch();
        }
    }

    /// Takes the deadline away.
    pub fn clear(&mut self) {
        self.set(Deadline::NEVER);
    }

    /// The deadline as it was set, passed or not; `NEVER` for none.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ready once the deadline has passed, until it is set or cleared.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.net.state();
        let State {
            timers, wheel, hub, ..
        } = &mut *state;
        let Some(slot) = timers.get_mut(self.key) else {
            return Poll::Pending;
        };
        if slot.passed || wheel.deadline(slot.entry).is_over(hub.now) {
            return Poll::Ready(());
        }
        slot.waiter.register(cx);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut state = self.net.state();
        if let Some(slot) = state.timers.remove(self.key) {
            state.wheel.remove(slot.entry);
        }
    }
}
