//! What is settled with a server ahead of a session's commands, at its login or a reset: what the server gives to
//! those who log in now, and whether it lets the session into the schema that its login names.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Conversation, Io, Kept, LeaseEnd, Stage};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::session::mysql::baseline::Baselines;
use crate::session::mysql::beginning::Lack;
use crate::session::mysql::exchange::{Fault, Progress};

/// Upstream connections tried: an idle one may turn out to be dead.
const ATTEMPTS: u8 = 2;

/// How long a client waits for what nothing depends on but its settings: those who have all connections, or a server
/// that is silent, do not keep it out.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long a server may take to undo what a session did: a long transaction is rolled back. A connection that takes
/// longer is closed.
const UNDO_LIMIT: Duration = Duration::from_secs(2);

/// What is to be settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// That the server lets the session into its schema.
    pub with_schema: bool,
    /// On a connection that is idle now, or not at all.
    pub only_idle: bool,
    /// What is not known of the settings that the session begins with.
    lack: Lack,
    /// The session was reset, and its client waits for the OK.
    is_reset: bool,
    /// Connections that may still be tried.
    attempts_left: u8,
    /// When it began.
    began: Now,
}

impl Entry {
    /// What a login needs that is still to be settled.
    pub fn at_login(with_schema: bool, lack: Lack, only_idle: bool) -> Self {
        Self {
            with_schema,
            only_idle,
            lack,
            is_reset: false,
            attempts_left: ATTEMPTS,
            began: Now::default(),
        }
    }

    /// Until when a connection and its answer are waited for, if that is not as for a statement.
    pub(super) fn patience(&self) -> Option<Deadline> {
        (!self.with_schema).then(|| self.began.plus(PATIENCE))
    }

    fn after_reset(lack: Lack) -> Self {
        Self {
            is_reset: true,
            ..Self::at_login(false, lack, false)
        }
    }
}

/// How an entry has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// All is settled.
    Yes,
    /// The server's own ERR, header included.
    Refused(Vec<u8>),
    /// The server could not be asked.
    Unknown(Event),
    /// The connections that were tried were lost.
    Lost,
}

impl Conversation {
    /// From now on these are what is known of logins where the session's statements run. What is lacking for a
    /// session that begins at `now`; if nothing is, it has begun.
    pub fn begin_with(&mut self, baselines: &Rc<Baselines>, now: Now) -> Lack {
        self.session.relies_on(baselines);
        let lack = self.session.lacks(now);
        if lack == Lack::Nothing {
            self.session.begin_with_known();
        }
        lack
    }

    /// The session begins with what is known, be it old or nothing.
    pub fn begin_with_known(&mut self) {
        self.session.begin_with_known();
    }

    /// Settles this with the server, before any command: step on with
    /// [`super::Input::Go`] until [`Action::Entered`].
    pub fn enter_server(&mut self, entry: Entry, now: Now) {
        self.kept = Kept::Entry;
        self.entry = Entry {
            began: now,
            ..entry
        };
        self.enter(Stage::Leasing { is_asked: false }, now);
    }

    /// COM_RESET_CONNECTION. What the session did on a connection that it keeps is undone before the client is
    /// told: it may rely on its locks being free, and so may whom it tells.
    pub(super) fn reset(&mut self, io: &mut Io<'_>) -> Action {
        self.pass_over(io);
        let session = &mut self.session;
        let held = io.held.as_deref_mut();
        let cleansable = held.filter(|held| session.can_be_cleansed_of(held));
        // Of a command that is far too long the rest comes first.
        let undone = cleansable.filter(|_| !self.intake.is_streaming());
        if let Some(held) = undone {
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
            None | Some(Err(_)) => self.undo_failed(io),
        }
    }

    /// Until when a connection that is being undone is waited for.
    pub(super) fn undo_limit(&self) -> Deadline {
        self.since.plus(UNDO_LIMIT)
    }

    /// The connection is closed, which undoes it too.
    pub(super) fn undo_failed(&mut self, io: &mut Io<'_>) -> Action {
        self.discard(CloseReason::StateLost, io);
        self.begin_anew(io)
    }

    /// The session was reset and begins anew.
    fn begin_anew(&mut self, io: &mut Io<'_>) -> Action {
        let lack = match self.intake.is_streaming() {
            true => Lack::Nothing,
            false => self.session.lacks(io.now),
        };
        self.entry = Entry {
            began: io.now,
            ..Entry::after_reset(lack)
        };
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
        let (session, with_schema) = (&mut self.session, self.entry.with_schema);
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
            Ok(Progress::Ready | Progress::Done) => self.entered(Entered::Yes, io),
            Err(Fault::Refused) => {
                let packet = io.down.own().to_vec();
                io.down.clear();
                io.notes.doubts_schema = true;
                self.entered(Entered::Refused(packet), io)
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
        let is_held = io.held.is_some() && self.lease_end.is_none();
        match entered {
            Entered::Yes if is_held => self.lease_end = Some(LeaseEnd::Return),
            Entered::Yes => {}
            _ => self.discard(CloseReason::StateLost, io),
        }
        if self.entry.is_reset {
            self.session.begin_with_known();
            self.session.tell_reset(io.down);
            return self.answered(io);
        }
        self.over(io);
        Action::Entered(entered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::tests::{LIMITS, Talk, ok, query, upstream};
    use super::*;
    use crate::session::mysql::baseline::Answer;
    use crate::session::mysql::left_behind::residue::Kind;
    use crate::session::mysql::state::{Vector, number_of};
    use crate::session::mysql::upstream::{LoginFacts, Upstream};
    use crate::wire::mysql::cursor::packet;
    use crate::wire::mysql::flags::{com, status};
    use crate::wire::mysql::response::{ErrPacket, encode_err};

    #[test]
    fn a_login_learns_what_its_server_says_of_its_schema() {
        let mut unknown = Vec::new();
        let err = ErrPacket::new(1049, "42000", b"Unknown database 'nosuch'");
        packet(&mut unknown, 1, |out| encode_err(out, &err));
        for (reply, expect) in [
            (ok(status::AUTOCOMMIT), Entered::Yes),
            (unknown.clone(), Entered::Refused(unknown)),
        ] {
            let mut talk = Talk::in_schema(b"nosuch");
            talk.conversation
                .enter_server(Entry::at_login(true, Lack::Nothing, false), Now(0));
            assert!(matches!(talk.go(Input::Go), Action::Lease(_)));
            talk.lease();
            assert_eq!(talk.up[4..], *b"\x02nosuch");
            let action = talk.reply(reply);
            assert!(
                matches!(&action, Action::Entered(entered) if *entered == expect),
                "{action:?}"
            );
            assert!(talk.down.is_empty() && talk.held.is_none());
        }
        // Two dead connections are enough.
        let mut talk = Talk::in_schema(b"nosuch");
        talk.conversation
            .enter_server(Entry::at_login(true, Lack::Nothing, true), Now(0));
        assert!(matches!(talk.go(Input::Go), Action::Lease(wish) if wish.only_idle));
        talk.lease();
        assert!(matches!(talk.go(Input::UpstreamGone), Action::Lease(_)));
        talk.lease();
        assert!(matches!(
            talk.go(Input::UpstreamGone),
            Action::Entered(Entered::Lost)
        ));
        let mut talk = Talk::in_schema(b"nosuch");
        talk.conversation
            .enter_server(Entry::at_login(true, Lack::Nothing, true), Now(0));
        talk.go(Input::Go);
        let action = talk.go(Input::Refused(Event::PoolWait));
        let expect = Entered::Unknown(Event::PoolWait);
        assert!(
            matches!(&action, Action::Entered(entered) if *entered == expect),
            "{action:?}"
        );
    }

    /// What another session has left on the connection is read out first; the schema is asked for all the same.
    #[test]
    fn a_login_on_a_connection_with_something_left_asks_for_its_schema_behind_that() {
        let mut talk = Talk::in_schema(b"nosuch");
        let entry = Entry::at_login(true, Lack::Nothing, false);
        talk.conversation.enter_server(entry, Now(0));
        talk.go(Input::Go);
        let mut held = upstream();
        let left = held.left.leave(Kind::FoundRows, 4);
        talk.held = Some(held);
        let action = talk.go(Input::Leased { has_waited: false });
        assert!(matches!(action, Action::Wait), "{action:?}");
        assert!(talk.up.ends_with(b"FOUND_ROWS()"), "{:?}", talk.up);
        let read_out = [
            &b"\x01\0\0\x01\x01"[..],
            b"\x17\0\0\x02\x03def\0\0\0\x01x\0\x0c\x3f\0\x14\0\0\0\x08\x81\0\0\0\0",
            b"\x03\0\0\x03\x0242",
            b"\x07\0\0\x04\xfe\0\0\x02\0\0\0",
        ];
        let action = talk.reply(read_out.concat());
        assert!(matches!(action, Action::Wait), "{action:?}");
        assert!(talk.up.ends_with(b"\x02nosuch"), "{:?}", talk.up);
        let action = talk.reply(ok(status::AUTOCOMMIT));
        assert!(
            matches!(action, Action::Entered(Entered::Yes)),
            "{action:?}"
        );
        drop(left);
    }

    /// A session that is reset in a transaction, whose connection could be brought back to what its login gave.
    fn reset_in_transaction() -> Talk {
        let baselines = Rc::<Baselines>::default();
        let base = [(0, b"1"[..].into())].into_iter().collect();
        let base = baselines.logged_in(base, Some(b"kept"), Answer::new(true), false);
        let vector = Vector::at_login("utf8mb4", "utf8mb4_general_ci").with_base(base);
        let mut talk = Talk::new();
        talk.unread.extend(query("BEGIN"));
        talk.go(Input::Go);
        talk.held = Some(Upstream::new(LoginFacts {
            thread_id: 1,
            deprecates_eof: true,
            vector: Rc::new(vector),
            statements_max: 2,
            baselines,
        }));
        talk.go(Input::Leased { has_waited: false });
        talk.reply(ok(status::IN_TRANS | status::AUTOCOMMIT));
        talk.down.clear();
        packet(&mut talk.unread, 0, |out| out.push(com::RESET_CONNECTION));
        assert!(matches!(talk.go(Input::Go), Action::Wait));
        assert!(talk.held.is_some() && talk.down.is_empty(), "it waits");
        talk
    }

    /// The client is told that its session is new once the connection on which it is not has gone.
    fn is_answered(talk: &Talk) {
        assert!(talk.held.is_none());
        let told = [7, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(talk.down, told);
        assert!(!talk.conversation.session().is_in_transaction());
    }

    #[test]
    fn what_cannot_be_undone_is_closed_before_a_reset_is_answered() {
        let mut refusal = Vec::new();
        let err = ErrPacket::new(1047, "08S01", b"Unknown command");
        packet(&mut refusal, 1, |out| encode_err(out, &err));
        let mut talk = reset_in_transaction();
        talk.reply(refusal);
        is_answered(&talk);

        let mut talk = reset_in_transaction();
        talk.go(Input::UpstreamGone);
        is_answered(&talk);

        let mut talk = reset_in_transaction();
        talk.now = Now(talk.conversation.deadline(&LIMITS).0);
        talk.go(Input::Deadline {
            is_wanted: true,
            is_held_up: false,
        });
        is_answered(&talk);
    }

    #[test]
    fn who_leaves_while_it_is_reset_is_not_answered() {
        let mut talk = reset_in_transaction();
        let action = talk.go(Input::Gone);
        assert!(matches!(action, Action::Close { .. }), "{action:?}");
        assert!(talk.held.is_none() && talk.down.is_empty());
    }

    /// A login's flags were told; the first statement finds that strings are quoted otherwise.
    #[test]
    fn who_was_told_otherwise_is_closed_before_its_text_is_sent() {
        let baselines = Rc::<Baselines>::default();
        let mode = number_of(b"sql_mode").map(|n| (n, b"NO_BACKSLASH_ESCAPES"[..].into()));
        baselines.logged_in(mode.into_iter().collect(), None, Answer::new(true), true);
        let mut talk = Talk::new();
        talk.unread.extend(query("SELECT 'it\\'s'"));
        talk.go(Input::Go);
        talk.held = Some(Upstream::new(LoginFacts {
            thread_id: 1,
            deprecates_eof: true,
            vector: Rc::default(),
            statements_max: 2,
            baselines,
        }));
        let action = talk.go(Input::Leased { has_waited: false });
        assert!(matches!(action, Action::Close { .. }), "{action:?}");
        assert_eq!(talk.said(), ["mode_untold"]);
        assert!(talk.up.is_empty());
    }
}
