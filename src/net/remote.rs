//! Waking a core from another thread.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::hub::{Hub, Waiter};

/// A new eventfd with a count of zero.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd: whoever reads or polls it wakes.
pub(super) fn ring_bell(fd: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the eight bytes live across the call.
    // A full counter (EAGAIN) cannot happen before 2^64 wakes; other errors need a closed descriptor.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

struct Remote {
    /// A pipe, not an eventfd: Linux 6.18 was seen to deliver only the first signal that one
    /// eventfd's write causes on another, and a parked core is told by the ring's eventfd.
    write: PipeWriter,
    /// A wake is under way that the core has not taken yet.
    pending: AtomicBool,
}

/// Wakes one core from any thread: the core's `Net::poll_woken` becomes ready, whether the core is at
/// work, waits in its ring or is parked.
#[derive(Clone)]
pub struct RemoteWaker(Arc<Remote>);

impl RemoteWaker {
    /// Wakes the core. Wakes not yet taken count as one; only the first costs a system call. Call it
    /// after putting the message where the core will look.
    pub fn wake(&self) {
        // SeqCst on both sides: either the core has not cleared the flag, then it will still look for
        // messages after clearing it, or this thread sees it cleared and rings.
        if !self.0.pending.swap(true, Ordering::SeqCst) {
            // The pipe holds a byte or two at most: this neither blocks nor fails while the core
            // lives, and a core that is gone needs no wake.
            let _ = (&self.0.write).write(&[0]);
        }
    }
}

/// The core's end.
pub(super) struct Mailbox {
    read: PipeReader,
    remote: Arc<Remote>,
    woken: bool,
    waiter: Waiter,
}

impl Mailbox {
    pub(super) fn new(hub: &mut Hub) -> io::Result<Self> {
        let (read, write) = io::pipe()?;
        hub.read_wake(read.as_raw_fd());
        let pending = AtomicBool::new(false);
        let remote = Arc::new(Remote { write, pending });
        Ok(Self {
            read,
            remote,
            woken: false,
            waiter: Waiter::default(),
        })
    }

    pub(super) fn waker(&self) -> RemoteWaker {
        RemoteWaker(self.remote.clone())
    }

    /// The pipe was read: somebody has called.
    pub(super) fn on_read(&mut self, hub: &mut Hub) {
        self.woken = true;
        self.waiter.wake(&mut hub.woken);
        hub.read_wake(self.read.as_raw_fd());
    }

    pub(super) fn poll_woken(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.woken) {
            self.remote.pending.store(false, Ordering::SeqCst);
            return Poll::Ready(());
        }
        self.waiter.register(cx);
        Poll::Pending
    }
}
