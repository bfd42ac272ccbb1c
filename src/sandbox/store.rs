//! A session's SQLite connections: one for each database it has been in, begun and ended together.

use super::catalog::locked;
use super::error::SqlError;
use super::function::{Environment, register};
use super::translate::{quote_name, text_literal};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The connections of one session.
pub struct Store {
    environment: Environment,
    /// By file; the empty path is a session without a database.
    open: BTreeMap<PathBuf, Open>,
}

struct Open {
    connection: Connection,
    attached: BTreeMap<String, PathBuf>,
    begun: bool,
}

impl Store {
    /// A store that opens nothing yet.
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            open: BTreeMap::new(),
        }
    }

    /// The current database's file.
    ///
    /// Errors: 1049 when another session dropped it.
    fn current(&self) -> Result<PathBuf, SqlError> {
        let schema = locked(&self.environment.state).schema.clone();
        match schema {
            Some(name) if !name.eq_ignore_ascii_case("information_schema") => self
                .environment
                .catalog
                .path(&name)
                .ok_or_else(|| SqlError::unknown_database(&name)),
            _ => Ok(PathBuf::new()),
        }
    }

    fn opened(&mut self) -> Result<&mut Open, SqlError> {
        let path = self.current()?;
        if !self.open.contains_key(&path) {
            let connection = self
                .connect(&path)
                .map_err(|e| SqlError::from_sqlite(&e, ""))?;
            self.environment
                .handle
                .watch(connection.get_interrupt_handle());
            let open = Open {
                connection,
                attached: BTreeMap::new(),
                begun: false,
            };
            self.open.insert(path.clone(), open);
        }
        self.open.get_mut(&path).ok_or_else(SqlError::no_database)
    }

    fn connect(&self, path: &PathBuf) -> rusqlite::Result<Connection> {
        let connection = match path.as_os_str().is_empty() {
            true => Connection::open_in_memory()?,
            false => Connection::open(path)?,
        };
        let state = locked(&self.environment.state);
        let wait = state
            .variables
            .text("innodb_lock_wait_timeout")
            .and_then(|text| text.parse().ok());
        connection.busy_timeout(Duration::from_secs(wait.unwrap_or(50)))?;
        let keys = if state.variables.is_on("foreign_key_checks") {
            "ON"
        } else {
            "OFF"
        };
        drop(state);
        // Readers never wait for the writer; durability is not what a sandbox is for.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = {keys};"
        ))?;
        register(&connection, &self.environment)?;
        Ok(connection)
    }

    /// The current database's connection.
    ///
    /// Errors: 1049, or SQLite cannot open the file.
    pub fn connection(&mut self) -> Result<&Connection, SqlError> {
        Ok(&self.opened()?.connection)
    }

    /// Makes the databases `names` reachable under their names.
    ///
    /// Errors: 1049.
    pub fn attach<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), SqlError> {
        self.detach_dropped()?;
        for name in names {
            let path = self.environment.catalog.path(name);
            let path = path.ok_or_else(|| SqlError::unknown_database(name))?;
            let open = self.opened()?;
            if open.attached.contains_key(name) {
                continue;
            }
            let file = text_literal(path.to_string_lossy().as_bytes());
            let quoted = quote_name(name);
            let sql = format!("ATTACH {file} AS {quoted}; PRAGMA {quoted}.journal_mode = WAL;");
            open.connection
                .execute_batch(&sql)
                .map_err(|e| SqlError::from_sqlite(&e, name))?;
            open.attached.insert(name.clone(), path);
        }
        Ok(())
    }

    /// Lets go of databases that somebody dropped, so that their tables are gone here too.
    fn detach_dropped(&mut self) -> Result<(), SqlError> {
        let catalog = self.environment.catalog.clone();
        let open = self.opened()?;
        let gone: Vec<String> = open
            .attached
            .iter()
            .filter(|(name, path)| catalog.path(name).as_ref() != Some(*path))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let detach = format!("DETACH {}", quote_name(&name));
            open.connection
                .execute_batch(&detach)
                .map_err(|e| SqlError::from_sqlite(&e, &name))?;
            open.attached.remove(&name);
        }
        Ok(())
    }

    /// Begins a transaction on the current connection, unless it is in one.
    ///
    /// One that begins with a write takes the write lock at once: its reads cannot grow old.
    ///
    /// Errors: 1205.
    pub fn begin(&mut self, writes: bool) -> Result<(), SqlError> {
        let open = self.opened()?;
        if open.begun {
            return Ok(());
        }
        let sql = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
        open.connection
            .execute_batch(sql)
            .map_err(|e| SqlError::from_sqlite(&e, ""))?;
        open.begun = true;
        Ok(())
    }

    /// Commits everywhere.
    ///
    /// Errors: the first one; the rest is committed or undone all the same.
    pub fn commit(&mut self) -> Result<(), SqlError> {
        let mut result = Ok(());
        for open in self.open.values_mut().filter(|open| open.begun) {
            open.begun = false;
            if open.connection.is_autocommit() {
                continue;
            }
            if let Err(error) = open.connection.execute_batch("COMMIT") {
                let undone = open.connection.execute_batch("ROLLBACK");
                result = result.and(
                    undone
                        .and(Err(error))
                        .map_err(|e| SqlError::from_sqlite(&e, "")),
                );
            }
        }
        result
    }

    /// Undoes everywhere.
    pub fn rollback(&mut self) {
        for open in self.open.values_mut().filter(|open| open.begun) {
            open.begun = false;
            if !open.connection.is_autocommit()
                && open.connection.execute_batch("ROLLBACK").is_err()
            {
                // A connection that cannot go back is no good: the next statement opens another.
                open.begun = true;
            }
        }
        self.open.retain(|_, open| !open.begun);
    }

    /// Runs statements that give no rows.
    ///
    /// Errors: the first statement's that fails.
    pub fn script(&mut self, script: &[String]) -> Result<(), SqlError> {
        let schema = locked(&self.environment.state)
            .schema
            .clone()
            .unwrap_or_default();
        let connection = self.connection()?;
        for sql in script {
            connection
                .execute_batch(sql)
                .map_err(|e| SqlError::from_sqlite(&e, &schema))?;
        }
        Ok(())
    }
}
