//! `SHOW` and `DESCRIBE`.

use super::catalog::locked;
use super::ddl::Target;
use super::error::SqlError;
use super::function::like;
use super::rewrite::literal;
use super::schema::TableColumn;
use super::session::{Outcome, ResultColumn, Rows, Session};
use super::token::{Lexeme, Token};
use super::translate::quote_name;
use rusqlite::types::Value;
use std::sync::atomic::Ordering;

type Texts = Vec<Vec<Option<String>>>;

fn row<const N: usize>(cells: [&str; N]) -> Vec<Option<String>> {
    cells.iter().map(|cell| Some((*cell).to_owned())).collect()
}

impl Session {
    /// Answers a `SHOW`, `DESC`, `DESCRIBE` or `EXPLAIN table` statement.
    ///
    /// Errors: 1064 for what cannot be shown, and those of the object that is shown.
    pub(super) fn show(&mut self, lexemes: &[Lexeme]) -> Result<Outcome, SqlError> {
        let is_show = lexemes.first().is_some_and(|l| l.is_word("SHOW"));
        let full = lexemes.iter().take(3).any(|l| l.is_word("FULL"));
        let skipped = ["FULL", "EXTENDED", "GLOBAL", "SESSION", "LOCAL"];
        let start = 1 + lexemes
            .iter()
            .skip(1)
            .take_while(|l| is_show && l.is_any(&skipped))
            .count();
        let rest = lexemes.get(start..).unwrap_or_default();
        if !is_show {
            let rows = self.show_columns(&target_of(rest, None)?, false)?;
            return Ok(Outcome::Rows(rows));
        }
        let what = rest
            .first()
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let second = |word: &str| rest.get(1).is_some_and(|l| l.is_word(word));
        let rows = match what.as_str() {
            "TABLES" => self.show_tables(rest, full)?,
            "TABLE" if second("STATUS") => self.show_table_status(rest)?,
            "COLUMNS" | "FIELDS" => self.show_columns(&target_after_from(rest)?, full)?,
            "INDEX" | "INDEXES" | "KEYS" => self.show_keys(&target_after_from(rest)?)?,
            "CREATE" if second("TABLE") => {
                self.show_create_table(rest.get(2..).unwrap_or_default())?
            }
            "CREATE" => self.show_create_database(rest)?,
            "COUNT" => {
                let count = Value::Integer(self.warning_count().into());
                let name = "@@session.warning_count".to_owned();
                let columns = vec![ResultColumn {
                    name,
                    kind: super::column::Kind::BIGINT,
                }];
                Rows {
                    columns,
                    rows: vec![vec![count]],
                }
            }
            "WARNINGS" | "ERRORS" => {
                let rows = self.warnings.iter();
                let rows = rows
                    .map(|(errno, text)| row(["Error", &errno.to_string(), text]))
                    .collect();
                Rows::of_texts(&["Level", "Code", "Message"], rows)
            }
            _ => self.show_server(&what, rest)?,
        };
        self.filtered(rows, rest).map(Outcome::Rows)
    }

    /// What is the server's, not a database's.
    fn show_server(&mut self, what: &str, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        let catalog = self.environment.catalog.clone();
        Ok(match what {
            "DATABASES" | "SCHEMAS" => {
                let mut names = catalog.names();
                names.push("information_schema".to_owned());
                names.sort();
                Rows::of_texts(
                    &["Database"],
                    names.into_iter().map(|name| vec![Some(name)]).collect(),
                )
            }
            "VARIABLES" => {
                let mut all = locked(&self.environment.state).variables.all();
                all.push(("version".to_owned(), catalog.server_version.clone()));
                all.sort();
                let rows = all
                    .into_iter()
                    .map(|(name, value)| vec![Some(name), Some(value)])
                    .collect();
                Rows::of_texts(&["Variable_name", "Value"], rows)
            }
            "STATUS" => {
                let values = [
                    ("Questions", catalog.questions.load(Ordering::Relaxed)),
                    (
                        "Threads_connected",
                        u64::try_from(catalog.sessions().len()).unwrap_or(0),
                    ),
                    ("Uptime", catalog.started.elapsed().as_secs()),
                ];
                let rows = values
                    .iter()
                    .map(|(name, value)| row([name, &value.to_string()]))
                    .collect();
                Rows::of_texts(&["Variable_name", "Value"], rows)
            }
            "PROCESSLIST" => self.process_list(),
            "GRANTS" => {
                let user = &self.environment.handle.user;
                let grant = format!("GRANT ALL PRIVILEGES ON *.* TO `{user}`@`%`");
                Rows::of_texts(&[&format!("Grants for {user}@%")], vec![vec![Some(grant)]])
            }
            _ => fixed_listing(what).ok_or_else(|| {
                SqlError::syntax(rest.first().and_then(Lexeme::name).unwrap_or_default())
            })?,
        })
    }

    fn process_list(&self) -> Rows {
        let sessions = self.environment.catalog.sessions();
        let rows = sessions.iter().map(|session| {
            let statement = locked(&session.statement).clone();
            let command = if statement.is_some() {
                "Query"
            } else {
                "Sleep"
            };
            let mut cells = row([&session.id.to_string(), &session.user, &session.host]);
            cells.push(locked(&session.schema).clone());
            cells.extend(row([command, "0", ""]));
            cells.push(statement);
            cells
        });
        Rows::of_texts(
            &[
                "Id", "User", "Host", "db", "Command", "Time", "State", "Info",
            ],
            rows.collect(),
        )
    }

    fn show_tables(&mut self, rest: &[Lexeme], full: bool) -> Result<Rows, SqlError> {
        let schema = schema_after_from(rest)
            .or_else(|| self.schema())
            .ok_or_else(SqlError::no_database)?;
        let tables = self.tables(Some(&schema))?;
        let rows = tables.into_iter().map(|(name, view)| {
            let kind = if view { "VIEW" } else { "BASE TABLE" };
            let mut cells = vec![Some(name)];
            cells.extend(full.then(|| Some(kind.to_owned())));
            cells
        });
        let name = format!("Tables_in_{schema}");
        let names: &[&str] = if full {
            &[&name, "Table_type"]
        } else {
            &[&name]
        };
        Ok(Rows::of_texts(names, rows.collect()))
    }

    fn show_table_status(&mut self, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        let tables = self.tables(schema_after_from(rest).as_deref())?;
        let rows = tables
            .iter()
            .map(|(name, _)| row([name, "InnoDB", "10", "Dynamic", "utf8mb4_general_ci", ""]));
        let names = [
            "Name",
            "Engine",
            "Version",
            "Row_format",
            "Collation",
            "Comment",
        ];
        Ok(Rows::of_texts(&names, rows.collect()))
    }

    fn show_columns(&mut self, target: &Target, full: bool) -> Result<Rows, SqlError> {
        let rows = self.columns(target)?.into_iter().map(|column| {
            let collation = column
                .kind
                .is_text()
                .then(|| "utf8mb4_general_ci".to_owned());
            let extra = if column.auto_increment {
                "auto_increment"
            } else {
                ""
            };
            let mut cells = vec![Some(column.name), Some(column.kind.to_string())];
            cells.extend(full.then_some(collation));
            cells.extend(row([
                if column.nullable { "YES" } else { "NO" },
                column.key,
            ]));
            cells.push(column.default);
            cells.push(Some(extra.to_owned()));
            cells.extend(if full {
                row(["select,insert,update,references", ""])
            } else {
                Vec::new()
            });
            cells
        });
        let names: &[&str] = match full {
            true => &[
                "Field",
                "Type",
                "Collation",
                "Null",
                "Key",
                "Default",
                "Extra",
                "Privileges",
                "Comment",
            ],
            false => &["Field", "Type", "Null", "Key", "Default", "Extra"],
        };
        Ok(Rows::of_texts(names, rows.collect()))
    }

    fn show_keys(&mut self, target: &Target) -> Result<Rows, SqlError> {
        self.columns(target)?;
        let mut rows = Texts::new();
        for key in self.keys(target)? {
            for (index, column) in key.columns.iter().enumerate() {
                let number = (index + 1).to_string();
                let repeated = if key.unique { "0" } else { "1" };
                rows.push(row([
                    &target.name,
                    repeated,
                    &key.name,
                    &number,
                    column,
                    "BTREE",
                ]));
            }
        }
        let names = [
            "Table",
            "Non_unique",
            "Key_name",
            "Seq_in_index",
            "Column_name",
            "Index_type",
        ];
        Ok(Rows::of_texts(&names, rows))
    }

    fn show_create_table(&mut self, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        let (target, _) = Target::read(rest)?;
        let mut lines: Vec<String> = self.columns(&target)?.iter().map(column_line).collect();
        for key in self.keys(&target)? {
            let columns: Vec<String> = key.columns.iter().map(|name| quote_name(name)).collect();
            let columns = columns.join(",");
            lines.push(match (key.name.as_str(), key.unique) {
                ("PRIMARY", _) => format!("  PRIMARY KEY ({columns})"),
                (name, true) => format!("  UNIQUE KEY {} ({columns})", quote_name(name)),
                (name, false) => format!("  KEY {} ({columns})", quote_name(name)),
            });
        }
        let sql = format!(
            "CREATE TABLE {} (\n{}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
            quote_name(&target.name),
            lines.join(",\n")
        );
        Ok(Rows::of_texts(
            &["Table", "Create Table"],
            vec![row([&target.name, &sql])],
        ))
    }

    fn show_create_database(&mut self, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        let name = rest
            .last()
            .and_then(Lexeme::name)
            .ok_or_else(|| SqlError::syntax("CREATE"))?;
        if self.environment.catalog.path(name).is_none() {
            return Err(SqlError::unknown_database(name));
        }
        let sql = format!(
            "CREATE DATABASE {} /*!40100 DEFAULT CHARACTER SET utf8mb4 */",
            quote_name(name)
        );
        Ok(Rows::of_texts(
            &["Database", "Create Database"],
            vec![row([name, &sql])],
        ))
    }

    /// Applies `LIKE 'pattern'` to the first column, or `WHERE condition` to all.
    fn filtered(&mut self, mut rows: Rows, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        if let Some(at) = rest.iter().position(|l| l.is_word("LIKE")) {
            let Some(Token::Text(pattern)) = rest.get(at + 1).map(|l| &l.token) else {
                return self.filtered_where(rows, rest);
            };
            let pattern = String::from_utf8_lossy(pattern).into_owned();
            if !rest.iter().take(at).any(|l| l.is_word("WHERE")) {
                rows.rows.retain(|row| {
                    matches!(row.first(), Some(Value::Text(text)) if like(&pattern, text, '\\'))
                });
                return Ok(rows);
            }
        }
        self.filtered_where(rows, rest)
    }

    fn filtered_where(&mut self, rows: Rows, rest: &[Lexeme]) -> Result<Rows, SqlError> {
        let Some(at) = rest.iter().position(|l| l.is_word("WHERE")) else {
            return Ok(rows);
        };
        if rows.rows.is_empty() {
            return Ok(rows);
        }
        let condition = self.translated(rest.get(at + 1..).unwrap_or_default())?.sql;
        let names: Vec<String> = rows
            .columns
            .iter()
            .map(|column| quote_name(&column.name))
            .collect();
        let listed: Vec<String> = rows
            .rows
            .iter()
            .map(|row| {
                format!(
                    "({})",
                    row.iter().map(literal).collect::<Vec<_>>().join(", ")
                )
            })
            .collect();
        let sql = format!(
            "WITH shown({}) AS (VALUES {}) SELECT * FROM shown WHERE {condition}",
            names.join(", "),
            listed.join(", ")
        );
        let found = self.rows(&sql, &[])?;
        Ok(Rows {
            columns: rows.columns,
            rows: found.rows,
        })
    }
}

/// Listings that are the same on every shard.
fn fixed_listing(what: &str) -> Option<Rows> {
    Some(match what {
        "ENGINES" => {
            let names = ["Engine", "Support", "Comment", "Transactions"];
            let rows = [row(["InnoDB", "DEFAULT", "SQLite under its name", "YES"])];
            Rows::of_texts(&names, rows.to_vec())
        }
        "COLLATION" => {
            let names = ["Collation", "Charset", "Id", "Default", "Compiled"];
            let rows = [
                row(["binary", "binary", "63", "Yes", "Yes"]),
                row(["utf8mb4_0900_ai_ci", "utf8mb4", "255", "", "Yes"]),
                row(["utf8mb4_bin", "utf8mb4", "46", "", "Yes"]),
                row(["utf8mb4_general_ci", "utf8mb4", "45", "Yes", "Yes"]),
            ];
            Rows::of_texts(&names, rows.to_vec())
        }
        "CHARSET" | "CHARACTER" => {
            let names = ["Charset", "Description", "Default collation", "Maxlen"];
            let rows = [
                row(["binary", "Binary pseudo charset", "binary", "1"]),
                row(["utf8mb4", "UTF-8 Unicode", "utf8mb4_general_ci", "4"]),
            ];
            Rows::of_texts(&names, rows.to_vec())
        }
        "PLUGINS" | "TRIGGERS" | "EVENTS" | "PROCEDURE" | "FUNCTION" | "PRIVILEGES" => {
            Rows::of_texts(&["Name", "Status", "Type"], Texts::new())
        }
        _ => return None,
    })
}

fn column_line(column: &TableColumn) -> String {
    let mut line = format!("  {} {}", quote_name(&column.name), column.kind);
    if !column.nullable {
        line += " NOT NULL";
    }
    if column.auto_increment {
        line += " AUTO_INCREMENT";
    }
    match &column.default {
        Some(value) if value == "CURRENT_TIMESTAMP" => line += " DEFAULT CURRENT_TIMESTAMP",
        Some(value) => line += &format!(" DEFAULT '{}'", value.replace('\'', "''")),
        None if column.nullable => line += " DEFAULT NULL",
        None => {}
    }
    line
}

/// The database after the first `FROM` or `IN`.
fn schema_after_from(rest: &[Lexeme]) -> Option<String> {
    let at = rest.iter().position(|l| l.is_any(&["FROM", "IN"]))?;
    if rest.iter().take(at).any(|l| l.is_word("WHERE")) {
        return None;
    }
    rest.get(at + 1)?.name().map(str::to_owned)
}

/// `… FROM table [FROM database]`.
fn target_after_from(rest: &[Lexeme]) -> Result<Target, SqlError> {
    let at = rest
        .iter()
        .position(|l| l.is_any(&["FROM", "IN"]))
        .ok_or_else(|| SqlError::syntax("SHOW"))?;
    let tail = rest.get(at + 1..).unwrap_or_default();
    target_of(tail, schema_after_from(tail))
}

fn target_of(rest: &[Lexeme], schema: Option<String>) -> Result<Target, SqlError> {
    let (target, _) = Target::read(rest)?;
    Ok(Target {
        schema: target.schema.or(schema),
        name: target.name,
    })
}
