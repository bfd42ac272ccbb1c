//! A blocking MySQL client that hides nothing: tests decide when it reads, what it leaves unread and
//! how its connection ends. Written apart from the product's own protocol code, so that both cannot
//! share a mistake.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::auth::{Plugin, native};
use super::loopback;
use super::packet::{Cursor, binary_row, column_type, push_length, text_row};

const LONG_PASSWORD: u32 = 1;
const FOUND_ROWS_FLAG: u32 = 1 << 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_RESULTS: u32 = 1 << 17;
const PS_MULTI_RESULTS: u32 = 1 << 18;
const PLUGIN_AUTH: u32 = 1 << 19;
const DEPRECATE_EOF: u32 = 1 << 24;

/// utf8mb4_general_ci.
const COLLATION: u8 = 45;
/// Payload bytes of a packet that another one continues.
pub(super) const PACKET_MAX: usize = 0xff_ff_ff;
/// Of caching_sha2_password: the proof is right, an OK follows.
const FAST_AUTH_OK: [u8; 2] = [1, 3];
/// Of the same: the password itself is wanted.
const FULL_AUTH: [u8; 2] = [1, 4];
const TYPE_BLOB: u8 = 0xfc;
const TYPE_VAR_STRING: u8 = 253;

/// Why a command gave no result.
#[derive(Debug)]
pub enum ClientError {
    /// The connection failed or ended.
    Io(io::Error),
    /// An ERR packet.
    Server {
        /// The error number.
        errno: u16,
        /// Five characters; empty before login.
        state: String,
        /// The message.
        text: String,
    },
    /// The peer broke the protocol.
    Protocol(String),
}

impl ClientError {
    /// The reason word and the number that an error of the gateway's own ends with.
    pub fn reason(&self) -> Option<(&str, &str)> {
        let Self::Server { text, .. } = self else {
            return None;
        };
        let (_, mark) = text.strip_suffix(']')?.rsplit_once("[ringgate ")?;
        mark.split_once(' ')
    }

    /// The server's error number; 0 for every other failure.
    pub fn errno(&self) -> u16 {
        match self {
            Self::Server { errno, .. } => *errno,
            Self::Io(_) | Self::Protocol(_) => 0,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "connection: {error}"),
            Self::Server { errno, state, text } => write!(f, "ERR {errno} ({state}): {text}"),
            Self::Protocol(text) => write!(f, "protocol: {text}"),
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One value of a row, as text whatever the protocol was; `None` is NULL.
pub type Value = Option<Vec<u8>>;

/// One result: rows, or the counts of an OK packet.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The rows; empty for an OK packet.
    pub rows: Vec<Vec<Value>>,
    /// Affected rows of an OK packet.
    pub affected: u64,
    /// The insert id of an OK packet.
    pub insert_id: u64,
    /// Server status flags of the last packet.
    pub status: u16,
    /// Warnings counted in the last packet.
    pub warnings: u16,
}

impl Answer {
    /// A value as text; `None` for NULL and where there is none.
    pub fn text(&self, row: usize, column: usize) -> Option<String> {
        let value = self.rows.get(row)?.get(column)?.as_ref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// What every client asks for unless told otherwise.
const USUAL: u32 = LONG_PASSWORD
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | PLUGIN_AUTH
    | FOUND_ROWS_FLAG;

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The user name.
    pub user: String,
    /// The password, for `mysql_native_password` or `caching_sha2_password`; in full by Unix sockets only.
    pub password: String,
    /// The initial schema; empty for none.
    pub schema: String,
    /// Whether to ask for DEPRECATE_EOF.
    pub deprecate_eof: bool,
}

/// A prepared statement of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// Its id, as EXECUTE has it.
    pub id: u32,
    parameters: u16,
}

/// One logged-in connection.
pub struct Client {
    stream: TcpStream,
    sequence: u8,
    capabilities: u32,
    /// The id the greeting gave.
    pub thread_id: u32,
    /// Server status flags of the login's OK.
    pub login_status: u16,
}

impl Client {
    /// Connects and logs in. Every read waits 60 s at most.
    pub fn connect(login: &Login) -> Result<Self, ClientError> {
        Self::connect_with(login, 0)
    }

    /// Like [`Client::connect`], asking for further capabilities.
    pub fn connect_with(login: &Login, capabilities: u32) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(loopback(login.port))?;
        stream.set_nodelay(true)?;
        Self::over(stream, login, USUAL | capabilities, COLLATION)
    }

    /// Like [`Client::connect`], without these of the usual capabilities.
    pub fn connect_without(login: &Login, capabilities: u32) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(loopback(login.port))?;
        stream.set_nodelay(true)?;
        Self::over(stream, login, USUAL & !capabilities, COLLATION)
    }

    /// Like [`Client::connect`], naming another collation than utf8mb4's own.
    pub fn connect_in(login: &Login, collation: u8) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(loopback(login.port))?;
        Self::over(stream, login, USUAL, collation)
    }

    /// Like [`Client::connect`], by the Unix socket at `path`.
    pub fn connect_unix(path: &Path, login: &Login) -> Result<Self, ClientError> {
        // Reading and writing are the same for the type of either.
        let stream = OwnedFd::from(UnixStream::connect(path)?);
        Self::over(stream.into(), login, USUAL, COLLATION)
    }

    fn over(
        stream: TcpStream,
        login: &Login,
        capabilities: u32,
        collation: u8,
    ) -> Result<Self, ClientError> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut client = Self {
            stream,
            sequence: 0,
            capabilities,
            thread_id: 0,
            login_status: 0,
        };
        client.log_in(login, collation)?;
        Ok(client)
    }

    fn log_in(&mut self, login: &Login, collation: u8) -> Result<(), ClientError> {
        let greeting = self.receive()?;
        let mut at = Cursor::new(&greeting);
        at.take(1)?;
        at.until_nul()?;
        self.thread_id = at.u32()?;
        let mut nonce = at.take(8)?.to_vec();
        at.take(1 + 2 + 1 + 2 + 2 + 1 + 10)?;
        nonce.extend_from_slice(at.take(12)?);
        if login.deprecate_eof {
            self.capabilities |= DEPRECATE_EOF;
        }
        if !login.schema.is_empty() {
            self.capabilities |= CONNECT_WITH_DB;
        }
        let proof = native(&nonce, &login.password);
        let mut reply = self.capabilities.to_le_bytes().to_vec();
        reply.extend_from_slice(&(1_u32 << 26).to_le_bytes());
        reply.push(collation);
        reply.extend_from_slice(&[0; 23]);
        reply.extend_from_slice(login.user.as_bytes());
        reply.push(0);
        reply.push(u8::try_from(proof.len()).expect("a short proof"));
        reply.extend_from_slice(&proof);
        if !login.schema.is_empty() {
            reply.extend_from_slice(login.schema.as_bytes());
            reply.push(0);
        }
        reply.extend_from_slice(b"mysql_native_password\0");
        self.send(&reply)?;
        let mut packet = self.receive()?;
        if packet.first() == Some(&0xfe) {
            let mut at = Cursor::new(&packet[1..]);
            let plugin = Plugin::named(at.until_nul()?);
            let plugin = plugin.ok_or_else(|| ClientError::Protocol(format!("{packet:?}")))?;
            let nonce = at.take(20)?.to_vec();
            self.send(&plugin.proof(&nonce, &login.password))?;
            packet = self.receive()?;
            if packet == FULL_AUTH {
                // As by a Unix socket, where nobody listens in.
                self.send(&[login.password.as_bytes(), &[0]].concat())?;
                packet = self.receive()?;
            } else if packet == FAST_AUTH_OK {
                packet = self.receive()?;
            }
        }
        match *packet {
            // Neither rows nor an insert id.
            [0, 0, 0, low, high, ..] => {
                self.login_status = u16::from_le_bytes([low, high]);
                Ok(())
            }
            _ => Err(ClientError::Protocol(format!("login answered {packet:?}"))),
        }
    }

    /// Runs a statement; its results in order.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Answer>, ClientError> {
        self.send_query(sql)?;
        self.read_answers(false)
    }

    /// Runs a statement with one result.
    pub fn query_one(&mut self, sql: &str) -> Result<Answer, ClientError> {
        one(self.query(sql)?)
    }

    /// Sends a statement and reads nothing.
    pub fn send_query(&mut self, sql: &str) -> Result<(), ClientError> {
        self.command(3, sql.as_bytes())
    }

    /// Sends several statements in one write; read as many times with [`Client::read_query`].
    pub fn send_queries(&mut self, statements: &[String]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        for sql in statements {
            let length = u32::try_from(sql.len() + 1).expect("a short statement");
            bytes.extend_from_slice(&length.to_le_bytes()[..3]);
            bytes.extend_from_slice(&[0, 3]);
            bytes.extend_from_slice(sql.as_bytes());
        }
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Reads the one result of a statement sent before.
    pub fn read_query(&mut self) -> Result<Answer, ClientError> {
        self.sequence = 1;
        one(self.read_answers(false)?)
    }

    /// Reads a packet that nobody asked for: the server's goodbye, an ERR with the sequence id 0.
    pub fn read_goodbye(&mut self) -> Result<Vec<u8>, ClientError> {
        self.sequence = 0;
        self.receive()
    }

    /// Prepares a statement.
    pub fn prepare(&mut self, sql: &str) -> Result<Statement, ClientError> {
        self.command(0x16, sql.as_bytes())?;
        let packet = self.receive()?;
        let mut at = Cursor::new(&packet);
        at.take(1)?;
        let id = at.u32()?;
        let (columns, parameters) = (at.u16()?, at.u16()?);
        for count in [parameters, columns] {
            for _ in 0..count {
                self.receive()?;
            }
            if count > 0 && self.capabilities & DEPRECATE_EOF == 0 {
                self.receive()?;
            }
        }
        Ok(Statement { id, parameters })
    }

    /// Runs a prepared statement; every parameter goes as a string.
    pub fn execute(
        &mut self,
        statement: Statement,
        parameters: &[&[u8]],
    ) -> Result<Answer, ClientError> {
        assert_eq!(usize::from(statement.parameters), parameters.len());
        let mut body = statement.id.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 1, 0, 0, 0]);
        if !parameters.is_empty() {
            body.resize(body.len() + parameters.len().div_ceil(8), 0);
            body.push(1);
            for _ in parameters {
                body.extend_from_slice(&[TYPE_VAR_STRING, 0]);
            }
            for value in parameters {
                push_length(&mut body, value.len());
                body.extend_from_slice(value);
            }
        }
        self.command(0x17, &body)?;
        one(self.read_answers(true)?)
    }

    /// Appends to a parameter of the next execution; the server says nothing.
    pub fn send_long_data(
        &mut self,
        statement: Statement,
        parameter: u16,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let mut body = statement.id.to_le_bytes().to_vec();
        body.extend_from_slice(&parameter.to_le_bytes());
        body.extend_from_slice(bytes);
        self.command(0x18, &body)
    }

    /// Runs a prepared statement whose only parameter went ahead as long data.
    pub fn execute_long(&mut self, statement: Statement) -> Result<Answer, ClientError> {
        let mut body = statement.id.to_le_bytes().to_vec();
        // No flags, one iteration, nothing NULL, types follow: a blob without a value here.
        body.extend_from_slice(&[0, 1, 0, 0, 0, 0, 1, TYPE_BLOB, 0]);
        self.command(0x17, &body)?;
        one(self.read_answers(true)?)
    }

    /// Sends a command as it is and reads its one result, EXECUTE's in the binary form.
    pub fn run_raw(&mut self, command: u8, body: &[u8]) -> Result<Answer, ClientError> {
        one(self.run_all(command, body)?)
    }

    /// Like [`Client::run_raw`], with any number of results.
    pub fn run_all(&mut self, command: u8, body: &[u8]) -> Result<Vec<Answer>, ClientError> {
        self.command(command, body)?;
        self.read_answers(command == 0x17)
    }

    /// Sends a command and a COM_PING behind it: the packets of the command's reply as they come, each
    /// with its sequence id. For replies of less than 255 packets.
    pub fn packets(&mut self, command: u8, body: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, ClientError> {
        self.command(command, body)?;
        self.command(0x0e, &[])?;
        let mut packets = Vec::new();
        loop {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header)?;
            let [low, middle, high, sequence] = header;
            let length = u32::from_le_bytes([low, middle, high, 0]);
            let mut payload = vec![0; usize::try_from(length).expect("a length")];
            self.stream.read_exact(&mut payload)?;
            if sequence == 1 && !packets.is_empty() {
                return Ok(packets);
            }
            packets.push((sequence, payload));
        }
    }

    /// Closes a prepared statement; the server says nothing.
    pub fn close_statement(&mut self, statement: Statement) -> Result<(), ClientError> {
        self.command(0x19, &statement.id.to_le_bytes())
    }

    /// COM_SET_OPTION; the flags of the answer, which must be an EOF or an OK in its place.
    pub fn set_option(&mut self, option: u16) -> Result<u16, ClientError> {
        self.command(0x1b, &option.to_le_bytes())?;
        let packet = self.receive()?;
        // An EOF with warnings ahead of its flags, or an OK that counts no rows and has no insert id.
        let status = match self.capabilities & DEPRECATE_EOF == 0 {
            true => packet.get(3..).filter(|_| packet.len() == 5),
            false => packet
                .get(3..)
                .filter(|_| packet.get(1..3) == Some(&[0, 0])),
        };
        let status = status.filter(|_| packet.first() == Some(&0xfe));
        match status {
            Some(&[low, high, ..]) => Ok(u16::from_le_bytes([low, high])),
            _ => Err(ClientError::Protocol(format!("{packet:?}"))),
        }
    }

    /// COM_RESET_CONNECTION.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.command(0x1f, &[])?;
        self.receive().map(|_| ())
    }

    /// COM_QUIT, then waits for the peer's end.
    pub fn quit(mut self) -> Result<(), ClientError> {
        self.command(1, &[])?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(ClientError::Protocol(format!(
            "{} bytes after COM_QUIT",
            rest.len()
        )))
    }

    /// Sends bytes as they are, for tests that end in the middle of a packet.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads and drops up to `count` bytes of an answer.
    pub fn read_raw(&mut self, count: usize) -> Result<usize, ClientError> {
        let mut bytes = vec![0; count];
        Ok(self.stream.read(&mut bytes)?)
    }

    /// The socket, for tests that read or write at their own pace.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Ends the connection by a reset, as a client's crash would.
    pub fn abort(self) -> Result<(), ClientError> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Whether the peer has ended the connection; waits for it up to `limit`.
    pub fn is_ended_within(&mut self, limit: Duration) -> bool {
        let timed = self.stream.set_read_timeout(Some(limit));
        let read = timed.and_then(|()| self.stream.read(&mut [0]));
        match read {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether nothing has arrived beyond what was read. Right only at a command boundary.
    pub fn is_quiet(&self) -> Result<bool, ClientError> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn read_answers(&mut self, binary: bool) -> Result<Vec<Answer>, ClientError> {
        let mut answers = Vec::new();
        loop {
            let answer = self.read_answer(binary)?;
            let more = answer.status & 8 != 0;
            answers.push(answer);
            if !more {
                return Ok(answers);
            }
        }
    }

    fn read_answer(&mut self, binary: bool) -> Result<Answer, ClientError> {
        let first = self.receive()?;
        if first.first() == Some(&0) {
            let mut at = Cursor::new(&first[1..]);
            let (affected, insert_id) = (at.length()?, at.length()?);
            let (status, warnings) = (at.u16()?, at.u16()?);
            return Ok(Answer {
                affected,
                insert_id,
                status,
                warnings,
                ..Answer::default()
            });
        }
        let columns = Cursor::new(&first).length()?;
        let mut types = Vec::new();
        for _ in 0..columns {
            types.push(column_type(&self.receive()?)?);
        }
        let eof = self.capabilities & DEPRECATE_EOF == 0;
        if eof {
            self.receive()?;
        }
        let mut answer = Answer::default();
        loop {
            let packet = self.receive()?;
            if packet.first() == Some(&0xfe)
                && packet.len() < PACKET_MAX
                && (packet.len() < 9 || !eof)
            {
                let mut at = Cursor::new(&packet[1..]);
                if eof {
                    (answer.warnings, answer.status) = (at.u16()?, at.u16()?);
                } else {
                    at.length()?;
                    at.length()?;
                    (answer.status, answer.warnings) = (at.u16()?, at.u16()?);
                }
                return Ok(answer);
            }
            let row = if binary {
                binary_row(&packet, &types)
            } else {
                text_row(&packet, &types)
            };
            answer.rows.push(row?);
        }
    }

    fn command(&mut self, byte: u8, body: &[u8]) -> Result<(), ClientError> {
        self.sequence = 0;
        let mut payload = Vec::with_capacity(1 + body.len());
        payload.push(byte);
        payload.extend_from_slice(body);
        self.send(&payload)
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        let mut rest = payload;
        loop {
            let (part, after) = rest.split_at(rest.len().min(PACKET_MAX));
            let length = u32::try_from(part.len()).expect("a packet's length");
            bytes.extend_from_slice(&length.to_le_bytes()[..3]);
            bytes.push(self.sequence);
            bytes.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            rest = after;
            if part.len() < PACKET_MAX {
                return Ok(self.stream.write_all(&bytes)?);
            }
        }
    }

    /// One logical packet; an ERR packet is an error.
    fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut payload = Vec::new();
        loop {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header)?;
            if header[3] != self.sequence {
                let text = format!("sequence {} where {} is due", header[3], self.sequence);
                return Err(ClientError::Protocol(text));
            }
            self.sequence = self.sequence.wrapping_add(1);
            let length =
                usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
            let from = payload.len();
            payload.resize(from + length, 0);
            self.stream.read_exact(&mut payload[from..])?;
            if length < PACKET_MAX {
                break;
            }
        }
        if payload.first() == Some(&0xff) {
            Err(server_error(&payload))
        } else {
            Ok(payload)
        }
    }
}

fn one(mut answers: Vec<Answer>) -> Result<Answer, ClientError> {
    match (answers.pop(), answers.len()) {
        (Some(answer), 0) => Ok(answer),
        (_, more) => Err(ClientError::Protocol(format!(
            "{} results instead of one",
            more + 1
        ))),
    }
}

fn server_error(packet: &[u8]) -> ClientError {
    let errno = packet
        .get(1..3)
        .map_or(0, |two| u16::from_le_bytes([two[0], two[1]]));
    let rest = String::from_utf8_lossy(packet.get(3..).unwrap_or_default()).into_owned();
    let (state, text) = match rest.strip_prefix('#') {
        Some(marked) if marked.is_char_boundary(5) => marked.split_at(5),
        _ => ("", rest.as_str()),
    };
    ClientError::Server {
        errno,
        state: state.to_owned(),
        text: text.to_owned(),
    }
}
