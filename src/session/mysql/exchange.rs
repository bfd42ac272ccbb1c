//! One exchange: a client's command and its reply, on a leased upstream connection.
//!
//! [`Session::begin`] writes whatever must go ahead of the command, in the same send: the difference
//! of state vectors, read-outs of what other sessions left, a PREPARE. [`Session::on_reply`] takes
//! the upstream's bytes; replies to what went ahead are swallowed, the command's own reply passes on
//! untouched but for the few packets that carry state. [`Session::end`] says what becomes of the
//! lease.

use super::downstream::{Session, payload_of};
use super::harmless::{is_begin, is_harmless};
use super::left_behind::{Fate, Lost, Missing, Move, fate_of};
use super::output::Output;
use super::schema_gone::Asked;
use super::statements::Texts;
use super::text;
use super::upstream::{Expected, Moved, Reader, Upstream};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::reply::{ReplyError, Step};

/// The longest command whose text may be a BEGIN, header included, bytes: `START TRANSACTION WITH CONSISTENT
/// SNAPSHOT, READ ONLY` and some blanks.
const LONGEST_BEGIN: usize = 80;

/// What to do with the command's bytes after [`Session::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Send what was written, then the command as it is now.
    Send,
    /// Send what was written; it contains the command in another form.
    Replaced,
    /// Send what was written and keep the command: begin again when [`Progress::Ready`] comes.
    Wait,
    /// Nothing was written: accept the command again on the same connection. Only now it is known how its text
    /// is read.
    ReadAgain,
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
    /// The session's state could not be restored after an EXECUTE had been sent: its outcome is
    /// unknown.
    StateLost,
    /// A command of this form cannot be carried over to another connection. It was not sent.
    Unmovable,
    /// What the command reads of the statement before was lost with its connection. Nothing of the
    /// command was sent.
    LastStatementLost,
    /// The session's schema has gone away. The command can run on a connection that is in no schema if
    /// it may be sent once more, or was not sent; if it may not, the client has been given the server's
    /// own error.
    SchemaGone,
    /// The server refused the session's state before the command was sent. The client has been
    /// given the server's own error.
    Refused,
    /// The session's settings were not known at its login, and are such that what it was told is wrong. Nothing
    /// was sent.
    Untold,
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
    /// [`Fault::Unmovable`], [`Fault::LastStatementLost`]: nothing was sent that matters.
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
        if self.left.has_conditions() {
            self.op.outcome.fate = self.fate_of_conditions(upstream, command);
        }
        let asks = self.ask_at_first(upstream, upstream_out);
        if self.ask_for_programs(upstream, upstream_out) || asks {
            return Ok(Begin::Wait);
        }
        self.take_baseline(&upstream.baselines)?;
        if self.op.is_misread {
            let is_idle = upstream.is_idle();
            return Ok(if is_idle {
                Begin::ReadAgain
            } else {
                Begin::Wait
            });
        }
        self.look_for_programs(upstream, command, is_whole);
        if self.schema_is_gone {
            if std::mem::take(&mut self.op.clears_conditions) || self.lists_refusal() {
                upstream.clear_conditions(upstream_out);
            }
            self.keep_what_is_left(upstream, command);
        }
        let asked = Asked::from(upstream);
        let mut moved = self.move_state(upstream, upstream_out);
        self.ask_for_schema(asked, &mut moved, command);
        moved.option = self.move_option(upstream, command, is_whole, upstream_out);
        match self.move_insert_id(upstream, upstream_out)? {
            Some(Begin::Wait) => return Ok(Begin::Wait),
            is_moved => moved.insert_id = is_moved.is_some(),
        }
        if !self.may_go_behind(moved, command, is_whole) {
            // Where the connection may stay in no schema, nothing is prepared before that is known.
            if self.op.asks_for_schema != Some(Asked::InNone) {
                self.prepare_ahead(upstream, upstream_out)?;
            }
            return Ok(Begin::Wait);
        }
        if self.schema_is_gone {
            self.check_refusal()?;
            self.schema_is_gone = self.op.refusal.is_some();
        }
        let begin = self.begin_command(upstream, texts, command, is_whole, upstream_out)?;
        if begin != Begin::Wait {
            self.op.is_sent = true;
            if let Some(expected) = self.expected_reply() {
                upstream.expected.push(expected);
            }
        }
        Ok(begin)
    }

    /// Starts the command itself, on a connection that is in the session's state or on its way there.
    fn begin_command(
        &mut self,
        upstream: &mut Upstream,
        texts: &mut Texts,
        command: &mut [u8],
        is_whole: bool,
        upstream_out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        let has_moved_id = self.op.has_moved_id;
        let missing = self
            .left
            .missing_counts(&self.op.effects, &upstream.left, has_moved_id);
        Ok(match self.op.command {
            com::STMT_PREPARE => {
                self.begin_prepare(texts, command, is_whole, upstream, upstream_out)
            }
            com::STMT_EXECUTE => {
                let instead = self.text_with_counts(missing, texts)?;
                self.begin_execute(upstream, instead, command, is_whole, upstream_out)?
            }
            com::STMT_FETCH | com::STMT_RESET | com::STMT_SEND_LONG_DATA => {
                self.begin_statement(upstream, command, upstream_out)?
            }
            com::QUERY => self.begin_query(upstream, missing, command, is_whole, upstream_out)?,
            com::SET_OPTION => {
                upstream.takes_several = self.has(caps::MULTI_STATEMENTS);
                Begin::Send
            }
            _ => Begin::Send,
        })
    }

    /// Reads out what other sessions left on the connection and may still want.
    pub(super) fn take_over(&self, upstream: &mut Upstream, out: &mut Vec<u8>) {
        let last = upstream.left.last_owner();
        upstream.is_shared |= last != 0 && last != self.owner();
        let may_insert = || self.may_leave_insert_id();
        if let Some(taken) = self.left.take_over(&mut upstream.left, may_insert) {
            upstream.read_out_others(taken, out);
        }
    }

    /// What the command makes of an older list of conditions.
    fn fate_of_conditions(&self, upstream: &Upstream, command: &[u8]) -> Fate {
        // MySQL empties it ahead of each statement that does not read it, MariaDB where a table is used.
        let empties = upstream.baselines.is_mysql() && !self.op.effects.reads_conditions;
        match self.op.command {
            com::QUERY | com::STMT_PREPARE | com::STMT_EXECUTE if empties => Fate::Emptied,
            com::QUERY | com::STMT_PREPARE => {
                let sql = payload_of(command).get(1..).unwrap_or_default();
                fate_of(sql, &self.op.effects)
            }
            com::STMT_EXECUTE => {
                let statement = self.statements.get(self.op.statement);
                statement.map_or(Fate::Unclear, |s| fate_of(&s.text.sql, &self.op.effects))
            }
            _ => Fate::Kept,
        }
    }

    /// Whether the command may generate an insert id, and is not given the session's before. What
    /// inserts cannot be told from its first word.
    fn may_leave_insert_id(&self) -> bool {
        let effects = &self.op.effects;
        let is_plain_set = effects.is_set && !effects.sets_in_passing;
        let may_write = !effects.is_read_only && !effects.reads_conditions && !is_plain_set;
        matches!(self.op.command, com::QUERY | com::STMT_EXECUTE)
            && !effects.needs_insert_id()
            && (effects.may_insert || may_write)
    }

    /// Brings the connection into the session's state.
    pub(super) fn move_state(&self, upstream: &mut Upstream, out: &mut Vec<u8>) -> Moved {
        let moved = match self.op.refusal {
            Some(_) => upstream.change_state(&self.wanted_vector(), out),
            None => upstream.change_state(&self.vector, out),
        };
        let is_restore = moved != Moved::default();
        upstream.tally.restores = upstream.tally.restores.wrapping_add(u32::from(is_restore));
        moved
    }

    /// Whether the command may be in the same write as the changes of state ahead of it, any of which
    /// the server may refuse: it goes on with the next command all the same.
    fn may_go_behind(&self, moved: Moved, command: &[u8], is_whole: bool) -> bool {
        match self.op.command {
            _ if moved == Moved::default() => true,
            // The changes may have conditions of their own, which must go first.
            _ if self.op.effects.reads_conditions => false,
            // Should the server refuse that, the command can be begun anew without it.
            com::QUERY if moved.schema => {
                let may_be_again = !self.schema_is_gone && self.op.effects.is_read_only;
                may_be_again && is_whole && self.runs_nothing(command)
            }
            _ if moved.schema => false,
            // It runs in the schema of its PREPARE, whatever the connection's is; but a schema that
            // the server may not even know is not worth an unknown outcome.
            com::STMT_EXECUTE if moved == Moved::TO_KNOWN_SCHEMA => true,
            _ => is_whole && self.runs_nothing(command),
        }
    }

    /// Whether the command in progress is worth being kept for another attempt: a quick look ahead of it.
    /// [`Self::runs_nothing`] decides when it comes to that.
    pub(super) fn may_run_nothing(&self, command: &[u8]) -> bool {
        match self.op.command {
            com::STMT_PREPARE | com::INIT_DB => true,
            com::QUERY => self.op.effects.is_read_only || command.len() <= LONGEST_BEGIN,
            _ => self.op.effects.is_read_only,
        }
    }

    /// Whether the command in progress, whose bytes with their header these are, provably changes
    /// nothing that outlives its connection: done in the wrong state, or twice, it does no harm.
    pub(super) fn runs_nothing(&self, command: &[u8]) -> bool {
        let sql = payload_of(command).get(1..).unwrap_or_default();
        match self.op.command {
            com::QUERY => is_harmless(sql) || !self.is_in_transaction() && is_begin(sql),
            com::STMT_EXECUTE => {
                let statement = self.statements.get(self.op.statement);
                statement.is_some_and(|statement| is_harmless(&statement.text.sql))
            }
            // These run nothing, whatever the text.
            com::STMT_PREPARE | com::STMT_FETCH | com::STMT_RESET | com::STMT_SEND_LONG_DATA => {
                true
            }
            com::INIT_DB | com::PING | com::SET_OPTION => true,
            _ => false,
        }
    }

    /// Gives the connection the session's LAST_INSERT_ID() if the command reads it, or may leave another
    /// one there or not. [`Begin::Wait`] if the connection is asked for it first; `None` if there is
    /// nothing to do.
    fn move_insert_id(
        &mut self,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> Result<Option<Begin>, Fault> {
        let runs = self.op.command != com::STMT_PREPARE;
        let effects = &self.op.effects;
        let is_there = self.op.has_moved_id || self.op.outcome.status_seen;
        if !runs || !effects.needs_insert_id() || is_there {
            return Ok(None);
        }
        let set = match self.left.move_insert_id(effects, &mut upstream.left)? {
            Move::None => return Ok(None),
            Move::Ask => {
                for residue in self.left.ask_for_insert_id(&mut upstream.left) {
                    upstream.read_out(residue, out);
                }
                return Ok(Some(Begin::Wait));
            }
            // It is what the connection has, and a text that names it nowhere in sight need not wait for that.
            Move::Set(0) if effects.has_unseen && !upstream.is_shared => return Ok(None),
            Move::Set(value) => format!("SET LAST_INSERT_ID={value}"),
            // With an operator whose result is unsigned, unlike that of IF.
            Move::SetIfZero(value) => {
                format!("SET LAST_INSERT_ID=LAST_INSERT_ID()|{value}*(LAST_INSERT_ID()=0)")
            }
        };
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, set.as_bytes());
        });
        upstream.expected.push(Expected::Moved);
        self.op.has_moved_id = true;
        Ok(Some(Begin::Send))
    }

    fn begin_query(
        &mut self,
        upstream: &Upstream,
        missing: Missing,
        command: &[u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<Begin, Fault> {
        let effects = self.op.effects;
        self.left.check_conditions(&effects, &upstream.left)?;
        let own = payload_of(command).get(1..).unwrap_or_default();
        let instead = self.op.instead.as_deref();
        let mut replaced = None;
        if missing.any() && !is_whole {
            return Err(Fault::LastStatementLost);
        }
        if missing.any() {
            let (row_count, found_rows) = self.left.counts(missing)?;
            let sql = instead.unwrap_or(own);
            replaced = text::substitute(sql, self.lex_mode(), row_count, found_rows)
                .map_err(|_| Fault::LastStatementLost)?;
        }
        let sql = replaced.as_deref().or(instead);
        let named = is_whole.then(|| self.text_with_schema(sql.unwrap_or(own), self.lex_mode()));
        match named.flatten().as_deref().or(sql) {
            Some(sql) => {
                packet(out, 0, |out| encode_text_command(out, com::QUERY, sql));
                Ok(Begin::Replaced)
            }
            None => Ok(Begin::Send),
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
        let reader = Reader {
            sequence: self.command_sequence,
            packets_more: self.op.packets_more,
            knows_eofs: !self.has(caps::DEPRECATE_EOF),
        };
        loop {
            let Some(first) = upstream.expected.first() else {
                return if at < bytes.len() {
                    Err(ReplyError::Surplus.into())
                } else {
                    Ok(Progress::Done)
                };
            };
            let is_main = matches!(first, Expected::Main(_));
            upstream.start_walking(reader);
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
