//! Queries and changes: translated, run on SQLite, answered with MySQL's types and counts.

use super::catalog::locked;
use super::column::Kind;
use super::ddl::Target;
use super::error::SqlError;
use super::rewrite;
use super::session::{Done, Outcome, ResultColumn, Rows, Session};
use super::token::{Lexeme, Statement};
use super::translate::{Scope, Translated, quote_name, split_commas, translate};
use rusqlite::types::Value;

impl Session {
    pub(super) fn translated(&mut self, lexemes: &[Lexeme]) -> Result<Translated, SqlError> {
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        let translated = translate(
            lexemes,
            Scope {
                schema: schema.as_deref(),
                schemas: &schemas,
            },
        )?;
        self.store.attach(&translated.attach)?;
        if translated.information_schema {
            self.make_information_schema()?;
        }
        Ok(translated)
    }

    /// Attaches the databases that a definition names outside of expressions.
    pub(super) fn attach_named(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let (schema, known) = (self.schema(), self.environment.catalog.names());
        let dotted = lexemes
            .windows(2)
            .filter(|pair| pair.get(1).is_some_and(|l| l.is_symbol(".")));
        let names: Vec<String> = dotted
            .filter_map(|pair| pair.first().and_then(Lexeme::name))
            .filter(|name| schema.as_deref() != Some(name) && known.iter().any(|one| one == name))
            .map(str::to_owned)
            .collect();
        self.store.attach(&names)
    }

    fn sqlite_error(&self, error: &rusqlite::Error) -> SqlError {
        if self.environment.handle.is_killed() {
            return SqlError::interrupted();
        }
        let error = SqlError::from_sqlite(error, &self.schema().unwrap_or_default());
        if error.errno == 1146 && self.schema().is_none() {
            return SqlError::no_database();
        }
        match error.message.strip_prefix("Unknown system variable") {
            Some(_) => SqlError::new(1193, "HY000", error.message),
            None => error,
        }
    }

    /// Runs a query and gathers its rows.
    pub(super) fn query(
        &mut self,
        lexemes: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<Rows, SqlError> {
        let (cleaned, locking) = rewrite::clean(lexemes);
        let translated = self.translated(&rewrite::name_columns(cleaned, text))?;
        let locking = locking && self.transaction.is_some();
        self.prepare_transaction(rewrite::reads_table(lexemes), locking)?;
        self.rows(&translated.sql, values)
    }

    /// Runs SQLite text that gives rows.
    pub(super) fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Rows, SqlError> {
        let result = gather(self.store.connection()?, sql, values);
        result.map_err(|error| self.sqlite_error(&error))
    }

    /// The columns a statement will give; none for one that gives no rows or is not SQLite's to run.
    ///
    /// Errors: those that the statement's names and syntax have.
    pub fn describe(
        &mut self,
        statement: &Statement,
        text: &[u8],
    ) -> Result<Vec<ResultColumn>, SqlError> {
        let lexemes = &statement.lexemes;
        let Some(first) = lexemes.first() else {
            return Err(SqlError::new(1065, "42000", "Query was empty"));
        };
        let translated = if first.is_any(&["SELECT", "WITH", "VALUES"]) || first.is_symbol("(") {
            self.translated(&rewrite::name_columns(rewrite::clean(lexemes).0, text))?
        } else if first.is_any(&["INSERT", "REPLACE", "UPDATE", "DELETE"]) {
            let verb = first.name().unwrap_or_default().to_ascii_uppercase();
            self.translated(&change_form(&verb, lexemes)?)?
        } else {
            return Ok(Vec::new());
        };
        let connection = self.store.connection()?;
        let described = connection.prepare(&translated.sql).map(|statement| {
            let columns = statement.columns().map(|column| ResultColumn {
                name: column.name().to_owned(),
                kind: column
                    .decl_type()
                    .and_then(Kind::parse)
                    .unwrap_or(Kind::Varchar(255)),
            });
            columns.collect::<Vec<_>>()
        });
        described.map_err(|error| self.sqlite_error(&error))
    }

    /// `INSERT`, `REPLACE`, `UPDATE`, `DELETE`.
    pub(super) fn change(
        &mut self,
        verb: &str,
        lexemes: &[Lexeme],
        values: &[Value],
    ) -> Result<Outcome, SqlError> {
        let rewritten = change_form(verb, lexemes)?;
        let translated = self.translated(&rewritten)?;
        self.prepare_transaction(true, true)?;
        let connection = self.store.connection()?;
        let before = connection.total_changes();
        let rows = gather(connection, &translated.sql, values);
        let (affected, row_id) = (connection.changes(), connection.last_insert_rowid());
        let changed = connection.total_changes() != before;
        let rows = rows.map_err(|error| self.sqlite_error(&error))?;
        if !rows.columns.is_empty() {
            return Ok(Outcome::Rows(rows));
        }
        let mut done = Done {
            affected: if changed { affected } else { 0 },
            ..Done::default()
        };
        if verb == "UPDATE" {
            done.info = format!(
                "Rows matched: {affected}  Changed: {affected}  Warnings: 0",
                affected = done.affected
            );
        }
        if matches!(verb, "INSERT" | "REPLACE") && changed && self.has_auto_increment(&rewritten)? {
            let first = row_id
                .saturating_sub(i64::try_from(affected).unwrap_or(0))
                .saturating_add(1);
            locked(&self.environment.state).last_insert_id = first;
            done.last_insert_id = u64::try_from(first).unwrap_or(0);
        }
        if matches!(verb, "INSERT" | "REPLACE") && done.affected > 1 {
            done.info = format!("Records: {}  Duplicates: 0  Warnings: 0", done.affected);
        }
        Ok(Outcome::Done(done))
    }

    /// Whether the table of an insert hands out its keys.
    fn has_auto_increment(&mut self, insert: &[Lexeme]) -> Result<bool, SqlError> {
        let into = insert
            .iter()
            .position(|l| l.is_word("INTO"))
            .map_or(1, |at| at + 1);
        let (target, _) = Target::read(insert.get(into..).unwrap_or_default())?;
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        let database = target.database(Scope {
            schema: schema.as_deref(),
            schemas: &schemas,
        });
        let sql = format!(
            "SELECT count(*) FROM (SELECT name, sql FROM {database}.sqlite_schema UNION ALL \
             SELECT name, sql FROM sqlite_temp_schema) WHERE name = ?1 COLLATE NOCASE AND sql LIKE '%AUTOINCREMENT%'"
        );
        let rows = self.rows(&sql, &[Value::Text(target.name)])?;
        Ok(rows.rows.first().and_then(|row| row.first()) != Some(&Value::Integer(0)))
    }

    /// `DROP TABLE` and `DROP VIEW`, each name on its own.
    pub(super) fn drop_tables(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let temporary = usize::from(lexemes.get(1).is_some_and(|l| l.is_word("TEMPORARY")));
        let kind = lexemes
            .get(1 + temporary)
            .and_then(Lexeme::name)
            .unwrap_or("TABLE")
            .to_ascii_uppercase();
        let guarded = lexemes.get(2 + temporary).is_some_and(|l| l.is_word("IF"));
        let start = 2 + temporary + if guarded { 2 } else { 0 };
        self.attach_named(lexemes)?;
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        let scope = Scope {
            schema: schema.as_deref(),
            schemas: &schemas,
        };
        for name in split_commas(lexemes.get(start..).unwrap_or_default()) {
            let (target, _) = Target::read(name)?;
            // Without a database in front SQLite finds temporary tables first, as MySQL does.
            let place = match target.schema {
                Some(_) => format!("{}.", target.database(scope)),
                None => String::new(),
            };
            let drop = format!("DROP {kind} {place}{}", quote_name(&target.name));
            match self.store.script(&[drop]) {
                Err(error) if error.errno == 1146 || error.message.starts_with("no such view") => {
                    let owner = target.schema.or_else(|| schema.clone()).unwrap_or_default();
                    let message = format!("Unknown table '{owner}.{}'", target.name);
                    if !guarded {
                        return Err(SqlError::new(1051, "42S02", message));
                    }
                    self.warnings.push((1051, message));
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// `TRUNCATE [TABLE] name`: empties it and starts its keys again.
    pub(super) fn truncate(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let at = 1 + usize::from(lexemes.get(1).is_some_and(|l| l.is_word("TABLE")));
        let (target, _) = Target::read(lexemes.get(at..).unwrap_or_default())?;
        self.attach_named(lexemes)?;
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        let database = target.database(Scope {
            schema: schema.as_deref(),
            schemas: &schemas,
        });
        self.store.script(&[format!(
            "DELETE FROM {database}.{}",
            quote_name(&target.name)
        )])?;
        let kept = self.rows(
            &format!("SELECT 1 FROM {database}.sqlite_schema WHERE name = 'sqlite_sequence'"),
            &[],
        )?;
        if kept.rows.is_empty() {
            return Ok(());
        }
        let name = super::translate::text_literal(target.name.as_bytes());
        self.store.script(&[format!(
            "DELETE FROM {database}.sqlite_sequence WHERE name = {name}"
        )])
    }

    /// `EXPLAIN table` describes a table, `EXPLAIN query` gives SQLite's plan.
    pub(super) fn explain(
        &mut self,
        lexemes: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<Outcome, SqlError> {
        let query = lexemes
            .iter()
            .position(|l| l.is_any(&["SELECT", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE"]));
        let Some(query) = query else {
            return self.show(lexemes);
        };
        let lexemes = rewrite::clean(lexemes.get(query..).unwrap_or_default()).0;
        let translated = self.translated(&rewrite::name_columns(lexemes, text))?;
        self.rows(&format!("EXPLAIN QUERY PLAN {}", translated.sql), values)
            .map(Outcome::Rows)
    }
}

fn change_form(verb: &str, lexemes: &[Lexeme]) -> Result<Vec<Lexeme>, SqlError> {
    let (cleaned, _) = rewrite::clean(lexemes);
    match verb {
        "INSERT" | "REPLACE" => rewrite::insert(&cleaned),
        _ => {
            let cleaned = match cleaned.get(1).is_some_and(|l| l.is_word("IGNORE")) {
                true => [&cleaned[..1], &[Lexeme::raw("OR IGNORE")], &cleaned[2..]].concat(),
                false => cleaned,
            };
            Ok(rewrite::limited(cleaned))
        }
    }
}

fn gather(
    connection: &rusqlite::Connection,
    sql: &str,
    values: &[Value],
) -> rusqlite::Result<Rows> {
    let mut statement = connection.prepare(sql)?;
    let count = statement.column_count();
    let declared: Vec<(String, Option<Kind>)> = statement
        .columns()
        .map(|column| {
            (
                column.name().to_owned(),
                column.decl_type().and_then(Kind::parse),
            )
        })
        .collect();
    let wanted = statement.parameter_count();
    for (index, value) in values.iter().take(wanted).enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    let mut rows = Vec::new();
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        let values: rusqlite::Result<Vec<Value>> = (0..count).map(|index| row.get(index)).collect();
        rows.push(values?);
    }
    let columns = declared
        .into_iter()
        .enumerate()
        .map(|(index, (name, kind))| ResultColumn {
            name,
            kind: kind.unwrap_or_else(|| {
                kind_of(rows.iter().filter_map(|row: &Vec<Value>| row.get(index)))
            }),
        });
    Ok(Rows {
        columns: columns.collect(),
        rows,
    })
}

/// The type of an expression, from the values it took.
fn kind_of<'a>(values: impl Iterator<Item = &'a Value>) -> Kind {
    let rank = |value: &Value| match value {
        Value::Null => 0_u8,
        Value::Integer(_) => 1,
        Value::Real(_) => 2,
        Value::Text(_) => 3,
        Value::Blob(_) => 4,
    };
    match values.map(rank).max() {
        Some(1) => Kind::BIGINT,
        Some(2) => Kind::Double,
        Some(4) => Kind::Varbinary(65_535),
        Some(0) => Kind::Null,
        _ => Kind::Varchar(16_383),
    }
}
