//! `CREATE`, `ALTER`, `DROP`, `RENAME` and `TRUNCATE`: MySQL's definitions as SQLite statements.
//!
//! Secondary keys become indexes named `table$key`, as index names are global in SQLite. Left out because
//! SQLite has no place for them: `ON UPDATE CURRENT_TIMESTAMP`, comments, engines, prefix lengths.

use super::definition::Column;
use super::error::SqlError;
use super::token::{Lexeme, Token};
use super::translate::{Scope, matching, position, quote_name, split_commas, translate};

/// SQLite statements to run in order.
pub type Script = Vec<String>;

/// The table a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The database, when it is written.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl Target {
    /// Reads `[schema.]name` off the front; returns it and how many tokens it took.
    ///
    /// Errors: 1064 when no name stands there.
    pub fn read(lexemes: &[Lexeme]) -> Result<(Self, usize), SqlError> {
        let name = |at: usize| {
            lexemes
                .get(at)
                .and_then(Lexeme::name)
                .map(str::to_owned)
                .ok_or_else(|| SqlError::syntax(""))
        };
        if lexemes.get(1).is_some_and(|l| l.is_symbol(".")) {
            return Ok((
                Self {
                    schema: Some(name(0)?),
                    name: name(2)?,
                },
                3,
            ));
        }
        Ok((
            Self {
                schema: None,
                name: name(0)?,
            },
            1,
        ))
    }

    /// The database as SQLite knows it: `main` for the current one.
    pub fn database(&self, scope: Scope<'_>) -> String {
        match self.schema.as_deref() {
            Some(schema) if scope.schema != Some(schema) => quote_name(schema),
            _ => "main".to_owned(),
        }
    }
}

fn after<'a>(lexemes: &'a [Lexeme], words: &[&str]) -> Option<&'a [Lexeme]> {
    let fits = words
        .iter()
        .enumerate()
        .all(|(at, word)| lexemes.get(at).is_some_and(|l| l.is_word(word)));
    if fits {
        lexemes.get(words.len()..)
    } else {
        None
    }
}

/// `CREATE [TEMPORARY] TABLE [IF NOT EXISTS] name …`.
///
/// Errors: 1064 for a shape that is none, 1235 for what SQLite cannot hold.
pub fn create_table(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    let mut rest = lexemes.get(1..).unwrap_or_default();
    let temporary = after(rest, &["TEMPORARY"]);
    rest = temporary.unwrap_or(rest);
    rest = after(rest, &["TABLE"]).ok_or_else(|| SqlError::syntax("TABLE"))?;
    let guarded = after(rest, &["IF", "NOT", "EXISTS"]);
    rest = guarded.unwrap_or(rest);
    let (target, used) = Target::read(rest)?;
    rest = rest.get(used..).unwrap_or_default();
    let database = if temporary.is_some() {
        "temp".to_owned()
    } else {
        target.database(scope)
    };
    let exists = if guarded.is_some() {
        "IF NOT EXISTS "
    } else {
        ""
    };
    let head = format!(
        "CREATE TABLE {exists}{database}.{}",
        quote_name(&target.name)
    );
    let query = position(rest, |l| l.is_any(&["SELECT", "WITH"]));
    if let (Some(at), false) = (query, rest.first().is_some_and(|l| l.is_symbol("("))) {
        let select = translate(rest.get(at..).unwrap_or_default(), scope)?;
        return Ok(vec![format!("{head} AS {}", select.sql)]);
    }
    if let Some(source) = after(rest, &["LIKE"]) {
        let (source, _) = Target::read(source)?;
        let from = format!("{}.{}", source.database(scope), quote_name(&source.name));
        return Ok(vec![format!("{head} AS SELECT * FROM {from} WHERE false")]);
    }
    let close = matching(rest, 0).ok_or_else(|| SqlError::syntax(&target.name))?;
    let mut table = Table {
        database,
        name: target.name,
        scope,
        ..Table::new(scope)
    };
    for part in split_commas(rest.get(1..close).unwrap_or_default()) {
        table.part(part)?;
    }
    Ok(table.finish(&head, guarded.is_some()))
}

/// A table while its definition is read.
struct Table<'a> {
    database: String,
    name: String,
    scope: Scope<'a>,
    columns: Vec<String>,
    constraints: Vec<String>,
    indexes: Vec<(String, String, bool)>,
    primary: Option<String>,
    auto_increment: Option<String>,
}

impl<'a> Table<'a> {
    fn new(scope: Scope<'a>) -> Self {
        Self {
            database: String::new(),
            name: String::new(),
            scope,
            columns: Vec::new(),
            constraints: Vec::new(),
            indexes: Vec::new(),
            primary: None,
            auto_increment: None,
        }
    }

    fn part(&mut self, part: &[Lexeme]) -> Result<(), SqlError> {
        let Some(first) = part.first() else {
            return Err(SqlError::syntax(")"));
        };
        let quoted = matches!(first.token, Token::Quoted(_));
        let key = part.iter().any(|l| l.is_symbol("("));
        if quoted || !first.is_any(&KEY_WORDS) || !key {
            let column = Column::read(part, self.scope)?;
            return self.column(column);
        }
        let rest = match part.first().is_some_and(|l| l.is_word("CONSTRAINT")) {
            true if part.get(1).is_some_and(|l| l.is_any(&KEY_WORDS)) => part.get(1..),
            true => part.get(2..),
            false => Some(part),
        }
        .unwrap_or_default();
        if rest
            .first()
            .is_some_and(|l| l.is_any(&["FOREIGN", "CHECK"]))
        {
            self.constraints.push(foreign_or_check(rest, self.scope)?);
            return Ok(());
        }
        let (name, columns, unique) = key_of(rest)?;
        if rest.first().is_some_and(|l| l.is_word("PRIMARY")) {
            self.primary = Some(columns);
        } else {
            self.indexes.push((name, columns, unique));
        }
        Ok(())
    }

    fn column(&mut self, column: Column) -> Result<(), SqlError> {
        if column.primary {
            self.primary = Some(quote_name(&column.name));
        }
        if column.unique {
            self.indexes
                .push((column.name.clone(), quote_name(&column.name), true));
        }
        if column.auto_increment {
            if self.auto_increment.is_some() {
                return Err(SqlError::new(
                    1075,
                    "42000",
                    "Incorrect table definition; there can be only one auto column and it must be defined as a key",
                ));
            }
            // Only this very spelling makes SQLite hand out row ids.
            self.columns.push(format!(
                "{} INTEGER PRIMARY KEY AUTOINCREMENT",
                quote_name(&column.name)
            ));
            self.auto_increment = Some(quote_name(&column.name));
        } else {
            self.columns.push(column.definition);
        }
        Ok(())
    }

    fn finish(self, head: &str, guarded: bool) -> Script {
        let mut parts = self.columns;
        match self.primary {
            Some(primary) if self.auto_increment.as_ref() != Some(&primary) => {
                let kind = if self.auto_increment.is_some() {
                    "UNIQUE"
                } else {
                    "PRIMARY KEY"
                };
                parts.push(format!("{kind} ({primary})"));
            }
            _ => {}
        }
        parts.extend(self.constraints);
        let mut script = vec![format!("{head} ({})", parts.join(", "))];
        script.extend(self.indexes.iter().map(|(name, columns, unique)| {
            create_index_sql(&self.database, &self.name, name, columns, *unique, guarded)
        }));
        script
    }
}

const KEY_WORDS: [&str; 9] = [
    "PRIMARY",
    "UNIQUE",
    "KEY",
    "INDEX",
    "FULLTEXT",
    "SPATIAL",
    "CONSTRAINT",
    "FOREIGN",
    "CHECK",
];

fn create_index_sql(
    db: &str,
    table: &str,
    name: &str,
    columns: &str,
    unique: bool,
    guarded: bool,
) -> String {
    let unique = if unique { "UNIQUE " } else { "" };
    let guarded = if guarded { "IF NOT EXISTS " } else { "" };
    let index = quote_name(&index_name(table, name));
    format!(
        "CREATE {unique}INDEX {guarded}{db}.{index} ON {} ({columns})",
        quote_name(table)
    )
}

/// The name in SQLite of `table`'s key `key`.
pub fn index_name(table: &str, key: &str) -> String {
    format!("{table}${key}")
}

/// `[UNIQUE] [KEY|INDEX] [name] (columns) …`: name, quoted columns, uniqueness.
fn key_of(lexemes: &[Lexeme]) -> Result<(String, String, bool), SqlError> {
    let open = position(lexemes, |l| l.is_symbol("(")).ok_or_else(|| SqlError::syntax("KEY"))?;
    let close = matching(lexemes, open).ok_or_else(|| SqlError::syntax("("))?;
    let columns = key_columns(lexemes.get(open + 1..close).unwrap_or_default())?;
    let unique = lexemes.first().is_some_and(|l| l.is_word("UNIQUE"));
    let name = lexemes
        .get(1..open)
        .unwrap_or_default()
        .iter()
        .take_while(|l| !l.is_word("USING"))
        .filter(|l| !l.is_any(&["KEY", "INDEX"]))
        .find_map(Lexeme::name)
        .map_or_else(|| columns.replace(['`', ',', ' '], ""), str::to_owned);
    Ok((name, columns, unique))
}

/// A key's columns without prefix lengths.
fn key_columns(lexemes: &[Lexeme]) -> Result<String, SqlError> {
    let columns: Result<Vec<String>, SqlError> = split_commas(lexemes)
        .into_iter()
        .map(|part| {
            let name = part
                .first()
                .and_then(Lexeme::name)
                .ok_or_else(|| SqlError::syntax("KEY"))?;
            let descending = part.last().is_some_and(|l| l.is_word("DESC"));
            Ok(quote_name(name) + if descending { " DESC" } else { "" })
        })
        .collect();
    Ok(columns?.join(", "))
}

fn foreign_or_check(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<String, SqlError> {
    let mut kept = lexemes.to_vec();
    // FOREIGN KEY name (…): SQLite has no name there.
    if kept.get(2).is_some_and(|l| l.name().is_some())
        && kept.first().is_some_and(|l| l.is_word("FOREIGN"))
    {
        kept.remove(2);
    }
    Ok(translate(&kept, scope)?.sql)
}

/// `CREATE [UNIQUE] INDEX name ON table (columns)`.
///
/// Errors: 1064 for a shape that is none.
pub fn create_index(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    let on = position(lexemes, |l| l.is_word("ON")).ok_or_else(|| SqlError::syntax("INDEX"))?;
    let index =
        position(lexemes, |l| l.is_word("INDEX")).ok_or_else(|| SqlError::syntax("INDEX"))?;
    let name = lexemes
        .get(index + 1)
        .and_then(Lexeme::name)
        .ok_or_else(|| SqlError::syntax("INDEX"))?;
    let (target, used) = Target::read(lexemes.get(on + 1..).unwrap_or_default())?;
    let (_, columns, _) = key_of(lexemes.get(on + used..).unwrap_or_default())?;
    let unique = lexemes.get(1).is_some_and(|l| l.is_word("UNIQUE"));
    Ok(vec![create_index_sql(
        &target.database(scope),
        &target.name,
        name,
        &columns,
        unique,
        false,
    )])
}

/// `DROP INDEX name ON table`.
///
/// Errors: 1064 for a shape that is none.
pub fn drop_index(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    let name = lexemes
        .get(2)
        .and_then(Lexeme::name)
        .ok_or_else(|| SqlError::syntax("INDEX"))?;
    let (target, _) = Target::read(lexemes.get(4..).unwrap_or_default())?;
    Ok(vec![drop_index_sql(&target, name, scope)])
}

fn drop_index_sql(target: &Target, name: &str, scope: Scope<'_>) -> String {
    format!(
        "DROP INDEX {}.{}",
        target.database(scope),
        quote_name(&index_name(&target.name, name))
    )
}

/// `ALTER TABLE name action, …`.
///
/// Errors: 1064 for a shape that is none, 1235 for `MODIFY` and other changes of what is stored.
pub fn alter_table(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    let rest = lexemes.get(2..).unwrap_or_default();
    let (target, used) = Target::read(rest)?;
    let actions = split_commas(rest.get(used..).unwrap_or_default());
    let mut script = Script::new();
    for action in actions {
        script.extend(alter_action(&target, action, scope)?);
    }
    Ok(script)
}

fn alter_action(target: &Target, action: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    let database = target.database(scope);
    let table = format!("ALTER TABLE {database}.{}", quote_name(&target.name));
    let second = action.get(1);
    let name_at = |at: usize| {
        action
            .get(at)
            .and_then(Lexeme::name)
            .map(quote_name)
            .ok_or_else(|| SqlError::syntax("ALTER"))
    };
    let column_at = if second.is_some_and(|l| l.is_word("COLUMN")) {
        2
    } else {
        1
    };
    let verb = action
        .first()
        .and_then(Lexeme::name)
        .unwrap_or_default()
        .to_ascii_uppercase();
    Ok(match verb.as_str() {
        "ADD" if second.is_some_and(|l| l.is_any(&["KEY", "INDEX", "UNIQUE", "FULLTEXT"])) => {
            let (name, columns, unique) = key_of(action.get(1..).unwrap_or_default())?;
            vec![create_index_sql(
                &database,
                &target.name,
                &name,
                &columns,
                unique,
                false,
            )]
        }
        "ADD" if second.is_some_and(|l| l.is_any(&KEY_WORDS)) => {
            return Err(SqlError::unsupported("ALTER TABLE … ADD constraint"));
        }
        "ADD" => {
            let column = Column::read(action.get(column_at..).unwrap_or_default(), scope)?;
            let mut script = vec![format!("{table} ADD COLUMN {}", column.definition)];
            if column.unique {
                let quoted = quote_name(&column.name);
                script.push(create_index_sql(
                    &database,
                    &target.name,
                    &column.name,
                    &quoted,
                    true,
                    false,
                ));
            }
            script
        }
        "DROP" if second.is_some_and(|l| l.is_any(&["KEY", "INDEX"])) => {
            let name = action.get(2).and_then(Lexeme::name).unwrap_or_default();
            vec![drop_index_sql(target, name, scope)]
        }
        "DROP" => vec![format!("{table} DROP COLUMN {}", name_at(column_at)?)],
        "RENAME" if column_at == 2 => vec![format!(
            "{table} RENAME COLUMN {} TO {}",
            name_at(2)?,
            name_at(4)?
        )],
        "RENAME" => {
            let skip = 1 + usize::from(second.is_some_and(|l| l.is_any(&["TO", "AS"])));
            let (new, _) = Target::read(action.get(skip..).unwrap_or_default())?;
            vec![format!("{table} RENAME TO {}", quote_name(&new.name))]
        }
        "ENGINE" | "AUTO_INCREMENT" | "COMMENT" | "CONVERT" | "ENABLE" | "DISABLE" | "DEFAULT"
        | "CHARSET" | "CHARACTER" | "COLLATE" | "ROW_FORMAT" | "" => Script::new(),
        other => return Err(SqlError::unsupported(&format!("ALTER TABLE … {other}"))),
    })
}

/// `RENAME TABLE a TO b, …`.
///
/// Errors: 1064 for a shape that is none.
pub fn rename_table(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Script, SqlError> {
    split_commas(lexemes.get(2..).unwrap_or_default())
        .into_iter()
        .map(|pair| {
            let (from, used) = Target::read(pair)?;
            let (to, _) = Target::read(pair.get(used + 1..).unwrap_or_default())?;
            let (from_name, to_name) = (quote_name(&from.name), quote_name(&to.name));
            Ok(format!(
                "ALTER TABLE {}.{from_name} RENAME TO {to_name}",
                from.database(scope)
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::token::{Quoting, read};
    use super::*;

    const SCOPE: Scope<'static> = Scope {
        schema: Some("shop"),
        schemas: &[],
    };

    fn lexemes(sql: &str) -> Vec<Lexeme> {
        read(sql.as_bytes(), Quoting::default())
            .unwrap()
            .remove(0)
            .lexemes
    }

    #[test]
    fn definitions_become_tables_and_indexes() {
        let check = |sql: &str, expect: &[&str]| {
            assert_eq!(create_table(&lexemes(sql), SCOPE).unwrap(), expect, "{sql}");
        };
        check(
            "CREATE TABLE t (id INT UNSIGNED NOT NULL AUTO_INCREMENT, name VARCHAR(20) NOT NULL DEFAULT '', \
             PRIMARY KEY (id), KEY by_name (name(10))) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
            &[
                "CREATE TABLE main.`t` (`id` INTEGER PRIMARY KEY AUTOINCREMENT, \
                 `name` VARCHAR(20) NOT NULL DEFAULT ('') COLLATE NOCASE)",
                "CREATE INDEX main.`t$by_name` ON `t` (`name`)",
            ],
        );
        check(
            "CREATE TABLE IF NOT EXISTS other.t (a DECIMAL(10,2) DEFAULT 1.5, b DATETIME(3) DEFAULT \
             CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), `key` BLOB COMMENT 'x', PRIMARY KEY (a, b), UNIQUE (a))",
            &[
                "CREATE TABLE IF NOT EXISTS `other`.`t` (`a` DECIMAL(10,2) DEFAULT (1.5), \
                 `b` DATETIME_TEXT(3) DEFAULT CURRENT_TIMESTAMP, `key` BLOB, PRIMARY KEY (`a`, `b`))",
                "CREATE UNIQUE INDEX IF NOT EXISTS `other`.`t$a` ON `t` (`a`)",
            ],
        );
        check(
            "CREATE TEMPORARY TABLE x SELECT 1 AS a",
            &["CREATE TABLE temp.`x` AS SELECT 1 AS a"],
        );
        check(
            "CREATE TABLE e (s ENUM('a','b') CHARACTER SET latin1 COLLATE latin1_bin)",
            &[
                "CREATE TABLE main.`e` (`s` VARCHAR(255) CHECK (`s` IN ( 'a' , 'b' )) COLLATE BINARY)",
            ],
        );
        check(
            "CREATE TABLE c (p INT, CONSTRAINT f FOREIGN KEY (p) REFERENCES t (id) ON DELETE CASCADE)",
            &[
                "CREATE TABLE main.`c` (`p` INT, FOREIGN KEY ( p ) REFERENCES t ( id ) ON DELETE CASCADE)",
            ],
        );
    }

    #[test]
    fn alterations_become_one_statement_each() {
        let check = |sql: &str, expect: &[&str]| {
            assert_eq!(alter_table(&lexemes(sql), SCOPE).unwrap(), expect, "{sql}");
        };
        check(
            "ALTER TABLE t ADD COLUMN a INT, ADD UNIQUE KEY k (a), DROP COLUMN b, ENGINE=InnoDB",
            &[
                "ALTER TABLE main.`t` ADD COLUMN `a` INT",
                "CREATE UNIQUE INDEX main.`t$k` ON `t` (`a`)",
                "ALTER TABLE main.`t` DROP COLUMN `b`",
            ],
        );
        check(
            "ALTER TABLE t RENAME TO u",
            &["ALTER TABLE main.`t` RENAME TO `u`"],
        );
        assert_eq!(
            alter_table(&lexemes("ALTER TABLE t MODIFY a INT"), SCOPE)
                .unwrap_err()
                .errno,
            1235
        );
        let index = create_index(&lexemes("CREATE INDEX i ON t (a, b DESC)"), SCOPE).unwrap();
        assert_eq!(index, ["CREATE INDEX main.`t$i` ON `t` (`a`, `b` DESC)"]);
        let dropped = drop_index(&lexemes("DROP INDEX i ON t"), SCOPE).unwrap();
        assert_eq!(dropped, ["DROP INDEX main.`t$i`"]);
    }
}
