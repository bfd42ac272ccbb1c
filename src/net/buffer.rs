//! Received bytes as sessions hold them.
//!
//! A [`Buf`] is an owned range of the memory that the kernel received into. That memory is short and
//! shared by all connections of a core, so it is held only while somebody works on it. Whoever lets
//! received bytes *wait* (for a lease, for the end of the exchange before them, for a peer) calls
//! [`Buf::settle`] on them: they are copied out if they are small against their buffer, or if
//! buffers are short, and the buffer goes back to the kernel. A settled `Buf` is used like any other,
//! and [`super::Stream::send`] takes it as it is.
//!
//! Bytes that wait inside of the ring, unread or unsent, are looked after by the ring (`spare.rs`).
//!
//! Ranges of one memory never overlap, so each `Buf` may be written through.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use super::pool::Pool;

/// Bytes are small against their buffer when they fill no more than one part in so many.
const SMALL_PART: usize = 4;
/// The least room of a copy to which more may be appended.
const ROOM_MIN: usize = 256;

/// An exclusively owned range of received bytes. Their memory is given back when the last range of it
/// is dropped. Never empty unless it was made so by its owner.
pub struct Buf {
    start: NonNull<u8>,
    len: u32,
    memory: Memory,
}

/// Who keeps the bytes.
enum Memory {
    /// A buffer of the pool, by its number.
    Ring { pool: Rc<Pool>, id: u16 },
    /// A copy.
    Heap(Rc<Block>),
}

/// Initialised memory of its own, written through raw pointers only.
struct Block {
    start: NonNull<u8>,
    bytes: usize,
}

impl Block {
    fn new(bytes: Box<[u8]>) -> Rc<Self> {
        let len = bytes.len();
        let start = NonNull::from(Box::leak(bytes)).cast();
        Rc::new(Self { start, bytes: len })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let slice = NonNull::slice_from_raw_parts(self.start, self.bytes);
        // SAFETY: the slice was leaked by `new`, and nobody refers to it any more.
        drop(unsafe { Box::from_raw(slice.as_ptr()) });
    }
}

impl Buf {
    /// The first `len` bytes of buffer `id`, which has just gone out and has `len` bytes at least.
    #[inline]
    pub(super) fn new(pool: Rc<Pool>, id: u16, len: u32) -> Self {
        Self {
            start: pool.start_of(id),
            len,
            memory: Memory::Ring { pool, id },
        }
    }

    /// Bytes in memory of their own, as if they had been received and had settled.
    pub fn copied(bytes: &[u8]) -> Self {
        let block = Block::new(bytes.into());
        Self {
            start: block.start,
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            memory: Memory::Heap(block),
        }
    }

    /// For bytes that wait: copies them out of the ring's buffer if they fill no more than a quarter
    /// of it, or if buffers are short; else, and if they were copied before, nothing happens. Call it
    /// again when more bytes begin to wait, not at each turn.
    pub fn settle(&mut self) {
        if let Memory::Ring { pool, .. } = &self.memory
            && (self.len() <= pool.buffer_bytes() / SMALL_PART || pool.is_short())
        {
            self.copy_out(0);
        }
    }

    /// Whether this holds a buffer of a pool whose buffers are short.
    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        matches!(&self.memory, Memory::Ring { pool, .. } if pool.is_short())
    }

    /// Moves the bytes into memory of their own that has room for `room` bytes at least.
    pub(super) fn copy_out(&mut self, room: usize) {
        let mut copy = Vec::with_capacity(self.len().max(room));
        copy.extend_from_slice(self);
        copy.resize(copy.capacity(), 0);
        let block = Block::new(copy.into_boxed_slice());
        let len = self.len;
        *self = Self {
            start: block.start,
            len,
            memory: Memory::Heap(block),
        };
    }

    /// As [`Buf::copy_out`], with room for bytes that follow.
    pub(super) fn copy_out_roomy(&mut self) {
        self.copy_out(self.len().next_power_of_two().max(ROOM_MIN));
    }

    /// Splits off the first `n` bytes (all of them if there are fewer); `self` keeps the rest.
    pub fn split_to(&mut self, n: usize) -> Buf {
        let n = self.bounded(n);
        let memory = match &self.memory {
            Memory::Ring { pool, id } => {
                pool.share(*id);
                Memory::Ring {
                    pool: pool.clone(),
                    id: *id,
                }
            }
            Memory::Heap(block) => Memory::Heap(block.clone()),
        };
        let head = Buf {
            start: self.start,
            len: n,
            memory,
        };
        self.skip(n);
        head
    }

    /// Forgets the first `n` bytes (all of them if there are fewer).
    pub fn advance(&mut self, n: usize) {
        self.skip(self.bounded(n));
    }

    /// Forgets all but the first `n` bytes; no effect if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.bounded(n);
    }

    fn bounded(&self, n: usize) -> u32 {
        u32::try_from(n).map_or(self.len, |n| n.min(self.len))
    }

    /// `n <= len`.
    fn skip(&mut self, n: u32) {
        // SAFETY: the range has `len` bytes, so the result is in it or at its end.
        self.start = unsafe { self.start.add(n as usize) };
        self.len -= n;
    }

    /// The byte past the end. It may be another range's, or past the memory.
    fn end(&self) -> NonNull<u8> {
        // SAFETY: the range has `len` bytes, so the result is at its end.
        unsafe { self.start.add(self.len as usize) }
    }

    /// Joins `next` to the end if it is the range that follows in the same memory.
    pub(super) fn absorb(&mut self, next: Buf) -> Result<(), Buf> {
        let is_same = match (&self.memory, &next.memory) {
            (Memory::Ring { pool, id }, Memory::Ring { pool: other, id: n }) => {
                id == n && Rc::ptr_eq(pool, other)
            }
            (Memory::Heap(block), Memory::Heap(other)) => Rc::ptr_eq(block, other),
            _ => false,
        };
        if !is_same || self.end() != next.start {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }

    /// Copies `bytes` behind the end, into the unused rest of the memory. `false`, and no change, if
    /// there is no room or if another range of the memory may lie there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        let (first, size, alone) = match &self.memory {
            Memory::Ring { pool, id } => {
                (pool.start_of(*id), pool.buffer_bytes(), pool.is_alone(*id))
            }
            Memory::Heap(block) => (block.start, block.bytes, Rc::strong_count(block) == 1),
        };
        let used = self.end().addr().get() - first.addr().get();
        if !alone || bytes.len() > size - used {
            return false;
        }
        // SAFETY: this is the memory's only range, so nothing else refers to the bytes past its end;
        // the copy ends within the memory (checked above) and cannot overlap a shared slice into it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.end().as_ptr(), bytes.len());
        }
        self.len += bytes.len() as u32;
        true
    }
}

impl Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in memory that is initialised (a pool's was zeroed by the kernel) and
        // lives as long as `memory`; the kernel does not write to a buffer that is out, and ranges of
        // one memory do not overlap, so no one else can write here while the borrow lasts.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` and the absence of `Clone` make the range exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if let Memory::Ring { pool, id } = &self.memory {
            pool.give_back(*id);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Contents may be a tenant's data or a credential: only the size is shown.
        write!(f, "Buf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Rc<Pool> {
        let pool = Pool::new(4, 16, 2, false).unwrap();
        pool.provide();
        pool
    }

    fn filled(pool: &Rc<Pool>, id: u16, bytes: &[u8]) -> Buf {
        let mut buf = pool.take(id, bytes.len() as u32).unwrap();
        buf.copy_from_slice(bytes);
        buf
    }

    #[test]
    fn a_buffer_returns_when_its_last_part_drops() {
        let pool = pool();
        let mut tail = filled(&pool, 0, b"hello world");
        let head = tail.split_to(6);
        assert_eq!((&*head, &*tail), (&b"hello "[..], &b"world"[..]));
        assert_eq!((pool.out(), pool.available()), (1, 3));
        drop(tail);
        assert_eq!(pool.out(), 1);
        drop(head);
        assert_eq!((pool.out(), pool.available()), (0, 4));
    }

    #[test]
    fn ranges_are_bounded_by_what_is_there() {
        let pool = pool();
        let mut buf = filled(&pool, 1, b"abcdef");
        buf.truncate(99);
        buf.advance(1);
        assert_eq!(&*buf, b"bcdef");
        buf.truncate(3);
        assert_eq!(&*buf.split_to(usize::MAX), b"bcd");
        assert!(buf.is_empty());
        buf.advance(1);
        assert!(buf.is_empty());
    }

    #[test]
    fn only_the_range_that_follows_is_absorbed() {
        let pool = pool();
        let mut rest = filled(&pool, 0, b"abcdef");
        let mut first = rest.split_to(2);
        let second = rest.split_to(2);
        let rest = first.absorb(rest).unwrap_err();
        first.absorb(second).unwrap();
        first.absorb(rest).unwrap();
        assert_eq!(&*first, b"abcdef");
        let other = filled(&pool, 1, b"x");
        assert!(first.absorb(other).is_err());
        drop(first);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn bytes_are_appended_only_into_room_of_ones_own() {
        let pool = pool();
        let mut buf = filled(&pool, 0, b"abc");
        assert!(buf.append(b"def"));
        assert!(!buf.append(&[0; 11]));
        assert!(buf.append(&[b'.'; 10]));
        assert_eq!(&*buf, b"abcdef..........");
        let mut shared = filled(&pool, 1, b"abc");
        let head = shared.split_to(1);
        assert!(!shared.append(b"x"));
        drop(head);
        assert!(shared.append(b"x"));
        assert_eq!(&*shared, b"bcx");
    }

    #[test]
    fn buffers_outlive_the_last_other_owner_of_the_pool() {
        let pool = pool();
        let buf = filled(&pool, 0, b"still here");
        drop(pool);
        assert_eq!(&*buf, b"still here");
    }

    #[test]
    fn bytes_that_settle_leave_their_buffer_and_stay_what_they_are() {
        let pool = pool();
        let mut rest = filled(&pool, 0, b"abcdef");
        let mut head = rest.split_to(2);
        head.settle();
        assert_eq!(
            (&*head, pool.out()),
            (&b"ab"[..], 1),
            "another part is held"
        );
        rest.advance(1);
        rest.settle();
        assert_eq!((&*rest, pool.out()), (&b"def"[..], 0));
        // A copy is a range like any other.
        let mut first = rest.split_to(1);
        let mut second = rest.split_to(1);
        second[0] = b'E';
        first.settle();
        assert!(!first.append(b"x"), "another range may lie there");
        let rest = first.absorb(rest).unwrap_err();
        first.absorb(second).unwrap();
        first.absorb(rest).unwrap();
        assert_eq!(&*first, b"dEf");
        first.truncate(2);
        assert_eq!(&*first, b"dE");
    }

    #[test]
    fn many_bytes_settle_only_when_buffers_are_short() {
        let pool = Pool::new(4, 16, 4, false).unwrap();
        pool.provide();
        let mut large = filled(&pool, 0, &[1; 5]);
        large.settle();
        assert_eq!(pool.out(), 1, "more than a quarter");
        let held: Vec<_> = (1..4).map(|id| filled(&pool, id, &[2; 16])).collect();
        assert!(large.is_scarce());
        large.settle();
        assert_eq!((&*large, pool.out()), (&[1; 5][..], 3));
        assert!(!large.is_scarce());
        drop(held);
        let mut whole = filled(&pool, 1, &[3; 16]);
        whole.settle();
        assert_eq!(pool.out(), 1);
    }

    #[test]
    fn a_copy_with_room_takes_more() {
        let pool = pool();
        let mut buf = filled(&pool, 0, b"a");
        buf.copy_out_roomy();
        assert!(buf.append(&[b'.'; 100]));
        assert!(!buf.append(&[0; ROOM_MIN]));
        assert_eq!((buf.len(), &buf[..3], pool.out()), (101, &b"a.."[..], 0));
    }
}
