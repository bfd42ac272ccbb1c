//! The session with one logged-in client: its state, and what each of its commands needs.
//!
//! [`Session::accept`] looks at a command and says what to do; the part that runs on a leased
//! connection is in `exchange`. The session knows no socket and no pool.

use std::rc::Rc;
use std::sync::Arc;

use super::effects::{self, Effects, PinSet};
use super::left_behind::{LeftBehind, Look, Outcome, Settled, reframe};
use super::output::Output;
use super::schema_gone::Asked;
use super::state::Vector;
use super::statements::{Statement, Statements};
use super::text::{self, Collation, LexMode, Trackers};
use super::upstream::{Expected, Upstream};
use crate::base::codes::{self, Event};
use crate::base::pin::PinReason;
use crate::wire::mysql::command::Command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com, status};
use crate::wire::mysql::frame::HEADER_LEN;
use crate::wire::mysql::reply::Expect;
use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

/// What has to happen with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is answered, or needs no answer; whatever is to be sent is in the outputs.
    Answered,
    /// It needs an upstream connection, then [`Session::begin`].
    Lease {
        /// It reads what the last statement left: the connection that this session used last is
        /// better than any other.
        prefer_last: bool,
    },
    /// State that it reads is on its way: wait until [`Session::is_settled`], then accept again.
    Wait,
    /// The client wants a fresh session: discard the lease if there is one, then
    /// [`Session::reset`].
    Reset,
    /// The client says goodbye.
    Quit,
}

/// The command in progress.
#[derive(Debug, Default)]
pub(super) struct Op {
    /// The command byte.
    pub(super) command: u8,
    pub(super) effects: Effects,
    /// Downstream statement id of EXECUTE, FETCH, RESET and SEND_LONG_DATA.
    pub(super) statement: u32,
    /// The text of a PREPARE.
    pub(super) text: Option<Rc<super::statements::StatementText>>,
    /// What its reply has told.
    pub(super) outcome: Outcome,
    pub(super) warnings: u16,
    pub(super) state_changed: bool,
    pub(super) state_explained: bool,
    /// The command has been sent, or is part of what was written.
    pub(super) is_sent: bool,
    /// What the text says about the connection's collation.
    pub(super) collation: Collation,
    /// The server is asked for the session's schema, on a connection that may be in another one.
    pub(super) asks_for_schema: Option<Asked>,
    /// The server's refusal of the session's schema, an ERR packet's payload: the command runs on a
    /// connection without a schema.
    pub(super) refusal: Option<Rc<[u8]>>,
    /// That refusal is on the connection's list of conditions.
    pub(super) clears_conditions: bool,
    /// It was told in the place of the server's error.
    pub(super) explains: bool,
    /// The text to send in place of the client's.
    pub(super) instead: Option<Vec<u8>>,
    /// What the client wants to be told of, once the command has succeeded.
    pub(super) trackers: Option<Box<Trackers>>,
}

/// What a client's login settled.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// Unique on the node and never 0.
    pub owner: u64,
    /// The capabilities agreed on.
    pub capabilities: u32,
    /// The state that a login with these parameters gives.
    pub vector: Rc<Vector>,
    /// Bound of prepared statements.
    pub statements_max: usize,
    /// Where this core's sessions are told of what they wait for.
    pub settled: Rc<Settled>,
}

/// A logged-in client.
#[derive(Debug)]
pub struct Session {
    pub(super) capabilities: u32,
    pub(super) vector: Rc<Vector>,
    /// What `vector` means for reading SQL text; kept because every statement asks.
    lexing: LexMode,
    wait_timeout: Option<std::time::Duration>,
    login_vector: Rc<Vector>,
    pub(super) statements: Statements,
    statements_max: usize,
    /// Reasons that outlive a statement; transactions and the like are derived from `status`.
    pub(super) pins: PinSet,
    pub(super) status: u16,
    /// An ERR, which carries no status, came while `autocommit` is off: the statement may have
    /// opened a transaction all the same.
    pub(super) status_is_stale: bool,
    /// The sequence id of the last packet of the command in progress; the reply counts on from it.
    pub(super) command_sequence: u8,
    pub(super) op: Op,
    pub(super) left: LeftBehind,
    /// The session's schema has gone away on the server. Each command looks whether it is back.
    pub(super) schema_is_gone: bool,
    /// The last statement's error was told to be that.
    pub(super) has_explained: bool,
    /// The server's last word on that: an ERR packet's payload.
    pub(super) schema_refusal: Option<Rc<[u8]>>,
    /// What the client has asked to be told of, if that is not a server's default.
    pub(super) trackers: Option<Box<Trackers>>,
    /// The upstream account, if other clients use it too.
    pub(super) shared_account: Option<Arc<str>>,
}

impl Session {
    /// A session that has just logged in.
    pub fn new(facts: SessionFacts) -> Self {
        Self {
            capabilities: facts.capabilities,
            lexing: facts.vector.lex_mode(),
            wait_timeout: facts.vector.wait_timeout(),
            login_vector: facts.vector.clone(),
            vector: facts.vector,
            statements: Statements::default(),
            statements_max: facts.statements_max,
            pins: PinSet::EMPTY,
            status: status::AUTOCOMMIT,
            status_is_stale: false,
            command_sequence: 0,
            op: Op::default(),
            left: LeftBehind::new(facts.owner, facts.settled),
            schema_is_gone: false,
            has_explained: false,
            schema_refusal: None,
            trackers: None,
            shared_account: None,
        }
    }

    /// The number that marks this session's use of upstream connections.
    pub fn owner(&self) -> u64 {
        self.left.owner()
    }

    /// The session's state vector.
    pub fn vector(&self) -> &Rc<Vector> {
        &self.vector
    }

    /// Capabilities agreed on with the client.
    pub fn capabilities(&self) -> u32 {
        self.capabilities
    }

    /// What the text of the command in progress told.
    pub fn effects(&self) -> &Effects {
        &self.op.effects
    }

    /// Whether a failure in mid-exchange loses state, so that the client must be closed.
    pub fn is_in_transaction(&self) -> bool {
        self.status_is_stale || self.status & (status::IN_TRANS | status::IN_TRANS_READONLY) != 0
    }

    /// Whether the client waits for an answer to the command in progress.
    pub fn awaits_reply(&self) -> bool {
        !matches!(self.op.command, com::STMT_SEND_LONG_DATA | com::STMT_CLOSE)
    }

    /// Why the session must keep its connection now; empty if it may go back.
    pub fn pins(&self) -> PinSet {
        let mut pins = self.pins;
        if self.is_in_transaction() {
            pins.add(PinReason::Transaction);
        }
        if self.statements.any_cursor() {
            pins.add(PinReason::Cursor);
        }
        if self.statements.any_long_data() {
            pins.add(PinReason::LongData);
        }
        pins
    }

    /// How to read SQL text in the session's current state.
    pub(super) fn lex_mode(&self) -> LexMode {
        LexMode {
            ansi_quotes: self.lexing.ansi_quotes || self.status & status::ANSI_QUOTES != 0,
            no_backslash_escapes: self.status & status::NO_BACKSLASH_ESCAPES != 0,
            multibyte_unsafe: self.lexing.multibyte_unsafe,
        }
    }

    /// How long this client may be idle by its own `wait_timeout`, if it has set one.
    pub fn wait_timeout(&self) -> Option<std::time::Duration> {
        self.wait_timeout
    }

    /// Takes over another state, and what it means for reading SQL text.
    pub(super) fn set_vector(&mut self, vector: Rc<Vector>) {
        self.wait_timeout = vector.wait_timeout();
        self.lexing = vector.lex_mode();
        self.vector = vector;
    }

    /// Tells the sequence id of the command's last packet, once it is known. It differs from 0 for
    /// commands of 16 MiB and more only.
    pub fn set_command_sequence(&mut self, sequence: u8) {
        self.command_sequence = sequence;
    }

    /// Looks at a command. `payload` is the first packet's, as far as it was collected;
    /// `is_whole` says whether that is all. `held` is the leased connection, if there is one;
    /// bytes for it go to `upstream_out`.
    pub fn accept(
        &mut self,
        payload: &[u8],
        is_whole: bool,
        held: Option<&mut Upstream>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Next {
        let code = payload.first().copied();
        self.op = Op {
            command: code.unwrap_or_default(),
            ..Op::default()
        };
        self.command_sequence = 0;
        if !is_whole {
            return self.accept_long(payload, out);
        }
        let next = self.accept_whole(payload, held, out, upstream_out);
        match next {
            // Only the connection used last can tell what a later statement may ask for.
            Next::Lease { .. } if self.left.is_unknown() => Next::Lease { prefer_last: true },
            next => next,
        }
    }

    fn accept_whole(
        &mut self,
        payload: &[u8],
        held: Option<&mut Upstream>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Next {
        let code = payload.first();
        match Command::parse(payload) {
            Ok(Command::Quit) => Next::Quit,
            // A prepared statement may ask for the ROW_COUNT() that it sets, and after some errors
            // only the server knows whether it is in a transaction.
            Ok(Command::Ping)
                if self.pins.has(PinReason::StatementState) || self.status_is_stale =>
            {
                Next::Lease { prefer_last: true }
            }
            Ok(Command::Ping) => self.answer_ok(out),
            Ok(Command::ResetConnection) => Next::Reset,
            Ok(Command::InitDb(_)) => Next::Lease { prefer_last: false },
            Ok(Command::Query(sql)) => self.accept_query(sql, out),
            Ok(Command::StmtPrepare(sql)) => self.accept_prepare(sql, out),
            Ok(Command::StmtExecute(execute)) => {
                self.accept_statement(execute.statement, out, |_| true)
            }
            Ok(Command::StmtFetch { statement, .. }) => {
                self.accept_statement(statement, out, Statement::has_cursor)
            }
            Ok(Command::StmtSendLongData(chunk)) => self.accept_long_data(chunk.statement),
            Ok(Command::StmtReset(id)) => self.accept_statement_reset(id, held, out),
            Ok(Command::StmtClose(id)) => {
                self.close_statement(id, held, upstream_out);
                Next::Answered
            }
            Ok(
                Command::FieldList { .. }
                | Command::Statistics
                | Command::ProcessInfo
                | Command::ProcessKill(_)
                | Command::Debug
                | Command::ChangeUser(_)
                | Command::SetOption(_)
                | Command::StmtBulkExecute(_)
                | Command::Unknown(_),
            ) => self.refuse(Event::UnknownCommand, "", out),
            // An empty packet is no command; a body that does not fit its command is malformed.
            Err(_) if code.is_none() => self.refuse(Event::UnknownCommand, "", out),
            Err(_) => self.refuse(Event::MalformedCommand, "", out),
        }
    }

    /// A command too long to be looked at whole: its head decides.
    fn accept_long(&mut self, head: &[u8], out: &mut Output) -> Next {
        let id = || {
            head.get(1..5)
                .and_then(|id| id.first_chunk().copied())
                .map(u32::from_le_bytes)
        };
        match (self.op.command, id()) {
            (com::QUERY, _) => {
                let next = self.accept_query(head.get(1..).unwrap_or_default(), out);
                // The rest of the text was not seen.
                self.op.effects.is_read_only = false;
                self.overlook_set();
                next
            }
            (com::STMT_PREPARE, _) => self.refuse(Event::StatementTooLong, "", out),
            (com::STMT_EXECUTE, Some(id)) => self.accept_statement(id, out, |_| true),
            (com::STMT_SEND_LONG_DATA, Some(id)) => self.accept_long_data(id),
            _ => self.refuse(Event::MalformedCommand, "", out),
        }
    }

    fn accept_query(&mut self, sql: &[u8], out: &mut Output) -> Next {
        if sql.is_empty() {
            return self.refuse(Event::EmptyQuery, "", out);
        }
        self.op.effects = effects::of_text(sql, self.lex_mode());
        if self.op.effects.kills {
            // Its number is the gateway's or anybody's: on the server it could be a stranger's.
            return self.refuse(Event::KillRefused, "", out);
        }
        if self.changes_shared_account(sql) {
            return self.refuse(Event::SharedAccount, "", out);
        }
        self.look_at_set(sql);
        self.accept_reading(sql, out)
    }

    /// A statement that may read what the one before left behind.
    fn accept_reading(&mut self, sql: &[u8], out: &mut Output) -> Next {
        if !self.op.effects.reads_last_statement() {
            return Next::Lease { prefer_last: false };
        }
        match self.left.look(&self.op.effects) {
            Look::Readable => Next::Lease { prefer_last: true },
            Look::OnItsWay => Next::Wait,
            Look::Lost => self.refuse(Event::LastStatementLost, "", out),
            // An EXECUTE would want its rows in the binary form.
            Look::Kept(reply) if self.op.command == com::QUERY && text::is_show_warnings(sql) => {
                self.show_kept(&reply, out)
            }
            Look::Kept(_) => self.refuse(Event::DiagnosticsMoved, "", out),
        }
    }

    /// Answers SHOW WARNINGS with what a server has said to another session's lease.
    fn show_kept(&mut self, reply: &[u8], out: &mut Output) -> Next {
        let (capabilities, status) = (self.capabilities, self.visible_status());
        let written = out.write(|own| reframe(reply, capabilities, status, own));
        match written {
            Some(()) => {
                self.left.note_row_count(-1);
                Next::Answered
            }
            None => self.refuse(Event::DiagnosticsMoved, "", out),
        }
    }

    fn accept_prepare(&mut self, sql: &[u8], out: &mut Output) -> Next {
        if self.statements.len() >= self.statements_max {
            return self.refuse(Event::TooManyStatements, "", out);
        }
        self.op.effects = effects::of_text(sql, self.lex_mode());
        if self.changes_shared_account(sql) {
            return self.refuse(Event::SharedAccount, "", out);
        }
        self.look_at_set(sql);
        Next::Lease { prefer_last: false }
    }

    fn accept_statement(
        &mut self,
        id: u32,
        out: &mut Output,
        may: impl FnOnce(&Statement) -> bool,
    ) -> Next {
        let id = self.statements.resolve(id);
        self.op.statement = id;
        let Some(statement) = self.statements.find(id).filter(|statement| may(statement)) else {
            return self.refuse(Event::UnknownStatement, "", out);
        };
        self.op.effects = statement.effects;
        let effects = &self.op.effects;
        if !effects.is_set && !effects.reads_last_statement() {
            return Next::Lease { prefer_last: false };
        }
        let text = statement.text.clone();
        self.look_at_set(&text.sql);
        // Where one was to be sent in its place, that was prepared.
        self.op.instead = None;
        self.accept_reading(&text.sql, out)
    }

    /// SEND_LONG_DATA has no reply: what is wrong with it shows at the EXECUTE (trap 10).
    fn accept_long_data(&mut self, id: u32) -> Next {
        let id = self.statements.resolve(id);
        self.op.statement = id;
        if self.statements.find(id).is_none() {
            return Next::Answered;
        }
        self.statements.set_long_data(id, true);
        Next::Lease { prefer_last: false }
    }

    /// Only a cursor or long data on the held connection has anything to reset.
    fn accept_statement_reset(
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
            || self.pins.has(PinReason::StatementState)
            || self.status_is_stale;
        if held.is_some() && has_state {
            return Next::Lease { prefer_last: true };
        }
        self.answer_ok(out)
    }

    /// Closes a statement; on the held connection for real if it has state there.
    fn close_statement(
        &mut self,
        id: u32,
        held: Option<&mut Upstream>,
        upstream_out: &mut Vec<u8>,
    ) {
        let id = self.statements.resolve(id);
        let Some(statement) = self.statements.find(id) else {
            return;
        };
        let has_state = statement.has_cursor() || statement.has_long_data();
        let Some(statement) = self.statements.remove(id) else {
            return;
        };
        if has_state
            && let Some(upstream) = held
            && let Some(server_id) = upstream.prepared.remove(statement.text.key)
        {
            write_close(server_id, upstream_out);
        }
    }

    /// The state of a session that has just logged in, but for the schema, which stays
    /// (MySQL manual, "mysql_reset_connection()"). The reply is in `out`.
    pub fn reset(&mut self, out: &mut Output) {
        let schema = self.vector.schema().unwrap_or_default();
        let vector = if self.login_vector.schema().unwrap_or_default() == schema {
            self.login_vector.clone()
        } else {
            Rc::new(self.login_vector.with_schema(schema))
        };
        self.set_vector(vector);
        self.status = 0;
        self.lose_lease();
        self.statements.clear();
        self.left.reset();
        self.trackers = None;
        self.schema_is_gone = false;
        self.answer_ok(out);
    }

    /// The leased connection is gone, and all that lived on it.
    pub fn lose_lease(&mut self) {
        self.pins = PinSet::EMPTY;
        self.status_is_stale = false;
        // How text is read goes with the session, not with the connection.
        self.status &= status::NO_BACKSLASH_ESCAPES | status::ANSI_QUOTES;
        if !self.vector.is_autocommit_off() {
            self.status |= status::AUTOCOMMIT;
        }
    }

    /// The command in progress is answered with an error of the gateway's own.
    pub fn told(&mut self, event: Event) {
        self.left.told(event, &self.op.effects);
    }

    /// Whether nothing that this session may read is on its way.
    pub fn is_settled(&self) -> bool {
        self.left.is_settled()
    }

    /// Has the session's number put into [`SessionFacts::settled`] when something that is on its way
    /// now no longer is: then look again.
    pub fn await_settled(&self) {
        self.left.await_settled();
    }

    /// The reply that the command in progress expects of the server; `None` if it has none.
    pub(super) fn expected_reply(&self) -> Option<Expected> {
        Some(Expected::Main(match self.op.command {
            com::STMT_PREPARE => Expect::Prepare,
            com::STMT_FETCH => Expect::Rows,
            com::INIT_DB | com::STMT_RESET => Expect::Ok,
            com::STMT_SEND_LONG_DATA => return None,
            _ => Expect::Results,
        }))
    }

    /// Answers with OK, which as from the server sets ROW_COUNT().
    fn answer_ok(&mut self, out: &mut Output) -> Next {
        self.left.note_row_count(0);
        let ok = OkPacket {
            status: self.visible_status(),
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        out.write(|own| packet(own, 1, |own| encode_ok(own, capabilities, &ok)));
        Next::Answered
    }

    fn visible_status(&self) -> u16 {
        self.status
            & (status::IN_TRANS
                | status::IN_TRANS_READONLY
                | status::AUTOCOMMIT
                | status::NO_BACKSLASH_ESCAPES
                | status::ANSI_QUOTES)
    }

    fn refuse(&mut self, event: Event, detail: &str, out: &mut Output) -> Next {
        let has_reply = !matches!(self.op.command, com::STMT_SEND_LONG_DATA | com::STMT_CLOSE);
        if has_reply {
            write_event(event, detail, self.owner(), 1, out);
            self.told(event);
        }
        Next::Answered
    }

    /// Whether the client has agreed on `capability`.
    pub(super) fn has(&self, capability: u32) -> bool {
        self.capabilities & capability != 0
    }

    /// Whether legacy EOFs must be taken out of `upstream`'s replies.
    pub(super) fn drops_eof(&self, upstream: &Upstream) -> bool {
        self.has(caps::DEPRECATE_EOF) && !upstream.deprecates_eof
    }
}

/// Appends the ERR packet that the code policy gives for `event`.
pub fn write_event(event: Event, detail: &str, id: u64, sequence: u8, out: &mut Output) {
    let code = codes::code(event);
    let message = codes::message(event, detail, id);
    let err = ErrPacket {
        errno: code.errno,
        sqlstate: Some(code.sqlstate),
        message: message.as_bytes(),
    };
    out.write(|own| packet(own, sequence, |own| encode_err(own, &err)));
}

pub(super) fn write_close(server_id: u32, out: &mut Vec<u8>) {
    packet(out, 0, |out| {
        crate::wire::mysql::command::encode_statement_command(out, com::STMT_CLOSE, server_id);
    });
}

/// The payload of a command's first packet.
pub(super) fn payload_of(command: &[u8]) -> &[u8] {
    command.get(HEADER_LEN..).unwrap_or_default()
}
