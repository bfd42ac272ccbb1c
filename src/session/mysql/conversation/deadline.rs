//! When a conversation's wait ends by time, and what happens then.

use std::time::Duration;

use super::{Action, Conversation, Failure, Io, Kept, Limits, Skipped, Stage};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use crate::session::mysql::cleanse::Unclean;

/// How long a statement may still wait and run after its client has closed its side: a client may do
/// so after its last statement and read the answer. What is left of a second is for the KILL.
const GONE_GRACE: Duration = Duration::from_millis(500);

/// How often the pace of a long command is looked at, and the bytes in such a time with which it
/// keeps its connection while others wait for one.
const PACE: Duration = Duration::from_millis(500);
const PACE_BYTES: usize = 8 * 1024;

/// What a drain says: the node's, or that of a client whose user was removed.
pub(super) struct Farewell {
    pub(super) event: Event,
    /// To one whose statement may have written.
    unknown: Event,
    pub(super) reason: CloseReason,
}

impl Farewell {
    pub(super) fn of(io: &Io<'_>) -> Self {
        if io.is_removed {
            return Self {
                event: Event::UserRemoved,
                unknown: Event::RemovedUnknown,
                reason: CloseReason::UserRemoved,
            };
        }
        Self {
            event: Event::Drain,
            unknown: Event::DrainUnknown,
            reason: CloseReason::Drain,
        }
    }
}

impl Conversation {
    /// Until when a statement that began at `began` must be answered, its wait for a connection
    /// included.
    pub(super) fn statement_deadline(began: Now, limits: &Limits) -> Deadline {
        let limit = limits.statement.map(|limit| began.plus(limit));
        limit.unwrap_or(Deadline::NEVER)
    }

    /// When the present wait ends at the latest: [`super::Input::Deadline`] then.
    pub fn deadline(&self, limits: &Limits) -> Deadline {
        let stalled = self.since.plus(limits.write_stall);
        match self.stage {
            Stage::Idle if self.intake.is_mid_command() => stalled.min(self.begun(limits)),
            Stage::Idle => {
                let times = [limits.idle_client, self.session.wait_timeout()];
                let idle = times.into_iter().flatten().min();
                let idle = idle.map_or(Deadline::NEVER, |idle| self.since.plus(idle));
                idle.min(self.begun(limits))
            }
            Stage::Leasing { .. } => self.waited(limits).min(self.grace()).min(self.too_late()),
            Stage::Settling => self.waited(limits).min(self.grace()).min(self.statement),
            Stage::Ahead if self.kept == Kept::Entry => self.waited(limits),
            Stage::Ahead if self.kept == Kept::Undo => self.undo_limit(),
            Stage::Ahead | Stage::Replying => self.statement.min(self.grace()),
            Stage::Streaming => self.statement.min(stalled).min(self.looked.plus(PACE)),
            Stage::Skipping(_) => stalled,
        }
    }

    /// The limit of a wait for others.
    fn waited(&self, limits: &Limits) -> Deadline {
        let is_entry = self.kept == Kept::Entry;
        let patience = self.entry.patience().filter(|_| is_entry);
        let limit = self.since.plus(limits.pool_wait);
        patience.map_or(limit, |patience| patience.min(limit))
    }

    /// When three quarters of the time are over that was left for the statement as it began to wait for a connection.
    /// Of more than can be served those are who wait longest, and would have no time to run: they would be started,
    /// and killed, and nobody would be answered.
    fn too_late(&self) -> Deadline {
        let left = self.statement.left(self.since);
        left.map_or(Deadline::NEVER, |left| self.since.plus(left * 3 / 4))
    }

    /// Until when the session must go on with what it has begun. Parts of a command are not enough.
    fn begun(&self, limits: &Limits) -> Deadline {
        match limits.transaction_idle {
            Some(limit) if self.session.has_begun() => self.idle_since.plus(limit),
            _ => Deadline::NEVER,
        }
    }

    fn grace(&self) -> Deadline {
        self.gone_at
            .map_or(Deadline::NEVER, |since| since.plus(GONE_GRACE))
    }

    /// Something is over by time.
    pub(super) fn deadline_over(
        &mut self,
        is_wanted: bool,
        is_held_up: bool,
        io: &mut Io<'_>,
    ) -> Action {
        if !self.deadline(io.limits).is_over(io.now) {
            return Action::Wait;
        }
        match self.stage {
            Stage::Idle if self.intake.is_mid_command() => self.stalled(io),
            Stage::Idle if self.begun(io.limits).is_over(io.now) => {
                let reason = CloseReason::TransactionIdle;
                self.leave(reason, io);
                self.say_goodbye(Event::TransactionIdle, reason, io)
            }
            Stage::Idle => self.say_goodbye(Event::IdleClient, CloseReason::ClientIdle, io),
            Stage::Leasing { .. } | Stage::Settling if self.grace().is_over(io.now) => {
                self.gone(CloseReason::ClientGone, false, io)
            }
            Stage::Leasing { .. } | Stage::Settling => {
                let event = match self.statement.is_over(io.now) {
                    true => Event::StatementDeadline,
                    false => Event::PoolWait,
                };
                self.refused_lease(event, io)
            }
            Stage::Ahead if self.kept == Kept::Entry => self.entry_refused(Event::PoolWait, io),
            Stage::Ahead if self.kept == Kept::Undo => self.undo_failed(Unclean::Late, io),
            Stage::Ahead | Stage::Replying if self.grace().is_over(io.now) => {
                self.gone(CloseReason::ClientGone, false, io)
            }
            Stage::Streaming if !self.statement.is_over(io.now) && is_held_up => {
                // It is not the client who is slow: nothing more is taken from it.
                (self.passed, self.looked, self.since) = (0, io.now, io.now);
                Action::Wait
            }
            Stage::Streaming if !self.statement.is_over(io.now) => self.pace(is_wanted, io),
            Stage::Ahead | Stage::Replying | Stage::Streaming => {
                let event = match self.may_have_written() {
                    true => Event::DeadlineUnknown,
                    false => Event::StatementDeadline,
                };
                self.interrupt(event, CloseReason::StatementTimeout, io)
            }
            Stage::Skipping(_) => self.stalled(io),
        }
    }

    /// Whether the statement may have changed anything for good: what it does until its end on the server
    /// nobody knows.
    fn may_have_written(&self) -> bool {
        let effects = self.session.effects();
        let is_undone = self.session.is_in_transaction() && effects.is_undone_with_transaction;
        matches!(self.stage, Stage::Replying) && !effects.is_read_only && !is_undone
    }

    /// Looks at how fast a long command comes. A client that stops in the middle of one must not
    /// keep from others the connection that it has.
    fn pace(&mut self, is_wanted: bool, io: &mut Io<'_>) -> Action {
        if self.since.plus(io.limits.write_stall).is_over(io.now) {
            return self.stalled(io);
        }
        if self.passed < PACE_BYTES && self.begun(io.limits).is_over(io.now) {
            return self.stalled(io);
        }
        if is_wanted && self.passed < PACE_BYTES && !self.was_pinned {
            // Nothing of it has run. The client is told behind its command, if it ever ends that.
            let since = self.since;
            self.discard(CloseReason::ClientStalled, io);
            let action = self.fail(Failure::too_slow(), io);
            self.since = since;
            return action;
        }
        (self.passed, self.looked) = (0, io.now);
        Action::Wait
    }

    /// The client does not go on with a command that it has begun, or not in the time that its transaction may be
    /// idle.
    fn stalled(&mut self, io: &mut Io<'_>) -> Action {
        let is_stalled = self.since.plus(io.limits.write_stall).is_over(io.now);
        let (event, reason) = match self.begun(io.limits).is_over(io.now) && !is_stalled {
            true => (Event::TransactionIdle, CloseReason::TransactionIdle),
            false => (Event::CommandStalled, CloseReason::ClientStalled),
        };
        if !matches!(self.stage, Stage::Skipping(Skipped::Answered(_))) {
            let sequence = self.intake.last_sequence().wrapping_add(1);
            self.tell(event, sequence, io);
        }
        self.gone(reason, false, io)
    }

    /// The drain has gone on.
    pub(super) fn drained(&mut self, io: &mut Io<'_>) -> Action {
        match self.stage {
            Stage::Idle | Stage::Skipping(_) => self.go(io),
            _ if io.drain != Drain::Now => Action::Wait,
            Stage::Leasing { .. } | Stage::Settling => {
                self.refused_lease(Farewell::of(io).event, io)
            }
            Stage::Ahead if self.kept == Kept::Entry => {
                self.entry_refused(Farewell::of(io).event, io)
            }
            Stage::Ahead if self.kept == Kept::Undo => self.undo_failed(Unclean::Late, io),
            Stage::Ahead | Stage::Replying | Stage::Streaming => {
                let farewell = Farewell::of(io);
                let event = match self.may_have_written() {
                    true => farewell.unknown,
                    false => farewell.event,
                };
                self.interrupt(event, farewell.reason, io)
            }
        }
    }
}

#[cfg(test)]
mod tests;
