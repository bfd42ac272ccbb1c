//! One client of a null MySQL server: its login, its little state, the answers to its commands. No
//! I/O: packets in, bytes and rows out.

use std::collections::HashMap;

use super::answer::{Answers, Rows, text_column};
use super::statement::{Facts, Statement, parameters, read};
use crate::base::credential::AuthPlugin;
use crate::wire::mysql::auth::{
    FAST_AUTH_OK, native_stage2, native_verify, sha2_stage2, sha2_verify,
};
use crate::wire::mysql::command::Command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, column_type, status};
use crate::wire::mysql::handshake::{
    AuthSwitch, Greeting, Nonce, Response, encode_auth_more_data, is_ssl_request,
};
use crate::wire::mysql::response::{
    EofPacket, ErrPacket, OkPacket, encode_end_of_rows, encode_eof, encode_err, encode_ok,
};
use crate::wire::mysql::track::{Change, encode_change};
use crate::wire::mysql::value::{
    Column, PrepareOk, Value, encode_binary_row, encode_column_count, encode_text_row,
};

/// What the server can do. No MULTI_STATEMENTS: a statement has one answer here.
const OFFERED: u32 = caps::LONG_PASSWORD
    | caps::FOUND_ROWS
    | caps::LONG_FLAG
    | caps::CONNECT_WITH_DB
    | caps::ODBC
    | caps::IGNORE_SPACE
    | caps::PROTOCOL_41
    | caps::INTERACTIVE
    | caps::IGNORE_SIGPIPE
    | caps::TRANSACTIONS
    | caps::RESERVED
    | caps::SECURE_CONNECTION
    | caps::MULTI_RESULTS
    | caps::PS_MULTI_RESULTS
    | caps::PLUGIN_AUTH
    | caps::CONNECT_ATTRS
    | caps::PLUGIN_AUTH_LENENC_CLIENT_DATA
    | caps::SESSION_TRACK
    | caps::DEPRECATE_EOF;

/// Prepared statements of one session: MySQL's default for a whole server.
const STATEMENTS_MAX: usize = 16_382;

/// Variables that one session may set and read again; further ones are taken and forgotten.
const VARIABLES_MAX: usize = 64;

/// Variables that are tracked without being asked for (MySQL manual,
/// `session_track_system_variables`).
const TRACKED: &[&str] = &[
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "time_zone",
];

/// The account that may log in, if not any.
#[derive(Clone, Debug)]
pub(super) struct Account {
    user: String,
    /// The hashes of its password; `None` for the empty one.
    hashes: Option<([u8; 20], [u8; 32])>,
}

impl Account {
    pub(super) fn new(user: String, password: &str) -> Self {
        let password = password.as_bytes();
        let hash = || (native_stage2(password), sha2_stage2(password));
        let hashes = (!password.is_empty()).then(hash);
        Self { user, hashes }
    }

    fn accepts(&self, user: &[u8], plugin: AuthPlugin, answer: &[u8], nonce: &Nonce) -> bool {
        let is_empty = matches!(answer, [] | [0]);
        let is_proven = match (&self.hashes, plugin) {
            (None, _) => is_empty,
            (Some((native, _)), AuthPlugin::Native) => native_verify(answer, nonce, native),
            (Some((_, sha2)), AuthPlugin::CachingSha2) => sha2_verify(answer, nonce, sha2),
        };
        user == self.user.as_bytes() && is_proven
    }
}

/// What all sessions of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) answers: &'static Answers,
    /// Rows of the answer, for FOUND_ROWS().
    pub(super) rows: u64,
    pub(super) version: String,
    /// `None`: whoever comes is let in.
    pub(super) account: Option<Account>,
    pub(super) plugin: AuthPlugin,
}

/// How far a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// Another packet is awaited.
    More,
    /// Commands may come.
    Done,
    /// The client was told why not.
    Refused,
}

/// The answer to a command, beside the bytes appended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// All of it was appended, if there is any.
    Bytes,
    /// These rows.
    Rows(Rows),
    /// The client leaves.
    Quit,
}

/// One client.
pub(super) struct Session<'s> {
    shared: &'s Shared,
    connection_id: u32,
    nonce: Nonce,
    /// Logging in: the sequence id expected, and the user, if another plugin was asked for.
    sequence: u8,
    switched: bool,
    user: String,
    schema: Option<String>,
    caps: u32,
    in_transaction: bool,
    is_autocommit: bool,
    tracks_all: bool,
    prepared: HashMap<u32, Statement, foldhash::fast::FixedState>,
    next_statement: u32,
    last_rows: u64,
    variables: Vec<(String, String)>,
}

impl<'s> Session<'s> {
    pub(super) fn new(shared: &'s Shared, connection_id: u32, nonce: Nonce) -> Self {
        Self {
            shared,
            connection_id,
            nonce,
            sequence: 1,
            switched: false,
            user: String::new(),
            schema: None,
            caps: 0,
            in_transaction: false,
            is_autocommit: true,
            tracks_all: false,
            prepared: HashMap::default(),
            next_statement: 1,
            last_rows: 0,
            variables: Vec::new(),
        }
    }

    /// Appends the greeting.
    pub(super) fn greet(&self, out: &mut Vec<u8>) {
        let greeting = Greeting {
            version: self.shared.version.as_bytes(),
            connection_id: self.connection_id,
            nonce: self.nonce,
            caps: OFFERED,
            mariadb_caps: 0,
            collation: 45,
            status: status::AUTOCOMMIT,
            plugin: self.shared.plugin.name().as_bytes(),
        };
        packet(out, 0, |out| greeting.encode(out));
    }

    /// Takes a packet of the login.
    pub(super) fn log_in(&mut self, sequence: u8, payload: &[u8], out: &mut Vec<u8>) -> Login {
        let expected = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        if self.switched && sequence == expected {
            return self.settle(AuthPlugin::Native, payload, out);
        }
        let response = Response::decode(payload, OFFERED);
        let Ok(response) = response.map_err(|_| ()).and_then(|response| {
            let is_fit = sequence == expected && !is_ssl_request(payload);
            is_fit.then_some(response).ok_or(())
        }) else {
            self.err(out, 1043, "08S01", "Bad handshake");
            return Login::Refused;
        };
        self.caps = response.caps;
        self.user = String::from_utf8_lossy(response.user).into_owned();
        self.schema = response
            .schema
            .map(|name| String::from_utf8_lossy(name).into_owned());
        match AuthPlugin::by_name(response.plugin) {
            Some(plugin) => self.settle(plugin, response.auth, out),
            None => {
                let switch = AuthSwitch {
                    plugin: AuthPlugin::Native.name().as_bytes(),
                    data: &self.nonce,
                };
                self.sequence = packet(out, self.sequence, |out| switch.encode(out));
                self.switched = true;
                Login::More
            }
        }
    }

    /// Checks the answer to the challenge, if it matters.
    fn settle(&mut self, plugin: AuthPlugin, answer: &[u8], out: &mut Vec<u8>) -> Login {
        let user = self.user.as_bytes();
        let account = self.shared.account.as_ref();
        if !account.is_none_or(|account| account.accepts(user, plugin, answer, &self.nonce)) {
            let text = format!("Access denied for user '{}'", self.user);
            self.err(out, 1045, "28000", &text);
            return Login::Refused;
        }
        if plugin == AuthPlugin::CachingSha2 && !matches!(answer, [] | [0]) {
            let more = |out: &mut Vec<u8>| encode_auth_more_data(out, &[FAST_AUTH_OK]);
            self.sequence = packet(out, self.sequence, more);
        }
        self.ok(out, 0, &[]);
        Login::Done
    }

    /// Takes a command whose last packet had this sequence id.
    pub(super) fn command(&mut self, sequence: u8, payload: &[u8], out: &mut Vec<u8>) -> Said {
        self.sequence = sequence.wrapping_add(1);
        let Ok(command) = Command::parse(payload) else {
            self.err(out, 1835, "HY000", "Malformed communication packet");
            return Said::Bytes;
        };
        match command {
            Command::Query(text) => {
                let statement = read(text, &self.facts());
                return self.answer(&statement, false, out);
            }
            Command::StmtExecute(execute) => return self.execute(execute.statement, out),
            Command::StmtPrepare(text) => self.prepare(text, out),
            Command::StmtClose(statement) => {
                self.prepared.remove(&statement);
            }
            Command::StmtSendLongData(_) => {}
            Command::StmtReset(statement) if self.prepared.contains_key(&statement) => {
                self.ok(out, 0, &[]);
            }
            Command::StmtReset(_) | Command::StmtFetch { .. } => {
                self.err(out, 1243, "HY000", "Unknown prepared statement handler");
            }
            Command::InitDb(name) => {
                let name = String::from_utf8_lossy(name).into_owned();
                return self.answer(&Statement::Use(name), false, out);
            }
            Command::Ping => self.ok(out, 0, &[]),
            Command::ResetConnection | Command::ChangeUser(_) if self.may_reset(&command) => {
                self.reset();
                self.ok(out, 0, &[]);
            }
            Command::SetOption(_) | Command::FieldList { .. } => {
                self.sequence = packet(out, self.sequence, |out| self.put_eof(out));
            }
            Command::Statistics => {
                let text = b"Uptime: 1  Threads: 1";
                packet(out, self.sequence, |out| out.extend_from_slice(text));
            }
            Command::Quit => return Said::Quit,
            _ => self.err(out, 1047, "08S01", "Unknown command"),
        }
        Said::Bytes
    }

    /// Another user's password cannot be asked for in the middle of a session here: only where none
    /// matters is a user changed.
    fn may_reset(&self, command: &Command<'_>) -> bool {
        *command == Command::ResetConnection || self.shared.account.is_none()
    }

    fn reset(&mut self) {
        self.in_transaction = false;
        self.is_autocommit = true;
        self.tracks_all = false;
        self.prepared.clear();
        self.last_rows = 0;
        self.variables.clear();
    }

    fn prepare(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.prepared.len() >= STATEMENTS_MAX {
            self.err(out, 1461, "42000", "Can't create more prepared statements");
            return;
        }
        let statement = read(text, &self.facts());
        let id = self.next_statement;
        self.next_statement = id.wrapping_add(1).max(1);
        let names = column_names(&statement);
        let prepare = PrepareOk {
            statement: id,
            columns: u16::try_from(names.len()).unwrap_or(u16::MAX),
            parameters: parameters(text),
            warnings: 0,
        };
        self.sequence = packet(out, self.sequence, |out| prepare.encode(out));
        let marks = usize::from(prepare.parameters);
        self.put_columns(out, std::iter::repeat_n("?", marks));
        self.put_columns(out, names.into_iter());
        self.prepared.insert(id, statement);
    }

    fn execute(&mut self, id: u32, out: &mut Vec<u8>) -> Said {
        // Statements that are run often hold nothing to clone.
        let Some(statement) = self.prepared.get(&id).cloned() else {
            self.err(out, 1243, "HY000", "Unknown prepared statement handler");
            return Said::Bytes;
        };
        self.answer(&statement, true, out)
    }

    fn answer(&mut self, statement: &Statement, is_binary: bool, out: &mut Vec<u8>) -> Said {
        match statement {
            Statement::Rows => {
                self.in_transaction |= !self.is_autocommit;
                self.last_rows = self.shared.rows;
                let deprecates_eof = self.caps & caps::DEPRECATE_EOF != 0;
                let answers = self.shared.answers;
                return Said::Rows(answers.rows(is_binary, deprecates_eof, self.status()));
            }
            Statement::Values(values) => {
                self.last_rows = 1;
                self.put_result(out, values.iter().map(|(name, _)| name.as_str()), |out| {
                    let fields = values.iter().map(|(_, value)| value.as_deref());
                    put_row(out, fields, is_binary);
                });
            }
            Statement::Empty(names) => {
                self.last_rows = 0;
                self.put_result(out, names.iter().copied(), |_| {});
            }
            Statement::UnknownVariable(name) => {
                let text = format!("Unknown system variable '{name}'");
                self.err(out, 1193, "HY000", &text);
            }
            Statement::Done(affected) => {
                self.in_transaction |= !self.is_autocommit && *affected > 0;
                self.ok(out, *affected, &[]);
            }
            Statement::Begin | Statement::End => {
                self.in_transaction = *statement == Statement::Begin;
                self.ok(out, 0, &[]);
            }
            Statement::Use(name) => {
                self.schema = Some(name.clone());
                let mut changes = Vec::new();
                encode_change(&mut changes, &Change::Schema(name.as_bytes()));
                self.ok(out, 0, &changes);
            }
            Statement::Set(assignments) => self.set(assignments, out),
        }
        Said::Bytes
    }

    fn set(&mut self, assignments: &[(String, String)], out: &mut Vec<u8>) {
        let mut changes = Vec::new();
        for (name, value) in assignments {
            match name.as_str() {
                "autocommit" => {
                    self.is_autocommit = value == "ON";
                    // Switching it on commits.
                    self.in_transaction &= !self.is_autocommit;
                }
                "session_track_system_variables" => self.tracks_all = value == "*",
                _ => self.remember(name, value),
            }
            if self.tracks_all || TRACKED.contains(&name.as_str()) {
                let change = Change::SystemVariable {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                };
                encode_change(&mut changes, &change);
            }
        }
        self.ok(out, 0, &changes);
    }

    fn remember(&mut self, name: &str, value: &str) {
        if let Some((_, known)) = self.variables.iter_mut().find(|(known, _)| known == name) {
            value.clone_into(known);
        } else if self.variables.len() < VARIABLES_MAX {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            version: &self.shared.version,
            user: &self.user,
            schema: self.schema.as_deref(),
            connection_id: self.connection_id,
            is_autocommit: self.is_autocommit,
            last_rows: self.last_rows,
            variables: &self.variables,
        }
    }

    fn status(&self) -> u16 {
        let autocommit = if self.is_autocommit {
            status::AUTOCOMMIT
        } else {
            0
        };
        let transaction = if self.in_transaction {
            status::IN_TRANS
        } else {
            0
        };
        autocommit | transaction
    }

    fn ok(&self, out: &mut Vec<u8>, affected_rows: u64, session_changes: &[u8]) {
        let ok = OkPacket {
            affected_rows,
            status: self.status(),
            session_changes,
            ..OkPacket::default()
        };
        packet(out, self.sequence, |out| encode_ok(out, self.caps, &ok));
    }

    fn err(&self, out: &mut Vec<u8>, errno: u16, sqlstate: &str, text: &str) {
        let err = ErrPacket::new(errno, sqlstate, text.as_bytes());
        packet(out, self.sequence, |out| encode_err(out, &err));
    }

    fn put_eof(&self, out: &mut Vec<u8>) {
        let eof = EofPacket {
            warnings: 0,
            status: self.status(),
        };
        encode_eof(out, eof);
    }

    /// Definitions of columns or parameters, and the EOF behind them; nothing for none.
    fn put_columns<'n>(&mut self, out: &mut Vec<u8>, names: impl Iterator<Item = &'n str>) {
        let mut is_any = false;
        for name in names {
            is_any = true;
            let column: Column<'_> = text_column(name.as_bytes(), 1024);
            self.sequence = packet(out, self.sequence, |out| column.encode(out));
        }
        if is_any && self.caps & caps::DEPRECATE_EOF == 0 {
            self.sequence = packet(out, self.sequence, |out| self.put_eof(out));
        }
    }

    /// A result set of our own; `row` appends its one row's payload, or nothing for no row.
    fn put_result<'n>(
        &mut self,
        out: &mut Vec<u8>,
        names: impl Iterator<Item = &'n str> + Clone,
        row: impl FnOnce(&mut Vec<u8>),
    ) {
        let count: Vec<()> = names.clone().map(|_| ()).collect();
        self.sequence = packet(out, self.sequence, |out| encode_column_count(out, &count));
        self.put_columns(out, names);
        let mut payload = Vec::new();
        row(&mut payload);
        if !payload.is_empty() {
            self.sequence = packet(out, self.sequence, |out| out.extend_from_slice(&payload));
        }
        let ok = OkPacket {
            status: self.status(),
            ..OkPacket::default()
        };
        packet(out, self.sequence, |out| {
            encode_end_of_rows(out, self.caps, &ok);
        });
    }
}

/// The columns that a statement's answer will have.
fn column_names(statement: &Statement) -> Vec<&str> {
    match statement {
        Statement::Rows => vec!["c"],
        Statement::Values(values) => values.iter().map(|(name, _)| name.as_str()).collect(),
        Statement::Empty(names) => names.to_vec(),
        _ => Vec::new(),
    }
}

/// A row of text values, in the text or the binary form.
fn put_row<'v>(out: &mut Vec<u8>, fields: impl Iterator<Item = Option<&'v str>>, is_binary: bool) {
    if !is_binary {
        encode_text_row(out, fields.map(|field| field.map(str::as_bytes)));
        return;
    }
    let value = |field: Option<&'v str>| match field {
        Some(field) => Value::Bytes(field.as_bytes()),
        None => Value::Null,
    };
    let row: Vec<_> = fields
        .map(|field| (column_type::VAR_STRING, value(field)))
        .collect();
    // Text fits a column of text, which is all that is put here.
    let _fits = encode_binary_row(out, &row);
}
