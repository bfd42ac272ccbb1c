//! The two sides of a core, each with a group of receive buffers of its own.
//!
//! Replies free leases, and leases let statements go on that wait with their bytes: whatever clients
//! hold, a reply finds room.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use super::NetOptions;
use super::pool::Pool;
use super::preflight::Uring;
use super::slab::Key;

/// Which side of the gateway a socket is on: decided when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Accepted.
    Downstream,
    /// Connected, or taken over from another core.
    Upstream,
}

impl Side {
    /// The kernel's number of the side's buffer group.
    pub(super) fn group(self) -> u16 {
        match self {
            Self::Downstream => 1,
            Self::Upstream => 2,
        }
    }
}

/// A side's buffers, and who waits for one.
pub(super) struct Group {
    pub(super) pool: Rc<Pool>,
    /// Sockets whose receive ended for want of a buffer.
    pub(super) starved: VecDeque<Key>,
}

impl Group {
    fn new(options: &NetOptions) -> io::Result<Self> {
        let window = options.buffer_window.clamp(1, 1 << 15).next_power_of_two();
        let (count, bytes) = (options.buffer_count, options.buffer_bytes);
        Ok(Self {
            pool: Pool::new(count, bytes, window, options.prefault)?,
            starved: VecDeque::new(),
        })
    }

    /// Whether somebody waits for a buffer that is there.
    fn can_feed(&self) -> bool {
        !self.starved.is_empty() && self.pool.available() > 0
    }
}

/// Both sides' groups.
pub(super) struct Groups {
    downstream: Group,
    upstream: Group,
}

impl Groups {
    /// Not yet known to a ring.
    pub(super) fn new(options: &NetOptions) -> io::Result<Self> {
        Ok(Self {
            downstream: Group::new(options)?,
            upstream: Group::new(options)?,
        })
    }

    #[inline]
    pub(super) fn of(&self, side: Side) -> &Group {
        match side {
            Side::Downstream => &self.downstream,
            Side::Upstream => &self.upstream,
        }
    }

    #[inline]
    pub(super) fn of_mut(&mut self, side: Side) -> &mut Group {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Tells the ring about the buffers. They must outlive the ring's last operation.
    pub(super) fn register(&self, ring: &Uring) -> io::Result<()> {
        for side in [Side::Downstream, Side::Upstream] {
            let pool = &self.of(side).pool;
            // SAFETY: the address is a page-aligned mapping of `window` entries that the pool keeps
            // until it drops; every owner of a ring drops the ring, with all operations ended, before
            // its pools.
            unsafe {
                ring.submitter().register_buf_ring_with_flags(
                    pool.ring_address(),
                    pool.window(),
                    side.group(),
                    0,
                )?;
            }
        }
        Ok(())
    }

    /// Keeps the buffers for ever: the kernel may still write to them.
    pub(super) fn leak(&self) {
        for pool in [&self.downstream.pool, &self.upstream.pool] {
            let _kept_for_ever = Rc::into_raw(pool.clone());
        }
    }

    /// Offers free buffers to the kernel.
    #[inline]
    pub(super) fn provide(&self) {
        self.downstream.pool.provide();
        self.upstream.pool.provide();
    }

    /// Whether buffers of a side are short.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.downstream.pool.is_short() || self.upstream.pool.is_short()
    }

    /// Whether somebody waits for a buffer that is there.
    pub(super) fn can_feed(&self) -> bool {
        self.downstream.can_feed() || self.upstream.can_feed()
    }

    /// Has the parked ring woken when a buffer comes back that somebody waits for.
    pub(super) fn await_return(&self, driver: &Waker) {
        for group in [&self.downstream, &self.upstream] {
            if !group.starved.is_empty() {
                group.pool.await_return(driver);
            }
        }
    }

    /// Buffers of which some part is held, and the most that ever were (each side by itself).
    pub(super) fn out(&self) -> (u32, u32) {
        let (down, up) = (&self.downstream.pool, &self.upstream.pool);
        (down.out() + up.out(), down.out_max() + up.out_max())
    }
}
