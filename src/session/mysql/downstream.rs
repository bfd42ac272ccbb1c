//! The session with one logged-in client: its state, and what each of its commands needs.
//!
//! [`Session::accept`] looks at a command and says what to do; the part that runs on a leased
//! connection is in `exchange`. The session knows no socket and no pool.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::after_reset::Since;
use super::beginning::Newest;
use super::effects::{self, Effects, PinSet};
use super::end_packets::FirstRow;
use super::execute_body::Types;
use super::left_behind::{LeftBehind, Look, Outcome, Settled, reframe};
use super::output::Output;
use super::regrown::Regrown;
use super::schema_gone::Asked;
use super::state::Vector;
use super::statements::Statements;
use super::text::{self, Collation, LexMode, Trackers};
use super::upstream::{Expected, Upstream};
use crate::base::clock::Now;
use crate::base::codes::{self, Event};
use crate::base::pin::PinReason;
use crate::wire::mysql::command::Command;
use crate::wire::mysql::cursor::{Reader, packet};
use crate::wire::mysql::flags::{caps, com, status};
use crate::wire::mysql::frame::HEADER_LEN;
use crate::wire::mysql::reply::Expect;
use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

/// The longest PREPARE, header included, whose text is kept so that any connection can be given it:
/// 65,535 parameters and as much again. A longer one keeps the connection that it was prepared on.
const KEPT_LEN_MAX: usize = 512 * 1024;

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
    /// Its head does not tell enough: collect this much of it, header included, or all that it has,
    /// then accept again.
    More(usize),
    /// State that it reads is on its way: wait until [`Session::is_settled`], then accept again.
    Wait,
    /// The client wants a fresh session: what it did on the lease, if there is one, is to be undone, then
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
    /// Of EXECUTE: it asks for a cursor.
    pub(super) wants_cursor: bool,
    /// Of EXECUTE: what its body says of types.
    pub(super) types: Types,
    /// Of EXECUTE: the key of the text that is executed upstream.
    pub(super) executed: u64,
    /// What moves the packet boundaries of a long EXECUTE that was given types.
    pub(super) regrown: Option<Box<Regrown>>,
    /// How the text of a PREPARE is read.
    pub(super) mode: LexMode,
    /// The text of a PREPARE.
    pub(super) text: Option<Rc<super::statements::StatementText>>,
    /// What its reply has told.
    pub(super) outcome: Outcome,
    pub(super) warnings: u16,
    pub(super) state_changed: bool,
    pub(super) state_explained: bool,
    /// Packets that the command has upstream and had not downstream.
    pub(super) packets_more: u8,
    /// The command has been sent, or is part of what was written.
    pub(super) is_sent: bool,
    /// The session's LAST_INSERT_ID() was given to the connection, or is on its way.
    pub(super) has_moved_id: bool,
    /// What the text says about the connection's collation.
    pub(super) collation: Collation,
    /// The server was asked for the connection's collation ahead of it.
    pub(super) has_asked_for_collation: bool,
    /// None of the client's: the server is asked whether it lets the session into its schema.
    pub(super) is_entry: bool,
    /// The server is asked for the session's schema, on a connection that may be in another one.
    pub(super) asks_for_schema: Option<Asked>,
    /// The server's refusal of the session's schema, an ERR packet's payload: the command runs on a
    /// connection without a schema.
    pub(super) refusal: Option<Rc<[u8]>>,
    /// That refusal is on the connection's list of conditions.
    pub(super) clears_conditions: bool,
    /// It was told in the place of the server's error.
    pub(super) explains: bool,
    /// Its text was read in another way than the server will, as the session's settings were not known.
    pub(super) is_misread: bool,
    /// It runs even if the server should refuse what goes ahead of it.
    pub(super) may_run_unmoved: bool,
    /// The text to send in place of the client's.
    pub(super) instead: Option<Vec<u8>>,
    /// The server was asked for its stored programs ahead of it.
    pub(super) has_asked: bool,
    /// What is held back of its reply.
    pub(super) first_row: Option<Box<FirstRow>>,
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
    pub(super) login_vector: Rc<Vector>,
    /// What `vector` goes back to, where its baseline is not known yet.
    pub(super) since: Since,
    /// What is known of logins where its statements run.
    pub(super) newest: Option<Rc<Newest>>,
    pub(super) statements: Statements,
    pub(super) statements_max: usize,
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
    /// When the command in progress came to its connection.
    pub(super) began_at: Now,
    /// The number that errors of the gateway's own carry: that of the client's connection.
    pub(super) client: u32,
    /// The last one that the client was told, for the log.
    pub(super) said: Option<Event>,
    /// For the log too: the ERR with which a server has just refused the session's state. A payload.
    pub(super) refused: Option<Rc<[u8]>>,
}

impl Session {
    /// A session that has just logged in.
    pub fn new(facts: SessionFacts) -> Self {
        Self {
            capabilities: facts.capabilities,
            lexing: facts.vector.lex_mode(),
            wait_timeout: facts.vector.wait_timeout(),
            login_vector: facts.vector.clone(),
            since: Since::Login,
            newest: None,
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
            began_at: Now::default(),
            client: 0,
            said: None,
            refused: None,
        }
    }

    /// The number that marks this session's use of upstream connections.
    pub fn owner(&self) -> u64 {
        self.left.owner()
    }

    /// The number that its errors carry.
    pub(super) fn number(&self) -> u64 {
        u64::from(self.client)
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
        if self.statements.any_unkept() {
            pins.add(PinReason::LongStatement);
        }
        pins
    }

    /// How to read SQL text in the session's current state.
    pub(super) fn lex_mode(&self) -> LexMode {
        LexMode {
            ansi_quotes: self.lexing.ansi_quotes || self.status & status::ANSI_QUOTES != 0,
            no_backslash_escapes: self.lexing.no_backslash_escapes
                || self.status & status::NO_BACKSLASH_ESCAPES != 0,
            cut: self.lexing.cut,
            takes_several: self.op.command == com::QUERY && self.has(caps::MULTI_STATEMENTS),
            is_unsure: !self.pins.is_empty() && self.is_reading_unsure(),
        }
    }

    /// How long this client may be idle by its own `wait_timeout`, if it has set one.
    pub fn wait_timeout(&self) -> Option<std::time::Duration> {
        self.wait_timeout
    }

    /// Tells the time of an attempt that is about to begin.
    pub fn begins_at(&mut self, now: Now) {
        self.began_at = now;
    }

    /// Takes over another state, and what it means for reading SQL text.
    pub(super) fn set_vector(&mut self, vector: Rc<Vector>) {
        self.wait_timeout = vector.wait_timeout();
        self.lexing = vector.lex_mode();
        self.vector = vector;
    }

    /// The next `input[range]` of a long command, as it goes to the upstream.
    pub fn stream(&mut self, input: &[u8], range: Range<usize>, out: &mut Output) {
        match &mut self.op.regrown {
            None => out.input(range),
            Some(regrown) => regrown.push(input, range, out),
        }
    }

    /// A long command has been streamed to its end: tells the sequence id of its last packet, which
    /// differs from 0 for commands of 16 MiB and more only.
    pub fn end_stream(&mut self, sequence: u8) {
        self.command_sequence = sequence;
        let sent = self.op.regrown.take();
        let sent = sent.map_or(sequence, |regrown| regrown.last_sequence());
        self.op.packets_more = sent.wrapping_sub(sequence);
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
            return self.accept_long(payload, held, out, upstream_out);
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
            Ok(Command::Ping) if self.only_the_server_knows() => Next::Lease { prefer_last: true },
            Ok(Command::Ping) => self.answer_ok(out),
            Ok(Command::ResetConnection) => Next::Reset,
            Ok(Command::InitDb(_)) => Next::Lease { prefer_last: false },
            Ok(Command::SetOption(option)) => self.accept_set_option(option, out),
            Ok(Command::Query(sql)) => self.accept_query(sql, true, out),
            Ok(Command::StmtPrepare(sql)) => self.accept_prepare(sql, true, out),
            Ok(Command::StmtExecute(execute)) => {
                self.accept_execute(execute.statement, payload, true, held, out, upstream_out)
            }
            Ok(Command::StmtFetch { statement, .. }) => self.accept_fetch(statement, out),
            Ok(Command::StmtSendLongData(chunk)) => {
                self.accept_long_data(chunk.statement, chunk.parameter)
            }
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
                | Command::StmtBulkExecute(_)
                | Command::Unknown(_),
            ) => self.refuse(Event::UnknownCommand, "", out),
            // An empty packet is no command; a body that does not fit its command is malformed.
            Err(_) if code.is_none() => self.refuse(Event::UnknownCommand, "", out),
            Err(_) => self.refuse(Event::MalformedCommand, "", out),
        }
    }

    /// A command too long to be looked at whole: its head decides.
    fn accept_long(
        &mut self,
        head: &[u8],
        held: Option<&mut Upstream>,
        out: &mut Output,
        upstream_out: &mut Vec<u8>,
    ) -> Next {
        let mut body = Reader::new(head.get(1..).unwrap_or_default());
        match (self.op.command, body.u32()) {
            (com::QUERY, _) => self.accept_query(head.get(1..).unwrap_or_default(), false, out),
            (com::STMT_PREPARE, _) if head.len().saturating_add(HEADER_LEN) < KEPT_LEN_MAX => {
                Next::More(KEPT_LEN_MAX)
            }
            (com::STMT_PREPARE, _) => {
                self.accept_prepare(head.get(1..).unwrap_or_default(), false, out)
            }
            (com::STMT_EXECUTE, Ok(id)) => {
                self.accept_execute(id, head, false, held, out, upstream_out)
            }
            (com::STMT_SEND_LONG_DATA, Ok(id)) => match body.u16() {
                Ok(parameter) => self.accept_long_data(id, parameter),
                Err(_) => self.refuse(Event::MalformedCommand, "", out),
            },
            _ => self.refuse(Event::MalformedCommand, "", out),
        }
    }

    /// A prepared statement may ask for the ROW_COUNT() that a command without a text sets, and after some errors
    /// only the server knows whether it is in a transaction.
    pub(super) fn only_the_server_knows(&self) -> bool {
        self.pins.has(PinReason::StatementState) || self.status_is_stale
    }

    fn accept_query(&mut self, sql: &[u8], is_whole: bool, out: &mut Output) -> Next {
        if sql.is_empty() {
            return self.refuse(Event::EmptyQuery, "", out);
        }
        self.op.effects = effects::of_text(sql, self.lex_mode());
        if let Some(event) = self.refusal_of(sql) {
            return self.refuse(event, "", out);
        }
        self.look_at_set(sql, self.lex_mode());
        if !is_whole {
            if self.op.effects.is_blank {
                return self.refuse(Event::StatementUnseen, "", out);
            }
            self.op.effects.overlook_rest();
            self.overlook_set();
        }
        self.accept_reading(sql, out)
    }

    /// A statement that may read what the one before left behind.
    pub(super) fn accept_reading(&mut self, sql: &[u8], out: &mut Output) -> Next {
        if !self.op.effects.reads_last_statement() {
            return Next::Lease { prefer_last: false };
        }
        let mut effects = self.op.effects;
        let reads_refusal = self.reads_refusal();
        // Whatever list there is, the server is to make another.
        effects.reads_conditions &= !(reads_refusal && self.schema_is_gone && self.pins.is_empty());
        match self.left.look(&effects) {
            _ if reads_refusal && !self.schema_is_gone => {
                self.refuse(Event::LastStatementLost, "", out)
            }
            Look::Readable => Next::Lease { prefer_last: true },
            Look::OnItsWay => Next::Wait,
            Look::Lost => self.refuse(Event::LastStatementLost, "", out),
            Look::Kept(_) if reads_refusal => self.refuse(Event::LastStatementLost, "", out),
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

    /// The leased connection is gone, and all that lived on it.
    pub fn lose_lease(&mut self) {
        self.pins = PinSet::EMPTY;
        self.op.has_moved_id = false;
        self.status_is_stale = false;
        // How text is read goes with the session, not with the connection.
        self.status &= status::NO_BACKSLASH_ESCAPES | status::ANSI_QUOTES;
        if !self.vector.is_autocommit_off() {
            self.status |= status::AUTOCOMMIT;
        }
    }

    /// The command in progress is answered with an error of the gateway's own.
    pub fn told(&mut self, event: Event) {
        self.said = Some(event);
        self.left.told(event, &self.op.effects);
        if std::mem::take(&mut self.has_explained) {
            // The server's list is that of an error in whose place the client was told another.
            self.left.lose_conditions();
        }
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
    #[inline]
    pub(super) fn expected_reply(&self) -> Option<Expected> {
        Some(Expected::Main(match self.op.command {
            com::STMT_PREPARE => Expect::Prepare,
            com::STMT_FETCH => Expect::Rows,
            com::INIT_DB | com::STMT_RESET | com::SET_OPTION => Expect::Ok,
            com::STMT_EXECUTE if self.op.wants_cursor => Expect::ResultsOrCursor,
            com::STMT_SEND_LONG_DATA => return None,
            _ => Expect::Results,
        }))
    }

    /// Answers with OK, which as from the server sets ROW_COUNT().
    pub(super) fn answer_ok(&mut self, out: &mut Output) -> Next {
        self.left.note_row_count(0);
        let ok = OkPacket {
            status: self.visible_status(),
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        out.write(|own| packet(own, 1, |own| encode_ok(own, capabilities, &ok)));
        Next::Answered
    }

    /// The status flags that the gateway's own packets tell.
    pub fn visible_status(&self) -> u16 {
        self.status
            & (status::IN_TRANS
                | status::IN_TRANS_READONLY
                | status::AUTOCOMMIT
                | status::NO_BACKSLASH_ESCAPES
                | status::ANSI_QUOTES)
    }

    pub(super) fn refuse(&mut self, event: Event, detail: &str, out: &mut Output) -> Next {
        let has_reply = !matches!(self.op.command, com::STMT_SEND_LONG_DATA | com::STMT_CLOSE);
        if has_reply {
            write_event(event, detail, self.number(), 1, out);
            self.told(event);
        }
        Next::Answered
    }

    /// Whether the client has agreed on `capability`.
    pub(super) fn has(&self, capability: u32) -> bool {
        self.capabilities & capability != 0
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
