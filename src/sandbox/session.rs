//! One client's session: which statement does what, transactions, and the changes to report.

use super::catalog::{Catalog, SessionHandle, locked};
use super::column::Kind;
use super::ddl;
use super::error::SqlError;
use super::function::{Environment, State};
use super::report::transaction_state;
use super::store::Store;
use super::token::{Lexeme, Quoting, Statement, read};
use super::translate::Scope;
use crate::wire::mysql::flags::status;
use rusqlite::types::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What a statement answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No rows.
    Done(Done),
    /// A result set.
    Rows(Rows),
}

/// The facts of an OK packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows changed.
    pub affected: u64,
    /// First generated key.
    pub last_insert_id: u64,
    /// Text for people.
    pub info: String,
}

/// A result set, whole: results are gathered in memory before the first byte is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<ResultColumn>,
    /// The rows; each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// A column of a result set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

impl Rows {
    /// A result set of texts, as the `SHOW` statements give.
    pub fn of_texts(names: &[&str], rows: Vec<Vec<Option<String>>>) -> Self {
        let column = |name: &&str| ResultColumn {
            name: (*name).to_owned(),
            kind: Kind::Varchar(255),
        };
        let value = |text: Option<String>| text.map_or(Value::Null, Value::Text);
        Self {
            columns: names.iter().map(column).collect(),
            rows: rows
                .into_iter()
                .map(|row| row.into_iter().map(value).collect())
                .collect(),
        }
    }
}

/// An open transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) explicit: bool,
    pub(super) read_only: bool,
    pub(super) reads: bool,
    pub(super) writes: bool,
}

/// A session. One statement at a time; everything it does is done when a call returns.
pub struct Session {
    pub(super) environment: Environment,
    pub(super) store: Store,
    pub(super) transaction: Option<Transaction>,
    pub(super) warnings: Vec<(u16, String)>,
    pub(super) changed_variables: BTreeSet<String>,
    pub(super) schema_changed: bool,
    pub(super) state_changed: bool,
    prepared: BTreeMap<String, Vec<u8>>,
    pub(super) reported_transaction: (String, String),
}

impl Session {
    /// A session of the client behind `handle`.
    pub fn new(catalog: Arc<Catalog>, handle: Arc<SessionHandle>) -> Self {
        let state = Arc::new(Mutex::new(State::new(None)));
        let environment = Environment {
            state,
            catalog,
            handle,
        };
        Self {
            store: Store::new(environment.clone()),
            environment,
            transaction: None,
            warnings: Vec::new(),
            changed_variables: BTreeSet::new(),
            schema_changed: false,
            state_changed: false,
            prepared: BTreeMap::new(),
            reported_transaction: (transaction_state(None), String::new()),
        }
    }

    /// Forgets everything a client can have set, as COM_RESET_CONNECTION does; the database stays.
    pub fn reset(&mut self) {
        let (catalog, handle) = (
            self.environment.catalog.clone(),
            self.environment.handle.clone(),
        );
        let schema = self.schema();
        catalog.release_all(handle.id);
        handle.unwatch();
        *self = Self::new(catalog, handle);
        locked(&self.environment.state).schema = schema;
    }

    /// The current database.
    pub fn schema(&self) -> Option<String> {
        locked(&self.environment.state).schema.clone()
    }

    /// The warnings of the last statement.
    pub fn warning_count(&self) -> u16 {
        u16::try_from(self.warnings.len()).unwrap_or(u16::MAX)
    }

    /// Splits a text into statements under the session's `sql_mode`.
    ///
    /// Errors: 1064.
    pub fn read(&self, sql: &[u8]) -> Result<Vec<Statement>, SqlError> {
        read(sql, self.quoting())
    }

    pub(super) fn quoting(&self) -> Quoting {
        let state = locked(&self.environment.state);
        let mode = state
            .variables
            .text("sql_mode")
            .unwrap_or_default()
            .to_ascii_uppercase();
        Quoting {
            ansi_quotes: mode
                .split(',')
                .any(|one| one == "ANSI_QUOTES" || one == "ANSI"),
            plain_backslash: mode.split(',').any(|one| one == "NO_BACKSLASH_ESCAPES"),
        }
    }

    /// The status flags every answer carries.
    pub fn status(&self) -> u16 {
        let autocommit = locked(&self.environment.state)
            .variables
            .is_on("autocommit");
        let mut flags = if autocommit { status::AUTOCOMMIT } else { 0 };
        if let Some(transaction) = self.transaction {
            flags |= status::IN_TRANS;
            flags |= if transaction.read_only {
                status::IN_TRANS_READONLY
            } else {
                0
            };
        }
        flags
            | if self.quoting().plain_backslash {
                status::NO_BACKSLASH_ESCAPES
            } else {
                0
            }
    }

    /// Makes `name` the current database.
    ///
    /// Errors: 1049.
    pub fn use_schema(&mut self, name: &str) -> Result<(), SqlError> {
        let known = name.eq_ignore_ascii_case("information_schema")
            || self.environment.catalog.path(name).is_some();
        if !known {
            return Err(SqlError::unknown_database(name));
        }
        locked(&self.environment.state).schema = Some(name.to_owned());
        *locked(&self.environment.handle.schema) = Some(name.to_owned());
        self.schema_changed = true;
        self.state_changed = true;
        Ok(())
    }

    /// Runs one statement. `text` is what its tokens' spans index.
    ///
    /// Errors: whatever MySQL would answer; a deadlock ends the transaction.
    pub fn run(
        &mut self,
        statement: &Statement,
        text: &[u8],
        values: &[Value],
    ) -> Result<Outcome, SqlError> {
        let lexemes = &statement.lexemes;
        let diagnostic = lexemes.first().is_some_and(|l| l.is_word("SHOW"))
            && lexemes.iter().any(|l| l.is_any(&["WARNINGS", "ERRORS"]));
        if !diagnostic {
            self.warnings.clear();
        }
        let outcome = self.dispatch(lexemes, text, values);
        let mut state = locked(&self.environment.state);
        state.row_count = match &outcome {
            Ok(Outcome::Done(done)) => i64::try_from(done.affected).unwrap_or(i64::MAX),
            _ => -1,
        };
        if let Ok(Outcome::Rows(rows)) = &outcome {
            state.found_rows = i64::try_from(rows.rows.len()).unwrap_or(i64::MAX);
        }
        self.state_changed |= std::mem::take(&mut state.user_variables_changed);
        drop(state);
        if let Err(error) = &outcome {
            if error.errno == 1213 {
                self.rollback();
            }
            if !diagnostic {
                self.warnings.push((error.errno, error.message.clone()));
            }
        }
        outcome
    }

    fn dispatch(
        &mut self,
        lexemes: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<Outcome, SqlError> {
        let Some(first) = lexemes.first() else {
            return Err(SqlError::new(1065, "42000", "Query was empty"));
        };
        let verb = first.name().unwrap_or("(").to_ascii_uppercase();
        let second = |word: &str| lexemes.get(1).is_some_and(|l| l.is_word(word));
        let done = |()| Outcome::Done(Done::default());
        match verb.as_str() {
            "SELECT" | "WITH" | "VALUES" | "(" => {
                self.query(lexemes, text, values).map(Outcome::Rows)
            }
            "INSERT" | "REPLACE" | "UPDATE" | "DELETE" => self.change(&verb, lexemes, values),
            "BEGIN" => self.begin(false).map(done),
            "START" if second("TRANSACTION") => self
                .begin(lexemes.iter().any(|l| l.is_word("ONLY")))
                .map(done),
            "COMMIT" => self.commit().map(done),
            "ROLLBACK" if lexemes.iter().any(|l| l.is_word("TO")) => {
                self.savepoint(lexemes).map(done)
            }
            "ROLLBACK" => {
                self.rollback();
                Ok(Outcome::Done(Done::default()))
            }
            "SAVEPOINT" | "RELEASE" => self.savepoint(lexemes).map(done),
            "SET" => self.set(lexemes, text, values).map(done),
            "USE" => {
                let name = lexemes
                    .get(1)
                    .and_then(Lexeme::name)
                    .unwrap_or_default()
                    .to_owned();
                self.use_schema(&name).map(done)
            }
            "SHOW" | "DESC" | "DESCRIBE" => {
                self.show(&super::rewrite::interpolate(lexemes, values))
            }
            "EXPLAIN" => self.explain(lexemes, text, values),
            "CREATE" | "DROP" | "ALTER" | "RENAME" | "TRUNCATE" => {
                self.define(&verb, lexemes).map(done)
            }
            "DO" => {
                let mut select = lexemes.to_vec();
                if let Some(first) = select.first_mut() {
                    first.token = super::token::Token::Word("SELECT".to_owned());
                }
                self.query(&select, text, values).map(|_| done(()))
            }
            "KILL" => self.kill(lexemes).map(done),
            "PREPARE" | "EXECUTE" | "DEALLOCATE" => self.prepared(&verb, lexemes),
            "LOCK" | "UNLOCK" | "FLUSH" => self.commit().map(done),
            "ANALYZE" | "OPTIMIZE" | "CHECK" | "REPAIR" => self.maintain(&verb, lexemes),
            "CALL" | "HANDLER" | "LOAD" | "GRANT" | "REVOKE" | "XA" | "HELP" | "CHANGE"
            | "RESET" | "INSTALL" | "SHUTDOWN" | "IMPORT" | "SIGNAL" => {
                Err(SqlError::unsupported(&verb))
            }
            _ => Err(SqlError::syntax(&String::from_utf8_lossy(
                text.get(first.span.start..).unwrap_or_default(),
            ))),
        }
    }

    fn begin(&mut self, read_only: bool) -> Result<(), SqlError> {
        self.commit()?;
        let read_only = read_only
            || locked(&self.environment.state)
                .variables
                .is_on("transaction_read_only");
        self.transaction = Some(Transaction {
            explicit: true,
            read_only,
            ..Transaction::default()
        });
        Ok(())
    }

    /// Ends the transaction, if there is one.
    ///
    /// Errors: 1205 when a reader of an old snapshot stands in the way; the transaction is gone then.
    pub fn commit(&mut self) -> Result<(), SqlError> {
        self.transaction = None;
        self.store.commit()
    }

    /// Undoes the transaction, if there is one.
    pub fn rollback(&mut self) {
        self.transaction = None;
        self.store.rollback();
    }

    fn savepoint(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let name = lexemes
            .last()
            .and_then(Lexeme::name)
            .ok_or_else(|| SqlError::syntax("SAVEPOINT"))?;
        let verb = lexemes
            .first()
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        if self.transaction.is_none() {
            // Outside of a transaction a savepoint ends with its own statement.
            return match verb.as_str() {
                "SAVEPOINT" => Ok(()),
                _ => Err(unknown_savepoint(name)),
            };
        }
        self.prepare_transaction(true, verb == "SAVEPOINT")?;
        let name_sql = super::translate::quote_name(name);
        let sql = match verb.as_str() {
            "SAVEPOINT" => format!("SAVEPOINT {name_sql}"),
            "RELEASE" => format!("RELEASE {name_sql}"),
            _ => format!("ROLLBACK TO {name_sql}"),
        };
        self.store.script(&[sql]).map_err(|error| {
            match error.message.starts_with("no such savepoint") {
                true => unknown_savepoint(name),
                false => error,
            }
        })
    }

    /// Begins a transaction in the store if the session is in one or, with autocommit off, reads a table.
    ///
    /// Errors: 1792 for a write in a read-only transaction, 1205, 1046, 1049.
    pub(super) fn prepare_transaction(
        &mut self,
        table: bool,
        writes: bool,
    ) -> Result<(), SqlError> {
        let autocommit = locked(&self.environment.state)
            .variables
            .is_on("autocommit");
        if self.transaction.is_none() && !autocommit && table {
            self.transaction = Some(Transaction::default());
        }
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        if writes && transaction.read_only {
            let message = "Cannot execute statement in a READ ONLY transaction.";
            return Err(SqlError::new(1792, "25006", message));
        }
        transaction.reads |= table && !writes;
        transaction.writes |= writes;
        if table || writes {
            self.store.begin(writes)
        } else {
            Ok(())
        }
    }

    fn define(&mut self, verb: &str, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let temporary = lexemes.get(1).is_some_and(|l| l.is_word("TEMPORARY"));
        if !temporary {
            self.commit()?;
        }
        self.state_changed |= temporary;
        let object = lexemes
            .get(1 + usize::from(temporary))
            .and_then(Lexeme::name)
            .unwrap_or_default();
        let object = object.to_ascii_uppercase();
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        let scope = Scope {
            schema: schema.as_deref(),
            schemas: &schemas,
        };
        let script = match (verb, object.as_str()) {
            ("CREATE" | "DROP" | "ALTER", "DATABASE" | "SCHEMA") => {
                return self.define_schema(verb, lexemes);
            }
            ("CREATE", "TABLE") => ddl::create_table(lexemes, scope)?,
            ("CREATE", "INDEX" | "UNIQUE") => ddl::create_index(lexemes, scope)?,
            ("DROP", "INDEX") => ddl::drop_index(lexemes, scope)?,
            ("ALTER", "TABLE") => ddl::alter_table(lexemes, scope)?,
            ("RENAME", "TABLE") => ddl::rename_table(lexemes, scope)?,
            ("DROP", "TABLE" | "VIEW") => return self.drop_tables(lexemes),
            ("TRUNCATE", _) => return self.truncate(lexemes),
            ("CREATE", "VIEW" | "OR") => {
                let view = super::translate::position(lexemes, |l| l.is_word("VIEW")).unwrap_or(1);
                let (target, used) =
                    ddl::Target::read(lexemes.get(view + 1..).unwrap_or_default())?;
                let body = lexemes.get(view + 1 + used..).unwrap_or_default();
                let body = super::translate::translate(body, scope)?.sql;
                let name = format!(
                    "{}.{}",
                    target.database(scope),
                    super::translate::quote_name(&target.name)
                );
                vec![
                    format!("DROP VIEW IF EXISTS {name}"),
                    format!("CREATE VIEW {name} {body}"),
                ]
            }
            _ => return Err(SqlError::unsupported(&format!("{verb} {object}"))),
        };
        self.attach_named(lexemes)?;
        self.store.script(&script)
    }

    fn define_schema(&mut self, verb: &str, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let guarded = lexemes.iter().any(|l| l.is_word("EXISTS"));
        let at = match (guarded, verb) {
            (true, "CREATE") => 5,
            (true, _) => 4,
            (false, _) => 2,
        };
        let name = lexemes
            .get(at)
            .and_then(Lexeme::name)
            .ok_or_else(|| SqlError::syntax("DATABASE"))?;
        let catalog = &self.environment.catalog;
        let known = catalog.path(name).is_some();
        match verb {
            "CREATE" if guarded && known => {
                self.warnings.push((
                    1007,
                    format!("Can't create database '{name}'; database exists"),
                ));
                Ok(())
            }
            "DROP" if guarded && !known => Ok(()),
            "CREATE" => catalog.create_database(name),
            "DROP" => {
                let dropped = catalog.drop_database(name);
                if self.schema().as_deref() == Some(name) {
                    locked(&self.environment.state).schema = None;
                    self.schema_changed = true;
                }
                dropped
            }
            _ => Ok(()),
        }
    }

    fn kill(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let query_only = lexemes.get(1).is_some_and(|l| l.is_word("QUERY"));
        let id = match lexemes.last().map(|l| &l.token) {
            Some(super::token::Token::Number(text)) => text.parse().ok(),
            _ => None,
        };
        let id = id.ok_or_else(|| SqlError::syntax("KILL"))?;
        self.environment.catalog.kill(id, query_only)
    }

    /// `PREPARE name FROM …`, `EXECUTE name [USING @a, …]`, `DEALLOCATE PREPARE name`.
    fn prepared(&mut self, verb: &str, lexemes: &[Lexeme]) -> Result<Outcome, SqlError> {
        use super::token::Token;
        let at = if verb == "DEALLOCATE" { 2 } else { 1 };
        let name = lexemes
            .get(at)
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let unknown = || {
            let message = format!("Unknown prepared statement handler ({name}) given to {verb}");
            SqlError::new(1243, "HY000", message)
        };
        let user = |token: &Token| match token {
            Token::User(name) => locked(&self.environment.state)
                .user_variables
                .get(name)
                .cloned(),
            _ => None,
        };
        self.state_changed |= verb != "EXECUTE";
        match verb {
            "PREPARE" => {
                let text = match lexemes.get(3).map(|l| &l.token) {
                    Some(Token::Text(bytes)) => bytes.clone(),
                    Some(token) => match user(token) {
                        Some(Value::Text(text)) => text.into_bytes(),
                        _ => return Err(SqlError::syntax("NULL")),
                    },
                    None => return Err(SqlError::syntax("")),
                };
                let statement = self.read(&text)?.into_iter().next();
                let statement =
                    statement.ok_or_else(|| SqlError::new(1065, "42000", "Query was empty"))?;
                self.describe(&statement, &text)?;
                self.prepared.insert(name, text);
            }
            "DEALLOCATE" => {
                self.prepared.remove(&name).ok_or_else(unknown)?;
            }
            _ => {
                let text = self.prepared.get(&name).cloned().ok_or_else(unknown)?;
                let values: Vec<Value> = lexemes
                    .iter()
                    .skip(2)
                    .map(|l| &l.token)
                    .filter_map(|token| match token {
                        Token::User(_) => Some(user(token).unwrap_or(Value::Null)),
                        _ => None,
                    })
                    .collect();
                let statement = self.read(&text)?.into_iter().next().ok_or_else(unknown)?;
                if statement.parameters != values.len() {
                    return Err(SqlError::new(
                        1210,
                        "HY000",
                        "Incorrect arguments to EXECUTE",
                    ));
                }
                return self.dispatch(&statement.lexemes, &text, &values);
            }
        }
        Ok(Outcome::Done(Done::default()))
    }

    fn maintain(&mut self, verb: &str, lexemes: &[Lexeme]) -> Result<Outcome, SqlError> {
        let table = lexemes.last().and_then(Lexeme::name).unwrap_or_default();
        let name = format!("{}.{table}", self.schema().unwrap_or_default());
        let row = [
            name,
            verb.to_ascii_lowercase(),
            "status".to_owned(),
            "OK".to_owned(),
        ];
        let names = ["Table", "Op", "Msg_type", "Msg_text"];
        Ok(Outcome::Rows(Rows::of_texts(
            &names,
            vec![row.map(Some).to_vec()],
        )))
    }
}

fn unknown_savepoint(name: &str) -> SqlError {
    SqlError::new(1305, "42000", format!("SAVEPOINT {name} does not exist"))
}
