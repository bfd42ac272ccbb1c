//! One exchange on the driver's side: lease, send, forward the reply, end the lease.
//!
//! Back-pressure: the upstream is read only while the client has few bytes to
//! take; beyond it the ring stops receiving from the upstream by itself.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::client::{Client, Command, End};
use super::endpoint::Acquired;
use super::watch::{Wake, Watch};
use super::world::Drain;
use crate::base::clock::Now;
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::net::{Buf, Stream};
use crate::pool::Lease;
use crate::session::mysql::exchange::{After, Begin, Fault, Progress};
use crate::session::mysql::output::{Output, Span};

use super::endpoint::UpstreamConnection;

/// Bytes of a long command that may wait to be taken by the upstream.
const UPSTREAM_UNSENT_MAX: usize = 256 * 1024;
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
        let mut command = Some(command);
        loop {
            if self.lease.is_none() {
                match self.wait_for_lease(prefer_last).await {
                    Ok((lease, has_waited)) => {
                        self.lease = Some(lease);
                        if has_waited && prefer_last && command.is_some() {
                            return Ok(command);
                        }
                    }
                    Err(Failed::Told(event)) => {
                        self.skip_rest().await?;
                        return self.fail(event, CloseReason::PoolWait).map(|()| None);
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
            match self.attempt(attempt, began).await {
                Outcome::Done => return Ok(None),
                Outcome::End(end) => return Err(end),
                Outcome::Lost { answered } => {
                    let may_repeat = !answered && !was_pinned && !self.again.is_empty();
                    self.discard(CloseReason::UpstreamLost);
                    if !may_repeat {
                        return self.lose(answered, was_pinned).map(|()| None);
                    }
                }
            }
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

    /// The upstream is gone in the middle of an exchange.
    fn lose(&mut self, answered: bool, was_pinned: bool) -> Result<(), End> {
        let event = match answered || was_pinned {
            true => Event::SessionLost,
            false => Event::OutcomeUnknown,
        };
        if answered && self.reply_sequence.is_none() {
            // In the middle of a packet no error can be said: the client must not take what it has
            // for the whole.
            self.is_aborted = true;
            self.admitted.metrics.errors.inc(CloseReason::UpstreamLost);
            return Err(CloseReason::UpstreamLost);
        }
        self.admitted.metrics.errors.inc(CloseReason::UpstreamLost);
        let sequence = self.reply_sequence.unwrap_or(1);
        self.tell(event, "", sequence);
        if event == Event::SessionLost {
            Err(CloseReason::UpstreamLost)
        } else {
            Ok(())
        }
    }

    /// Waits for an upstream connection.
    pub(super) async fn acquire(
        &mut self,
        prefer_last: bool,
    ) -> Result<Lease<Box<UpstreamConnection>>, Failed> {
        let acquired = self.wait_for_lease(prefer_last).await;
        acquired.map(|(lease, _)| lease)
    }

    /// As [`Self::acquire`]; tells whether there was a wait.
    async fn wait_for_lease(
        &mut self,
        prefer_last: bool,
    ) -> Result<(Lease<Box<UpstreamConnection>>, bool), Failed> {
        let world = Rc::clone(&self.world);
        let replica = world.replica();
        let deadline = self.now().plus(replica.snapshot.deadlines.pool_wait);
        let Some(pool) = self.admitted.pool_now(&world, &self.session) else {
            return Err(Failed::Told(Event::NoEndpoint));
        };
        self.admitted.pool = pool;
        let pool = Rc::clone(&self.admitted.pool);
        let mut wait = match pool.acquire(&world, self.session.owner(), prefer_last, deadline) {
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
            self.timer
                .poll(cx)
                .map(|()| Err(Failed::Told(Event::PoolWait)))
        })
        .await
    }

    /// One attempt on the leased connection.
    async fn attempt(&mut self, mut command: Command, began: Now) -> Outcome {
        let sent_at = self.now();
        let mut watch = self.watch(began);
        self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
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
        self.send_command(command);
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
            &mut lease.connection.session,
            &mut self.world.texts.borrow_mut(),
            command.bytes(),
            is_whole,
            &mut scratch.upstream,
        )?;
        if !scratch.upstream.is_empty() {
            lease.connection.stream.send_bytes(&scratch.upstream);
        }
        let tally = lease.connection.session.take_tally();
        self.admitted.pool.endpoint.count(tally);
        self.is_replaced = begin == Begin::Replaced;
        Ok(begin)
    }

    fn send_command(&mut self, command: Command) {
        let Some(lease) = &mut self.lease else { return };
        match command {
            _ if self.is_replaced => {}
            Command::Inline(buf) => lease.connection.stream.send(buf),
            Command::Head { bytes, .. } => lease.connection.stream.send_bytes(&bytes),
        }
    }

    pub(super) fn upstream_is_idle(&self) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.connection.session.is_idle())
    }

    /// Streams the rest of a long command, no faster than the upstream takes it.
    async fn stream_command(&mut self, watch: &mut Watch) -> Result<(), Outcome> {
        while self.intake.is_streaming() {
            if self.pending.is_none() {
                self.pending = Some(self.more_bytes().await.map_err(Outcome::End)?);
            }
            let Some(mut buf) = self.pending.take() else {
                continue;
            };
            let n = match self.intake.stream(&buf) {
                Ok(n) => n,
                Err(error) => return Err(Outcome::End(self.refuse_framing(error))),
            };
            let piece = buf.split_to(n);
            if !buf.is_empty() {
                self.pending = Some(buf);
            }
            let Some(lease) = &mut self.lease else {
                return Ok(());
            };
            lease.connection.stream.send(piece);
            let sent = poll_fn(|cx| {
                let unsent = lease
                    .connection
                    .stream
                    .poll_unsent_below(cx, UPSTREAM_UNSENT_MAX);
                if unsent.is_ready() {
                    return unsent.map(|result| result.map_err(|_| ()));
                }
                self.timer.poll(cx).map(|()| Err(()))
            });
            if sent.await.is_err() {
                return Err(Outcome::Lost { answered: false });
            }
        }
        self.session
            .set_command_sequence(self.intake.last_sequence());
        watch.stalled = None;
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
                    self.note_sequence();
                    return Collected::Over(self.interrupt(Event::Drain, CloseReason::Drain));
                }
                Wake::TooLong => {
                    self.note_sequence();
                    let event = Event::StatementDeadline;
                    return Collected::Over(self.interrupt(event, CloseReason::StatementTimeout));
                }
            }
        }
    }

    /// Ends a statement that runs too long. Where the reply has begun in the middle of a packet the
    /// connection is cut instead.
    fn interrupt(&mut self, event: Event, reason: CloseReason) -> Outcome {
        let loses_state = !self.session.pins().is_empty();
        self.discard(reason);
        let Some(sequence) = self.reply_sequence else {
            self.is_aborted = true;
            return Outcome::End(reason);
        };
        self.admitted.metrics.errors.inc(reason);
        self.tell(event, "", sequence);
        let keeps = crate::base::codes::code(event).keep && !loses_state;
        if keeps {
            Outcome::Done
        } else {
            Outcome::End(reason)
        }
    }

    /// Remembers where an ERR could stand in the reply; whether any of it has passed.
    fn note_sequence(&mut self) -> bool {
        let Some(lease) = &self.lease else {
            return false;
        };
        let upstream = &lease.connection.session;
        if upstream.is_unanswered() {
            self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
            return false;
        }
        self.reply_sequence = upstream.is_at_boundary().then(|| upstream.next_sequence());
        true
    }

    /// Hands a chunk of the reply to the session and sends on what it says.
    fn forward(&mut self, mut buf: Buf) -> Result<Progress, Fault> {
        let Some(lease) = &mut self.lease else {
            return Err(Fault::StateLost);
        };
        let scratch = &mut *self.world.scratch.borrow_mut();
        scratch.out.clear();
        scratch.upstream.clear();
        let upstream = &mut lease.connection.session;
        let result =
            self.session
                .on_reply(upstream, &mut buf, &mut scratch.out, &mut scratch.upstream);
        if !scratch.upstream.is_empty() {
            lease.connection.stream.send_bytes(&scratch.upstream);
        }
        self.has_answered |= !scratch.out.is_empty();
        send(&mut self.stream, buf, &scratch.out);
        result
    }

    fn fault(&mut self, fault: Fault) -> Outcome {
        let was_pinned = !self.session.pins().is_empty();
        self.note_sequence();
        crate::log!(
            Warn,
            "exchange failed",
            client = self.admitted.connection_id,
            endpoint = self.admitted.pool.endpoint.name,
            fault = format_args!("{fault:?}"),
        );
        match fault {
            Fault::Refused => {
                self.doubt_schema();
                self.discard(CloseReason::StateLost);
                if was_pinned {
                    // A transaction may have ended with the connection, unseen by the client.
                    return Outcome::End(CloseReason::StateLost);
                }
                Outcome::Done
            }
            Fault::Unmovable | Fault::LastStatementLost => {
                let event = match fault {
                    _ if was_pinned => Event::SessionLost,
                    Fault::LastStatementLost => Event::LastStatementLost,
                    _ => Event::Unmovable,
                };
                self.discard(CloseReason::StateLost);
                match self.fail(event, CloseReason::StateLost) {
                    Ok(()) => Outcome::Done,
                    Err(end) => Outcome::End(end),
                }
            }
            Fault::StateLost | Fault::Protocol(_) => {
                let answered = self.has_answered;
                if answered {
                    // What was refused may have been counted and not sent: no ERR can be numbered.
                    self.reply_sequence = None;
                }
                self.discard(CloseReason::UpstreamProtocol);
                match self.lose(answered, was_pinned) {
                    Ok(()) => Outcome::Done,
                    Err(end) => Outcome::End(end),
                }
            }
        }
    }

    /// The reply is complete: the lease ends, or the session keeps it.
    fn finish(&mut self, sent_at: Now, began: Now) -> Outcome {
        self.has_answered = false;
        let Some(mut lease) = self.lease.take() else {
            return Outcome::Done;
        };
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
        let after = self.session.end(&mut lease.connection.session);
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
                self.is_lease_lost = loses_state;
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
enum Outcome {
    /// The client has its answer.
    Done,
    /// The client's connection ends.
    End(End),
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
