//! One client's driver: joins its socket, its session and, for each exchange, a leased upstream
//! connection. The only place where a client's task waits is a `poll_fn` that looks at everything
//! that may end the wait.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::admission::Admitted;
use super::failure::Owed;
use super::login::Registered;
use super::upstream::{Ending, Leased};
use super::world::World;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::core::Drain;
use crate::net::{Buf, Stream, Timer};
use crate::session::mysql::downstream::{Next, Session, write_event};
use crate::session::mysql::effects::PinSet;
use crate::session::mysql::intake::{Intake, IntakeError, Taken};
use crate::session::mysql::output::{Output, Span};
use crate::telemetry::metrics::DoorSeries;
use crate::wire::mysql::frame::HEADER_LEN;

/// How a client's connection ends.
pub(super) type End = CloseReason;

/// A logged-in client with its socket.
pub(super) struct Client {
    pub(super) world: Rc<World>,
    pub(super) stream: Stream,
    pub(super) session: Session,
    pub(super) admitted: Admitted,
    pub(super) timer: Timer,
    pub(super) intake: Intake,
    /// Received and not looked at yet.
    pub(super) pending: Option<Buf>,
    /// Bytes that came with the login's last packet, before `pending`.
    pub(super) early: Vec<u8>,
    pub(super) lease: Option<Leased>,
    /// Counted while the lease outlives its exchange.
    pub(super) kept: Option<Kept>,
    /// What the client's next command is told, as what it relies on is lost already.
    pub(super) owed: Option<Box<Owed>>,
    /// Where an ERR could stand in the reply in progress; `None` in the middle of a packet.
    pub(super) reply_sequence: Option<u8>,
    /// Something of the reply in progress has been sent to the client.
    pub(super) has_answered: bool,
    /// The command was replaced by another form.
    pub(super) is_replaced: bool,
    /// The connection must end by a reset: what was sent is not complete.
    pub(super) is_aborted: bool,
    /// The pins after the last exchange, for counting new ones.
    pub(super) pinned: PinSet,
    /// A small read-only command, kept while it may be repeated on another connection.
    pub(super) again: Vec<u8>,
    /// Given up after all else: a drain ends a core when its last client has left.
    pub(super) _registered: Registered,
}

/// A command as the client sent it.
pub(super) enum Command {
    /// In one piece of a receive buffer.
    Inline(Buf),
    /// Collected: whole, or the head of a long one.
    Head {
        /// The bytes, headers included.
        bytes: Vec<u8>,
        /// Whether that is all of it.
        is_whole: bool,
    },
}

impl Command {
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Inline(buf) => buf,
            Self::Head { bytes, .. } => bytes,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Inline(_) | Self::Head { is_whole: true, .. })
    }
}

impl Client {
    /// Serves commands until the connection ends.
    pub(super) async fn serve(&mut self) -> End {
        loop {
            let command = match self.next_command().await {
                Ok(command) => command,
                Err(end) => return self.over(end),
            };
            if let Err(end) = self.run(command).await {
                return self.over(end);
            }
        }
    }

    fn over(&mut self, end: End) -> End {
        if self.is_aborted {
            // What was sent is not complete; the client must not take it for the whole.
            self.stream.abort_when_dropped();
        }
        end
    }

    /// Waits for the next command.
    async fn next_command(&mut self) -> Result<Command, End> {
        let began = self.world.net().now();
        let configured = self.world.replica().snapshot.deadlines.idle_client;
        let idle = [configured, self.session.wait_timeout()]
            .into_iter()
            .flatten()
            .min();
        self.timer
            .set(idle.map_or(Deadline::NEVER, |idle| began.plus(idle)));
        loop {
            if let Some(command) = self.take_command()? {
                return Ok(command);
            }
            match poll_fn(|cx| self.poll_idle(cx)).await {
                Idle::Bytes(buf) => self.pending = Some(buf),
                Idle::Gone => return Err(CloseReason::ClientGone),
                Idle::Drain => return Err(self.say_goodbye(Event::Drain, CloseReason::Drain)),
                Idle::TooLong => {
                    return Err(self.say_goodbye(Event::IdleClient, CloseReason::ClientIdle));
                }
                Idle::LeaseLost => {
                    self.discard(CloseReason::UpstreamLost);
                    self.owe(Event::SessionLost, CloseReason::UpstreamLost);
                }
            }
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Idle> {
        match self.stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(buf))) => return Poll::Ready(Idle::Bytes(buf)),
            Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Idle::Gone),
            Poll::Pending => {}
        }
        let is_free = !self.session.is_in_transaction() && !self.intake.is_mid_command();
        if self.world.drain() == Drain::Now || (self.world.drain() == Drain::Draining && is_free) {
            return Poll::Ready(Idle::Drain);
        }
        if let Some(lease) = &mut self.lease
            && lease.connection_mut().stream.poll_receive(cx).is_ready()
        {
            // Nothing was asked, so whatever came is the server's goodbye.
            return Poll::Ready(Idle::LeaseLost);
        }
        self.timer.poll(cx).map(|()| Idle::TooLong)
    }

    /// Cuts the next command out of what has come.
    fn take_command(&mut self) -> Result<Option<Command>, End> {
        if !self.early.is_empty() {
            return self.take_early();
        }
        let Some(buf) = &mut self.pending else {
            return Ok(None);
        };
        let taken = match self.intake.next(buf) {
            Ok(taken) => taken,
            Err(error) => return Err(self.refuse_framing(error)),
        };
        match taken {
            Taken::Starved => {
                self.pending = None;
                Ok(None)
            }
            Taken::Inline(n) => {
                let command = buf.split_to(n);
                if buf.is_empty() {
                    self.pending = None;
                }
                Ok(Some(Command::Inline(command)))
            }
            Taken::Collected(n) | Taken::Large(n) => {
                buf.advance(n);
                if buf.is_empty() {
                    self.pending = None;
                }
                let is_whole = matches!(taken, Taken::Collected(_));
                Ok(Some(Command::Head {
                    bytes: self.intake.head().to_vec(),
                    is_whole,
                }))
            }
        }
    }

    /// As [`Self::take_command`], of a client that sent commands along with its login.
    fn take_early(&mut self) -> Result<Option<Command>, End> {
        let early = std::mem::take(&mut self.early);
        let (used, is_whole) = match self.intake.next(&early) {
            Ok(Taken::Starved) => return Ok(None),
            Ok(Taken::Inline(n)) => {
                let (command, rest) = early.split_at_checked(n).unwrap_or_default();
                self.early = rest.to_vec();
                return Ok(Some(Command::Head {
                    bytes: command.to_vec(),
                    is_whole: true,
                }));
            }
            Ok(Taken::Collected(n)) => (n, true),
            Ok(Taken::Large(n)) => (n, false),
            Err(error) => return Err(self.refuse_framing(error)),
        };
        self.early = early.get(used..).unwrap_or_default().to_vec();
        Ok(Some(Command::Head {
            bytes: self.intake.head().to_vec(),
            is_whole,
        }))
    }

    pub(super) fn refuse_framing(&mut self, error: IntakeError) -> End {
        let event = match error {
            IntakeError::Sequence => Event::OutOfOrder,
            IntakeError::TooLarge => Event::TooLarge,
        };
        let sequence = self.intake.last_sequence().wrapping_add(1);
        self.tell(event, "", sequence);
        CloseReason::ClientProtocol
    }

    /// Runs one command to the end of its reply.
    async fn run(&mut self, mut command: Command) -> Result<(), End> {
        if self.owed.is_some() {
            return self.settle_owed(command).await;
        }
        let began = self.world.net().now();
        loop {
            let world = Rc::clone(&self.world);
            let next = {
                let scratch = &mut *world.scratch.borrow_mut();
                scratch.out.clear();
                scratch.upstream.clear();
                let is_whole = command.is_whole();
                let payload = command.bytes().get(HEADER_LEN..).unwrap_or_default();
                let held = self
                    .lease
                    .as_mut()
                    .map(|lease| &mut lease.connection_mut().session);
                let out = &mut scratch.out;
                let next = self
                    .session
                    .accept(payload, is_whole, held, out, &mut scratch.upstream);
                self.send_own(&scratch.out);
                if let Some(lease) = &mut self.lease
                    && !scratch.upstream.is_empty()
                {
                    lease.connection_mut().stream.send_bytes(&scratch.upstream);
                }
                next
            };
            match next {
                Next::Answered => {
                    self.skip_rest().await?;
                    self.release_if_free();
                    return Ok(());
                }
                Next::Lease { prefer_last } => {
                    match self.exchange(command, prefer_last, began).await? {
                        // What it reads may have moved while it waited for a connection.
                        Some(again) => command = again,
                        None => return self.skip_rest().await,
                    }
                }
                Next::Wait => {
                    // Two sessions that hold what the other waits for would wait for ever.
                    self.release_if_free();
                    poll_fn(|cx| self.session.poll_settled(cx)).await;
                }
                Next::Reset => {
                    self.discard(CloseReason::StateLost);
                    let scratch = &mut *world.scratch.borrow_mut();
                    scratch.out.clear();
                    self.session.reset(&mut scratch.out);
                    self.send_own(&scratch.out);
                    return Ok(());
                }
                Next::Quit => return Err(CloseReason::ClientQuit),
            }
        }
    }

    /// Reads over the rest of a long command that was answered by its head.
    pub(super) async fn skip_rest(&mut self) -> Result<(), End> {
        while self.intake.is_streaming() {
            let Some(mut buf) = self.pending.take() else {
                self.pending = Some(self.more_bytes().await?);
                continue;
            };
            let n = self
                .intake
                .stream(&buf)
                .map_err(|error| self.refuse_framing(error))?;
            buf.advance(n);
            if !buf.is_empty() {
                self.pending = Some(buf);
            }
        }
        Ok(())
    }

    /// The next bytes of a client in the middle of a command.
    async fn more_bytes(&mut self) -> Result<Buf, End> {
        let limit = self.admitted.replica.snapshot.deadlines.write_stall;
        self.timer.set(self.now().plus(limit));
        poll_fn(|cx| {
            if let Poll::Ready(received) = self.stream.poll_receive(cx) {
                return Poll::Ready(match received {
                    Ok(Some(buf)) => Ok(buf),
                    Ok(None) | Err(_) => Err(CloseReason::ClientGone),
                });
            }
            if self.world.drain() == Drain::Now {
                return Poll::Ready(Err(CloseReason::Drain));
            }
            self.timer.poll(cx).map(|()| Err(CloseReason::ClientIdle))
        })
        .await
    }

    /// Sends what a session wrote on its own.
    pub(super) fn send_own(&mut self, out: &Output) {
        for span in out.spans() {
            if let Span::Own(range) = span {
                self.stream
                    .send_bytes(out.own().get(range.clone()).unwrap_or_default());
            }
        }
    }

    /// Sends an ERR packet for `event`.
    pub(super) fn tell(&mut self, event: Event, detail: &str, sequence: u8) {
        self.session.told(event);
        let mut out = Output::default();
        write_event(
            event,
            detail,
            u64::from(self.admitted.connection_id),
            sequence,
            &mut out,
        );
        self.send_own(&out);
    }

    fn say_goodbye(&mut self, event: Event, reason: CloseReason) -> End {
        // Nobody asked, so the packet stands where the next reply would begin.
        self.tell(event, "", 0);
        reason
    }

    /// Gives the lease back if nothing pins it any more.
    fn release_if_free(&mut self) {
        if self.session.pins().is_empty()
            && let Some(lease) = self.lease.take()
        {
            self.give_back(lease);
        }
    }

    /// The lease outlives its exchange.
    pub(super) fn keeps_lease(&mut self) {
        if self.kept.is_none() {
            self.kept = Some(Kept::new(&self.admitted.door.metrics));
        }
    }

    /// Returns a clean connection to its pool.
    pub(super) fn give_back(&mut self, lease: Leased) {
        self.kept = None;
        crate::core::fault::point("exchange.return");
        let connection = lease.connection();
        if connection.stream.is_disturbed() || !connection.session.is_idle() {
            return lease.end(Ending::Discard(CloseReason::UpstreamLost));
        }
        let is_left = connection.session.holds_for(self.session.owner());
        let moved = self.admitted.pool_for(connection.session.has_schema());
        if let Some(pool) = &moved {
            self.admitted.pool = Rc::clone(pool);
        }
        if is_left {
            self.admitted.left_at = Some(Rc::clone(&self.admitted.pool));
        }
        let Some(pool) = moved else {
            return lease.end(Ending::Return);
        };
        lease.end(Ending::Move(pool));
    }

    /// Closes the leased connection, if there is one, and forgets what lived on it.
    pub(super) fn discard(&mut self, reason: CloseReason) {
        self.kept = None;
        if let Some(lease) = self.lease.take() {
            lease.end(Ending::Discard(reason));
        }
        self.session.lose_lease();
    }

    pub(super) fn now(&self) -> Now {
        self.world.net().now()
    }
}

/// A lease that outlives its exchange, counted as long as it does.
pub(super) struct Kept(Rc<DoorSeries>);

impl Kept {
    fn new(door: &Rc<DoorSeries>) -> Self {
        door.pinned.inc();
        Self(Rc::clone(door))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.pinned.dec();
    }
}

enum Idle {
    Bytes(Buf),
    Gone,
    Drain,
    TooLong,
    LeaseLost,
}
