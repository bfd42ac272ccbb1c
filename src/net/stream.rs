//! A connection on the ring, as its session's driver sees it.

use std::cell::RefMut;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::address;
use super::buffer::Buf;
use super::slab::Key;
use super::socket::{End, Meter, Receiving, Shutdown, Socket};
use super::state::State;
use super::{Net, SocketOptions};
use crate::base::address::Address;
use crate::telemetry::cells::Counter;

/// An owned connection. One task reads and one (usually the same) writes.
///
/// Dropping it sends what is queued, within the linger time, then ends the connection in order; none of
/// that blocks. [`Stream::abort`] ends it at once.
pub struct Stream {
    net: Net,
    key: Key,
}

impl Stream {
    pub(super) fn new(net: Net, key: Key) -> Self {
        Self { net, key }
    }

    #[inline]
    fn socket(state: &mut State, key: Key) -> (&mut Socket, &mut super::hub::Hub) {
        let State { sockets, hub, .. } = state;
        match sockets.get_mut(key) {
            Some(socket) => (socket, hub),
            None => unreachable!("a slot lives as long as its stream"),
        }
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut Socket, Key, &mut super::hub::Hub) -> R) -> R {
        let mut state: RefMut<'_, State> = self.net.state();
        let (socket, hub) = Self::socket(&mut state, self.key);
        f(socket, self.key, hub)
    }

    /// Counts from now on the bytes that the kernel hands over and takes, until the connection is closed.
    pub fn count(&self, received: &Rc<Counter>, sent: &Rc<Counter>) {
        self.with(|socket, _, _| {
            socket.meter = Some(Meter {
                received: Rc::clone(received),
                sent: Rc::clone(sent),
            });
        });
    }

    /// The next received bytes, or `None` after the peer's last byte. Arms the receive on first use.
    ///
    /// # Errors
    /// What the connection ended with, after all bytes that came before it; again on each call.
    #[inline]
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Buf>>> {
        self.with(|socket, key, hub| {
            if let Some(buf) = socket.pop(key, hub) {
                return Poll::Ready(Ok(Some(buf)));
            }
            match socket.end {
                Some(End::Eof) => Poll::Ready(Ok(None)),
                Some(End::Error(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
                None => {
                    socket.wanted = true;
                    socket.arm(key, hub);
                    socket.reader.register(cx);
                    Poll::Pending
                }
            }
        })
    }

    /// Ready once the peer has sent its last byte, whether or not all of them have been read.
    ///
    /// # Errors
    /// What the connection ended with instead; again on each call.
    #[inline]
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket, key, hub| match socket.end {
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::Error(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => {
                socket.wanted = true;
                socket.arm(key, hub);
                socket.reader.register(cx);
                Poll::Pending
            }
        })
    }

    /// Arms the receive without waiting: an idle pooled connection notices its peer's end, see
    /// [`Stream::is_disturbed`].
    pub fn start_receiving(&mut self) {
        self.with(|socket, key, hub| {
            socket.wanted = true;
            socket.arm(key, hub);
        });
    }

    /// Whether anything has arrived that nobody has read: bytes, the end, or an error; or a send has
    /// failed. A pooled connection of which this is true is dead.
    pub fn is_disturbed(&self) -> bool {
        self.with(|socket, _, _| {
            !socket.inbox.is_empty() || socket.end.is_some() || socket.send_error.is_some()
        })
    }

    /// Whether the peer has ended the connection, in order or not.
    pub fn has_ended(&self) -> bool {
        self.with(|socket, _, _| socket.end.is_some())
    }

    /// Whether bytes, the end or an error wait in the kernel: asks it, so that a connection which was
    /// just adopted need not wait for its first turn. [`Stream::is_disturbed`] knows afterwards.
    pub fn is_readable(&self) -> bool {
        self.with(|socket, _, _| {
            let mut byte = [MaybeUninit::uninit()];
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let peeked = socket2::SockRef::from(&socket.fd).recv_with_flags(&mut byte, flags);
            !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        })
    }

    /// Bytes received and not yet read.
    pub fn unread(&self) -> usize {
        self.with(|socket, _, _| socket.unread)
    }

    /// Stops receiving, because the side this one feeds is slow: as soon as more arrives than was
    /// already under way, the kernel's window closes to the peer. Received bytes can still be read.
    pub fn pause_receiving(&mut self) {
        self.with(|socket, _, _| socket.paused = true);
    }

    /// Ends a pause.
    pub fn resume_receiving(&mut self) {
        self.with(|socket, key, hub| {
            socket.paused = false;
            socket.arm(key, hub);
        });
    }

    /// Queues a received buffer, as it is. Empty buffers and those after a failed send are dropped.
    #[inline]
    pub fn send(&mut self, buf: Buf) {
        self.with(|socket, key, hub| {
            if socket.can_queue() {
                socket.queue.push(buf, &mut hub.small);
                socket.mark_dirty(key, hub);
            }
        });
    }

    /// Queues a copy of `bytes`; consecutive copies share a chunk.
    #[inline]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.with(|socket, key, hub| {
            if socket.can_queue() {
                socket.queue.push_bytes(bytes, &mut hub.small);
                socket.mark_dirty(key, hub);
            }
        });
    }

    /// Queues bytes that live for ever, without a copy.
    pub fn send_static(&mut self, bytes: &'static [u8]) {
        self.with(|socket, key, hub| {
            if socket.can_queue() {
                socket.queue.push_static(bytes, &mut hub.small);
                socket.mark_dirty(key, hub);
            }
        });
    }

    /// Bytes queued or in flight.
    pub fn unsent(&self) -> usize {
        self.with(|socket, _, _| socket.queue.bytes())
    }

    /// Bytes that the kernel has taken so far.
    pub fn taken(&self) -> u64 {
        self.with(|socket, _, _| socket.taken)
    }

    /// A figure that changes whenever the peer takes bytes, though a send of which they are part may not
    /// have completed. Asks the kernel.
    pub fn progress(&self) -> u64 {
        self.with(|socket, _, _| socket.progress())
    }

    /// Whether a send has failed.
    pub fn has_failed(&self) -> bool {
        self.with(|socket, _, _| socket.send_error.is_some())
    }

    /// Ready when at most `limit` bytes are unsent.
    ///
    /// # Errors
    /// A send has failed; what was queued is gone. Again on each call.
    #[inline]
    pub fn poll_unsent_below(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<()>> {
        self.with(|socket, _, _| {
            if let Some(error) = socket.failure() {
                return Poll::Ready(Err(error));
            }
            if socket.queue.bytes() <= limit {
                return Poll::Ready(Ok(()));
            }
            socket.writer_limit = limit;
            socket.writer.register(cx);
            Poll::Pending
        })
    }

    /// Ends the sending half after everything queued so far; later sends are dropped.
    pub fn shutdown_write(&mut self) {
        self.with(|socket, _, _| {
            if socket.shutdown == Shutdown::Open {
                socket.shutdown = Shutdown::Wanted;
                socket.finish_shutdown();
            }
        });
    }

    /// Ends the connection with a reset; what is queued is dropped.
    pub fn abort(mut self) {
        self.abort_when_dropped();
    }

    /// As [`Stream::abort`], for an owner that cannot give the stream away: done when it is dropped.
    pub fn abort_when_dropped(&mut self) {
        self.with(|socket, _, _| socket.reset = true);
    }

    /// Whether this connection was accepted on a descriptor kept back for telling clients that there
    /// are no others: say so and drop it.
    pub fn is_reserved(&self) -> bool {
        self.with(|socket, _, _| socket.reserved)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection has ended.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.with(|socket, _, _| address::peer(&socket.fd))
    }

    /// Whether this connection and `other` lead to the same server, as far as the kernel knows: the same
    /// address, and the same process where that is a Unix socket. False when either has ended.
    pub fn is_to_server_of(&self, other: &Stream) -> bool {
        let server = |stream: &Self| stream.with(|socket, _, _| address::server(&socket.fd));
        let this = server(self);
        this.is_some() && this == server(other)
    }

    /// The address on this side.
    ///
    /// # Errors
    /// What `getsockname` says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.with(|socket, _, _| {
            address::from_kernel(&socket2::SockRef::from(&socket.fd).local_addr()?)
        })
    }

    /// Sets socket options.
    ///
    /// # Errors
    /// The first one the system refuses.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        self.with(|socket, _, _| options.apply(&socket.fd))
    }

    /// Takes the connection off the ring, so that another core can adopt it. Waits for queued bytes to
    /// be sent and for the receive to end.
    pub fn detach(self) -> Detaching {
        self.with(|socket, key, hub| {
            socket.wanted = false;
            socket.cancel_receive(key, hub);
        });
        Detaching { stream: Some(self) }
    }

    /// Receives again after a detaching that came to nothing.
    fn stay(&self) {
        self.with(|socket, key, hub| {
            socket.wanted = true;
            socket.arm(key, hub);
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What was said is not complete, and an orderly end would say that it is.
            self.abort_when_dropped();
        }
        self.net.state().orphan(self.key);
    }
}

/// A connection on its way off the ring.
#[must_use = "a connection that is not awaited is closed"]
pub struct Detaching {
    stream: Option<Stream>,
}

impl Detaching {
    /// The connection, which stays on the ring; `None` once it has left or was given back.
    pub fn give_up(mut self) -> Option<Stream> {
        self.stream.take().inspect(Stream::stay)
    }
}

impl Future for Detaching {
    type Output = Result<OwnedFd, Option<Stream>>;

    /// # Errors
    /// A byte, the end or an error has arrived, or a send has failed: the connection, which stays on
    /// the ring; `None` if this was told before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(stream) = &self.stream else {
            return Poll::Ready(Err(None));
        };
        if stream.is_disturbed() {
            stream.stay();
            return Poll::Ready(Err(self.stream.take()));
        }
        let waits = stream.with(|socket, key, hub| {
            // In the line for a buffer, but not in the kernel.
            if socket.receiving == Receiving::Starved {
                socket.receiving = Receiving::Idle;
            }
            socket.cancel_receive(key, hub);
            let waits = socket.is_busy() || socket.queue.bytes() > 0;
            if waits {
                socket.reader.register(cx);
                socket.writer_limit = 0;
                socket.writer.register(cx);
            }
            waits
        });
        if waits {
            return Poll::Pending;
        }
        // The other core's ring looks at the window itself.
        stream.with(|socket, _, _| socket.restore_timeout());
        let (net, key) = (stream.net.clone(), stream.key);
        let socket = net.state().sockets.remove(key);
        // Its drop finds the slot gone.
        self.stream = None;
        Poll::Ready(match socket {
            Some(socket) => Ok(socket.fd),
            None => Err(None),
        })
    }
}
