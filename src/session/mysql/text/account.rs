//! Whether a text is about one account: a second look at the few texts that may be.
//!
//! Sources: MariaDB and MySQL reference manuals, "Account Management Statements"; sql/sql_yacc.yy.
//! A server runs a versioned comment as a whole or not at all, by its version, so both ways are
//! followed at once. Stored programs are read where they are made, texts of PREPARE and EXECUTE
//! IMMEDIATE where they are literals; what is put together at run time is not seen.

use super::LexMode;
use super::lexer::{Lexer, Sink, Token};

/// How deep texts within texts are read; servers refuse a PREPARE within a PREPARE.
const DEPTH_MAX: u8 = 3;

/// Whether a server may run the text, or a part of it, as a statement that changes the account
/// `name` on whatever host, or the account of whoever runs it.
pub fn changes_account(sql: &[u8], mode: LexMode, name: &[u8]) -> bool {
    changes_account_within(sql, mode, name, DEPTH_MAX)
}

fn changes_account_within(sql: &[u8], mode: LexMode, name: &[u8], depth: u8) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return true;
    };
    if sql.is_empty() {
        return false;
    }
    let mut reader = Reader {
        sql,
        mode,
        name,
        depth,
        places: Places::START,
        outside: None,
        parentheses: Parentheses::default(),
        text: Vec::new(),
        text_end: 0,
        is_found: false,
    };
    let mut lexer = Lexer::new(mode);
    lexer.feed(sql, &mut reader);
    lexer.finish(&mut reader);
    reader.end_statement();
    reader.is_found || lexer.is_uncertain() && may_be_anything(sql, name)
}

/// Where servers may disagree on the words: whether the text has words of such statements at all.
fn may_be_anything(sql: &[u8], name: &[u8]) -> bool {
    let folded = sql.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&folded, word).is_some();
    let is_about_accounts = [&b"password"[..], b"user", b"role", b"grant", b"revoke"]
        .into_iter()
        .any(has);
    // An open quote alone, as in the head of a long statement, hides nothing.
    let is_versioned = has(b"/*!") || has(b"/*m!");
    is_versioned
        && is_about_accounts
        && (has(&name.to_ascii_lowercase()) || has(b"user") || has(b"set"))
}

/// Words of compound statements behind which another statement may begin.
const OPENING: &[&str] = &["begin", "atomic", "then", "else", "do", "loop", "repeat"];

/// A set of places at which a server may be in a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Places(u16);

impl Places {
    const NONE: Self = Self(0);
    /// Before a statement's first word.
    const START: Self = Self(1);
    /// After ALTER, DROP or RENAME, after CREATE or CREATE OR REPLACE.
    const VERB: Self = Self(1 << 1);
    /// In a CREATE of something else, which may have a statement as its body.
    const BODY: Self = Self(1 << 2);
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
    /// Within a versioned comment: where a server that skips it is.
    outside: Option<Places>,
    parentheses: Parentheses,
    /// The literals of a PREPARE, and where the last one ended.
    text: Vec<u8>,
    text_end: usize,
    is_found: bool,
}

impl Sink for Reader<'_> {
    fn token(&mut self, token: Token, start: usize, end: usize) {
        let raw = self.sql.get(start..end).unwrap_or_default();
        match token {
            Token::Punct(b';') => {
                self.end_statement();
                self.places = Places::START;
                self.parentheses = Parentheses::default();
                return;
            }
            Token::Punct(b'(') => self.parentheses.open += 1,
            Token::Punct(b')') => {
                self.parentheses.open = self.parentheses.open.saturating_sub(1);
            }
            _ => {}
        }
        // The next statement of a compound one may follow.
        let mut next = match token {
            Token::Word(_) if is_one_of(raw, OPENING) => Places::START,
            _ => Places::NONE,
        };
        for place in self.places.each() {
            next = next.and(self.step(place, token, raw, start));
        }
        self.places = next;
    }

    fn versioned(&mut self, begins: bool) {
        if begins {
            self.outside = Some(self.places);
            self.parentheses.before_comment = self.parentheses.open;
        } else if let Some(outside) = self.outside.take() {
            self.places = self.places.and(outside);
            self.parentheses.is_unsure |= self.parentheses.open != self.parentheses.before_comment;
        }
    }
}

impl Reader<'_> {
    fn end_statement(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.is_found |= self.places.has(Places::ROLE)
            || changes_account_within(&text, self.mode, self.name, self.depth);
        self.text_end = 0;
        // Half of a statement may stand in a comment, and the other half outside.
        if let Some(outside) = &mut self.outside {
            self.is_found |= outside.has(Places::ROLE);
            *outside = outside.and(Places::START);
        }
    }

    fn found(&mut self) -> Places {
        self.is_found = true;
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
            // ALTER TABLE t DROP user: only what may be a body begins anew.
            Places::VERB | Places::BODY => Places::BODY.and(
                match is(&["set", "grant", "revoke"])
                    || is(&[
                        "begin", "prepare", "execute", "alter", "create", "drop", "rename",
                    ]) {
                    true => statement(word),
                    false => Places::NONE,
                },
            ),
            Places::NAME if is(&["if", "not", "exists"]) => Places::NAME,
            Places::NAME => self.name(token, raw, word),
            Places::CALL if token == Token::Punct(b'(') => self.found(),
            Places::NAMED | Places::CALL if is_comma || is(&["to"]) => Places::NAME,
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
            Places::TEXT if token == Token::Text => self.text(raw, start),
            Places::TEXT => Places::TEXT,
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
        // In another character set the same name has other bytes.
        let is_same = named == self.name || !named.is_ascii() && !self.name.is_ascii();
        if is_same || is("current_user") {
            return self.found();
        }
        match is("user") || is("session_user") || is("system_user") {
            true => Places::CALL,
            false => Places::NAMED,
        }
    }

    /// A literal that is a statement's text, or a part of it: 'a' 'b', CONCAT('a', 'b').
    fn text(&mut self, raw: &[u8], start: usize) -> Places {
        if self.text_end == start {
            // A quote that was written twice.
            self.text.extend(raw.first());
        }
        self.text_end = start.saturating_add(raw.len());
        self.text.extend(unquoted(raw, self.mode, true));
        Places::TEXT
    }
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

/// What a quoted identifier or a string means.
fn unquoted(raw: &[u8], mode: LexMode, is_text: bool) -> Vec<u8> {
    let Some((quote, rest)) = raw.split_first() else {
        return Vec::new();
    };
    let inner = rest.strip_suffix(&[*quote]).unwrap_or(rest);
    let has_escapes = is_text && !mode.no_backslash_escapes;
    let mut bytes = inner.iter().copied().peekable();
    let mut out = Vec::with_capacity(inner.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'\\' if has_escapes => match bytes.next() {
                Some(b'0') => 0,
                Some(b'b') => 8,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'Z') => 0x1a,
                Some(other) => other,
                None => b'\\',
            },
            byte if byte == *quote => {
                bytes.next_if_eq(quote);
                byte
            }
            byte => byte,
        };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::text::scan;

    fn changes(sql: &str, mode: LexMode) -> bool {
        let may = scan(sql.as_bytes(), mode).may_change_account;
        may && changes_account(sql.as_bytes(), mode, b"rg")
    }

    #[test]
    fn statements_about_the_account_are_found_in_any_form() {
        for sql in [
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
        ] {
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
