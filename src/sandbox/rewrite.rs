//! Whole statements brought into SQLite's order of words, before [`super::translate`] changes the words.

use super::error::SqlError;
use super::token::{Lexeme, Token};
use super::translate::{matching, position, quote_name, split_commas, text_literal, top_level};

/// Removes what only MySQL's optimizer and lock manager read.
///
/// Returns the rest and whether the statement asked for row locks (`FOR UPDATE`, `FOR SHARE`).
pub fn clean(lexemes: &[Lexeme]) -> (Vec<Lexeme>, bool) {
    let locks = position(lexemes, |l| l.is_any(&["FOR", "LOCK"])).filter(|at| {
        let second = lexemes.get(at + 1);
        second.is_some_and(|l| l.is_any(&["UPDATE", "SHARE", "IN"])) && *at > 0
    });
    let mut rest = lexemes
        .get(..locks.unwrap_or(lexemes.len()))
        .unwrap_or_default();
    let mut kept: Vec<Lexeme> = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let second = rest.get(1);
        let dropped = if first.is_word("FROM") && second.is_some_and(|l| l.is_word("DUAL")) {
            2
        } else if first.is_any(&["USE", "FORCE", "IGNORE"])
            && second.is_some_and(|l| l.is_any(&["INDEX", "KEY"]))
        {
            position(rest, |l| l.is_symbol("("))
                .and_then(|open| matching(rest, open))
                .map_or(2, |at| at + 1)
        } else {
            usize::from(is_hint(first, kept.last()))
        };
        if dropped == 0 {
            kept.push(first.clone());
        }
        rest = rest.get(dropped.max(1)..).unwrap_or_default();
    }
    (swap_limits(kept), locks.is_some())
}

/// Modifiers directly behind the verb.
fn is_hint(word: &Lexeme, before: Option<&Lexeme>) -> bool {
    const HINTS: [&str; 9] = [
        "SQL_NO_CACHE",
        "SQL_CACHE",
        "SQL_CALC_FOUND_ROWS",
        "SQL_SMALL_RESULT",
        "SQL_BIG_RESULT",
        "SQL_BUFFER_RESULT",
        "HIGH_PRIORITY",
        "LOW_PRIORITY",
        "DELAYED",
    ];
    const VERBS: [&str; 8] = [
        "SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "DISTINCT", "ALL", "IGNORE",
    ];
    word.is_any(&HINTS) && before.is_some_and(|l| l.is_any(&VERBS))
        || word.is_word("STRAIGHT_JOIN") && before.is_some_and(|l| l.is_word("SELECT"))
        || word.is_any(&["QUICK"]) && before.is_some_and(|l| l.is_word("DELETE"))
}

/// `LIMIT offset, count` becomes `LIMIT count OFFSET offset`, everywhere.
fn swap_limits(mut lexemes: Vec<Lexeme>) -> Vec<Lexeme> {
    for at in 0..lexemes.len() {
        let here = |ahead: usize| lexemes.get(at + ahead);
        if here(0).is_some_and(|l| l.is_word("LIMIT")) && here(2).is_some_and(|l| l.is_symbol(","))
        {
            if at + 3 < lexemes.len() {
                lexemes.swap(at + 1, at + 3);
            }
            if let Some(comma) = lexemes.get_mut(at + 2) {
                *comma = Lexeme::raw("OFFSET");
            }
        }
    }
    lexemes
}

/// Gives every expression of the first select list its own text as name, as MySQL does.
pub fn name_columns(lexemes: Vec<Lexeme>, text: &[u8]) -> Vec<Lexeme> {
    let Some(select) = position(&lexemes, |l| l.is_word("SELECT")) else {
        return lexemes;
    };
    let modifiers = lexemes
        .iter()
        .skip(select + 1)
        .take_while(|l| l.is_any(&["DISTINCT", "DISTINCTROW", "ALL"]))
        .count();
    let start = select + 1 + modifiers;
    let tail = lexemes.get(start..).unwrap_or_default();
    const ENDS: [&str; 11] = [
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "INTO",
        "WINDOW",
    ];
    let length = position(tail, |l| l.is_any(&ENDS) || l.is_symbol(")")).unwrap_or(tail.len());
    let mut named: Vec<Lexeme> = lexemes.get(..start).unwrap_or_default().to_vec();
    for (index, item) in split_commas(tail.get(..length).unwrap_or_default())
        .into_iter()
        .enumerate()
    {
        if index > 0 {
            named.push(Lexeme {
                token: Token::Symbol(","),
                span: 0..0,
            });
        }
        named.extend_from_slice(item);
        if let Some(name) = expression_name(item, text) {
            named.push(Lexeme::raw(format!("AS {}", quote_name(&name))));
        }
    }
    named.extend_from_slice(tail.get(length..).unwrap_or_default());
    named
}

/// The name of an item of a select list that has none of its own.
fn expression_name(item: &[Lexeme], text: &[u8]) -> Option<String> {
    let (first, last) = (item.first()?, item.last()?);
    let reference = item.iter().enumerate().all(|(at, l)| match at % 2 {
        0 => l.name().is_some() || l.is_symbol("*"),
        _ => l.is_symbol("."),
    });
    let constant = item.len() == 1 && last.is_any(&CONSTANTS);
    if (reference && !constant) || has_alias(item) {
        return None;
    }
    if let (1, Token::Text(bytes)) = (item.len(), &first.token) {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let written = text
        .get(first.span.start..last.span.end)
        .unwrap_or_default();
    Some(String::from_utf8_lossy(written).trim().to_owned())
}

const CONSTANTS: [&str; 8] = [
    "NULL",
    "TRUE",
    "FALSE",
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_USER",
    "UTC_TIMESTAMP",
];

/// Whether the item ends in a name of its own: `expression [AS] name`.
fn has_alias(item: &[Lexeme]) -> bool {
    const OPERATORS: [&str; 16] = [
        "AND", "OR", "NOT", "XOR", "IS", "LIKE", "IN", "DIV", "MOD", "BETWEEN", "COLLATE",
        "BINARY", "CASE", "THEN", "ELSE", "WHEN",
    ];
    const TAILS: [&str; 3] = ["END", "UNKNOWN", "OVER"];
    if position(item, |l| l.is_word("AS")).is_some() {
        return true;
    }
    let [.., before, last] = item else {
        return false;
    };
    let nameable = last.name().is_some() || matches!(last.token, Token::Text(_));
    let operand = match &before.token {
        Token::Symbol(symbol) => *symbol == ")",
        Token::Word(_) => {
            !before.is_any(&OPERATORS) && !before.name().is_some_and(|n| n.starts_with('_'))
        }
        _ => true,
    };
    nameable && operand && !last.is_any(&TAILS) && !last.is_any(&CONSTANTS)
}

/// `INSERT` and `REPLACE`: `SET` lists, `IGNORE`, empty value lists, `ON DUPLICATE KEY UPDATE`.
///
/// Errors: 1064 when the shape is not that of an insert.
pub fn insert(lexemes: &[Lexeme]) -> Result<Vec<Lexeme>, SqlError> {
    let mut out = vec![
        lexemes
            .first()
            .cloned()
            .unwrap_or_else(|| Lexeme::raw("INSERT")),
    ];
    let mut rest = lexemes.get(1..).unwrap_or_default();
    if rest.first().is_some_and(|l| l.is_word("IGNORE")) {
        out.push(Lexeme::raw("OR IGNORE"));
        rest = rest.get(1..).unwrap_or_default();
    }
    if rest.first().is_some_and(|l| l.is_word("INTO")) {
        rest = rest.get(1..).unwrap_or_default();
    }
    out.push(Lexeme {
        token: Token::Word("INTO".into()),
        span: 0..0,
    });
    let update = position(rest, |l| l.is_word("DUPLICATE")).map(|at| at.saturating_sub(1));
    let (body, update) = rest.split_at(update.unwrap_or(rest.len()));
    match position(body, |l| l.is_word("SET")) {
        Some(set) => {
            out.extend_from_slice(body.get(..set).unwrap_or_default());
            insert_set(body.get(set + 1..).unwrap_or_default(), &mut out)?;
        }
        None => insert_values(body, &mut out),
    }
    if !update.is_empty() {
        // Without this SQLite takes ON for the join of a SELECT.
        if position(body, |l| l.is_word("SELECT")).is_some()
            && position(body, |l| l.is_word("WHERE")).is_none()
        {
            out.push(Lexeme::raw("WHERE true"));
        }
        out.push(Lexeme::raw("ON CONFLICT DO UPDATE SET"));
        excluded(update.get(4..).unwrap_or_default(), &mut out);
    }
    Ok(out)
}

fn insert_set(assignments: &[Lexeme], out: &mut Vec<Lexeme>) -> Result<(), SqlError> {
    let symbol = |text: &'static str| Lexeme {
        token: Token::Symbol(text),
        span: 0..0,
    };
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for assignment in split_commas(assignments) {
        let equals =
            position(assignment, |l| l.is_symbol("=")).ok_or_else(|| SqlError::syntax("SET"))?;
        if !names.is_empty() {
            names.push(symbol(","));
            values.push(symbol(","));
        }
        names.extend_from_slice(
            assignment
                .get(equals.saturating_sub(1)..equals)
                .unwrap_or_default(),
        );
        values.extend_from_slice(assignment.get(equals + 1..).unwrap_or_default());
    }
    out.push(symbol("("));
    out.append(&mut names);
    out.push(Lexeme::raw(") VALUES ("));
    out.append(&mut values);
    out.push(symbol(")"));
    Ok(())
}

fn insert_values(body: &[Lexeme], out: &mut Vec<Lexeme>) {
    let Some(values) = position(body, |l| l.is_any(&["VALUES", "VALUE"])) else {
        out.extend_from_slice(body);
        return;
    };
    let (head, tail) = body.split_at(values);
    let empty = tail.len() == 3 && tail.get(1).is_some_and(|l| l.is_symbol("("));
    let head = match head {
        [table @ .., open, close] if open.is_symbol("(") && close.is_symbol(")") => table,
        all => all,
    };
    out.extend_from_slice(head);
    if empty {
        out.push(Lexeme::raw("DEFAULT VALUES"));
    } else {
        // A bare word: `VALUES (` must not look like the function VALUES().
        out.push(Lexeme::raw("VALUES"));
        out.extend_from_slice(tail.get(1..).unwrap_or_default());
    }
}

/// `VALUES(column)` is SQLite's `excluded.column`.
fn excluded(assignments: &[Lexeme], out: &mut Vec<Lexeme>) {
    let mut at = 0;
    while let Some(lexeme) = assignments.get(at) {
        let column = assignments.get(at + 2).and_then(Lexeme::name);
        let call = assignments.get(at + 1).is_some_and(|l| l.is_symbol("("));
        match (lexeme.is_word("VALUES") && call, column) {
            (true, Some(column)) => {
                out.push(Lexeme::raw(format!("excluded.{}", quote_name(column))));
                at += 4;
            }
            _ => {
                out.push(lexeme.clone());
                at += 1;
            }
        }
    }
}

/// `UPDATE` and `DELETE` of one table with `ORDER BY` or `LIMIT`: through the row ids it would reach.
pub fn limited(lexemes: Vec<Lexeme>) -> Vec<Lexeme> {
    let tail = position(&lexemes, |l| l.is_any(&["ORDER", "LIMIT"])).unwrap_or(lexemes.len());
    if tail == lexemes.len() {
        return lexemes;
    }
    let is_delete = lexemes.first().is_some_and(|l| l.is_word("DELETE"));
    let filter = position(&lexemes, |l| l.is_word("WHERE")).unwrap_or(tail);
    let set = position(&lexemes, |l| l.is_word("SET")).unwrap_or(filter);
    let table = if is_delete {
        lexemes.get(2..filter)
    } else {
        lexemes.get(1..set)
    }
    .unwrap_or_default();
    let mut out = lexemes.get(..filter).unwrap_or_default().to_vec();
    out.push(Lexeme::raw("WHERE rowid IN (SELECT rowid"));
    out.push(Lexeme {
        token: Token::Word("FROM".into()),
        span: 0..0,
    });
    out.extend_from_slice(table);
    out.extend_from_slice(lexemes.get(filter..).unwrap_or_default());
    out.push(Lexeme::raw(")"));
    out
}

/// Puts values where the parameters are, for statements that SQLite never sees.
pub fn interpolate(lexemes: &[Lexeme], values: &[rusqlite::types::Value]) -> Vec<Lexeme> {
    use rusqlite::types::Value;
    let filled = lexemes.iter().map(|lexeme| {
        let Token::Parameter(number) = lexeme.token else {
            return lexeme.clone();
        };
        let token = match values.get(number.saturating_sub(1)) {
            Some(Value::Integer(number)) => Token::Number(number.to_string()),
            Some(Value::Real(number)) => Token::Number(number.to_string()),
            Some(Value::Text(text)) => Token::Text(text.clone().into_bytes()),
            Some(Value::Blob(bytes)) => Token::Text(bytes.clone()),
            Some(Value::Null) | None => Token::Word("NULL".into()),
        };
        Lexeme {
            token,
            span: lexeme.span.clone(),
        }
    });
    filled.collect()
}

/// Whether a query reads a table (and so begins a transaction while autocommit is off).
pub fn reads_table(lexemes: &[Lexeme]) -> bool {
    top_level(lexemes).any(|(_, l)| l.is_word("FROM"))
}

/// A literal for a value, in SQLite's syntax.
pub fn literal(value: &rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(text) => text_literal(text.as_bytes()),
        Value::Blob(bytes) => super::translate::blob_literal(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Quoting, read};
    use super::super::translate::{Scope, translate};
    use super::*;

    fn lexemes(sql: &str) -> Vec<Lexeme> {
        read(sql.as_bytes(), Quoting::default())
            .unwrap()
            .remove(0)
            .lexemes
    }

    fn text(lexemes: &[Lexeme]) -> String {
        translate(
            lexemes,
            Scope {
                schema: None,
                schemas: &[],
            },
        )
        .unwrap()
        .sql
    }

    #[test]
    fn hints_and_locks_go_and_limits_turn() {
        let check = |sql: &str, expect: &str, locks: bool| {
            let (cleaned, locked) = clean(&lexemes(sql));
            assert_eq!((text(&cleaned).as_str(), locked), (expect, locks), "{sql}");
        };
        check(
            "SELECT SQL_NO_CACHE a FROM t USE INDEX (x) LIMIT 5, 10",
            "SELECT a FROM t LIMIT 10 OFFSET 5",
            false,
        );
        check("SELECT 1 FROM DUAL", "SELECT 1", false);
        check(
            "SELECT a FROM t LIMIT ?, ? FOR UPDATE",
            "SELECT a FROM t LIMIT ?2 OFFSET ?1",
            true,
        );
        check(
            "SELECT a FROM t LOCK IN SHARE MODE",
            "SELECT a FROM t",
            true,
        );
    }

    #[test]
    fn columns_keep_the_names_mysql_gives_them() {
        let check = |sql: &str, expect: &str| {
            assert_eq!(
                text(&name_columns(lexemes(sql), sql.as_bytes())),
                expect,
                "{sql}"
            );
        };
        check("SELECT a, t.b, * FROM t", "SELECT a , `t` . `b` , * FROM t");
        check(
            "SELECT COUNT(*) FROM t",
            "SELECT COUNT ( * ) AS `COUNT(*)` FROM t",
        );
        check("SELECT COUNT(*) n, 1 AS x", "SELECT COUNT ( * ) n , 1 AS x");
        check(
            "SELECT @@a LIMIT 1",
            "SELECT system_variable('a') AS `@@a` LIMIT 1",
        );
        check(
            "SELECT 'x', a IS NULL",
            "SELECT 'x' AS `x` , a IS NULL AS `a IS NULL`",
        );
        check(
            "SELECT CASE a WHEN 1 THEN 2 END",
            "SELECT CASE a WHEN 1 THEN 2 END AS `CASE a WHEN 1 THEN 2 END`",
        );
        check(
            "SELECT DISTINCT a+1 b FROM t",
            "SELECT DISTINCT a + 1 b FROM t",
        );
        check("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES ( 1 )");
    }

    #[test]
    fn inserts_and_limited_changes_take_sqlites_form() {
        let check = |sql: &str, expect: &str| {
            assert_eq!(text(&insert(&lexemes(sql)).unwrap()), expect, "{sql}");
        };
        check(
            "INSERT INTO t SET a=1, b='x'",
            "INSERT INTO t ( a , b ) VALUES ( 1 , 'x' )",
        );
        check(
            "INSERT IGNORE t VALUES (1)",
            "INSERT OR IGNORE INTO t VALUES ( 1 )",
        );
        check("INSERT INTO t () VALUES ()", "INSERT INTO t DEFAULT VALUES");
        check(
            "INSERT INTO t (a) VALUES (1),(2) ON DUPLICATE KEY UPDATE a=VALUES(a)+1",
            "INSERT INTO t ( a ) VALUES ( 1 ) , ( 2 ) ON CONFLICT DO UPDATE SET a = excluded.`a` + 1",
        );
        check("REPLACE INTO t VALUES (1)", "REPLACE INTO t VALUES ( 1 )");
        let delete = limited(lexemes("DELETE FROM t WHERE a > 1 ORDER BY a LIMIT 2"));
        assert_eq!(
            text(&delete),
            "DELETE FROM t WHERE rowid IN (SELECT rowid FROM t WHERE a > 1 ORDER BY a LIMIT 2 )"
        );
        let update = limited(lexemes("UPDATE t SET a = 1 LIMIT 2"));
        assert_eq!(
            text(&update),
            "UPDATE t SET a = 1 WHERE rowid IN (SELECT rowid FROM t LIMIT 2 )"
        );
    }
}
