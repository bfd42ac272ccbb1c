//! The words of a text, for looking names up.

use smallvec::SmallVec;

use super::{
    LexMode,
    lexer::{Lexer, Sink, Token},
};

/// Something that a text mentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention<'a> {
    /// A word or a quoted name, without its quotes and in lower case.
    Word(&'a [u8]),
    /// A user variable or a system variable.
    Variable,
    /// A bracket opens right behind a quoted name.
    QuotedCall(&'a [u8]),
}

struct Words<'a, F> {
    sql: &'a [u8],
    told: F,
    /// The last token, if it was a quoted name.
    last_quoted: Option<&'a [u8]>,
}

impl<F: FnMut(Mention<'_>)> Sink for Words<'_, F> {
    fn token(&mut self, token: Token, start: usize, end: usize) {
        let raw = self.sql.get(start..end).unwrap_or_default();
        let last_quoted = self.last_quoted.take();
        let word = match token {
            Token::Word(_) => raw,
            Token::Quoted(_) => match raw {
                [_, inner @ .., _] => {
                    self.last_quoted = Some(inner);
                    inner
                }
                _ => raw,
            },
            Token::At | Token::AtAt => return (self.told)(Mention::Variable),
            Token::Punct(b'(') => {
                if let Some(name) = last_quoted {
                    (self.told)(Mention::QuotedCall(&lower(name)));
                }
                return;
            }
            Token::Text | Token::Assign | Token::Punct(_) => return,
        };
        (self.told)(Mention::Word(&lower(word)));
    }
}

fn lower(word: &[u8]) -> SmallVec<[u8; 64]> {
    word.iter().map(u8::to_ascii_lowercase).collect()
}

/// Tells of all that a text mentions, in order; whether servers agree on where its words are.
pub fn mentions(sql: &[u8], mode: LexMode, told: impl FnMut(Mention<'_>)) -> bool {
    let mut lexer = Lexer::new(mode);
    let mut words = Words {
        sql,
        told,
        last_quoted: None,
    };
    lexer.feed(sql, &mut words);
    lexer.finish(&mut words);
    !lexer.is_uncertain()
}
