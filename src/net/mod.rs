//! The network ring: sockets, buffers and deadlines of one core. The only module with unsafe code.
//!
//! Each core owns one `io_uring` for its sockets, turned by one glommio task ([`Net::drive`]). What
//! sessions see is owned values: a [`Stream`], a [`Buf`] that returns to the kernel when dropped, a
//! [`Timer`]. Nothing here knows a protocol.
//!
//! Memory the kernel reads or writes belongs to the ring's slots, never to a session: a session may
//! drop anything at any time, and the slot lives on until its last completion.
//!
//! A turn: put what was queued to the kernel and collect completions (one system call), wake the tasks
//! concerned, let them run, turn again.

#![allow(
    unsafe_code,
    reason = "the ring shares memory with the kernel; each site says why it is sound"
)]

mod accept;
mod address;
mod alarm;
mod buffer;
mod clock;
mod close;
mod connect;
mod drive;
mod hub;
mod listener;
mod options;
mod pool;
mod preflight;
mod queue;
mod remote;
mod side;
mod slab;
mod socket;
mod spare;
mod spawn;
mod state;
mod stats;
mod stream;
mod table;
mod timer;
mod wheel;
mod window;

use std::cell::{RefCell, RefMut};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use accept::Acceptor;
pub use alarm::Alarm;
pub use buffer::Buf;
pub use clock::now as read_clock;
pub use connect::Connecting;
pub use drive::ring_end;
pub use listener::{Listener, bind, bind_unix, ensure_free};
pub use options::{Keepalive, NetOptions, SocketOptions};
pub use preflight::{PreflightError, preflight};
pub use remote::RemoteWaker;
pub use spawn::{Spawned, current_task, panics, spawn};
pub use stats::NetStats;
pub use stream::{Detaching, Stream};
pub use timer::Timer;

use crate::base::address::Address;
use crate::base::clock::Now;
use connect::Connect;
use remote::Mailbox;
use side::Side;
use slab::Key;
use socket::Socket;
use state::State;

/// One core's network ring. Cheap to clone; all clones are the same ring, on one thread.
#[derive(Clone)]
pub struct Net(Rc<RefCell<State>>);

impl Net {
    /// Makes the ring, its buffers and its reserve of descriptors.
    ///
    /// # Errors
    /// What the system refuses; [`preflight()`] puts it into words.
    pub fn new(options: NetOptions) -> io::Result<Net> {
        Ok(Net(Rc::new(RefCell::new(State::new(options)?))))
    }

    /// Borrowed for the length of one call: no caller holds it while foreign code runs.
    #[inline]
    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Ends [`Net::drive`] once the streams dropped by now are closed.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        state.hub.touch();
    }

    /// Changes [`NetOptions::linger`] and [`NetOptions::write_stall`], for connections that are dropped
    /// and windows that are found closed from now on.
    pub fn set_patience(&self, linger: Duration, write_stall: Duration) {
        let mut state = self.state();
        state.hub.options.linger = linger;
        state.hub.options.write_stall = write_stall;
    }

    /// Has the ring fail, so that tests of a debug build can see what comes of it.
    #[cfg(debug_assertions)]
    pub fn break_ring(&self) {
        let mut state = self.state();
        state.hub.is_broken = true;
        state.hub.touch();
    }

    /// The clock, as read in the current turn.
    #[inline]
    pub fn now(&self) -> Now {
        let mut state = self.state();
        // A parked ring does not turn, but glommio may run a task all the same.
        if state.hub.driver.is_some() {
            state.hub.now = clock::now();
        }
        state.hub.now
    }

    /// Accepts from a listening socket.
    pub fn listen(&self, listener: impl Into<Listener>) -> Acceptor {
        let key = self.state().listen(listener.into());
        Acceptor::new(self.clone(), key)
    }

    /// Connects to `address`, on a new socket with `options`.
    pub fn connect(&self, address: impl Into<Address>, options: &SocketOptions) -> Connecting {
        let started = self.start_connect(&address.into(), options);
        Connecting::new(self.clone(), started)
    }

    fn start_connect(&self, address: &Address, options: &SocketOptions) -> io::Result<Key> {
        let address_of_peer = address::to_kernel(address)?;
        let made = options::socket_for(address, options)?;
        let mut state = self.state();
        let mut socket = Socket::new(made.into(), Side::Upstream);
        let fd = socket.raw();
        socket.connect = Some(Box::new(Connect {
            address: address_of_peer,
            result: None,
        }));
        let key = state.sockets.insert(socket);
        let State { sockets, hub, .. } = &mut *state;
        if let Some(connect) = sockets
            .get(key)
            .and_then(|socket| socket.connect.as_deref())
        {
            // SAFETY: the address is boxed in the slot, which is not removed before the connect has
            // completed (`is_busy`).
            unsafe { hub.connect(fd, key, &connect.address) };
        }
        Ok(key)
    }

    /// Takes over a connected stream socket of the upstream side, e.g. one that another core has
    /// detached.
    pub fn adopt(&self, fd: OwnedFd) -> Stream {
        // A waiting receive needs a blocking socket. Fails only on what is no socket, and then the
        // receive says so.
        let socket = socket2::SockRef::from(&fd);
        let _ = socket.set_nonblocking(false);
        // Only TCP has it, and only there is it needed.
        let _ = socket.set_tcp_nodelay(true);
        let key = self.state().sockets.insert(Socket::new(fd, Side::Upstream));
        Stream::new(self.clone(), key)
    }

    /// A slot in the deadline wheel.
    pub fn timer(&self) -> Timer {
        Timer::new(self.clone())
    }

    /// A precise wake-up, without an instant at first.
    pub fn alarm(&self) -> Alarm {
        Alarm::new(self.clone())
    }

    /// A handle that wakes this core from any thread.
    ///
    /// # Errors
    /// No descriptor is left for the pipe.
    pub fn waker(&self) -> io::Result<RemoteWaker> {
        let mut state = self.state();
        if let Some(mailbox) = &state.mailbox {
            return Ok(mailbox.waker());
        }
        let mailbox = Mailbox::new(&mut state.hub)?;
        let waker = mailbox.waker();
        state.mailbox = Some(mailbox);
        Ok(waker)
    }

    /// Ready once after each wake (several wakes may count as one); look for messages then. One task
    /// waits here. Pending for ever if [`Net::waker`] was never called.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state().mailbox {
            Some(mailbox) => mailbox.poll_woken(cx),
            None => Poll::Pending,
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> NetStats {
        self.state().stats()
    }
}
