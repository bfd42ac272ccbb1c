//! A MySQL server in memory, as far as sessions go: it reads commands byte by byte, keeps the state
//! of each connection as MariaDB 10.11 does, and reports it the same way.
//!
//! Every rule about counts, warnings and session tracking was checked against a MariaDB 10.11.

use std::collections::{BTreeMap, BTreeSet};

use ringgate::wire::mysql::command::{Command, Execute};
use ringgate::wire::mysql::cursor::packet;
use ringgate::wire::mysql::flags::{caps, column_type, status};
use ringgate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use ringgate::wire::mysql::response::{
    ErrPacket, OkPacket, encode_end_of_rows, encode_err, encode_ok,
};
use ringgate::wire::mysql::track::{Change, encode_change};

use super::reply::{Column, Writer};
use super::sql::{Exec, fold, is_name_of_table, split};
use super::variables::{self, Variables};

/// What all connections of a server share.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub tables: BTreeMap<String, Table>,
    /// How often a statement with this tag was run.
    pub ran: BTreeMap<String, u32>,
    pub dropped_schemas: BTreeSet<String>,
}

/// A table of one client: no two clients write to the same, so that replies do not depend on how
/// their statements interleave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub last_id: u64,
    pub rows: Vec<String>,
}

/// The state that a session can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub schema: Option<String>,
    pub variables: Variables,
    pub user_variables: BTreeMap<String, String>,
    pub temporary: BTreeMap<String, Table>,
    pub locks: BTreeSet<String>,
    pub in_transaction: bool,
}

impl State {
    /// All of it in one line. A schema that is gone can be told from none by DATABASE() alone.
    pub fn digest(&self, data: &Data) -> String {
        let variables: Vec<_> = self.variables.changed().collect();
        let is_there = |schema: &&String| !data.dropped_schemas.contains(*schema);
        let schema = self.schema.as_ref().filter(is_there);
        format!(
            "{:?} {variables:?} {:?} {:?} {:?} {}",
            schema, self.user_variables, self.temporary, self.locks, self.in_transaction
        )
    }
}

#[derive(Clone, Debug)]
pub struct Prepared {
    pub sql: String,
    pub schema: Option<String>,
    /// The schema is not the one that it was prepared in.
    pub was_moved: bool,
    /// What it took at its PREPARE.
    settings: String,
    pub params: usize,
    pub types: Option<Vec<u8>>,
    long: BTreeMap<u16, Vec<u8>>,
    cursor: Option<(Vec<Column>, Vec<Row>)>,
}

/// One row; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// What a statement gives.
pub enum Reply {
    Ok {
        affected: u64,
        insert_id: u64,
        info: String,
    },
    Rows {
        columns: Vec<Column>,
        rows: Vec<Vec<Option<String>>>,
        uses_table: bool,
    },
}

/// The server's error: number, SQLSTATE, message.
#[derive(Clone, Debug)]
pub struct Refusal(pub u16, pub &'static str, pub String);

/// One connection.
#[derive(Clone, Debug)]
pub struct Conn {
    pub capabilities: u32,
    /// Reports everything, as the gateway asks; otherwise what servers report by default.
    pub tracks_all: bool,
    pub state: State,
    login: State,
    pub statements: BTreeMap<u32, Prepared>,
    pub next_statement: u32,
    pub insert_id: u64,
    pub found_rows: u64,
    pub row_count: i64,
    /// Level, number, message.
    pub conditions: Vec<(&'static str, u16, String)>,
    /// The conditions are the last statement's own.
    pub has_fresh_conditions: bool,
    pub(super) warnings: u16,
    pub sets_insert_id: bool,
    pub sets_conditions: bool,
    pub(super) changes: Vec<u8>,
    pub(super) undo: Vec<(String, usize)>,
    inbox: Vec<u8>,
    pub outbox: Vec<u8>,
    pub is_closed: bool,
    /// It takes several statements in a text.
    takes_several: bool,
    /// What the statement took at its PREPARE that is being executed.
    pub(super) executes_under: Option<String>,
    /// What the peer did wrong.
    pub complaint: Option<String>,
}

impl Conn {
    pub fn new(capabilities: u32, tracks_all: bool, schema: Option<&str>) -> Self {
        let state = State {
            schema: schema.map(str::to_owned),
            variables: Variables::default(),
            user_variables: BTreeMap::new(),
            temporary: BTreeMap::new(),
            locks: BTreeSet::new(),
            in_transaction: false,
        };
        Self {
            capabilities,
            takes_several: capabilities & caps::MULTI_STATEMENTS != 0,
            tracks_all,
            login: state.clone(),
            state,
            statements: BTreeMap::new(),
            next_statement: 0,
            insert_id: 0,
            found_rows: 0,
            row_count: 0,
            conditions: Vec::new(),
            has_fresh_conditions: false,
            warnings: 0,
            sets_insert_id: false,
            sets_conditions: false,
            changes: Vec::new(),
            undo: Vec::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            is_closed: false,
            executes_under: None,
            complaint: None,
        }
    }

    /// Takes in bytes and runs every command that is complete.
    pub fn feed(&mut self, data: &mut Data, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some(header) = Header::parse(&self.inbox) {
            assert!(header.len < PAYLOAD_MAX, "no command here is so long");
            let end = HEADER_LEN + header.len;
            if self.inbox.len() < end || self.is_closed {
                return;
            }
            let command: Vec<u8> = self.inbox.drain(..end).collect();
            if header.seq != 0 {
                self.complain(format!("sequence id {}", header.seq));
            }
            self.run(data, &command[HEADER_LEN..]);
        }
    }

    /// Whether a command has begun to come and is not complete.
    pub fn has_partial_command(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn complain(&mut self, text: String) {
        self.complaint.get_or_insert(text);
    }

    /// The types bound last of each statement.
    pub fn types_bound(&self) -> Vec<Option<Vec<u8>>> {
        self.statements.values().map(|s| s.types.clone()).collect()
    }

    /// Ends the connection as a server does: what was not committed is undone.
    pub fn close(&mut self, data: &mut Data) {
        self.rollback(data);
        self.is_closed = true;
    }

    fn run(&mut self, data: &mut Data, payload: &[u8]) {
        self.changes.clear();
        self.warnings = 0;
        self.sets_insert_id = false;
        self.sets_conditions = false;
        let mut out = Writer::new(self.capabilities);
        match Command::parse(payload) {
            Ok(Command::Quit) => return self.close(data),
            Ok(Command::Ping) => {
                self.row_count = 0;
                self.write_ok(&mut out, 0, 0, "", false);
            }
            Ok(Command::InitDb(name)) => {
                let name = String::from_utf8_lossy(name).into_owned();
                let result = self.use_schema(data, &name);
                self.finish_simple(&mut out, result);
            }
            Ok(Command::Query(sql)) => {
                let sql = String::from_utf8_lossy(sql).into_owned();
                self.query(data, &sql, &mut out);
            }
            Ok(Command::StmtPrepare(sql)) => {
                let sql = String::from_utf8_lossy(sql).into_owned();
                self.prepare(data, &sql, &mut out);
            }
            Ok(Command::StmtExecute(execute)) => self.execute(data, &execute, &mut out),
            Ok(Command::StmtFetch { statement, rows }) => self.fetch(statement, rows, &mut out),
            Ok(Command::StmtSendLongData(chunk)) => {
                match self.statements.get_mut(&chunk.statement) {
                    Some(statement) => {
                        let value = statement.long.entry(chunk.parameter).or_default();
                        value.extend_from_slice(chunk.data);
                    }
                    None => self.complain("long data for no statement".to_owned()),
                }
            }
            Ok(Command::StmtReset(id)) => {
                let id = self.resolve(id);
                let found = self.statements.get_mut(&id).map(|statement| {
                    statement.cursor = None;
                    statement.long.clear();
                });
                let result = found.ok_or_else(|| unknown_statement(id));
                self.finish_simple(&mut out, result);
            }
            Ok(Command::StmtClose(id)) => {
                let id = self.resolve(id);
                if self.statements.remove(&id).is_none() && self.tracks_all {
                    self.complain(format!("close of no statement {id}"));
                }
            }
            Ok(Command::SetOption(option)) => {
                self.takes_several = option == 0;
                self.row_count = -1;
                let end = OkPacket {
                    status: self.status(),
                    ..OkPacket::default()
                };
                let capabilities = self.capabilities;
                out.packet(|out| encode_end_of_rows(out, capabilities, &end));
            }
            Ok(Command::ResetConnection) => {
                self.rollback(data);
                let schema = self.state.schema.take();
                self.state = State {
                    schema,
                    ..self.login.clone()
                };
                self.statements.clear();
                self.insert_id = 0;
                self.conditions.clear();
                self.row_count = 0;
                self.write_ok(&mut out, 0, 0, "", false);
            }
            other => self.complain(format!("unexpected {other:?}")),
        }
        self.outbox.extend_from_slice(&out.bytes);
    }

    fn resolve(&self, id: u32) -> u32 {
        if id == u32::MAX {
            self.next_statement
        } else {
            id
        }
    }

    fn finish_simple(&mut self, out: &mut Writer, result: Result<(), Refusal>) {
        match result {
            Ok(()) => {
                self.row_count = 0;
                self.has_fresh_conditions = false;
                self.write_ok(out, 0, 0, "", false);
            }
            Err(refusal) => self.refuse(out, refusal),
        }
    }

    fn refuse(&mut self, out: &mut Writer, refusal: Refusal) {
        self.row_count = -1;
        self.add_condition("Error", refusal.0, refusal.2.clone());
        let Refusal(errno, state, message) = refusal;
        let err = ErrPacket::new(errno, state, message.as_bytes());
        out.packet(|out| encode_err(out, &err));
    }

    /// The first condition of a statement takes the place of the older ones.
    pub(super) fn add_condition(&mut self, level: &'static str, errno: u16, message: String) {
        if self.warnings == 0 {
            self.conditions.clear();
        }
        self.warnings += 1;
        self.conditions.push((level, errno, message));
        self.has_fresh_conditions = true;
        self.sets_conditions = true;
    }

    pub fn status(&self) -> u16 {
        let mut flags = 0;
        if self.state.variables.is_on("autocommit") {
            flags |= status::AUTOCOMMIT;
        }
        if self.state.in_transaction {
            flags |= status::IN_TRANS;
        }
        let mode = self.state.variables.get("sql_mode").unwrap_or_default();
        if mode.contains("NO_BACKSLASH_ESCAPES") {
            flags |= status::NO_BACKSLASH_ESCAPES;
        }
        if mode.contains("ANSI_QUOTES") {
            flags |= status::ANSI_QUOTES;
        }
        flags
    }

    fn write_ok(
        &mut self,
        out: &mut Writer,
        affected: u64,
        insert_id: u64,
        info: &str,
        more: bool,
    ) {
        let changes = std::mem::take(&mut self.changes);
        let ok = OkPacket {
            affected_rows: affected,
            last_insert_id: insert_id,
            status: self.status() | if more { status::MORE_RESULTS_EXISTS } else { 0 },
            warnings: self.warnings,
            info: info.as_bytes(),
            session_changes: &changes,
        };
        let capabilities = self.capabilities;
        out.packet(|out| encode_ok(out, capabilities, &ok));
    }

    /// Reports a change of a variable if this peer wants to hear of it.
    pub(super) fn report(&mut self, name: &str, value: &str) {
        if self.tracks_all || variables::REPORTED_BY_DEFAULT.contains(&name) {
            let change = Change::SystemVariable {
                name: name.as_bytes(),
                value: value.as_bytes(),
            };
            encode_change(&mut self.changes, &change);
        }
    }

    pub(super) fn report_state_change(&mut self) {
        if self.tracks_all {
            encode_change(&mut self.changes, &Change::StateChanged(true));
        }
    }

    pub(super) fn use_schema(&mut self, data: &Data, name: &str) -> Result<(), Refusal> {
        if !name.starts_with('s') || data.dropped_schemas.contains(name) {
            let message = format!("Unknown database '{name}'");
            return Err(Refusal(1049, "42000", message));
        }
        self.state.schema = Some(name.to_owned());
        encode_change(&mut self.changes, &Change::Schema(name.as_bytes()));
        self.report_state_change();
        Ok(())
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
        self.state.in_transaction = false;
    }

    pub(super) fn rollback(&mut self, data: &mut Data) {
        for (name, len) in self.undo.drain(..).rev() {
            if let Some(table) = data.tables.get_mut(&name) {
                table.rows.truncate(len);
            }
        }
        self.state.in_transaction = false;
    }

    fn query(&mut self, data: &mut Data, sql: &str, out: &mut Writer) {
        let statements: Vec<&str> = split(sql, b';')
            .into_iter()
            .map(str::trim)
            .filter(|statement| !statement.is_empty())
            .collect();
        if statements.is_empty() {
            let refusal = Refusal(1065, "42000", "Query was empty".to_owned());
            return self.refuse(out, refusal);
        }
        let count = statements.len();
        if count > 1 && !self.takes_several {
            let refusal = Refusal(1064, "42000", "one statement in a text".to_owned());
            return self.refuse(out, refusal);
        }
        for (index, statement) in statements.into_iter().enumerate() {
            let more = index + 1 < count;
            match self.statement(data, statement, &[]) {
                Ok(reply) => self.write(out, reply, more, false),
                Err(refusal) => return self.refuse(out, refusal),
            }
        }
    }

    /// Runs one statement.
    fn statement(
        &mut self,
        data: &mut Data,
        sql: &str,
        params: &[(u8, Option<String>)],
    ) -> Result<Reply, Refusal> {
        self.changes.clear();
        self.warnings = 0;
        let folded = fold(sql);
        let is_diagnostic = ["show warnings", "show errors"]
            .iter()
            .any(|start| folded.starts_with(start));
        if !is_diagnostic {
            self.has_fresh_conditions = false;
        }
        Exec {
            conn: self,
            data,
            params,
            next_param: 0,
        }
        .run(sql)
    }

    fn write(&mut self, out: &mut Writer, reply: Reply, more: bool, is_binary: bool) {
        match reply {
            Reply::Ok {
                affected,
                insert_id,
                info,
            } => {
                self.row_count = i64::try_from(affected).unwrap_or(i64::MAX);
                self.write_ok(out, affected, insert_id, &info, more);
            }
            Reply::Rows {
                columns,
                rows,
                uses_table,
            } => {
                self.row_count = -1;
                let mut flags = self.status();
                if more {
                    flags |= status::MORE_RESULTS_EXISTS;
                }
                if uses_table {
                    flags |= status::NO_INDEX_USED;
                }
                out.columns(&columns, flags);
                for row in &rows {
                    out.row(&columns, row, is_binary);
                }
                out.end(flags, self.warnings);
            }
        }
    }

    fn prepare(&mut self, data: &mut Data, sql: &str, out: &mut Writer) {
        self.has_fresh_conditions = false;
        let folded = fold(sql);
        let checked = self.check_prepare(data, &folded);
        if let Err(refusal) = checked {
            return self.refuse(out, refusal);
        }
        let params = folded.matches('?').count();
        self.next_statement += 1;
        let statement = Prepared {
            sql: sql.to_owned(),
            schema: self.state.schema.clone(),
            was_moved: false,
            settings: self.state.variables.settings(),
            params,
            types: None,
            long: BTreeMap::new(),
            cursor: None,
        };
        self.statements.insert(self.next_statement, statement);
        let columns = match folded.strip_prefix("select ") {
            Some(list) => split(list, b',').len(),
            None => 0,
        };
        out.prepared(self.next_statement, columns, params, self.status());
    }

    fn check_prepare(&mut self, data: &Data, folded: &str) -> Result<(), Refusal> {
        if folded.contains("bad_") {
            return Err(Refusal(1054, "42S22", "Unknown column 'bad_'".to_owned()));
        }
        if let Some((_, table)) = folded.split_once(" from ") {
            let name = table.split(' ').next().unwrap_or_default();
            if is_name_of_table(name) && !name.starts_with("seq_") {
                self.conditions.clear();
            }
            if name.starts_with("tmp") && !self.state.temporary.contains_key(name) {
                return Err(no_table(&self.state, data, name));
            }
        }
        Ok(())
    }

    fn execute(&mut self, data: &mut Data, execute: &Execute<'_>, out: &mut Writer) {
        let id = self.resolve(execute.statement);
        let Some(statement) = self.statements.get_mut(&id) else {
            return self.refuse(out, unknown_statement(id));
        };
        statement.cursor = None;
        let long = std::mem::take(&mut statement.long);
        let params = match read_params(statement, execute, &long) {
            Some(params) => params,
            None => {
                let text = "Incorrect arguments to EXECUTE".to_owned();
                return self.refuse(out, Refusal(1210, "HY000", text));
            }
        };
        let (sql, schema) = (statement.sql.clone(), statement.schema.clone());
        self.executes_under = Some(statement.settings.clone());
        // A statement runs in the schema it was prepared in.
        let current = std::mem::replace(&mut self.state.schema, schema);
        let result = self.statement(data, &sql, &params);
        self.state.schema = current;
        self.executes_under = None;
        match result {
            Ok(Reply::Rows { columns, rows, .. }) if execute.flags & 1 != 0 => {
                out.columns_of_cursor(&columns, self.status() | status::CURSOR_EXISTS);
                self.row_count = -1;
                if let Some(statement) = self.statements.get_mut(&id) {
                    statement.cursor = Some((columns, rows));
                }
            }
            Ok(reply) => self.write(out, reply, false, true),
            Err(refusal) => self.refuse(out, refusal),
        }
    }

    fn fetch(&mut self, id: u32, rows: u32, out: &mut Writer) {
        let id = self.resolve(id);
        let flags = self.status();
        let cursor = self.statements.get_mut(&id).map(|s| &mut s.cursor);
        let Some(slot) = cursor else {
            return self.refuse(out, unknown_statement(id));
        };
        let Some((columns, left)) = slot else {
            let text = format!("The statement ({id}) has no open cursor");
            return self.refuse(out, Refusal(1421, "HY000", text));
        };
        let count = left.len().min(usize::try_from(rows).unwrap_or(usize::MAX));
        let is_over = u32::try_from(count) != Ok(rows);
        for row in left.drain(..count) {
            out.row(columns, &row, true);
        }
        if is_over {
            *slot = None;
        }
        let flag = if is_over {
            status::LAST_ROW_SENT
        } else {
            status::CURSOR_EXISTS
        };
        out.end(flags | flag, 0);
        self.found_rows = u64::try_from(count).unwrap_or(u64::MAX);
        self.row_count = -1;
    }
}

/// In a schema that is gone servers say this or that it is unknown, by the statement; the mock always
/// the latter, as the gateway does.
pub(super) fn no_table(state: &State, data: &Data, name: &str) -> Refusal {
    let Some(schema) = state.schema.as_deref() else {
        return Refusal(1046, "3D000", "No database selected".to_owned());
    };
    if data.dropped_schemas.contains(schema) {
        let text = format!("Unknown database '{schema}'");
        return Refusal(1049, "42000", text);
    }
    let text = format!("Table '{schema}.{name}' doesn't exist");
    Refusal(1146, "42S02", text)
}

fn unknown_statement(id: u32) -> Refusal {
    let text = format!("Unknown prepared statement handler ({id})");
    Refusal(1243, "HY000", text)
}

/// The parameters' types and values; `None` if they do not fit.
fn read_params(
    statement: &mut Prepared,
    execute: &Execute<'_>,
    long: &BTreeMap<u16, Vec<u8>>,
) -> Option<Vec<(u8, Option<String>)>> {
    let parameters = execute.parameters(statement.params).ok()?;
    if let Some(types) = parameters.types {
        statement.types = Some(types.to_vec());
    }
    if statement.params == 0 {
        return Some(Vec::new());
    }
    let types = statement.types.clone()?;
    let mut values = parameters.values;
    let mut list = Vec::new();
    for index in 0..statement.params {
        let kind = *types.get(index * 2)?;
        let value = if let Some(value) = long.get(&u16::try_from(index).ok()?) {
            Some(String::from_utf8_lossy(value).into_owned())
        } else if parameters.is_null(index) {
            None
        } else if kind == column_type::LONGLONG {
            let (head, rest) = values.split_first_chunk()?;
            values = rest;
            Some(i64::from_le_bytes(*head).to_string())
        } else {
            let (&len, rest) = values.split_first()?;
            let (text, rest) = rest.split_at_checked(usize::from(len))?;
            values = rest;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        list.push((kind, value));
    }
    values.is_empty().then_some(list)
}

/// Whether a reply of this server would be framed with legacy EOFs.
pub fn has_legacy_eof(capabilities: u32) -> bool {
    capabilities & caps::DEPRECATE_EOF == 0
}

/// A packet of a client.
pub fn command(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    packet(&mut out, 0, write);
    out
}
