//! Provided buffers: memory the kernel receives into, and the owned ranges handed to sessions.
//!
//! A buffer is in exactly one place: in the kernel's ring, on the free stack, or *out* (parts of it
//! are held as [`Buf`]s). Parts of one buffer never overlap, so each `Buf` may be written through.
//! The stack is last-in first-out: as long as few buffers are out, few are touched, and the
//! resident memory follows the demand rather than the configured ceiling.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Anonymous private memory, unmapped on drop.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` of zeroed memory; `prefault` makes all of it resident at once.
    pub(super) fn new(bytes: usize, prefault: bool) -> io::Result<Self> {
        let populate = if prefault { libc::MAP_POPULATE } else { 0 };
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE | populate,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and whoever could still use it owns the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The buffers of one ring. Outlives the ring as long as a [`Buf`] is held.
pub(super) struct Pool {
    /// Descriptors shared with the kernel: `window` entries, the first one also holds the tail.
    ring: Mapping,
    memory: Mapping,
    buffer_bytes: u32,
    window: u16,
    /// Parts of each buffer that are out; 0 while it is free or in the kernel's ring.
    parts: Box<[Cell<u32>]>,
    free: RefCell<Vec<u16>>,
    tail: Cell<u16>,
    /// Buffers in the kernel's ring, as far as completions have told.
    provided: Cell<u16>,
    out: Cell<u32>,
    out_max: Cell<u32>,
}

impl Pool {
    /// `count` buffers of `buffer_bytes`, at most `window` of them in the kernel's ring at a time.
    /// `window` must be a power of two.
    pub(super) fn new(
        count: u16,
        buffer_bytes: u32,
        window: u16,
        prefault: bool,
    ) -> io::Result<Rc<Self>> {
        if count == 0 || buffer_bytes == 0 || !window.is_power_of_two() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize, prefault)?;
        let ring = Mapping::new(usize::from(window) * size_of::<BufRingEntry>(), true)?;
        Ok(Rc::new(Self {
            ring,
            memory,
            buffer_bytes,
            window,
            parts: (0..count).map(|_| Cell::new(0)).collect(),
            // Low numbers on top: the first buffers used are neighbours.
            free: RefCell::new((0..count).rev().collect()),
            tail: Cell::new(0),
            provided: Cell::new(0),
            out: Cell::new(0),
            out_max: Cell::new(0),
        }))
    }

    /// Address of the descriptors, for registration with the kernel.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.start.as_ptr() as u64
    }

    pub(super) fn window(&self) -> u16 {
        self.window
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// Buffers of which some part is held.
    pub(super) fn out(&self) -> u32 {
        self.out.get()
    }

    /// The most buffers that were ever out at once.
    pub(super) fn out_max(&self) -> u32 {
        self.out_max.get()
    }

    /// Buffers the kernel can fill now or after the next [`Pool::provide`].
    pub(super) fn available(&self) -> usize {
        usize::from(self.provided.get()) + self.free.borrow().len()
    }

    /// Fills the kernel's ring up from the free stack, hottest buffers first.
    #[inline]
    pub(super) fn provide(&self) {
        if self.provided.get() >= self.window {
            return;
        }
        let mut free = self.free.borrow_mut();
        let entries = self.ring.start.cast::<BufRingEntry>().as_ptr();
        let mut tail = self.tail.get();
        let mut provided = self.provided.get();
        while provided < self.window {
            let Some(id) = free.pop() else { break };
            let slot = usize::from(tail & (self.window - 1));
            // SAFETY: `slot < window`, within the mapping; an entry between the kernel's head and
            // the tail is never written because at most `window` buffers are provided. The tail
            // field shares bytes with the first entry's reserved field, which no setter touches.
            let entry = unsafe { &mut *entries.add(slot) };
            entry.set_addr(self.address(id) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
            tail = tail.wrapping_add(1);
            provided += 1;
        }
        self.provided.set(provided);
        if tail != self.tail.replace(tail) {
            // SAFETY: the base is the first entry of the ring, zeroed and valid for the pool's life;
            // the field is two-aligned and shared with the kernel only, hence the atomic store.
            let shared = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
            // Release: the kernel must see the entries before it sees the tail that covers them.
            shared.store(tail, Ordering::Release);
        }
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: ids come from `free`, so `id < count` and the result lies in the mapping.
        unsafe {
            self.memory
                .start
                .as_ptr()
                .add(usize::from(id) * self.buffer_bytes as usize)
        }
    }

    /// Takes over buffer `id`, which a completion says holds `len` bytes. `None` if the kernel names
    /// a buffer it was not given.
    #[inline]
    pub(super) fn take(self: &Rc<Self>, id: u16, len: u32) -> Option<Buf> {
        let parts = self.parts.get(usize::from(id))?;
        if parts.get() != 0 || len > self.buffer_bytes {
            return None;
        }
        parts.set(1);
        self.provided.set(self.provided.get().saturating_sub(1));
        let out = self.out.get() + 1;
        self.out.set(out);
        self.out_max.set(self.out_max.get().max(out));
        Some(Buf {
            pool: self.clone(),
            id,
            start: 0,
            len,
        })
    }
}

/// An exclusively owned range of a received buffer. The buffer goes back to the kernel when the last
/// range of it is dropped. Never empty unless it was made so by its owner.
pub struct Buf {
    pool: Rc<Pool>,
    id: u16,
    start: u32,
    len: u32,
}

impl Buf {
    /// Splits off the first `n` bytes (all of them if there are fewer); `self` keeps the rest.
    pub fn split_to(&mut self, n: usize) -> Buf {
        let n = self.bounded(n);
        let parts = &self.pool.parts[usize::from(self.id)];
        // Each part is a live value of 24 bytes: memory ends long before the counter does.
        parts.set(parts.get() + 1);
        let head = Buf {
            pool: self.pool.clone(),
            id: self.id,
            start: self.start,
            len: n,
        };
        self.start += n;
        self.len -= n;
        head
    }

    /// Bytes of the whole buffer that this is a range of.
    pub fn capacity(&self) -> usize {
        self.pool.buffer_bytes()
    }

    /// Forgets the first `n` bytes (all of them if there are fewer).
    pub fn advance(&mut self, n: usize) {
        let n = self.bounded(n);
        self.start += n;
        self.len -= n;
    }

    /// Forgets all but the first `n` bytes; no effect if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.bounded(n);
    }

    fn bounded(&self, n: usize) -> u32 {
        u32::try_from(n).map_or(self.len, |n| n.min(self.len))
    }

    /// Joins `next` to the end if it is the range that follows in the same buffer.
    pub(super) fn absorb(&mut self, next: Buf) -> Result<(), Buf> {
        let follows = self.id == next.id
            && self.start + self.len == next.start
            && Rc::ptr_eq(&self.pool, &next.pool);
        if !follows {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }

    /// Copies `bytes` behind the end, into the unused rest of the buffer. `false`, and no change, if
    /// there is no room or if another part of the buffer may lie there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        let end = (self.start + self.len) as usize;
        let alone = self.pool.parts[usize::from(self.id)].get() == 1;
        if !alone || bytes.len() > self.pool.buffer_bytes() - end {
            return false;
        }
        // SAFETY: this is the buffer's only part, so nothing else refers to the bytes past its end;
        // the range ends within the buffer (checked above) and cannot overlap a shared slice into it.
        unsafe {
            let to = self.pool.address(self.id).add(end);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.len += bytes.len() as u32;
        true
    }
}

impl Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start + len <= buffer_bytes`; the memory is initialised (zeroed by the kernel) and
        // lives as long as `pool`; the kernel does not write to a buffer that is out, and parts of one
        // buffer do not overlap, so no one else can write here while the borrow lasts.
        unsafe {
            let start = self.pool.address(self.id).add(self.start as usize);
            std::slice::from_raw_parts(start, self.len as usize)
        }
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` and the absence of `Clone` make the range exclusive.
        unsafe {
            let start = self.pool.address(self.id).add(self.start as usize);
            std::slice::from_raw_parts_mut(start, self.len as usize)
        }
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        let parts = &self.pool.parts[usize::from(self.id)];
        let left = parts.get() - 1;
        parts.set(left);
        if left == 0 {
            self.pool.out.set(self.pool.out.get() - 1);
            // The stack has room for every id from the start: this never allocates.
            self.pool.free.borrow_mut().push(self.id);
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
        pool.provide();
        assert_eq!(pool.provided.get(), 2, "never more than the window");
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
    fn a_buffer_that_is_out_cannot_be_taken_again() {
        let pool = pool();
        let held = pool.take(0, 4);
        assert!(held.is_some());
        assert!(pool.take(0, 4).is_none());
        assert!(pool.take(9, 4).is_none());
        assert!(pool.take(1, 17).is_none());
    }

    #[test]
    fn buffers_outlive_the_last_other_owner_of_the_pool() {
        let pool = pool();
        let buf = filled(&pool, 0, b"still here");
        drop(pool);
        assert_eq!(&*buf, b"still here");
    }
}
