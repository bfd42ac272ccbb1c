//! Accepting connections: multishot, and without spinning when descriptors run out.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use io_uring::cqueue;

use super::Net;
use super::address;
use super::hub::{Hub, Waiter};
use super::listener::Listener;
use super::options::SocketOptions;
use super::side::Side;
use super::slab::{Key, Tag};
use super::socket::Socket;
use super::state::{State, Target};
use super::stream::Stream;
use super::wheel::EntryId;
use crate::base::address::Address;

/// Accepted connections nobody has asked for, above which accepting pauses.
const READY_MAX: usize = 256;
/// First pause when descriptors or memory have run out; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Descriptors kept back.
const RESERVE: usize = 4;

struct Accepted {
    fd: OwnedFd,
    reserved: bool,
}

/// A listener of the ring.
pub(super) struct Listening {
    listener: Listener,
    ready: VecDeque<Accepted>,
    /// An accept is in the kernel.
    armed: bool,
    cancelling: bool,
    stopped: bool,
    /// The current pause; zero while there is none.
    pause: Duration,
    paused: bool,
    timer: EntryId,
    error: Option<io::Error>,
    waiter: Waiter,
}

impl Listening {
    fn arm(&mut self, key: Key, hub: &mut Hub) {
        let room = self.ready.len() < READY_MAX;
        if !self.armed && !self.stopped && !self.paused && self.error.is_none() && room {
            self.armed = true;
            hub.accept(self.listener.raw(), key, !self.listener.is_shared());
        }
    }

    fn cancel(&mut self, key: Key, hub: &mut Hub) {
        if self.armed && !std::mem::replace(&mut self.cancelling, true) {
            hub.cancel(Tag::Accept(key));
        }
    }

    fn ready(&mut self, accepted: Accepted, hub: &mut Hub) {
        hub.stats.accepts += 1;
        if !self.stopped {
            self.ready.push_back(accepted);
            self.waiter.wake(&mut hub.woken);
        }
    }
}

impl State {
    /// Accepts of one core's own listener go on for ever. Cores that share one accept once and then
    /// wait again behind the others: an accept that stays first in the kernel's line would be woken for
    /// every connection, and one core would get them all.
    pub(super) fn listen(&mut self, listener: Listener) -> Key {
        // A waiting accept needs a blocking socket: io_uring fails on others instead of waiting.
        let error = listener.set_nonblocking(false).err();
        // Whoever made the listener.
        listener.set_nodelay();
        let key = self.listeners.insert(Listening {
            listener,
            ready: VecDeque::new(),
            armed: false,
            cancelling: false,
            stopped: false,
            pause: Duration::ZERO,
            paused: false,
            timer: EntryId::NONE,
            error,
            waiter: Waiter::default(),
        });
        let timer = self.wheel.insert(Target::Listener(key));
        if let Some(listening) = self.listeners.get_mut(key) {
            listening.timer = timer;
            listening.arm(key, &mut self.hub);
        }
        key
    }

    /// A completion of an accept.
    pub(super) fn on_accept(&mut self, key: Key, result: i32, flags: u32) {
        let fd = (result >= 0).then(|| {
            // SAFETY: a successful accept has made this descriptor, and nobody else knows it.
            unsafe { OwnedFd::from_raw_fd(result) }
        });
        let Some(listening) = self.listeners.get_mut(key) else {
            return;
        };
        if !cqueue::more(flags) {
            listening.armed = false;
            listening.cancelling = false;
        }
        match (fd, -result) {
            (Some(fd), _) => {
                listening.pause = Duration::ZERO;
                listening.ready(
                    Accepted {
                        fd,
                        reserved: false,
                    },
                    &mut self.hub,
                );
                if listening.ready.len() >= READY_MAX {
                    listening.cancel(key, &mut self.hub);
                }
            }
            (None, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.pause_accepting(key);
            }
            (
                None,
                libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT,
            ) => {
                listening.error = Some(io::Error::from_raw_os_error(-result));
                listening.waiter.wake(&mut self.hub.woken);
            }
            // A connection that died in the queue, a cancel, or an error of the network: go on.
            (None, _) => {}
        }
        self.settle_listener(key);
    }

    pub(super) fn on_accept_pause_over(&mut self, key: Key) {
        self.refill_reserve();
        if let Some(listening) = self.listeners.get_mut(key) {
            listening.paused = false;
        }
        self.settle_listener(key);
    }

    /// Arms again, or removes a stopped listener after its last completion.
    fn settle_listener(&mut self, key: Key) {
        let Some(listening) = self.listeners.get_mut(key) else {
            return;
        };
        if listening.stopped && !listening.armed {
            let timer = listening.timer;
            self.wheel.remove(timer);
            self.listeners.remove(key);
        } else {
            listening.arm(key, &mut self.hub);
        }
    }

    fn pause_accepting(&mut self, key: Key) {
        self.hub.stats.accept_backoffs += 1;
        let Some(listening) = self.listeners.get_mut(key) else {
            return;
        };
        listening.pause = (listening.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        listening.paused = true;
        let (until, timer) = (self.hub.now.plus(listening.pause), listening.timer);
        self.wheel.set(timer, until);
        // Accept a few on reserved descriptors, so that somebody can tell them why.
        if listening.armed || listening.listener.set_nonblocking(true).is_err() {
            return;
        }
        while let Some(kept) = self.reserve.pop() {
            drop(kept);
            let Ok(fd) = listening.listener.accept() else {
                break;
            };
            self.hub.stats.accepts_reserved += 1;
            listening.ready(Accepted { fd, reserved: true }, &mut self.hub);
        }
        let blocking = listening.listener.set_nonblocking(false);
        if let Err(error) = blocking {
            listening.error = Some(error);
            listening.waiter.wake(&mut self.hub.woken);
        }
        self.refill_reserve();
    }

    /// Opens kept-back descriptors again, as far as that is possible now.
    pub(super) fn refill_reserve(&mut self) {
        while self.reserve.len() < RESERVE {
            let Ok(file) = File::open("/dev/null") else {
                return;
            };
            self.reserve.push(file);
        }
    }
}

/// A listening socket on the ring. Dropping it is [`Acceptor::stop`].
pub struct Acceptor {
    net: Net,
    key: Key,
}

impl Acceptor {
    pub(super) fn new(net: Net, key: Key) -> Self {
        Self { net, key }
    }

    /// The next connection and its peer. While descriptors or memory are short, accepting pauses for
    /// 10 to 100 ms at a time; a few connections still come, marked [`Stream::is_reserved`].
    ///
    /// # Errors
    /// The listener itself is broken. Errors of single connections are not reported.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Address)>> {
        loop {
            let accepted = ready!(self.poll_ready(cx))?;
            // A connection that is gone already has no peer address: the next one, then.
            let Ok(peer) = address::peer(&accepted.fd) else {
                continue;
            };
            let mut socket = Socket::new(accepted.fd, Side::Downstream);
            socket.reserved = accepted.reserved;
            let key = self.net.state().sockets.insert(socket);
            return Poll::Ready(Ok((Stream::new(self.net.clone(), key), peer)));
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let mut state = self.net.state();
        let State { listeners, hub, .. } = &mut *state;
        let Some(listening) = listeners.get_mut(self.key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(accepted) = listening.ready.pop_front() {
            if listening.ready.is_empty() {
                listening.arm(self.key, hub);
            }
            return Poll::Ready(Ok(accepted));
        }
        if let Some(error) = &listening.error {
            let again = error.raw_os_error().map(io::Error::from_raw_os_error);
            return Poll::Ready(Err(again.unwrap_or_else(|| error.kind().into())));
        }
        listening.waiter.register(cx);
        Poll::Pending
    }

    /// Sets options of the listening socket, which connections inherit that come from now on.
    ///
    /// # Errors
    /// The first one the system refuses.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        let state = self.net.state();
        let listening = state.listeners.get(self.key);
        listening.map_or(Ok(()), |listening| listening.listener.set_options(options))
    }

    /// Stops accepting. Connections nobody has asked for are closed; the listening socket closes when
    /// the accept in the kernel has ended.
    pub fn stop(self) {}
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut state = self.net.state();
        let State { listeners, hub, .. } = &mut *state;
        if let Some(listening) = listeners.get_mut(self.key) {
            listening.stopped = true;
            listening.ready.clear();
            listening.waiter.forget();
            listening.cancel(self.key, hub);
        }
        state.refill_reserve();
        state.settle_listener(self.key);
    }
}
