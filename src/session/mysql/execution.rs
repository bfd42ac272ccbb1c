//! Prepared statements on a leased connection: ids are translated, what the connection does not have
//! is prepared there, and no EXECUTE goes without types to a connection that has not had them.

use std::rc::Rc;

use super::answer::raw_of;
use super::downstream::{Session, payload_of, write_close};
use super::effects::Effects;
use super::exchange::{Begin, Fault, Piece};
use super::execute_body::{Types, null_types};
use super::left_behind::Missing;
use super::regrown::Regrown;
use super::state::Vector;
use super::statements::{Statement, StatementText, Texts};
use super::text;
use super::upstream::{Expected, Upstream};
use crate::base::pin::PinReason;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use crate::wire::mysql::response::decode_ok;
use crate::wire::mysql::track::{Change, Changes};

/// The variable that servers do not report when a character set changes it.
const COLLATION: &str = "collation_connection";

impl Session {
    /// The text to execute in place of a prepared statement that reads counts of the statement
    /// before it, which ran on another connection: the counts stand in it as literals. So does the
    /// name of a schema that is not there.
    pub(super) fn text_with_counts(
        &mut self,
        missing: Missing,
        texts: &mut Texts,
    ) -> Result<Option<Rc<StatementText>>, Fault> {
        let is_elsewhere = self.op.refusal.is_some();
        if !missing.any() && !is_elsewhere {
            return Ok(None);
        }
        let counts = match missing.any() {
            true => Some(self.left.counts(missing)?),
            false => None,
        };
        let Some(statement) = self.statements.get(self.op.statement) else {
            return Ok(None);
        };
        let (own, mode) = (&statement.text, statement.mode);
        let mut sql = match counts {
            Some((row_count, found_rows)) => {
                text::substitute(&own.sql, mode, row_count, found_rows)
                    .map_err(|_| Fault::LastStatementLost)?
            }
            None => None,
        };
        // Data that was sent for a statement is nowhere else, nor is a text that was not kept; and one of
        // another schema runs in that.
        let is_free = own.is_kept && !statement.has_long_data();
        let is_of_gone = own.settings.schema() == self.vector.schema();
        let instead = if is_elsewhere && is_free && is_of_gone {
            let named = self.text_with_schema(sql.as_deref().unwrap_or(&own.sql), mode);
            sql = named.or(sql);
            let vector = Rc::new(own.settings.vector().with_schema(b""));
            let settings = texts.settings_of(&vector);
            Some(texts.intern(sql.as_deref().unwrap_or(&own.sql), &settings))
        } else {
            sql.map(|sql| texts.intern(&sql, &own.settings))
        };
        // Held until the command is over: a text that nobody holds gets another key, and would be
        // prepared again and again.
        self.op.text = instead.clone();
        Ok(instead)
    }

    pub(super) fn begin_prepare(
        &mut self,
        texts: &mut Texts,
        command: &[u8],
        is_whole: bool,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> Begin {
        if self.asks_for_collation(upstream, out) {
            return Begin::Wait;
        }
        upstream.tally.prepares = upstream.tally.prepares.wrapping_add(1);
        let own = payload_of(command).get(1..).unwrap_or_default();
        let sql = self.op.instead.as_deref().unwrap_or(own);
        let settings = texts.settings_of(&self.vector);
        let mut text = match is_whole {
            // It is prepared in no schema here, which must not become another session's statement.
            // Nor one that is prepared under a collation which the server does not tell.
            true if self.op.refusal.is_some() || self.lacks_collation() => {
                texts.unshared(sql, &settings)
            }
            true => texts.intern(sql, &settings),
            false => texts.unkept(&settings),
        };
        if self.statements.any_of(&text) {
            // Two statements of one session are two on the server as well: each may have a cursor
            // and long data of its own.
            text = texts.unshared(sql, &settings);
        }
        // Where the session goes on from here, this connection has the statement.
        let named = is_whole.then(|| self.text_with_schema(sql, self.op.mode));
        self.op.text = Some(text);
        match named.flatten().as_deref().or(self.op.instead.as_deref()) {
            Some(sql) => {
                packet(out, 0, |out| {
                    encode_text_command(out, com::STMT_PREPARE, sql);
                });
                Begin::Replaced
            }
            None => Begin::Send,
        }
    }

    /// The head of the reply to the client's own PREPARE.
    pub(super) fn take_prepared(
        &mut self,
        upstream: &mut Upstream,
        id: u32,
        params: u16,
        upstream_out: &mut Vec<u8>,
    ) {
        let Some(text) = self.op.text.take() else {
            return;
        };
        self.add_prepared(upstream, text.clone(), id, upstream_out);
        let effects = self.op.effects;
        // Its answer is on the connection of the statement before it, and nowhere else.
        if effects.reads_conditions {
            self.pins.add(PinReason::StatementState);
        }
        self.op.effects = Effects::default();
        let mut statement = Statement::new(text, params, effects);
        statement.mode = self.op.mode;
        statement.is_rewritten = self.op.instead.is_some();
        self.op.statement = self.statements.add(statement);
    }

    /// The connection has prepared a statement, for which others may have to go.
    pub(super) fn add_prepared(
        &self,
        upstream: &mut Upstream,
        text: Rc<StatementText>,
        id: u32,
        out: &mut Vec<u8>,
    ) {
        if let Some(replaced) = upstream.prepared.add(text, id) {
            write_close(replaced, out);
        }
        while let Some(evicted) = upstream.prepared.evict(|key| self.statements.holds(key)) {
            write_close(evicted, out);
        }
    }

    /// The replies to changes of state are waited for: what an EXECUTE needs prepared is on its way
    /// meanwhile.
    pub(super) fn prepare_ahead(
        &mut self,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let effects = &self.op.effects;
        let is_other_text = effects.reads_row_count || effects.reads_found_rows;
        if self.op.command != com::STMT_EXECUTE || is_other_text {
            return Ok(());
        }
        let statement = self.statements.get(self.op.statement);
        if let Some(text) = statement.map(|statement| statement.text.clone())
            && upstream.prepared.touch(text.key).is_none()
        {
            self.prepare(&text, upstream, out)?;
        }
        Ok(())
    }

    /// FETCH, RESET, SEND_LONG_DATA: only the id differs upstream.
    pub(super) fn begin_statement(
        &mut self,
        upstream: &mut Upstream,
        command: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        let Some(statement) = self.statements.find(self.op.statement) else {
            return Ok(Begin::Send);
        };
        let text = match self.op.command {
            com::STMT_SEND_LONG_DATA => &statement.text,
            _ => statement.text_of_cursor(),
        };
        match upstream.prepared.touch(text.key) {
            Some(prepared) => {
                write_id(command, prepared.id);
                Ok(Begin::Send)
            }
            None => {
                let text = text.clone();
                self.prepare(&text, upstream, out)
            }
        }
    }

    /// EXECUTE, whose body was found good when it was accepted.
    pub(super) fn begin_execute(
        &mut self,
        upstream: &mut Upstream,
        instead: Option<Rc<StatementText>>,
        command: &mut [u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        let Some(statement) = self.statements.find(self.op.statement) else {
            return Ok(Begin::Send);
        };
        statement.instead = instead;
        let own = || statement.text.clone();
        let text = statement.instead.clone().unwrap_or_else(own);
        let Some(prepared) = upstream.prepared.touch(text.key) else {
            return self.prepare(&text, upstream, out);
        };
        write_id(command, prepared.id);
        self.op.executed = text.key;
        let (flag_at, types) = match self.op.types {
            Types::NoParameters => return Ok(Begin::Send),
            Types::Bound(_) => {
                prepared.types = statement.types.clone();
                return Ok(Begin::Send);
            }
            Types::AsBefore(flag_at) => (flag_at, statement.types.clone()),
            Types::AllNull(flag_at) => (flag_at, Some(null_types(statement.params).into())),
        };
        // Without types only where the server has had these: MariaDB ends where it has had none.
        let types = types.ok_or(Fault::Unmovable)?;
        let theirs = prepared.types.as_ref();
        if theirs.is_some_and(|theirs| Rc::ptr_eq(theirs, &types) || *theirs == types) {
            return Ok(Begin::Send);
        }
        prepared.types = Some(types.clone());
        self.op.regrown = insert_types(command, is_whole, flag_at, &types, out)?;
        Ok(Begin::Replaced)
    }

    /// Sends COM_STMT_PREPARE for a statement that the connection does not have.
    fn prepare(
        &mut self,
        text: &Rc<StatementText>,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        if !text.is_kept {
            // It was on another connection, and is gone with it.
            return Err(Fault::Unmovable);
        }
        if self.asks_for_collation(upstream, out) {
            return Ok(Begin::Wait);
        }
        if self.lacks_collation() {
            // There would be no way back.
            return Err(Fault::Unmovable);
        }
        // The statement belongs to the settings that it was prepared under, not to the current ones.
        let current = upstream.vector.clone();
        let settings = text.settings.vector();
        let leaves_none = current.schema().is_none() && settings.schema().is_some();
        if leaves_none && !self.pins().is_empty() {
            // There is no way back out of a schema, and the session keeps this connection.
            return Err(Fault::Unmovable);
        }
        let is_there = current.has_settings_of(settings);
        let own = match is_there {
            true => current.clone(),
            false => Rc::new(current.with_settings_of(settings)),
        };
        if !is_there {
            // The changes count as statements.
            upstream.left.note_between();
            upstream.change_state(&own, out);
        }
        packet(out, 0, |out| {
            encode_text_command(out, com::STMT_PREPARE, &text.sql);
        });
        upstream.expected.push(Expected::Prepared(text.clone()));
        upstream.tally.prepares = upstream.tally.prepares.wrapping_add(1);
        upstream.change_state(&current, out);
        Ok(Begin::Wait)
    }

    /// Whether the session may have a collation that no text and no report has told, for its variables keep
    /// it on its connection. What is put in its place could not be undone, and a PREPARE would be known by a
    /// wrong one.
    fn lacks_collation(&self) -> bool {
        self.vector.value(COLLATION).is_none() && self.pins.has(PinReason::Variable)
    }

    /// Whether the server is being asked for the collation, ahead of what takes it. It is asked once: it tells
    /// nothing where the session has set its trackers so.
    fn asks_for_collation(&mut self, upstream: &mut Upstream, out: &mut Vec<u8>) -> bool {
        if !self.lacks_collation() || self.op.has_asked_for_collation {
            return false;
        }
        self.op.has_asked_for_collation = true;
        // An assignment is reported, and this one changes nothing. It counts as a statement.
        upstream.left.note_between();
        packet(out, 0, |out| {
            encode_text_command(
                out,
                com::QUERY,
                b"SET collation_connection=@@collation_connection",
            );
        });
        upstream.expected.push(Expected::Collation);
        true
    }

    /// The server's OK to that: the session and the connection are known to be in this collation.
    pub(super) fn take_collation(&mut self, upstream: &mut Upstream, bytes: &[u8], piece: Piece) {
        let raw = raw_of(upstream, bytes, piece);
        let payload = raw.get(HEADER_LEN..).unwrap_or_default();
        let Ok(ok) = decode_ok(payload, caps::SESSION_TRACK) else {
            return;
        };
        let mut told = None;
        for change in Changes::new(ok.session_changes).flatten() {
            match change {
                Change::SystemVariable { name, value } if name == COLLATION.as_bytes() => {
                    told = Some(value.to_vec());
                }
                _ => {}
            }
        }
        if ok.warnings > 0 {
            upstream.left.note_conditions();
        }
        let Some(told) = told else { return };
        let with = |vector: &Vector| {
            let mut vector = vector.clone();
            vector.set(COLLATION.as_bytes(), &told);
            Rc::new(vector)
        };
        upstream.vector = with(&upstream.vector);
        self.set_vector(with(&self.vector));
    }
}

/// Puts the server's statement id into a command.
fn write_id(command: &mut [u8], id: u32) {
    if let Some(slot) = command
        .get_mut(HEADER_LEN.saturating_add(1)..)
        .and_then(|rest| rest.first_chunk_mut())
    {
        *slot = id.to_le_bytes();
    }
}

/// The session learns the types that the EXECUTE with this payload carries, whatever becomes of it: its client
/// has sent them, and may not send them again.
pub(super) fn remember_types(statement: &mut Statement, payload: &[u8], flag_at: usize) {
    let start = flag_at.saturating_add(1);
    let end = start.saturating_add(usize::from(statement.params).saturating_mul(2));
    let Some(types) = payload.get(start..end) else {
        return;
    };
    let is_known = statement.types.as_deref() == Some(types);
    if !is_known {
        statement.types = Some(Rc::from(types));
    }
}

/// Rewrites an EXECUTE that relies on types which this connection has not been told. Of a long one
/// this is the head; what moves the rest is returned.
fn insert_types(
    command: &[u8],
    is_whole: bool,
    flag_at: usize,
    types: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<Box<Regrown>>, Fault> {
    let header = Header::parse(command).ok_or(Fault::Unmovable)?;
    let payload = payload_of(command);
    let (before, after) = payload.split_at_checked(flag_at).ok_or(Fault::Unmovable)?;
    let after = after.get(1..).unwrap_or_default();
    if is_whole {
        packet(out, 0, |out| {
            out.extend_from_slice(before);
            out.push(1);
            out.extend_from_slice(types);
            out.extend_from_slice(after);
        });
        return Ok(None);
    }
    let start = [before, &[1], types].concat();
    let rest = header.len.saturating_sub(flag_at).saturating_sub(1);
    let is_last = header.len < PAYLOAD_MAX;
    let mut regrown = Regrown::new(start, rest, is_last, out);
    regrown.push_head(after, out);
    Ok(Some(Box::new(regrown)))
}
