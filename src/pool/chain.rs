//! A list in the order of arrival whose members can leave from anywhere, in constant time.

/// A member's place. Stale once the member has left; a stale place is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    slot: usize,
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// `None` while the slot is free.
    value: Option<T>,
    /// Towards the member that came first.
    older: Option<usize>,
    /// Towards the one that came last; of a free slot, the next free one.
    newer: Option<usize>,
}

/// A slab of doubly linked slots. It keeps its memory, so that a steady state allocates nothing.
#[derive(Debug)]
pub(super) struct Chain<T> {
    slots: Vec<Slot<T>>,
    free: Option<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    len: u32,
}

impl<T> Default for Chain<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: None,
            oldest: None,
            newest: None,
            len: 0,
        }
    }
}

impl<T> Chain<T> {
    /// How many members there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Adds a member behind all others.
    pub(super) fn push(&mut self, value: T) -> Place {
        let older = self.newest;
        let place = self.fill(value, older);
        match older.and_then(|o| self.slots.get_mut(o)) {
            Some(o) => o.newer = Some(place.slot),
            None => self.oldest = Some(place.slot),
        }
        self.newest = Some(place.slot);
        self.len += 1;
        place
    }

    /// The member that came first.
    pub(super) fn oldest(&self) -> Option<Place> {
        self.place(self.oldest?)
    }

    /// The member that came last.
    pub(super) fn newest(&self) -> Option<Place> {
        self.place(self.newest?)
    }

    /// The member that came next after this one.
    pub(super) fn newer(&self, place: Place) -> Option<Place> {
        self.place(self.slot(place)?.newer?)
    }

    /// The member at `place`; `None` once it has left.
    pub(super) fn get(&self, place: Place) -> Option<&T> {
        self.slot(place)?.value.as_ref()
    }

    /// All members, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// Likewise, to change them.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let slots = self.slots.iter_mut();
        slots.filter_map(|slot| slot.value.as_mut())
    }

    /// Takes a member out; `None` for one that has left before.
    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        let free = self.free;
        let slot = self.slots.get_mut(place.slot)?;
        if slot.generation != place.generation {
            return None;
        }
        let value = slot.value.take()?;
        let (older, newer) = (slot.older.take(), slot.newer);
        slot.generation = slot.generation.wrapping_add(1);
        slot.newer = free;
        self.free = Some(place.slot);
        match older.and_then(|o| self.slots.get_mut(o)) {
            Some(o) => o.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|n| self.slots.get_mut(n)) {
            Some(n) => n.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        Some(value)
    }

    /// Puts a member into a free slot, or a new one.
    fn fill(&mut self, value: T, older: Option<usize>) -> Place {
        if let Some(slot) = self.free
            && let Some(free) = self.slots.get_mut(slot)
        {
            self.free = free.newer.take();
            free.value = Some(value);
            free.older = older;
            let generation = free.generation;
            return Place { slot, generation };
        }
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
            older,
            newer: None,
        });
        Place {
            slot: self.slots.len() - 1,
            generation: 0,
        }
    }

    fn slot(&self, place: Place) -> Option<&Slot<T>> {
        let slot = self.slots.get(place.slot)?;
        (slot.generation == place.generation).then_some(slot)
    }

    fn place(&self, slot: usize) -> Option<Place> {
        let generation = self.slots.get(slot)?.generation;
        Some(Place { slot, generation })
    }
}
