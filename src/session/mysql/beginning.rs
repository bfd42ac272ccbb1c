//! How a session begins, at its login or a reset: what it has not set is from then on what the server gives to
//! those who log in then, and its OK tells so.
//!
//! Clients believe an OK's status flags: how they quote strings follows NO_BACKSLASH_ESCAPES (MySQL manual,
//! "mysql_real_escape_string_quote()"), whether they commit follows AUTOCOMMIT. So what was told holds for the
//! session, and a session to which nothing true could be told does not go on where that matters.

use std::rc::Rc;

use super::baseline::{Answer, Baselines, Begin, FLAGS, Scope, question};
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

impl Session {
    /// From now on these are what is known of logins where the session's statements run.
    pub fn relies_on(&mut self, baselines: &Rc<Baselines>) {
        self.baselines = Some(Rc::clone(baselines));
    }

    /// What is known of logins where the session's statements run, if anything is.
    pub fn baselines(&self) -> Option<&Rc<Baselines>> {
        self.baselines.as_ref()
    }

    /// What has to be asked for before the session begins at `now`; whoever calls this sees to it.
    pub fn lacks(&self, now: Now) -> Lack {
        match &self.baselines {
            Some(known) if known.is_known() => match known.is_due(now) {
                true => Lack::Renewal,
                false => Lack::Nothing,
            },
            _ => Lack::All,
        }
    }

    /// Begins with what is known, however old it is.
    pub fn begin_with_known(&mut self) {
        if let Some(known) = self.baselines.clone() {
            self.adopt(&known);
        }
    }

    /// Asks the server for what the session begins with, if that is old or `lack` says so; whether it did. Once it
    /// is answered, [`Self::begin_on`] goes on.
    pub fn ask_ahead(
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

    /// Begins with what the connection's server gives, and `with_schema` brings the connection into the session's
    /// state: the replies, if anything was written, end with [`Progress::Ready`](super::exchange::Progress::Ready)
    /// or [`Fault::Refused`].
    pub fn begin_on(&mut self, upstream: &mut Upstream, with_schema: bool, out: &mut Vec<u8>) {
        self.op = Op::default();
        self.relies_on(&upstream.baselines);
        self.begin_with_known();
        if with_schema {
            self.enter_schema(upstream, out);
        }
    }

    fn enter_schema(&self, upstream: &mut Upstream, out: &mut Vec<u8>) {
        if let Some(schema) = self.vector.schema()
            && upstream.vector.schema() == Some(schema)
        {
            // It was there when the connection came into it; it may have been dropped since.
            packet(out, 0, |out| encode_text_command(out, com::INIT_DB, schema));
            upstream.expected.push(Expected::Moved);
        }
        // Nothing waits for this but the login itself.
        let _ = self.move_state(upstream, out);
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
    pub(super) fn take_baseline(&mut self, baselines: &Rc<Baselines>) -> Result<(), Fault> {
        if self.vector.has_base() {
            return Ok(());
        }
        let (told, mode) = (self.status, self.lex_mode());
        self.relies_on(baselines);
        self.begin_with_known();
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
        let begin = Begin {
            since: self.since,
            flags: self.capabilities & FLAGS,
        };
        let Some(vector) = baselines.adopt(&self.vector, begin) else {
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
