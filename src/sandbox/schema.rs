//! What the shard's databases hold, read from SQLite's catalog; `information_schema` made of it.

use super::column::Kind;
use super::ddl::Target;
use super::error::SqlError;
use super::session::Session;
use super::translate::{Scope, information_table, quote_name};
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
        let name = schema.map(str::to_owned).or_else(|| current.clone()).ok_or_else(SqlError::no_database)?;
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
        let pair = |row: Vec<Value>| Some((text_of(row.first())?, row.get(1) == Some(&Value::Integer(1))));
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    /// The keys of a table, the primary key first.
    pub(super) fn keys(&mut self, target: &Target) -> Result<Vec<TableKey>, SqlError> {
        let database = self.database_of(target.schema.as_deref())?;
        let table = quote_name(&target.name);
        let info = self.rows(&format!("PRAGMA {database}.table_info({table})"), &[])?.rows;
        let mut primary: Vec<(String, String)> = info
            .iter()
            .filter(|row| row.get(5) != Some(&Value::Integer(0)))
            .filter_map(|row| Some((text_of(row.get(5))?, text_of(row.get(1))?)))
            .collect();
        primary.sort();
        let mut keys = Vec::new();
        if !primary.is_empty() {
            let columns = primary.into_iter().map(|(_, name)| name).collect();
            keys.push(TableKey { name: "PRIMARY".to_owned(), unique: true, columns });
        }
        let list = self.rows(&format!("PRAGMA {database}.index_list({table})"), &[])?.rows;
        for row in list.iter().rev().filter(|row| text_of(row.get(3)).as_deref() != Some("pk")) {
            let index = text_of(row.get(1)).unwrap_or_default();
            let sql = format!("PRAGMA {database}.index_info({})", quote_name(&index));
            let columns: Vec<String> =
                self.rows(&sql, &[])?.rows.iter().filter_map(|row| text_of(row.get(2))).collect();
            let name = match index.strip_prefix(&format!("{}$", target.name)) {
                Some(name) => name.to_owned(),
                None => columns.first().cloned().unwrap_or(index),
            };
            keys.push(TableKey { name, unique: row.get(2) == Some(&Value::Integer(1)), columns });
        }
        Ok(keys)
    }

    /// The columns of a table.
    ///
    /// Errors: 1146 for an unknown table.
    pub(super) fn columns(&mut self, target: &Target) -> Result<Vec<TableColumn>, SqlError> {
        let database = match self.database_of(target.schema.as_deref()) {
            Ok(database) => database,
            Err(error) => return Err(error),
        };
        let info = format!("PRAGMA {database}.table_info({})", quote_name(&target.name));
        let info = self.rows(&info, &[])?.rows;
        if info.is_empty() {
            let schema = target.schema.clone().or_else(|| self.schema()).unwrap_or_default();
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

    /// Makes the temporary tables that stand for `information_schema`.
    pub(super) fn make_information_schema(&mut self) -> Result<(), SqlError> {
        let mut tables: Vec<(&str, &[&str], Vec<Vec<Value>>)> = Vec::new();
        let text = |text: &str| Value::Text(text.to_owned());
        let mut names = self.environment.catalog.names();
        let schemata = names.iter().map(|name| {
            vec![text("def"), text(name), text("utf8mb4"), text("utf8mb4_general_ci"), Value::Null]
        });
        tables.push(("schemata", &SCHEMATA, schemata.collect()));
        let (mut all_tables, mut all_columns, mut all_keys) = (Vec::new(), Vec::new(), Vec::new());
        for schema in names.drain(..) {
            for (table, view) in self.tables(Some(&schema))? {
                let kind = if view { "VIEW" } else { "BASE TABLE" };
                let engine = if view { Value::Null } else { text("InnoDB") };
                all_tables.push(vec![
                    text("def"), text(&schema), text(&table), text(kind), engine, Value::Integer(10),
                    text("Dynamic"), Value::Integer(0), text("utf8mb4_general_ci"), text(""),
                ]);
                let target = Target { schema: Some(schema.clone()), name: table };
                let columns = self.columns(&target)?;
                for (index, column) in columns.into_iter().enumerate() {
                    all_columns.push(column_row(&target, index, &column));
                }
                for key in self.keys(&target)? {
                    for (index, column) in key.columns.iter().enumerate() {
                        all_keys.push(vec![
                            text("def"), text(&schema), text(&target.name), Value::Integer((!key.unique).into()),
                            text(&key.name), position(index), text(column), text("BTREE"),
                        ]);
                    }
                }
            }
        }
        let usage = all_keys.iter().filter(|row| row.get(3) == Some(&Value::Integer(0))).map(|row| {
            [4, 1, 2, 6, 5].iter().filter_map(|at| row.get(*at).cloned()).collect::<Vec<_>>()
        });
        tables.push(("key_column_usage", &KEY_COLUMN_USAGE, usage.collect()));
        tables.push(("tables", &TABLES, all_tables));
        tables.push(("columns", &COLUMNS, all_columns));
        tables.push(("statistics", &STATISTICS, all_keys));
        for (name, columns) in EMPTY {
            tables.push((name, columns, Vec::new()));
        }
        for (name, columns, rows) in tables {
            self.fill(&information_table(name), columns, &rows)?;
        }
        Ok(())
    }

    fn fill(&mut self, table: &str, columns: &[&str], rows: &[Vec<Value>]) -> Result<(), SqlError> {
        let names: Vec<String> = columns.iter().map(|name| format!("{} COLLATE NOCASE", quote_name(name))).collect();
        let table = quote_name(table);
        self.store.script(&[
            format!("DROP TABLE IF EXISTS temp.{table}"),
            format!("CREATE TABLE temp.{table} ({})", names.join(", ")),
        ])?;
        for row in rows {
            let marks: Vec<String> = (1..=row.len()).map(|number| format!("?{number}")).collect();
            self.rows(&format!("INSERT INTO temp.{table} VALUES ({})", marks.join(", ")), row)?;
        }
        Ok(())
    }

    /// The scope in which names mean what they mean now.
    pub(super) fn with_scope<T>(&self, f: impl FnOnce(Scope<'_>) -> T) -> T {
        let (schema, schemas) = (self.schema(), self.environment.catalog.names());
        f(Scope { schema: schema.as_deref(), schemas: &schemas })
    }
}

const SCHEMATA: [&str; 5] =
    ["CATALOG_NAME", "SCHEMA_NAME", "DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME", "SQL_PATH"];
const TABLES: [&str; 10] = [
    "TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE", "ENGINE", "VERSION", "ROW_FORMAT", "TABLE_ROWS",
    "TABLE_COLLATION", "TABLE_COMMENT",
];
const COLUMNS: [&str; 16] = [
    "TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "COLUMN_DEFAULT",
    "IS_NULLABLE", "DATA_TYPE", "CHARACTER_MAXIMUM_LENGTH", "NUMERIC_PRECISION", "NUMERIC_SCALE",
    "CHARACTER_SET_NAME", "COLUMN_TYPE", "COLUMN_KEY", "EXTRA", "COLUMN_COMMENT",
];
const STATISTICS: [&str; 8] = [
    "TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "NON_UNIQUE", "INDEX_NAME", "SEQ_IN_INDEX", "COLUMN_NAME",
    "INDEX_TYPE",
];
const KEY_COLUMN_USAGE: [&str; 5] =
    ["CONSTRAINT_NAME", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION"];
/// Tables that clients read and that have no rows here.
const EMPTY: [(&str, &[&str]); 4] = [
    ("routines", &["ROUTINE_SCHEMA", "ROUTINE_NAME", "ROUTINE_TYPE"]),
    ("triggers", &["TRIGGER_SCHEMA", "TRIGGER_NAME", "EVENT_OBJECT_TABLE"]),
    ("events", &["EVENT_SCHEMA", "EVENT_NAME"]),
    ("parameters", &["SPECIFIC_SCHEMA", "SPECIFIC_NAME", "PARAMETER_NAME"]),
];

fn position(index: usize) -> Value {
    Value::Integer(i64::try_from(index).unwrap_or(0) + 1)
}

fn column_row(target: &Target, index: usize, column: &TableColumn) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    let column_type = column.kind.to_string();
    let data_type = column_type.split(['(', ' ']).next().unwrap_or_default();
    let length = match column.kind {
        Kind::Char(n) | Kind::Varchar(n) | Kind::Binary(n) | Kind::Varbinary(n) => Value::Integer(n.into()),
        _ => Value::Null,
    };
    let (precision, scale) = match column.kind {
        Kind::Decimal { precision, scale } => (Value::Integer(precision.into()), Value::Integer(scale.into())),
        _ => (Value::Null, Value::Null),
    };
    vec![
        text("def"),
        text(target.schema.as_deref().unwrap_or_default()),
        text(&target.name),
        text(&column.name),
        position(index),
        column.default.as_deref().map_or(Value::Null, text),
        text(if column.nullable { "YES" } else { "NO" }),
        text(data_type),
        length,
        precision,
        scale,
        if column.kind.is_text() { text("utf8mb4") } else { Value::Null },
        text(&column_type),
        text(column.key),
        text(if column.auto_increment { "auto_increment" } else { "" }),
        text(""),
    ]
}

fn key_mark(keys: &[TableKey], column: &str) -> &'static str {
    let leads = |key: &&TableKey| key.columns.first().is_some_and(|first| first == column);
    let in_primary = |key: &TableKey| key.name == "PRIMARY" && key.columns.iter().any(|one| one == column);
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
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    match inner.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'"),
        None => inner.to_owned(),
    }
}
