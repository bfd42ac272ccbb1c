//! The state of one core's ring, and its turn: submit, collect, dispatch, fire deadlines.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use io_uring::cqueue;

use super::NetOptions;
use super::accept::Listening;
use super::alarm::Alarms;
use super::clock;
use super::hub::{Hub, Waiter};
use super::remote::Mailbox;
use super::side::Side;
use super::slab::{Key, Slab, Tag};
use super::socket::{Receiving, Socket};
use super::spare::Hand;
use super::stats::NetStats;
use super::wheel::{EntryId, Wheel};
use super::window::WindowWatch;
use crate::base::clock::Deadline;

/// Who is told when a deadline passes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A socket that flushes or drains.
    Socket(Key),
    /// A listener that has paused.
    Listener(Key),
    /// A [`super::Timer`].
    Timer(Key),
    /// The search for idle buffers.
    Hand,
    /// The look at closed windows.
    Windows,
}

/// A [`super::Timer`]'s slot.
pub(super) struct TimerSlot {
    pub(super) entry: EntryId,
    pub(super) passed: bool,
    pub(super) waiter: Waiter,
}

pub(super) struct State {
    pub(super) hub: Hub,
    pub(super) sockets: Slab<Socket>,
    pub(super) listeners: Slab<Listening>,
    pub(super) timers: Slab<TimerSlot>,
    pub(super) wheel: Wheel<Target>,
    pub(super) alarms: Alarms,
    pub(super) mailbox: Option<Mailbox>,
    /// Descriptors kept back so that clients can be refused politely when there are no others.
    pub(super) reserve: Vec<std::fs::File>,
    pub(super) hand: Hand,
    pub(super) windows: WindowWatch,
    /// Dropped streams that are not closed yet.
    pub(super) closing: usize,
    pub(super) stopping: bool,
    /// Deadlines of the current turn; kept for its memory.
    fired: Vec<Target>,
}

/// What a turn brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turned {
    /// Completions and deadlines handled.
    pub(super) events: usize,
}

impl State {
    pub(super) fn new(options: NetOptions) -> io::Result<Self> {
        let now = clock::now();
        let mut state = Self {
            hub: Hub::new(options, now)?,
            sockets: Slab::new(),
            listeners: Slab::new(),
            timers: Slab::new(),
            wheel: Wheel::new(now),
            alarms: Alarms::new(),
            mailbox: None,
            reserve: Vec::new(),
            hand: Hand::new(),
            windows: WindowWatch::default(),
            closing: 0,
            stopping: false,
            fired: Vec::new(),
        };
        state.refill_reserve();
        Ok(state)
    }

    /// One turn. `wait`: block up to that long, or until the next deadline, if nothing is there yet.
    pub(super) fn turn(&mut self, wait: Option<Duration>) -> io::Result<Turned> {
        self.hub.stats.turns += 1;
        let touched = std::mem::take(&mut self.hub.touched);
        self.start_sends();
        self.start_watching();
        if self.hand.is_moving() {
            self.spare_buffers();
        }
        self.feed_starved();
        self.hub.groups.provide();
        let wait = wait.filter(|_| !self.hand.is_moving());
        match wait.map(|longest| self.bounded(longest)) {
            Some(wait) if !wait.is_zero() => self.hub.enter_and_wait(wait)?,
            _ => self.hub.enter()?,
        }
        self.hub.now = clock::now();
        let mut events = self.dispatch() + self.fire_deadlines();
        if !self.alarms.is_empty() {
            events += self.alarms.fire(self.hub.now, &mut self.hub.woken);
        }
        if (touched || events > 0) && self.hub.groups.is_short() {
            self.start_sparing();
        }
        Ok(Turned { events })
    }

    /// Whether the core may not park: the next turn has something to do or to put to the kernel.
    pub(super) fn has_work(&mut self) -> bool {
        self.hub.touched
            || !self.hub.dirty.is_empty()
            || self.hub.groups.can_feed()
            || self.hand.is_moving()
            || self.hub.unsubmitted() > 0
    }

    /// Time until the next deadline or alarm; `None` if there is none.
    pub(super) fn next_left(&self) -> Option<Duration> {
        let next = self.wheel.next().unwrap_or(Deadline::NEVER);
        let alarm = self.alarms.left(self.hub.now);
        [next.left(self.hub.now), alarm].into_iter().flatten().min()
    }

    /// `longest`, cut at the next deadline.
    fn bounded(&self, longest: Duration) -> Duration {
        let next = self.wheel.next().unwrap_or(Deadline::NEVER);
        let wait = next
            .left(self.hub.now)
            .map_or(longest, |left| left.min(longest));
        if self.alarms.is_empty() {
            return wait;
        }
        // The turn's clock is as old as what the tasks have done since.
        let alarm = self.alarms.left(clock::now());
        alarm.map_or(wait, |left| left.min(wait))
    }

    /// Puts everything queued since the last turn to the kernel, one operation per socket.
    fn start_sends(&mut self) {
        let mut dirty = std::mem::take(&mut self.hub.dirty);
        for key in dirty.drain(..) {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.start_send(key, &mut self.hub);
            }
        }
        self.hub.dirty = dirty;
    }

    /// Re-arms receives that ended for want of buffers, as many as there are buffers now.
    fn feed_starved(&mut self) {
        if self.hub.groups.can_feed() {
            self.feed(Side::Downstream);
            self.feed(Side::Upstream);
        }
    }

    fn feed(&mut self, side: Side) {
        for _ in 0..self.hub.groups.of(side).pool.available() {
            let Some(key) = self.hub.groups.of_mut(side).starved.pop_front() else {
                break;
            };
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            if socket.receiving == Receiving::Starved {
                socket.receiving = Receiving::Idle;
                socket.arm(key, &mut self.hub);
                self.advance(key);
            }
        }
    }

    fn dispatch(&mut self) -> usize {
        let mut batch = [const { MaybeUninit::<cqueue::Entry>::uninit() }; 64];
        let mut count = 0;
        loop {
            let done = self.hub.completions(&mut batch);
            if done.is_empty() {
                return count;
            }
            count += done.len();
            for entry in done {
                self.complete(
                    Tag::decode(entry.user_data()),
                    entry.result(),
                    entry.flags(),
                );
            }
        }
    }

    fn complete(&mut self, tag: Tag, result: i32, flags: u32) {
        match tag {
            Tag::Receive(key) => {
                let Some(socket) = self.sockets.get_mut(key) else {
                    return;
                };
                socket.on_receive(key, &mut self.hub, result, flags);
                self.advance(key);
            }
            Tag::Send(key) => {
                let Some(socket) = self.sockets.get_mut(key) else {
                    return;
                };
                socket.on_send(key, &mut self.hub, result);
                self.advance(key);
            }
            Tag::Connect(key) => {
                let Some(socket) = self.sockets.get_mut(key) else {
                    return;
                };
                if let Some(connect) = &mut socket.connect {
                    connect.result = Some(-result);
                }
                socket.reader.wake(&mut self.hub.woken);
                self.advance(key);
            }
            Tag::Accept(key) => self.on_accept(key, result, flags),
            Tag::Wake => {
                if let Some(mailbox) = &mut self.mailbox {
                    mailbox.on_read(&mut self.hub);
                }
            }
            Tag::Ignore => {}
        }
    }

    fn fire_deadlines(&mut self) -> usize {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel
            .advance(self.hub.now, |target| fired.push(target));
        let count = fired.len();
        self.hub.stats.deadlines += count as u64;
        for target in fired.drain(..) {
            match target {
                Target::Timer(key) => {
                    if let Some(timer) = self.timers.get_mut(key) {
                        timer.passed = true;
                        timer.waiter.wake(&mut self.hub.woken);
                    }
                }
                Target::Socket(key) => {
                    if let Some(socket) = self.sockets.get_mut(key) {
                        socket.linger_over(key, &mut self.hub);
                        self.advance(key);
                    }
                }
                Target::Listener(key) => self.on_accept_pause_over(key),
                Target::Hand => self.on_hand_timer(),
                Target::Windows => self.on_window_timer(),
            }
        }
        self.fired = fired;
        count
    }

    /// The owner of a socket is gone: the ring ends it.
    pub(super) fn orphan(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        socket.orphan(key, &mut self.hub);
        self.closing += 1;
        if !self.advance(key)
            && let Some(socket) = self.sockets.get_mut(key)
        {
            let entry = self.wheel.insert(Target::Socket(key));
            self.wheel
                .set(entry, self.hub.now.plus(self.hub.options.linger));
            socket.linger = Some(entry);
            self.hub.touch();
        }
    }

    /// Moves an orphaned socket towards its close. `true` once it is closed.
    #[inline]
    fn advance(&mut self, key: Key) -> bool {
        let Some(socket) = self.sockets.get_mut(key) else {
            return true;
        };
        if !socket.is_orphan() || !socket.advance_close(key, &mut self.hub) {
            return false;
        }
        if let Some(mut socket) = self.sockets.remove(key) {
            if let Some(entry) = socket.linger.take() {
                self.wheel.remove(entry);
            }
            let reserved = socket.reserved;
            // Closes the descriptor; queued buffers go back to the pool.
            drop(socket);
            self.closing -= 1;
            if reserved {
                self.refill_reserve();
            }
        }
        true
    }

    pub(super) fn stats(&self) -> NetStats {
        let (buffers_out, buffers_out_max) = self.hub.groups.out();
        NetStats {
            open: self.sockets.len(),
            closing: self.closing,
            listeners: self.listeners.len(),
            buffers_out,
            buffers_out_max,
            panics: super::spawn::panics(),
            ..self.hub.stats
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The kernel may hold ranges of send queues, headers, addresses and the buffers: nothing of that
        // may be freed before every operation has ended. If the kernel does not say so, it never is.
        if !self.hub.end_operations() {
            self.hub.leak();
            let sockets = std::mem::replace(&mut self.sockets, Slab::new());
            Box::leak(Box::new(sockets));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::socket::Life;

    #[test]
    fn every_operation_ends_before_its_memory_does() {
        let mut state = State::new(NetOptions::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        state.listen(listener.into());
        state.mailbox = Some(Mailbox::new(&mut state.hub).unwrap());
        let key = state
            .sockets
            .insert(Socket::new(peer.into(), Side::Upstream));
        let socket = state.sockets.get_mut(key).unwrap();
        socket.wanted = true;
        socket.arm(key, &mut state.hub);
        // More than the kernel takes from somebody whom nobody reads.
        socket
            .queue
            .push_bytes(&[1; 32 << 20], &mut state.hub.small);
        socket.mark_dirty(key, &mut state.hub);
        let sends = |state: &State| state.sockets.get(key).unwrap().queue.is_lent();
        // Each turn sends a part, until the kernel has no more room.
        state.turn(None).unwrap();
        while !sends(&state) {
            state.turn(None).unwrap();
        }
        assert_eq!(state.hub.operations(), 4, "accept, pipe, receive, send");
        assert!(state.sockets.get(key).unwrap().is_busy());
        assert!(state.hub.end_operations());
        assert_eq!(state.hub.operations(), 0);
    }

    #[test]
    fn a_socket_that_was_given_up_begins_no_send() {
        let mut state = State::new(NetOptions::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let key = state
            .sockets
            .insert(Socket::new(peer.into(), Side::Upstream));
        let socket = state.sockets.get_mut(key).unwrap();
        socket
            .queue
            .push_bytes(&[1; 32 << 20], &mut state.hub.small);
        socket.start_send(key, &mut state.hub);
        socket.give_up(key, &mut state.hub);
        assert_eq!(socket.life, Life::Ending);
        // The part of the send that was done is told, and the rest of what it carried is left.
        socket.on_send(key, &mut state.hub, 1);
        assert_eq!(socket.queue.bytes(), 0);
        socket.queue.push_bytes(b"more", &mut state.hub.small);
        socket.start_send(key, &mut state.hub);
        assert!(!socket.is_busy());
    }
}
