//! What all sockets of a core share: the ring itself, the buffers, the counters.
//!
//! Every submission is made here, by a method that knows which memory the kernel will touch and who
//! keeps it alive until the completion.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Context, Waker};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::NetOptions;
use super::buffer::Buf;
use super::clock;
use super::preflight::{Uring, make_ring};
use super::queue::{GATHER_MAX, SmallPool, Spares};
use super::side::{Groups, Side};
use super::slab::{Key, Tag};
use super::stats::NetStats;
use crate::base::clock::Now;

/// `io_uring_enter`: run deferred completions now.
const ENTER_GETEVENTS: u32 = 1;
/// How long a dropped ring may take to end its operations, and how often it looks.
const END_MAX: Duration = Duration::from_secs(1);
const END_PAUSE: Duration = Duration::from_millis(1);

/// One task that waits for one thing. The waker stays after waking, so that a task which waits here
/// again and again is cloned once.
#[derive(Default)]
pub(super) struct Waiter {
    waker: Option<Waker>,
    waiting: bool,
}

impl Waiter {
    /// Remembers the task that polls.
    #[inline]
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        self.waiting = true;
        match &self.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task if it waits.
    #[inline]
    pub(super) fn wake(&mut self, woken: &mut u64) {
        if std::mem::take(&mut self.waiting) {
            *woken += 1;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Forgets the task.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// A message header and its ranges, at an address that stays put while the kernel reads them.
pub(super) struct Header {
    message: libc::msghdr,
    ranges: [libc::iovec; GATHER_MAX],
}

pub(super) struct Hub {
    /// Dropped only after [`Hub::end_operations`], see the drop of `State`.
    uring: Uring,
    /// Operations whose last completion has not been seen, unsubmitted ones included.
    under_way: usize,
    pub(super) groups: Groups,
    pub(super) small: SmallPool,
    /// Room for received buffers that nobody has read yet.
    pub(super) inboxes: Spares<Buf>,
    #[expect(
        clippy::vec_box,
        reason = "a header must not move while the kernel reads it"
    )]
    headers: Vec<Box<Header>>,
    pub(super) stats: NetStats,
    pub(super) options: NetOptions,
    pub(super) now: Now,
    /// Sockets with something to send that was not yet put to the kernel.
    pub(super) dirty: Vec<Key>,
    /// A connection has sent that was not being watched (`window.rs`).
    pub(super) to_prove: bool,
    /// Tasks woken so far.
    pub(super) woken: u64,
    /// Set by every call from outside of a turn that may need a submission.
    pub(super) touched: bool,
    /// Set to have the ring's task end as if the kernel had refused the ring.
    #[cfg(debug_assertions)]
    pub(super) is_broken: bool,
    /// The ring task, while it is parked in glommio.
    pub(super) driver: Option<Waker>,
    /// Where the remote waker's pipe is read to.
    wake_bytes: Box<[u8; 8]>,
}

impl Hub {
    /// Gives up the memory that operations of the ring may still touch.
    pub(super) fn leak(&mut self) {
        self.groups.leak();
        Box::leak(std::mem::replace(&mut self.wake_bytes, Box::new([0; 8])));
    }

    pub(super) fn new(options: NetOptions, now: Now) -> io::Result<Self> {
        let uring = make_ring(&options)?;
        let groups = Groups::new(&options)?;
        groups.register(&uring)?;
        groups.provide();
        Ok(Self {
            uring,
            under_way: 0,
            groups,
            small: SmallPool::new(),
            inboxes: Spares::new(),
            headers: Vec::new(),
            stats: NetStats::default(),
            options,
            now,
            dirty: Vec::with_capacity(256),
            to_prove: false,
            woken: 0,
            touched: false,
            #[cfg(debug_assertions)]
            is_broken: false,
            driver: None,
            wake_bytes: Box::new([0; 8]),
        })
    }

    /// Notes that the next turn has something to do, and ends a cold park.
    #[inline]
    pub(super) fn touch(&mut self) {
        self.touched = true;
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// # Safety
    /// Memory the entry refers to must stay valid until its completion (or until submission, for
    /// what the kernel copies when it takes the entry).
    unsafe fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.encode());
        // SAFETY: passed on to the caller.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            // The queue is full: hand over what is there. An error shows in the next turn.
            self.stats.enters += 1;
            let _ = self.uring.submit();
        }
        self.under_way += 1;
        self.touch();
    }

    /// Arms a multishot receive into the side's buffers.
    pub(super) fn receive(&mut self, fd: RawFd, key: Key, side: Side) {
        self.stats.receives_armed += 1;
        let entry = opcode::RecvMulti::new(types::Fd(fd), side.group()).build();
        // SAFETY: the kernel writes to buffers of the pools only, which outlive the ring.
        unsafe { self.push(entry, Tag::Receive(key)) };
    }

    /// Sends `ranges`, `count` of them, in order.
    ///
    /// # Safety
    /// The ranges must stay valid and unchanged until the completion of `Tag::Send(key)`.
    pub(super) unsafe fn send<'a>(
        &mut self,
        fd: RawFd,
        key: Key,
        count: usize,
        mut ranges: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Box<Header>> {
        self.stats.sends += 1;
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if count == 1 {
            let bytes = ranges.next().unwrap_or_default();
            let entry =
                opcode::Send::new(types::Fd(fd), bytes.as_ptr(), bytes.len() as u32).flags(FLAGS);
            // SAFETY: the caller keeps the range.
            unsafe { self.push(entry.build(), Tag::Send(key)) };
            return None;
        }
        let mut header = self.headers.pop().unwrap_or_else(new_header);
        let mut filled = 0;
        for (range, bytes) in header.ranges.iter_mut().zip(ranges) {
            range.iov_base = bytes.as_ptr().cast_mut().cast();
            range.iov_len = bytes.len();
            filled += 1;
        }
        header.message.msg_iov = header.ranges.as_mut_ptr();
        header.message.msg_iovlen = filled;
        let entry = opcode::SendMsg::new(types::Fd(fd), &raw const header.message);
        // SAFETY: the caller keeps the ranges, and the header, boxed, until the completion.
        unsafe { self.push(entry.flags(FLAGS as u32).build(), Tag::Send(key)) };
        Some(header)
    }

    /// Takes back the header of a completed send.
    pub(super) fn recycle(&mut self, header: Option<Box<Header>>) {
        self.headers.extend(header);
    }

    /// Arms a multishot accept.
    pub(super) fn accept(&mut self, fd: RawFd, key: Key, goes_on: bool) {
        let (fd, flags) = (types::Fd(fd), libc::SOCK_CLOEXEC);
        let nobody = std::ptr::null_mut();
        let entry = match goes_on {
            true => opcode::AcceptMulti::new(fd).flags(flags).build(),
            false => opcode::Accept::new(fd, nobody, nobody.cast())
                .flags(flags)
                .build(),
        };
        // SAFETY: the entry refers to no memory.
        unsafe { self.push(entry, Tag::Accept(key)) };
    }

    /// Starts a connect.
    ///
    /// # Safety
    /// `address` must stay where it is until the completion of `Tag::Connect(key)`.
    pub(super) unsafe fn connect(&mut self, fd: RawFd, key: Key, address: &socket2::SockAddr) {
        self.stats.connects += 1;
        let entry = opcode::Connect::new(types::Fd(fd), address.as_ptr().cast(), address.len());
        // SAFETY: the caller keeps the address.
        unsafe { self.push(entry.build(), Tag::Connect(key)) };
    }

    /// Cancels the operation that carries `tag`; it completes all the same, as cancelled or as done.
    pub(super) fn cancel(&mut self, tag: Tag) {
        let entry = opcode::AsyncCancel::new(tag.encode()).build();
        // SAFETY: the entry refers to no memory.
        unsafe { self.push(entry, Tag::Ignore) };
    }

    /// Reads the remote waker's pipe.
    pub(super) fn read_wake(&mut self, fd: RawFd) {
        let to = self.wake_bytes.as_mut_ptr();
        let entry = opcode::Read::new(types::Fd(fd), to, 8).build();
        // SAFETY: the bytes are boxed, and freed only once the ring's operations have ended; one
        // read is under way at a time, and nobody looks at the bytes.
        unsafe { self.push(entry, Tag::Wake) };
    }

    /// Entries put to the submission queue and not yet seen by the kernel.
    pub(super) fn unsubmitted(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Submits, and collects what has completed without blocking.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let queue = self.uring.submission();
        let (to_submit, nothing_due) = (queue.len(), !queue.taskrun() && !queue.cq_overflow());
        drop(queue);
        if to_submit == 0 && nothing_due {
            return Ok(());
        }
        self.stats.enters += 1;
        // SAFETY: flags and counts are as `io_uring_enter(2)` wants them, and there is no argument.
        let entered = unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(
                to_submit as u32,
                0,
                ENTER_GETEVENTS,
                None,
            )
        };
        benign(entered)
    }

    /// Submits, and blocks until something completes or `at_most` has passed.
    pub(super) fn enter_and_wait(&mut self, at_most: Duration) -> io::Result<()> {
        self.stats.enters += 1;
        self.stats.hot_waits += 1;
        let timeout = types::Timespec::from(at_most);
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        benign(self.uring.submitter().submit_with_args(1, &arguments))
    }

    /// The next completions, at most as many as fit.
    #[inline]
    pub(super) fn completions<'a>(
        &mut self,
        batch: &'a mut [MaybeUninit<cqueue::Entry>],
    ) -> &'a mut [cqueue::Entry] {
        let done = self.uring.completion().fill(batch);
        let is_last = |entry: &&cqueue::Entry| !cqueue::more(entry.flags());
        let ended = done.iter().filter(is_last).count();
        self.under_way = self.under_way.saturating_sub(ended);
        done
    }

    /// Cancels every operation in the kernel and waits until the last completion of each has come:
    /// cancelling alone says nothing about those that a worker thread of the kernel is carrying out.
    /// `false` if some may still be under way. Entries that were never submitted stay so, and vanish
    /// with the ring. No other operation may be started afterwards.
    pub(super) fn end_operations(&mut self) -> bool {
        let unsubmitted = self.unsubmitted();
        let deadline = clock::now().plus(END_MAX);
        let mut batch = [const { MaybeUninit::uninit() }; 64];
        loop {
            loop {
                let done = self.completions(&mut batch);
                if done.is_empty() {
                    break;
                }
                done.iter().for_each(close_accepted);
            }
            if self.under_way <= unsubmitted {
                return true;
            }
            if deadline.is_over(clock::now()) {
                return false;
            }
            let wait = types::Timespec::from(END_PAUSE);
            let all = types::CancelBuilder::any();
            // `ENOENT`: all are cancelled, and their completions are on the way.
            let _ = self.uring.submitter().register_sync_cancel(Some(wait), all);
            // SAFETY: flags and counts are as `io_uring_enter(2)` wants them, and there is no argument.
            let entered = unsafe {
                let submitter = self.uring.submitter();
                submitter.enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None)
            };
            if benign(entered).is_err() {
                return false;
            }
            if self.uring.completion().is_empty() {
                std::thread::sleep(END_PAUSE);
            }
        }
    }

    /// Operations under way.
    #[cfg(test)]
    pub(super) fn operations(&self) -> usize {
        self.under_way
    }

    /// Puts something in the ring's place that is none: each enter fails from here on.
    #[cfg(test)]
    pub(super) fn break_ring(&self) {
        use std::os::fd::AsRawFd;
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the ring's descriptor stays its own, and nothing is under way that would touch memory.
        let made = unsafe { libc::dup2(null.as_raw_fd(), self.uring.as_raw_fd()) };
        assert!(made >= 0);
    }

    pub(super) fn register_eventfd(&mut self, fd: RawFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(fd)?;
        self.signal_eventfd(false);
        Ok(())
    }

    /// Whether completions signal the registered eventfd: only while parked, for it costs.
    pub(super) fn signal_eventfd(&mut self, on: bool) {
        let queue = self.uring.completion();
        match on {
            true => queue.enable_eventfd(),
            false => queue.disable_eventfd(),
        }
    }
}

/// A connection that was accepted while the ring ended is nobody's.
fn close_accepted(entry: &cqueue::Entry) {
    if matches!(Tag::decode(entry.user_data()), Tag::Accept(_)) && entry.result() >= 0 {
        // SAFETY: a successful accept has made this descriptor, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(entry.result()) });
    }
}

/// A header without ranges.
fn new_header() -> Box<Header> {
    const EMPTY: libc::iovec = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    // SAFETY: `msghdr` is plain data for which all zeroes mean "no name, no ranges, no control data".
    let message = unsafe { std::mem::zeroed() };
    Box::new(Header {
        message,
        ranges: [EMPTY; GATHER_MAX],
    })
}

/// Results of an enter that ask for nothing but another turn.
fn benign(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}
