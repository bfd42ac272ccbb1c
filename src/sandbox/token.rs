//! MySQL's lexical rules: quotes, escapes, comments, variables and parameters, one statement at a time.

use super::error::SqlError;
use std::ops::Range;

/// What a piece of a statement is. `Raw` never comes from a client: rewriting puts it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A bare identifier or keyword, as written.
    Word(String),
    /// An identifier in backticks (or in double quotes under `ANSI_QUOTES`), unquoted.
    Quoted(String),
    /// A character string, unescaped; not necessarily UTF-8.
    Text(Vec<u8>),
    /// A decimal number, as written.
    Number(String),
    /// A hexadecimal or bit literal.
    Blob(Vec<u8>),
    /// The n-th `?`, from 1.
    Parameter(usize),
    /// `@name`, lower-cased.
    User(String),
    /// `@@name` without its scope, lower-cased.
    System(String),
    /// An operator or a punctuation mark.
    Symbol(&'static str),
    /// SQLite text to pass through as it is.
    Raw(String),
}

/// A token and where it stood in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lexeme {
    /// What it is.
    pub token: Token,
    /// Byte range in the statement's text; empty for what rewriting added.
    pub span: Range<usize>,
}

impl Lexeme {
    /// A lexeme that rewriting adds.
    pub fn raw(text: impl Into<String>) -> Self {
        Self {
            token: Token::Raw(text.into()),
            span: 0..0,
        }
    }

    /// Whether this is the bare word `word` (upper case), in any case.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(text) if text.eq_ignore_ascii_case(word))
    }

    /// Whether this is one of the bare `words` (upper case).
    pub fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(word))
    }

    /// Whether this is the symbol `symbol`.
    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(text) if *text == symbol)
    }

    /// The identifier this token can be: a bare word or a quoted name.
    pub fn name(&self) -> Option<&str> {
        match &self.token {
            Token::Word(text) | Token::Quoted(text) => Some(text),
            _ => None,
        }
    }

    /// The text this token stands for where MySQL takes a name or a string.
    pub fn name_or_text(&self) -> Option<String> {
        match &self.token {
            Token::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => self.name().map(str::to_owned),
        }
    }
}

/// The parts of `sql_mode` that change how text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quoting {
    /// `ANSI_QUOTES`: double quotes enclose names.
    pub ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: a backslash is an ordinary character.
    pub plain_backslash: bool,
}

/// One statement of a text: its tokens and the text their spans index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The tokens, comments left out.
    pub lexemes: Vec<Lexeme>,
    /// How many `?` it has.
    pub parameters: usize,
}

/// Splits `sql` at semicolons and reads every statement; empty ones are dropped.
///
/// Errors: 1064 for an unterminated string, name or comment, or a character SQL has no use for.
pub fn read(sql: &[u8], quoting: Quoting) -> Result<Vec<Statement>, SqlError> {
    let mut scanner = Scanner {
        sql,
        at: 0,
        quoting,
        in_hint: false,
        parameters: 0,
    };
    let mut statements = Vec::new();
    let mut lexemes: Vec<Lexeme> = Vec::new();
    loop {
        let next = scanner.next()?;
        let ended = next.as_ref().is_none_or(|lexeme| lexeme.is_symbol(";"));
        if !ended {
            push(&mut lexemes, next);
            continue;
        }
        if !lexemes.is_empty() {
            let parameters = std::mem::take(&mut scanner.parameters);
            statements.push(Statement {
                lexemes: std::mem::take(&mut lexemes),
                parameters,
            });
        }
        if next.is_none() {
            return Ok(statements);
        }
    }
}

/// Adjacent strings are one string, as in standard SQL.
fn push(lexemes: &mut Vec<Lexeme>, next: Option<Lexeme>) {
    let Some(next) = next else { return };
    if let (
        Token::Text(more),
        Some(Lexeme {
            token: Token::Text(text),
            span,
        }),
    ) = (&next.token, lexemes.last_mut())
    {
        text.extend_from_slice(more);
        span.end = next.span.end;
        return;
    }
    lexemes.push(next);
}

struct Scanner<'a> {
    sql: &'a [u8],
    at: usize,
    quoting: Quoting,
    /// Inside `/*! … */`, whose content counts.
    in_hint: bool,
    parameters: usize,
}

/// Longest first, so that the first that fits is right.
const SYMBOLS: [&str; 36] = [
    "<=>", "->>", ":=", "<=", ">=", "<>", "!=", "<<", ">>", "||", "&&", "->", "(", ")", ",", ";",
    ".", "=", "<", ">", "+", "-", "*", "/", "%", "!", "~", "&", "|", "^", ":", "{", "}", "[", "]",
    "\\",
];

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.sql.get(self.at..).unwrap_or_default()
    }

    fn syntax(&self, from: usize) -> SqlError {
        SqlError::syntax(&String::from_utf8_lossy(
            self.sql.get(from..).unwrap_or_default(),
        ))
    }

    fn next(&mut self) -> Result<Option<Lexeme>, SqlError> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.peek(0) else {
            return Ok(None);
        };
        let token = match first {
            b'\'' => Token::Text(self.quoted(b'\'', !self.quoting.plain_backslash)?),
            b'"' if self.quoting.ansi_quotes => Token::Quoted(lossy(self.quoted(b'"', false)?)),
            b'"' => Token::Text(self.quoted(b'"', !self.quoting.plain_backslash)?),
            b'`' => Token::Quoted(lossy(self.quoted(b'`', false)?)),
            b'?' => {
                self.at += 1;
                self.parameters += 1;
                Token::Parameter(self.parameters)
            }
            b'@' => self.variable()?,
            b'0'..=b'9' => self.number()?,
            b'.' if self.peek(1).is_some_and(|b| b.is_ascii_digit()) => self.number()?,
            b'x' | b'X' | b'b' | b'B' if self.peek(1) == Some(b'\'') => self.literal(first)?,
            b if is_word_byte(b) => Token::Word(self.word()),
            _ => self.symbol()?,
        };
        Ok(Some(Lexeme {
            token,
            span: start..self.at,
        }))
    }

    fn skip_blanks(&mut self) -> Result<(), SqlError> {
        loop {
            let rest = self.rest();
            let spaced = rest
                .get(2)
                .is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_control());
            if rest
                .first()
                .is_some_and(|b| b.is_ascii_whitespace() || *b == 0)
            {
                self.at += 1;
            } else if rest.starts_with(b"#") || (rest.starts_with(b"--") && spaced) {
                self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            } else if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") {
                self.at += if rest.starts_with(b"/*!") { 3 } else { 4 };
                while self.peek(0).is_some_and(|b| b.is_ascii_digit()) {
                    self.at += 1;
                }
                self.in_hint = true;
            } else if rest.starts_with(b"/*") {
                let end = memchr::memmem::find(rest, b"*/").ok_or_else(|| self.syntax(self.at))?;
                self.at += end + 2;
            } else if self.in_hint && rest.starts_with(b"*/") {
                self.at += 2;
                self.in_hint = false;
            } else {
                return Ok(());
            }
        }
    }

    /// The text between two `quote`s; a doubled quote stands for itself.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<Vec<u8>, SqlError> {
        let start = self.at;
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let byte = self.peek(0).ok_or_else(|| self.syntax(start))?;
            self.at += 1;
            if byte == quote {
                if self.peek(0) != Some(quote) {
                    return Ok(text);
                }
                self.at += 1;
                text.push(quote);
            } else if byte == b'\\' && escapes {
                let escaped = self.peek(0).ok_or_else(|| self.syntax(start))?;
                self.at += 1;
                push_escape(&mut text, escaped);
            } else {
                text.push(byte);
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(is_word_byte) {
            self.at += 1;
        }
        lossy(self.sql.get(start..self.at).unwrap_or_default().to_vec())
    }

    fn variable(&mut self) -> Result<Token, SqlError> {
        self.at += 1;
        if self.peek(0) == Some(b'@') {
            self.at += 1;
            let mut name = self.variable_name()?;
            for scope in ["global.", "session.", "local."] {
                name = name.strip_prefix(scope).map(str::to_owned).unwrap_or(name);
            }
            return Ok(Token::System(name));
        }
        Ok(Token::User(self.variable_name()?))
    }

    fn variable_name(&mut self) -> Result<String, SqlError> {
        let mut name = Vec::new();
        loop {
            match self.peek(0) {
                Some(quote @ (b'`' | b'\'' | b'"')) if name.is_empty() || name.ends_with(b".") => {
                    name.extend(self.quoted(quote, false)?);
                }
                Some(b) if is_word_byte(b) || b == b'.' => {
                    name.push(b);
                    self.at += 1;
                }
                _ => return Ok(lossy(name).to_ascii_lowercase()),
            }
        }
    }

    fn number(&mut self) -> Result<Token, SqlError> {
        let start = self.at;
        if let (Some(b'0'), Some(marker @ (b'x' | b'b'))) = (self.peek(0), self.peek(1)) {
            self.at += 2;
            let digits = self.word();
            return literal_bytes(marker, &digits)
                .map(Token::Blob)
                .ok_or_else(|| self.syntax(start));
        }
        let mut exponent = false;
        while let Some(byte) = self.peek(0) {
            let sign = matches!(byte, b'+' | b'-')
                && matches!(self.sql.get(self.at.wrapping_sub(1)), Some(b'e' | b'E'));
            exponent |= matches!(byte, b'e' | b'E');
            if byte.is_ascii_digit()
                || byte == b'.'
                || matches!(byte, b'e' | b'E')
                || (sign && exponent)
            {
                self.at += 1;
            } else {
                break;
            }
        }
        // A name may begin with a digit (`2024_orders`).
        if self.peek(0).is_some_and(is_word_byte) {
            self.at = start;
            return Ok(Token::Quoted(self.word()));
        }
        Ok(Token::Number(lossy(
            self.sql.get(start..self.at).unwrap_or_default().to_vec(),
        )))
    }

    fn literal(&mut self, marker: u8) -> Result<Token, SqlError> {
        let start = self.at;
        self.at += 1;
        let digits = lossy(self.quoted(b'\'', false)?);
        literal_bytes(marker.to_ascii_lowercase(), &digits)
            .map(Token::Blob)
            .ok_or_else(|| self.syntax(start))
    }

    fn symbol(&mut self) -> Result<Token, SqlError> {
        let rest = self.rest();
        let symbol = SYMBOLS
            .iter()
            .find(|symbol| rest.starts_with(symbol.as_bytes()))
            .ok_or_else(|| self.syntax(self.at))?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Source: reference manual, "String Literals", table of escape sequences.
fn push_escape(text: &mut Vec<u8>, escaped: u8) {
    match escaped {
        b'0' => text.push(0),
        b'b' => text.push(8),
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'Z' => text.push(26),
        // Kept as two characters, so that LIKE can see them.
        b'%' | b'_' => text.extend([b'\\', escaped]),
        other => text.push(other),
    }
}

/// The bytes of `x'…'`, `0x…`, `b'…'` or `0b…`.
fn literal_bytes(marker: u8, digits: &str) -> Option<Vec<u8>> {
    let (radix, per_byte) = if marker == b'x' { (16, 2) } else { (2, 8) };
    let padding = (per_byte - digits.len() % per_byte) % per_byte;
    let padded = "0".repeat(padding) + digits;
    padded
        .as_bytes()
        .chunks(per_byte)
        .map(|chunk| u8::from_str_radix(std::str::from_utf8(chunk).ok()?, radix).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Vec<Token> {
        let statements = read(sql.as_bytes(), Quoting::default()).unwrap();
        statements
            .into_iter()
            .flat_map(|s| s.lexemes)
            .map(|l| l.token)
            .collect()
    }

    #[test]
    fn every_kind_of_token_is_read() {
        let check = |sql: &str, expect: Vec<Token>| assert_eq!(tokens(sql), expect, "{sql}");
        let text = |s: &str| Token::Text(s.as_bytes().to_vec());
        let word = |s: &str| Token::Word(s.into());
        check("`a``b`", vec![Token::Quoted("a`b".into())]);
        check(r"'it''s \'\n\\'", vec![text("it's '\n\\")]);
        check(r#""a" 'b'"#, vec![text("ab")]);
        check(
            "x'4a4B' 0x0a b'1'",
            vec![
                Token::Blob(b"JK".to_vec()),
                Token::Blob(vec![10]),
                Token::Blob(vec![1]),
            ],
        );
        check(
            "1 1.5 .5 1e-3",
            ["1", "1.5", ".5", "1e-3"]
                .map(|n| Token::Number(n.into()))
                .to_vec(),
        );
        check("2x", vec![Token::Quoted("2x".into())]);
        check(
            "? @a @`b c` @@session.Autocommit @@x",
            vec![
                Token::Parameter(1),
                Token::User("a".into()),
                Token::User("b c".into()),
                Token::System("autocommit".into()),
                Token::System("x".into()),
            ],
        );
        check("a<=>b", vec![word("a"), Token::Symbol("<=>"), word("b")]);
        check(
            "a -- c\nb # d\n/* e */ c",
            vec![word("a"), word("b"), word("c")],
        );
        check(
            "5--1",
            vec![
                Token::Number("5".into()),
                Token::Symbol("-"),
                Token::Symbol("-"),
                Token::Number("1".into()),
            ],
        );
        check("/*!40101 SET */ x", vec![word("SET"), word("x")]);
        check(r"'50\%'", vec![text(r"50\%")]);
    }

    #[test]
    fn statements_split_at_semicolons_outside_strings_and_number_their_parameters() {
        let statements = read(b"select ';', ?; ;update t set a=?,b=?", Quoting::default()).unwrap();
        assert_eq!(
            statements.iter().map(|s| s.parameters).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn sql_mode_changes_quotes_and_backslashes() {
        let quoting = Quoting {
            ansi_quotes: true,
            plain_backslash: true,
        };
        let statements = read(br#""n" '\'"#, quoting).unwrap();
        let tokens: Vec<_> = statements[0]
            .lexemes
            .iter()
            .map(|l| l.token.clone())
            .collect();
        assert_eq!(
            tokens,
            [Token::Quoted("n".into()), Token::Text(b"\\".to_vec())]
        );
    }

    #[test]
    fn what_never_ends_is_a_syntax_error() {
        for sql in ["'abc", "`abc", "/* abc", "\"a\\", "x'zz'", "\u{1}"] {
            assert_eq!(
                read(sql.as_bytes(), Quoting::default()).unwrap_err().errno,
                1064,
                "{sql}"
            );
        }
    }
}
