//! The driver of a conversation: one loop with one wait. What may go on with the conversation is
//! looked at in one place, [`Client::poll`]; what it says is done in one other, [`Client::drive`].
//!
//! Every way round the loop goes through the wait, and the wait gives the turn away after so many
//! steps: whatever a peer does, the other tasks of the core run.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::client::{Client, Turned};
use super::front::{Failed, Front, send_spans};
use super::stall::Stall;
use super::upstream::{Acquired, Leased};
use crate::base::clock::Deadline;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use crate::core::fault;
use crate::net::Buf;
use crate::session::mysql::conversation::{Action, Input, Io, Notes, Wants, Wish};
use crate::session::mysql::output::Output;

/// Bytes that may wait for a peer to take them before what would add to them is no longer read.
const UNSENT_MAX: usize = 256 * 1024;
/// Steps of a conversation before other tasks get their turn.
const STEPS_PER_TURN: u32 = 16;

/// What has ended a wait.
enum Happened {
    /// The conversation can go on with what is there.
    Go,
    Bytes(Buf),
    End,
    Leaving,
    Gone,
    Leased(Leased),
    Refused(Event),
    Reply(Buf),
    UpstreamGone,
    Settled,
    Drain,
    Timer,
}

impl<F: Front> Client<F> {
    /// Waits once, and lets the conversation do what can be done then.
    pub(super) async fn turn(&mut self) -> Turned {
        let happened = poll_fn(|cx| self.poll(cx)).await;
        self.drive(happened)
    }

    /// The one place where a client's task waits.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if self.steps_left == 0 {
            self.steps_left = STEPS_PER_TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Ahead of all else: who always has something to do is not to miss it.
        self.follow_limits();
        let drain = self.drain_due();
        if drain != self.drain {
            self.drain = drain;
            return Poll::Ready(Happened::Drain);
        }
        if std::mem::take(&mut self.goes_on) {
            return Poll::Ready(Happened::Go);
        }
        let wants = self.conversation.wants();
        let found = self
            .poll_client(wants, cx)
            .or_else(|| self.poll_upstream(wants, cx))
            .or_else(|| self.poll_others(wants, cx));
        match found {
            Some(happened) => Poll::Ready(happened),
            None => self.poll_timer(wants, cx),
        }
    }

    /// Looks at the client: what it has sent, whether it leaves, whether it takes what it is sent.
    fn poll_client(&mut self, wants: Wants, cx: &mut Context<'_>) -> Option<Happened> {
        match self.front.poll_room(cx, UNSENT_MAX) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Failed)) => return Some(Happened::Gone),
            // It takes nothing, so it gets nothing more, and nothing is done for it.
            Poll::Pending => return None,
        }
        if wants.end {
            return match self.front.poll_end(cx) {
                Poll::Ready(Ok(())) => Some(Happened::Leaving),
                Poll::Ready(Err(Failed)) => Some(Happened::Gone),
                Poll::Pending => None,
            };
        }
        if !wants.bytes || (wants.upstream_room && !self.poll_upstream_room(cx)) {
            return None;
        }
        if self.unread.is_some() {
            return Some(Happened::Go);
        }
        match self.front.poll_bytes(cx) {
            Poll::Ready(Ok(Some(buf))) => Some(Happened::Bytes(buf)),
            Poll::Ready(Ok(None)) => Some(Happened::End),
            Poll::Ready(Err(Failed)) => Some(Happened::Gone),
            Poll::Pending => None,
        }
    }

    /// Whether the leased connection can take more.
    fn poll_upstream_room(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(lease) = &mut self.lease else {
            return true;
        };
        let stream = &mut lease.connection_mut().stream;
        // A failed one takes anything: `poll_upstream` tells of it.
        stream.poll_unsent_below(cx, UNSENT_MAX).is_ready()
    }

    fn poll_upstream(&mut self, wants: Wants, cx: &mut Context<'_>) -> Option<Happened> {
        let lease = self.lease.as_mut()?;
        let stream = &mut lease.connection_mut().stream;
        if wants.upstream_room {
            return stream.has_failed().then_some(Happened::UpstreamGone);
        }
        if !wants.reply || self.front.unsent() > UNSENT_MAX {
            return None;
        }
        match stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(buf))) => Some(Happened::Reply(buf)),
            Poll::Ready(Ok(None) | Err(_)) => Some(Happened::UpstreamGone),
            Poll::Pending => None,
        }
    }

    fn poll_others(&mut self, wants: Wants, cx: &mut Context<'_>) -> Option<Happened> {
        if let Some(wait) = &mut self.wait
            && let Poll::Ready(delivery) = wait.poll(cx)
        {
            self.wait = None;
            return Some(match delivery {
                Ok(leased) => Happened::Leased(leased),
                Err(event) => Happened::Refused(event),
            });
        }
        if wants.settled {
            let session = self.conversation.session();
            if session.is_settled() {
                return Some(Happened::Settled);
            }
            // Woken as a client of the world, by its number.
            session.await_settled();
        }
        None
    }

    /// Waits for the earliest of all deadlines. The timer may be set to an earlier instant than that:
    /// it is moved when it fires, so that an exchange does not move it to and fro.
    fn poll_timer(&mut self, wants: Wants, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Some(unread) = &mut self.unread {
            // Bytes that wait do not hold a buffer of the ring.
            unread.settle();
        }
        let now = self.now();
        let (unsent, taken) = (self.front.unsent(), self.front.taken());
        self.down_stall.look(now, unsent, taken);
        let next = self.next_deadline(wants);
        if next < self.timer.deadline() {
            self.timer.set(next);
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer.set(Deadline::NEVER);
        Poll::Ready(Happened::Timer)
    }

    fn next_deadline(&mut self, wants: Wants) -> Deadline {
        let stall = self.limits.write_stall;
        let mut next = self.conversation.deadline(&self.limits);
        next = next.min(self.down_stall.deadline(stall));
        if let Some((_, until)) = self.removed
            && self.drain != Drain::Now
        {
            next = next.min(until);
        }
        if wants.upstream_room
            && let Some(lease) = &self.lease
        {
            let stream = &lease.connection().stream;
            let unsent = stream.unsent();
            self.up_stall
                .look(self.world.net().now(), unsent, stream.taken());
            next = next.min(self.up_stall.deadline(stall));
        }
        next
    }

    /// Steps until the conversation waits, and does what it says.
    fn drive(&mut self, happened: Happened) -> Turned {
        let mut reply = None;
        let mut input = match happened {
            Happened::Go => Input::Go,
            Happened::Bytes(buf) => {
                self.unread = Some(buf);
                Input::Go
            }
            Happened::End => Input::End,
            Happened::Leaving => Input::Leaving,
            Happened::Gone => Input::Gone,
            Happened::Leased(leased) => {
                self.has_leased(leased);
                Input::Leased { has_waited: true }
            }
            Happened::Refused(event) => Input::Refused(event),
            Happened::Reply(buf) => {
                fault::point("exchange.reply");
                reply = Some(buf);
                Input::Reply(&mut [])
            }
            Happened::UpstreamGone => Input::UpstreamGone,
            Happened::Settled => Input::Settled,
            Happened::Drain => Input::Drain,
            Happened::Timer => match self.what_is_over() {
                Some(input) => input,
                None => return Turned::Waits,
            },
        };
        loop {
            let action = self.step(input, reply.take());
            self.steps_left = self.steps_left.saturating_sub(1);
            input = match action {
                Action::Wait => return Turned::Waits,
                Action::Go => {
                    let is_full = self.front.unsent() > UNSENT_MAX;
                    if self.steps_left == 0 || is_full && self.conversation.wants().bytes {
                        self.goes_on = !is_full;
                        return Turned::Waits;
                    }
                    Input::Go
                }
                Action::Lease(wish) => match self.acquire(wish) {
                    Some(input) => input,
                    None => return Turned::Waits,
                },
                Action::EndLease(end) => {
                    self.end_lease(end);
                    Input::Go
                }
                Action::Entered(entered) => return Turned::Entered(entered),
                Action::Close { reason, is_cut } => {
                    if is_cut {
                        self.front.cut();
                    }
                    self.wait = None;
                    return Turned::Closed(reason);
                }
            };
        }
    }

    /// What the timer's firing means; nothing if no deadline is over.
    fn what_is_over(&mut self) -> Option<Input<'static>> {
        let (now, stall) = (self.now(), self.limits.write_stall);
        let front = &self.front;
        if self.down_stall.is_over(now, stall, || front.progress()) {
            return Some(Input::ClientStalled);
        }
        if self.conversation.wants().upstream_room
            && let Some(lease) = &self.lease
        {
            let stream = &lease.connection().stream;
            if self.up_stall.is_over(now, stall, || stream.progress()) {
                return Some(Input::UpstreamGone);
            }
        }
        if !self.conversation.deadline(&self.limits).is_over(now) {
            return None;
        }
        // Whoever waits for a connection is told so before anybody else can be given it.
        self.wait = None;
        let is_wanted = self.admitted.pool.is_wanted();
        let lease = self.lease.as_ref();
        let is_held_up = lease.is_some_and(|lease| lease.connection().stream.unsent() > UNSENT_MAX);
        Some(Input::Deadline {
            is_wanted,
            is_held_up,
        })
    }

    /// One step, and the sending of what it has written.
    fn step(&mut self, input: Input<'_>, mut reply: Option<Buf>) -> Action {
        let world = Rc::clone(&self.world);
        let scratch = &mut *world.scratch.borrow_mut();
        scratch.down.clear();
        scratch.up.clear();
        let mut notes = Notes::default();
        let (action, used) = {
            let lease = self.lease.as_mut();
            let mut io = Io {
                now: world.net().now(),
                unread: self.unread.as_deref_mut().unwrap_or_default(),
                used: 0,
                held: lease.map(|lease| &mut lease.connection_mut().session),
                texts: &mut world.upstreams.shared.texts.borrow_mut(),
                down: &mut scratch.down,
                up: &mut scratch.up,
                notes: &mut notes,
                limits: &self.limits,
                drain: self.drain,
                is_removed: self.world.drain() < self.drain,
            };
            let input = match &mut reply {
                Some(reply) => Input::Reply(reply),
                None => input,
            };
            let action = self.conversation.step(input, &mut io);
            (action, io.used)
        };
        world.upstreams.tell_others();
        self.send_up(&scratch.up, used);
        if !scratch.down.is_empty() {
            self.front.send(&scratch.down, reply);
        }
        self.note(&notes);
        action
    }

    /// Sends what a step wrote for the upstream, and forgets the bytes that it has used.
    fn send_up(&mut self, up: &Output, used: usize) {
        let before = self.unread.as_deref().map_or(0, <[u8]>::len);
        if let Some(lease) = &mut self.lease
            && !up.is_empty()
        {
            fault::point("exchange.begun");
            let stream = &mut lease.connection_mut().stream;
            send_spans(stream, up, self.unread.as_mut());
            fault::point("exchange.sent");
        }
        if let Some(unread) = &mut self.unread {
            let gone = before.saturating_sub(unread.len());
            unread.advance(used.saturating_sub(gone));
            if unread.is_empty() {
                self.unread = None;
            }
        }
    }

    fn has_leased(&mut self, leased: Leased) {
        fault::point("exchange.leased");
        self.lease = Some(leased);
        self.up_stall = Stall::new();
    }

    /// Leases a connection, now or later; `None` if there is a wait.
    fn acquire(&mut self, wish: Wish) -> Option<Input<'static>> {
        let world = Rc::clone(&self.world);
        let session = self.conversation.session();
        let pool = self.admitted.pool_now(&world, session, wish.prefers_last);
        let Some(pool) = pool else {
            return Some(Input::Refused(Event::NoEndpoint));
        };
        self.admitted.pool = Rc::clone(&pool);
        self.conversation.relies_on(pool.login.known.newest());
        let session = self.conversation.session();
        let acquired = pool.acquire(session.owner(), wish.prefers_last, wish.until);
        match acquired {
            Ok(Acquired::Now(leased)) => {
                self.has_leased(leased);
                Some(Input::Leased { has_waited: false })
            }
            // Looking for one has had the pool make one, if it may.
            Ok(Acquired::Later(_)) if wish.only_idle => Some(Input::Refused(Event::PoolWait)),
            Ok(Acquired::Later(wait)) => {
                self.wait = Some(wait);
                None
            }
            Err(event) => Some(Input::Refused(event)),
        }
    }
}
