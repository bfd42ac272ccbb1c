//! One exchange: a client's command and its reply, on a leased upstream connection.
//!
//! [`Session::begin`] writes whatever must go ahead of the command, in the same send: the difference
//! of state vectors, read-outs of what other sessions left, a PREPARE. [`Session::on_reply`] takes
//! the upstream's bytes; replies to what went ahead are swallowed, the command's own reply passes on
//! untouched but for the few packets that carry state. [`Session::end`] says what becomes of the
//! lease.

use std::rc::Rc;

use super::downstream::{Op, Session, payload_of};
use super::left_behind::Lost;
use super::output::Output;
use super::schema_gone::Asked;
use super::state::is_same;
use super::statements::{Prepared, Statement, StatementText, Texts};
use super::text;
use super::upstream::{Expected, Upstream};
use crate::wire::mysql::command::{Execute, encode_text_command};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use crate::wire::mysql::reply::{ReplyError, Step};

/// What to do with the command's bytes after [`Session::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Send what was written, then the command as it is now.
    Send,
    /// Send what was written; it contains the command in another form.
    Replaced,
    /// Send what was written and keep the command: begin again when [`Progress::Ready`] comes.
    Wait,
}

/// How far the reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// What went ahead is done: begin again with the command that was kept.
    Ready,
    /// The reply is complete.
    Done,
}

/// Why the exchange cannot go on. The upstream connection must be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The upstream broke the protocol.
    Protocol(ReplyError),
    /// The session's state could not be restored after the command had been sent: its outcome is
    /// unknown.
    StateLost,
    /// A command of this form cannot be carried over to another connection. It was not sent.
    Unmovable,
    /// What the command reads of the statement before was lost with its connection. Nothing of the
    /// command was sent.
    LastStatementLost,
    /// The session's schema has gone away. Nothing of the command was sent: it can run on a connection
    /// that is in no schema.
    SchemaGone,
    /// The server refused the session's state before the command was sent. The client has been
    /// given the server's own error.
    Refused,
}

impl From<ReplyError> for Fault {
    fn from(error: ReplyError) -> Self {
        Self::Protocol(error)
    }
}

impl From<Lost> for Fault {
    fn from(Lost: Lost) -> Self {
        Self::LastStatementLost
    }
}

/// What becomes of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The connection goes back to the pool.
    Return,
    /// The session keeps it; see [`Session::pins`].
    Keep,
    /// The server is about to close it.
    Discard,
}

impl Session {
    /// Starts the command on a leased connection. `command` is the command's bytes with its header,
    /// or the head of a long one; it may be changed in place.
    ///
    /// # Errors
    /// [`Fault::Unmovable`]: nothing was sent that matters.
    pub fn begin(
        &mut self,
        upstream: &mut Upstream,
        texts: &mut Texts,
        command: &mut [u8],
        is_whole: bool,
        upstream_out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        self.op.is_sent = false;
        self.take_over(upstream, upstream_out);
        if self.schema_is_gone {
            if std::mem::take(&mut self.op.clears_conditions) {
                upstream.clear_conditions(upstream_out);
            }
            self.keep_what_is_left(upstream);
        }
        let asked = match upstream.vector.schema() {
            Some(_) => Asked::InSchema,
            None => Asked::InNone,
        };
        let begin = self.move_state(upstream, upstream_out);
        self.op.asks_for_schema = (begin == Begin::Wait).then_some(asked);
        if begin == Begin::Wait {
            return Ok(Begin::Wait);
        }
        if self.schema_is_gone {
            self.schema_is_gone = self.op.refusal.is_some();
        }
        let has_moved_id = self.move_insert_id(upstream, upstream_out)?;
        let counts_are_here =
            self.left
                .counts_are_on(&self.op.effects, &upstream.left, has_moved_id);
        let begin = match self.op.command {
            com::STMT_PREPARE => {
                upstream.tally.prepares = upstream.tally.prepares.wrapping_add(1);
                self.begin_prepare(texts, command, upstream_out)
            }
            com::STMT_EXECUTE => {
                let instead = self.text_with_counts(counts_are_here, texts)?;
                self.begin_execute(upstream, instead, command, is_whole, upstream_out)?
            }
            com::STMT_FETCH | com::STMT_RESET | com::STMT_SEND_LONG_DATA => {
                self.begin_statement(upstream, command, upstream_out)
            }
            com::QUERY => {
                self.begin_query(upstream, counts_are_here, command, is_whole, upstream_out)?
            }
            _ => Begin::Send,
        };
        if begin != Begin::Wait {
            self.op.is_sent = true;
            upstream.expected.extend(self.expected_reply());
        }
        Ok(begin)
    }

    /// Brings a leased connection into the session's state ahead of any command, and has the server
    /// look for the schema even if the connection is in it already. The replies, if
    /// anything was written, end with [`Progress::Ready`] or [`Fault::Refused`].
    pub fn begin_move(&mut self, upstream: &mut Upstream, upstream_out: &mut Vec<u8>) {
        self.op = Op::default();
        self.take_over(upstream, upstream_out);
        if let Some(schema) = self.vector.schema()
            && upstream.vector.schema() == Some(schema)
        {
            // It was there when the connection came into it; it may have been dropped since.
            packet(upstream_out, 0, |out| {
                encode_text_command(out, com::INIT_DB, schema);
            });
            upstream.expected.push(Expected::Moved);
        }
        // Nothing waits for this but the login itself.
        let _ = self.move_state(upstream, upstream_out);
    }

    /// Reads out what other sessions left on the connection and may still want.
    fn take_over(&self, upstream: &mut Upstream, out: &mut Vec<u8>) {
        if let Some(taken) = self.left.take_over(&mut upstream.left) {
            upstream.read_out_others(taken, out);
        }
    }

    /// Brings the connection into the session's state.
    fn move_state(&self, upstream: &mut Upstream, out: &mut Vec<u8>) -> Begin {
        if is_same(&self.vector, &upstream.vector) {
            // Shared from now on: the next look compares two pointers.
            upstream.vector = self.vector.clone();
            return Begin::Send;
        }
        let vector = self.wanted_vector();
        let mut begin = Begin::Send;
        let before = upstream.expected.len();
        if let Some(schema) = vector.schema()
            && upstream.vector.schema() != Some(schema)
        {
            packet(out, 0, |out| encode_text_command(out, com::INIT_DB, schema));
            upstream.expected.push(Expected::Moved);
            if !upstream.knows_schema(schema) || self.schema_is_gone {
                // Should the server refuse it, the command must not run in the wrong schema.
                begin = Begin::Wait;
            }
        }
        let mut set = Vec::new();
        if vector.write_set(&upstream.vector, &mut set) {
            packet(out, 0, |out| encode_text_command(out, com::QUERY, &set));
            upstream.expected.push(Expected::Moved);
        }
        upstream.vector = match upstream.vector.schema() {
            // There is no way back out of a schema.
            Some(schema) if vector.schema().is_none() => Rc::new(vector.with_schema(schema)),
            _ => vector,
        };
        let is_restore = upstream.expected.len() > before;
        upstream.tally.restores = upstream.tally.restores.wrapping_add(u32::from(is_restore));
        begin
    }

    /// Gives the connection the session's LAST_INSERT_ID() if the command reads it, or may leave another
    /// one there or not; whether it had to.
    fn move_insert_id(
        &mut self,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let runs = self.op.command != com::STMT_PREPARE;
        let effects = &self.op.effects;
        let needs_id = effects.reads_insert_id || effects.sets_insert_id;
        if !runs || !needs_id || self.op.outcome.status_seen {
            return Ok(false);
        }
        let insert_id = match self.left.insert_id_to_set(&upstream.left) {
            // It is not what the command asks for, and another session's it must not be.
            Err(Lost) if !effects.reads_insert_id => Some(0),
            insert_id => insert_id?,
        };
        let Some(insert_id) = insert_id else {
            return Ok(false);
        };
        let set = format!("SET LAST_INSERT_ID={insert_id}");
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, set.as_bytes());
        });
        upstream.expected.push(Expected::Moved);
        Ok(true)
    }

    fn begin_query(
        &mut self,
        upstream: &Upstream,
        counts_are_here: bool,
        command: &[u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        let effects = self.op.effects;
        self.left.check_conditions(&effects, &upstream.left)?;
        let reads_counts = effects.reads_row_count || effects.reads_found_rows;
        let instead = self.op.instead.as_deref();
        let mut replaced = None;
        if reads_counts && is_whole && !counts_are_here {
            let (row_count, found_rows) = self.left.counts(&effects)?;
            let own = payload_of(command).get(1..).unwrap_or_default();
            let sql = instead.unwrap_or(own);
            replaced = text::substitute(sql, self.lex_mode(), row_count, found_rows)
                .map_err(|_| Fault::LastStatementLost)?;
        }
        let sql = replaced.as_deref().or(self.op.instead.as_deref());
        let own = payload_of(command).get(1..).unwrap_or_default();
        let named = is_whole.then(|| self.text_with_schema(sql.unwrap_or(own)));
        match named.flatten().as_deref().or(sql) {
            Some(sql) => {
                packet(out, 0, |out| encode_text_command(out, com::QUERY, sql));
                Ok(Begin::Replaced)
            }
            None => Ok(Begin::Send),
        }
    }

    /// The text to execute in place of a prepared statement that reads counts of the statement
    /// before it, which ran on another connection: the counts stand in it as literals. So does the
    /// name of a schema that is not there.
    fn text_with_counts(
        &mut self,
        counts_are_here: bool,
        texts: &mut Texts,
    ) -> Result<Option<Rc<StatementText>>, Fault> {
        let effects = self.op.effects;
        let needs_counts =
            (effects.reads_row_count || effects.reads_found_rows) && !counts_are_here;
        let statement = self.statements.find(self.op.statement);
        let is_elsewhere = self.op.refusal.is_some();
        // Data that was sent for a statement is nowhere else.
        let is_free = statement.is_some_and(|statement| !statement.has_long_data());
        if !(needs_counts || is_elsewhere && is_free) {
            return Ok(None);
        }
        let mode = self.lex_mode();
        let own = self.statements.find(self.op.statement);
        let Some(own) = own.map(|statement| statement.text.clone()) else {
            return Ok(None);
        };
        let mut sql = None;
        if needs_counts {
            let (row_count, found_rows) = self.left.counts(&effects)?;
            sql = text::substitute(&own.sql, mode, row_count, found_rows).unwrap_or_default();
        }
        let instead = if is_elsewhere {
            let named = self.text_with_schema(sql.as_deref().unwrap_or(&own.sql));
            let sql = named.or(sql);
            Some(texts.intern(sql.as_deref().unwrap_or(&own.sql), None))
        } else {
            sql.map(|sql| texts.intern(&sql, own.schema.as_deref()))
        };
        // Held until the command is over: a text that nobody holds gets another key, and would be
        // prepared again and again.
        self.op.text = instead.clone();
        Ok(instead)
    }

    fn begin_prepare(&mut self, texts: &mut Texts, command: &[u8], out: &mut Vec<u8>) -> Begin {
        let own = payload_of(command).get(1..).unwrap_or_default();
        let sql = self.op.instead.as_deref().unwrap_or(own);
        let mut text = texts.intern(sql, self.vector.schema());
        if self.statements.any_of(&text) {
            // Two statements of one session are two on the server as well: each may have a cursor
            // and long data of its own.
            text = texts.unshared(sql, self.vector.schema());
        }
        self.op.text = Some(text);
        match self.op.instead.as_deref() {
            Some(sql) => {
                packet(out, 0, |out| {
                    encode_text_command(out, com::STMT_PREPARE, sql);
                });
                Begin::Replaced
            }
            None => Begin::Send,
        }
    }

    /// FETCH, RESET, SEND_LONG_DATA: only the id differs upstream.
    fn begin_statement(
        &mut self,
        upstream: &mut Upstream,
        command: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Begin {
        let Some(statement) = self.statements.find(self.op.statement) else {
            return Begin::Send;
        };
        match upstream.prepared.touch(statement.text.key) {
            Some(prepared) => {
                write_id(command, prepared.id);
                Begin::Send
            }
            None => prepare(&statement.text.clone(), upstream, out),
        }
    }

    fn begin_execute(
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
        let text = instead.unwrap_or_else(|| statement.text.clone());
        let Some(prepared) = upstream.prepared.touch(text.key) else {
            return Ok(prepare(&text, upstream, out));
        };
        write_id(command, prepared.id);
        if statement.params == 0 {
            return Ok(Begin::Send);
        }
        let (types_at, has_types) = match bound_types(payload_of(command), statement.params) {
            Some(found) => found,
            // Too short for its own bitmap: the server says what is wrong with it.
            None => return Ok(Begin::Send),
        };
        if has_types {
            remember_types(statement, prepared, command, types_at);
            return Ok(Begin::Send);
        }
        let is_known = match (&statement.types, &prepared.types) {
            (Some(mine), Some(theirs)) => Rc::ptr_eq(mine, theirs) || mine == theirs,
            _ => false,
        };
        match &statement.types {
            Some(types) if !is_known => {
                prepared.types = Some(types.clone());
                insert_types(command, is_whole, types_at, types, out)
            }
            _ => Ok(Begin::Send),
        }
    }

    /// Takes in bytes from the upstream. What is for the client goes to `out` as spans of `bytes`
    /// and packets of our own.
    ///
    /// # Errors
    /// The connection must be discarded; `out` holds what may still be sent to the client.
    pub fn on_reply(
        &mut self,
        upstream: &mut Upstream,
        bytes: &mut [u8],
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Result<Progress, Fault> {
        let mut at = 0_usize;
        loop {
            let Some(first) = upstream.expected.first() else {
                return if at < bytes.len() {
                    Err(ReplyError::Surplus.into())
                } else {
                    Ok(Progress::Done)
                };
            };
            let is_main = matches!(first, Expected::Main(_));
            upstream.start_walking(self.command_sequence);
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let (used, packet, is_carried) = match upstream.walker.step(rest)? {
                Step::Starved => return Ok(Progress::More),
                Step::Pass(n) => (n, None, false),
                Step::PassCarried(n) => (n, None, true),
                Step::Packet(n, packet) => (n, Some(packet), false),
                Step::PacketCarried(n, packet) => (n, Some(packet), true),
            };
            let end = at.saturating_add(used);
            let piece = if is_carried {
                Piece::Carried
            } else {
                Piece::Input { at, end }
            };
            if is_main {
                self.take_main(upstream, bytes, piece, packet, out, upstream_out)?;
            } else {
                self.take_ahead(upstream, bytes, piece, packet, out, upstream_out)?;
            }
            at = end;
            if upstream.walker.is_done() {
                upstream.is_walking = false;
                upstream.expected.remove(0);
                if upstream.expected.is_empty() {
                    if at < bytes.len() {
                        return Err(ReplyError::Surplus.into());
                    }
                    // SEND_LONG_DATA has no reply: it is done when what went ahead is.
                    return Ok(if self.op.is_sent {
                        Progress::Done
                    } else {
                        Progress::Ready
                    });
                }
            }
        }
    }
}

/// Where a piece of the reply lies.
#[derive(Clone, Copy)]
pub(super) enum Piece {
    /// In the chunk at hand.
    Input {
        /// Its first byte.
        at: usize,
        /// The byte after its last.
        end: usize,
    },
    /// In the walker, carried over from earlier chunks.
    Carried,
}

/// Sends COM_STMT_PREPARE for a statement that the connection does not have.
fn prepare(text: &Rc<StatementText>, upstream: &mut Upstream, out: &mut Vec<u8>) -> Begin {
    // The statement belongs to the schema it was prepared in, not to the current one.
    let current = upstream.vector.schema().map(<[u8]>::to_vec);
    let own = text.schema.as_deref();
    let moves = own.is_some() && own != current.as_deref();
    let go = |schema: &[u8], upstream: &mut Upstream, out: &mut Vec<u8>| {
        packet(out, 0, |out| encode_text_command(out, com::INIT_DB, schema));
        upstream.expected.push(Expected::Moved);
    };
    if moves && let Some(own) = own {
        // The changes of schema count as statements.
        upstream.left.note_between();
        go(own, upstream, out);
    }
    packet(out, 0, |out| {
        encode_text_command(out, com::STMT_PREPARE, &text.sql);
    });
    upstream.expected.push(Expected::Prepared(text.clone()));
    upstream.tally.prepares = upstream.tally.prepares.wrapping_add(1);
    match (current, own) {
        (Some(current), _) if moves => go(&current, upstream, out),
        (None, Some(own)) => upstream.vector = Rc::new(upstream.vector.with_schema(own)),
        _ => {}
    }
    Begin::Wait
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

/// Where an EXECUTE's new-params-bound flag is, from the payload's start, and whether types follow.
fn bound_types(payload: &[u8], params: u16) -> Option<(usize, bool)> {
    Execute::head(payload).ok()?;
    let bitmap = usize::from(params).div_ceil(8);
    let at = 10_usize.saturating_add(bitmap);
    let flag = *payload.get(at)?;
    Some((at, flag == 1))
}

/// The connection and the session learn the types that this EXECUTE carries.
fn remember_types(
    statement: &mut Statement,
    prepared: &mut Prepared,
    command: &[u8],
    flag_at: usize,
) {
    let start = HEADER_LEN.saturating_add(flag_at).saturating_add(1);
    let end = start.saturating_add(usize::from(statement.params).saturating_mul(2));
    let Some(types) = command.get(start..end) else {
        return;
    };
    let types = match &statement.types {
        Some(known) if **known == *types => known.clone(),
        _ => Rc::from(types),
    };
    statement.types = Some(types.clone());
    prepared.types = Some(types);
}

/// Rewrites an EXECUTE that relies on types which this connection has not been told.
fn insert_types(
    command: &[u8],
    is_whole: bool,
    flag_at: usize,
    types: &[u8],
    out: &mut Vec<u8>,
) -> Result<Begin, Fault> {
    let header = Header::parse(command).ok_or(Fault::Unmovable)?;
    let payload = payload_of(command);
    let (before, after) = payload.split_at_checked(flag_at).ok_or(Fault::Unmovable)?;
    let after = after.get(1..).unwrap_or_default();
    let grown = header.len.saturating_add(types.len());
    if is_whole {
        packet(out, 0, |out| {
            out.extend_from_slice(before);
            out.push(1);
            out.extend_from_slice(types);
            out.extend_from_slice(after);
        });
        return Ok(Begin::Replaced);
    }
    // The rest of a long command is streamed behind this head, so the first packet must still hold
    // it; a chain of 16 MiB packets cannot be shifted without touching every byte.
    if header.len == PAYLOAD_MAX || grown >= PAYLOAD_MAX {
        return Err(Fault::Unmovable);
    }
    out.extend_from_slice(
        &Header {
            len: grown,
            seq: header.seq,
        }
        .encode(),
    );
    out.extend_from_slice(before);
    out.push(1);
    out.extend_from_slice(types);
    out.extend_from_slice(after);
    Ok(Begin::Replaced)
}
