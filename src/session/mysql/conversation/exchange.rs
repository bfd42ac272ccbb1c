//! A command on a leased connection: its attempts, its reply, and what becomes of the lease.

use super::{Action, Conversation, Finished, Io, Kept, LeaseEnd, Stage};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::session::mysql::exchange::{After, Begin, Fault, Progress};

/// The longest read-only command that is kept for a second attempt.
pub(super) const LONGEST_REPEATED: usize = 512;

impl Conversation {
    /// The command needs a connection.
    pub(super) fn exchange(&mut self, prefers_last: bool, io: &mut Io<'_>) -> Action {
        self.keep_for_another_attempt(io);
        self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
        self.prefers_last = prefers_last;
        if io.held.is_some() {
            return self.attempt(io);
        }
        self.enter(Stage::Leasing { is_asked: true }, io.now);
        Action::Lease(self.wish(io.limits))
    }

    /// Keeps a copy of a small command that may turn out to be one that can be repeated: what it
    /// changes is looked at when its connection is lost, not before.
    fn keep_for_another_attempt(&mut self, io: &mut Io<'_>) {
        if self.kept == Kept::Again {
            return;
        }
        self.again.clear();
        // Where a command is read again, a connection is held that nothing pins.
        let is_pinned = io.held.is_some() && !self.session.pins().is_empty();
        let is_free = !is_pinned && !self.session.vector().is_autocommit_off();
        if is_free && self.kept.is_whole() {
            let rest = io.unread.get_mut(io.used..).unwrap_or_default();
            let bytes = self.kept.bytes(&mut self.intake, &mut [], rest);
            if bytes.len() <= LONGEST_REPEATED && self.session.may_run_nothing(bytes) {
                self.again.extend_from_slice(bytes);
            }
        }
    }

    /// A connection was leased.
    pub(super) fn leased(&mut self, has_waited: bool, io: &mut Io<'_>) -> Action {
        let is_first = !self.is_repeated && self.kept != Kept::Entry;
        if has_waited && self.prefers_last && is_first {
            // What it reads may have moved while it waited.
            return self.run(io);
        }
        self.attempt(io)
    }

    fn attempt(&mut self, io: &mut Io<'_>) -> Action {
        self.attempted = io.now;
        self.was_pinned = !self.session.pins().is_empty();
        self.has_answered = false;
        match self.kept {
            Kept::Entry => self.enter_leased(io),
            _ => self.begin(io),
        }
    }

    /// Writes what goes ahead, and the command if it need not wait for that.
    fn begin(&mut self, io: &mut Io<'_>) -> Action {
        let Some(held) = io.held.as_deref_mut() else {
            return self.failed_upstream(Fault::StateLost, io);
        };
        let is_whole = self.kept.is_whole();
        let rest = io.unread.get_mut(io.used..).unwrap_or_default();
        let command = self.kept.bytes(&mut self.intake, &mut self.again, rest);
        let (session, texts) = (&mut self.session, &mut *io.texts);
        session.begins_at(io.now);
        let begun = io
            .up
            .write(|own| session.begin(held, texts, command, is_whole, own));
        io.notes.tally = held.take_tally();
        match begun {
            Ok(Begin::Wait) => {
                self.enter(Stage::Ahead, io.now);
                Action::Wait
            }
            Ok(Begin::ReadAgain) => self.run(io),
            Ok(Begin::Replaced) => {
                self.pass_over(io);
                self.sent(is_whole, io)
            }
            Ok(Begin::Send) => {
                self.send_command(io);
                self.sent(is_whole, io)
            }
            Err(fault) => self.failed_upstream(fault, io),
        }
    }

    /// Sends the command as it is: in place if it came in one piece.
    fn send_command(&mut self, io: &mut Io<'_>) {
        match self.kept {
            Kept::Inline(n) => {
                let end = io.used.saturating_add(n);
                io.up.input(io.used..end);
                self.pass_over(io);
            }
            Kept::Head | Kept::LongHead => io.up.bytes(self.intake.head()),
            Kept::Again => io.up.bytes(&self.again),
            Kept::Nothing | Kept::Entry | Kept::Undo => {}
        }
    }

    /// The command, or the head of a long one, is on its way.
    fn sent(&mut self, is_whole: bool, io: &mut Io<'_>) -> Action {
        if !is_whole {
            (self.passed, self.looked) = (0, io.now);
            self.enter(Stage::Streaming, io.now);
            return Action::Go;
        }
        self.await_reply(io)
    }

    fn await_reply(&mut self, io: &mut Io<'_>) -> Action {
        if io.held.as_deref().is_some_and(|held| held.is_idle()) {
            return self.finish(io);
        }
        self.enter(Stage::Replying, io.now);
        Action::Wait
    }

    /// Passes on the rest of a long command.
    pub(super) fn stream(&mut self, io: &mut Io<'_>) -> Action {
        let rest = io.unread.get(io.used..).unwrap_or_default();
        if rest.is_empty() {
            return Action::Wait;
        }
        let n = match self.intake.stream(rest) {
            Ok(n) => n,
            Err(error) => return self.refuse_framing(error, io),
        };
        let end = io.used.saturating_add(n);
        self.session.stream(io.unread, io.used..end, io.up);
        io.used = end;
        self.passed = self.passed.saturating_add(n);
        self.since = io.now;
        if self.intake.is_streaming() {
            return Action::Wait;
        }
        self.session.end_stream(self.intake.last_sequence());
        self.await_reply(io)
    }

    /// Bytes of the leased connection.
    pub(super) fn take_reply(&mut self, reply: &mut [u8], io: &mut Io<'_>) -> Action {
        if !matches!(self.stage, Stage::Ahead | Stage::Replying) {
            // Nothing was asked, so whatever came is the server's goodbye.
            return self.upstream_gone(io);
        }
        if self.kept == Kept::Undo {
            return self.undo_progress(reply, io);
        }
        let Some(held) = io.held.as_deref_mut() else {
            return self.failed_upstream(Fault::StateLost, io);
        };
        let (session, down) = (&mut self.session, &mut *io.down);
        let progress = io.up.write(|own| session.on_reply(held, reply, down, own));
        if self.kept == Kept::Entry {
            return self.entry_progress(progress, io);
        }
        self.has_answered |= self.session.awaits_reply() && !io.down.is_empty();
        let action = match progress {
            Ok(Progress::More) => Action::Wait,
            Ok(Progress::Ready) => self.begin(io),
            Ok(Progress::Done) => self.finish(io),
            Err(fault) => return self.failed_upstream(fault, io),
        };
        if !self.session.awaits_reply() {
            io.down.clear();
        }
        action
    }

    /// The reply is complete: the lease ends, or the session keeps it.
    fn finish(&mut self, io: &mut Io<'_>) -> Action {
        self.has_answered = false;
        let Some(held) = io.held.as_deref_mut() else {
            return self.over(io);
        };
        io.notes.finished = Some(Finished {
            total: io.now.since(self.began),
            upstream: io.now.since(self.attempted),
        });
        io.notes.has_server_error = self.session.server_errno().is_some();
        let session = &mut self.session;
        let after = io.up.write(|own| session.end(held, own));
        let pins = self.session.pins();
        for reason in pins.iter().filter(|reason| !self.pinned.has(*reason)) {
            io.notes.new_pins.add(reason);
        }
        self.pinned = pins;
        match after {
            After::Return => self.release(io),
            After::Keep => io.notes.keeps_lease = true,
            After::Discard => {
                self.discard(CloseReason::UpstreamLost, io);
                if !pins.is_empty() {
                    self.owe(Event::SessionLost, CloseReason::UpstreamLost);
                }
            }
        }
        self.over(io)
    }

    /// No pin keeps the connection any more: it goes back, cleansed if it has to be.
    pub(super) fn release(&mut self, io: &Io<'_>) {
        let reason = CloseReason::StateLost;
        self.lease_end = io.held.as_deref().map(|held| {
            if !held.is_suspect() {
                LeaseEnd::Return
            } else if self.session.can_be_cleansed_of(held) {
                LeaseEnd::Cleanse(reason)
            } else {
                LeaseEnd::Discard(reason)
            }
        });
    }

    /// The session leaves the connection that it keeps between commands, which is cleansed of it if that
    /// can be, or closed.
    pub(super) fn leave(&mut self, reason: CloseReason, io: &Io<'_>) {
        let held = io.held.as_deref();
        let is_clean = held.is_some_and(|held| self.session.can_be_cleansed_of(held));
        self.discard(reason, io);
        if is_clean {
            self.lease_end = Some(LeaseEnd::Cleanse(reason));
        }
    }

    /// The leased connection is to be closed, and with it goes all that lived on it.
    pub(super) fn discard(&mut self, reason: CloseReason, io: &Io<'_>) {
        if let Some(held) = io.held.as_deref() {
            // Nothing runs where all is answered, or a part of a command has come.
            self.lease_end = Some(match self.stage {
                Stage::Streaming => LeaseEnd::Abandon(reason),
                _ if held.is_idle() => LeaseEnd::Abandon(reason),
                _ => LeaseEnd::Discard(reason),
            });
        }
        self.session.lose_lease();
    }
}
