//! Slots with generations, and the 64-bit tags that tie a completion to the slot it belongs to.
//!
//! A slot is given out again only after it was removed, under a new generation: a tag that is still
//! under way finds nothing rather than the next owner.

use super::table::Table;

/// Generations are kept to the bits a [`Tag`] has room for.
const GENERATION_MASK: u32 = 0x00ff_ffff;

/// A slot of a [`Slab`] as it was when the key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// A multishot receive of a socket.
    Receive(Key),
    /// The send in flight on a socket.
    Send(Key),
    /// The connect of a socket.
    Connect(Key),
    /// A multishot accept of a listener.
    Accept(Key),
    /// The read of the remote waker's pipe.
    Wake,
    /// An operation whose own completion tells nothing (a cancel).
    Ignore,
}

impl Tag {
    const RECEIVE: u64 = 1;
    const SEND: u64 = 2;
    const CONNECT: u64 = 3;
    const ACCEPT: u64 = 4;
    const WAKE: u64 = 5;

    /// The `user_data` of a submission.
    pub(super) fn encode(self) -> u64 {
        let pack = |kind: u64, key: Key| {
            kind << 56 | u64::from(key.generation) << 32 | u64::from(key.index)
        };
        match self {
            Self::Receive(key) => pack(Self::RECEIVE, key),
            Self::Send(key) => pack(Self::SEND, key),
            Self::Connect(key) => pack(Self::CONNECT, key),
            Self::Accept(key) => pack(Self::ACCEPT, key),
            Self::Wake => Self::WAKE << 56,
            Self::Ignore => 0,
        }
    }

    /// The tag of a completion's `user_data`.
    pub(super) fn decode(data: u64) -> Self {
        let key = Key {
            index: (data & 0xffff_ffff) as u32,
            generation: (data >> 32) as u32 & GENERATION_MASK,
        };
        match data >> 56 {
            Self::RECEIVE => Self::Receive(key),
            Self::SEND => Self::Send(key),
            Self::CONNECT => Self::Connect(key),
            Self::ACCEPT => Self::Accept(key),
            Self::WAKE => Self::Wake,
            _ => Self::Ignore,
        }
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A table whose slots are re-used, most recently freed first.
pub(super) struct Slab<T> {
    slots: Table<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Table::new(),
            free: Vec::new(),
        }
    }

    /// Values in the table.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots, values in them or not: positions for [`Slab::at_mut`] are below this.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The value in slot `position`, if there is one, with its key.
    pub(super) fn at_mut(&mut self, position: usize) -> Option<(Key, &mut T)> {
        let index = u32::try_from(position).ok()?;
        let slot = self.slots.get_mut(position)?;
        let generation = slot.generation;
        let value = slot.value.as_mut()?;
        Some((Key { index, generation }, value))
    }

    /// Stores `value`.
    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Key {
                index,
                generation: slot.generation,
            };
        }
        let index = self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        }) as u32;
        Key {
            index,
            generation: 0,
        }
    }

    /// The value behind `key`; `None` once it was removed.
    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    /// The value behind `key`; `None` once it was removed.
    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the value out and ends the key's generation.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(key.index);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_nothing_after_its_value_was_removed() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(first.index, second.index, "the slot is re-used");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.slots(), 1);
        assert_eq!(slab.at_mut(0), Some((second, &mut 'b')));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn tags_survive_the_trip_through_user_data() {
        let key = Key {
            index: u32::MAX,
            generation: GENERATION_MASK,
        };
        let zero = Key {
            index: 0,
            generation: 0,
        };
        for tag in [
            Tag::Receive(key),
            Tag::Send(key),
            Tag::Connect(zero),
            Tag::Accept(key),
            Tag::Wake,
            Tag::Ignore,
        ] {
            assert_eq!(Tag::decode(tag.encode()), tag);
        }
    }

    #[test]
    fn generations_wrap_within_the_tag() {
        let mut slab = Slab::new();
        let key = slab.insert(0);
        slab.slots[0].generation = GENERATION_MASK;
        let last = Key {
            generation: GENERATION_MASK,
            ..key
        };
        slab.remove(last);
        let next = slab.insert(1);
        assert_eq!(next.generation, 0);
        assert_eq!(Tag::decode(Tag::Send(next).encode()), Tag::Send(next));
    }
}
