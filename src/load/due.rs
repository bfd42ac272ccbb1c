//! What is due on a core: who asks it, what waits, and what is counted of it in which stretch.

use std::collections::VecDeque;
use std::time::Duration;

use super::engine::{Engine, clock};
use super::record::{Failure, Record};
use super::schedule::Arrival;
use crate::base::clock::Now;

impl Engine {
    /// An operation is due.
    pub(super) fn is_due(&self, group: usize, stretch: usize) {
        self.record(stretch, group, |record| record.planned += 1);
    }

    /// Gives an arrival to a free connection of `group`, or has it wait for one.
    pub(super) fn dispatch(&self, group: usize, arrival: Arrival) {
        let Some(state) = self.groups.get(group) else {
            return;
        };
        match state.free.borrow_mut().pop() {
            Some(seat) => {
                seat.arrival.set(Some(arrival));
                if let Some(waker) = seat.waker.take() {
                    waker.wake();
                }
            }
            None => state.backlog.borrow_mut().push_back(arrival),
        }
    }

    /// The stretch with this index has begun; beyond the last one: the run is over. What waits is the backlog of
    /// the one before. Where a step begins, and at the end, it is taken back, so that no step has anything of
    /// another one's and all are judged alike.
    pub(super) fn begins(&self, stretch: usize) {
        let noted = self.noted.get();
        if stretch <= noted {
            return;
        }
        self.noted.set(stretch);
        let before = self.plan.get(noted..stretch).unwrap_or_default();
        for (index, _) in (noted..).zip(before).filter(|(_, before)| before.counts) {
            for (group, state) in self.groups.iter().enumerate() {
                let backlog = state.backlog.borrow().len() as u64;
                self.record(index, group, |record| record.backlog += backlog);
            }
        }
        if self.plan.get(stretch).is_none_or(|new| new.begins_step) {
            self.withdraw_before(stretch);
        }
    }

    fn withdraw_before(&self, stretch: usize) {
        for (group, state) in self.groups.iter().enumerate() {
            let waiting = state.backlog.take().into_iter();
            let (old, new): (VecDeque<_>, _) =
                waiting.partition(|arrival| arrival.stretch < stretch);
            *state.backlog.borrow_mut() = new;
            for arrival in old {
                self.withdraw(group, arrival);
            }
        }
    }

    /// Takes back an arrival that no connection was free for, unless its caller has given up already. What it has
    /// waited is the least that it would have.
    pub(super) fn withdraw(&self, group: usize, arrival: Arrival) {
        let waited = self.elapsed(clock()).saturating_sub(arrival.at);
        if Duration::from_nanos(waited) >= self.scenario.timeout {
            return self.gave_up(group, arrival);
        }
        self.record(arrival.stretch, group, |record| {
            record.withdrawn += 1;
            record.response.record(waited);
        });
    }

    /// Whoever asked has given up before anybody was free to ask.
    pub(super) fn gave_up(&self, group: usize, arrival: Arrival) {
        let waited = u64::try_from(self.scenario.timeout.as_nanos()).unwrap_or(u64::MAX);
        self.record(arrival.stretch, group, |record| {
            record.fail(Failure::Timeout);
            record.response.record(waited);
        });
    }

    /// An operation of `group` was answered without an error at `ended`.
    pub(super) fn answered(&self, group: usize, ended: Now) {
        if let Some(stretch) = self.stretch_at(self.elapsed(ended)) {
            self.record(stretch, group, |record| record.in_window += 1);
        }
    }

    /// Adds to the record of `group` in `stretch`.
    pub(super) fn record(&self, stretch: usize, group: usize, add: impl FnOnce(&mut Record)) {
        let mut records = self.records.borrow_mut();
        // The current stretch is the last; an answer may be of an earlier one.
        let found = records.iter().rposition(|(known, _)| *known == stretch);
        let at = found.unwrap_or_else(|| {
            let empty = self.groups.iter().map(|_| Record::default()).collect();
            records.push((stretch, empty));
            records.len() - 1
        });
        if let Some(record) = records.get_mut(at).and_then(|(_, all)| all.get_mut(group)) {
            add(record);
        }
    }
}
