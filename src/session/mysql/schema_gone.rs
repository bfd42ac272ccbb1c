//! A session whose schema has gone away on the server.
//!
//! On a connection of its own it would go on there: DATABASE() keeps the name, what needs no schema
//! works, a name without a schema does not, and when the schema is made again all is well. Another
//! connection cannot be brought into a schema that is not there. The command runs on one without
//! any then, which has just looked whether it is back.

use std::rc::Rc;

use super::downstream::Session;
use super::left_behind::{Fate, Lost};
use super::state::Vector;
use super::text::{self, LexMode};
use super::upstream::{Moved, Upstream};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::frame::HEADER_LEN;

use super::output::Output;

/// Unknown database.
const ER_BAD_DB: u16 = 1049;
/// Access denied for user to database: the right to it is gone.
const ER_DB_ACCESS_DENIED: u16 = 1044;
/// No database selected.
const ER_NO_DB: u16 = 1046;

/// From where the server is asked for the session's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// From another schema.
    InSchema,
    /// From none.
    InNone,
}

impl Asked {
    /// From where this connection would be asked.
    pub(super) fn from(upstream: &Upstream) -> Self {
        match upstream.vector.schema() {
            Some(_) => Self::InSchema,
            None => Self::InNone,
        }
    }
}

/// What becomes of a refused schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Nothing of the kind: the refusal stands.
    No,
    /// Begin again on a connection that is in no schema.
    Elsewhere,
    /// This connection is in none: the command runs here.
    Here,
}

impl Session {
    /// Whether the session wants connections that are in a schema, or may be.
    pub fn wants_schema(&self) -> bool {
        self.vector.schema().is_some() && !self.schema_is_gone
    }

    /// What the statement before has left must not be lost by asking whether the schema is back: a
    /// command that reads it, or leaves its list of conditions to the next one, goes by the last answer.
    pub(super) fn keep_what_is_left(&mut self, upstream: &Upstream, command: &[u8]) {
        let is_there = upstream.vector.schema().is_none();
        let reads = self.op.effects.reads_last_statement();
        let keeps = !self.reads_refusal() && (reads || self.leaves_list(upstream, command));
        if is_there && keeps {
            self.op.refusal = self.schema_refusal.clone();
        }
    }

    /// Whether the connection has the session's list of conditions, and the command in progress leaves it
    /// there and provably needs no schema. A PREPARE is for the schema, and an EXECUTE has its own.
    fn leaves_list(&self, upstream: &Upstream, command: &[u8]) -> bool {
        let is_of_schema = matches!(self.op.command, com::STMT_PREPARE | com::STMT_EXECUTE);
        let leaves = !is_of_schema && self.op.outcome.fate == Fate::Kept;
        leaves
            && self.left.has_conditions_on(&upstream.left)
            && !self.op.effects.has_unseen
            && self.runs_nothing(command)
    }

    /// Whether what the command in progress reads is the refusal of the schema that its client was told:
    /// the server is to list it.
    pub(super) fn reads_refusal(&self) -> bool {
        self.op.effects.reads_conditions && self.has_explained
    }

    /// Whether the server is to list its refusal alone: MySQL adds that of a schema to the list that is there.
    pub(super) fn lists_refusal(&self) -> bool {
        self.reads_refusal() && self.pins().is_empty()
    }

    /// Looks whether the list that a command reads is that of the refusal, if it is to be.
    ///
    /// # Errors
    /// The schema is back.
    pub(super) fn check_refusal(&self) -> Result<(), Lost> {
        match self.lists_refusal() && self.op.refusal.is_none() {
            true => Err(Lost),
            false => Ok(()),
        }
    }

    /// Notes that the server is being asked for the session's schema, if `moved` says so. One that was
    /// refused, or may have to be done without right here, counts as one that is not known.
    pub(super) fn ask_for_schema(&mut self, asked: Asked, moved: &mut Moved, command: &[u8]) {
        let asks = moved.schema || moved.known_schema;
        self.op.asks_for_schema = asks.then_some(asked);
        if asks && (self.schema_is_gone || asked == Asked::InNone) {
            (moved.known_schema, moved.schema) = (false, true);
        }
        if asks && asked == Asked::InNone && self.may_name_file(command) {
            // Without the schema it would be another file: the refusal stands.
            self.op.asks_for_schema = None;
        }
    }

    /// Whether the command may read or write a file, whose name counts from the schema's directory.
    fn may_name_file(&self, command: &[u8]) -> bool {
        let sql = match self.op.command {
            com::STMT_EXECUTE => match self.statements.get(self.op.statement) {
                Some(statement) => &statement.text.sql,
                None => return false,
            },
            _ => command,
        };
        let names = |word: &[u8]| {
            let mut words = sql.windows(word.len());
            words.any(|found| found.eq_ignore_ascii_case(word))
        };
        names(b"outfile") || names(b"dumpfile") || names(b"infile")
    }

    /// The state that the command in progress needs its connection to be in.
    pub(super) fn wanted_vector(&self) -> Rc<Vector> {
        match self.op.refusal {
            Some(_) => Rc::new(self.vector.with_schema(b"")),
            None => self.vector.clone(),
        }
    }

    /// Whether this is the server's answer to a login: that it does not let the session into its schema. The
    /// connection stays where it was.
    pub(super) fn is_refused_entry(
        &mut self,
        upstream: &mut Upstream,
        errno: u16,
        raw: &[u8],
    ) -> bool {
        let is_it = self.op.is_entry && matches!(errno, ER_BAD_DB | ER_DB_ACCESS_DENIED);
        if is_it {
            self.op.refusal = raw.get(HEADER_LEN..).map(Rc::from);
            upstream.left.note_conditions();
        }
        is_it
    }

    /// The server refuses to bring the connection into the session's state with the error `errno`, in
    /// the packet `raw`.
    pub(super) fn lose_schema(&mut self, upstream: &mut Upstream, errno: u16, raw: &[u8]) -> Gone {
        let is_schema = matches!(errno, ER_BAD_DB | ER_DB_ACCESS_DENIED);
        let schema = self.vector.schema().filter(|_| is_schema);
        let (Some(asked), Some(schema)) = (self.op.asks_for_schema, schema) else {
            // It may be that of a login, which is told, or of a prepared statement.
            return Gone::No;
        };
        upstream.forget_schema(schema);
        let payload: Rc<[u8]> = raw.get(HEADER_LEN..).unwrap_or_default().into();
        if !self.schema_is_gone {
            self.refused = Some(Rc::clone(&payload));
        }
        match asked {
            Asked::InNone if !self.op.is_sent => {
                self.schema_is_gone = true;
                upstream.vector = Rc::new(self.vector.with_schema(b""));
                // The refusal counts as a statement, and SHOW WARNINGS would list it.
                upstream.left.note_between();
                self.op.clears_conditions = !self.reads_refusal();
                match self.reads_refusal() {
                    true => {
                        self.left.list_on(&mut upstream.left);
                        self.has_explained = false;
                    }
                    false => upstream.left.note_conditions(),
                }
                self.schema_refusal = Some(payload.clone());
                self.op.refusal = Some(payload);
                Gone::Here
            }
            _ if self.schema_is_gone || !self.pins().is_empty() => Gone::No,
            _ => {
                self.schema_is_gone = true;
                Gone::Elsewhere
            }
        }
    }

    /// The text that gives DATABASE() its name where the connection is not in the schema.
    pub(super) fn text_with_schema(&self, sql: &[u8], mode: LexMode) -> Option<Vec<u8>> {
        self.op.refusal.as_ref()?;
        text::name_schema(sql, mode, self.vector.schema()?)
    }

    /// Says in the place of "no database selected" why that is; whether it was that.
    pub(super) fn explain_no_schema(&mut self, errno: u16, sequence: u8, out: &mut Output) -> bool {
        let refusal = self.op.refusal.as_ref().filter(|_| errno == ER_NO_DB);
        if let Some(refusal) = refusal {
            out.write(|own| packet(own, sequence, |own| own.extend_from_slice(refusal)));
        }
        self.op.explains = refusal.is_some();
        self.op.explains
    }

    /// The reply is complete.
    pub(super) fn end_explanation(&mut self) {
        if !self.op.explains && !self.has_explained {
            return;
        }
        let outcome = &self.op.outcome;
        let has_own = outcome.errno.is_some() || outcome.had_warnings;
        let fate = match self.op.command {
            com::STMT_FETCH | com::STMT_RESET | com::STMT_SEND_LONG_DATA | com::PING => Fate::Kept,
            // MySQL's OK to it counts what is in the list from before.
            com::INIT_DB if outcome.errno.is_none() => Fate::Unclear,
            _ if has_own => Fate::Emptied,
            _ if self.op.effects.reads_conditions => Fate::Kept,
            // MySQL empties it for any statement and PREPARE, MariaDB for those that use tables.
            _ if outcome.fate == Fate::Kept => Fate::Unclear,
            _ => outcome.fate,
        };
        if self.has_explained && !self.op.explains && fate == Fate::Unclear {
            // It lists what the server has said, or nothing.
            self.left.lose_conditions();
        }
        let leaves = fate == Fate::Kept && self.left.has_conditions();
        self.has_explained = self.op.explains || self.has_explained && leaves;
    }
}
