//! How a session begins, at its login or a reset: what it has not set is from then on what the server gives to
//! those who log in then, and its OK tells so.
//!
//! Clients believe an OK's status flags: how they quote strings follows NO_BACKSLASH_ESCAPES (MySQL manual,
//! "mysql_real_escape_string_quote()"), whether they commit follows AUTOCOMMIT. So what was told holds for the
//! session, and a session to which nothing true could be told does not go on where that matters.

use std::cell::RefCell;
use std::rc::Rc;

use super::baseline::{Answer, Baselines, FLAGS, Origin, Scope, question};
use super::downstream::{Op, Session};
use super::exchange::Fault;
use super::upstream::{Expected, Upstream};
use crate::base::clock::Now;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{com, status};

/// What is not known of the settings that a session begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lack {
    /// All is known, and new enough.
    Nothing,
    /// What is known is old.
    Renewal,
    /// Nothing is known.
    #[default]
    All,
}

/// What is known of an account's logins, by the last connection that has logged in with it. It is shared by whoever
/// logs in there and by the sessions whose statements run there.
#[derive(Debug, Default)]
pub struct Newest(RefCell<Option<Rc<Baselines>>>);

impl Newest {
    /// What is known, if anything is.
    pub fn get(&self) -> Option<Rc<Baselines>> {
        let newest = self.0.borrow();
        newest.as_ref().filter(|known| known.is_known()).cloned()
    }

    /// A connection has logged in, and this is what is known of its login.
    pub fn set(&self, known: &Rc<Baselines>) {
        self.0.replace(Some(Rc::clone(known)));
    }
}

/// What has to be asked for before a session begins with `known` at `now`; whoever calls this sees to it.
fn lack_of(known: Option<&Rc<Baselines>>, now: Now) -> Lack {
    match known {
        None => Lack::All,
        Some(known) if known.is_due(now) => Lack::Renewal,
        Some(_) => Lack::Nothing,
    }
}

impl Session {
    /// The session's statements run from now on where this is known of logins.
    pub fn relies_on(&mut self, newest: &Rc<Newest>) {
        let is_same = |known: &Rc<Newest>| Rc::ptr_eq(known, newest);
        if !self.newest.as_ref().is_some_and(is_same) {
            self.newest = Some(Rc::clone(newest));
        }
    }

    fn newest(&self) -> Option<Rc<Baselines>> {
        self.newest.as_ref()?.get()
    }

    /// What has to be asked for before the session begins at `now`, on the connection that it has if it has one;
    /// whoever calls this sees to it.
    pub(super) fn lacks(&self, held: Option<&Upstream>, now: Now) -> Lack {
        match held {
            Some(held) => lack_of(Some(&held.baselines), now),
            None => lack_of(self.newest().as_ref(), now),
        }
    }

    /// Begins with what is known, however old it is.
    pub(super) fn begin_with_known(&mut self, held: Option<&Upstream>) {
        match held {
            Some(held) => self.adopt(&held.baselines),
            None => {
                if let Some(known) = self.newest() {
                    self.adopt(&known);
                }
            }
        }
    }

    /// Asks the server for what the session begins with, if that is old or `lack` says so; whether it did. Once it
    /// is answered, [`Self::begin_on`] goes on.
    pub(super) fn ask_ahead(
        &mut self,
        upstream: &mut Upstream,
        lack: Lack,
        now: Now,
        out: &mut Vec<u8>,
    ) -> bool {
        self.op = Op::default();
        self.take_over(upstream, out);
        let asks = upstream.baselines.is_due(now) || lack == Lack::Renewal;
        if asks {
            ask_for_globals(upstream, out);
        }
        asks
    }

    /// Begins with what the connection's server gives, and `with_schema` asks for the session's schema: the replies, if
    /// anything was written, end with [`Progress::Ready`](super::exchange::Progress::Ready).
    pub(super) fn begin_on(
        &mut self,
        upstream: &mut Upstream,
        with_schema: bool,
        out: &mut Vec<u8>,
    ) {
        self.op = Op::default();
        self.adopt(&upstream.baselines);
        if with_schema {
            self.enter_schema(upstream, out);
        }
    }

    /// Asks whether the server lets the session into its schema, also where the connection is in it: it may have been
    /// dropped since. [`Self::has_entered`] tells once it is answered.
    fn enter_schema(&mut self, upstream: &mut Upstream, out: &mut Vec<u8>) {
        if let Some(schema) = self.vector.schema() {
            self.op.is_entry = true;
            packet(out, 0, |out| encode_text_command(out, com::INIT_DB, schema));
            upstream.expected.push(Expected::Moved);
            upstream.left.note_between();
        }
    }

    /// The connection is in the session's schema, if that was asked for.
    ///
    /// # Errors
    /// The server does not let it in: the payload of its ERR.
    pub(super) fn has_entered(&mut self, upstream: &mut Upstream) -> Result<(), Rc<[u8]>> {
        if !std::mem::take(&mut self.op.is_entry) {
            return Ok(());
        }
        match (self.op.refusal.take(), self.vector.schema()) {
            (Some(refusal), _) => Err(refusal),
            (None, None) => Ok(()),
            (None, Some(schema)) => {
                upstream.knows_schema(schema);
                upstream.vector = Rc::new(upstream.vector.with_schema(schema));
                Ok(())
            }
        }
    }

    /// Asks for the globals ahead of the session's first statement, if it could not begin before and they may have
    /// changed; whether it did.
    pub(super) fn ask_at_first(&self, upstream: &mut Upstream, out: &mut Vec<u8>) -> bool {
        let is_due = !self.vector.has_base() && upstream.baselines.is_due(self.began_at);
        if is_due {
            ask_for_globals(upstream, out);
        }
        is_due
    }

    /// The first statement of a session that could not begin with what its server gives.
    ///
    /// # Errors
    /// [`Fault::Untold`]: it quotes its strings in another way than the server reads them.
    pub(super) fn take_baseline(&mut self, baselines: &Baselines) -> Result<(), Fault> {
        if self.vector.has_base() {
            return Ok(());
        }
        let (told, mode) = (self.status, self.lex_mode());
        self.adopt(baselines);
        if (self.status ^ told) & status::NO_BACKSLASH_ESCAPES != 0 {
            return Err(Fault::Untold);
        }
        let has_text = matches!(self.op.command, com::QUERY | com::STMT_PREPARE);
        self.op.is_misread = has_text && self.lex_mode() != mode;
        Ok(())
    }

    fn adopt(&mut self, baselines: &Baselines) {
        if self.vector.has_base() {
            return;
        }
        let origin = Origin {
            since: self.since,
            flags: self.capabilities & FLAGS,
        };
        let Some(vector) = baselines.adopt(&self.vector, origin) else {
            return;
        };
        self.set_vector(vector);
        let mode = self.vector.lex_mode();
        let flags = [
            (status::AUTOCOMMIT, !self.vector.is_autocommit_off()),
            (status::NO_BACKSLASH_ESCAPES, mode.no_backslash_escapes),
            // MySQL has no such flag.
            (
                status::ANSI_QUOTES,
                mode.ansi_quotes && !baselines.is_mysql(),
            ),
        ];
        for (flag, is_set) in flags {
            self.status = if is_set {
                self.status | flag
            } else {
                self.status & !flag
            };
        }
    }
}

fn ask_for_globals(upstream: &mut Upstream, out: &mut Vec<u8>) {
    upstream.left.note_foreign();
    packet(out, 0, |out| {
        encode_text_command(out, com::QUERY, &question(Scope::Global));
    });
    let answer = Answer::new(upstream.deprecates_eof);
    upstream
        .expected
        .push(Expected::Variables(Box::new(answer)));
    upstream.end_own_transaction(out);
}
