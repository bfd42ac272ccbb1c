//! One MySQL connection of the generator: bytes in, events out; no socket, no clock.
//!
//! It logs in, prepares what its group executes, and then runs one operation after another. A
//! transaction is several statements and one operation.

use std::sync::Arc;

use super::keys::{Drawn, Keys};
use super::record::Failure;
use super::scenario::{Expectation, Operation, Statement};
use crate::session::mysql::connect::{Connect, ConnectConfig, ConnectErrorKind, ConnectStep};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::{begin_packet, finish_packet, packet, put_lenenc_bytes};
use crate::wire::mysql::flags::{caps, column_type, com};
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::reply::{Expect, Packet, ReplyWalker, Step};
use crate::wire::mysql::response::decode_err;

use super::answer::Answer;
use super::dialogue::{Broken, Event};

/// Capabilities wanted: what sysbench's client library asks for, and no end-of-columns packet.
const CAPS: u32 = caps::LONG_PASSWORD
    | caps::LONG_FLAG
    | caps::MULTI_STATEMENTS
    | caps::MULTI_RESULTS
    | caps::PS_MULTI_RESULTS
    | caps::DEPRECATE_EOF;

/// The longest packet of a login that is collected.
const LOGIN_PACKET_MAX: usize = 64 * 1024;

enum Stage {
    Login {
        connect: Box<Connect>,
        partial: Vec<u8>,
    },
    /// The statement with this index is being prepared.
    Preparing(usize),
    Idle,
    /// The statement with this index is being answered.
    Running(usize),
    /// ROLLBACK after an error within a transaction.
    RollingBack(Failure),
}

/// What a group's connections have in common.
#[derive(Debug)]
pub struct Program {
    login: Arc<ConnectConfig>,
    commands: Vec<Command>,
    expect: Option<Expectation>,
}

#[derive(Debug)]
enum Command {
    Text {
        /// The text around its arguments.
        parts: Vec<String>,
    },
    Prepared {
        sql: String,
        arguments: usize,
    },
    Ping,
}

impl Program {
    /// The program of a group that runs `operation` after a login with `login`. `expect` is what
    /// answers are compared with, if they are.
    pub fn new(
        mut login: ConnectConfig,
        operation: &Operation,
        expect: Option<Expectation>,
    ) -> Self {
        login.caps_wanted = CAPS;
        let text = |statement: &Statement| Command::Text {
            parts: statement.sql.split('?').map(str::to_owned).collect(),
        };
        let commands = match operation {
            Operation::Text(statement) => vec![text(statement)],
            Operation::Prepared(statement) => vec![Command::Prepared {
                sql: statement.sql.clone(),
                arguments: statement.arguments.len(),
            }],
            Operation::Transaction(statements) => statements.iter().map(text).collect(),
            Operation::Ping => vec![Command::Ping],
            Operation::Connect | Operation::Hold | Operation::Request(_) => Vec::new(),
        };
        Self {
            login: Arc::new(login),
            commands,
            expect,
        }
    }
}

/// One connection.
pub struct MySql {
    program: std::rc::Rc<Program>,
    stage: Stage,
    walker: ReplyWalker,
    /// The server's statement ids, by command; 0 for what is not prepared.
    prepared: Vec<u32>,
    /// Whether an EXECUTE has told the types of the parameters, by command.
    bound: Vec<bool>,
    keys: Keys,
    /// The index in `keys` of the running command's first argument.
    first_key: usize,
    errno: Option<u16>,
    /// The last error that differs from the one before, with its text.
    said: Option<(u16, String)>,
    answer: Answer,
}

impl MySql {
    /// A connection that waits for the server's greeting.
    pub fn new(program: std::rc::Rc<Program>, keys: Keys) -> Self {
        let connect = Box::new(Connect::new(Arc::clone(&program.login)));
        let commands = program.commands.len();
        Self {
            stage: Stage::Login {
                connect,
                partial: Vec::new(),
            },
            walker: ReplyWalker::new(true),
            prepared: vec![0; commands],
            bound: vec![false; commands],
            keys,
            first_key: 0,
            errno: None,
            said: None,
            answer: Answer::new(program.expect.clone()),
            program,
        }
    }

    /// Begins the next operation; appends what to send.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.first_key = 0;
        self.errno = None;
        self.answer.begin();
        self.run(0, out);
    }

    fn run(&mut self, index: usize, out: &mut Vec<u8>) {
        let program = std::rc::Rc::clone(&self.program);
        let Some(command) = program.commands.get(index) else {
            self.stage = Stage::Idle;
            return;
        };
        let expect = match command {
            Command::Ping => {
                packet(out, 0, |out| out.push(com::PING));
                Expect::Ok
            }
            Command::Text { parts } => {
                self.put_text(parts, out);
                Expect::Results
            }
            Command::Prepared { arguments, .. } => {
                self.put_execute(index, *arguments, out);
                Expect::Results
            }
        };
        self.walker.start(expect, 0);
        self.stage = Stage::Running(index);
    }

    fn put_text(&mut self, parts: &[String], out: &mut Vec<u8>) {
        let start = begin_packet(out);
        out.push(com::QUERY);
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                let argument = self.keys.draw(self.first_key + at - 1);
                self.answer.note(at, &argument);
                put_literal(&argument, out);
            }
            out.extend_from_slice(part.as_bytes());
        }
        finish_packet(out, start, 0);
        self.first_key += parts.len().saturating_sub(1);
    }

    /// COM_STMT_EXECUTE; parameters are LONGLONG or VAR_STRING and never NULL.
    fn put_execute(&mut self, index: usize, arguments: usize, out: &mut Vec<u8>) {
        let id = self.prepared.get(index).copied().unwrap_or_default();
        let start = begin_packet(out);
        out.push(com::STMT_EXECUTE);
        out.extend_from_slice(&id.to_le_bytes());
        // No cursor; one iteration.
        out.extend_from_slice(&[0, 1, 0, 0, 0]);
        if arguments > 0 {
            out.resize(out.len() + arguments.div_ceil(8), 0);
            let is_bound = self
                .bound
                .get_mut(index)
                .is_some_and(|bound| std::mem::replace(bound, true));
            out.push(u8::from(!is_bound));
            let mut values = Vec::new();
            for at in 0..arguments {
                let argument = self.keys.draw(at);
                self.answer.note(at + 1, &argument);
                match argument {
                    Drawn::Number(number) => {
                        if !is_bound {
                            out.extend_from_slice(&[column_type::LONGLONG, 0]);
                        }
                        values.extend_from_slice(&number.to_le_bytes());
                    }
                    Drawn::Text(text) => {
                        if !is_bound {
                            out.extend_from_slice(&[column_type::VAR_STRING, 0]);
                        }
                        put_lenenc_bytes(&mut values, text.as_bytes());
                    }
                }
            }
            out.extend_from_slice(&values);
        }
        finish_packet(out, start, 0);
    }

    /// Takes in bytes; appends what to send.
    ///
    /// # Errors
    /// [`Broken`]: the connection must be closed.
    pub fn on_bytes(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Event, Broken> {
        match &mut self.stage {
            Stage::Login { connect, partial } => {
                partial.extend_from_slice(bytes);
                match login(connect, partial, out)? {
                    true => Ok(self.prepare(0, out)),
                    false => Ok(Event::More),
                }
            }
            Stage::Idle => Err(Broken::new(
                Failure::Protocol,
                "the server spoke without being asked",
            )),
            Stage::Preparing(_) | Stage::Running(_) | Stage::RollingBack(_) => {
                self.walk(bytes, out)
            }
        }
    }

    /// What the last operation was refused with.
    pub(super) fn said(&self) -> String {
        let said = self.said.as_ref();
        said.map_or_else(String::new, |(_, text)| text.clone())
    }

    /// Prepares the first statement at `index` or after it that wants to be.
    fn prepare(&mut self, mut index: usize, out: &mut Vec<u8>) -> Event {
        loop {
            match self.program.commands.get(index) {
                None => {
                    self.stage = Stage::Idle;
                    return Event::Ready;
                }
                Some(Command::Prepared { sql, .. }) => {
                    packet(out, 0, |out| {
                        encode_text_command(out, com::STMT_PREPARE, sql.as_bytes());
                    });
                    self.walker.start(Expect::Prepare, 0);
                    self.stage = Stage::Preparing(index);
                    return Event::More;
                }
                Some(_) => index += 1,
            }
        }
    }

    fn walk(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Event, Broken> {
        self.answer.collect(bytes);
        let mut at = 0;
        loop {
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let (used, packet) = match self.walker.step(rest) {
                Ok(Step::Starved) => return Ok(Event::More),
                Ok(Step::Pass(n) | Step::PassCarried(n)) => (n, None),
                Ok(Step::Packet(n, packet) | Step::PacketCarried(n, packet)) => (n, Some(packet)),
                Err(error) => return Err(Broken::new(Failure::Protocol, format!("{error:?}"))),
            };
            at += used;
            match packet {
                Some(Packet::Err { errno }) => {
                    self.errno = Some(errno);
                    if self.said.as_ref().is_none_or(|(known, _)| *known != errno) {
                        let packet = bytes.get(at - used..at).unwrap_or_default();
                        self.said = Some((errno, message(packet)));
                    }
                }
                Some(Packet::Prepared { id, .. }) => {
                    if let Stage::Preparing(index) = self.stage
                        && let Some(slot) = self.prepared.get_mut(index)
                    {
                        *slot = id;
                    }
                }
                _ => {}
            }
            if self.walker.is_done() {
                if at < bytes.len() {
                    let why = "bytes after the end of the answer";
                    return Err(Broken::new(Failure::Protocol, why));
                }
                return self.end_of_reply(out);
            }
        }
    }

    fn end_of_reply(&mut self, out: &mut Vec<u8>) -> Result<Event, Broken> {
        match self.stage {
            Stage::Preparing(index) => match self.errno {
                Some(errno) => Err(Broken::new(
                    Failure::of_errno(errno),
                    format!("the statement cannot be prepared: error {errno}"),
                )),
                None => Ok(self.prepare(index + 1, out)),
            },
            Stage::RollingBack(failure) => {
                self.stage = Stage::Idle;
                Ok(Event::Refused(failure))
            }
            Stage::Running(index) => Ok(self.end_of_command(index, out)),
            Stage::Login { .. } | Stage::Idle => Ok(Event::More),
        }
    }

    fn end_of_command(&mut self, index: usize, out: &mut Vec<u8>) -> Event {
        let is_last = index + 1 == self.program.commands.len();
        if let Some(errno) = self.errno.take() {
            let failure = Failure::of_errno(errno);
            if self.program.commands.len() > 1 {
                packet(out, 0, |out| {
                    encode_text_command(out, com::QUERY, b"ROLLBACK");
                });
                self.walker.start(Expect::Results, 0);
                self.stage = Stage::RollingBack(failure);
                return Event::More;
            }
            self.stage = Stage::Idle;
            return Event::Refused(failure);
        }
        if !is_last {
            self.run(index + 1, out);
            return Event::More;
        }
        self.stage = Stage::Idle;
        let is_binary = matches!(
            self.program.commands.get(index),
            Some(Command::Prepared { .. })
        );
        match self.answer.is_right(self.walker.rows(), is_binary) {
            true => Event::Done,
            false => Event::Wrong,
        }
    }
}

/// Feeds a login with what has come; whether it is over.
fn login(connect: &mut Connect, partial: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool, Broken> {
    loop {
        let Some(header) = Header::parse(partial) else {
            return Ok(false);
        };
        if header.len > LOGIN_PACKET_MAX {
            return Err(Broken::new(
                Failure::Protocol,
                "the server is no MySQL server",
            ));
        }
        let end = HEADER_LEN + header.len;
        let Some(payload) = partial.get(HEADER_LEN..end) else {
            return Ok(false);
        };
        let step = connect.on_packet(header.seq, payload, out);
        let step = step.map_err(|error| {
            let failure = match error.kind {
                ConnectErrorKind::TooMany(_) => Failure::Refused,
                ConnectErrorKind::Protocol => Failure::Protocol,
                _ => Failure::Login,
            };
            Broken::new(failure, error.to_string())
        })?;
        partial.drain(..end);
        if let ConnectStep::Done(facts) = step {
            if facts.caps & caps::DEPRECATE_EOF == 0 {
                let why = "the server does not know CLIENT_DEPRECATE_EOF (MySQL 5.7, MariaDB 10.2)";
                return Err(Broken::new(Failure::Login, why));
            }
            return Ok(true);
        }
    }
}

/// An argument as a literal.
fn put_literal(argument: &Drawn<'_>, out: &mut Vec<u8>) {
    use std::io::Write;
    match argument {
        Drawn::Number(number) => {
            // Writing to memory does not fail.
            let _ = write!(out, "{number}");
        }
        Drawn::Text(text) => {
            out.push(b'\'');
            for byte in text.bytes() {
                if matches!(byte, b'\'' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'\'');
        }
    }
}

/// An ERR packet in words; of one that did not come in one piece its end is not known.
fn message(packet: &[u8]) -> String {
    let payload = packet.get(HEADER_LEN..).unwrap_or_default();
    match decode_err(payload) {
        Ok(error) => {
            let text = String::from_utf8_lossy(error.message);
            format!("error {}: {text}", error.errno)
        }
        Err(_) => "an error that came in pieces".to_owned(),
    }
}
