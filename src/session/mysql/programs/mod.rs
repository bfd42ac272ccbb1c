//! Stored programs that leave something in the session that runs them: no word of `SELECT f()`, or of an
//! INSERT with a trigger behind it, tells.
//!
//! A core asks for the routines, triggers and views that an account can see, with their texts, ahead of
//! the first statement that it runs for that account, and again later. A name is *stateful* if its text takes a lock, sets or reads a user variable, names a
//! system variable by `@@`, makes a temporary table, prepares a statement or takes from a sequence;
//! if its text cannot be seen; and if it names one that is stateful. Statements that name a stateful
//! one keep their connection, as they would if it stood in their own text.

mod known;
mod listing;
mod watch;

use listing::{Kind, Listed, Program, Sight, Words};

use super::own_question;
use super::text::{LexMode, Mention, mentions};
pub use known::{Asked, KnownPrograms};
pub use listing::QUESTION;

/// What the server says to [`QUESTION`].
pub type Answer = own_question::Answer<Listed>;

impl Answer {
    /// Takes the programs out that leave something; `None` if the server did not tell.
    pub fn end(&mut self) -> Option<Programs> {
        let found = std::mem::take(&mut self.found);
        (!found.is_withheld()).then(|| Programs::of(found))
    }
}

/// Names that a text may name, in lower case, whatever their schema.
#[derive(Debug, Default)]
struct Names {
    words: Words,
    /// One has a byte that a client in another character set writes otherwise, or a blank and the like.
    has_odd: bool,
    /// One has a quote in it, which stands twice in a text.
    has_quote: bool,
}

/// Whether a name is written the same in all character sets and with or without quotes.
fn is_odd(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    !name.iter().all(is_plain)
}

impl Names {
    fn add(&mut self, name: Vec<u8>) {
        self.has_odd |= is_odd(&name);
        self.has_quote |= name.iter().any(|byte| matches!(byte, b'`' | b'"'));
        self.words.insert(name);
    }

    fn are_none(&self) -> bool {
        self.words.is_empty()
    }

    fn has(&self, word: &[u8]) -> bool {
        self.has_quote || self.has_odd && is_odd(word) || self.words.contains(word)
    }

    fn are_in(&self, sql: &[u8], mode: LexMode) -> bool {
        if self.are_none() {
            return false;
        }
        let mut is_named = false;
        // A text that cannot be cut for sure keeps its connection anyway.
        let _ = mentions(sql, mode, |mention| {
            if let Mention::Word(word) = mention {
                is_named |= self.has(word);
            }
        });
        is_named
    }
}

/// The programs that leave something.
#[derive(Debug, Default)]
pub struct Programs {
    stateful: Names,
    /// What may write to tables that the account cannot name, or views on them, by what it is.
    writing: Names,
    views: Names,
    /// Views without a text: they may call functions that the account cannot see.
    unseen: Names,
    sight: Sight,
    /// They are too many to be told apart, or not told.
    may_be_any: bool,
}

impl Programs {
    /// What is to be assumed where nothing is told.
    pub fn any() -> Self {
        Self {
            may_be_any: true,
            ..Self::default()
        }
    }

    fn of(found: Listed) -> Self {
        if found.overflows() {
            return Self::any();
        }
        let sight = found.sight();
        let rest = hidden_calls(found.programs);
        let some = rest.iter().any(|program| program.is_stateful);
        let is_first = |program: &Program| program.is_stateful || program.is_unseen_view && some;
        let (stateful, rest) = closure(rest, is_first);
        let mut programs = Self {
            stateful,
            sight,
            ..Self::default()
        };
        let unseen = rest.iter().filter(|program| program.is_unseen_view);
        unseen.for_each(|view| programs.unseen.add(view.name.clone()));
        if sight != Sight::All {
            let views = rest.iter().filter(|program| program.kind == Kind::View);
            views.for_each(|view| programs.views.add(view.name.clone()));
            programs.writing = closure(rest, |program| program.writes).0;
        }
        programs
    }

    /// Whether there are none: the usual case.
    pub fn are_none(&self) -> bool {
        let sees_enough = match self.sight {
            Sight::All => true,
            Sight::Own => self.writing.are_none() && self.views.are_none(),
            Sight::Some => false,
        };
        let are_seen = sees_enough && self.unseen.are_none();
        are_seen && self.stateful.are_none() && !self.may_be_any
    }

    /// Whether a text of which this is a part, or all, may name one of them.
    pub fn may_be_named_in(&self, sql: &[u8], is_whole: bool, mode: LexMode) -> bool {
        let are_some = self.may_be_any || !self.stateful.are_none();
        are_some && (self.may_be_any || !is_whole || self.stateful.are_in(sql, mode))
    }

    /// Whether a text may have something run that the account cannot see: a trigger, or what a view without a
    /// text calls. `may_write` is whether its own words
    /// may be those of a statement that writes.
    pub fn may_leave_unseen(&self, sql: &[u8], may_write: bool, mode: LexMode) -> bool {
        let may_fire = match self.sight {
            Sight::All => false,
            Sight::Own => {
                self.writing.are_in(sql, mode) || may_write && self.views.are_in(sql, mode)
            }
            Sight::Some => may_write || self.writing.are_in(sql, mode),
        };
        may_fire || self.unseen.are_in(sql, mode)
    }
}

/// Views that call a function which the account cannot see are as if it stood there without its text.
fn hidden_calls(mut programs: Vec<Program>) -> Vec<Program> {
    let functions: Words = programs
        .iter()
        .filter(|program| program.kind == Kind::Function)
        .map(|program| program.name.clone())
        .collect();
    for program in &mut programs {
        program.is_stateful |= !program.calls.is_subset(&functions);
    }
    programs
}

/// The names of the programs that `is_first`, and of those that name one of them; and the other programs.
/// Procedures are not among the names: CALL keeps its connection whatever it calls.
fn closure(mut rest: Vec<Program>, is_first: impl Fn(&Program) -> bool) -> (Names, Vec<Program>) {
    let (mut names, mut procedures) = (Names::default(), Words::default());
    loop {
        let is_one = |program: &Program| {
            is_first(program)
                || program.words.iter().any(|word| names.has(word))
                || !program.words.is_disjoint(&procedures)
        };
        let (more, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_one);
        if more.is_empty() {
            return (names, others);
        }
        for program in more {
            match program.kind {
                Kind::Procedure => {
                    procedures.insert(program.name);
                }
                _ => names.add(program.name),
            }
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::super::own_question::Collect;
    use super::*;
    use crate::wire::mysql::value::Value;

    /// Rows of a kind, a name and a text.
    fn programs(rows: &[(&str, &str, Option<&str>)]) -> Programs {
        let mut found = Listed::default();
        for (kind, name, text) in rows {
            let text = text.map_or(Value::Null, |text| Value::Bytes(text.as_bytes()));
            found.take_row(&[
                Value::Bytes(kind.as_bytes()),
                Value::Bytes(b""),
                Value::Bytes(name.as_bytes()),
                text,
            ]);
        }
        Programs::of(found)
    }

    #[test]
    fn what_leaves_something_is_found_through_what_calls_it() {
        let programs = programs(&[
            (
                "f",
                "Plain",
                Some("BEGIN DECLARE x INT; SET x = 1; RETURN x; END"),
            ),
            ("f", "locks", Some("RETURN GET_LOCK(n, 0)")),
            ("f", "calls", Some("RETURN `Locks`('a')")),
            ("t", "t", Some("SET NEW.a = calls()")),
            ("t", "u", Some("SET @last = NEW.v")),
            ("t", "w", Some("BEGIN SET NEW.b = plain(); END")),
            ("v", "v", Some("select `db`.`locks`('x') AS `x`")),
            ("v", "seen", Some("select 1 AS `get`")),
            ("f", "hidden", None),
            ("v", "unseen", None),
            (
                "f",
                "zone",
                Some("BEGIN SET @@time_zone = '+01:00'; RETURN 1; END"),
            ),
            (
                "f",
                "temps",
                Some("BEGIN CREATE TEMPORARY TABLE x (a INT); RETURN 1; END"),
            ),
            ("p", "state", Some("SET @a = 1")),
            ("f", "through", Some("BEGIN CALL state(); RETURN 1; END")),
            ("f", "ansi", Some("RETURN \"get_lock\"('a', 0)")),
        ]);
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
            ("SELECT state FROM plain", false),
            ("SELECT through()", true),
            ("SELECT ansi()", true),
        ] {
            let is_named = programs.may_be_named_in(sql.as_bytes(), true, LexMode::default());
            assert_eq!(is_named, expect, "{sql}");
        }
        assert!(programs.may_be_named_in(b"INSERT INTO w VALUES (", false, LexMode::default()));
    }

    #[test]
    fn a_view_that_cannot_be_seen_calls_what_there_is() {
        let alone = programs(&[("v", "unseen", None)]);
        let (sql, mode) = (b"SELECT * FROM unseen", LexMode::default());
        assert!(
            !alone.may_be_named_in(sql, true, mode) && alone.may_leave_unseen(sql, false, mode)
        );
        assert!(!alone.may_leave_unseen(b"SELECT * FROM t", false, mode));
    }

    #[test]
    fn a_name_is_found_however_a_client_writes_it() {
        let odd = programs(&[("f", "Zähle", None)]);
        for (sql, expect) in [
            (&b"SELECT z\xe4hle()"[..], true),
            ("SELECT ZÄHLE()".as_bytes(), true),
            (b"SELECT `a-b` FROM t", true),
            (b"SELECT `ab` FROM t", false),
        ] {
            let is_named = odd.may_be_named_in(sql, true, LexMode::default());
            assert_eq!(is_named, expect, "{}", String::from_utf8_lossy(sql));
        }
        let quote = programs(&[("f", "a`b", None)]);
        assert!(quote.may_be_named_in(b"SELECT `a``b`()", true, LexMode::default()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_kept_counts() {
        let word: String = (0..4_000).map(|n| format!(" w{n}")).collect();
        let mut found = Listed::default();
        let mut add = |name: &str, text: &str| {
            let values = [b"f", &b""[..], name.as_bytes(), text.as_bytes()].map(Value::Bytes);
            found.take_row(&values);
        };
        for n in 0..40 {
            add(&format!("f{n}"), &word);
        }
        let some = Programs::of(std::mem::take(&mut found));
        assert!(!some.may_be_named_in(b"SELECT f0()", true, LexMode::default()));
        assert!(some.may_be_named_in(b"SELECT f39()", true, LexMode::default()));
        let mut add = |name: &str, text: &str| {
            let values = [b"f", &b""[..], name.as_bytes(), text.as_bytes()].map(Value::Bytes);
            found.take_row(&values);
        };
        for n in 0..200_000 {
            add(&format!("f{n}"), "RETURN GET_LOCK('a', 0)");
        }
        assert!(found.overflows() && found.programs.is_empty());
        let any = Programs::of(found);
        assert!(any.may_be_named_in(b"SELECT 1", true, LexMode::default()));
    }

    #[test]
    fn a_server_without_such_tables_has_none_and_one_that_does_not_tell_may() {
        for (errno, expect) in [(1146, true), (1064, true), (1969, false), (3024, false)] {
            let mut answer = Answer::new(true);
            answer.found.refused(errno);
            assert_eq!(answer.end().is_some(), expect, "{errno}");
        }
    }

    /// What is told of a server with a trigger on `t`, a routine that writes and a view.
    fn told(facts: &[(&str, &str)]) -> Programs {
        let mut found = Listed::default();
        let rows = [
            ("t", "t", "SET NEW.v = 1"),
            (
                "f",
                "writes",
                "BEGIN INSERT INTO x.y VALUES (1); RETURN 1; END",
            ),
            ("f", "calls", "RETURN writes()"),
            ("f", "reads", "RETURN 1"),
            ("v", "v", "select `x`.`y`.`a` AS `a` from `x`.`y`"),
        ];
        let facts = facts.iter().map(|(kind, value)| (*kind, *value, ""));
        for (kind, name, text) in facts.chain(rows) {
            let values = [kind, "s", name, text].map(|value| Value::Bytes(value.as_bytes()));
            found.take_row(&values);
        }
        Programs::of(found)
    }

    #[test]
    fn what_may_have_an_unseen_trigger_run_depends_on_what_is_seen() {
        let cases = [
            ("INSERT INTO z VALUES (1)", true),
            ("INSERT INTO v VALUES (1)", true),
            ("SELECT calls()", false),
            ("SELECT reads() FROM v", false),
        ];
        let all = [false; 4];
        let own = [false, true, true, false];
        let some = [true, true, true, false];
        for (facts, expect) in [
            (&[][..], all),
            (&[("g", "1"), ("s", "0"), ("s", "7"), ("d", "0")], all),
            (&[("g", "0"), ("s", "3"), ("s", "4"), ("d", "0")], own),
            (&[("g", "0"), ("s", "3"), ("s", "5"), ("d", "0")], some),
            (&[("g", "0"), ("d", "1")], own),
            (&[("g", "0"), ("d", "0")], some),
        ] {
            let programs = told(facts);
            for ((sql, may_write), expect) in cases.iter().zip(expect) {
                let fires =
                    programs.may_leave_unseen(sql.as_bytes(), *may_write, LexMode::default());
                assert_eq!(fires, expect, "{facts:?} {sql}");
            }
            assert_eq!(programs.are_none(), expect == all, "{facts:?}");
        }
    }

    #[test]
    fn a_view_that_calls_what_cannot_be_seen_counts() {
        let programs = programs(&[
            ("f", "seen", Some("RETURN 1")),
            (
                "v",
                "good",
                Some("select `db`.`seen`(1) AS `x` from (`t` join `u`)"),
            ),
            ("v", "bad", Some("select `db`.`hidden`(1) AS `x`")),
        ]);
        for (sql, expect) in [("SELECT * FROM good", false), ("SELECT * FROM bad", true)] {
            let is_named = programs.may_be_named_in(sql.as_bytes(), true, LexMode::default());
            assert_eq!(is_named, expect, "{sql}");
        }
    }
}
