//! Writing heads and chunks. Nothing is written that another reader could take for two things: a
//! name or value that would break out of its line is refused.

use super::body::is_token;

/// A part of a head that cannot be written as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be part of an HTTP head")]
pub struct Unwritable(&'static str);

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A head being written to the end of a buffer. Without [`HeadWriter::finish`] it is not complete.
#[must_use = "a head ends with `finish`"]
#[derive(Debug)]
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> HeadWriter<'o> {
    /// Begins a request in HTTP/1.1.
    ///
    /// # Errors
    /// The method is no token, or the target holds a blank, a control or a byte beyond ASCII.
    pub fn request(out: &'o mut Vec<u8>, method: &str, target: &str) -> Result<Self, Unwritable> {
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(Unwritable("this method"));
        }
        if target.is_empty() || !target.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
            return Err(Unwritable("this target"));
        }
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        Ok(Self { out })
    }

    /// Begins a response in HTTP/1.1.
    ///
    /// # Errors
    /// The status is not of three digits, or the reason holds a control.
    pub fn response(out: &'o mut Vec<u8>, status: u16, reason: &str) -> Result<Self, Unwritable> {
        if !(100..1000).contains(&status) {
            return Err(Unwritable("this status"));
        }
        if !is_value(reason.as_bytes()) {
            return Err(Unwritable("this reason"));
        }
        out.extend_from_slice(b"HTTP/1.1 ");
        put_decimal(out, u64::from(status));
        for part in [" ", reason, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        Ok(Self { out })
    }

    /// Adds a field.
    ///
    /// # Errors
    /// The name is no token, or the value holds a control other than a tab.
    pub fn field(self, name: &str, value: &[u8]) -> Result<Self, Unwritable> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Unwritable("this field name"));
        }
        if !is_value(value) {
            return Err(Unwritable("this field value"));
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.out.extend_from_slice(part);
        }
        Ok(self)
    }

    /// Adds a Content-Length.
    pub fn content_length(self, bytes: u64) -> Self {
        self.out.extend_from_slice(b"Content-Length: ");
        put_decimal(self.out, bytes);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds the empty line.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends what goes ahead of a chunk's `bytes` bytes; CR LF go behind them. A chunk of no bytes
/// would end the body: nothing is appended for it.
pub fn put_chunk_head(out: &mut Vec<u8>, bytes: u64) {
    if bytes == 0 {
        return;
    }
    let is_leading = |shift: &u32| bytes >> shift == 0;
    for shift in (0..64).step_by(4).rev().skip_while(is_leading) {
        let digit = u32::try_from(bytes >> shift & 0xf).unwrap_or(0);
        out.extend(char::from_digit(digit, 16).and_then(|digit| u8::try_from(digit).ok()));
    }
    out.extend_from_slice(b"\r\n");
}

fn put_decimal(out: &mut Vec<u8>, number: u64) {
    let mut scale = 1_u64;
    while number / scale >= 10 {
        scale = scale.saturating_mul(10);
    }
    while scale > 0 {
        let digit = u8::try_from(number / scale % 10).unwrap_or(0);
        out.push(b'0' + digit);
        scale /= 10;
    }
}

/// Whether bytes can be a field's value: visible ones, blanks, tabs.
fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_written_and_what_would_break_out_is_refused() {
        let mut out = Vec::new();
        let head = HeadWriter::request(&mut out, "GET", "/a?b").unwrap();
        head.field("Host", b"h").unwrap().content_length(0).finish();
        let head = HeadWriter::response(&mut out, 200, "OK").unwrap();
        head.content_length(1_234_567_890).finish();
        let expect = "GET /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 1234567890\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expect);

        let mut out = Vec::new();
        for (method, target) in [
            ("", "/"),
            ("G T", "/"),
            ("GET", ""),
            ("GET", "/ "),
            ("GET", "/\r"),
        ] {
            assert!(HeadWriter::request(&mut out, method, target).is_err());
        }
        assert!(HeadWriter::response(&mut out, 99, "OK").is_err());
        assert!(HeadWriter::response(&mut out, 200, "OK\n").is_err());
        for (name, value) in [
            ("", "x"),
            ("a:", "x"),
            ("a", "x\r\ny"),
            ("a", "\0"),
            ("a", "\x7f"),
        ] {
            let head = HeadWriter::response(&mut out, 200, "OK").unwrap();
            assert!(
                head.field(name, value.as_bytes()).is_err(),
                "{name} {value:?}"
            );
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_without_leading_zeros() {
        #[track_caller]
        fn check(bytes: u64, expect: &str) {
            let mut out = Vec::new();
            put_chunk_head(&mut out, bytes);
            assert_eq!(out, expect.as_bytes());
        }
        check(0, "");
        check(1, "1\r\n");
        check(0x10, "10\r\n");
        check(0xabc0, "abc0\r\n");
        check(u64::MAX, "ffffffffffffffff\r\n");
    }

    #[test]
    fn decimals_are_those_of_the_library() {
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
