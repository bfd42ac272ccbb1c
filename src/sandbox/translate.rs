//! MySQL expressions and queries in SQLite's words: a pass over tokens, no grammar.
//!
//! What is alike in both dialects passes through; SQLite then finds the syntax errors.

use super::error::SqlError;
use super::token::{Lexeme, Token};
use std::collections::BTreeSet;

/// What names mean where a statement runs.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The current database, which is SQLite's `main`.
    pub schema: Option<&'a str>,
    /// Every database of the shard.
    pub schemas: &'a [String],
}

/// A statement in SQLite's dialect and what it leans on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// SQLite text; parameters are `?1`, `?2`, ….
    pub sql: String,
    /// Other databases it names; they must be attached under their names.
    pub attach: BTreeSet<String>,
    /// It reads `information_schema`, which must be made first.
    pub information_schema: bool,
}

/// Translates a run of tokens.
///
/// Errors: 1235 for a construct with no counterpart, 1064 for unbalanced parentheses.
pub fn translate(lexemes: &[Lexeme], scope: Scope<'_>) -> Result<Translated, SqlError> {
    let mut emitter = Emitter {
        out: Translated::default(),
        scope,
    };
    emitter.emit(lexemes)?;
    Ok(emitter.out)
}

struct Emitter<'a> {
    out: Translated,
    scope: Scope<'a>,
}

impl Emitter<'_> {
    fn put(&mut self, text: &str) {
        if !self.out.sql.is_empty() {
            self.out.sql.push(' ');
        }
        self.out.sql.push_str(text);
    }

    fn emit(&mut self, lexemes: &[Lexeme]) -> Result<(), SqlError> {
        let mut at = 0;
        while let Some(lexeme) = lexemes.get(at) {
            at += match &lexeme.token {
                Token::Word(word) => self.word(word, lexemes, at)?,
                Token::Quoted(name) => self.named(name, lexemes, at),
                Token::User(name) => self.user_variable(name, lexemes, at)?,
                Token::System(name) => {
                    self.put(&format!(
                        "system_variable({})",
                        text_literal(name.as_bytes())
                    ));
                    1
                }
                Token::Symbol(symbol) => self.symbol(symbol)?,
                Token::Text(bytes) => self.verbatim(&text_literal(bytes)),
                Token::Blob(bytes) => self.verbatim(&blob_literal(bytes)),
                Token::Parameter(number) => self.verbatim(&format!("?{number}")),
                Token::Number(text) | Token::Raw(text) => self.verbatim(text),
            };
        }
        Ok(())
    }

    fn verbatim(&mut self, text: &str) -> usize {
        self.put(text);
        1
    }

    fn symbol(&mut self, symbol: &str) -> Result<usize, SqlError> {
        let text = match symbol {
            // MySQL's division of whole numbers has a fraction.
            "/" => "* 1.0 /",
            "&&" => "AND",
            "||" => "OR",
            "!" => "NOT",
            "<=>" => "IS",
            ":=" => "=",
            "^" | "{" | "}" => return Err(SqlError::unsupported(symbol)),
            other => other,
        };
        Ok(self.verbatim(text))
    }

    /// A name: quoted again, or a database in front of a table.
    fn named(&mut self, name: &str, lexemes: &[Lexeme], at: usize) -> usize {
        let dotted = lexemes.get(at + 1).is_some_and(|l| l.is_symbol("."));
        let after_dot = at > 0 && lexemes.get(at - 1).is_some_and(|l| l.is_symbol("."));
        if !dotted || after_dot {
            return self.verbatim(&quote_name(name));
        }
        let member = lexemes.get(at + 2).and_then(Lexeme::name);
        if let (true, Some(member)) = (name.eq_ignore_ascii_case("information_schema"), member) {
            self.out.information_schema = true;
            let table = format!("temp.{}", quote_name(&information_table(member)));
            self.put(&table);
            return 3;
        }
        let three_part = lexemes.get(at + 3).is_some_and(|l| l.is_symbol("."));
        let names_table = three_part
            || at > 0
                && lexemes.get(at - 1).is_some_and(|l| {
                    l.is_any(&TABLE_FOLLOWS) || l.is_symbol(",") || l.is_symbol("(")
                });
        if names_table && self.scope.schema.is_some_and(|schema| schema == name) {
            return self.verbatim("main");
        }
        if names_table && self.scope.schemas.iter().any(|schema| schema == name) {
            self.out.attach.insert(name.to_owned());
        }
        self.verbatim(&quote_name(name))
    }

    fn user_variable(
        &mut self,
        name: &str,
        lexemes: &[Lexeme],
        at: usize,
    ) -> Result<usize, SqlError> {
        let name = text_literal(name.as_bytes());
        if !lexemes.get(at + 1).is_some_and(|l| l.is_symbol(":=")) {
            return Ok(self.verbatim(&format!("user_variable({name})")));
        }
        let rest = lexemes.get(at + 2..).unwrap_or_default();
        let length = top_level(rest)
            .find(|(_, l)| {
                let named = matches!(&l.token, Token::Raw(text) if text.starts_with("AS "));
                named || l.is_symbol(",") || l.is_symbol(")") || l.is_any(&CLAUSES)
            })
            .map_or(rest.len(), |(index, _)| index);
        self.put(&format!("set_user_variable({name},"));
        self.emit(rest.get(..length).unwrap_or_default())?;
        self.put(")");
        Ok(2 + length)
    }

    fn word(&mut self, word: &str, lexemes: &[Lexeme], at: usize) -> Result<usize, SqlError> {
        let upper = word.to_ascii_uppercase();
        let next = lexemes.get(at + 1);
        let after_dot = at > 0 && lexemes.get(at - 1).is_some_and(|l| l.is_symbol("."));
        if after_dot || next.is_some_and(|l| l.is_symbol(".")) {
            return Ok(self.named(word, lexemes, at));
        }
        if next.is_some_and(|l| l.is_symbol("(")) {
            return self.call(&upper, word, lexemes, at);
        }
        if next.is_some_and(|l| matches!(l.token, Token::Text(_))) && is_introducer(&upper) {
            if let (true, Some(Token::Text(bytes))) = (upper == "_BINARY", next.map(|l| &l.token)) {
                self.put(&blob_literal(bytes));
                return Ok(2);
            }
            return Ok(1);
        }
        let text = match upper.as_str() {
            "DIV" => "/",
            "MOD" => "%",
            "XOR" => "<>",
            "CURRENT_TIMESTAMP" | "LOCALTIME" | "LOCALTIMESTAMP" | "UTC_TIMESTAMP" => "now()",
            "CURRENT_USER" => "current_user()",
            "BINARY" if next.is_some() => return Ok(1),
            "COLLATE" => {
                let collation = next.and_then(Lexeme::name_or_text).unwrap_or_default();
                self.put(&format!("COLLATE {}", sqlite_collation(&collation)));
                return Ok(2);
            }
            "INTERVAL" => return self.interval(lexemes, at),
            "REGEXP" | "RLIKE" => return Err(SqlError::unsupported("REGEXP")),
            _ => return Ok(self.verbatim(&plain_word(word, &upper))),
        };
        Ok(self.verbatim(text))
    }

    /// `name(`: most functions are registered under their own names.
    fn call(
        &mut self,
        upper: &str,
        word: &str,
        lexemes: &[Lexeme],
        at: usize,
    ) -> Result<usize, SqlError> {
        let close = matching(lexemes, at + 1).ok_or_else(|| SqlError::syntax(word))?;
        let inside = lexemes.get(at + 2..close).unwrap_or_default();
        let length = close + 1 - at;
        match upper {
            "CAST" => self.cast(inside, "AS")?,
            "CONVERT" => self.cast(
                inside,
                if has_word(inside, "USING") {
                    "USING"
                } else {
                    ","
                },
            )?,
            "EXTRACT" => {
                let from = position(inside, |l| l.is_word("FROM"));
                let (unit, value) = inside.split_at(from.unwrap_or(0));
                let unit = unit
                    .first()
                    .and_then(Lexeme::name)
                    .unwrap_or_default()
                    .to_owned();
                self.put(&format!("{}(", quote_name(&unit)));
                self.emit(value.get(1..).unwrap_or_default())?;
                self.put(")");
            }
            "GROUP_CONCAT" => self.group_concat(inside)?,
            _ => {
                let name = match upper {
                    "IF" => "iif",
                    "LEFT" => "mysql_left",
                    "RIGHT" => "mysql_right",
                    "GREATEST" => "max",
                    "LEAST" => "min",
                    "SCHEMA" => "database",
                    "CURRENT_TIMESTAMP" | "LOCALTIME" | "LOCALTIMESTAMP" | "UTC_TIMESTAMP" => "now",
                    "CURRENT_DATE" => "curdate",
                    "CURRENT_TIME" => "curtime",
                    "INTERVAL" => return self.interval(lexemes, at),
                    _ => {
                        self.put(&plain_word(word, upper));
                        return Ok(1);
                    }
                };
                self.put(name);
                return Ok(1);
            }
        }
        Ok(length)
    }

    /// `CAST(value AS type)` and both forms of `CONVERT`.
    fn cast(&mut self, inside: &[Lexeme], separator: &str) -> Result<(), SqlError> {
        let split = position(inside, |l| l.is_word(separator) || l.is_symbol(separator))
            .ok_or_else(|| SqlError::syntax(separator))?;
        let (value, kind) = inside.split_at(split);
        let name = kind
            .get(1)
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let (before, after) = match name.as_str() {
            _ if separator == "USING" => ("(", ")".to_owned()),
            "SIGNED" | "UNSIGNED" | "INTEGER" | "INT" | "BIGINT" => {
                ("CAST(", "AS INTEGER)".to_owned())
            }
            "DECIMAL" | "DEC" | "NUMERIC" => ("round(", format!(", {})", scale_of(kind))),
            "DOUBLE" | "FLOAT" | "REAL" => ("CAST(", "AS REAL)".to_owned()),
            "DATE" => ("date(", ")".to_owned()),
            "DATETIME" | "TIMESTAMP" => ("datetime(", ")".to_owned()),
            "TIME" => ("time(", ")".to_owned()),
            "JSON" => ("json(", ")".to_owned()),
            "BINARY" => ("CAST(", "AS BLOB)".to_owned()),
            "CHAR" | "NCHAR" | "CHARACTER" | "VARCHAR" => ("CAST(", "AS TEXT)".to_owned()),
            other => return Err(SqlError::syntax(other)),
        };
        self.put(before);
        self.emit(value)?;
        self.put(&after);
        Ok(())
    }

    /// `[DISTINCT] value [ORDER BY …] [SEPARATOR 'x']`: SQLite has the separator in front of the order.
    fn group_concat(&mut self, inside: &[Lexeme]) -> Result<(), SqlError> {
        let separator = position(inside, |l| l.is_word("SEPARATOR")).unwrap_or(inside.len());
        let order = position(inside, |l| l.is_word("ORDER")).unwrap_or(separator);
        self.put("group_concat(");
        self.emit(inside.get(..order).unwrap_or_default())?;
        if let Some(text) = inside.get(separator + 1..) {
            self.put(",");
            self.emit(text)?;
        }
        self.emit(inside.get(order..separator).unwrap_or_default())?;
        self.put(")");
        Ok(())
    }

    /// `INTERVAL value unit`, an argument of `DATE_ADD` and its like, becomes two arguments.
    fn interval(&mut self, lexemes: &[Lexeme], at: usize) -> Result<usize, SqlError> {
        let rest = lexemes.get(at + 1..).unwrap_or_default();
        let unit =
            position(rest, |l| l.is_any(&UNITS)).ok_or_else(|| SqlError::syntax("INTERVAL"))?;
        let name = rest
            .get(unit)
            .and_then(Lexeme::name)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let added = lexemes
            .get(at.wrapping_sub(1))
            .is_some_and(|l| l.is_symbol("+") || l.is_symbol("-"));
        if added {
            return Err(SqlError::unsupported("+ INTERVAL outside of DATE_ADD"));
        }
        self.put("(");
        self.emit(rest.get(..unit).unwrap_or_default())?;
        self.put(&format!("), '{name}'"));
        Ok(unit + 2)
    }
}

/// Words a table name follows.
const TABLE_FOLLOWS: [&str; 14] = [
    "FROM",
    "JOIN",
    "INTO",
    "UPDATE",
    "TABLE",
    "IGNORE",
    "EXISTS",
    "REFERENCES",
    "STRAIGHT_JOIN",
    "ON",
    "REPLACE",
    "VIEW",
    "INSERT",
    "TO",
];

/// Words that end an expression of a select list.
const CLAUSES: [&str; 10] = [
    "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "AS", "INTO", "WINDOW",
];

const UNITS: [&str; 9] = [
    "MICROSECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
];

/// The temporary table that holds `information_schema.name`.
pub fn information_table(name: &str) -> String {
    format!("information_schema_{}", name.to_ascii_lowercase())
}

/// A name as SQLite takes it; in backticks an unknown name is an error, never a string.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string literal. Bytes that SQLite's text cannot hold become a blob.
pub fn text_literal(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => format!("CAST({} AS TEXT)", blob_literal(bytes)),
        Ok(text) => format!("'{}'", text.replace('\'', "''")),
        Err(_) => blob_literal(bytes),
    }
}

/// A blob literal.
pub fn blob_literal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("x'{digits}'")
}

/// SQLite's collation for a MySQL collation or character set name.
pub fn sqlite_collation(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    if name == "binary" || name.ends_with("_bin") || name.ends_with("_cs") {
        "BINARY"
    } else {
        "NOCASE"
    }
}

/// Tokens outside parentheses that open within `lexemes`; a `)` too many is outside.
pub fn top_level(lexemes: &[Lexeme]) -> impl Iterator<Item = (usize, &Lexeme)> {
    let mut depth = 0_usize;
    lexemes.iter().enumerate().filter(move |(_, lexeme)| {
        if lexeme.is_symbol("(") {
            depth += 1;
            return depth == 1;
        }
        if lexeme.is_symbol(")") && depth > 0 {
            depth -= 1;
            return false;
        }
        depth == 0
    })
}

/// Where the first top-level token that `wanted` likes stands.
pub fn position(lexemes: &[Lexeme], wanted: impl Fn(&Lexeme) -> bool) -> Option<usize> {
    top_level(lexemes)
        .find(|(_, lexeme)| wanted(lexeme))
        .map(|(index, _)| index)
}

/// Cuts `lexemes` at its top-level commas.
pub fn split_commas(lexemes: &[Lexeme]) -> Vec<&[Lexeme]> {
    let cuts: Vec<usize> = top_level(lexemes)
        .filter(|(_, l)| l.is_symbol(","))
        .map(|(index, _)| index)
        .collect();
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut + 1));
    let ends = cuts.iter().copied().chain(std::iter::once(lexemes.len()));
    starts
        .zip(ends)
        .map(|(start, end)| lexemes.get(start..end).unwrap_or_default())
        .collect()
}

/// Where the parenthesis that opens at `open` closes.
pub fn matching(lexemes: &[Lexeme], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, lexeme) in lexemes.iter().enumerate().skip(open) {
        if lexeme.is_symbol("(") {
            depth += 1;
        } else if lexeme.is_symbol(")") {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(index);
            }
        }
    }
    None
}

fn has_word(lexemes: &[Lexeme], word: &str) -> bool {
    position(lexemes, |l| l.is_word(word)).is_some()
}

/// The scale of `DECIMAL(p, s)`; 0 when it is not given.
fn scale_of(kind: &[Lexeme]) -> String {
    match kind.get(5).map(|l| &l.token) {
        Some(Token::Number(scale)) => scale.clone(),
        _ => "0".to_owned(),
    }
}

fn is_introducer(upper: &str) -> bool {
    upper == "N"
        || matches!(
            upper,
            "_BINARY" | "_UTF8MB4" | "_UTF8" | "_UTF8MB3" | "_LATIN1" | "_ASCII"
        )
}

/// Words that MySQL allows as names and SQLite does not.
fn plain_word(word: &str, upper: &str) -> String {
    match upper {
        "TRANSACTION" | "ISNULL" | "NOTNULL" | "COMMIT" | "DEFERRABLE" | "NOTHING" | "INDEXED" => {
            quote_name(word)
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Quoting, read};
    use super::*;

    fn translated(sql: &str) -> Result<Translated, SqlError> {
        let schemas = ["shop".to_owned(), "other".to_owned()];
        let statement = read(sql.as_bytes(), Quoting::default())?.remove(0);
        translate(
            &statement.lexemes,
            Scope {
                schema: Some("shop"),
                schemas: &schemas,
            },
        )
    }

    #[test]
    fn expressions_take_sqlites_words() {
        let check =
            |sql: &str, expect: &str| assert_eq!(translated(sql).unwrap().sql, expect, "{sql}");
        check("SELECT `a b`, \"x\"", "SELECT `a b` , 'x'");
        check("a <=> b && !c || d", "a IS b AND NOT c OR d");
        check("7 / 2, 7 DIV 2, 7 MOD 2", "7 * 1.0 / 2 , 7 / 2 , 7 % 2");
        check("IF(a, b, c)", "iif ( a , b , c )");
        check("LEFT(a, 2)", "mysql_left ( a , 2 )");
        check("a LEFT JOIN b", "a LEFT JOIN b");
        check("CAST(a AS SIGNED)", "CAST( a AS INTEGER)");
        check("CAST(a AS DECIMAL(10, 2))", "round( a , 2)");
        check("CONVERT(a USING utf8mb4)", "( a )");
        check("CONVERT(a, CHAR(5))", "CAST( a AS TEXT)");
        check("EXTRACT(YEAR FROM d)", "`YEAR`( d )");
        check(
            "GROUP_CONCAT(a ORDER BY b SEPARATOR '-')",
            "group_concat( a , '-' ORDER BY b )",
        );
        check(
            "DATE_ADD(d, INTERVAL 1 + 1 DAY)",
            "DATE_ADD ( d , ( 1 + 1 ), 'DAY' )",
        );
        check("_utf8mb4'x' COLLATE utf8mb4_bin", "'x' COLLATE BINARY");
        check("_binary'\\0A'", "x'0041'");
        check(
            "@a := 1 + 2, @@x, @b",
            "set_user_variable('a', 1 + 2 ) , system_variable('x') , user_variable('b')",
        );
        check("a = ? AND b = ?", "a = ?1 AND b = ?2");
        check(
            "CURRENT_TIMESTAMP, CURRENT_TIMESTAMP(6)",
            "now() , now ( 6 )",
        );
    }

    #[test]
    fn databases_become_attached_ones_and_the_current_one_main() {
        let own = translated("SELECT shop.t.a, t.b FROM `shop`.t").unwrap();
        assert_eq!(
            own.sql,
            "SELECT main . `t` . `a` , `t` . `b` FROM main . `t`"
        );
        let other = translated("SELECT * FROM other.t").unwrap();
        assert_eq!(
            (other.sql.as_str(), other.attach.len()),
            ("SELECT * FROM `other` . `t`", 1)
        );
        let meta = translated("SELECT * FROM information_schema.TABLES").unwrap();
        assert_eq!(meta.sql, "SELECT * FROM temp.`information_schema_tables`");
        assert!(meta.information_schema);
    }

    #[test]
    fn what_has_no_counterpart_says_so() {
        for sql in ["a ^ b", "a REGEXP 'x'", "NOW() + INTERVAL 1 DAY"] {
            assert_eq!(translated(sql).unwrap_err().errno, 1235, "{sql}");
        }
        assert_eq!(translated("CAST(a AS").unwrap_err().errno, 1064);
    }
}
