//! One logged-in client's whole life as one state machine: its commands, the upstream connections
//! that it leases for them, the replies, and all that may go wrong in between.
//!
//! It knows no socket, no pool, no clock and no waker. A driver calls [`Conversation::step`] with
//! what has happened, sends what the step has written, does what it says ([`Action`]) and waits for
//! what [`Conversation::wants`] names, until [`Conversation::deadline`] at most. What may be
//! repeated, what error is owed, where an ERR may stand and how long a client that has closed its
//! side is still served is decided here and nowhere else, for every door.

mod command;
mod deadline;
mod entry;
mod exchange;
mod failure;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use entry::{Entered, Entry, PATIENCE, Schema};
pub use failure::Failure;

use super::cleanse::Unclean;
use super::downstream::Session;
use super::effects::PinSet;
use super::exchange::Fault;
use super::intake::Intake;
use super::output::Output;
use super::statements::Texts;
use super::upstream::{Tally, Upstream};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use failure::Owed;

/// How long a conversation's waits may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Waiting for an upstream connection, or for state that another session reads out.
    pub pool_wait: Duration,
    /// From a command to the end of its reply.
    pub statement: Option<Duration>,
    /// A client that stops in the middle of a command.
    pub write_stall: Duration,
    /// A client that sends nothing.
    pub idle_client: Option<Duration>,
    /// The same, while it has [begun](Session::has_begun) something.
    pub transaction_idle: Option<Duration>,
}

/// What a step works with: what is there, and where it writes.
pub struct Io<'a> {
    /// The present.
    pub now: Now,
    /// Bytes of the client that no step has used, the first one first.
    pub unread: &'a mut [u8],
    /// How many of them this step has used; 0 before it.
    pub used: usize,
    /// The session of the leased connection, if there is one.
    pub held: Option<&'a mut Upstream>,
    /// The core's statement texts.
    pub texts: &'a mut Texts,
    /// For the client: packets of our own, and spans of the reply that the step was given.
    pub down: &'a mut Output,
    /// For the upstream: packets of our own, and spans of `unread`.
    pub up: &'a mut Output,
    /// What the driver counts and logs.
    pub notes: &'a mut Notes,
    /// How long waits may take.
    pub limits: &'a Limits,
    /// How far the node's drain is, or the client's own.
    pub drain: Drain,
    /// It is the client's own: its user was removed.
    pub is_removed: bool,
}

/// What has happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Something may be done: bytes have come, or an action was carried out.
    Go,
    /// The client has sent its last byte, and all of them were used.
    End,
    /// The client has sent its last byte; some may be unused yet.
    Leaving,
    /// The client's connection has failed.
    Gone,
    /// The client has taken nothing for `write_stall`.
    ClientStalled,
    /// [`Action::Lease`] was carried out.
    Leased {
        /// There was a wait for it.
        has_waited: bool,
    },
    /// No connection was leased; what the client is to be told.
    Refused(Event),
    /// Bytes from the leased connection.
    Reply(&'a mut [u8]),
    /// The leased connection has ended, or takes nothing.
    UpstreamGone,
    /// What [`Wants::settled`] asked for has settled.
    Settled,
    /// [`Conversation::deadline`] has passed.
    Deadline {
        /// Others wait for a connection such as the leased one.
        is_wanted: bool,
        /// The leased connection takes no more of a long command at present.
        is_held_up: bool,
    },
    /// The drain has gone on.
    Drain,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The connection is clean and goes back.
    Return,
    /// All is to be undone that the session has done on the connection. If it cannot be, the connection is
    /// closed for this reason.
    Cleanse(CloseReason),
    /// The connection is closed. What runs there is to be killed.
    Discard(CloseReason),
    /// As [`LeaseEnd::Discard`], of a connection on which nothing runs: the server has got a part of a
    /// command and waits for the rest.
    Abandon(CloseReason),
}

/// What the driver does next. Before anything else it sends what the step has written.
#[derive(Debug)]
pub enum Action {
    /// Nothing: wait for what [`Conversation::wants`] names.
    Wait,
    /// Step on with [`Input::Go`], once the client's queue has room.
    Go,
    /// Lease a connection: [`Input::Leased`] or [`Input::Refused`] follows.
    Lease(Wish),
    /// End the lease so, then [`Input::Go`].
    EndLease(LeaseEnd),
    /// What [`Conversation::enter_server`] asked for has ended.
    Entered(Entered),
    /// The client's connection ends.
    Close {
        /// Why.
        reason: CloseReason,
        /// By a reset: what was sent is not complete, and must not look so.
        is_cut: bool,
    },
}

/// The connection that a command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// It reads what the last statement left: the connection used last is better than any other.
    pub prefers_last: bool,
    /// One that is idle now, or none.
    pub only_idle: bool,
    /// When the wait for it ends.
    pub until: Deadline,
}

/// What a conversation waits for beside its deadline, the drain, and the client's end and room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// More bytes of the client, all of them being used: [`Input::Go`] or [`Input::End`].
    pub bytes: bool,
    /// The client's end though bytes of it may be unused: [`Input::Leaving`].
    pub end: bool,
    /// Bytes or the end of the leased connection. Of an idle one any byte is its end.
    pub reply: bool,
    /// Room in the queue to the leased connection, before `bytes` are of any use.
    pub upstream_room: bool,
    /// [`Session::is_settled`]: [`Input::Settled`].
    pub settled: bool,
}

/// What a step did that is counted or logged.
#[derive(Debug, Default)]
pub struct Notes {
    /// The command in progress is over: what was written for the client since it began is the whole
    /// of its reply.
    pub is_over: bool,
    /// A reply of the server's is complete.
    pub finished: Option<Finished>,
    /// An exchange has ended without the server's answer.
    pub failed: Option<CloseReason>,
    /// The server answered with an error.
    pub has_server_error: bool,
    /// Reasons to keep the connection that are new.
    pub new_pins: PinSet,
    /// The lease outlives its exchange.
    pub keeps_lease: bool,
    /// The server has refused the session's state: its schema may be gone.
    pub doubts_schema: bool,
    /// All that the session did on its connection was undone there.
    pub has_cleansed: bool,
    /// It could not be.
    pub unclean: Option<Unclean>,
    /// The upstream session could not go on.
    pub fault: Option<Fault>,
    /// The last error of the gateway's own that the client was told.
    pub told: Option<Event>,
    /// The payload of the ERR with which a server has refused the session's state.
    pub refusal: Option<Rc<[u8]>>,
    /// What the server was asked to do on behalf of the client.
    pub tally: Tally,
}

/// The times of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// From the command to the end of its reply.
    pub total: Duration,
    /// Of that, from the sending to the upstream on.
    pub upstream: Duration,
}

/// Where the command in progress is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// There is none.
    Nothing,
    /// The first bytes of the client's unread ones, this many.
    Inline(usize),
    /// Whole in the intake's head.
    Head,
    /// Its head is in the intake; the rest is passed on as it comes.
    LongHead,
    /// In `again`: its first attempt has failed.
    Again,
    /// None of the client's: the session begins ([`Conversation::entry`]).
    Entry,
    /// None of the client's: what the session did is being undone on the connection that it kept.
    Undo,
}

/// What the conversation is at.
#[derive(Debug)]
enum Stage {
    /// Between commands, or collecting one.
    Idle,
    /// The command needs a connection.
    Leasing {
        /// The driver knows.
        is_asked: bool,
    },
    /// State that the command reads is on its way from another session's lease.
    Settling,
    /// The command waits for the replies to what went ahead of it.
    Ahead,
    /// The rest of a long command passes on.
    Streaming,
    /// The reply passes on.
    Replying,
    /// The rest of a long command that needs no more than an answer is read over.
    Skipping(Skipped),
}

/// What is said when the rest of a long command has been read over.
#[derive(Debug)]
enum Skipped {
    /// Its answer, a packet at most, whose sequence id follows that of the command's last packet.
    Answered(Vec<u8>),
    /// That it has failed.
    Failed(Failure),
    /// The error that is owed.
    Owed,
}

/// One client's conversation.
#[derive(Debug)]
pub struct Conversation {
    session: Session,
    intake: Intake,
    stage: Stage,
    kept: Kept,
    /// A small read-only command, kept while it may be repeated on another connection.
    again: Vec<u8>,
    /// The command in progress has lost a connection already.
    is_repeated: bool,
    /// What the client's next command is told, as what it relies on is lost already.
    owed: Option<Box<Owed>>,
    /// When the command in progress began, and its last attempt.
    began: Now,
    attempted: Now,
    /// When its reply must be complete.
    statement: Deadline,
    /// When the stage began, or the client last sent something that it waits for.
    since: Now,
    /// When the last command was over.
    idle_since: Now,
    /// Of a long command: bytes passed on since the last look at its pace, and when that was.
    passed: usize,
    looked: Now,
    /// When the client was seen to have closed its side, in the course of this command.
    gone_at: Option<Now>,
    /// Where an ERR could stand in the reply in progress; `None` in the middle of a packet.
    reply_sequence: Option<u8>,
    /// Something of the reply in progress has been sent to the client.
    has_answered: bool,
    prefers_last: bool,
    was_pinned: bool,
    /// What is settled with the server before the session's next command.
    entry: Entry,
    /// Of that: the server has been asked for something, and the session has not begun there.
    is_asking: bool,
    /// The pins after the last exchange, for counting new ones.
    pinned: PinSet,
    /// How the lease in hand ends, decided and not told to the driver yet.
    lease_end: Option<LeaseEnd>,
    /// Told once the lease has ended.
    then: Option<Action>,
}

impl Conversation {
    /// The conversation of a client that has logged in, whose connection has the number `id`.
    pub fn new(mut session: Session, id: u32, now: Now) -> Self {
        session.client = id;
        Self {
            session,
            intake: Intake::default(),
            stage: Stage::Idle,
            kept: Kept::Nothing,
            again: Vec::new(),
            is_repeated: false,
            owed: None,
            began: now,
            attempted: now,
            statement: Deadline::NEVER,
            since: now,
            idle_since: now,
            passed: 0,
            looked: now,
            gone_at: None,
            reply_sequence: Some(1),
            has_answered: false,
            prefers_last: false,
            was_pinned: false,
            entry: Entry::default(),
            is_asking: false,
            pinned: PinSet::EMPTY,
            lease_end: None,
            then: None,
        }
    }

    /// The client's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// See [`Session::share_account`].
    pub fn share_account(&mut self, name: Option<Arc<str>>) {
        self.session.share_account(name);
    }

    /// See [`Session::bound_statements`].
    pub fn bound_statements(&mut self, max: usize) {
        self.session.bound_statements(max);
    }

    /// Takes one step: after it the driver sends `io.down` and `io.up`, forgets the first `io.used`
    /// unread bytes, and does what is returned.
    pub fn step(&mut self, input: Input<'_>, io: &mut Io<'_>) -> Action {
        if let Some(action) = self.then.take() {
            return action;
        }
        let action = match input {
            Input::Go => self.go(io),
            Input::Reply(reply) => self.take_reply(reply, io),
            Input::Leased { has_waited } => self.leased(has_waited, io),
            Input::Refused(event) => self.refused_lease(event, io),
            Input::End | Input::Gone => self.gone(CloseReason::ClientGone, false, io),
            Input::Leaving => self.leaving(io),
            Input::ClientStalled => self.gone(CloseReason::WriteStall, true, io),
            Input::UpstreamGone => self.upstream_gone(io),
            Input::Settled => self.settled(io),
            Input::Deadline {
                is_wanted,
                is_held_up,
            } => self.deadline_over(is_wanted, is_held_up, io),
            Input::Drain => self.drained(io),
        };
        io.notes.told = self.session.said.take();
        io.notes.refusal = self.session.refused.take();
        match self.lease_end.take() {
            None => action,
            Some(end) => {
                // Anything but a close is found again by the next `Go`.
                if matches!(action, Action::Close { .. } | Action::Entered(_)) {
                    self.then = Some(action);
                }
                Action::EndLease(end)
            }
        }
    }

    /// Does what can be done with what is there.
    fn go(&mut self, io: &mut Io<'_>) -> Action {
        match &mut self.stage {
            Stage::Idle => self.next_command(io),
            Stage::Leasing { is_asked } => match std::mem::replace(is_asked, true) {
                true => Action::Wait,
                false => Action::Lease(self.wish(io.limits)),
            },
            Stage::Streaming => self.stream(io),
            Stage::Skipping(_) => self.skip(io),
            Stage::Settling if self.session.is_settled() => self.run(io),
            Stage::Settling | Stage::Ahead | Stage::Replying => Action::Wait,
        }
    }

    /// A word for what the conversation is at, for logs.
    pub fn stage(&self) -> &'static str {
        match self.stage {
            Stage::Idle => "idle",
            Stage::Leasing { .. } => "leasing",
            Stage::Settling => "settling",
            Stage::Ahead => "ahead",
            Stage::Streaming => "streaming",
            Stage::Replying => "replying",
            Stage::Skipping(_) => "skipping",
        }
    }

    fn wish(&self, limits: &Limits) -> Wish {
        Wish {
            prefers_last: self.prefers_last,
            only_idle: self.kept == Kept::Entry && self.entry.only_idle(),
            until: self.deadline(limits),
        }
    }

    /// What may go on with the conversation.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        match self.stage {
            // A lease that was kept is watched: any byte on it is the server's goodbye.
            Stage::Idle => (wants.bytes, wants.reply) = (true, true),
            Stage::Leasing { .. } => wants.end = self.gone_at.is_none(),
            Stage::Settling => (wants.end, wants.settled) = (self.gone_at.is_none(), true),
            Stage::Ahead | Stage::Replying => {
                (wants.end, wants.reply) = (self.gone_at.is_none(), true);
            }
            Stage::Streaming => (wants.bytes, wants.upstream_room) = (true, true),
            Stage::Skipping(_) => wants.bytes = true,
        }
        wants
    }

    fn enter(&mut self, stage: Stage, now: Now) {
        self.stage = stage;
        self.since = now;
    }
}
