//! `information_schema`, made anew as temporary tables whenever a statement names it.

use super::column::Kind;
use super::ddl::Target;
use super::error::SqlError;
use super::schema::TableColumn;
use super::session::Session;
use super::translate::{information_table, quote_name};
use rusqlite::types::Value;

type Table = Vec<Vec<Value>>;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What is gathered in one pass over all databases.
#[derive(Default)]
struct Gathered {
    tables: Table,
    columns: Table,
    keys: Table,
}

impl Session {
    /// Makes the temporary tables that stand for `information_schema`.
    ///
    /// Errors: those of reading the databases' catalogs.
    pub(super) fn make_information_schema(&mut self) -> Result<(), SqlError> {
        let names = self.environment.catalog.names();
        let charset = || [text("utf8mb4"), text("utf8mb4_general_ci"), Value::Null];
        let schemata = names.iter().map(|name| {
            let mut row = vec![text("def"), text(name)];
            row.extend(charset());
            row
        });
        self.fill("schemata", &SCHEMATA, &schemata.collect())?;
        let mut gathered = Gathered::default();
        for schema in &names {
            for (name, view) in self.tables(Some(schema))? {
                self.gather_table(schema, name, view, &mut gathered)?;
            }
        }
        let unique = |row: &&Vec<Value>| row.get(3) == Some(&Value::Integer(0));
        let usage = gathered.keys.iter().filter(unique).map(|row| {
            let cells = [4, 1, 2, 6, 5]
                .iter()
                .filter_map(|at| row.get(*at).cloned());
            cells.collect::<Vec<_>>()
        });
        self.fill("key_column_usage", &KEY_COLUMN_USAGE, &usage.collect())?;
        self.fill("tables", &TABLES, &gathered.tables)?;
        self.fill("columns", &COLUMNS, &gathered.columns)?;
        self.fill("statistics", &STATISTICS, &gathered.keys)?;
        for (name, columns) in EMPTY {
            self.fill(name, columns, &Table::new())?;
        }
        Ok(())
    }

    fn gather_table(
        &mut self,
        schema: &str,
        name: String,
        view: bool,
        gathered: &mut Gathered,
    ) -> Result<(), SqlError> {
        gathered.tables.push(vec![
            text("def"),
            text(schema),
            text(&name),
            text(if view { "VIEW" } else { "BASE TABLE" }),
            if view { Value::Null } else { text("InnoDB") },
            Value::Integer(10),
            text("Dynamic"),
            Value::Integer(0),
            text("utf8mb4_general_ci"),
            text(""),
        ]);
        let target = Target {
            schema: Some(schema.to_owned()),
            name,
        };
        for (index, column) in self.columns(&target)?.iter().enumerate() {
            gathered.columns.push(column_row(&target, index, column));
        }
        for key in self.keys(&target)? {
            for (index, column) in key.columns.iter().enumerate() {
                gathered.keys.push(vec![
                    text("def"),
                    text(schema),
                    text(&target.name),
                    Value::Integer((!key.unique).into()),
                    text(&key.name),
                    position(index),
                    text(column),
                    text("BTREE"),
                ]);
            }
        }
        Ok(())
    }

    fn fill(&mut self, name: &str, columns: &[&str], rows: &Table) -> Result<(), SqlError> {
        let table = quote_name(&information_table(name));
        let names: Vec<String> = columns
            .iter()
            .map(|name| format!("{} COLLATE NOCASE", quote_name(name)))
            .collect();
        self.store.script(&[
            format!("DROP TABLE IF EXISTS temp.{table}"),
            format!("CREATE TABLE temp.{table} ({})", names.join(", ")),
        ])?;
        for row in rows {
            let marks: Vec<String> = (1..=row.len()).map(|number| format!("?{number}")).collect();
            self.rows(
                &format!("INSERT INTO temp.{table} VALUES ({})", marks.join(", ")),
                row,
            )?;
        }
        Ok(())
    }
}

const SCHEMATA: [&str; 5] = [
    "CATALOG_NAME",
    "SCHEMA_NAME",
    "DEFAULT_CHARACTER_SET_NAME",
    "DEFAULT_COLLATION_NAME",
    "SQL_PATH",
];
const TABLES: [&str; 10] = [
    "TABLE_CATALOG",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "TABLE_TYPE",
    "ENGINE",
    "VERSION",
    "ROW_FORMAT",
    "TABLE_ROWS",
    "TABLE_COLLATION",
    "TABLE_COMMENT",
];
const COLUMNS: [&str; 16] = [
    "TABLE_CATALOG",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "COLUMN_NAME",
    "ORDINAL_POSITION",
    "COLUMN_DEFAULT",
    "IS_NULLABLE",
    "DATA_TYPE",
    "CHARACTER_MAXIMUM_LENGTH",
    "NUMERIC_PRECISION",
    "NUMERIC_SCALE",
    "CHARACTER_SET_NAME",
    "COLUMN_TYPE",
    "COLUMN_KEY",
    "EXTRA",
    "COLUMN_COMMENT",
];
const STATISTICS: [&str; 8] = [
    "TABLE_CATALOG",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "NON_UNIQUE",
    "INDEX_NAME",
    "SEQ_IN_INDEX",
    "COLUMN_NAME",
    "INDEX_TYPE",
];
const KEY_COLUMN_USAGE: [&str; 5] = [
    "CONSTRAINT_NAME",
    "TABLE_SCHEMA",
    "TABLE_NAME",
    "COLUMN_NAME",
    "ORDINAL_POSITION",
];
/// Tables that clients read and that have no rows here.
const EMPTY: [(&str, &[&str]); 4] = [
    (
        "routines",
        &["ROUTINE_SCHEMA", "ROUTINE_NAME", "ROUTINE_TYPE"],
    ),
    (
        "triggers",
        &["TRIGGER_SCHEMA", "TRIGGER_NAME", "EVENT_OBJECT_TABLE"],
    ),
    ("events", &["EVENT_SCHEMA", "EVENT_NAME"]),
    (
        "parameters",
        &["SPECIFIC_SCHEMA", "SPECIFIC_NAME", "PARAMETER_NAME"],
    ),
];

fn position(index: usize) -> Value {
    Value::Integer(i64::try_from(index).unwrap_or(0) + 1)
}

fn column_row(target: &Target, index: usize, column: &TableColumn) -> Vec<Value> {
    let column_type = column.kind.to_string();
    let data_type = column_type.split(['(', ' ']).next().unwrap_or_default();
    let length = match column.kind {
        Kind::Char(n) | Kind::Varchar(n) | Kind::Binary(n) | Kind::Varbinary(n) => {
            Value::Integer(n.into())
        }
        _ => Value::Null,
    };
    let (precision, scale) = match column.kind {
        Kind::Decimal { precision, scale } => (
            Value::Integer(precision.into()),
            Value::Integer(scale.into()),
        ),
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
        if column.kind.is_text() {
            text("utf8mb4")
        } else {
            Value::Null
        },
        text(&column_type),
        text(column.key),
        text(if column.auto_increment {
            "auto_increment"
        } else {
            ""
        }),
        text(""),
    ]
}
