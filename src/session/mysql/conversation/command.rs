//! From the client's bytes to its next command, and what the session says to do with it.

use super::deadline::Farewell;
use super::exchange::LONGEST_REPEATED;
use super::{Action, Conversation, Io, Kept, Skipped, Stage};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use crate::session::mysql::downstream::Next;
use crate::session::mysql::intake::{Intake, IntakeError, Taken};
use crate::wire::mysql::frame::HEADER_LEN;

/// Where a packet has its sequence id.
const SEQUENCE_AT: usize = HEADER_LEN - 1;

/// Gives a packet its sequence id.
pub(super) fn number(packet: &mut [u8], sequence: u8) {
    if let Some(at) = packet.get_mut(SEQUENCE_AT) {
        *at = sequence;
    }
}

impl Kept {
    /// The command's bytes with its header, or the head of a long one.
    pub(super) fn bytes<'a>(
        self,
        intake: &'a mut Intake,
        again: &'a mut [u8],
        unread: &'a mut [u8],
    ) -> &'a mut [u8] {
        match self {
            Self::Nothing | Self::Entry | Self::Undo => &mut [],
            Self::Inline(n) => unread.get_mut(..n).unwrap_or_default(),
            Self::Head | Self::LongHead => intake.head(),
            Self::Again => again,
        }
    }

    pub(super) fn is_whole(self) -> bool {
        self != Self::LongHead
    }
}

impl Conversation {
    /// Cuts the next command out of what has come, and runs it.
    pub(super) fn next_command(&mut self, io: &mut Io<'_>) -> Action {
        let rest = io.unread.get(io.used..).unwrap_or_default();
        if rest.is_empty() || io.drain == Drain::Now {
            return self.between_commands(io);
        }
        let taken = match self.intake.next(rest) {
            Ok(taken) => taken,
            Err(error) => return self.refuse_framing(error, io),
        };
        match taken {
            Taken::Starved => {
                io.used = io.unread.len();
                self.since = io.now;
                return self.between_commands(io);
            }
            Taken::Inline(n) => self.kept = Kept::Inline(n),
            Taken::Collected(n) => {
                io.used = io.used.saturating_add(n);
                self.kept = Kept::Head;
            }
            Taken::Large(n) => {
                io.used = io.used.saturating_add(n);
                self.kept = Kept::LongHead;
            }
        }
        self.began = io.now;
        self.statement = Self::statement_deadline(io.now, io.limits);
        self.is_repeated = false;
        self.gone_at = None;
        self.run(io)
    }

    /// Nothing is left of what the client has sent: the moment at which a drain may end it.
    fn between_commands(&mut self, io: &mut Io<'_>) -> Action {
        let is_free = !self.session.is_in_transaction() && !self.intake.is_mid_command();
        if io.drain == Drain::Now || io.drain == Drain::Draining && is_free {
            let Farewell { event, reason, .. } = Farewell::of(io);
            return self.say_goodbye(event, reason, io);
        }
        Action::Wait
    }

    /// Runs the command in hand.
    pub(super) fn run(&mut self, io: &mut Io<'_>) -> Action {
        if self.owed.is_some() {
            return self.meet_debt(io);
        }
        let is_whole = self.kept.is_whole();
        let rest = io.unread.get_mut(io.used..).unwrap_or_default();
        let command = self.kept.bytes(&mut self.intake, &mut self.again, rest);
        let payload = command.get(HEADER_LEN..).unwrap_or_default();
        let held = io.held.as_deref_mut();
        let (session, down) = (&mut self.session, &mut *io.down);
        let next = io
            .up
            .write(|own| session.accept(payload, is_whole, held, down, own));
        match next {
            Next::Answered => self.answered(io),
            Next::Lease { prefer_last } => self.exchange(prefer_last, io),
            Next::More(len) => {
                self.intake.collect_more(len);
                self.kept = Kept::Nothing;
                self.enter(Stage::Idle, io.now);
                Action::Go
            }
            Next::Wait => {
                // Two sessions that hold what the other waits for would wait for ever.
                self.release_if_free(io);
                self.enter(Stage::Settling, io.now);
                Action::Wait
            }
            Next::Reset => self.reset(io),
            Next::Quit => {
                self.leave(CloseReason::ClientQuit, io);
                Action::Close {
                    reason: CloseReason::ClientQuit,
                    is_cut: false,
                }
            }
        }
    }

    /// The command is answered, or needs no answer.
    pub(super) fn answered(&mut self, io: &mut Io<'_>) -> Action {
        self.pass_over(io);
        if self.lease_end.is_none() {
            self.release_if_free(io);
        }
        if self.intake.is_streaming() {
            // Said behind the command's last packet, as a server does.
            let answer = io.down.own().to_vec();
            io.down.clear();
            self.enter(Stage::Skipping(Skipped::Answered(answer)), io.now);
            return Action::Go;
        }
        self.over(io)
    }

    /// The command is over.
    pub(super) fn over(&mut self, io: &mut Io<'_>) -> Action {
        self.kept = Kept::Nothing;
        if self.again.capacity() > LONGEST_REPEATED {
            self.again = Vec::new();
        }
        self.intake.forget_head();
        io.notes.is_over = true;
        self.idle_since = io.now;
        self.enter(Stage::Idle, io.now);
        Action::Go
    }

    /// Uses up the bytes of the command.
    pub(super) fn pass_over(&mut self, io: &mut Io<'_>) {
        if let Kept::Inline(n) = self.kept {
            io.used = io.used.saturating_add(n);
            self.kept = Kept::Nothing;
        }
    }

    /// Reads over the rest of a long command.
    pub(super) fn skip(&mut self, io: &mut Io<'_>) -> Action {
        let rest = io.unread.get(io.used..).unwrap_or_default();
        if rest.is_empty() && self.intake.is_streaming() {
            return match io.drain {
                Drain::Now => self.cut_short(io),
                _ => Action::Wait,
            };
        }
        match self.intake.stream(rest) {
            Ok(n) => io.used = io.used.saturating_add(n),
            Err(error) => return self.refuse_framing(error, io),
        }
        self.since = io.now;
        if self.intake.is_streaming() {
            return Action::Wait;
        }
        let sequence = self.intake.last_sequence().wrapping_add(1);
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Skipping(Skipped::Failed(failure)) => {
                self.reply_sequence = Some(sequence);
                self.tell_failure(failure, io)
            }
            Stage::Skipping(Skipped::Owed) => self.pay(io),
            Stage::Skipping(Skipped::Answered(mut answer)) => {
                number(&mut answer, sequence);
                io.down.bytes(&answer);
                self.over(io)
            }
            _ => self.over(io),
        }
    }

    /// The client's framing is broken: nothing it sends can be understood any more.
    pub(super) fn refuse_framing(&mut self, error: IntakeError, io: &mut Io<'_>) -> Action {
        let event = match error {
            IntakeError::Sequence => Event::OutOfOrder,
            IntakeError::TooLarge => Event::TooLarge,
        };
        let sequence = self.intake.last_sequence().wrapping_add(1);
        self.tell(event, sequence, io);
        self.gone(CloseReason::ClientProtocol, false, io)
    }

    /// Gives the lease back if nothing pins it any more.
    fn release_if_free(&mut self, io: &Io<'_>) {
        if io.held.is_some() && self.session.pins().is_empty() {
            self.release(io);
        }
    }
}
