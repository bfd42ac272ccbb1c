//! Statements whose text proves that they change nothing, whatever is in the database.
//!
//! `SELECT f()` may write, and so may `SELECT a FROM v`, as a view calls what functions it likes; no
//! text tells a view from a table. What is left is what names nothing that a user can define:
//! expressions over constants, parameters, system variables and a list of the servers' own functions.
//! A native function hides a stored one of its name where the bracket follows the name at once
//! (MariaDB, "Built-in function names"; MySQL manual, "Function Name Parsing and Resolution").
//! What can be made to last (SLEEP, BENCHMARK, locks) is not in the list: such a statement may be
//! ended by somebody's KILL, and must not come back.
//!
//! Anything that is not recognised is taken for harmful.

use super::text::words::Table;

/// The longest text that is looked at, in bytes.
const LEN_MAX: usize = 512;

/// Words of an expression, beside names of functions.
const WORDS: &[&str] = &[
    "all", "and", "as", "between", "binary", "case", "collate", "distinct", "div", "dual", "else",
    "end", "false", "from", "in", "interval", "is", "like", "limit", "mod", "not", "null", "or",
    "select", "then", "true", "union", "unknown", "when", "xor",
];

/// Native functions of both families that read at most the session and the clock, and do not last.
const FUNCTIONS: &[&str] = &[
    "abs",
    "ascii",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "connection_id",
    "crc32",
    "curdate",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "curtime",
    "database",
    "date_format",
    "elt",
    "field",
    "floor",
    "greatest",
    "hex",
    "if",
    "ifnull",
    "instr",
    "lcase",
    "least",
    "left",
    "length",
    "localtime",
    "localtimestamp",
    "locate",
    "lower",
    "ltrim",
    "md5",
    "now",
    "nullif",
    "octet_length",
    "pi",
    "reverse",
    "right",
    "round",
    "rtrim",
    "schema",
    "session_user",
    "sha1",
    "sha2",
    "sign",
    "strcmp",
    "substring_index",
    "system_user",
    "ucase",
    "unhex",
    "unix_timestamp",
    "upper",
    "user",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "uuid",
    "version",
];

/// Standing alone, these are functions or values too.
const BARE: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "utc_date",
    "utc_time",
    "utc_timestamp",
];

/// Whether a statement provably changes nothing and does not last.
pub fn is_harmless(sql: &[u8]) -> bool {
    if sql.len() > LEN_MAX {
        return false;
    }
    let mut pieces = Pieces { rest: sql };
    pieces.next() == Some(Piece::Word("select")) && is_plain(pieces)
}

/// Whether a statement opens a transaction and does nothing else: lost with its connection, it is as
/// if it had never been. Should there be one already, beginning another commits it.
pub fn is_begin(sql: &[u8]) -> bool {
    let mut pieces = Pieces {
        rest: sql.get(..LEN_MAX).unwrap_or(sql),
    };
    let opens = match pieces.next() {
        Some(Piece::Word("begin")) => true,
        Some(Piece::Word("start")) => pieces.next() == Some(Piece::Word("transaction")),
        _ => false,
    };
    opens && sql.len() <= LEN_MAX && pieces.all(|piece| piece.is_of_begin())
}

/// What follows SELECT.
fn is_plain(pieces: Pieces<'_>) -> bool {
    let mut last = Piece::Word("select");
    for piece in pieces {
        let is_good = match (last, piece) {
            // An alias is any word; a bracket behind it is refused below.
            (Piece::Word("as"), piece) => {
                matches!(piece, Piece::Word(_) | Piece::Other | Piece::Text)
            }
            (Piece::Word("from"), piece) => piece == Piece::Word("dual"),
            (Piece::Punct(b'.'), piece) => piece == Piece::Number,
            (_, Piece::Call(name)) => FUNCTIONS.contains(&name),
            (_, Piece::Word(word)) => WORDS.contains(&word) || BARE.contains(&word),
            (last, Piece::Punct(b'(')) => last.takes_bracket(),
            (_, Piece::Punct(byte)) => b"+-*/%(),.<>=!&|^~?;".contains(&byte),
            (_, Piece::Text | Piece::Variable | Piece::Number) => true,
            (_, Piece::Other | Piece::Unclear) => false,
        };
        // Nothing behind the end of the statement.
        if !is_good || last == Piece::Punct(b';') {
            return false;
        }
        last = piece;
    }
    true
}

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// A word in lower case, if it is one that is known; see [`known`].
    Word(&'a str),
    /// A name with a bracket right behind it, which is read too.
    Call(&'a str),
    /// A string without anything that two modes or character sets read differently.
    Text,
    Number,
    /// `@@name`.
    Variable,
    Punct(u8),
    /// A word that is not known, or a name in backticks.
    Other,
    /// What is not to be judged.
    Unclear,
}

impl Piece<'_> {
    /// Whether an opening bracket behind this can only group, or list.
    fn takes_bracket(self) -> bool {
        match self {
            Self::Word(word) => WORDS.contains(&word),
            Self::Call(_) => true,
            Self::Punct(byte) => byte != b')' && byte != b'?' && byte != b'.',
            _ => false,
        }
    }

    fn is_of_begin(self) -> bool {
        const OPTIONS: &[&str] = &[
            "work",
            "with",
            "consistent",
            "snapshot",
            "read",
            "only",
            "write",
        ];
        match self {
            Self::Word(word) => OPTIONS.contains(&word),
            Self::Punct(byte) => byte == b',',
            _ => false,
        }
    }
}

/// Words of statements that begin a transaction.
const OTHERS: &[&str] = &[
    "begin",
    "consistent",
    "only",
    "read",
    "snapshot",
    "start",
    "transaction",
    "with",
    "work",
    "write",
];

const KNOWN_COUNT: usize = WORDS.len() + FUNCTIONS.len() + OTHERS.len();

/// The words that mean anything here. Those of [`BARE`] are functions too.
static KNOWN: [&str; KNOWN_COUNT] = {
    let lists = [WORDS, FUNCTIONS, OTHERS];
    let mut known = [""; KNOWN_COUNT];
    let (mut list, mut at, mut count) = (0, 0, 0);
    while list < lists.len() {
        if at == lists[list].len() {
            (list, at) = (list + 1, 0);
        } else {
            known[count] = lists[list][at];
            (at, count) = (at + 1, count + 1);
        }
    }
    known
};

static KNOWN_BYTES: [&[u8]; KNOWN_COUNT] = {
    let (mut bytes, mut at) = ([b"".as_slice(); KNOWN_COUNT], 0);
    while at < KNOWN_COUNT {
        bytes[at] = KNOWN[at].as_bytes();
        at += 1;
    }
    bytes
};

static TABLE: Table = Table::new(&KNOWN_BYTES);

fn known(word: &[u8]) -> Option<&'static str> {
    let number = TABLE.find(word, |byte| byte.to_ascii_lowercase())?;
    KNOWN.get(number).copied()
}

/// Cuts a text into pieces; blank space and plain comments are none.
struct Pieces<'a> {
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// The next bytes as long as `is_part` says so.
    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_part(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Passes over blank space and comments; whether that was all plain. The text of `/*! … */` is
    /// read by some servers.
    fn skip_blank(&mut self) -> bool {
        loop {
            self.take_while(|byte| byte.is_ascii_whitespace());
            let Some(body) = self.rest.strip_prefix(b"/*") else {
                return true;
            };
            let Some(end) = memchr::memmem::find(body, b"*/") else {
                return false;
            };
            let (comment, rest) = body.split_at(end);
            if comment.starts_with(b"!") || comment.starts_with(b"M!") || has_odd(comment) {
                return false;
            }
            self.rest = rest.get(2..).unwrap_or_default();
        }
    }

    fn quoted(&mut self, quote: u8) -> Piece<'a> {
        self.rest = self.rest.get(1..).unwrap_or_default();
        let body = self.take_while(|byte| byte != quote);
        let Some(rest) = self.rest.get(1..) else {
            return Piece::Unclear;
        };
        self.rest = rest;
        match quote {
            _ if has_odd(body) => Piece::Unclear,
            b'\'' => Piece::Text,
            // With ANSI_QUOTES a name, else a string: no more than a string where a string may be.
            b'"' => Piece::Text,
            _ => Piece::Other,
        }
    }

    fn word(&mut self) -> Piece<'a> {
        let word = self.take_while(is_word);
        let starts_as_number = word.first().is_some_and(u8::is_ascii_digit);
        if starts_as_number {
            let is_number = word.iter().all(|byte| byte.is_ascii_alphanumeric());
            return if is_number {
                Piece::Number
            } else {
                Piece::Unclear
            };
        }
        let is_call = self.rest.first() == Some(&b'(');
        match (known(word), is_call) {
            // IN(, AND( and their like call nothing.
            (Some(word), true) if !WORDS.contains(&word) => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                Piece::Call(word)
            }
            (Some(word), _) => Piece::Word(word),
            (None, true) => Piece::Unclear,
            (None, false) => Piece::Other,
        }
    }

    fn variable(&mut self) -> Piece<'a> {
        let Some(rest) = self.rest.strip_prefix(b"@@") else {
            return Piece::Unclear;
        };
        self.rest = rest;
        let name = self.take_while(|byte| is_word(byte) || byte == b'.');
        match name.is_empty() || self.rest.first() == Some(&b'(') {
            true => Piece::Unclear,
            false => Piece::Variable,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if !self.skip_blank() {
            self.rest = &[];
            return Some(Piece::Unclear);
        }
        let first = *self.rest.first()?;
        Some(match first {
            b'\'' | b'"' | b'`' => self.quoted(first),
            b'@' => self.variable(),
            // Comments to the end of a line; `--` may be two signs, and is not judged.
            b'#' => Piece::Unclear,
            b'-' if self.rest.starts_with(b"--") => Piece::Unclear,
            _ if is_word(first) => self.word(),
            _ if first.is_ascii_punctuation() => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                Piece::Punct(first)
            }
            _ => Piece::Unclear,
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// Whether anything is in it that modes or character sets read in two ways.
fn has_odd(text: &[u8]) -> bool {
    text.iter().any(|byte| !byte.is_ascii() || *byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_over_nothing_that_a_user_defines_are_harmless() {
        for sql in [
            "SELECT 1",
            "select 1;",
            " SELECT\n'ok' AS `state`",
            "SELECT 1 AS one, 2 AS two",
            "/* ping */ SELECT 1",
            "SELECT 1 FROM DUAL",
            "SELECT VERSION(), DATABASE(), CURRENT_USER",
            "SELECT @@version_comment LIMIT 1",
            "SELECT @@session.sql_mode, @@global.read_only",
            "SELECT CONCAT(?, '!')",
            "SELECT 7 IN (1, 2, ?) OR NOT (3 BETWEEN 1 AND 5)",
            "SELECT CASE WHEN 1 THEN 'a' ELSE \"b\" END",
            "SELECT 'a' AS x UNION ALL SELECT 'bb'",
            "SELECT -1.5e3 + 2 * (3 - 4)",
        ] {
            assert!(is_harmless(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn every_word_of_the_lists_is_known_in_any_case() {
        for list in [WORDS, FUNCTIONS, BARE, OTHERS] {
            for word in list {
                assert_eq!(known(word.as_bytes()), Some(*word));
                assert_eq!(known(word.to_ascii_uppercase().as_bytes()), Some(*word));
                assert_eq!(known(format!("{word}x").as_bytes()), None);
            }
        }
    }

    #[test]
    fn whatever_may_call_what_a_user_defines_is_not() {
        for sql in [
            "",
            "SELECT f()",
            "SELECT test.f()",
            "SELECT test . concat('a')",
            "SELECT `f`()",
            "SELECT `concat`('a')",
            "SELECT concat ('a')",
            "SELECT \"f\"()",
            "SELECT 1 AS f ()",
            "SELECT 1 AS concat('a')",
            "SELECT version () ",
            "SELECT a FROM t",
            "SELECT 1 FROM v",
            "SELECT 1 FROM dual, v",
            "SELECT (SELECT a FROM v)",
            "SELECT (SELECT 1 FROM DUAL JOIN v)",
            "SELECT 1 UNION SELECT a FROM v",
            "SELECT 1 INTO OUTFILE '/tmp/a'",
            "SELECT 1 INTO @a",
            "SELECT @a := 1",
            "SELECT @a",
            "SELECT SLEEP(9)",
            "SELECT BENCHMARK(1000000000, MD5('a'))",
            "SELECT GET_LOCK('a', 9)",
            "SELECT LAST_INSERT_ID(5)",
            "SELECT NEXTVAL(s)",
            "SELECT NEXT VALUE FOR s",
            "SELECT 1; DELETE FROM t",
            "SELECT 1;;",
            "SELECT 'a\\', f(), '",
            "SELECT 'é'",
            "SELECT 1 /*! , f() */",
            "SELECT 1 /*M! , f() */",
            "SELECT 1 -- a\n, f()",
            "SELECT 1 # a",
            "SELECT 1 /* open",
            "SELECT 'open",
            "SELECT @@x(1)",
            "SELECT 1 FOR UPDATE",
            "SELECT {fn now()}",
            // These call nothing, and may wait for a lock.
            "SHOW TABLES",
            "SHOW CREATE TABLE t",
            "SELECT 'aaaa' REGEXP '(a*)*b'",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "INSERT INTO t VALUES (1)",
            "DO 1",
            "BEGIN",
        ] {
            assert!(!is_harmless(sql.as_bytes()), "{sql}");
        }
        let long = format!("SELECT '{}'", "a".repeat(LEN_MAX));
        assert!(!is_harmless(long.as_bytes()));
    }

    #[test]
    fn a_transaction_is_begun_by_few_texts() {
        for sql in [
            "BEGIN",
            "begin work",
            "START TRANSACTION",
            "START TRANSACTION READ ONLY",
            "/* x */ start transaction with consistent snapshot, read write",
        ] {
            assert!(is_begin(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "BEGIN; DELETE FROM t",
            "BEGIN NOT ATOMIC DELETE FROM t; END",
            "BEGIN DELETE FROM t",
            "START SLAVE",
            "COMMIT",
            "",
        ] {
            assert!(!is_begin(sql.as_bytes()), "{sql}");
        }
    }
}
