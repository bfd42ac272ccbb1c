//! Whether a text holds a statement that is not carried: one about the account that many clients share,
//! or a KILL. A second look at the few texts that may.
//!
//! Sources: MariaDB and MySQL reference manuals, "Account Management Statements", "KILL"; sql/sql_yacc.yy.
//! A server runs a versioned comment as a whole or not at all, by its version, so both ways are
//! followed at once. Where a statement begins within a compound one is not followed: any word of these
//! statements may be its first. Stored programs are read where they are made, texts of PREPARE and
//! EXECUTE IMMEDIATE where they are literals; what is put together at run time is not seen.

use std::ops::Range;

use super::LexMode;
use super::keyword::Keyword;
use super::lexer::{Lexer, Sink, Token};
use super::literal::{unquoted, value_of};
use super::reread::{RawWords, cut_otherwise, has_telling, other_modes};

/// How deep texts within texts are read; servers refuse a PREPARE within a PREPARE.
const DEPTH_MAX: u8 = 3;

/// Why a text is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It may end another connection or its statement.
    Kill,
    /// It may change the account.
    Account,
}

/// Whether a server may run the text, or a part of it, as a KILL, or as a statement that changes the
/// account `shared` on whatever host, stands before it at a login, or changes the account of whoever runs
/// it. With no shared account only a KILL is looked for.
pub fn refusal(sql: &[u8], mode: LexMode, shared: Option<&[u8]>) -> Option<Refusal> {
    let name = shared.unwrap_or_default();
    let mut found = look(sql, mode, name, DEPTH_MAX);
    if may_be_in_any_mode(sql, mode) {
        found = found.and(look_in_others(sql, mode, name, DEPTH_MAX));
    }
    if let Some(rest) = cut_otherwise(sql, mode).and_then(|from| sql.get(from..))
        && !mode.is_unsure
    {
        found = found.and(RawWords::of(rest).found());
    }
    match found {
        _ if found.kills => Some(Refusal::Kill),
        _ if found.changes_account && shared.is_some() => Some(Refusal::Account),
        _ => None,
    }
}

/// Whether the mode is unknown, or may change before a text in the text is read.
fn may_be_in_any_mode(sql: &[u8], mode: LexMode) -> bool {
    let holds_text = || {
        let words = RawWords::of(sql);
        memchr::memchr(b';', sql).is_some() && words.prepares
    };
    has_telling(sql) && (mode.is_unsure || mode.takes_several && holds_text())
}

/// What the text holds in all modes but the known one.
fn look_in_others(sql: &[u8], mode: LexMode, name: &[u8], depth: u8) -> Found {
    other_modes(mode).fold(Found::default(), |found, other| {
        // An open quote says nothing in a mode that is but a guess.
        found.and(look_in(sql, other, name, depth).0)
    })
}

impl RawWords {
    /// What the words may make, whatever stands between them.
    fn found(&self) -> Found {
        Found {
            kills: self.kill || self.prepares,
            changes_account: self.account,
        }
    }
}

/// What a text holds.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    kills: bool,
    changes_account: bool,
}

impl Found {
    fn and(self, other: Self) -> Self {
        Self {
            kills: self.kills || other.kills,
            changes_account: self.changes_account || other.changes_account,
        }
    }
}

fn look(sql: &[u8], mode: LexMode, name: &[u8], depth: u8) -> Found {
    match look_in(sql, mode, name, depth) {
        (found, true) => found.and(anything(sql, name)),
        (found, false) => found,
    }
}

/// What a text holds in one mode, and whether servers may disagree on it.
fn look_in(sql: &[u8], mode: LexMode, name: &[u8], depth: u8) -> (Found, bool) {
    let Some(depth) = depth.checked_sub(1) else {
        let all = Found {
            kills: true,
            changes_account: true,
        };
        return (all, true);
    };
    let mut reader = Reader {
        sql,
        mode,
        name,
        depth,
        places: Places::START,
        works_on_rows: false,
        outside: None,
        parentheses: Parentheses::default(),
        text: Vec::new(),
        last: Token::Punct(b';'),
        last_range: 0..0,
        found: Found::default(),
    };
    let mut lexer = Lexer::new(mode);
    lexer.feed(sql, &mut reader);
    lexer.finish(&mut reader);
    reader.end_statement();
    let hidden = lexer.is_ambiguous().then(|| RawWords::of(sql).found());
    (
        reader.found.and(hidden.unwrap_or_default()),
        lexer.is_uncertain(),
    )
}

/// Where servers may disagree on the words: whether the text has words of such statements at all.
fn anything(sql: &[u8], name: &[u8]) -> Found {
    let folded = sql.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&folded, word).is_some();
    let is_about_accounts = [&b"password"[..], b"user", b"role", b"grant", b"revoke"]
        .into_iter()
        .any(has);
    // An open quote alone, as in the head of a long statement, hides nothing.
    let is_versioned = has(b"/*!") || has(b"/*m!");
    Found {
        kills: is_versioned && RawWords::of(sql).kill,
        changes_account: is_versioned
            && is_about_accounts
            && (has(&name.to_ascii_lowercase()) || has(b"user") || has(b"set")),
    }
}

/// Words of compound statements behind which another statement may begin.
const OPENING: &[&str] = &[
    "begin", "atomic", "then", "else", "do", "loop", "repeat", "row",
];

/// A set of places at which a server may be in a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Places(u16);

impl Places {
    const NONE: Self = Self(0);
    /// Before a statement's first word.
    const START: Self = Self(1);
    /// After ALTER, DROP or RENAME, after CREATE or CREATE OR REPLACE.
    const VERB: Self = Self(1 << 1);
    /// An account's name is next.
    const NAME: Self = Self(1 << 3);
    /// After `USER`, `SESSION_USER` or `SYSTEM_USER` in the place of a name.
    const CALL: Self = Self(1 << 4);
    /// After a name.
    const NAMED: Self = Self(1 << 5);
    /// In a GRANT or REVOKE, before TO or FROM.
    const GRANT: Self = Self(1 << 6);
    /// At the start of an item of SET.
    const SET: Self = Self(1 << 7);
    /// Within such an item.
    const ITEM: Self = Self(1 << 8);
    /// After SET PASSWORD.
    const PASSWORD: Self = Self(1 << 9);
    /// After SET DEFAULT.
    const DEFAULT: Self = Self(1 << 10);
    /// After SET DEFAULT ROLE, of whoever runs it unless a name follows.
    const ROLE: Self = Self(1 << 11);
    /// In SET STATEMENT, before FOR.
    const PREFIX: Self = Self(1 << 12);
    /// In PREPARE and EXECUTE, before the text.
    const TEXT: Self = Self(1 << 13);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The single places of the set.
    fn each(self) -> impl Iterator<Item = Self> {
        (0..u16::BITS)
            .map(|bit| Self(1 << bit))
            .filter(move |place| self.has(*place))
    }
}

/// Open parentheses, which hide a comma from a list. Those of a versioned comment may be there or
/// not: then no comma is hidden any more.
#[derive(Clone, Copy, Default)]
struct Parentheses {
    open: u32,
    before_comment: u32,
    is_unsure: bool,
}

impl Parentheses {
    fn hide(self) -> bool {
        self.open > 0 && !self.is_unsure
    }
}

/// Follows the tokens of a text through all statements that they may be.
struct Reader<'a> {
    sql: &'a [u8],
    mode: LexMode,
    name: &'a [u8],
    depth: u8,
    places: Places,
    /// In a statement that has a SET of columns.
    works_on_rows: bool,
    /// Within a versioned comment: where a server that skips it is.
    outside: Option<(Places, bool)>,
    parentheses: Parentheses,
    /// The literals of a PREPARE.
    text: Vec<u8>,
    /// The token before, and where it was.
    last: Token,
    last_range: Range<usize>,
    found: Found,
}

impl Sink for Reader<'_> {
    fn token(&mut self, token: Token, start: usize, end: usize) {
        let raw = self.sql.get(start..end).unwrap_or_default();
        match token {
            Token::Punct(b';') => {
                self.end_statement();
                self.places = Places::START;
                self.works_on_rows = false;
                self.parentheses = Parentheses::default();
            }
            _ => self.inner_token(token, raw, start),
        }
        (self.last, self.last_range) = (token, start..end);
    }

    fn versioned(&mut self, begins: bool) {
        if begins {
            self.outside = Some((self.places, self.works_on_rows));
            self.parentheses.before_comment = self.parentheses.open;
        } else if let Some((outside, works_on_rows)) = self.outside.take() {
            self.places = self.places.and(outside);
            self.works_on_rows &= works_on_rows;
            self.parentheses.is_unsure |= self.parentheses.open != self.parentheses.before_comment;
        }
    }
}

impl Reader<'_> {
    /// Any token but the end of a statement.
    fn inner_token(&mut self, token: Token, raw: &[u8], start: usize) {
        let is_name = matches!(self.last, Token::Punct(b'.') | Token::At | Token::AtAt);
        match token {
            Token::Punct(b'(') => {
                self.parentheses.open += 1;
                // The functions INSERT() and REPLACE().
                self.works_on_rows &=
                    !matches!(self.last, Token::Word(Keyword::Insert | Keyword::Replace));
            }
            Token::Punct(b')') => {
                self.parentheses.open = self.parentheses.open.saturating_sub(1);
            }
            // A reserved word: nothing else is called so without quotes.
            Token::Word(Keyword::Kill) => self.found.kills |= !is_name,
            Token::Word(_) if is_one_of(raw, OPENING) => {
                self.works_on_rows &= self.parentheses.hide();
            }
            Token::Word(Keyword::Update | Keyword::Insert | Keyword::Replace | Keyword::Load) => {
                let is_event = matches!(self.last, Token::Word(_))
                    && is_one_of(self.last_word(), &["or", "before", "after"]);
                let is_outer = self.parentheses.open == 0 && !self.parentheses.is_unsure;
                self.works_on_rows |= is_outer && !is_name && !is_event;
            }
            _ => {}
        }
        // Another statement may begin anywhere, but for the SET of an UPDATE.
        let is_of_rows = self.works_on_rows && token == Token::Word(Keyword::Set);
        let mut next = match token {
            Token::Word(_) if !is_of_rows && !is_name => statement(raw),
            _ => Places::NONE,
        };
        for place in self.places.each() {
            next = next.and(self.step(place, token, raw, start));
        }
        self.places = next;
    }

    fn last_word(&self) -> &[u8] {
        self.sql.get(self.last_range.clone()).unwrap_or_default()
    }

    fn end_statement(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.found.changes_account |= self.places.has(Places::ROLE);
        if !text.is_empty() {
            self.found = self
                .found
                .and(look(&text, self.mode, self.name, self.depth));
            // A compound statement may have set another mode before.
            let is_first = self.depth == DEPTH_MAX - 1;
            if is_first && has_telling(&text) && memchr::memchr(b';', self.sql).is_some() {
                let found = look_in_others(&text, self.mode, self.name, self.depth);
                self.found = self.found.and(found);
            }
            for narrow in narrowed(&text) {
                let found = look(&narrow, self.mode, self.name, self.depth);
                self.found = self.found.and(found);
            }
        }
        // Half of a statement may stand in a comment, and the other half outside.
        if let Some((outside, works_on_rows)) = &mut self.outside {
            self.found.changes_account |= outside.has(Places::ROLE);
            *outside = outside.and(Places::START);
            *works_on_rows = false;
        }
    }

    fn found(&mut self) -> Places {
        self.found.changes_account = true;
        Places::NONE
    }

    /// Where a server at `place` is after the token.
    fn step(&mut self, place: Places, token: Token, raw: &[u8], start: usize) -> Places {
        let word = match token {
            Token::Word(_) => raw,
            _ => b"",
        };
        let is = |known: &[&str]| is_one_of(word, known);
        let is_comma = token == Token::Punct(b',') && !self.parentheses.hide();
        match place {
            Places::START => statement(word),
            Places::VERB if is(&["user", "role"]) => Places::NAME,
            Places::VERB if is(&["or", "replace"]) => Places::VERB,
            Places::NAME if is(&["if", "not", "exists"]) => Places::NAME,
            Places::NAME => self.name(token, raw, word),
            Places::CALL if token == Token::Punct(b'(') => self.found(),
            Places::NAMED | Places::CALL if is_comma || is(&["to", "admin"]) => Places::NAME,
            Places::NAMED | Places::CALL => Places::NAMED,
            Places::GRANT if is(&["to", "from"]) => Places::NAME,
            Places::GRANT => Places::GRANT,
            Places::SET if is(&["password"]) => Places::PASSWORD.and(Places::ITEM),
            Places::SET if is(&["default"]) => Places::DEFAULT.and(Places::ITEM),
            Places::SET if is(&["statement"]) => Places::PREFIX,
            Places::SET | Places::ITEM if is_comma => Places::SET,
            Places::SET | Places::ITEM => Places::ITEM,
            Places::PASSWORD if is(&["for"]) => Places::NAME,
            Places::PASSWORD if is(&["to"]) => self.found(),
            Places::PASSWORD if matches!(token, Token::Assign | Token::Punct(b'=')) => self.found(),
            Places::DEFAULT if is(&["role"]) => Places::ROLE,
            Places::ROLE if is(&["for", "to"]) => Places::NAME,
            Places::ROLE => Places::ROLE,
            Places::PREFIX if is(&["for"]) && !self.parentheses.hide() => Places::START,
            Places::PREFIX => Places::PREFIX,
            Places::TEXT => {
                self.text(token, raw, start);
                Places::TEXT
            }
            _ => Places::NONE,
        }
    }

    /// A token in the place of an account's name.
    fn name(&mut self, token: Token, raw: &[u8], word: &[u8]) -> Places {
        let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        let named = match token {
            Token::Word(_) => raw.to_vec(),
            Token::Quoted(_) | Token::Text => unquoted(raw, self.mode, token == Token::Text),
            _ => return Places::NAMED,
        };
        // Servers cut a name at a NUL.
        let named = named.split(|byte| *byte == 0).next().unwrap_or_default();
        // In another character set the same name has other bytes. An account without a name that is for
        // fewer hosts stands before every other one at a login.
        let is_same =
            named == self.name || named.is_empty() || !named.is_ascii() && !self.name.is_ascii();
        if is_same || is("current_user") {
            return self.found();
        }
        match is("user") || is("session_user") || is("system_user") {
            true => Places::CALL,
            false => Places::NAMED,
        }
    }

    /// What may be a statement's text, or a part of it: 'a' 'b', CONCAT('a', 'b'), x'61', 0x61.
    fn text(&mut self, token: Token, raw: &[u8], start: usize) {
        let follows = self.last_range.end == start;
        let before = match (self.last, token) {
            (Token::Word(_), Token::Text) if follows => self.last_word(),
            _ => b"",
        };
        let Some(value) = value_of(token, raw, before, self.mode) else {
            return;
        };
        let is_doubled = self.last == Token::Text && self.last_word().last() == raw.first();
        if follows && token == Token::Text && is_doubled {
            // A quote that was written twice.
            self.text.extend(raw.first());
        }
        self.text.extend(value);
    }
}

/// What a text means in character sets whose letters have empty bytes beside them: ucs2, utf16, utf16le
/// and utf32, also in parts.
fn narrowed(text: &[u8]) -> Vec<Vec<u8>> {
    if memchr::memchr(0, text).is_none() {
        return Vec::new();
    }
    let strides = [(1, 2), (0, 2), (3, 4)].map(|(first, step)| {
        let bytes = text.iter().skip(first).step_by(step);
        bytes.copied().collect()
    });
    let without = text.iter().copied().filter(|byte| *byte != 0).collect();
    strides.into_iter().chain([without]).collect()
}

fn is_one_of(word: &[u8], known: &[&str]) -> bool {
    let mut known = known.iter();
    known.any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// Where a server is after the first word of a statement.
fn statement(word: &[u8]) -> Places {
    let is = |known: &[&str]| is_one_of(word, known);
    match () {
        () if is(&["alter", "create", "drop", "rename"]) => Places::VERB,
        () if is(&["grant", "revoke"]) => Places::GRANT,
        () if is(&["set"]) => Places::SET,
        () if is(&["prepare", "execute"]) => Places::TEXT,
        () => Places::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::text::scan;

    fn look_at(sql: &str, mode: LexMode) -> Option<Refusal> {
        let may = scan(sql.as_bytes(), mode).may_be_refused;
        let refusal = refusal(sql.as_bytes(), mode, Some(b"rg"));
        refusal.filter(|_| may)
    }

    /// Each byte in at least so many digits more.
    fn hex(sql: &str, more: usize) -> String {
        let digits = |byte| format!("{byte:0width$x}", width = 2 + more);
        sql.bytes().map(digits).collect()
    }

    fn changes(sql: &str, mode: LexMode) -> bool {
        look_at(sql, mode) == Some(Refusal::Account)
    }

    const ABOUT: &[&str] = &[
        "ALTER USER USER() IDENTIFIED BY 'x'",
        "alter user user ( ) identified by 'x'",
        "ALTER USER CURRENT_USER IDENTIFIED BY 'x'",
        "ALTER USER IF EXISTS CURRENT_USER() ACCOUNT LOCK",
        "ALTER USER bob@localhost PASSWORD EXPIRE, 'rg'@'%' ACCOUNT LOCK",
        "ALTER USER `rg` REQUIRE SSL",
        "ALTER USER 'r\\g'@'%' REQUIRE SSL",
        "CREATE USER rg@'127.0.0.1' IDENTIFIED BY 'x'",
        "CREATE OR REPLACE USER rg IDENTIFIED BY 'x'",
        "CREATE USER IF NOT EXISTS a, rg",
        "DROP USER rg",
        "DROP USER IF EXISTS a@b, 'rg'@'%'",
        "DROP ROLE rg",
        "RENAME USER rg TO gone",
        "RENAME USER bob TO rg@localhost",
        "SET PASSWORD = PASSWORD('x')",
        "SET PASSWORD = 'x'",
        "SET PASSWORD TO RANDOM",
        "SET PASSWORD FOR CURRENT_USER = 'x'",
        "SET PASSWORD FOR USER() = 'x'",
        "SET PASSWORD FOR 'rg'@'%' = PASSWORD('x')",
        "SET @a = 1, PASSWORD = 'x'",
        "SET @a = f(1, 2), sql_notes = 1, PASSWORD := 'x'",
        "SET DEFAULT ROLE r",
        "SET DEFAULT ROLE NONE",
        "SET DEFAULT ROLE r FOR rg@'%'",
        "SET DEFAULT ROLE ALL TO bob, 'rg'@'%'",
        "GRANT ALL ON *.* TO rg",
        "GRANT r TO CURRENT_USER",
        "GRANT SELECT ON a.b TO bob, 'rg'@'%' IDENTIFIED BY 'x'",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'rg'@'%'",
        "REVOKE r FROM CURRENT_USER()",
        "CREATE ROLE r WITH ADMIN rg",
        "CREATE ROLE r WITH ADMIN CURRENT_USER",
        "CREATE USER ''@'127.0.0.1'",
        "CREATE USER bob, ``@h",
        "DROP USER 'rg\\0'",
        "DROP USER 'rg\0x'@'%'",
    ];

    #[test]
    fn statements_about_the_account_are_found_in_any_form() {
        for sql in ABOUT {
            let mode = LexMode::default();
            assert!(changes(sql, mode), "{sql}");
            for around in [
                format!("SELECT 1; {sql}"),
                format!("{sql}; SELECT 1"),
                format!("/* why */ {sql} -- so"),
                format!("/*!50000 {sql} */"),
                format!("/*!999999 DO */ {sql}"),
                format!("/*M!100000 {sql} */; DO 1"),
                format!("SET STATEMENT max_statement_time = 9 FOR {sql}"),
                format!("BEGIN NOT ATOMIC {sql}; END"),
                format!("IF 1 THEN {sql}; END IF"),
                format!("CREATE PROCEDURE p() {sql}"),
                format!("CREATE PROCEDURE a.update() COMMENT 'x' {sql}"),
                format!("BEGIN NOT ATOMIC DECLARE EXIT HANDLER FOR SQLWARNING {sql}; DO 1; END"),
                format!("BEGIN GOTO l; <<l>> {sql}; END"),
                format!("SET STATEMENT sql_notes = REPLACE(1, 1, 0) FOR {sql}"),
                format!("/*!999999 UPDATE */ {sql}"),
                format!("IF 1 THEN EXECUTE IMMEDIATE x'{}'; END IF", hex(sql, 0)),
                format!("EXECUTE IMMEDIATE 0x{}", hex(sql, 0)),
                format!("EXECUTE IMMEDIATE _ucs2 0x{}", hex(sql, 2)),
                format!("CREATE PROCEDURE p() BEGIN DO 1; {sql}; END"),
                format!("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO {sql}"),
                format!("PREPARE s FROM \"{sql}\""),
                format!(
                    "EXECUTE IMMEDIATE '{}'",
                    sql.replace('\\', "\\\\").replace('\'', "''")
                ),
            ] {
                assert!(changes(&around, mode), "{around}");
            }
        }
    }

    #[test]
    fn halves_in_comments_are_put_together() {
        for sql in [
            "ALTER /*!99999 TABLE t */ USER USER() IDENTIFIED BY 'x'",
            "ALTER USER /*!99999 bob */ USER() IDENTIFIED BY 'x'",
            "/*!50000 ALTER */ /*M! USER */ CURRENT_USER() REQUIRE SSL",
            "SET @a = 1 /*!99999 ( */, PASSWORD = 'x'",
            "/*!99999 SELECT 1; */ SET PASSWORD = 'x'",
            "SET PASSWORD /*!99999 FOR bob */ = 'x'",
            "SET DEFAULT ROLE r /*!99999 FOR bob */",
            "PREPARE s FROM 'ALTER USER ' \"CURRENT_USER() REQUIRE SSL\"",
            "EXECUTE IMMEDIATE CONCAT('SET PASS', 'WORD = ''x''')",
            "SELECT 1 /*!99999 ' */; SET PASSWORD = 'x' -- '",
        ] {
            assert!(changes(sql, LexMode::default()), "{sql}");
        }
    }

    #[test]
    fn other_accounts_and_other_statements_pass() {
        for sql in [
            "ALTER USER bob IDENTIFIED BY 'rg'",
            "CREATE USER 'RG'@'%' IDENTIFIED BY 'x'",
            "CREATE USER user@localhost",
            "DROP USER bob, alice@rg",
            "RENAME USER bob TO alice",
            "SET PASSWORD FOR bob@localhost = PASSWORD('x')",
            "SET DEFAULT ROLE r FOR bob",
            "SET ROLE rg",
            "SET @password = 'x', @user = USER()",
            "SET `password` = 1",
            "SET @x = (SELECT IF(a, password = 'x', user) FROM rg)",
            "GRANT SELECT, INSERT ON rg.* TO bob",
            "GRANT rg TO bob",
            "REVOKE ALL ON rg.t FROM bob",
            "CREATE TABLE rg (user INT, password INT DEFAULT 1, role INT)",
            "ALTER TABLE t DROP user, ADD rg INT",
            "ALTER TABLE t ALTER user SET DEFAULT 1",
            "CREATE DEFINER=`rg`@`%` VIEW v AS SELECT user FROM t",
            "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW SET NEW.password = 'x'",
            "/*!50003 CREATE*/ /*!50017 DEFINER=`rg`@`%`*/ /*!50003 TRIGGER a BEFORE INSERT ON t \
             FOR EACH ROW BEGIN SET NEW.password = 'x', NEW.user = USER(); END */",
            "SELECT user, password FROM mysql.user /*! WHERE user = 'rg' */",
            "UPDATE t SET password = 'x', user = 'rg'",
            "BEGIN NOT ATOMIC UPDATE t SET password = 'x'; END",
            "IF a THEN INSERT INTO t SET password = 'x'; ELSE REPLACE t SET password = 'y'; END IF",
            "/*!50003 CREATE*/ /*!50003 TRIGGER a BEFORE UPDATE ON t FOR EACH ROW BEGIN \
             UPDATE u SET password = 'x'; END */",
            "CREATE PROCEDURE p() BEGIN PREPARE s FROM 'UPDATE t SET password = ?'; EXECUTE s; END",
            "LOAD DATA INFILE 'x' INTO TABLE t (a) SET password = 'x'; DROP USER bob",
            "INSERT INTO t SET user = CURRENT_USER(), password = 'x'",
            "PREPARE s FROM 'UPDATE t SET password = ?'",
            "PREPARE s FROM @text",
            "EXECUTE s USING @user",
            "SHOW CREATE USER rg",
            "SHOW GRANTS FOR CURRENT_USER()",
            "FLUSH PRIVILEGES",
            "SELECT 'ALTER USER USER()', \"SET PASSWORD = 'x'\"",
            "INSERT INTO t VALUES ('grant to user",
        ] {
            assert!(!changes(sql, LexMode::default()), "{sql}");
        }
    }

    #[test]
    fn quotes_are_those_of_the_mode() {
        let ansi = LexMode {
            ansi_quotes: true,
            ..LexMode::default()
        };
        let plain = LexMode {
            no_backslash_escapes: true,
            ..LexMode::default()
        };
        assert!(changes("DROP USER \"rg\"", ansi));
        assert!(changes("DROP USER \"rg\"", LexMode::default()));
        assert!(!changes("DROP USER 'r\\g'", plain));
        assert!(changes("DROP USER '\\\\', rg", LexMode::default()));
        assert!(changes("DROP USER '\\', rg", plain));
    }
}
