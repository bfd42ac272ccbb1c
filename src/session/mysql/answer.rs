//! The packets of a reply that carry state: what the session and the connection learn from them, and
//! how they are re-encoded where the client's capabilities differ from the upstream's.

use std::rc::Rc;

use super::downstream::{Op, Session, write_close};
use super::exchange::{After, Fault, Piece};
use super::output::Output;
use super::schema_gone::Gone;
use super::state::{Noted, Vector};
use super::text::{Collation, FoundRows, Trackers};
use super::upstream::{Expected, Upstream};
use crate::base::pin::PinReason;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com, status};
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::reply::{Packet, ReplyError};
use crate::wire::mysql::response::{OkPacket, decode_ok, encode_end_of_rows, encode_ok};
use crate::wire::mysql::track::{Change, Changes, filter};

/// Variables whose changes a server reports by default; clients hear of these and the schema only
/// (MySQL manual, `session_track_system_variables`).
const TOLD_TO_CLIENTS: &[&[u8]] = &[
    b"autocommit",
    b"character_set_client",
    b"character_set_connection",
    b"character_set_results",
    b"time_zone",
];

/// Variables that NOWAIT and WAIT n set for the length of their statement. MariaDB reports the
/// passing value and says nothing when it takes it back.
fn is_lock_wait(name: &[u8]) -> bool {
    name == b"innodb_lock_wait_timeout" || name == b"lock_wait_timeout"
}

/// What a connection has traced with it can be read on it for good: COM_RESET_CONNECTION leaves it in
/// `information_schema.OPTIMIZER_TRACE` (seen on MySQL 9.7).
const OUTLIVES_RESET: &[u8] = b"optimizer_trace";

/// Errors after which the server closes the connection: shutdown, killed, idle for too long.
const FATAL_ERRNOS: &[u16] = &[1053, 1152, 1184, 1927, 4031];

impl Session {
    /// The server's error number, if the last command was answered with ERR.
    pub fn server_errno(&self) -> Option<u16> {
        self.op.outcome.errno
    }

    /// A piece of the reply to the client's command.
    pub(super) fn take_main(
        &mut self,
        upstream: &mut Upstream,
        bytes: &mut [u8],
        piece: Piece,
        packet: Option<Packet>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match packet {
            None => self.pass_plain(upstream, bytes, piece, out),
            Some(Packet::Ok {
                affected,
                last_insert_id,
                status,
                warnings,
                ends_rows,
                ..
            }) => {
                self.note_status(status, warnings);
                self.note_cursor(status, ends_rows);
                if ends_rows {
                    if self.op.effects.found_rows == FoundRows::Sent {
                        let rows = upstream.walker.rows();
                        self.left.note_rows(rows, &mut upstream.left);
                    }
                    self.op.outcome.affected = None;
                    self.let_go(status, out);
                } else {
                    self.op.outcome.affected = Some(affected);
                    if last_insert_id != 0 {
                        self.op.outcome.insert_id = last_insert_id;
                    }
                }
                self.pass_ok(upstream, bytes, piece, ends_rows, out)?;
            }
            Some(Packet::ColumnsEnd { status, is_last }) => {
                self.pass_columns_end(upstream, piece, status, is_last, out);
            }
            Some(Packet::Err { errno }) => {
                self.op.outcome.errno = Some(errno);
                self.status_is_stale |= self.vector.is_autocommit_off();
                if self.op.command == com::STMT_EXECUTE {
                    upstream.prepared.forget_types(self.op.executed);
                }
                self.let_go(0, out);
                let sequence = upstream.walker.next_sequence().wrapping_sub(1);
                if !self.explain_no_schema(errno, sequence, out) {
                    pass(upstream, piece, out);
                }
            }
            Some(Packet::Prepared { id, params, .. }) => {
                self.take_prepared(upstream, id, params, upstream_out);
                self.pass_prepared(upstream, bytes, piece, out);
            }
            Some(Packet::DefinitionsEnd) => {
                pass(upstream, piece, out);
                if self.adds_eof(upstream) {
                    self.write_eof(upstream.walker.next_sequence(), 0, out);
                }
            }
            Some(Packet::EofOwed) => self.give_eof(upstream, out),
        }
        Ok(())
    }

    /// Packets that carry no state.
    fn pass_plain(&mut self, upstream: &Upstream, bytes: &[u8], piece: Piece, out: &mut Output) {
        self.op.outcome.has_rows |= self.op.command != com::STMT_PREPARE;
        match self.op.first_row {
            None => pass(upstream, piece, out),
            Some(_) => self.hold_back(upstream, bytes, piece, out),
        }
    }

    /// The head of a PREPARE reply, with the client's own number of the statement.
    fn pass_prepared(&self, upstream: &Upstream, bytes: &mut [u8], piece: Piece, out: &mut Output) {
        let own_id = self.op.statement;
        let slot = |bytes: &mut [u8]| {
            let at = HEADER_LEN.saturating_add(1);
            if let Some(slot) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *slot = own_id.to_le_bytes();
            }
        };
        match piece {
            Piece::Input { at, end } => {
                slot(bytes.get_mut(at..end).unwrap_or_default());
                out.input(at..end);
            }
            Piece::Carried => {
                let mut copy = upstream.walker.carried().to_vec();
                slot(&mut copy);
                out.bytes(&copy);
            }
        }
    }

    pub(super) fn note_status(&mut self, status: u16, warnings: u16) {
        // What holds for a statement alone is over when the next text is read.
        let passing = match self.op.effects.sets_in_passing {
            true => status::NO_BACKSLASH_ESCAPES | status::ANSI_QUOTES,
            false => 0,
        };
        self.status = status & !passing | self.status & passing;
        self.status_is_stale = false;
        self.op.outcome.status_seen = true;
        self.op.warnings = warnings;
        self.op.outcome.had_warnings |= warnings > 0;
    }

    /// Whether the statement has a cursor now. The flag alone does not say so: a procedure leaves it
    /// that has fetched from a cursor of its own.
    pub(super) fn note_cursor(&mut self, status: u16, ends_rows: bool) {
        let is_open = status & status::CURSOR_EXISTS != 0 && ends_rows;
        let is_open = match self.op.command {
            com::STMT_EXECUTE => {
                is_open && self.op.wants_cursor && status & status::MORE_RESULTS_EXISTS == 0
            }
            com::STMT_FETCH => is_open && status & status::LAST_ROW_SENT == 0,
            _ => return,
        };
        self.op.outcome.opens_cursor = is_open && self.op.command == com::STMT_EXECUTE;
        self.statements.set_cursor(self.op.statement, is_open);
    }

    /// OK, or the end of rows. Passes on as it is unless it reports state or must change its form.
    fn pass_ok(
        &mut self,
        upstream: &mut Upstream,
        bytes: &[u8],
        piece: Piece,
        ends_rows: bool,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let changes_form = ends_rows && (self.drops_eof(upstream) || self.adds_eof(upstream));
        let mut reports_state = self.status & status::SESSION_STATE_CHANGED != 0;
        if reports_state && ends_rows && !upstream.deprecates_eof {
            // A legacy EOF has the flag and no room for what has changed.
            self.op.state_changed |= !self.op.effects.sets_in_passing;
            reports_state = false;
        }
        if !reports_state && !changes_form {
            pass(upstream, piece, out);
            return Ok(());
        }
        let raw = raw_of(upstream, bytes, piece);
        let header = Header::parse(raw).ok_or(ReplyError::Malformed)?;
        let capabilities = self.capabilities;
        if !reports_state {
            let ok = OkPacket {
                status: self.status,
                warnings: self.op.warnings,
                ..OkPacket::default()
            };
            out.write(|own| {
                packet(own, header.seq, |own| {
                    encode_end_of_rows(own, capabilities, &ok);
                })
            });
            return Ok(());
        }
        let raw = raw.to_vec();
        let payload = raw.get(HEADER_LEN..).unwrap_or_default();
        let mut ok = decode_ok(payload, caps::SESSION_TRACK).map_err(|_| ReplyError::Malformed)?;
        self.apply_changes(upstream, ok.session_changes)?;
        let mut told = Vec::new();
        let trackers = self.trackers();
        filter(&mut told, ok.session_changes, |change| {
            is_told(change, &trackers)
        })
        .map_err(|_| ReplyError::Malformed)?;
        ok.session_changes = &told;
        let encode = if ends_rows {
            encode_end_of_rows
        } else {
            encode_ok
        };
        out.write(|own| packet(own, header.seq, |own| encode(own, capabilities, &ok)));
        Ok(())
    }

    /// What the server says has changed is now the state of both the session and the connection.
    fn apply_changes(&mut self, upstream: &mut Upstream, changes: &[u8]) -> Result<(), Fault> {
        let mut vector: Option<Vector> = None;
        // Variables come in any order, and the collation counts after its character set.
        let mut collation: Option<&[u8]> = None;
        let mut sets_charset = false;
        // The schema's character set follows the schema; set on its own, it cannot be moved.
        let (mut sets_derived, mut enters_schema) = (false, false);
        for change in Changes::new(changes) {
            match change.map_err(|_| ReplyError::Malformed)? {
                Change::SystemVariable { name, .. } if upstream.baselines.is_counter(name) => {}
                Change::SystemVariable { name, value } => {
                    self.op.state_explained = true;
                    if name == b"last_insert_id" || name == b"identity" {
                        self.op.effects.sets_insert_id = true;
                        continue;
                    }
                    // No character set can be set for one statement.
                    let is_passing = self.op.effects.sets_in_passing
                        && !name.starts_with(b"character_set_")
                        || is_lock_wait(name) && !self.op.effects.is_set;
                    let is_tracker = name.starts_with(b"session_track_");
                    if is_passing || is_tracker && self.op.effects.sets_trackers {
                        continue;
                    }
                    if name == b"collation_connection" {
                        collation = Some(value);
                        continue;
                    }
                    sets_charset |= name == b"character_set_connection";
                    let current = vector.get_or_insert_with(|| (*self.vector).clone());
                    match current.set(name, value) {
                        Noted::Moved => {}
                        Noted::Derived => sets_derived = true,
                        Noted::Pins => self.note_unmovable(upstream, name),
                    }
                }
                Change::Schema(name) => {
                    self.op.state_explained = true;
                    enters_schema = true;
                    self.op.refusal = None;
                    self.schema_is_gone = false;
                    upstream.knows_schema(name);
                    let current = vector.get_or_insert_with(|| (*self.vector).clone());
                    *current = current.with_schema(name);
                }
                Change::StateChanged(changed) => self.op.state_changed |= changed,
                Change::Gtids(_)
                | Change::TransactionCharacteristics(_)
                | Change::TransactionState(_)
                | Change::Other { .. } => {}
            }
        }
        if sets_derived && !enters_schema {
            self.pins.add(PinReason::Variable);
        }
        if sets_charset && collation.is_none() {
            match &self.op.collation {
                Collation::OfCharset => {}
                Collation::Named(name) => collation = Some(name),
                Collation::Unclear => self.pins.add(PinReason::Variable),
            }
        }
        if let Some(collation) = collation {
            let current = vector.get_or_insert_with(|| (*self.vector).clone());
            current.set(b"collation_connection", collation);
        }
        if let Some(vector) = vector {
            if vector != *self.vector {
                self.set_vector(Rc::new(vector));
            }
            self.note_reported(upstream, enters_schema);
        }
        Ok(())
    }

    fn note_unmovable(&mut self, upstream: &mut Upstream, name: &[u8]) {
        self.pins.add(PinReason::Variable);
        upstream.is_spent |= name == OUTLIVES_RESET;
    }

    /// What is not new to the session may be to a connection that could not follow it before.
    fn note_reported(&self, upstream: &mut Upstream, enters_schema: bool) {
        let wanted = self.wanted_vector();
        upstream.vector = match upstream.vector.schema() {
            // That of a prepared statement, which the connection cannot leave for none.
            Some(schema) if wanted.schema().is_none() && !enters_schema => {
                Rc::new(wanted.with_schema(schema))
            }
            _ => wanted,
        };
    }

    /// A piece of the reply to something that the gateway sent ahead of the command. Kept apart from what
    /// every reply goes through, which would have to save more registers than it needs.
    #[inline(never)]
    pub(super) fn take_ahead(
        &mut self,
        upstream: &mut Upstream,
        bytes: &[u8],
        piece: Piece,
        packet: Option<Packet>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let is_err = matches!(packet, Some(Packet::Err { .. }));
        match upstream.expected.first() {
            Some(Expected::ReadOut(residue)) => {
                let residue = residue.clone();
                residue.read(raw_of(upstream, bytes, piece));
                if upstream.walker.is_done() {
                    residue.end_reading(!is_err);
                }
                Ok(())
            }
            Some(Expected::Variables(_) | Expected::Programs(_)) => {
                take_knowledge(upstream, bytes, piece)
            }
            Some(Expected::Prepared(text)) => {
                if let Some(Packet::Prepared { id, params, .. }) = packet {
                    let text = text.clone();
                    self.add_prepared(upstream, text, id, upstream_out);
                    let statement = self.statements.find(self.op.statement);
                    // Other columns come with the rows, as on one connection after an ALTER; other
                    // parameters would be misread.
                    let same = statement.is_none_or(|s| s.params == params);
                    return if same { Ok(()) } else { Err(Fault::Unmovable) };
                }
                match packet {
                    Some(Packet::Err { errno }) => {
                        self.refuse_ahead(upstream, errno, bytes, piece, out)
                    }
                    _ => Ok(()),
                }
            }
            Some(Expected::Collation) if matches!(packet, Some(Packet::Ok { .. })) => {
                self.take_collation(upstream, bytes, piece);
                Ok(())
            }
            _ => match packet {
                Some(Packet::Err { errno }) => {
                    self.refuse_ahead(upstream, errno, bytes, piece, out)
                }
                Some(Packet::Ok { warnings, .. }) if warnings > 0 => {
                    upstream.left.note_conditions();
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    /// The server refused what went ahead: the client gets the server's own error in place of an
    /// answer. What was sent behind it all the same runs nothing, but for an EXECUTE and a text that may be several:
    /// their outcome is unknown then.
    fn refuse_ahead(
        &mut self,
        upstream: &mut Upstream,
        errno: u16,
        bytes: &[u8],
        piece: Piece,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let raw = raw_of(upstream, bytes, piece).to_vec();
        if self.is_refused_entry(upstream, errno, &raw) {
            return Ok(());
        }
        let gone = self.lose_schema(upstream, errno, &raw);
        let is_sent = self.op.is_sent;
        let is_execute = self.op.command == com::STMT_EXECUTE;
        let has_run = self.op.may_run_unmoved || is_execute && !self.runs_nothing(&[]);
        if is_sent && has_run {
            return Err(Fault::StateLost);
        }
        match gone {
            Gone::Here => return Ok(()),
            Gone::Elsewhere => {
                if is_sent {
                    out.bytes(&raw);
                }
                return Err(Fault::SchemaGone);
            }
            Gone::No => {}
        }
        let sequence = raw.get(3).copied().unwrap_or_default();
        if !self.explain_no_schema(errno, sequence, out) {
            out.bytes(&raw);
        }
        self.note_refused();
        Err(Fault::Refused)
    }

    /// The server's refusal of the session's state is the command's answer.
    pub(super) fn note_refused(&mut self) {
        self.op.outcome.errno = Some(0);
        self.left.refused();
    }

    /// After [`super::exchange::Progress::Done`], or after a command without a reply was sent.
    pub fn end(&mut self, upstream: &mut Upstream, upstream_out: &mut Vec<u8>) -> After {
        let Op {
            command,
            effects,
            outcome,
            ..
        } = &self.op;
        self.left
            .end(*command, effects, outcome, &mut upstream.left);
        if self.op.outcome.errno.is_none()
            && self.op.command != com::STMT_PREPARE
            && let Some(wanted) = self.op.trackers.take()
        {
            self.trackers = Some(wanted);
        }
        let is_prepared = self.op.command == com::STMT_PREPARE && self.op.outcome.errno.is_none();
        if is_prepared && upstream.baselines.is_mysql() {
            self.left.empty_list(&upstream.left);
        }
        if self.op.effects.defines && self.op.command != com::STMT_PREPARE {
            upstream.baselines.programs().doubt();
        }
        self.end_long_data(upstream, upstream_out);
        self.end_explanation();
        self.end_pins();
        upstream.is_suspect |= self.op.effects.has_unseen;
        upstream.is_spent |= self.op.effects.releases;
        if self
            .op
            .outcome
            .errno
            .is_some_and(|errno| FATAL_ERRNOS.contains(&errno))
        {
            return After::Discard;
        }
        if self.pins().is_empty() {
            while let Some(evicted) = upstream.prepared.evict(|_| false) {
                write_close(evicted, upstream_out);
            }
            After::Return
        } else {
            After::Keep
        }
    }

    /// An execution with long data was refused. It may be the data, and then the server refuses every
    /// other execution too, of any session: the statement is made anew.
    fn end_long_data(&self, upstream: &mut Upstream, upstream_out: &mut Vec<u8>) {
        if self.op.command != com::STMT_EXECUTE || self.op.outcome.errno.is_none() {
            return;
        }
        let statement = self.statements.get(self.op.statement);
        if statement.is_some_and(|s| s.has_long_data() && s.text.is_kept)
            && let Some(server_id) = upstream.prepared.remove(self.op.executed)
        {
            write_close(server_id, upstream_out);
        }
    }

    fn end_pins(&mut self) {
        let effects = self.op.effects;
        if matches!(self.op.command, com::STMT_EXECUTE | com::STMT_RESET) {
            self.statements.set_long_data(self.op.statement, false);
            if self.op.command == com::STMT_RESET || self.op.outcome.errno.is_some() {
                self.statements.set_cursor(self.op.statement, false);
            }
        }
        if effects.unlocks_tables && self.op.outcome.errno.is_none() {
            self.pins.remove(PinReason::LockTables);
        }
        // A status that says that a transaction is over does not say so: what SET TRANSACTION gave
        // outlives a deadlock and SET autocommit = 1 (seen on MariaDB 10.11).
        let has_run = self.op.outcome.status_seen && self.op.outcome.errno.is_none();
        if has_run && effects.ends_transaction && !self.is_in_transaction() {
            self.pins.remove(PinReason::NextTransaction);
        }
        self.pins = self.pins.and(effects.pins);
        if self.op.state_changed && !self.op.state_explained && effects.pins.is_empty() {
            self.pins.add(PinReason::Unknown);
        }
    }
}

/// A piece of what the server says about its globals, which hold as they were known if it says nothing, or
/// about its stored programs.
fn take_knowledge(upstream: &mut Upstream, bytes: &[u8], piece: Piece) -> Result<(), Fault> {
    let raw = match piece {
        Piece::Input { at, end } => bytes.get(at..end).unwrap_or_default(),
        Piece::Carried => upstream.walker.carried(),
    };
    match upstream.expected.first_mut() {
        Some(Expected::Variables(answer)) => {
            let is_over = answer.take(raw)?;
            if is_over {
                upstream.baselines.looked(answer);
            }
        }
        Some(Expected::Programs(asked)) => {
            let is_over = asked.answer.take(raw)?;
            if is_over {
                upstream.baselines.programs().learn(asked);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The bytes of a piece of the chunk `bytes`.
pub(super) fn raw_of<'a>(upstream: &'a Upstream, bytes: &'a [u8], piece: Piece) -> &'a [u8] {
    match piece {
        Piece::Input { at, end } => bytes.get(at..end).unwrap_or_default(),
        Piece::Carried => upstream.walker.carried(),
    }
}

#[inline]
pub(super) fn pass(upstream: &Upstream, piece: Piece, out: &mut Output) {
    match piece {
        Piece::Input { at, end } => out.input(at..end),
        Piece::Carried => out.bytes(upstream.walker.carried()),
    }
}

fn is_told(change: &Change<'_>, trackers: &Trackers) -> bool {
    match change {
        Change::SystemVariable { name, .. } => trackers.tells(name, TOLD_TO_CLIENTS),
        Change::Schema(_) => trackers.schema,
        Change::StateChanged(_) => trackers.state_change,
        // A server sends these to those who have asked for them.
        Change::Gtids(_) | Change::TransactionCharacteristics(_) | Change::TransactionState(_) => {
            true
        }
        Change::Other { .. } => false,
    }
}
