//! What the shard's databases hold, read from SQLite's catalog.

use super::column::Kind;
use super::ddl::Target;
use super::error::SqlError;
use super::session::Session;
use super::translate::quote_name;
use rusqlite::types::Value;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) default: Option<String>,
    /// `PRI`, `UNI`, `MUL` or nothing.
    pub(super) key: &'static str,
    pub(super) auto_increment: bool,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableKey {
    pub(super) name: String,
    pub(super) unique: bool,
    pub(super) columns: Vec<String>,
}

pub(super) fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
        Value::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

impl Session {
    /// The name under which SQLite knows `schema`, attached if need be.
    ///
    /// Errors: 1049, 1046 when neither a database is named nor one is current.
    fn database_of(&mut self, schema: Option<&str>) -> Result<String, SqlError> {
        let current = self.schema();
        let name = schema
            .map(str::to_owned)
            .or_else(|| current.clone())
            .ok_or_else(SqlError::no_database)?;
        if self.environment.catalog.path(&name).is_none() {
            return Err(SqlError::unknown_database(&name));
        }
        if current.as_deref() == Some(name.as_str()) {
            return Ok("main".to_owned());
        }
        self.store.attach([&name])?;
        Ok(quote_name(&name))
    }

    /// The tables and views of a database: name and whether it is a view.
    pub(super) fn tables(&mut self, schema: Option<&str>) -> Result<Vec<(String, bool)>, SqlError> {
        let database = self.database_of(schema)?;
        let sql = format!(
            "SELECT name, type = 'view' FROM {database}.sqlite_schema \
             WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%' ORDER BY name"
        );
        let rows = self.rows(&sql, &[])?.rows;
        let pair = |row: Vec<Value>| {
            Some((
                text_of(row.first())?,
                row.get(1) == Some(&Value::Integer(1)),
            ))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    /// The keys of a table, the primary key first.
    pub(super) fn keys(&mut self, target: &Target) -> Result<Vec<TableKey>, SqlError> {
        let database = self.database_of(target.schema.as_deref())?;
        let table = quote_name(&target.name);
        let info = self
            .rows(&format!("PRAGMA {database}.table_info({table})"), &[])?
            .rows;
        let mut primary: Vec<(String, String)> = info
            .iter()
            .filter(|row| row.get(5) != Some(&Value::Integer(0)))
            .filter_map(|row| Some((text_of(row.get(5))?, text_of(row.get(1))?)))
            .collect();
        primary.sort();
        let mut keys = Vec::new();
        if !primary.is_empty() {
            let columns = primary.into_iter().map(|(_, name)| name).collect();
            keys.push(TableKey {
                name: "PRIMARY".to_owned(),
                unique: true,
                columns,
            });
        }
        let list = self
            .rows(&format!("PRAGMA {database}.index_list({table})"), &[])?
            .rows;
        for row in list
            .iter()
            .rev()
            .filter(|row| text_of(row.get(3)).as_deref() != Some("pk"))
        {
            let index = text_of(row.get(1)).unwrap_or_default();
            let sql = format!("PRAGMA {database}.index_info({})", quote_name(&index));
            let columns: Vec<String> = self
                .rows(&sql, &[])?
                .rows
                .iter()
                .filter_map(|row| text_of(row.get(2)))
                .collect();
            let name = match index.strip_prefix(&format!("{}$", target.name)) {
                Some(name) => name.to_owned(),
                None => columns.first().cloned().unwrap_or(index),
            };
            keys.push(TableKey {
                name,
                unique: row.get(2) == Some(&Value::Integer(1)),
                columns,
            });
        }
        Ok(keys)
    }

    /// The columns of a table.
    ///
    /// Errors: 1146 for an unknown table.
    pub(super) fn columns(&mut self, target: &Target) -> Result<Vec<TableColumn>, SqlError> {
        let database = self.database_of(target.schema.as_deref())?;
        let info = format!("PRAGMA {database}.table_info({})", quote_name(&target.name));
        let info = self.rows(&info, &[])?.rows;
        if info.is_empty() {
            let schema = target
                .schema
                .clone()
                .or_else(|| self.schema())
                .unwrap_or_default();
            return Err(SqlError::unknown_table(&schema, &target.name));
        }
        let keys = self.keys(target)?;
        let columns = info.iter().filter_map(|row| {
            let name = text_of(row.get(1))?;
            let declared = text_of(row.get(2)).unwrap_or_default();
            let primary = row.get(5) != Some(&Value::Integer(0));
            Some(TableColumn {
                kind: Kind::parse(&declared).unwrap_or(Kind::Text(4)),
                nullable: row.get(3) != Some(&Value::Integer(1)) && !primary,
                default: text_of(row.get(4)).map(|text| plain_default(&text)),
                key: key_mark(&keys, &name),
                // DDL translation writes this type for such columns only.
                auto_increment: primary && declared == "INTEGER",
                name,
            })
        });
        Ok(columns.collect())
    }
}

fn key_mark(keys: &[TableKey], column: &str) -> &'static str {
    let leads = |key: &&TableKey| key.columns.first().is_some_and(|first| first == column);
    let in_primary =
        |key: &TableKey| key.name == "PRIMARY" && key.columns.iter().any(|one| one == column);
    if keys.iter().any(in_primary) {
        return "PRI";
    }
    match keys.iter().find(leads) {
        Some(key) if key.unique && key.columns.len() == 1 => "UNI",
        Some(_) => "MUL",
        None => "",
    }
}

/// A default as MySQL shows it: without SQLite's parentheses and quotes.
fn plain_default(text: &str) -> String {
    let inner = text
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(text);
    match inner
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        Some(quoted) => quoted.replace("''", "'"),
        None => inner.to_owned(),
    }
}
