//! What becomes of the list that SHOW WARNINGS shows when a statement leaves no conditions of its own.
//!
//! MariaDB empties the list for a statement that uses a table, and else leaves it as it was (seen on
//! 10.11). The connection that has the list knows; where a session goes on on another one, its texts have to
//! tell.

use crate::session::mysql::effects::Effects;
use crate::session::mysql::harmless::{is_begin, is_harmless};

/// What a statement makes of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::session::mysql) enum Fate {
    /// It is as before.
    #[default]
    Kept,
    /// It is empty.
    Emptied,
    /// The text does not tell.
    Unclear,
}

/// First words of statements that use a table, or empty the list all the same.
const USE_TABLES: &[&str] = &[
    "alter", "create", "delete", "drop", "insert", "lock", "rename", "replace", "table",
    "truncate", "update",
];

/// What a SHOW shows from tables; others leave the list.
const SHOWN_FROM_TABLES: &[&str] = &[
    "columns",
    "create",
    "databases",
    "fields",
    "full",
    "index",
    "keys",
    "schemas",
    "status",
    "tables",
    "variables",
];

/// What a text of one or more statements makes of the list, if none of them leaves conditions.
pub(in crate::session::mysql) fn fate_of(sql: &[u8], effects: &Effects) -> Fate {
    if !sql.contains(&b';') {
        return fate_of_one(sql, effects);
    }
    // A list that one of them has emptied stays so. What the effects tell is told of all of them.
    let of_one = Effects::default();
    let mut parts = sql.split(|byte| *byte == b';');
    match parts.any(|part| fate_of_one(part, &of_one) == Fate::Emptied) {
        true => Fate::Emptied,
        false => fate_of_one(sql, effects),
    }
}

fn fate_of_one(sql: &[u8], effects: &Effects) -> Fate {
    let has = |word: &str| {
        sql.windows(word.len())
            .any(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()))
    };
    let sql = sql.trim_ascii();
    let mut words = sql.split(|byte| !byte.is_ascii_alphabetic());
    let (first, second) = (words.next(), words.next());
    let is = |word: Option<&[u8]>, known: &str| {
        word.is_some_and(|word| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    let begins = |known: &str| is(first, known);
    let shows = begins("show") && SHOWN_FROM_TABLES.iter().any(|known| is(second, known));
    let is_single = !has(";");
    let sets = effects.is_set && !effects.sets_in_passing && !has("select");
    let is_kept = sets || effects.ends_transaction || is_begin(sql) || begins("use");
    if is_harmless(sql) || is_single && is_kept {
        return Fate::Kept;
    }
    // It may be in a string, or in EXTRACT(… FROM …), and mostly is not.
    match shows || has("from") || USE_TABLES.iter().any(|known| begins(known)) {
        true => Fate::Emptied,
        false => Fate::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::effects::of_text;
    use crate::session::mysql::text::LexMode;

    #[test]
    fn a_text_tells_whether_it_uses_a_table_or_that_it_does_not_tell() {
        for (sql, fate) in [
            ("SELECT 5", Fate::Kept),
            ("SELECT 1 FROM dual", Fate::Kept),
            (" set names utf8mb4", Fate::Kept),
            ("SET @@sql_mode = 'x', autocommit = 1", Fate::Kept),
            ("SET timestamp = (SELECT a FROM t)", Fate::Emptied),
            ("BEGIN", Fate::Kept),
            ("COMMIT", Fate::Kept),
            ("USE `t`", Fate::Kept),
            ("COMMIT; SELECT f()", Fate::Unclear),
            ("SELECT f(); INSERT INTO t VALUES (1)", Fate::Emptied),
            ("SET @a = 1; show tables; SELECT f()", Fate::Emptied),
            ("SELECT f()", Fate::Unclear),
            ("DO 1", Fate::Unclear),
            ("SELECT f() FROM t", Fate::Emptied),
            ("insert INTO t VALUES (1)", Fate::Emptied),
            ("TRUNCATE t", Fate::Emptied),
            ("SHOW TABLES", Fate::Emptied),
            ("SHOW PRIVILEGES", Fate::Unclear),
        ] {
            let effects = of_text(sql.as_bytes(), LexMode::default());
            assert_eq!(fate_of(sql.as_bytes(), &effects), fate, "{sql}");
        }
    }
}
