//! One socket of the ring: what was received and not yet read, what is queued and not yet sent.
//!
//! At most one multishot receive and one send are in the kernel for a socket. The slot, and with it
//! the descriptor and everything queued, goes away only after both have completed for the last time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::cqueue;

use super::buffer::Buf;
use super::connect::Connect;
use super::hub::{Header, Hub, Waiter};
use super::queue::SendQueue;
use super::side::Side;
use super::slab::{Key, Tag};
use super::wheel::EntryId;
use crate::base::clock::Now;
use crate::telemetry::cells::Counter;

/// The multishot receive of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// None in the kernel.
    Idle,
    /// In the kernel.
    Armed,
    /// In the kernel and asked to end.
    Cancelling,
    /// Ended for want of buffers; waits in the line for some.
    Starved,
}

/// How receiving ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer sent its last byte.
    Eof,
    /// An errno.
    Error(i32),
}

/// Where a socket is between its owner's wish and its close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// A `Stream` or `Connecting` owns it.
    Owned,
    /// Dropped: sends what is queued.
    Flushing,
    /// All sent and shut down: waits for the peer's end, discarding what still comes.
    Draining,
    /// Waits for the last completions.
    Ending,
}

/// The half that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    Open,
    /// After what is queued.
    Wanted,
    Done,
}

/// Where a socket's bytes are counted.
pub(super) struct Meter {
    pub(super) received: Rc<Counter>,
    pub(super) sent: Rc<Counter>,
}

pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// Whose buffers it receives into.
    pub(super) side: Side,
    pub(super) meter: Option<Meter>,
    pub(super) life: Life,
    pub(super) connect: Option<Box<Connect>>,
    /// Accepted on a reserved descriptor.
    pub(super) reserved: bool,

    pub(super) inbox: VecDeque<Buf>,
    /// Bytes in `inbox`.
    pub(super) unread: usize,
    pub(super) end: Option<End>,
    pub(super) receiving: Receiving,
    /// The owner has asked to receive.
    pub(super) wanted: bool,
    pub(super) paused: bool,
    pub(super) reader: Waiter,

    pub(super) queue: SendQueue,
    /// Bytes that the kernel has taken.
    pub(super) taken: u64,
    pub(super) header: Option<Box<Header>>,
    /// Listed in `Hub::dirty`.
    pub(super) dirty: bool,
    /// The send under way has been asked to end.
    pub(super) send_cancelled: bool,
    /// When the last send began.
    pub(super) sent_at: Now,
    /// What it has sent may be with the kernel still.
    pub(super) to_prove: bool,
    /// The configured timeout, while another one is set because the peer's window is closed.
    pub(super) lifted: Option<Option<Duration>>,
    pub(super) send_error: Option<i32>,
    pub(super) shutdown: Shutdown,
    pub(super) writer: Waiter,
    /// Unsent bytes at which the writer wants to be woken.
    pub(super) writer_limit: usize,

    /// The deadline of flushing and draining.
    pub(super) linger: Option<EntryId>,
    /// Bytes discarded while draining.
    pub(super) discarded: usize,
    /// Close with a reset instead of an orderly end.
    pub(super) reset: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, side: Side) -> Self {
        Self {
            fd,
            side,
            meter: None,
            life: Life::Owned,
            connect: None,
            reserved: false,
            inbox: VecDeque::new(),
            unread: 0,
            end: None,
            receiving: Receiving::Idle,
            wanted: false,
            paused: false,
            reader: Waiter::default(),
            queue: SendQueue::new(),
            taken: 0,
            header: None,
            dirty: false,
            send_cancelled: false,
            sent_at: Now::default(),
            to_prove: false,
            lifted: None,
            send_error: None,
            shutdown: Shutdown::Open,
            writer: Waiter::default(),
            writer_limit: 0,
            linger: None,
            discarded: 0,
            reset: false,
        }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether an operation of this socket is in the kernel.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.is_lent()
            || matches!(self.receiving, Receiving::Armed | Receiving::Cancelling)
            || self
                .connect
                .as_ref()
                .is_some_and(|connect| connect.result.is_none())
    }

    // Receiving.

    /// Arms the receive if it is wanted, allowed and not there yet.
    #[inline]
    pub(super) fn arm(&mut self, key: Key, hub: &mut Hub) {
        let room = self.unread <= hub.options.unread_max / 2;
        if self.receiving == Receiving::Idle
            && self.wanted
            && !self.paused
            && self.end.is_none()
            && room
        {
            self.receiving = Receiving::Armed;
            hub.receive(self.raw(), key, self.side);
        }
    }

    /// Ends the receive in the kernel, if there is one; its last completion follows.
    pub(super) fn cancel_receive(&mut self, key: Key, hub: &mut Hub) {
        if self.receiving == Receiving::Armed {
            self.receiving = Receiving::Cancelling;
            hub.cancel(Tag::Receive(key));
        }
    }

    /// A completion of the receive.
    pub(super) fn on_receive(&mut self, key: Key, hub: &mut Hub, result: i32, flags: u32) {
        let len = u32::try_from(result).unwrap_or(0);
        let pool = &hub.groups.of(self.side).pool;
        let buf = cqueue::buffer_select(flags).and_then(|id| pool.take(id, len));
        if !cqueue::more(flags) {
            self.receiving = Receiving::Idle;
        }
        match (result, buf) {
            (1.., Some(buf)) => self.received(buf, hub),
            (1.., None) => self.end_receiving(End::Error(libc::EIO), hub),
            (0, _) => self.end_receiving(End::Eof, hub),
            (errno, _) => match -errno {
                libc::ENOBUFS => {
                    hub.stats.enobufs += 1;
                    self.receiving = Receiving::Starved;
                    hub.groups.of_mut(self.side).starved.push_back(key);
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => self.end_receiving(End::Error(errno), hub),
            },
        }
        if self.life == Life::Owned {
            if !self.wanted {
                // Being detached: the owner waits for the end of the receive, not for bytes.
                self.reader.wake(&mut hub.woken);
            }
            let too_much = self.paused || self.unread > hub.options.unread_max;
            if too_much && self.receiving == Receiving::Armed {
                hub.stats.receives_held_back += 1;
                self.cancel_receive(key, hub);
            }
            self.arm(key, hub);
        }
    }

    #[inline]
    fn received(&mut self, buf: Buf, hub: &mut Hub) {
        let len = buf.len();
        hub.stats.bytes_received += len as u64;
        if let Some(meter) = &self.meter {
            meter.received.add(len as u64);
        }
        if self.life != Life::Owned {
            self.discarded += len;
            return;
        }
        self.unread += len;
        // Few bytes behind others that nobody has read yet are copied to them: a peer that sends
        // byte by byte to a session that does not read would otherwise hold a buffer per byte.
        let joined = len <= hub.groups.of(self.side).pool.buffer_bytes() / 4
            && self.inbox.back_mut().is_some_and(|last| last.append(&buf));
        if !joined {
            hub.inboxes.push(&mut self.inbox, buf);
        }
        self.reader.wake(&mut hub.woken);
    }

    fn end_receiving(&mut self, end: End, hub: &mut Hub) {
        self.end.get_or_insert(end);
        self.reader.wake(&mut hub.woken);
    }

    /// The next received buffer; `Ok(None)` if there is none yet.
    #[inline]
    pub(super) fn pop(&mut self, key: Key, hub: &mut Hub) -> Option<Buf> {
        let buf = self.inbox.pop_front()?;
        hub.inboxes.settle(&mut self.inbox);
        self.unread -= buf.len();
        if self.receiving == Receiving::Idle {
            self.arm(key, hub);
        }
        Some(buf)
    }

    // Sending.

    /// Whether bytes queued now can still go out.
    #[inline]
    pub(super) fn can_queue(&self) -> bool {
        self.send_error.is_none() && self.shutdown == Shutdown::Open
    }

    /// Lists the socket for the next turn, which sends all that was queued until then at once.
    #[inline]
    pub(super) fn mark_dirty(&mut self, key: Key, hub: &mut Hub) {
        if !self.dirty {
            self.dirty = true;
            hub.dirty.push(key);
            hub.touch();
        }
    }

    /// Puts queued chunks to the kernel unless a send is there already.
    pub(super) fn start_send(&mut self, key: Key, hub: &mut Hub) {
        self.dirty = false;
        let count = self.queue.sendable();
        let is_over = self.life == Life::Ending || self.send_error.is_some();
        if count == 0 || is_over || self.connect.is_some() {
            return;
        }
        self.note_send(hub);
        let fd = self.fd.as_raw_fd();
        // SAFETY: lent chunks are neither moved, changed nor dropped before `on_send`, and the slot
        // that owns them is not removed while a send is under way (`is_busy`).
        self.header = unsafe { hub.send(fd, key, count, self.queue.lend(count)) };
    }

    /// The completion of the send.
    pub(super) fn on_send(&mut self, key: Key, hub: &mut Hub, result: i32) {
        hub.recycle(self.header.take());
        let sent = usize::try_from(result).unwrap_or(0);
        hub.stats.bytes_sent += sent as u64;
        self.taken += sent as u64;
        if let Some(meter) = &self.meter {
            meter.sent.add(sent as u64);
        }
        self.queue.complete(sent, &mut hub.small);
        let cancelled = std::mem::take(&mut self.send_cancelled);
        if self.life == Life::Ending {
            // Given up: nobody would end another send.
            self.queue.clear(&mut hub.small);
        } else if cancelled && (result > 0 || result == -libc::ECANCELED) {
            // Interrupted for the sake of its buffers.
            hub.stats.buffers_spared += self.queue.spare(&mut hub.small);
        } else if result <= 0 {
            // Zero would mean no progress on a queue that is not empty: never try that again.
            let errno = if result == 0 { libc::EIO } else { -result };
            self.send_error.get_or_insert(errno);
            self.queue.clear(&mut hub.small);
        }
        if self.queue.sendable() > 0 {
            self.mark_dirty(key, hub);
        } else {
            self.finish_shutdown();
        }
        if self.send_error.is_some() || self.queue.bytes() <= self.writer_limit {
            self.writer.wake(&mut hub.woken);
        }
    }

    /// Ends the sending half once nothing is queued.
    pub(super) fn finish_shutdown(&mut self) {
        if self.shutdown == Shutdown::Wanted && self.queue.bytes() == 0 {
            self.shutdown = Shutdown::Done;
            // A peer that has gone already makes this fail; the receive tells the owner about it.
            let _ = socket2::SockRef::from(&self.fd).shutdown(std::net::Shutdown::Write);
        }
    }

    pub(super) fn failure(&self) -> Option<io::Error> {
        self.send_error.map(io::Error::from_raw_os_error)
    }
}
