//! One exchange on the driver's side: lease, send, forward the reply, end the lease.
//!
//! Back-pressure: the upstream is read only while the client has few bytes to
//! take; beyond it the ring stops receiving from the upstream by itself.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::client::{Client, Command, End};
use super::failure::Failure;
use super::upstream::{self, Acquired, Leased};
use super::watch::{Streaming, Wake, Watch};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::core::Drain;
use crate::net::{Buf, Stream};
use crate::session::mysql::exchange::{After, Begin, Fault, Progress};
use crate::session::mysql::output::{Output, Span};

/// The longest read-only command that is kept for a second attempt.
const AGAIN_LEN_MAX: usize = 512;

impl Client {
    /// Runs a command on an upstream connection. Gives it back where the session has to look at it
    /// again: a connection is leased then.
    pub(super) async fn exchange(
        &mut self,
        mut command: Command,
        prefer_last: bool,
        began: Now,
    ) -> Result<Option<Command>, End> {
        self.keep_for_another_attempt(&mut command);
        self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
        let statement = self.statement_deadline(began);
        let mut command = Some(command);
        loop {
            if self.lease.is_none() {
                match self.wait_for_lease(prefer_last, statement).await {
                    Ok((lease, has_waited)) => {
                        crate::core::fault::point("exchange.leased");
                        self.lease = Some(lease);
                        if has_waited && prefer_last && command.is_some() {
                            return Ok(command);
                        }
                    }
                    Err(Failed::Told(event)) => {
                        let failure = Failure::without_lease(event);
                        return self.fail(failure).await.map(|()| None);
                    }
                    Err(Failed::End(end)) => return Err(end),
                }
            }
            let was_pinned = !self.session.pins().is_empty();
            let attempt = match command.take() {
                Some(command) => command,
                None => Command::Head {
                    bytes: std::mem::take(&mut self.again),
                    is_whole: true,
                },
            };
            let failure = match self.attempt(attempt, began, statement).await {
                Outcome::Done => return Ok(None),
                Outcome::End(end) => {
                    self.count_failure(end);
                    return Err(end);
                }
                Outcome::Failed(failure) => failure,
                Outcome::Lost { answered } => {
                    let may_repeat = !answered && !was_pinned && !self.again.is_empty();
                    let reason = CloseReason::UpstreamLost;
                    self.discard(reason);
                    if may_repeat {
                        continue;
                    }
                    Self::lost(answered, was_pinned, reason)
                }
            };
            return self.fail(failure).await.map(|()| None);
        }
    }

    /// Keeps a copy of a small command that cannot write: should the upstream turn out to be dead,
    /// it is sent once more on another connection.
    fn keep_for_another_attempt(&mut self, command: &mut Command) {
        self.again.clear();
        let is_free = self.lease.is_none() && !self.session.vector().is_autocommit_off();
        if is_free && self.session.effects().is_read_only && command.is_whole() {
            let bytes = command.bytes();
            if bytes.len() <= AGAIN_LEN_MAX {
                self.again.extend_from_slice(bytes);
            }
        }
    }

    /// Waits for an upstream connection.
    pub(super) async fn acquire(&mut self, prefer_last: bool) -> Result<Leased, Failed> {
        let acquired = self.wait_for_lease(prefer_last, Deadline::NEVER).await;
        acquired.map(|(lease, _)| lease)
    }

    /// As [`Self::acquire`], no longer than the statement may take; tells whether there was a wait.
    async fn wait_for_lease(
        &mut self,
        prefer_last: bool,
        statement: Deadline,
    ) -> Result<(Leased, bool), Failed> {
        let world = Rc::clone(&self.world);
        let replica = world.replica();
        let limit = self.now().plus(replica.snapshot.deadlines.pool_wait);
        let deadline = limit.min(statement);
        let too_late = match statement < limit {
            true => Event::StatementDeadline,
            false => Event::PoolWait,
        };
        let Some(pool) = self.admitted.pool_now(&world, &self.session, prefer_last) else {
            return Err(Failed::Told(Event::NoEndpoint));
        };
        self.admitted.pool = pool;
        let pool = Rc::clone(&self.admitted.pool);
        let mut wait = match pool.acquire(self.session.owner(), prefer_last, deadline) {
            Ok(Acquired::Now(lease)) => return Ok((lease, false)),
            Ok(Acquired::Later(wait)) => wait,
            Err(event) => return Err(Failed::Told(event)),
        };
        self.timer.set(deadline);
        poll_fn(|cx| {
            if let Poll::Ready(delivery) = wait.poll(cx) {
                let delivery = delivery.map(|lease| (lease, true));
                return Poll::Ready(delivery.map_err(Failed::Told));
            }
            if self.pending.is_none() {
                match self.stream.poll_receive(cx) {
                    Poll::Ready(Ok(Some(buf))) => self.pending = Some(buf),
                    Poll::Ready(Ok(None) | Err(_)) => {
                        return Poll::Ready(Err(Failed::End(CloseReason::ClientGone)));
                    }
                    Poll::Pending => {}
                }
            }
            if self.world.drain() == Drain::Now {
                return Poll::Ready(Err(Failed::Told(Event::Drain)));
            }
            self.timer.poll(cx).map(|()| Err(Failed::Told(too_late)))
        })
        .await
    }

    /// One attempt on the leased connection.
    async fn attempt(&mut self, mut command: Command, began: Now, statement: Deadline) -> Outcome {
        let sent_at = self.now();
        let mut watch = Watch::new(statement);
        self.has_answered = false;
        loop {
            match self.begin(&mut command) {
                Ok(Begin::Send | Begin::Replaced) => break,
                Ok(Begin::Wait) => match self.collect(&mut watch).await {
                    Collected::Ready => {}
                    Collected::Over(outcome) => return outcome,
                    Collected::Done => return Outcome::Done,
                },
                Err(fault) => return self.fault(fault),
            }
        }
        let is_large = !command.is_whole();
        crate::core::fault::point("exchange.begun");
        self.send_command(command);
        crate::core::fault::point("exchange.sent");
        if is_large && let Err(outcome) = self.stream_command(&mut watch).await {
            return outcome;
        }
        if self.upstream_is_idle() {
            return self.finish(sent_at, began);
        }
        match self.collect(&mut watch).await {
            Collected::Done => self.finish(sent_at, began),
            Collected::Ready => Outcome::Lost { answered: false },
            Collected::Over(outcome) => outcome,
        }
    }

    /// Writes what goes ahead, and readies the command.
    fn begin(&mut self, command: &mut Command) -> Result<Begin, Fault> {
        let Some(lease) = &mut self.lease else {
            return Err(Fault::StateLost);
        };
        let scratch = &mut *self.world.scratch.borrow_mut();
        scratch.upstream.clear();
        let is_whole = command.is_whole();
        let begin = self.session.begin(
            &mut lease.connection_mut().session,
            &mut self.world.upstreams.shared.texts.borrow_mut(),
            command.bytes(),
            is_whole,
            &mut scratch.upstream,
        )?;
        if !scratch.upstream.is_empty() {
            lease.connection_mut().stream.send_bytes(&scratch.upstream);
        }
        let tally = lease.connection_mut().session.take_tally();
        upstream::count(&self.admitted.pool.endpoint.metrics, tally);
        self.is_replaced = begin == Begin::Replaced;
        Ok(begin)
    }

    fn send_command(&mut self, command: Command) {
        let Some(lease) = &mut self.lease else { return };
        match command {
            _ if self.is_replaced => {}
            Command::Inline(buf) => lease.connection_mut().stream.send(buf),
            Command::Head { bytes, .. } => lease.connection_mut().stream.send_bytes(&bytes),
        }
    }

    pub(super) fn upstream_is_idle(&self) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.connection().session.is_idle())
    }

    /// Streams the rest of a long command, no faster than the upstream takes it.
    async fn stream_command(&mut self, watch: &mut Watch) -> Result<(), Outcome> {
        while self.intake.is_streaming() {
            self.set_streaming_timer(watch);
            let event = poll_fn(|cx| self.poll_streaming(watch, cx)).await;
            let mut buf = match event {
                Streaming::Bytes(buf) => buf,
                Streaming::ClientGone => return Err(Outcome::End(CloseReason::ClientGone)),
                Streaming::ClientStalled => return Err(Outcome::End(CloseReason::ClientIdle)),
                Streaming::UpstreamLost => return Err(Outcome::Lost { answered: false }),
                Streaming::Drain => return Err(self.interrupt(Event::Drain, CloseReason::Drain)),
                Streaming::TooLong => {
                    let event = Event::StatementDeadline;
                    return Err(self.interrupt(event, CloseReason::StatementTimeout));
                }
            };
            let n = match self.intake.stream(&buf) {
                Ok(n) => n,
                Err(error) => return Err(Outcome::End(self.refuse_framing(error))),
            };
            let piece = buf.split_to(n);
            if !buf.is_empty() {
                self.pending = Some(buf);
            }
            if let Some(lease) = &mut self.lease {
                lease.connection_mut().stream.send(piece);
            }
        }
        self.session
            .set_command_sequence(self.intake.last_sequence());
        Ok(())
    }

    /// Takes in the reply until it is complete, or until the command may begin again.
    async fn collect(&mut self, watch: &mut Watch) -> Collected {
        loop {
            let event = poll_fn(|cx| self.poll_exchange(watch, cx)).await;
            match event {
                Wake::Reply(buf) => match self.forward(buf) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Ready) => return Collected::Ready,
                    Ok(Progress::Done) => return Collected::Done,
                    Err(fault) => return Collected::Over(self.fault(fault)),
                },
                Wake::Yield => {}
                Wake::UpstreamLost => {
                    let answered = self.note_sequence() || self.has_answered;
                    return Collected::Over(Outcome::Lost { answered });
                }
                Wake::ClientGone => {
                    return Collected::Over(Outcome::End(CloseReason::ClientGone));
                }
                Wake::Stalled => {
                    self.is_aborted = true;
                    return Collected::Over(Outcome::End(CloseReason::WriteStall));
                }
                Wake::Drain => {
                    return Collected::Over(self.interrupt(Event::Drain, CloseReason::Drain));
                }
                Wake::TooLong => {
                    let event = Event::StatementDeadline;
                    return Collected::Over(self.interrupt(event, CloseReason::StatementTimeout));
                }
            }
        }
    }

    /// Hands a chunk of the reply to the session and sends on what it says.
    fn forward(&mut self, mut buf: Buf) -> Result<Progress, Fault> {
        let Some(lease) = &mut self.lease else {
            return Err(Fault::StateLost);
        };
        let scratch = &mut *self.world.scratch.borrow_mut();
        crate::core::fault::point("exchange.reply");
        scratch.out.clear();
        scratch.upstream.clear();
        let upstream = &mut lease.connection_mut().session;
        let result =
            self.session
                .on_reply(upstream, &mut buf, &mut scratch.out, &mut scratch.upstream);
        if !scratch.upstream.is_empty() {
            lease.connection_mut().stream.send_bytes(&scratch.upstream);
        }
        if self.session.awaits_reply() {
            self.has_answered |= !scratch.out.is_empty();
            send(&mut self.stream, buf, &scratch.out);
        }
        result
    }

    /// The reply is complete: the lease ends, or the session keeps it.
    fn finish(&mut self, sent_at: Now, began: Now) -> Outcome {
        self.has_answered = false;
        let Some(mut lease) = self.lease.take() else {
            return Outcome::Done;
        };
        crate::core::fault::point("exchange.finish");
        let now = self.now();
        let metrics = &self.admitted.metrics;
        metrics.exchanges.inc();
        let (total, upstream) = (now.since(began), now.since(sent_at));
        metrics.total.record(total);
        metrics.upstream.record(upstream);
        metrics.gateway.record(total.saturating_sub(upstream));
        if self.session.server_errno().is_some() {
            metrics.server_errors.inc();
        }
        let before = self.pinned;
        let mut last = Vec::new();
        let after = self
            .session
            .end(&mut lease.connection_mut().session, &mut last);
        if !last.is_empty() {
            lease.connection_mut().stream.send_bytes(&last);
        }
        let pins = self.session.pins();
        self.pinned = pins;
        for reason in pins.iter().filter(|reason| !before.has(*reason)) {
            metrics.pins.inc(reason);
        }
        match after {
            After::Return => self.give_back(lease),
            After::Keep => {
                self.lease = Some(lease);
                self.keeps_lease();
            }
            After::Discard => {
                let loses_state = !pins.is_empty();
                self.lease = Some(lease);
                self.discard(CloseReason::UpstreamLost);
                if loses_state {
                    self.owe(Event::SessionLost, CloseReason::UpstreamLost);
                }
            }
        }
        Outcome::Done
    }
}

/// Sends a chunk's pieces, without a copy of what merely passes.
fn send(stream: &mut Stream, mut buf: Buf, out: &Output) {
    let mut at = 0_usize;
    for span in out.spans() {
        match span {
            Span::Own(range) => stream.send_bytes(out.own().get(range.clone()).unwrap_or_default()),
            Span::Input(range) => {
                buf.advance(range.start.saturating_sub(at));
                stream.send(buf.split_to(range.len()));
                at = range.end;
            }
        }
    }
}

/// Why no connection was leased.
pub(super) enum Failed {
    /// The client is told this.
    Told(Event),
    /// The client's connection ends.
    End(End),
}

/// How an attempt ended.
pub(super) enum Outcome {
    /// The client has its answer.
    Done,
    /// The client's connection ends.
    End(End),
    /// The client has to be told.
    Failed(Failure),
    /// The upstream was lost; whether the client has got any of the answer.
    Lost { answered: bool },
}

/// How the taking in of a reply ended.
enum Collected {
    /// The reply is complete.
    Done,
    /// What went ahead is done.
    Ready,
    /// The exchange is over in some other way.
    Over(Outcome),
}
