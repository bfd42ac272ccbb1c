//! Cuts SQL text into tokens, in any number of pieces, as the server's own lexer would.
//!
//! Sources: MySQL reference manual, "Lexical Structure" and "Comments"; sql/sql_lex.cc of MySQL and
//! MariaDB. It never fails: where servers of different versions or modes would cut differently,
//! [`Lexer::is_uncertain`] says so and the caller assumes the worst.

use memchr::{memchr, memchr2};

use super::{
    LexMode,
    keyword::{Keyword, LEN_MAX, lookup},
};
use crate::wire::mysql::charset::Cut;

/// A piece of a statement. Blank space and comments are not tokens; the text of versioned comments
/// (`/*! … */`, `/*M! … */`) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word or a number outside quotes.
    Word(Keyword),
    /// An identifier in quotes. A server takes `` `get_lock`(…) `` for the function.
    Quoted(Keyword),
    /// A string.
    Text,
    /// `@`, the start of a user variable or of an account's host.
    At,
    /// `@@`, the start of a system variable.
    AtAt,
    /// `:=`.
    Assign,
    /// Any other byte.
    Punct(u8),
}

/// Receives tokens with the offsets of their first byte and of the byte after them.
pub(super) trait Sink {
    /// Takes the next token.
    fn token(&mut self, token: Token, start: usize, end: usize);

    /// A versioned comment begins or ends: a server takes all tokens between or none of them.
    fn versioned(&mut self, _begins: bool) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Code,
    /// Inside a word that began in an earlier piece.
    Word,
    /// Inside a string ended by this quote.
    Text(u8),
    /// After a backslash inside such a string.
    Escape(u8),
    /// Inside a quoted identifier ended by this quote.
    Quoted(u8),
    /// After one byte of a token or comment that may have more.
    At,
    Colon,
    Dash,
    Slash,
    Star,
    /// After `--`: a comment if blank space follows.
    Dashes,
    LineComment,
    /// After `/*`.
    CommentStart,
    /// After `/*M`.
    CommentStartM,
    Comment,
    /// Inside a comment, after `*`.
    CommentStar,
    /// After `/*!`, with so many digits of the version read.
    Version(u8),
}

/// The state of the lexer between two pieces of a statement.
#[derive(Clone, Debug)]
pub(super) struct Lexer {
    mode: LexMode,
    state: State,
    /// Offset of the next byte.
    at: usize,
    /// Offset of the first byte of the token under way.
    start: usize,
    /// Inside a versioned comment.
    in_version: bool,
    /// Inside quotes or a line comment of a versioned comment, after `*`.
    saw_star: bool,
    is_uncertain: bool,
    is_ambiguous: bool,
    /// The last byte, if it was the first half of a character.
    lead: Option<u8>,
    /// The start of a word that began in an earlier piece, or of a quoted identifier.
    word: [u8; LEN_MAX],
    /// Its whole length; beyond [`LEN_MAX`] it is no known word.
    word_len: usize,
}

/// What a byte can begin outside quotes and comments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A token by itself.
    Plain,
    Blank,
    /// Part of a word: letters, digits, `_`, `$` and all beyond ASCII.
    Word,
    /// Quotes, and what may begin a comment or a longer token.
    Special,
}

static CLASSES: [Class; 256] = {
    let mut table = [Class::Plain; 256];
    let (mut at, mut byte) = (0, 0_u8);
    while at < table.len() {
        table[at] = match byte {
            0 | b' ' | b'\t'..=b'\r' => Class::Blank,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => Class::Word,
            b'\'' | b'"' | b'`' | b'@' | b':' | b'-' | b'/' | b'#' | b'*' => Class::Special,
            _ => Class::Plain,
        };
        at += 1;
        byte = byte.wrapping_add(1);
    }
    table
};

#[inline]
fn class(byte: u8) -> Class {
    CLASSES
        .get(usize::from(byte))
        .copied()
        .unwrap_or(Class::Plain)
}

#[inline]
fn is_word(byte: u8) -> bool {
    class(byte) == Class::Word
}

impl Lexer {
    pub(super) fn new(mode: LexMode) -> Self {
        Self {
            mode,
            state: State::Code,
            at: 0,
            start: 0,
            in_version: false,
            saw_star: false,
            is_uncertain: false,
            is_ambiguous: false,
            lead: None,
            word: [0; LEN_MAX],
            word_len: 0,
        }
    }

    /// From here on the text is read in another mode.
    pub(super) fn turn(&mut self, mode: LexMode) {
        self.mode = mode;
    }

    /// Whether a server might cut the text differently, or it ended inside quotes or a comment.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_uncertain || self.is_ambiguous
    }

    /// Whether the character set leaves open how the text is cut: words that a server sees may be hidden.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    /// Takes the next piece of the statement.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        match self.mode.cut {
            Cut::Plain | Cut::Single(None) => self.feed_plain(bytes, sink),
            Cut::Single(Some(blank)) => self.feed_blanks(blank, bytes, sink),
            Cut::Gbk | Cut::Sjis | Cut::Big5 | Cut::Unknown => {
                for byte in bytes {
                    let byte = self.whole_character(*byte);
                    self.feed_plain(&[byte], sink);
                }
            }
        }
    }

    /// The blank stays part of a word, as which it would be in most texts that mean no harm; that servers
    /// see two words is left open.
    fn feed_blanks(&mut self, blank: u8, bytes: &[u8], sink: &mut impl Sink) {
        let mut rest = bytes;
        while let Some(at) = memchr(blank, rest) {
            let (before, from) = rest.split_at_checked(at).unwrap_or_default();
            self.feed_plain(before, sink);
            self.is_ambiguous |= self.is_outside();
            let (one, after) = from.split_at_checked(1).unwrap_or_default();
            self.feed_plain(one, sink);
            rest = after;
        }
        self.feed_plain(rest, sink);
    }

    /// Outside quotes and comments.
    fn is_outside(&self) -> bool {
        !matches!(
            self.state,
            State::Text(_)
                | State::Escape(_)
                | State::Quoted(_)
                | State::LineComment
                | State::Comment
                | State::CommentStar
        )
    }

    /// Hides the second bytes of two-byte characters, which may look like a backslash or a quote,
    /// from the lexer proper.
    fn whole_character(&mut self, byte: u8) -> u8 {
        let is_unknown = self.mode.cut == Cut::Unknown;
        if let Some(lead) = self.lead.take()
            && self.mode.cut.is_pair(lead, byte)
        {
            self.is_ambiguous |= is_unknown && matches!(byte, b'\\' | b'`' | b'@');
            return 0x80;
        }
        self.is_ambiguous |= is_unknown && matches!(byte, 0xa0 | 0xff) && self.is_outside();
        // The server skips one byte after a backslash, not one character.
        let may_lead = !byte.is_ascii() && !matches!(self.state, State::Escape(_));
        self.lead = may_lead.then_some(byte);
        byte
    }

    fn feed_plain(&mut self, mut rest: &[u8], sink: &mut impl Sink) {
        while let Some(byte) = rest.first() {
            let used = if self.state == State::Code {
                self.code(*byte, rest, sink)
            } else {
                self.step(*byte, rest, sink)
            };
            self.at += used;
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// The statement is complete.
    #[inline]
    pub(super) fn finish(&mut self, sink: &mut impl Sink) {
        match self.state {
            State::Code | State::LineComment | State::Dashes => {}
            State::Word => self.end_word(sink),
            State::At => self.emit(Token::At, sink),
            State::Colon => self.emit(Token::Punct(b':'), sink),
            State::Dash => self.emit(Token::Punct(b'-'), sink),
            State::Slash => self.emit(Token::Punct(b'/'), sink),
            State::Star => self.emit(Token::Punct(b'*'), sink),
            State::Text(_)
            | State::Escape(_)
            | State::Quoted(_)
            | State::CommentStart
            | State::CommentStartM
            | State::Comment
            | State::CommentStar
            | State::Version(_) => self.is_uncertain = true,
        }
        self.is_uncertain |= self.in_version;
        self.state = State::Code;
    }

    fn emit(&mut self, token: Token, sink: &mut impl Sink) {
        self.state = State::Code;
        sink.token(token, self.start, self.at);
    }

    /// Emits a token that ends `len` bytes beyond the current one.
    #[inline]
    fn emit_with(&mut self, token: Token, len: usize, sink: &mut impl Sink) -> usize {
        self.state = State::Code;
        sink.token(token, self.start, self.at + len);
        len
    }

    /// Handles `byte`, the first of `rest`; how many bytes were used. 0 only with a new state.
    fn step(&mut self, byte: u8, rest: &[u8], sink: &mut impl Sink) -> usize {
        match self.state {
            State::Code => self.code(byte, rest, sink),
            State::Word => self.word(rest, sink),
            State::Text(quote) => self.text(quote, byte, rest, sink),
            State::Escape(quote) => {
                self.look_for_end(byte);
                self.go(State::Text(quote))
            }
            State::Quoted(quote) => self.quoted(quote, byte, rest, sink),
            State::LineComment => self.line_comment(byte, rest),
            State::Comment => match memchr(b'*', rest) {
                Some(at) => self.go_after(State::CommentStar, at + 1),
                None => rest.len(),
            },
            State::CommentStar => match byte {
                b'/' => self.go(State::Code),
                b'*' => 1,
                _ => self.go(State::Comment),
            },
            _ => self.second_byte(byte, sink),
        }
    }

    fn go(&mut self, state: State) -> usize {
        self.go_after(state, 1)
    }

    fn go_after(&mut self, state: State, used: usize) -> usize {
        self.state = state;
        used
    }

    #[inline]
    fn code(&mut self, byte: u8, rest: &[u8], sink: &mut impl Sink) -> usize {
        self.start = self.at;
        match class(byte) {
            Class::Blank => 1,
            Class::Word => self.word_start(rest, sink),
            Class::Plain => self.emit_with(Token::Punct(byte), 1, sink),
            Class::Special => self.special(byte, sink),
        }
    }

    fn special(&mut self, byte: u8, sink: &mut impl Sink) -> usize {
        self.saw_star = false;
        let state = match byte {
            b'\'' => State::Text(byte),
            b'"' if !self.mode.ansi_quotes => State::Text(byte),
            b'`' | b'"' => {
                self.word_len = 0;
                State::Quoted(byte)
            }
            b'@' => State::At,
            b':' => State::Colon,
            b'-' => State::Dash,
            b'/' => State::Slash,
            b'#' => State::LineComment,
            b'*' if self.in_version => State::Star,
            _ => return self.emit_with(Token::Punct(byte), 1, sink),
        };
        self.go(state)
    }

    /// The byte after one that may be half of a token or of a comment's mark.
    fn second_byte(&mut self, byte: u8, sink: &mut impl Sink) -> usize {
        match (self.state, byte) {
            (State::At, b'@') => return self.emit_with(Token::AtAt, 1, sink),
            (State::At, _) => self.emit(Token::At, sink),
            (State::Colon, b'=') => return self.emit_with(Token::Assign, 1, sink),
            (State::Colon, _) => self.emit(Token::Punct(b':'), sink),
            (State::Dash, b'-') => return self.go(State::Dashes),
            (State::Dash, _) => self.emit(Token::Punct(b'-'), sink),
            // "The -- comment style requires the second dash to be followed by at least one
            // whitespace or control character."
            (State::Dashes, 0..=b' ' | 0x7f) => self.state = State::LineComment,
            (State::Dashes, _) => {
                // Servers ask the character set.
                self.is_ambiguous |= !byte.is_ascii() && self.mode.cut != Cut::Plain;
                self.emit(Token::Punct(b'-'), sink);
                self.emit(Token::Punct(b'-'), sink);
            }
            (State::Slash, b'*') => return self.go(State::CommentStart),
            (State::Slash, _) => self.emit(Token::Punct(b'/'), sink),
            (State::Star, b'/') => {
                self.in_version = false;
                sink.versioned(false);
                return self.go(State::Code);
            }
            (State::Star, _) => self.emit(Token::Punct(b'*'), sink),
            (State::CommentStart, b'M') => return self.go(State::CommentStartM),
            (State::CommentStart | State::CommentStartM, b'!') => {
                if !self.in_version {
                    sink.versioned(true);
                }
                self.in_version = true;
                return self.go(State::Version(0));
            }
            (State::CommentStart | State::CommentStartM, _) => self.state = State::Comment,
            (State::Version(digits), b'0'..=b'9') if digits < 6 => {
                return self.go(State::Version(digits + 1));
            }
            _ => self.state = State::Code,
        }
        0
    }

    #[inline]
    fn word_start(&mut self, rest: &[u8], sink: &mut impl Sink) -> usize {
        match rest.iter().position(|byte| !is_word(*byte)) {
            Some(len) => {
                let word = rest.get(..len).unwrap_or_default();
                self.emit_with(Token::Word(lookup(word)), len, sink);
                // A blank behind a word is the commonest byte of all.
                len + usize::from(rest.get(len) == Some(&b' '))
            }
            // The word may go on in the next piece.
            None => {
                self.word_len = 0;
                self.collect(rest);
                self.go_after(State::Word, rest.len())
            }
        }
    }

    fn word(&mut self, rest: &[u8], sink: &mut impl Sink) -> usize {
        let end = rest.iter().position(|byte| !is_word(*byte));
        let len = end.unwrap_or(rest.len());
        self.collect(rest.get(..len).unwrap_or_default());
        if end.is_some() {
            self.at += len;
            self.end_word(sink);
            self.at -= len;
        }
        len
    }

    fn end_word(&mut self, sink: &mut impl Sink) {
        let keyword = self.collected();
        self.emit(Token::Word(keyword), sink);
    }

    fn collect(&mut self, bytes: &[u8]) {
        let free = self.word.iter_mut().skip(self.word_len);
        for (place, byte) in free.zip(bytes) {
            *place = *byte;
        }
        self.word_len = self.word_len.saturating_add(bytes.len());
    }

    fn collected(&self) -> Keyword {
        self.word
            .get(..self.word_len)
            .map_or(Keyword::Other, lookup)
    }

    fn text(&mut self, quote: u8, byte: u8, rest: &[u8], sink: &mut impl Sink) -> usize {
        let escape = if self.mode.no_backslash_escapes {
            quote
        } else {
            b'\\'
        };
        let at = if self.in_version {
            self.look_for_end(byte);
            (byte == quote || byte == escape).then_some(0)
        } else {
            let Some(at) = memchr2(quote, escape, rest) else {
                return rest.len();
            };
            Some(at)
        };
        match at {
            None => 1,
            Some(at) if rest.get(at) == Some(&quote) => self.emit_with(Token::Text, at + 1, sink),
            Some(at) => self.go_after(State::Escape(quote), at + 1),
        }
    }

    fn quoted(&mut self, quote: u8, byte: u8, rest: &[u8], sink: &mut impl Sink) -> usize {
        if self.in_version {
            self.look_for_end(byte);
        }
        if byte == quote {
            let keyword = self.collected();
            return self.emit_with(Token::Quoted(keyword), 1, sink);
        }
        let len = match memchr(quote, rest) {
            _ if self.in_version => 1,
            Some(len) => len,
            None => rest.len(),
        };
        self.collect(rest.get(..len).unwrap_or_default());
        len
    }

    fn line_comment(&mut self, byte: u8, rest: &[u8]) -> usize {
        if self.in_version {
            self.look_for_end(byte);
        } else if byte != b'\n' {
            return memchr(b'\n', rest).unwrap_or(rest.len());
        }
        if byte == b'\n' {
            self.state = State::Code;
        }
        1
    }

    /// A `*/` in quotes ends a versioned comment for a server that skips it, and not for one that
    /// runs it.
    fn look_for_end(&mut self, byte: u8) {
        self.is_uncertain |= self.in_version && self.saw_star && byte == b'/';
        self.saw_star = byte == b'*';
    }
}
