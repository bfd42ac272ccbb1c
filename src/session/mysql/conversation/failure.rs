//! How a command fails: what may be repeated, what the client is told and where in its packets, and
//! whether the client is kept. One way for refused leases, deadlines, drains, lost upstreams and
//! refused state.

use std::rc::Rc;

use super::command::number;
use super::deadline::Farewell;
use super::{Action, Conversation, Io, Kept, Skipped, Stage};
use crate::base::close::CloseReason;
use crate::base::codes::{self, Event};
use crate::session::mysql::cleanse::Unclean;
use crate::session::mysql::downstream::write_event;
use crate::session::mysql::exchange::Fault;
use crate::session::mysql::output::Output;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::frame::HEADER_LEN;

/// Why a command has no answer of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the client is told.
    event: Event,
    /// What is counted, and why the client's connection ends if it does.
    reason: CloseReason,
    /// State of the session is gone too, so that the client cannot be kept whatever the event says.
    loses_state: bool,
}

impl Failure {
    /// A failure that leaves the session's state as it was.
    fn new(event: Event, reason: CloseReason) -> Self {
        Self {
            event,
            reason,
            loses_state: false,
        }
    }

    /// The command's connection was taken away, as others waited for one.
    pub(super) fn too_slow() -> Self {
        Self::new(Event::CommandSlow, CloseReason::ClientStalled)
    }

    /// No connection was leased.
    fn without_lease(event: Event) -> Self {
        let reason = match event {
            Event::StatementDeadline => CloseReason::StatementTimeout,
            Event::Drain => CloseReason::Drain,
            Event::UserRemoved => CloseReason::UserRemoved,
            Event::NoEndpoint => CloseReason::UpstreamConnect,
            Event::AccountRefused => CloseReason::UpstreamDenied,
            _ => CloseReason::PoolWait,
        };
        Self::new(event, reason)
    }
}

/// An error that the client is told at its next command: the one that failed has no reply.
#[derive(Debug)]
pub(super) struct Owed {
    /// An ERR packet.
    packet: Vec<u8>,
    reason: CloseReason,
}

impl Conversation {
    /// No connection is to be had for the command.
    pub(super) fn refused_lease(&mut self, event: Event, io: &mut Io<'_>) -> Action {
        if self.kept == Kept::Entry {
            return self.entry_refused(event, io);
        }
        self.fail(Failure::without_lease(event), io)
    }

    /// Fails the command in progress.
    pub(super) fn fail(&mut self, failure: Failure, io: &mut Io<'_>) -> Action {
        io.notes.failed = Some(failure.reason);
        self.pass_over(io);
        if self.intake.is_streaming() {
            // The error stands behind the command's last packet.
            self.enter(Stage::Skipping(Skipped::Failed(failure)), io.now);
            return Action::Go;
        }
        self.tell_failure(failure, io)
    }

    /// Says that the command has failed.
    pub(super) fn tell_failure(&mut self, failure: Failure, io: &mut Io<'_>) -> Action {
        let Failure { event, reason, .. } = failure;
        if !self.session.awaits_reply() {
            self.owe(event, reason);
            return self.over(io);
        }
        let Some(sequence) = self.reply_sequence else {
            // In the middle of a packet no error can be said: the client must not take what it has
            // for the whole.
            return Action::Close {
                reason,
                is_cut: true,
            };
        };
        self.tell(event, sequence, io);
        if codes::code(event).keep && !failure.loses_state {
            return self.over(io);
        }
        Action::Close {
            reason,
            is_cut: false,
        }
    }

    /// Sends an ERR packet for `event`.
    pub(super) fn tell(&mut self, event: Event, sequence: u8, io: &mut Io<'_>) {
        self.session.told(event);
        write_event(event, "", self.session.number(), sequence, io.down);
    }

    /// Ends the client's connection between two commands.
    pub(super) fn say_goodbye(
        &mut self,
        event: Event,
        reason: CloseReason,
        io: &mut Io<'_>,
    ) -> Action {
        // Nobody asked, so the packet stands where the next reply would begin.
        self.tell(event, 0, io);
        Action::Close {
            reason,
            is_cut: false,
        }
    }

    /// The client is sent away in the middle of a command that is read over: it is told now why that has failed, or
    /// why it must go.
    pub(super) fn cut_short(&mut self, io: &mut Io<'_>) -> Action {
        let Farewell { event, reason, .. } = Farewell::of(io);
        let event = match &self.stage {
            Stage::Skipping(Skipped::Failed(failure)) => failure.event,
            _ => event,
        };
        let sequence = self.intake.last_sequence().wrapping_add(1);
        self.tell(event, sequence, io);
        self.gone(reason, false, io)
    }

    /// The client's connection is over, whatever it waited for.
    pub(super) fn gone(&mut self, reason: CloseReason, is_cut: bool, io: &mut Io<'_>) -> Action {
        match self.stage {
            Stage::Idle | Stage::Skipping(_) => self.leave(reason, io),
            _ => {
                io.notes.failed = Some(reason);
                self.discard(reason, io);
            }
        }
        Action::Close { reason, is_cut }
    }

    /// The client has sent its last byte.
    pub(super) fn leaving(&mut self, io: &mut Io<'_>) -> Action {
        self.gone_at.get_or_insert(io.now);
        Action::Wait
    }

    /// Another session has read out what the command wants to know.
    pub(super) fn settled(&mut self, io: &mut Io<'_>) -> Action {
        match self.stage {
            Stage::Settling => self.run(io),
            _ => Action::Wait,
        }
    }

    /// Has the client told at its next command, and closed: what the command carried is lost, and an
    /// EXECUTE must not run without it.
    pub(super) fn owe(&mut self, event: Event, reason: CloseReason) {
        self.session.said = Some(event);
        let mut out = Output::default();
        write_event(event, "", self.session.number(), 1, &mut out);
        self.owe_packet(out.own().to_vec(), reason);
    }

    fn owe_packet(&mut self, packet: Vec<u8>, reason: CloseReason) {
        self.owed = Some(Box::new(Owed { packet, reason }));
    }

    /// A command comes while an error is owed: it is answered with that, if it has a reply.
    pub(super) fn meet_debt(&mut self, io: &mut Io<'_>) -> Action {
        let rest = io.unread.get_mut(io.used..).unwrap_or_default();
        let command = self.kept.bytes(&mut self.intake, &mut self.again, rest);
        let code = command.get(HEADER_LEN).copied();
        self.pass_over(io);
        let skipped = match code {
            Some(com::STMT_SEND_LONG_DATA | com::STMT_CLOSE) => Skipped::Answered(Vec::new()),
            Some(com::QUIT) => return self.gone(CloseReason::ClientQuit, false, io),
            _ => Skipped::Owed,
        };
        match (self.intake.is_streaming(), skipped) {
            (true, skipped) => {
                self.enter(Stage::Skipping(skipped), io.now);
                Action::Go
            }
            (false, Skipped::Owed) => self.pay(io),
            (false, _) => self.over(io),
        }
    }

    /// Says what is owed.
    pub(super) fn pay(&mut self, io: &mut Io<'_>) -> Action {
        let Some(mut owed) = self.owed.take() else {
            return self.over(io);
        };
        let sequence = self.intake.last_sequence().wrapping_add(1);
        number(&mut owed.packet, sequence);
        io.down.bytes(&owed.packet);
        Action::Close {
            reason: owed.reason,
            is_cut: false,
        }
    }

    /// The leased connection is gone.
    pub(super) fn upstream_gone(&mut self, io: &mut Io<'_>) -> Action {
        let reason = CloseReason::UpstreamLost;
        match self.stage {
            _ if self.kept == Kept::Entry => self.entry_lost(io),
            _ if self.kept == Kept::Undo => self.undo_failed(Unclean::Lost, io),
            Stage::Ahead | Stage::Replying | Stage::Streaming => {
                let is_answered = self.note_sequence(io) || self.has_answered;
                let may_repeat = !is_answered && !self.was_pinned && self.may_repeat();
                self.discard(reason, io);
                if !may_repeat {
                    let failure = self.lost(is_answered, reason);
                    return self.fail(failure, io);
                }
                if !matches!(self.stage, Stage::Ahead) {
                    self.kept = Kept::Again;
                }
                self.is_repeated = true;
                self.enter(Stage::Leasing { is_asked: false }, io.now);
                Action::Go
            }
            Stage::Idle | Stage::Skipping(_) if io.held.is_some() => {
                self.discard(reason, io);
                self.owe(Event::SessionLost, reason);
                Action::Go
            }
            Stage::Idle | Stage::Leasing { .. } | Stage::Settling | Stage::Skipping(_) => {
                Action::Wait
            }
        }
    }

    /// Whether the command in progress, of which nothing was answered, may be sent once more: not a
    /// byte of it was sent, or it provably changes nothing.
    fn may_repeat(&self) -> bool {
        let may = match self.stage {
            Stage::Ahead => true,
            Stage::Replying => !self.again.is_empty() && self.session.runs_nothing(&self.again),
            _ => false,
        };
        may && !self.is_repeated
    }

    /// The upstream is gone in the middle of an exchange.
    fn lost(&self, is_answered: bool, reason: CloseReason) -> Failure {
        let event = match is_answered || self.was_pinned {
            true => Event::SessionLost,
            false => Event::OutcomeUnknown,
        };
        Failure::new(event, reason)
    }

    /// Ends a statement that must not go on.
    pub(super) fn interrupt(
        &mut self,
        event: Event,
        reason: CloseReason,
        io: &mut Io<'_>,
    ) -> Action {
        let loses_state = !self.session.pins().is_empty();
        self.note_sequence(io);
        self.discard(reason, io);
        let failure = Failure {
            event,
            reason,
            loses_state,
        };
        self.fail(failure, io)
    }

    /// Remembers where an ERR could stand in the reply; whether any of it has passed.
    fn note_sequence(&mut self, io: &Io<'_>) -> bool {
        let Some(held) = io.held.as_deref() else {
            return false;
        };
        if held.is_unanswered() {
            self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
            return false;
        }
        let at_boundary = || held.is_at_boundary().then(|| held.next_sequence());
        self.reply_sequence = self.session.forget_first_row().or_else(at_boundary);
        true
    }

    /// The upstream session cannot go on with the exchange.
    pub(super) fn failed_upstream(&mut self, fault: Fault, io: &mut Io<'_>) -> Action {
        self.note_sequence(io);
        io.notes.fault = Some(fault);
        match fault {
            Fault::Refused => self.refused_state(io),
            Fault::SchemaGone => self.leave_schema(io),
            Fault::Unmovable | Fault::LastStatementLost => {
                let event = match fault {
                    _ if self.was_pinned => Event::SessionLost,
                    Fault::LastStatementLost => Event::LastStatementLost,
                    _ => Event::Unmovable,
                };
                self.discard(CloseReason::StateLost, io);
                self.fail(Failure::new(event, CloseReason::StateLost), io)
            }
            Fault::Untold => {
                self.discard(CloseReason::StateLost, io);
                self.fail(Failure::new(Event::ModeUntold, CloseReason::StateLost), io)
            }
            Fault::StateLost | Fault::Protocol(_) => {
                if self.has_answered {
                    // What was refused may have been counted and not sent: no ERR can be numbered.
                    self.reply_sequence = None;
                }
                let reason = CloseReason::UpstreamProtocol;
                self.discard(reason, io);
                let failure = self.lost(self.has_answered, reason);
                self.fail(failure, io)
            }
        }
    }

    /// The session's schema has gone away: its command is begun anew on a connection without one.
    fn leave_schema(&mut self, io: &mut Io<'_>) -> Action {
        if !matches!(self.stage, Stage::Ahead) {
            if !self.may_repeat() {
                self.session.note_refused();
                return self.refused_state(io);
            }
            io.down.clear();
            self.kept = Kept::Again;
            self.is_repeated = true;
        }
        io.notes.doubts_schema = true;
        self.discard(CloseReason::StateLost, io);
        self.enter(Stage::Leasing { is_asked: false }, io.now);
        Action::Go
    }

    /// The server has refused the session's state, and its own error stands for the answer.
    fn refused_state(&mut self, io: &mut Io<'_>) -> Action {
        let reason = CloseReason::StateLost;
        io.notes.doubts_schema = true;
        io.notes.has_server_error = true;
        io.notes.failed = Some(reason);
        self.session.refused = io.down.own().get(HEADER_LEN..).map(Rc::from);
        self.discard(reason, io);
        if !self.session.awaits_reply() {
            let packet = io.down.own().to_vec();
            io.down.clear();
            self.owe_packet(packet, reason);
        } else if self.was_pinned {
            // A transaction may have ended with the connection, unseen by the client.
            return Action::Close {
                reason,
                is_cut: false,
            };
        }
        self.answered(io)
    }
}
