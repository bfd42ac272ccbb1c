//! Who comes to the MySQL port and speaks something else: told by the first bytes, for the log, and so that
//! nobody waits for the rest of what is no packet.

use crate::wire::mysql::frame::HEADER_LEN;

/// What the first bytes of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// There are none.
    Nothing,
    /// An HTTP request.
    Http,
    /// A TLS handshake that nobody has asked for.
    Tls,
    /// What is no packet yet, or none that is read.
    Bytes,
    /// Packets.
    Packets,
}

/// Beginnings of requests: as lengths of a packet they are beyond any login's.
const METHODS: &[&[u8; HEADER_LEN]] = &[
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI ",
];

impl Heard {
    /// What `bytes` are, the first ones of a connection.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Nothing,
            // A record of the type handshake (RFC 8446, 5.1), of a version from SSL 3.0 to TLS 1.3, with a
            // ClientHello. Those are lengths that a login may have, 790 bytes for one; but the byte of the
            // ClientHello would be its flags', and have PROTOCOL_41.
            [0x16, 3, 0..=4, _, _, 1, ..] => Self::Tls,
            _ => match bytes.first_chunk() {
                Some(first) if METHODS.contains(&first) => Self::Http,
                _ => Self::Bytes,
            },
        }
    }

    /// Its name in a log line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Bytes => "bytes",
            Self::Packets => "packets",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_by_their_first_bytes() {
        let check = |bytes: &[u8], expect: Heard| assert_eq!(Heard::of(bytes), expect, "{bytes:?}");
        check(b"", Heard::Nothing);
        check(b"GET / HTTP/1.1\r\n", Heard::Http);
        check(b"OPTIONS * HTTP/1.1\r\n", Heard::Http);
        check(b"PRI * HTTP/2.0\r\n", Heard::Http);
        check(b"GET", Heard::Bytes);
        check(&[0x16, 3, 1, 2, 0, 1], Heard::Tls);
        check(&[0x16, 3, 0, 2, 0, 1], Heard::Tls);
        check(&[0x16, 3, 1, 2, 0], Heard::Bytes);
        check(&[0x16, 3], Heard::Bytes);
        // Logins of 790 and of 66,326 bytes, with the flags of a client that knows nearly nothing, and of one
        // that knows much.
        for [low, high] in [[0x01, 0x02], [0x8f, 0xa2], [0x85, 0xa6]] {
            check(&[0x16, 3, 0, 1, low, high, 0xff, 0x01], Heard::Bytes);
            check(&[0x16, 3, 1, 1, low, high, 0xff, 0x01], Heard::Bytes);
        }
        check(&[0x16, 3, 9, 0], Heard::Bytes);
        check(&[32, 0, 0, 1, 0x85], Heard::Bytes);
        check(b"SSH-2.0-OpenSSH", Heard::Bytes);
    }
}
