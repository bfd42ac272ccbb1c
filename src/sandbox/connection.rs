//! One client's connection: login, then command after command until it leaves.

use super::catalog::{Catalog, SessionHandle};
use super::column::Kind;
use super::ddl::Target;
use super::error::SqlError;
use super::login::{Login, accept};
use super::packet::Packets;
use super::result::{as_text, parameter, prepare, put_definition};
use super::session::{Done, Outcome, ResultColumn, Rows, Session};
use super::token::Statement;
use crate::wire::mysql::command::{Command, Execute};
use crate::wire::mysql::cursor::put_u8;
use crate::wire::mysql::flags::{caps, status};
use crate::wire::mysql::response::{
    EofPacket, ErrPacket, OkPacket, encode_end_of_rows, encode_eof, encode_err, encode_ok,
};
use crate::wire::mysql::value::{
    PrepareOk, Value as Wire, decode_parameters, encode_binary_row, encode_column_count,
    put_text_field,
};
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A client that says nothing this long after it connected is let go.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one client until it leaves or breaks the protocol.
///
/// Errors: the stream's; `InvalidData` for a broken protocol.
pub fn serve(
    stream: TcpStream,
    id: u32,
    catalog: &Arc<Catalog>,
    users: &[(String, String)],
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOGIN_TIMEOUT))?;
    let host = stream.peer_addr()?.ip().to_string();
    let mut packets = Packets::new(stream.try_clone()?, stream.try_clone()?);
    let Some(login) = accept(&mut packets, &catalog.server_version, id, &host, users)? else {
        return Ok(());
    };
    stream.set_read_timeout(None)?;
    let handle = Arc::new(SessionHandle::new(id, &login.user, &host, Some(stream)));
    catalog.enter(handle.clone());
    let mut connection = Connection::new(packets, handle, catalog.clone(), &login);
    let served = connection.run(login.schema);
    drop(connection);
    catalog.leave(id);
    served
}

/// A statement of the binary protocol.
struct Prepared {
    statement: Statement,
    text: Vec<u8>,
    types: Vec<u8>,
    long_data: BTreeMap<usize, Vec<u8>>,
}

struct Connection {
    packets: Packets<TcpStream>,
    caps: u32,
    collation: u16,
    handle: Arc<SessionHandle>,
    catalog: Arc<Catalog>,
    session: Session,
    prepared: BTreeMap<u32, Prepared>,
    next_statement: u32,
}

impl Connection {
    fn new(
        packets: Packets<TcpStream>,
        handle: Arc<SessionHandle>,
        catalog: Arc<Catalog>,
        login: &Login,
    ) -> Self {
        let mut session = Session::new(catalog.clone(), handle.clone());
        session.set_collation(login.collation);
        Self {
            packets,
            caps: login.caps,
            collation: login.collation,
            handle,
            catalog,
            session,
            prepared: BTreeMap::new(),
            next_statement: 1,
        }
    }

    fn run(&mut self, schema: Option<String>) -> io::Result<()> {
        let chosen = schema.map(|schema| self.session.use_schema(&schema));
        if let Some(Err(error)) = chosen {
            self.send_error(&error)?;
            return self.packets.flush();
        }
        self.send_ok(&Done::default(), 0)?;
        loop {
            self.packets.flush()?;
            self.packets.restart();
            let Some(payload) = self.packets.read()? else {
                return Ok(());
            };
            let Ok(command) = Command::parse(&payload) else {
                self.send_error(&SqlError::new(
                    1835,
                    "HY000",
                    "Malformed communication packet.",
                ))?;
                continue;
            };
            if command == Command::Quit {
                return Ok(());
            }
            self.catalog.questions.fetch_add(1, Ordering::Relaxed);
            self.handle.doing(Some(description(&command)));
            let served = self.command(command);
            self.handle.doing(None);
            served?;
        }
    }

    fn command(&mut self, command: Command<'_>) -> io::Result<()> {
        match command {
            Command::Query(sql) => self.query(sql),
            Command::InitDb(name) => {
                let used = self.session.use_schema(&String::from_utf8_lossy(name));
                self.finish(used)
            }
            Command::Ping => self.send_ok(&Done::default(), 0),
            Command::ResetConnection => {
                self.session.reset();
                self.session.set_collation(self.collation);
                self.prepared.clear();
                self.send_ok(&Done::default(), 0)
            }
            Command::Statistics => {
                let text = format!(
                    "Uptime: {}  Threads: {}  Questions: {}",
                    self.catalog.started.elapsed().as_secs(),
                    self.catalog.sessions().len(),
                    self.catalog.questions.load(Ordering::Relaxed)
                );
                self.packets
                    .write(|out| out.extend_from_slice(text.as_bytes()))
            }
            Command::FieldList { table, .. } => self.field_list(&String::from_utf8_lossy(table)),
            Command::ProcessKill(id) => {
                let killed = self.catalog.kill(id, false);
                self.finish(killed)
            }
            Command::SetOption(option) => {
                match option {
                    0 => self.caps |= caps::MULTI_STATEMENTS,
                    _ => self.caps &= !caps::MULTI_STATEMENTS,
                }
                let eof = EofPacket {
                    warnings: 0,
                    status: self.session.status(),
                };
                self.packets.write(|out| encode_eof(out, eof))
            }
            Command::StmtPrepare(sql) => self.prepare(sql),
            Command::StmtExecute(execute) => self.execute(&execute),
            Command::StmtSendLongData(long) => {
                if let Some(prepared) = self.prepared.get_mut(&long.statement) {
                    let chunk = prepared.long_data.entry(long.parameter.into()).or_default();
                    chunk.extend_from_slice(long.data);
                }
                Ok(())
            }
            Command::StmtReset(id) => match self.prepared.get_mut(&id) {
                Some(prepared) => {
                    prepared.long_data.clear();
                    self.send_ok(&Done::default(), 0)
                }
                None => self.send_error(&unknown_statement(id, "mysqld_stmt_reset")),
            },
            Command::StmtClose(id) => {
                self.prepared.remove(&id);
                Ok(())
            }
            _ => self.send_error(&SqlError::new(1047, "08S01", "Unknown command")),
        }
    }

    fn query(&mut self, sql: &[u8]) -> io::Result<()> {
        let statements = match self.session.read(sql) {
            Ok(statements) => statements,
            Err(error) => return self.send_error(&error),
        };
        let allowed = if self.caps & caps::MULTI_STATEMENTS == 0 {
            1
        } else {
            usize::MAX
        };
        if let Some(extra) = statements
            .get(allowed)
            .and_then(|statement| statement.lexemes.first())
        {
            let near = sql.get(extra.span.start..).unwrap_or_default();
            return self.send_error(&SqlError::syntax(&String::from_utf8_lossy(near)));
        }
        if statements.is_empty() {
            return self.send_error(&SqlError::new(1065, "42000", "Query was empty"));
        }
        for (index, statement) in statements.iter().enumerate() {
            let more = if index + 1 < statements.len() {
                status::MORE_RESULTS_EXISTS
            } else {
                0
            };
            match self.session.run(statement, sql, &[]) {
                Ok(Outcome::Done(done)) => self.send_ok(&done, more)?,
                Ok(Outcome::Rows(rows)) => self.send_rows(&rows, false, more)?,
                Err(error) => return self.send_error(&error),
            }
        }
        Ok(())
    }

    fn prepare(&mut self, sql: &[u8]) -> io::Result<()> {
        let read = self.session.read(sql).and_then(|mut statements| {
            if statements.len() > 1 {
                return Err(SqlError::syntax(";"));
            }
            let statement = statements.pop();
            let statement =
                statement.ok_or_else(|| SqlError::new(1065, "42000", "Query was empty"))?;
            self.session
                .describe(&statement, sql)
                .map(|columns| (statement, columns))
        });
        let (statement, columns) = match read {
            Ok(read) => read,
            Err(error) => return self.send_error(&error),
        };
        let id = self.next_statement;
        self.next_statement = self.next_statement.wrapping_add(1);
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let parameters = statement.parameters;
        let head = PrepareOk {
            statement: id,
            columns: count(columns.len()),
            parameters: count(parameters),
            warnings: 0,
        };
        self.packets.write(|out| head.encode(out))?;
        let placeholder = ResultColumn {
            name: "?".to_owned(),
            kind: Kind::Varchar(0),
        };
        self.definitions(&vec![placeholder; parameters])?;
        self.definitions(&columns)?;
        let prepared = Prepared {
            statement,
            text: sql.to_vec(),
            types: Vec::new(),
            long_data: BTreeMap::new(),
        };
        self.prepared.insert(id, prepared);
        Ok(())
    }

    /// Column definitions and the EOF behind them, where the client wants one.
    fn definitions(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        let schema = self.session.schema().unwrap_or_default();
        for column in columns {
            self.packets
                .write(|out| put_definition(out, &schema, "", column))?;
        }
        if columns.is_empty() || self.caps & caps::DEPRECATE_EOF != 0 {
            return Ok(());
        }
        let eof = EofPacket {
            warnings: 0,
            status: self.session.status(),
        };
        self.packets.write(|out| encode_eof(out, eof))
    }

    fn execute(&mut self, execute: &Execute<'_>) -> io::Result<()> {
        let Some(prepared) = self.prepared.get_mut(&execute.statement) else {
            return self.send_error(&unknown_statement(execute.statement, "mysqld_stmt_execute"));
        };
        let Some(values) = parameters_of(prepared, execute) else {
            return self.send_error(&SqlError::new(
                1210,
                "HY000",
                "Incorrect arguments to mysqld_stmt_execute",
            ));
        };
        match self
            .session
            .run(&prepared.statement, &prepared.text, &values)
        {
            Ok(Outcome::Done(done)) => self.send_ok(&done, 0),
            Ok(Outcome::Rows(rows)) => self.send_rows(&rows, true, 0),
            Err(error) => self.send_error(&error),
        }
    }

    fn field_list(&mut self, table: &str) -> io::Result<()> {
        let target = Target {
            schema: None,
            name: table.to_owned(),
        };
        let columns = match self.session.columns(&target) {
            Ok(columns) => columns,
            Err(error) => return self.send_error(&error),
        };
        let schema = self.session.schema().unwrap_or_default();
        for column in columns {
            let column = ResultColumn {
                name: column.name,
                kind: column.kind,
            };
            self.packets.write(|out| {
                put_definition(out, &schema, table, &column);
                // The default value, which this command adds: NULL.
                put_u8(out, 0xfb);
            })?;
        }
        self.send_end_of_rows(0)
    }

    fn finish(&mut self, result: Result<(), SqlError>) -> io::Result<()> {
        match result {
            Ok(()) => self.send_ok(&Done::default(), 0),
            Err(error) => self.send_error(&error),
        }
    }

    fn send_ok(&mut self, done: &Done, more: u16) -> io::Result<()> {
        let changes = self.session.take_changes();
        let ok = OkPacket {
            affected_rows: done.affected,
            last_insert_id: done.last_insert_id,
            status: self.session.status() | more,
            warnings: self.session.warning_count(),
            info: done.info.as_bytes(),
            session_changes: &changes,
        };
        let negotiated = self.caps;
        self.packets.write(|out| encode_ok(out, negotiated, &ok))
    }

    fn send_error(&mut self, error: &SqlError) -> io::Result<()> {
        let packet = ErrPacket::new(error.errno, error.state, error.message.as_bytes());
        self.packets.write(|out| encode_err(out, &packet))
    }

    fn send_rows(&mut self, rows: &Rows, binary: bool, more: u16) -> io::Result<()> {
        self.packets
            .write(|out| encode_column_count(out, &rows.columns))?;
        self.definitions(&rows.columns)?;
        for row in &rows.rows {
            let cells = row.iter().zip(&rows.columns);
            if binary {
                let cells: Vec<_> = cells
                    .map(|(value, column)| prepare(value, column.kind))
                    .collect();
                let cells: Vec<(u8, Wire<'_>)> =
                    cells.iter().map(super::result::Prepared::wire).collect();
                let mut encoded = Ok(());
                self.packets
                    .write(|out| encoded = encode_binary_row(out, &cells))?;
                encoded.map_err(io::Error::other)?;
            } else {
                self.packets.write(|out| {
                    for (value, column) in cells {
                        put_text_field(out, as_text(value, column.kind).as_deref());
                    }
                })?;
            }
        }
        self.send_end_of_rows(more)
    }

    fn send_end_of_rows(&mut self, more: u16) -> io::Result<()> {
        // An EOF has no room for changes: they wait for the next OK.
        let room = self.caps & caps::DEPRECATE_EOF != 0;
        let changes = if room {
            self.session.take_changes()
        } else {
            Vec::new()
        };
        let ok = OkPacket {
            status: self.session.status() | more,
            warnings: self.session.warning_count(),
            session_changes: &changes,
            ..OkPacket::default()
        };
        let negotiated = self.caps;
        self.packets
            .write(|out| encode_end_of_rows(out, negotiated, &ok))
    }
}

fn unknown_statement(id: u32, what: &str) -> SqlError {
    SqlError::new(
        1243,
        "HY000",
        format!("Unknown prepared statement handler ({id}) given to {what}"),
    )
}

/// The values of an execution; `None` when they do not fit the statement.
fn parameters_of(prepared: &mut Prepared, execute: &Execute<'_>) -> Option<Vec<Value>> {
    let count = prepared.statement.parameters;
    let parameters = execute.parameters(count).ok()?;
    if let Some(types) = parameters.types {
        prepared.types = types.to_vec();
    }
    if prepared.types.len() != count * 2 {
        return None;
    }
    let mut long = std::mem::take(&mut prepared.long_data);
    let long_ones: Vec<usize> = long.keys().copied().collect();
    let mut values = Vec::with_capacity(count);
    decode_parameters(
        &parameters,
        &prepared.types,
        |index| long_ones.contains(&index),
        |index, value| {
            values.push(match value {
                Some(value) => parameter(&value),
                None => parameter(&Wire::Bytes(&long.remove(&index).unwrap_or_default())),
            });
        },
    )
    .ok()?;
    Some(values)
}

/// What `SHOW PROCESSLIST` prints.
fn description(command: &Command<'_>) -> String {
    match command {
        Command::Query(sql) | Command::StmtPrepare(sql) => {
            String::from_utf8_lossy(sql).into_owned()
        }
        Command::StmtExecute(_) => "Execute".to_owned(),
        _ => String::new(),
    }
}
