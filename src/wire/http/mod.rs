//! HTTP/1.1 in both roles: heads, body framing, and walkers that find both in a stream of bytes.
//!
//! Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1). Where these let a receiver be lenient this
//! one is strict: two readers that disagree on where a message ends are how requests are smuggled.
//! Refused are both of Content-Length and Transfer-Encoding, a repeated or listed Content-Length, any
//! transfer coding but one `chunked`, line ends other than CR LF, folded lines, and blanks or empty
//! names in the framing of chunks.
//!
//! [`httparse`] splits heads into fields; what it lets through ([`head`]) and chunks, which it has
//! no strict reader for ([`body`]), are checked here.

pub mod body;
pub mod encode;
pub mod head;
mod lines;
pub mod walk;

/// Bounds of one message. A peer cannot make a walker hold more than `head_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, its last empty line included; also of a trailer section.
    pub head_bytes_max: usize,
    /// Fields of a head; at most [`FIELDS_MAX`].
    pub fields_max: usize,
    /// Bytes of a request's target.
    pub target_bytes_max: usize,
    /// Interim (1xx) responses ahead of a final one.
    pub interims_max: u32,
    /// Bytes of chunk extensions of one message.
    pub extension_bytes_max: usize,
}

/// Fields of a head that are looked at; [`Limits::fields_max`] can only lower it.
pub const FIELDS_MAX: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            fields_max: FIELDS_MAX,
            target_bytes_max: 8 * 1024,
            interims_max: 10,
            extension_bytes_max: 4 * 1024,
        }
    }
}

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    V10,
    /// HTTP/1.1.
    V11,
}

/// Why bytes of a peer are not a message. After any of them the connection has to end: where the
/// next message would begin is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HttpError {
    /// A line end other than CR LF, or CR elsewhere.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// The start line or a field breaks the grammar.
    #[error("malformed head")]
    Head,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("unknown HTTP version")]
    Version,
    /// The target is longer than accepted.
    #[error("request target too long")]
    TargetTooLong,
    /// The target is of no form allowed here, or holds a character that is not.
    #[error("malformed request target")]
    Target,
    /// More bytes of head or trailers, or more fields, than accepted.
    #[error("head too large")]
    HeadTooLarge,
    /// No Host, several, a malformed one, or one that contradicts the target.
    #[error("missing or malformed Host")]
    Host,
    /// Content-Length is no number, too large, or given twice.
    #[error("malformed Content-Length")]
    ContentLength,
    /// Content-Length and Transfer-Encoding together.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A Transfer-Encoding other than one `chunked`.
    #[error("unknown Transfer-Encoding")]
    TransferEncoding,
    /// A Transfer-Encoding where there may be none: HTTP/1.0, 1xx, 204.
    #[error("Transfer-Encoding where none is allowed")]
    UnexpectedTransferEncoding,
    /// A body where there may be none: with an Upgrade, or announced by a 204.
    #[error("a body where none is allowed")]
    UnexpectedBody,
    /// An Expect other than `100-continue`.
    #[error("unknown expectation")]
    Expect,
    /// The framing of a chunk breaks the grammar.
    #[error("malformed chunk")]
    Chunk,
    /// More chunk extensions than accepted.
    #[error("chunk extensions too long")]
    ExtensionsTooLong,
    /// A trailer breaks the grammar, or says what only a head may say.
    #[error("malformed trailer")]
    Trailer,
    /// A status outside of 100 to 599.
    #[error("unknown status")]
    Status,
    /// More interim responses than accepted.
    #[error("too many interim responses")]
    TooManyInterims,
    /// 101 without having been asked for, or an upgrade in an unexpected form.
    #[error("unexpected switch of protocols")]
    UnexpectedUpgrade,
    /// Bytes although no response is outstanding.
    #[error("bytes that nobody asked for")]
    Unsolicited,
    /// The peer ended the stream inside of a message.
    #[error("the stream ended inside of a message")]
    Truncated,
}

impl HttpError {
    /// The status a server answers the request with (RFC 9110, section 15).
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::Expect => 417,
            Self::HeadTooLarge | Self::ExtensionsTooLong => 431,
            Self::TransferEncoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}
