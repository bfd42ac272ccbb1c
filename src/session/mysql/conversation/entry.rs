//! What is settled with a server ahead of a session's commands, at its login or a reset: what the server gives to
//! those who log in now, and whether it lets the session into the schema that its login names.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Conversation, Io, Kept, LeaseEnd, Stage};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use crate::session::mysql::beginning::{Lack, Newest};
use crate::session::mysql::cleanse::{ANSWER_LIMIT, Unclean};
use crate::session::mysql::exchange::{Fault, Progress};
use crate::wire::mysql::frame::HEADER_LEN;

/// Upstream connections tried: an idle one may turn out to be dead.
const ATTEMPTS: u8 = 2;

/// How long a client waits for what nothing depends on but its settings: those who have all connections, or a server
/// that is silent, do not keep it out.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What a login wants to know of the schema that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// Nothing: it names none, or the server has accepted it lately.
    #[default]
    Settled,
    /// Whether the server, which has accepted it before, lets it in still.
    Again,
    /// Whether the server lets it in.
    Unknown,
}

/// What is to be settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    schema: Schema,
    /// What is not known of the settings that the session begins with.
    lack: Lack,
    /// The session was reset, and its client waits for the OK.
    is_reset: bool,
    /// Connections that may still be tried.
    attempts_left: u8,
    /// Since when the client has waited.
    began: Now,
}

impl Entry {
    /// What a login that has waited since `began` needs that is still to be settled.
    pub fn at_login(schema: Schema, lack: Lack, began: Now) -> Self {
        Self {
            schema,
            lack,
            is_reset: false,
            attempts_left: ATTEMPTS,
            began,
        }
    }

    fn after_reset(lack: Lack, began: Now) -> Self {
        Self {
            is_reset: true,
            ..Self::at_login(Schema::Settled, lack, began)
        }
    }

    /// On a connection that is idle now, or not at all.
    pub(super) fn only_idle(&self) -> bool {
        self.schema == Schema::Again && self.lack == Lack::Nothing
    }

    /// Until when a connection and its answer are waited for, if that is not as for a statement.
    pub(super) fn patience(&self) -> Option<Deadline> {
        (self.schema != Schema::Unknown).then(|| self.began.plus(PATIENCE))
    }
}

/// How an entry has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// All is settled.
    Yes,
    /// The payload of the server's own ERR.
    Refused(Rc<[u8]>),
    /// The server could not be asked.
    Unknown(Event),
    /// The connections that were tried were lost.
    Lost,
}

impl Conversation {
    /// See [`Session::relies_on`](crate::session::mysql::downstream::Session::relies_on).
    pub fn relies_on(&mut self, newest: &Rc<Newest>) {
        self.session.relies_on(newest);
    }

    /// What is lacking for a session that begins at `now`; if nothing is, it has begun.
    pub fn begin_session(&mut self, now: Now) -> Lack {
        let lack = self.session.lacks(None, now);
        if lack == Lack::Nothing {
            self.session.begin_with_known(None);
        }
        lack
    }

    /// The session begins with what is known, be it old or nothing.
    pub fn begin_with_known(&mut self) {
        self.session.begin_with_known(None);
    }

    /// Settles this with the server, before any command: step on with
    /// [`super::Input::Go`] until [`Action::Entered`].
    pub fn enter_server(&mut self, entry: Entry, now: Now) {
        self.kept = Kept::Entry;
        self.entry = entry;
        self.enter(Stage::Leasing { is_asked: false }, now);
    }

    /// COM_RESET_CONNECTION. What the session did on a connection that it keeps is undone before the client is
    /// told: it may rely on its locks being free, and so may whom it tells.
    pub(super) fn reset(&mut self, io: &mut Io<'_>) -> Action {
        self.pass_over(io);
        let session = &mut self.session;
        let held = io.held.as_deref_mut();
        let cleansable = held.filter(|held| session.can_be_cleansed_of(held));
        if let Some(held) = cleansable {
            io.up.write(|own| held.begin_cleanse(own));
            session.reset();
            self.kept = Kept::Undo;
            self.enter(Stage::Ahead, io.now);
            return Action::Wait;
        }
        self.leave(CloseReason::StateLost, io);
        self.session.reset();
        self.begin_anew(io)
    }

    /// Bytes of the connection on which the session is undone.
    pub(super) fn undo_progress(&mut self, reply: &mut [u8], io: &mut Io<'_>) -> Action {
        let undone = io
            .held
            .as_deref_mut()
            .map(|held| held.on_cleanse_reply(reply));
        match undone {
            Some(Ok(false)) => Action::Wait,
            Some(Ok(true)) => {
                io.notes.has_cleansed = true;
                self.begin_anew(io)
            }
            None => self.undo_failed(Unclean::Lost, io),
            Some(Err(error)) => self.undo_failed(error, io),
        }
    }

    /// Until when a connection that is being undone is waited for.
    pub(super) fn undo_limit(&self) -> Deadline {
        self.since.plus(ANSWER_LIMIT)
    }

    /// The connection is closed, which undoes it too.
    pub(super) fn undo_failed(&mut self, why: Unclean, io: &mut Io<'_>) -> Action {
        io.notes.unclean = Some(why);
        self.discard(CloseReason::StateLost, io);
        self.begin_anew(io)
    }

    /// The session was reset and begins anew.
    fn begin_anew(&mut self, io: &mut Io<'_>) -> Action {
        let held = io.held.as_deref().filter(|_| self.lease_end.is_none());
        // Who is about to be sent away begins nothing.
        let lack = match io.drain {
            Drain::Now => Lack::Nothing,
            _ => self.session.lacks(held, io.now),
        };
        self.entry = Entry::after_reset(lack, io.now);
        self.prefers_last = false;
        if lack == Lack::Nothing {
            return self.entered(Entered::Yes, io);
        }
        self.kept = Kept::Entry;
        let is_ending = self.lease_end.is_some();
        if io.held.is_some() && !is_ending {
            return self.enter_leased(io);
        }
        let is_asked = !is_ending;
        self.enter(Stage::Leasing { is_asked }, io.now);
        match is_asked {
            true => Action::Lease(self.wish(io.limits)),
            false => Action::Go,
        }
    }

    /// Settles it on the leased connection.
    pub(super) fn enter_leased(&mut self, io: &mut Io<'_>) -> Action {
        self.entry.attempts_left = self.entry.attempts_left.saturating_sub(1);
        let Some(held) = io.held.as_deref_mut() else {
            return self.entry_lost(io);
        };
        let (session, lack) = (&mut self.session, self.entry.lack);
        let ask = |own: &mut Vec<u8>| session.ask_ahead(held, lack, io.now, own);
        let asks = io.up.write(ask);
        // What others left there may be read out first.
        self.is_asking = asks || !held.is_idle();
        if self.is_asking {
            self.enter(Stage::Ahead, io.now);
            return Action::Wait;
        }
        self.begin_on_lease(io)
    }

    /// What had to be asked for is known.
    fn begin_on_lease(&mut self, io: &mut Io<'_>) -> Action {
        self.is_asking = false;
        let Some(held) = io.held.as_deref_mut() else {
            return self.entry_lost(io);
        };
        let with_schema = self.entry.schema != Schema::Settled;
        let session = &mut self.session;
        io.up.write(|own| session.begin_on(held, with_schema, own));
        io.notes.tally = held.take_tally();
        if held.is_idle() {
            return self.entered(Entered::Yes, io);
        }
        self.enter(Stage::Ahead, io.now);
        Action::Wait
    }

    pub(super) fn entry_progress(
        &mut self,
        progress: Result<Progress, Fault>,
        io: &mut Io<'_>,
    ) -> Action {
        match progress {
            Ok(Progress::More) => Action::Wait,
            Ok(Progress::Ready | Progress::Done) if self.is_asking => self.begin_on_lease(io),
            Ok(Progress::Ready | Progress::Done) => {
                let Some(held) = io.held.as_deref_mut() else {
                    return self.entry_lost(io);
                };
                match self.session.has_entered(held) {
                    Ok(()) => self.entered(Entered::Yes, io),
                    Err(refusal) => {
                        io.notes.doubts_schema = true;
                        self.entered(Entered::Refused(refusal), io)
                    }
                }
            }
            Err(Fault::Refused) => {
                let refusal = io.down.own().get(HEADER_LEN..).unwrap_or_default().into();
                io.down.clear();
                self.discard(CloseReason::StateLost, io);
                self.entered(Entered::Refused(refusal), io)
            }
            Err(_) => self.entry_lost(io),
        }
    }

    /// The connection was lost; another one may do.
    pub(super) fn entry_lost(&mut self, io: &mut Io<'_>) -> Action {
        if self.entry.attempts_left == 0 {
            return self.entered(Entered::Lost, io);
        }
        self.discard(CloseReason::StateLost, io);
        self.enter(Stage::Leasing { is_asked: false }, io.now);
        Action::Go
    }

    pub(super) fn entry_refused(&mut self, event: Event, io: &mut Io<'_>) -> Action {
        self.entered(Entered::Unknown(event), io)
    }

    fn entered(&mut self, entered: Entered, io: &mut Io<'_>) -> Action {
        let held = io.held.as_deref().filter(|_| self.lease_end.is_none());
        let is_held = held.is_some();
        if self.entry.is_reset {
            let good = held.filter(|_| entered == Entered::Yes);
            self.session.begin_with_known(good);
        }
        match entered {
            // Who is not let into its schema leaves the connection as it was.
            Entered::Yes | Entered::Refused(_) if is_held => {
                self.lease_end = Some(LeaseEnd::Return);
            }
            Entered::Yes | Entered::Refused(_) => {}
            _ => self.discard(CloseReason::StateLost, io),
        }
        if self.entry.is_reset {
            self.session.tell_reset(io.down);
            return self.answered(io);
        }
        self.over(io);
        Action::Entered(entered)
    }
}

#[cfg(test)]
mod tests;
