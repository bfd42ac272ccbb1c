//! What a statement can answer instead of a result: MySQL error numbers made from SQLite's messages.

use rusqlite::ErrorCode;

/// An error as MySQL would report it: number, SQLSTATE, text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ERROR {errno} ({state}): {message}")]
pub struct SqlError {
    /// MySQL server error number (`mysqld_error.h`).
    pub errno: u16,
    /// SQLSTATE, five characters.
    pub state: &'static str,
    /// Text for people.
    pub message: String,
}

impl SqlError {
    /// An error with its number, SQLSTATE and text.
    pub fn new(errno: u16, state: &'static str, message: impl Into<String>) -> Self {
        Self {
            errno,
            state,
            message: message.into(),
        }
    }

    /// 1064: the text near `near` cannot be understood.
    pub fn syntax(near: &str) -> Self {
        let near: String = near.chars().take(80).collect();
        Self::new(
            1064,
            "42000",
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your \
                 MySQL server version for the right syntax to use near '{near}' at line 1"
            ),
        )
    }

    /// 1049: there is no such database.
    pub fn unknown_database(name: &str) -> Self {
        Self::new(1049, "42000", format!("Unknown database '{name}'"))
    }

    /// 1046: the statement needs a database and none is chosen.
    pub fn no_database() -> Self {
        Self::new(1046, "3D000", "No database selected")
    }

    /// 1146: there is no such table.
    pub fn unknown_table(schema: &str, table: &str) -> Self {
        Self::new(
            1146,
            "42S02",
            format!("Table '{schema}.{table}' doesn't exist"),
        )
    }

    /// 1235: the embedded shard does not do this; a real server would.
    pub fn unsupported(what: &str) -> Self {
        Self::new(
            1235,
            "42000",
            format!("The embedded shard doesn't support '{what}'"),
        )
    }

    /// 1317: somebody killed the query.
    pub fn interrupted() -> Self {
        Self::new(1317, "70100", "Query execution was interrupted")
    }

    /// Translates an error of SQLite that a statement in `schema` met.
    pub fn from_sqlite(error: &rusqlite::Error, schema: &str) -> Self {
        let (code, extended) = match error {
            rusqlite::Error::SqliteFailure(failure, _) => {
                (Some(failure.code), failure.extended_code)
            }
            rusqlite::Error::SqlInputError { error, .. } => (Some(error.code), error.extended_code),
            _ => (None, 0),
        };
        let message = sqlite_message(error);
        match code {
            Some(ErrorCode::DatabaseBusy) if extended == SQLITE_BUSY_SNAPSHOT => Self::new(
                1213,
                "40001",
                "Deadlock found when trying to get lock; try restarting transaction",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::new(
                1205,
                "HY000",
                "Lock wait timeout exceeded; try restarting transaction",
            ),
            Some(ErrorCode::OperationInterrupted) => Self::interrupted(),
            Some(ErrorCode::TooBig) => Self::new(
                1153,
                "08S01",
                "Got a packet bigger than 'max_allowed_packet' bytes",
            ),
            Some(ErrorCode::DiskFull) => Self::new(1114, "HY000", "The table is full"),
            _ => from_message(&message, schema),
        }
    }
}

/// `SQLITE_BUSY_SNAPSHOT`: a read transaction cannot become a writer, its snapshot is old.
const SQLITE_BUSY_SNAPSHOT: i32 = 5 | (2 << 8);

fn sqlite_message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// SQLite says what is wrong in words only; the words are stable and part of its own tests.
fn from_message(message: &str, schema: &str) -> SqlError {
    let new = |errno, state, text: String| SqlError::new(errno, state, text);
    let last = |text: &str| text.rsplit('.').next().unwrap_or(text).to_owned();
    if let Some(table) = message.strip_prefix("no such table: ") {
        return SqlError::unknown_table(schema, &last(table));
    }
    if let Some(column) = message.strip_prefix("no such column: ") {
        return new(
            1054,
            "42S22",
            format!("Unknown column '{column}' in 'field list'"),
        );
    }
    if let Some((_, column)) = message.split_once(" has no column named ") {
        return new(
            1054,
            "42S22",
            format!("Unknown column '{column}' in 'field list'"),
        );
    }
    if let Some(keys) = message.strip_prefix("UNIQUE constraint failed: ") {
        return new(1062, "23000", format!("Duplicate entry for key '{keys}'"));
    }
    if let Some(column) = message.strip_prefix("NOT NULL constraint failed: ") {
        return new(
            1048,
            "23000",
            format!("Column '{}' cannot be null", last(column)),
        );
    }
    if message.starts_with("FOREIGN KEY constraint failed") {
        return new(
            1452,
            "23000",
            "Cannot add or update a child row: a foreign key constraint fails".to_owned(),
        );
    }
    if let Some(check) = message.strip_prefix("CHECK constraint failed: ") {
        return new(
            3819,
            "HY000",
            format!("Check constraint '{check}' is violated."),
        );
    }
    if let Some(column) = message.strip_prefix("ambiguous column name: ") {
        return new(
            1052,
            "23000",
            format!("Column '{column}' in field list is ambiguous"),
        );
    }
    if let Some(function) = message.strip_prefix("no such function: ") {
        return new(
            1305,
            "42000",
            format!("FUNCTION {schema}.{function} does not exist"),
        );
    }
    if let Some(column) = message.strip_prefix("duplicate column name: ") {
        return new(1060, "42S21", format!("Duplicate column name '{column}'"));
    }
    from_shape(message).unwrap_or_else(|| SqlError::new(1105, "HY000", message))
}

/// The messages whose subject stands in the middle.
fn from_shape(message: &str) -> Option<SqlError> {
    let quoted = |text: &str| text.trim_matches(|c| c == '"' || c == '`').to_owned();
    if let Some(rest) = message.strip_suffix(" already exists") {
        return Some(match rest.strip_prefix("index ") {
            Some(name) => SqlError::new(
                1061,
                "42000",
                format!("Duplicate key name '{}'", quoted(name)),
            ),
            None => {
                let name = quoted(rest.rsplit(' ').next().unwrap_or(rest));
                SqlError::new(1050, "42S01", format!("Table '{name}' already exists"))
            }
        });
    }
    if message.contains("values for") || message.contains("values were supplied") {
        return Some(SqlError::new(
            1136,
            "21S01",
            "Column count doesn't match value count at row 1",
        ));
    }
    if message.contains("do not have the same number of result columns") {
        return Some(SqlError::new(
            1222,
            "21000",
            "The used SELECT statements have a different number of columns",
        ));
    }
    if message.starts_with("wrong number of arguments to function ") {
        return Some(SqlError::new(
            1582,
            "42000",
            "Incorrect parameter count in the call to native function",
        ));
    }
    if let Some(rest) = message.strip_prefix("near ") {
        return Some(SqlError::syntax(&quoted(
            rest.split(": ").next().unwrap_or(rest),
        )));
    }
    if message.starts_with("incomplete input") || message.starts_with("unrecognized token") {
        return Some(SqlError::syntax(""));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_messages_become_mysql_numbers() {
        let check = |message: &str, errno: u16, text: &str| {
            let error = from_message(message, "shop");
            assert_eq!(
                (error.errno, error.message.as_str()),
                (errno, text),
                "{message}"
            );
        };
        check(
            "no such table: main.t",
            1146,
            "Table 'shop.t' doesn't exist",
        );
        check(
            "no such column: x",
            1054,
            "Unknown column 'x' in 'field list'",
        );
        check(
            "table t has no column named y",
            1054,
            "Unknown column 'y' in 'field list'",
        );
        check(
            "UNIQUE constraint failed: t.id",
            1062,
            "Duplicate entry for key 't.id'",
        );
        check(
            "NOT NULL constraint failed: t.id",
            1048,
            "Column 'id' cannot be null",
        );
        check(
            "no such function: f",
            1305,
            "FUNCTION shop.f does not exist",
        );
        check("table `t` already exists", 1050, "Table 't' already exists");
        check("index i already exists", 1061, "Duplicate key name 'i'");
        check(
            "2 values for 3 columns",
            1136,
            "Column count doesn't match value count at row 1",
        );
        check("something odd", 1105, "something odd");
        assert_eq!(from_message("near \"FORM\": syntax error", "s").errno, 1064);
    }
}
