//! Stored programs that leave something in the session that runs them: no word of `SELECT f()`, or of an
//! INSERT with a trigger behind it, tells.
//!
//! An account's first login asks for the routines, triggers and views that its account can see, with
//! their texts. A name is *stateful* if its text takes a lock, sets or reads a user variable, names a
//! system variable by `@@`, makes a temporary table, prepares a statement or takes from a sequence;
//! if its text cannot be seen; and if it names one that is stateful. Statements that name a stateful
//! one keep their connection, as they would if it stood in their own text.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;

use super::text::{LexMode, Mention, mentions};
use crate::wire::mysql::cursor::Reader;

/// Asks for names and texts: routines, tables with triggers, views. Texts that are too long to be looked
/// at are as good as unseen.
pub const QUESTION: &[u8] = b"SELECT ROUTINE_NAME, \
    IF(LENGTH(ROUTINE_DEFINITION) > 60000, NULL, ROUTINE_DEFINITION), 'r' \
    FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN ('sys', 'mysql') \
    UNION ALL SELECT EVENT_OBJECT_TABLE, IF(LENGTH(ACTION_STATEMENT) > 60000, NULL, ACTION_STATEMENT), 't' \
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN ('sys', 'mysql') \
    UNION ALL SELECT TABLE_NAME, IF(LENGTH(VIEW_DEFINITION) > 60000, NULL, NULLIF(VIEW_DEFINITION, '')), 'v' \
    FROM information_schema.VIEWS WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql')";

/// Words of a text that leave something in its session, or may.
const STATEFUL: &[&str] = &[
    "currval",
    "execute",
    "get_lock",
    "handler",
    "lastval",
    "nextval",
    "next",
    "prepare",
    "previous",
    "release_all_locks",
    "release_lock",
    "role",
    "temporary",
    "transaction",
];

/// One routine, trigger or view.
#[derive(Debug)]
struct Program {
    name: Vec<u8>,
    words: HashSet<Vec<u8>, RandomState>,
    is_stateful: bool,
    is_unseen_view: bool,
}

impl Program {
    fn read(row: &[u8]) -> Option<Self> {
        let mut row = Reader::new(row);
        let name = row.lenenc_bytes().ok()?.to_ascii_lowercase();
        let text = row.lenenc_bytes_or_null().ok()?;
        let is_view = row.lenenc_bytes().ok()? == b"v";
        let mut words = HashSet::default();
        let mut is_stateful = text.is_none() && !is_view;
        let is_certain =
            mentions(
                text.unwrap_or_default(),
                LexMode::default(),
                |mention| match mention {
                    Mention::Variable => is_stateful = true,
                    Mention::Word(word) => {
                        let known = std::str::from_utf8(word);
                        is_stateful |= known.is_ok_and(|word| STATEFUL.contains(&word));
                        words.insert(word.to_vec());
                    }
                },
            );
        Some(Self {
            name,
            words,
            is_stateful: is_stateful || !is_certain,
            is_unseen_view: is_view && text.is_none(),
        })
    }
}

/// Names of the stateful programs, in lower case, whatever their schema.
#[derive(Debug, Default)]
pub struct Programs(HashSet<Vec<u8>, RandomState>);

impl Programs {
    /// From the rows of the answer to [`QUESTION`].
    pub fn from_rows<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut rest: Vec<Program> = rows.filter_map(Program::read).collect();
        let mut names: HashSet<Vec<u8>, RandomState> = HashSet::default();
        loop {
            let is_stateful = |program: &Program| {
                program.is_stateful
                    || program.is_unseen_view && !names.is_empty()
                    || !program.words.is_disjoint(&names)
            };
            let (found, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_stateful);
            if found.is_empty() {
                return Self(names);
            }
            names.extend(found.into_iter().map(|program| program.name));
            rest = others;
        }
    }

    /// Whether there are none: the usual case.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text names one of them.
    pub fn are_named_in(&self, sql: &[u8], mode: LexMode) -> bool {
        let mut is_named = false;
        // A text that cannot be cut for sure keeps its connection anyway.
        let _ = mentions(sql, mode, |mention| {
            if let Mention::Word(word) = mention {
                is_named |= self.0.contains(word);
            }
        });
        is_named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::cursor::put_lenenc_bytes;

    fn row(name: &str, text: Option<&str>, kind: &str) -> Vec<u8> {
        let mut row = Vec::new();
        put_lenenc_bytes(&mut row, name.as_bytes());
        match text {
            Some(text) => put_lenenc_bytes(&mut row, text.as_bytes()),
            None => row.push(0xfb),
        }
        put_lenenc_bytes(&mut row, kind.as_bytes());
        row
    }

    #[test]
    fn what_leaves_something_is_found_through_what_calls_it() {
        let rows = [
            row(
                "Plain",
                Some("BEGIN DECLARE x INT; SET x = 1; RETURN x; END"),
                "r",
            ),
            row("locks", Some("RETURN GET_LOCK(n, 0)"), "r"),
            row("calls", Some("RETURN `Locks`('a')"), "r"),
            row("t", Some("SET NEW.a = calls()"), "t"),
            row("u", Some("SET @last = NEW.v"), "t"),
            row("w", Some("BEGIN SET NEW.b = plain(); END"), "t"),
            row("v", Some("select `db`.`locks`('x') AS `x`"), "v"),
            row("seen", Some("select 1 AS `get`"), "v"),
            row("hidden", None, "r"),
            row("unseen", None, "v"),
            row(
                "zone",
                Some("BEGIN SET @@time_zone = '+01:00'; RETURN 1; END"),
                "r",
            ),
            row(
                "temps",
                Some("BEGIN CREATE TEMPORARY TABLE x (a INT); RETURN 1; END"),
                "r",
            ),
        ];
        let programs = Programs::from_rows(rows.iter().map(Vec::as_slice));
        for (sql, expect) in [
            ("SELECT plain(1)", false),
            ("SELECT LOCKS ('x')", true),
            ("SELECT test.`calls`()", true),
            ("INSERT INTO t(a) VALUES (1)", true),
            ("UPDATE `u` SET v = 1", true),
            ("INSERT INTO w VALUES (1)", false),
            ("SELECT * FROM v", true),
            ("SELECT * FROM seen", false),
            ("SELECT hidden(), 't'", true),
            ("SELECT 'locks', 't' -- u", false),
            ("SELECT a FROM unseen", true),
            ("SELECT zone()", true),
            ("SELECT temps()", true),
        ] {
            let is_named = programs.are_named_in(sql.as_bytes(), LexMode::default());
            assert_eq!(is_named, expect, "{sql}");
        }
        let none = Programs::from_rows([row("unseen", None, "v")].iter().map(Vec::as_slice));
        assert!(none.is_empty());
    }
}
