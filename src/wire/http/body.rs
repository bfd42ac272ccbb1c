//! Where a body ends, found by counting: content is neither looked at nor kept.
//!
//! Source: RFC 9112, sections 6 and 7. The chunk reader is our own: lenient ones take an empty size
//! for zero, or a bare LF inside an extension for a line end, and so disagree with the next reader.

use super::lines::Lines;
use super::{FIELDS_MAX, HttpError, Limits};

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none, or one of no bytes.
    #[default]
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks, and trailers after them.
    Chunked,
    /// All until the connection ends: responses only.
    UntilClose,
}

/// What a step through a body has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// All bytes were taken and the body goes on.
    More,
    /// The last so many of the bytes taken are content.
    Content(usize),
    /// The body ends after the bytes taken.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ended,
    Length(u64),
    UntilClose,
    /// Inside a chunk's size, of which so many digits were there.
    Size(u64, u8),
    /// After the `;` of an extension.
    ExtensionName(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

/// A walk through one body.
#[derive(Debug)]
pub struct Body {
    state: State,
    extension_bytes: usize,
    /// Trailers are collected to be checked; made when the first byte of them comes.
    trailers: Option<Box<Lines>>,
}

/// Digits of a chunk's size, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

/// Fields that frame or route a message and may not come after it (RFC 9110, section 6.5.1).
const NEVER_TRAILERS: [&str; 7] = [
    "transfer-encoding",
    "content-length",
    "host",
    "connection",
    "trailer",
    "upgrade",
    "te",
];

impl Body {
    /// Begins a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            extension_bytes: 0,
            trailers: None,
        }
    }

    /// Takes bytes up to the end of one piece of content, or of the body. Gives how many, and what
    /// they were. A body without bytes is at its [`BodyStep::End`] before any.
    ///
    /// # Errors
    /// The framing of chunks is broken, or longer than `limits`.
    pub fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, BodyStep), HttpError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (State::Length(left) | State::Data(left)) = self.state else {
                match self.state {
                    State::Ended => return Ok((at, BodyStep::End)),
                    State::UntilClose if rest.is_empty() => return Ok((at, BodyStep::More)),
                    State::UntilClose => return Ok((bytes.len(), BodyStep::Content(rest.len()))),
                    State::Trailers => return self.trailers(at, rest, limits),
                    _ => {}
                }
                let Some(&byte) = rest.first() else {
                    return Ok((at, BodyStep::More));
                };
                self.frame(byte, limits)?;
                at += 1;
                continue;
            };
            if rest.is_empty() {
                return Ok((at, BodyStep::More));
            }
            let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
            let left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
            self.state = match self.state {
                State::Length(_) if left == 0 => State::Ended,
                State::Length(_) => State::Length(left),
                _ if left == 0 => State::DataCr,
                _ => State::Data(left),
            };
            return Ok((at + count, BodyStep::Content(count)));
        }
    }

    /// The stream has ended. `true` if that ends the body.
    pub fn ends_at_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Ended)
    }

    /// One byte of the framing of chunks.
    fn frame(&mut self, byte: u8, limits: &Limits) -> Result<(), HttpError> {
        let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        self.state = match (self.state, byte) {
            (State::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < SIZE_DIGITS_MAX =>
            {
                State::Size(size << 4 | hex(byte), digits + 1)
            }
            (State::Size(size, 1..), b'\r') => State::SizeLf(size),
            (State::Size(size, 1..), b';') => State::ExtensionName(size),
            (State::ExtensionName(size), byte) if is_token(byte) => State::Extension(size),
            (State::Extension(size), b'\r') => State::SizeLf(size),
            (State::Extension(size), _) if is_text => State::Extension(size),
            (State::SizeLf(0), b'\n') => State::Trailers,
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0, 0),
            _ => return Err(HttpError::Chunk),
        };
        if matches!(self.state, State::ExtensionName(_) | State::Extension(_)) {
            self.extension_bytes = self.extension_bytes.saturating_add(1);
            if self.extension_bytes > limits.extension_bytes_max {
                return Err(HttpError::ExtensionsTooLong);
            }
        }
        Ok(())
    }

    /// Trailers are checked and then forgotten: nothing that comes after a body may change what the
    /// message was taken for.
    fn trailers(
        &mut self,
        at: usize,
        rest: &[u8],
        limits: &Limits,
    ) -> Result<(usize, BodyStep), HttpError> {
        if rest.is_empty() {
            return Ok((at, BodyStep::More));
        }
        let lines = self.trailers.get_or_insert_default();
        let taken = lines.take(rest, limits.head_bytes_max);
        let (count, section) =
            taken.map_err(|error| error.err().unwrap_or(HttpError::HeadTooLarge))?;
        let Some(section) = section else {
            return Ok((at + count, BodyStep::More));
        };
        check_trailers(section, limits)?;
        self.trailers = None;
        self.state = State::Ended;
        Ok((at + count, BodyStep::End))
    }
}

fn check_trailers(section: &[u8], limits: &Limits) -> Result<(), HttpError> {
    if section == b"\r\n" {
        return Ok(());
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let room = fields.split_at_mut(limits.fields_max.min(FIELDS_MAX)).0;
    let fields = match httparse::parse_headers(section, room) {
        Ok(httparse::Status::Complete((end, fields))) if end == section.len() => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
        _ => return Err(HttpError::Trailer),
    };
    let is_forbidden = |name: &str| {
        NEVER_TRAILERS
            .iter()
            .any(|no| name.eq_ignore_ascii_case(no))
    };
    match fields.iter().any(|field| is_forbidden(field.name)) {
        true => Err(HttpError::Trailer),
        false => Ok(()),
    }
}

/// The value of a digit that was checked to be one.
fn hex(digit: u8) -> u64 {
    char::from(digit).to_digit(16).map_or(0, u64::from)
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
