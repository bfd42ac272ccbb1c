//! Texts that are read otherwise than the session's last known settings say: a server cuts a statement
//! only once those before it have run, and so one that sets `sql_mode` or the client's character set
//! decides what the rest of its text is.
//!
//! Sources: MariaDB, sql/sql_parse.cc (`mysql_parse` for each statement of a text); MySQL manual, "Server
//! SQL Modes".

use super::LexMode;
use super::keyword::Keyword;
use super::lexer::{Lexer, Sink, Token};
use super::rewrite::{Placed, Tokens};
use crate::wire::mysql::charset::Cut;

/// From where on a text may be cut otherwise than `mode` says, if a server may cut it in another way
/// there: behind the first statement that may change how the rest is read.
pub(super) fn cut_otherwise(sql: &[u8], mode: LexMode) -> Option<usize> {
    if !mode.takes_several && !mode.is_unsure || !has_telling(sql) {
        return None;
    }
    let (from, settings) = match mode.is_unsure {
        true => (0, Settings::ALL),
        false => {
            let mut changes = Changes::of(sql);
            feed_whole(&mut Lexer::new(mode), sql, &mut changes);
            (changes.from?, changes.settings)
        }
    };
    let (head, rest) = sql.split_at_checked(from)?;
    let mut lexer = Lexer::new(mode);
    lexer.feed(head, &mut Tokens::default());
    let cut = |other: LexMode| -> (Vec<Placed>, bool) {
        let (mut lexer, mut tokens) = (lexer.clone(), Tokens::default());
        lexer.turn(other);
        feed_whole(&mut lexer, rest, &mut tokens);
        (tokens.0, lexer.is_uncertain())
    };
    let known = cut(mode);
    let differs = settings.modes(mode).any(|other| cut(other) != known);
    differs.then_some(from)
}

/// All modes but this one.
pub(super) fn other_modes(mode: LexMode) -> impl Iterator<Item = LexMode> {
    Settings::ALL.modes(mode)
}

fn feed_whole(lexer: &mut Lexer, sql: &[u8], sink: &mut impl Sink) {
    lexer.feed(sql, sink);
    lexer.finish(sink);
}

/// Whether any byte of it depends on the mode: a backslash, a `"`, a character of two bytes whose second one
/// would mean something by itself, or a byte that some character set takes for a blank.
pub(super) fn has_telling(sql: &[u8]) -> bool {
    let is_second = |byte: u8| matches!(byte, b'@' | b'[' | b']' | b'^' | b'`' | b'{'..=b'~');
    memchr::memchr2(b'\\', b'"', sql).is_some()
        || memchr::memchr2(0xa0, 0xff, sql).is_some()
        || sql
            .windows(2)
            .any(|pair| matches!(pair, [first, second] if !first.is_ascii() && is_second(*second) || *first == b'-' && !second.is_ascii()))
}

/// Which settings may be others than they were.
#[derive(Clone, Copy, Default)]
struct Settings {
    sql_mode: bool,
    charset: bool,
}

impl Settings {
    const NONE: Self = Self {
        sql_mode: false,
        charset: false,
    };
    const ALL: Self = Self {
        sql_mode: true,
        charset: true,
    };

    fn and(self, other: Self) -> Self {
        Self {
            sql_mode: self.sql_mode || other.sql_mode,
            charset: self.charset || other.charset,
        }
    }

    fn is_any(self) -> bool {
        self.sql_mode || self.charset
    }

    /// The modes that these settings allow beside `mode`.
    fn modes(self, mode: LexMode) -> impl Iterator<Item = LexMode> {
        let others = CUTS
            .into_iter()
            .filter(move |cut| self.charset && *cut != mode.cut);
        let flips = if self.sql_mode { 0..4_u8 } else { 0..1 };
        let modes = std::iter::once(mode.cut)
            .chain(others)
            .flat_map(move |cut| {
                flips.clone().map(move |flip| LexMode {
                    ansi_quotes: mode.ansi_quotes != (flip & 1 != 0),
                    no_backslash_escapes: mode.no_backslash_escapes != (flip & 2 != 0),
                    cut,
                    ..mode
                })
            });
        modes.filter(move |other| *other != mode)
    }
}

/// The ways in which a character set may have text cut.
const CUTS: [Cut; 6] = [
    Cut::Plain,
    Cut::Single(Some(0xa0)),
    Cut::Single(Some(0xff)),
    Cut::Gbk,
    Cut::Sjis,
    Cut::Big5,
];

/// What a statement says about how others are read, by its first word.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Nature {
    /// No word yet.
    #[default]
    Empty,
    /// Nothing, whatever is in it.
    Steady,
    /// What its words say: SET, and what holds statements.
    ByWords,
    /// Anything.
    Unknown,
}

/// Finds the first statement behind which a text may be read otherwise, and what all of them may change.
struct Changes<'a> {
    sql: &'a [u8],
    nature: Nature,
    statement: Settings,
    settings: Settings,
    from: Option<usize>,
    has_versioned: bool,
}

impl<'a> Changes<'a> {
    fn of(sql: &'a [u8]) -> Self {
        Self {
            sql,
            nature: Nature::Empty,
            statement: Settings::NONE,
            settings: Settings::NONE,
            from: None,
            has_versioned: false,
        }
    }

    fn word(&mut self, keyword: Keyword, raw: &[u8]) {
        if self.nature == Nature::Empty {
            self.nature = nature(keyword, raw);
        }
        let raw = raw.trim_ascii_start();
        let is = |known: &str| raw.eq_ignore_ascii_case(known.as_bytes());
        let begins = |known: &str| {
            let head = raw.get(..known.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(known.as_bytes())
        };
        self.statement = self.statement.and(Settings {
            sql_mode: is("sql_mode"),
            charset: is("names") || begins("char"),
        });
        if matches!(keyword, Keyword::Call | Keyword::Execute) || is("statement") {
            self.statement = Settings::ALL;
        }
    }
}

impl Sink for Changes<'_> {
    fn token(&mut self, token: Token, start: usize, end: usize) {
        let raw = self.sql.get(start..end).unwrap_or_default();
        match token {
            Token::Punct(b';') => {
                let changed = match self.nature {
                    _ if self.has_versioned => Settings::ALL,
                    Nature::Unknown => Settings::ALL,
                    Nature::ByWords => self.statement,
                    Nature::Empty | Nature::Steady => Settings::NONE,
                };
                if changed.is_any() {
                    self.from.get_or_insert(end);
                }
                self.settings = self.settings.and(changed);
                self.nature = Nature::Empty;
                self.statement = Settings::NONE;
            }
            Token::Word(keyword) => self.word(keyword, raw),
            Token::Quoted(keyword) => {
                self.word(keyword, raw.trim_ascii().trim_matching_quotes());
            }
            _ => {}
        }
    }

    fn versioned(&mut self, _begins: bool) {
        self.has_versioned = true;
    }
}

/// Names in quotes without them.
trait TrimQuotes {
    fn trim_matching_quotes(&self) -> &Self;
}

impl TrimQuotes for [u8] {
    fn trim_matching_quotes(&self) -> &Self {
        match self {
            [b'`' | b'"', inner @ .., _] => inner,
            whole => whole,
        }
    }
}

fn nature(keyword: Keyword, raw: &[u8]) -> Nature {
    use Keyword as K;
    match keyword {
        K::Select
        | K::Table
        | K::Values
        | K::With
        | K::Insert
        | K::Update
        | K::Delete
        | K::Replace => Nature::Steady,
        K::Show
        | K::Help
        | K::Explain
        | K::Describe
        | K::Desc
        | K::Get
        | K::Use
        | K::Do
        | K::Load => Nature::Steady,
        K::Start | K::Commit | K::Rollback | K::Savepoint | K::Release | K::Xa => Nature::Steady,
        K::Create | K::Alter | K::Drop | K::Truncate | K::Rename | K::Grant | K::Revoke => {
            Nature::Steady
        }
        K::Analyze | K::Optimize | K::Repair | K::Flush | K::Lock | K::Unlock | K::Handler => {
            Nature::Steady
        }
        K::Kill | K::Prepare | K::Deallocate => Nature::Steady,
        K::Set
        | K::Begin
        | K::If
        | K::Case
        | K::Loop
        | K::While
        | K::Repeat
        | K::For
        | K::Declare => Nature::ByWords,
        _ => {
            let is_inner = |known: &&str| raw.eq_ignore_ascii_case(known.as_bytes());
            match INNER.iter().any(is_inner) {
                true => Nature::ByWords,
                false => Nature::Unknown,
            }
        }
    }
}

/// First words of what stands within compound statements.
const INNER: &[&str] = &[
    "close",
    "else",
    "elseif",
    "elsif",
    "end",
    "exception",
    "fetch",
    "iterate",
    "leave",
    "open",
    "resignal",
    "return",
    "signal",
    "until",
    "when",
];

/// The words of a text, however it is cut.
#[derive(Default)]
pub(super) struct RawWords {
    /// KILL.
    pub(super) kill: bool,
    /// Words of statements about accounts.
    pub(super) account: bool,
    /// PREPARE and EXECUTE IMMEDIATE, whose text may hide all others.
    pub(super) prepares: bool,
}

impl RawWords {
    pub(super) fn of(sql: &[u8]) -> Self {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        let mut found = Self::default();
        let (mut sets, mut changes) = (false, false);
        for word in sql.split(|byte| !is_part(byte)) {
            let is = |known: &[&str]| {
                known
                    .iter()
                    .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
            };
            found.kill |= is(&["kill"]);
            found.prepares |= is(&["prepare", "immediate"]);
            sets |= is(&["set", "default"]);
            changes |= is(&["alter", "create", "drop", "rename"]);
            found.account |= is(&["grant", "revoke"])
                || changes && is(&["user", "role"])
                || sets && is(&["password", "role"]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::text::{Flags, scan};

    const SEVERAL: LexMode = LexMode {
        ansi_quotes: false,
        no_backslash_escapes: false,
        cut: Cut::Plain,
        takes_several: true,
        is_unsure: false,
    };

    fn is_uncertain(sql: &[u8], mode: LexMode) -> bool {
        let traits = scan(sql, mode);
        assert!(!traits.flags.has(Flags::UNCERTAIN) || !traits.is_read_only);
        traits.flags.has(Flags::UNCERTAIN)
    }

    #[test]
    fn behind_what_changes_the_reading_nothing_telling_is_certain() {
        for before in [
            "SET sql_mode='NO_BACKSLASH_ESCAPES'",
            "SET @@session.sql_mode = 'ANSI'",
            "SET @a = 1, `sql_mode` = ''",
            "/*!50000 SET sql_mode = '' */",
            "SELECT 1; SET SESSION sql_mode = ''; SELECT 2",
            "SET STATEMENT sql_mode = '' FOR SELECT 1",
            "CALL p()",
            "EXECUTE s",
            "EXECUTE IMMEDIATE 'x'",
            "BEGIN NOT ATOMIC SET sql_mode = ''; END",
            "IF 1 THEN SET sql_mode = ''; END IF",
            "WHAT is this",
        ] {
            for rest in [
                "SELECT '\\'; SET @a = 1; -- '",
                "SELECT \"\\\"; DO 1; -- \"",
            ] {
                let sql = format!("{before}; {rest}");
                assert!(is_uncertain(sql.as_bytes(), SEVERAL), "{sql}");
                // Where it cannot be several statements there is no later reading.
                let alone = is_uncertain(sql.as_bytes(), LexMode::default());
                assert_eq!(alone, before.contains("STATEMENT"), "{sql}");
            }
        }
        for before in ["SET NAMES gbk", "SET CHARACTER SET gbk", "set charset gbk"] {
            let mut sql = format!("{before}; SELECT '").into_bytes();
            sql.extend_from_slice(b"\xbf\\'; SET @a = 1; -- '");
            assert!(is_uncertain(&sql, SEVERAL), "{before}");
        }
    }

    #[test]
    fn what_is_cut_alike_in_all_modes_is_certain() {
        for sql in [
            "SET NAMES utf8mb4; SELECT 'a', `b`, \"c\"",
            "SET NAMES utf8mb4; SELECT '日本'",
            "SET sql_mode='NO_BACKSLASH_ESCAPES'; SELECT 'a'",
            "SET sql_mode=''; SELECT 'a\\\\b'",
            "SET sql_mode=\"ANSI\"; SELECT 1",
            "SET @a = 1; SELECT '\\'', \"x\"",
            "SELECT \"a\"; SELECT 'a\\''",
            "INSERT INTO t VALUES ('\\''); SET sql_mode = ''",
            "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW BEGIN DECLARE b INT; SET NEW.c = \"\\\"\"; \
             IF b THEN SET NEW.d = 'e\\''; END IF; END",
        ] {
            assert!(!is_uncertain(sql.as_bytes(), SEVERAL), "{sql}");
        }
    }

    #[test]
    fn where_the_mode_is_unknown_each_text_is_looked_at_in_all() {
        let unsure = LexMode {
            is_unsure: true,
            ..LexMode::default()
        };
        assert!(is_uncertain(b"SELECT '\\'; DO 1; -- '", unsure));
        assert!(is_uncertain(b"SELECT \"a\"", unsure));
        assert!(!is_uncertain(b"SELECT 'a\\\\b', `c`", unsure));
    }
}
