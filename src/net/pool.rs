//! Provided buffers: a group of memory that the kernel receives into.
//!
//! A buffer is in exactly one place: in the kernel's ring, on the free stack, or *out* (parts of it
//! are held as [`Buf`]s). The stack is last-in first-out: as long as few buffers are out, few are
//! touched, and the resident memory follows the demand rather than the configured ceiling.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::types::BufRingEntry;

use super::buffer::Buf;

/// Buffers of a group are short when less than one in so many is left.
const SHORT_PART: usize = 4;

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

/// The buffers of one group. Outlives the ring as long as a [`Buf`] is held.
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
    /// With fewer than this to fill, buffers are short.
    short_below: usize,
    /// A parked ring with receives that wait for a buffer of this group.
    hungry: Cell<Option<Waker>>,
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
            short_below: usize::from(count).div_ceil(SHORT_PART),
            hungry: Cell::new(None),
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

    /// Whether so few buffers are left that nobody may keep one who does not work on it.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.available() < self.short_below
    }

    /// Wakes the parked ring when the next buffer comes back.
    pub(super) fn await_return(&self, driver: &Waker) {
        self.hungry.set(Some(driver.clone()));
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

    /// Where buffer `id` begins. `id` must be one of the pool's.
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
        Some(Buf::new(self.clone(), id, len))
    }

    /// The first byte of buffer `id`, which is out.
    pub(super) fn start_of(&self, id: u16) -> NonNull<u8> {
        // SAFETY: an address within a mapping is not null.
        unsafe { NonNull::new_unchecked(self.address(id)) }
    }

    /// Notes one part more of buffer `id`, which is out.
    #[inline]
    pub(super) fn share(&self, id: u16) {
        if let Some(parts) = self.parts.get(usize::from(id)) {
            // Each part is a live value of some 30 bytes: memory ends long before the counter does.
            parts.set(parts.get() + 1);
        }
    }

    /// Whether one part of buffer `id` is held, and no other.
    pub(super) fn is_alone(&self, id: u16) -> bool {
        self.parts
            .get(usize::from(id))
            .is_some_and(|parts| parts.get() == 1)
    }

    /// Gives one part of buffer `id` back, and with the last one the buffer.
    #[inline]
    pub(super) fn give_back(&self, id: u16) {
        let Some(parts) = self.parts.get(usize::from(id)) else {
            return;
        };
        let left = parts.get() - 1;
        parts.set(left);
        if left == 0 {
            self.out.set(self.out.get() - 1);
            // The stack has room for every id from the start: this never allocates.
            self.free.borrow_mut().push(id);
            if let Some(driver) = self.hungry.take() {
                driver.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    fn pool() -> Rc<Pool> {
        let pool = Pool::new(4, 16, 2, false).unwrap();
        pool.provide();
        pool
    }

    #[test]
    fn the_kernel_is_offered_a_window_of_the_buffers() {
        let pool = pool();
        assert_eq!((pool.provided.get(), pool.available()), (2, 4));
        let held = pool.take(0, 4);
        pool.provide();
        assert_eq!((pool.provided.get(), pool.available()), (2, 3));
        drop(held);
        pool.provide();
        assert_eq!((pool.provided.get(), pool.available()), (2, 4));
    }

    #[test]
    fn buffers_are_short_below_a_quarter() {
        for (count, short_at) in [(1, 1), (4, 4), (8, 7), (9, 7)] {
            let pool = Pool::new(count, 16, 16, false).unwrap();
            pool.provide();
            let mut held = Vec::new();
            for id in 0..count {
                assert_eq!(pool.is_short(), id >= short_at, "{id} of {count} out");
                held.push(pool.take(id, 1).unwrap());
            }
            assert!(pool.is_short());
        }
    }

    #[test]
    fn the_first_buffer_that_comes_back_wakes_a_ring_that_waits_for_one() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let pool = pool();
        let mut first = pool.take(0, 2).unwrap();
        let second = pool.take(1, 2).unwrap();
        pool.await_return(&count.clone().into());
        drop(first.split_to(1));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "a part is no buffer");
        drop((first, second));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
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
}
