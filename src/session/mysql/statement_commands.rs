//! Commands about prepared statements: what each of them needs, and what is refused before anything of
//! it is translated.

use super::downstream::{Next, Session, write_close};
use super::effects;
use super::execute_body::{self, Types};
use super::execution::remember_types;
use super::output::Output;
use super::upstream::Upstream;
use crate::base::codes::Event;
use crate::base::pin::PinReason;
use crate::wire::mysql::frame::HEADER_LEN;

/// Bytes of prepared texts that one session may have kept: many small ones or a few long ones.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Session {
    /// How many prepared statements the session may have; those beyond it stay until they are closed.
    pub fn bound_statements(&mut self, max: usize) {
        self.statements_max = max;
    }

    pub(super) fn accept_prepare(&mut self, sql: &[u8], is_whole: bool, out: &mut Output) -> Next {
        self.statements.begin_prepare();
        let is_full = self.statements.bytes().saturating_add(sql.len()) > TEXT_BYTES_MAX;
        if is_full || self.statements.len() >= self.statements_max {
            return self.refuse(Event::TooManyStatements, "", out);
        }
        self.op.mode = self.lex_mode();
        self.op.effects = effects::of_text(sql, self.op.mode);
        if !is_whole {
            if self.op.effects.is_blank {
                return self.refuse(Event::StatementUnseen, "", out);
            }
            self.op.effects.overlook_rest();
            self.op.effects.pins.add(PinReason::Unknown);
        }
        if let Some(event) = self.refusal_of(sql) {
            return self.refuse(event, "", out);
        }
        self.look_at_set(sql, self.op.mode);
        if !is_whole {
            self.overlook_set();
        }
        Next::Lease { prefer_last: false }
    }

    /// EXECUTE: its body is checked before anything of it is translated.
    pub(super) fn accept_execute(
        &mut self,
        id: u32,
        payload: &[u8],
        is_whole: bool,
        held: Option<&mut Upstream>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Next {
        let is_last_prepared = id == u32::MAX;
        let id = self.statements.resolve(id);
        self.op.statement = id;
        let Some(statement) = self.statements.get(id) else {
            return self.refuse(Event::UnknownStatement, "", out);
        };
        if !is_whole {
            let needed = execute_body::needed(payload, statement);
            if payload.len() < needed {
                return Next::More(needed.saturating_add(HEADER_LEN));
            }
        }
        match execute_body::check(payload, is_whole, is_last_prepared, statement) {
            Ok(types) => self.op.types = types,
            Err(event) => {
                self.forget_long_data(id, held, upstream_out);
                return self.refuse(event, "", out);
            }
        }
        self.op.wants_cursor = execute_body::wants_cursor(payload);
        self.op.effects = statement.effects;
        if let Types::Bound(flag_at) = self.op.types
            && let Some(statement) = self.statements.find(id)
        {
            remember_types(statement, payload, flag_at);
        }
        self.accept_known(out)
    }

    /// FETCH.
    pub(super) fn accept_fetch(&mut self, id: u32, out: &mut Output) -> Next {
        let id = self.statements.resolve(id);
        self.op.statement = id;
        match self.statements.get(id) {
            Some(statement) if statement.has_cursor() => self.op.effects = statement.effects,
            Some(_) => return self.refuse(Event::NoCursor, "", out),
            None => return self.refuse(Event::UnknownStatement, "", out),
        }
        self.accept_known(out)
    }

    /// A statement that may be a SET, or read what the one before left behind.
    fn accept_known(&mut self, out: &mut Output) -> Next {
        let effects = &self.op.effects;
        if !effects.is_set && !effects.sets_trackers && !effects.reads_last_statement() {
            return Next::Lease { prefer_last: false };
        }
        let Some(statement) = self.statements.get(self.op.statement) else {
            return Next::Lease { prefer_last: false };
        };
        let (text, mode) = (statement.text.clone(), statement.mode);
        if statement.is_rewritten {
            self.look_at_rewritten_set(&text.sql, mode);
        } else {
            self.look_at_set(&text.sql, mode);
        }
        // Where one was to be sent in its place, that was prepared.
        self.op.instead = None;
        self.accept_reading(&text.sql, out)
    }

    /// An EXECUTE is refused, and the long data that it would have used is gone, as on a server.
    fn forget_long_data(
        &mut self,
        id: u32,
        held: Option<&mut Upstream>,
        upstream_out: &mut Vec<u8>,
    ) {
        let statement = self.statements.get(id);
        let Some(statement) = statement.filter(|s| s.has_long_data() && s.text.is_kept) else {
            return;
        };
        if let Some(upstream) = held
            && let Some(server_id) = upstream.prepared.remove(statement.text.key)
        {
            write_close(server_id, upstream_out);
        }
        self.statements.set_long_data(id, false);
        self.statements.set_cursor(id, false);
    }

    /// SEND_LONG_DATA has no reply: what is wrong with it shows at the EXECUTE (trap 10).
    pub(super) fn accept_long_data(&mut self, id: u32, parameter: u16) -> Next {
        let id = self.statements.resolve(id);
        self.op.statement = id;
        let Some(statement) = self.statements.find(id) else {
            return Next::Answered;
        };
        statement.note_long(parameter);
        self.statements.set_long_data(id, true);
        Next::Lease { prefer_last: false }
    }

    /// Only a cursor or long data on the held connection has anything to reset.
    pub(super) fn accept_statement_reset(
        &mut self,
        id: u32,
        held: Option<&mut Upstream>,
        out: &mut Output,
    ) -> Next {
        self.op.statement = self.statements.resolve(id);
        let Some(statement) = self.statements.find(self.op.statement) else {
            return self.refuse(Event::UnknownStatement, "", out);
        };
        let has_state = statement.has_cursor()
            || statement.has_long_data()
            || !statement.text.is_kept
            || self.pins.has(PinReason::StatementState)
            || self.status_is_stale;
        if held.is_some() && has_state {
            return Next::Lease { prefer_last: true };
        }
        self.answer_ok(out)
    }

    /// Closes a statement; on the held connection for real if it has state there.
    pub(super) fn close_statement(
        &mut self,
        id: u32,
        held: Option<&mut Upstream>,
        upstream_out: &mut Vec<u8>,
    ) {
        let id = self.statements.resolve(id);
        let Some(statement) = self.statements.find(id) else {
            return;
        };
        let cursors = statement.text_of_cursor().key;
        let has_state =
            statement.has_cursor() || statement.has_long_data() || !statement.text.is_kept;
        let Some(statement) = self.statements.remove(id) else {
            return;
        };
        let Some(upstream) = held.filter(|_| has_state) else {
            return;
        };
        for key in [statement.text.key, cursors] {
            if let Some(server_id) = upstream.prepared.remove(key) {
                write_close(server_id, upstream_out);
            }
        }
    }
}
