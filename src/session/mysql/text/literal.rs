//! What literals mean.

use super::LexMode;
use super::lexer::Token;

/// What a quoted identifier or a string means.
pub(super) fn unquoted(raw: &[u8], mode: LexMode, is_text: bool) -> Vec<u8> {
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

/// The bytes that a token gives as a literal; `None` if it is none. `before` is a word that it follows at
/// once: `x'61'`, `b'01100001'`.
pub(super) fn value_of(token: Token, raw: &[u8], before: &[u8], mode: LexMode) -> Option<Vec<u8>> {
    match (token, raw, before) {
        (Token::Text, _, b"x" | b"X") => Some(digits(&unquoted(raw, mode, true), 4)),
        (Token::Text, _, b"b" | b"B") => Some(digits(&unquoted(raw, mode, true), 1)),
        (Token::Text, ..) => Some(unquoted(raw, mode, true)),
        (Token::Word(_), [b'0', b'x', number @ ..], _) => Some(digits(number, 4)),
        (Token::Word(_), [b'0', b'b', number @ ..], _) => Some(digits(number, 1)),
        _ => None,
    }
}

/// The bytes of a number whose digits have so many bits each; the first ones may be missing.
fn digits(number: &[u8], bits: usize) -> Vec<u8> {
    let values = number
        .iter()
        .map(|digit| char::from(*digit).to_digit(16).unwrap_or_default());
    let mut bytes: Vec<u8> = Vec::new();
    let backwards: Vec<u32> = values.rev().collect();
    for byte in backwards.chunks(8 / bits) {
        let value = byte.iter().rev().fold(0, |all, digit| all << bits | digit);
        bytes.push(u8::try_from(value & 0xff).unwrap_or_default());
    }
    bytes.reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_texts_too() {
        let value = |token, raw: &str, before: &str| {
            value_of(token, raw.as_bytes(), before.as_bytes(), LexMode::default())
        };
        let word = Token::Word(super::super::keyword::Keyword::Other);
        for (token, raw, before) in [
            (Token::Text, "'6b694c4c'", "x"),
            (Token::Text, "'6B694C4C'", "X"),
            (Token::Text, "'1101011011010010100110001001100'", "b"),
            (word, "0x6b694c4c", ""),
            (word, "0b1101011011010010100110001001100", ""),
            (Token::Text, "'kiLL'", "N"),
            (Token::Text, "'kiLL'", "_utf8mb4"),
        ] {
            let expect = Some(b"kiLL".to_vec());
            assert_eq!(value(token, raw, before), expect, "{before}{raw}");
        }
        assert_eq!(value(word, "1234", ""), None);
    }
}
