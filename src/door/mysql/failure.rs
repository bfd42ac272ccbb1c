//! How a command fails: where in its packets the client is told, and whether the client is kept.
//! One way for refused leases, deadlines, drains, lost upstreams and refused state.

use super::client::{Client, End};
use crate::base::close::CloseReason;
use crate::base::codes::{self, Event};
use crate::session::mysql::downstream::write_event;
use crate::session::mysql::exchange::Fault;
use crate::session::mysql::output::Output;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::frame::HEADER_LEN;

use super::client::Command;
use super::exchange::Outcome;

/// Where an ERR packet has its sequence id.
const SEQUENCE_AT: usize = HEADER_LEN - 1;

/// Why a command has no answer of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What the client is told.
    pub(super) event: Event,
    /// What is counted, and why the client's connection ends if it does.
    pub(super) reason: CloseReason,
    /// State of the session is gone too, so that the client cannot be kept whatever the event says.
    pub(super) loses_state: bool,
}

impl Failure {
    /// A failure that leaves the session's state as it was.
    pub(super) fn new(event: Event, reason: CloseReason) -> Self {
        Self {
            event,
            reason,
            loses_state: false,
        }
    }

    /// No connection was leased.
    pub(super) fn without_lease(event: Event) -> Self {
        let reason = match event {
            Event::StatementDeadline => CloseReason::StatementTimeout,
            Event::Drain => CloseReason::Drain,
            Event::NoEndpoint => CloseReason::UpstreamConnect,
            _ => CloseReason::PoolWait,
        };
        Self::new(event, reason)
    }
}

/// An error that the client is told at its next command: the one that failed has no reply.
pub(super) struct Owed {
    /// An ERR packet.
    packet: Vec<u8>,
    reason: CloseReason,
}

impl Client {
    /// Fails the command in progress.
    pub(super) async fn fail(&mut self, failure: Failure) -> Result<(), End> {
        let Failure { event, reason, .. } = failure;
        self.count_failure(reason);
        if self.intake.is_streaming() {
            // The error stands behind the command's last packet.
            self.skip_rest().await?;
            self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
        }
        if !self.session.awaits_reply() {
            self.owe(event, reason);
            return Ok(());
        }
        let Some(sequence) = self.reply_sequence else {
            // In the middle of a packet no error can be said: the client must not take what it has
            // for the whole.
            self.is_aborted = true;
            return Err(reason);
        };
        self.tell(event, "", sequence);
        if codes::code(event).keep && !failure.loses_state {
            Ok(())
        } else {
            Err(reason)
        }
    }

    /// Counts an exchange that did not end with the server's answer.
    pub(super) fn count_failure(&self, reason: CloseReason) {
        self.admitted.metrics.exchanges.inc();
        self.admitted.metrics.errors.inc(reason);
    }

    /// Has the client told at its next command, and closed: what the command carried is lost, and an
    /// EXECUTE must not run without it.
    pub(super) fn owe(&mut self, event: Event, reason: CloseReason) {
        let mut out = Output::default();
        let id = u64::from(self.admitted.connection_id);
        write_event(event, "", id, 1, &mut out);
        self.owe_packet(out.own().to_vec(), reason);
    }

    fn owe_packet(&mut self, packet: Vec<u8>, reason: CloseReason) {
        self.owed = Some(Box::new(Owed { packet, reason }));
    }

    /// Answers a command with the error that is owed, if it has a reply.
    pub(super) async fn settle_owed(&mut self, mut command: Command) -> Result<(), End> {
        let code = command.bytes().get(HEADER_LEN).copied();
        self.skip_rest().await?;
        match code {
            Some(com::STMT_SEND_LONG_DATA | com::STMT_CLOSE) => return Ok(()),
            Some(com::QUIT) => return Err(CloseReason::ClientQuit),
            _ => {}
        }
        let Some(mut owed) = self.owed.take() else {
            return Ok(());
        };
        if let Some(sequence) = owed.packet.get_mut(SEQUENCE_AT) {
            *sequence = self.intake.last_sequence().wrapping_add(1);
        }
        self.stream.send_bytes(&owed.packet);
        Err(owed.reason)
    }

    /// The upstream is gone in the middle of an exchange.
    pub(super) fn lost(answered: bool, was_pinned: bool, reason: CloseReason) -> Failure {
        let event = match answered || was_pinned {
            true => Event::SessionLost,
            false => Event::OutcomeUnknown,
        };
        Failure::new(event, reason)
    }

    /// Ends a statement that must not go on.
    pub(super) fn interrupt(&mut self, event: Event, reason: CloseReason) -> Outcome {
        let loses_state = !self.session.pins().is_empty();
        self.note_sequence();
        self.discard(reason);
        Outcome::Failed(Failure {
            event,
            reason,
            loses_state,
        })
    }

    /// Remembers where an ERR could stand in the reply; whether any of it has passed.
    pub(super) fn note_sequence(&mut self) -> bool {
        let Some(lease) = &self.lease else {
            return false;
        };
        let upstream = &lease.connection().session;
        if upstream.is_unanswered() {
            self.reply_sequence = Some(self.intake.last_sequence().wrapping_add(1));
            return false;
        }
        self.reply_sequence = upstream.is_at_boundary().then(|| upstream.next_sequence());
        true
    }

    /// The session cannot go on with the exchange.
    pub(super) fn fault(&mut self, fault: Fault) -> Outcome {
        let was_pinned = !self.session.pins().is_empty();
        self.note_sequence();
        crate::log!(
            Warn,
            "exchange failed",
            client = self.admitted.connection_id,
            endpoint = self.admitted.pool.endpoint.name.address,
            fault = format_args!("{fault:?}"),
        );
        match fault {
            Fault::Refused => self.refused(was_pinned),
            Fault::Unmovable | Fault::LastStatementLost => {
                let event = match fault {
                    _ if was_pinned => Event::SessionLost,
                    Fault::LastStatementLost => Event::LastStatementLost,
                    _ => Event::Unmovable,
                };
                self.discard(CloseReason::StateLost);
                Outcome::Failed(Failure::new(event, CloseReason::StateLost))
            }
            Fault::StateLost | Fault::Protocol(_) => {
                let answered = self.has_answered;
                if answered {
                    // What was refused may have been counted and not sent: no ERR can be numbered.
                    self.reply_sequence = None;
                }
                let reason = CloseReason::UpstreamProtocol;
                self.discard(reason);
                Outcome::Failed(Self::lost(answered, was_pinned, reason))
            }
        }
    }

    /// The server has refused the session's state, and its own error stands for the answer.
    fn refused(&mut self, was_pinned: bool) -> Outcome {
        self.doubt_schema();
        let reason = CloseReason::StateLost;
        self.discard(reason);
        self.admitted.metrics.server_errors.inc();
        if !self.session.awaits_reply() {
            let packet = self.world.scratch.borrow().out.own().to_vec();
            self.owe_packet(packet, reason);
        } else if was_pinned {
            // A transaction may have ended with the connection, unseen by the client.
            return Outcome::End(reason);
        }
        self.count_failure(reason);
        Outcome::Done
    }
}
