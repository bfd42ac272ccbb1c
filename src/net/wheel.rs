//! The deadline wheel: six levels of 64 slots over ticks of about a millisecond.
//!
//! An entry keeps the deadline its owner wants and the tick it is queued under. Moving a deadline
//! later or clearing it changes the former only; the entry is moved when the old tick comes. So a
//! connection whose idle deadline is pushed out by each statement pays one store for it.

use super::table::Table;
use crate::base::clock::{Deadline, Now};

/// Nanoseconds per tick, as a shift: 2^20 ns.
const TICK_SHIFT: u32 = 20;
const LEVELS: usize = 6;
const SLOTS: usize = 64;
/// Ticks the wheel looks ahead (a year). Anything later waits there and is queued again; half a turn
/// of the last level, so that such an entry never lands in the slot that is being emptied.
const HORIZON: u64 = 1 << (6 * LEVELS - 1);
const NIL: u32 = u32::MAX;
/// The list of an entry that is in none.
const NOWHERE: u16 = u16::MAX;

/// An entry of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId(u32);

impl EntryId {
    /// Stands in until the entry is made; never passed to a wheel.
    pub(super) const NONE: Self = Self(NIL);
}

struct Entry<T> {
    deadline: Deadline,
    /// Tick it is linked under; meaningless unless `list` is set.
    queued: u64,
    /// `level * SLOTS + slot` of the list that holds it, or [`NOWHERE`].
    list: u16,
    next: u32,
    previous: u32,
    target: T,
}

/// Deadlines of owners `T`. `T` is handed out when its deadline passes.
pub(super) struct Wheel<T> {
    entries: Table<Entry<T>>,
    free: Vec<u32>,
    heads: [u32; LEVELS * SLOTS],
    /// One bit per slot that holds entries, per level.
    occupied: [u64; LEVELS],
    /// All ticks up to this one have been handled.
    elapsed: u64,
}

/// First tick at which a deadline has passed.
fn tick_of(deadline: Deadline) -> u64 {
    deadline.0.div_ceil(1 << TICK_SHIFT)
}

impl<T: Copy> Wheel<T> {
    pub(super) fn new(now: Now) -> Self {
        Self {
            entries: Table::new(),
            free: Vec::new(),
            heads: [NIL; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            elapsed: now.0 >> TICK_SHIFT,
        }
    }

    /// A new entry without a deadline.
    pub(super) fn insert(&mut self, target: T) -> EntryId {
        let deadline = Deadline::NEVER;
        let entry = Entry {
            deadline,
            queued: 0,
            list: NOWHERE,
            next: NIL,
            previous: NIL,
            target,
        };
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                EntryId(index)
            }
            None => EntryId(self.entries.push(entry) as u32),
        }
    }

    /// Gives the entry up. Its id must not be used any more.
    pub(super) fn remove(&mut self, id: EntryId) {
        self.unlink(id.0);
        self.free.push(id.0);
    }

    /// The entry's deadline; `NEVER` once it has fired.
    pub(super) fn deadline(&self, id: EntryId) -> Deadline {
        self.entries[id.0 as usize].deadline
    }

    /// Sets when the entry fires. Later than before: one store. Earlier: moved at once, and `true`.
    #[inline]
    pub(super) fn set(&mut self, id: EntryId, deadline: Deadline) -> bool {
        let entry = &mut self.entries[id.0 as usize];
        entry.deadline = deadline;
        if deadline == Deadline::NEVER {
            return false;
        }
        let tick = tick_of(deadline);
        if entry.list != NOWHERE && entry.queued <= tick {
            return false;
        }
        self.unlink(id.0);
        self.link(id.0, tick);
        true
    }

    /// When the wheel must be looked at again; never later than the earliest deadline's tick, earlier
    /// when an entry's deadline was moved or it waits on a coarse level.
    pub(super) fn next(&self) -> Option<Deadline> {
        self.next_slot()
            .map(|(_, _, tick)| Deadline(tick << TICK_SHIFT))
    }

    /// Handles all ticks up to `now`: calls `fire` for each entry whose deadline has passed, in the
    /// order of their ticks. A fired entry has no deadline until it is set again.
    pub(super) fn advance(&mut self, now: Now, mut fire: impl FnMut(T)) {
        let until = now.0 >> TICK_SHIFT;
        if until <= self.elapsed {
            return;
        }
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > until {
                break;
            }
            self.elapsed = tick;
            self.empty_slot(level * SLOTS + slot, &mut fire);
        }
        self.elapsed = until;
    }

    /// Fires, drops or re-queues the entries of one list; `elapsed` is the list's first tick.
    fn empty_slot(&mut self, list: usize, fire: &mut impl FnMut(T)) {
        while self.heads[list] != NIL {
            let index = self.heads[list];
            self.unlink(index);
            let entry = &mut self.entries[index as usize];
            if entry.deadline == Deadline::NEVER {
                continue;
            }
            let tick = tick_of(entry.deadline);
            if tick <= self.elapsed {
                entry.deadline = Deadline::NEVER;
                fire(entry.target);
            } else {
                self.link(index, tick);
            }
        }
    }

    /// The earliest occupied slot and the tick at which it is due. Lower levels come first: within
    /// the current turn of a level, everything on it is due before anything above it.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied == 0 {
                continue;
            }
            let shift = 6 * level as u32;
            let current = (self.elapsed >> shift) & 63;
            let ahead = u64::from(occupied.rotate_right(current as u32).trailing_zeros());
            let slot = (current + ahead) & 63;
            let turn = (self.elapsed >> shift >> 6) << 6;
            let wrapped = if slot < current { 64 } else { 0 };
            let tick = (turn + wrapped + slot) << shift;
            return Some((level, slot as usize, tick.max(self.elapsed)));
        }
        None
    }

    fn link(&mut self, index: u32, tick: u64) {
        // A deadline that is over already fires with the next tick.
        let tick = tick.clamp(self.elapsed + 1, self.elapsed.saturating_add(HORIZON));
        let differing = (self.elapsed ^ tick) | 63;
        let level = ((63 - differing.leading_zeros()) as usize / 6).min(LEVELS - 1);
        let slot = (tick >> (6 * level)) as usize & 63;
        let list = level * SLOTS + slot;
        let head = self.heads[list];
        if let Some(next) = self.entries.get_mut(head as usize) {
            next.previous = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.queued = tick;
        entry.list = list as u16;
        entry.next = head;
        entry.previous = NIL;
        self.heads[list] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let list = std::mem::replace(&mut entry.list, NOWHERE);
        if list == NOWHERE {
            return;
        }
        let list = usize::from(list);
        let (next, previous) = (entry.next, entry.previous);
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[list] = next,
        }
        if self.heads[list] == NIL {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::prng::Prng;

    const MS: u64 = 1_000_000;

    fn fired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.advance(Now(now), |target| fired.push(target));
        fired
    }

    #[test]
    fn deadlines_fire_in_order_never_early_and_within_two_ticks() {
        let mut wheel = Wheel::new(Now(0));
        for (target, at) in [(1, 500 * MS), (2, 10 * MS), (3, 70_000 * MS), (4, 12 * MS)] {
            let id = wheel.insert(target);
            wheel.set(id, Deadline(at));
        }
        let mut seen = Vec::new();
        for now in (0..80_000).map(|ms| ms * MS) {
            for target in fired(&mut wheel, now) {
                seen.push((target, now / MS));
            }
        }
        let targets: Vec<_> = seen.iter().map(|s| s.0).collect();
        assert_eq!(targets, [2, 4, 1, 3]);
        for ((_, at), wanted) in seen.iter().zip([10, 12, 500, 70_000]) {
            assert!(
                (wanted..=wanted + 2).contains(at),
                "wanted {wanted} ms, fired at {at} ms"
            );
        }
    }

    #[test]
    fn one_large_step_fires_everything_that_passed() {
        let mut wheel = Wheel::new(Now(0));
        for target in 0..1000 {
            let id = wheel.insert(target);
            wheel.set(id, Deadline(u64::from(target) * 7 * MS));
        }
        assert_eq!(fired(&mut wheel, 3500 * MS + 2 * MS).len(), 501);
        assert_eq!(fired(&mut wheel, u64::MAX / 2).len(), 499);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_moved_later_stays_where_it_is_until_its_tick() {
        let mut wheel = Wheel::new(Now(0));
        let id = wheel.insert(1);
        wheel.set(id, Deadline(10 * MS));
        let before = wheel.next();
        wheel.set(id, Deadline(900 * MS));
        assert_eq!(wheel.next(), before, "only the wish changed");
        assert!(fired(&mut wheel, 500 * MS).is_empty());
        assert!(wheel.next() > before);
        assert_eq!(fired(&mut wheel, 902 * MS), [1]);
    }

    #[test]
    fn a_deadline_moved_earlier_or_cleared_is_heeded() {
        let mut wheel = Wheel::new(Now(0));
        let (early, cleared) = (wheel.insert(1), wheel.insert(2));
        wheel.set(early, Deadline(900 * MS));
        wheel.set(cleared, Deadline(5 * MS));
        wheel.set(early, Deadline(20 * MS));
        wheel.set(cleared, Deadline::NEVER);
        assert_eq!(fired(&mut wheel, 22 * MS), [1]);
        assert_eq!(wheel.deadline(early), Deadline::NEVER);
        assert!(fired(&mut wheel, 10_000 * MS).is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_fires_with_the_next_tick() {
        let mut wheel = Wheel::new(Now(1000 * MS));
        let id = wheel.insert(1);
        wheel.set(id, Deadline(3));
        assert_eq!(fired(&mut wheel, 1003 * MS), [1]);
    }

    #[test]
    fn removed_entries_never_fire_and_their_slots_are_re_used() {
        let mut wheel = Wheel::new(Now(0));
        let first = wheel.insert(1);
        wheel.set(first, Deadline(10 * MS));
        wheel.remove(first);
        let second = wheel.insert(2);
        assert_eq!(first, second);
        wheel.set(second, Deadline(30 * MS));
        assert!(fired(&mut wheel, 20 * MS).is_empty());
        assert_eq!(fired(&mut wheel, 40 * MS), [2]);
    }

    #[test]
    fn random_histories_agree_with_a_plain_map() {
        for seed in 0..64 {
            let mut prng = Prng::new(seed);
            let mut wheel = Wheel::new(Now(0));
            let ids: Vec<_> = (0..32).map(|n| wheel.insert(n)).collect();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for _ in 0..500 {
                let n = prng.below(32) as u32;
                let reach = 1 << prng.below(40);
                if prng.below(8) == 0 {
                    wheel.set(ids[n as usize], Deadline::NEVER);
                    model.remove(&n);
                } else {
                    let at = now + prng.below(reach) + 1;
                    wheel.set(ids[n as usize], Deadline(at));
                    model.insert(n, at);
                }
                let step = prng.below(38);
                now += prng.below(1 << step);
                for target in fired(&mut wheel, now) {
                    let at = model.remove(&target).expect("fired without a deadline");
                    assert!(at <= now, "seed {seed}: fired early");
                }
                let late = model
                    .values()
                    .filter(|at| **at + (2 << TICK_SHIFT) < now)
                    .count();
                assert_eq!(late, 0, "seed {seed}: overslept");
            }
        }
    }
}
