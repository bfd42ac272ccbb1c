//! One column of a `CREATE TABLE` or `ALTER TABLE`: its type and attributes in SQLite's words.

use super::column::{Kind, read_type};
use super::error::SqlError;
use super::token::{Lexeme, Token};
use super::translate::{Scope, matching, quote_name, sqlite_collation, translate};

/// One column's definition.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) definition: String,
    pub(super) primary: bool,
    pub(super) unique: bool,
    pub(super) auto_increment: bool,
}

impl Column {
    /// Reads `name type attributes…`.
    ///
    /// Errors: 1064.
    pub(super) fn read(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Self, SqlError> {
        let name = lexemes
            .first()
            .and_then(Lexeme::name)
            .ok_or_else(|| SqlError::syntax("column"))?;
        let type_tokens = lexemes.get(1..).unwrap_or_default();
        let serial = type_tokens.first().is_some_and(|l| l.is_word("SERIAL"));
        let (kind, used) = match serial {
            true => (Kind::BIGINT, 1),
            false => read_type(type_tokens).ok_or_else(|| SqlError::syntax(name))?,
        };
        let mut column = Self {
            name: name.to_owned(),
            definition: format!("{} {}", quote_name(name), kind.declared()),
            primary: false,
            unique: serial,
            auto_increment: serial,
        };
        if type_tokens.first().is_some_and(|l| l.is_word("ENUM")) {
            let values = type_tokens.get(1..used).unwrap_or_default();
            let values = translate(values, scope)?.sql;
            column.push(&format!("CHECK ({} IN {values})", quote_name(name)));
        }
        let mut collation = if kind.is_text() { Some("NOCASE") } else { None };
        let mut rest = type_tokens.get(used..).unwrap_or_default();
        while !rest.is_empty() {
            let taken = column.attribute(rest, &mut collation, scope)?;
            rest = rest.get(taken.max(1)..).unwrap_or_default();
        }
        if let Some(collation) = collation {
            column.push(&format!("COLLATE {collation}"));
        }
        Ok(column)
    }

    fn push(&mut self, text: &str) {
        self.definition.push(' ');
        self.definition.push_str(text);
    }

    /// Reads one attribute; returns how many tokens it took.
    fn attribute(
        &mut self,
        rest: &[Lexeme],
        collation: &mut Option<&'static str>,
        scope: Scope<'_>,
    ) -> Result<usize, SqlError> {
        let word = rest
            .first()
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let group = |at: usize| matching(rest, at).map_or(at, |close| close + 1);
        let opens = |at: usize| rest.get(at).is_some_and(|l| l.is_symbol("("));
        Ok(match word.as_str() {
            "NOT" => {
                self.push("NOT NULL");
                2
            }
            "AUTO_INCREMENT" => {
                self.auto_increment = true;
                1
            }
            "PRIMARY" | "KEY" => {
                self.primary = true;
                1 + usize::from(word == "PRIMARY" && rest.get(1).is_some_and(|l| l.is_word("KEY")))
            }
            "UNIQUE" => {
                self.unique = true;
                1 + usize::from(rest.get(1).is_some_and(|l| l.is_word("KEY")))
            }
            "DEFAULT" => self.default(rest, scope)?,
            "COLLATE" => {
                let name = rest
                    .get(1)
                    .and_then(Lexeme::name_or_text)
                    .unwrap_or_default();
                *collation = collation.map(|_| sqlite_collation(&name));
                2
            }
            "CHARSET" | "COMMENT" | "STORAGE" | "COLUMN_FORMAT" | "CONSTRAINT" => 2,
            "CHARACTER" => 3,
            "BINARY" => {
                *collation = collation.map(|_| "BINARY");
                1
            }
            "ON" => 3 + if opens(3) { group(3) - 3 } else { 0 },
            "CHECK" | "AS" if opens(1) => {
                self.push(&translate(rest.get(..group(1)).unwrap_or_default(), scope)?.sql);
                group(1)
            }
            "REFERENCES" => {
                self.push(&translate(rest, scope)?.sql);
                rest.len()
            }
            "STORED" | "VIRTUAL" | "PERSISTENT" => {
                self.push(if word == "VIRTUAL" {
                    "VIRTUAL"
                } else {
                    "STORED"
                });
                1
            }
            "NULL" | "GENERATED" | "ALWAYS" | "VISIBLE" | "INVISIBLE" | "FIRST" => 1,
            "AFTER" => 2,
            other => return Err(SqlError::syntax(other)),
        })
    }

    fn default(&mut self, rest: &[Lexeme], scope: Scope<'_>) -> Result<usize, SqlError> {
        let value = rest.get(1).ok_or_else(|| SqlError::syntax("DEFAULT"))?;
        let called = rest.get(2).is_some_and(|l| l.is_symbol("("));
        let length = match &value.token {
            Token::Symbol("(") => matching(rest, 1).map_or(1, |close| close + 1),
            Token::Symbol(_) => 3,
            Token::Word(_) if called => matching(rest, 2).map_or(2, |close| close + 1),
            _ => 2,
        };
        if value.is_any(&["CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"]) {
            self.push("DEFAULT CURRENT_TIMESTAMP");
        } else if let Token::Blob(bytes) = &value.token {
            let number = bytes
                .iter()
                .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
            self.push(&format!("DEFAULT {number}"));
        } else {
            let value = translate(rest.get(1..length).unwrap_or_default(), scope)?.sql;
            self.push(&format!("DEFAULT ({value})"));
        }
        Ok(length)
    }
}
