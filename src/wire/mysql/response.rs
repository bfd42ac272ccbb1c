//! OK, ERR and EOF, read and written for any set of capabilities.
//!
//! Source: MySQL source documentation, "Generic Response Packets"; MySQL `net_send_ok` for how the
//! info string is really sent (length-encoded, with or without SESSION_TRACK).

use super::cursor::{Reader, WireError, put_lenenc, put_lenenc_bytes, put_u8, put_u16};
use super::flags::{caps, header, status};

/// An OK packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OkPacket<'a> {
    /// Rows changed (or found, with FOUND_ROWS).
    pub affected_rows: u64,
    /// The first AUTO_INCREMENT value made by the statement.
    pub last_insert_id: u64,
    /// [`status`] flags.
    pub status: u16,
    /// The number of warnings.
    pub warnings: u16,
    /// A human-readable line; often empty.
    pub info: &'a [u8],
    /// Session state changes, for [`super::track::Changes`]; empty when there are none.
    pub session_changes: &'a [u8],
}

/// Reads an OK packet with header 0x00 or 0xFE, as a peer sent it under `negotiated`.
pub fn decode_ok(payload: &[u8], negotiated: u32) -> Result<OkPacket<'_>, WireError> {
    let mut reader = Reader::new(payload);
    if !matches!(reader.u8()?, header::OK | header::EOF) {
        return Err(WireError::Malformed);
    }
    let mut ok = OkPacket {
        affected_rows: reader.lenenc()?,
        last_insert_id: reader.lenenc()?,
        status: reader.u16()?,
        warnings: reader.u16()?,
        ..OkPacket::default()
    };
    if reader.is_empty() {
        return Ok(ok);
    }
    if negotiated & caps::SESSION_TRACK != 0 {
        ok.info = reader.lenenc_bytes()?;
        if ok.status & status::SESSION_STATE_CHANGED != 0 && !reader.is_empty() {
            ok.session_changes = reader.lenenc_bytes()?;
        }
        reader.finish()?;
    } else {
        // Servers send it length-encoded; the documentation says "rest of the packet".
        let rest = reader.rest();
        let mut inner = Reader::new(rest);
        ok.info = match inner.lenenc_bytes() {
            Ok(info) if inner.is_empty() => info,
            _ => rest,
        };
    }
    Ok(ok)
}

/// Appends an OK packet with header 0x00 for a peer with the capabilities `negotiated`.
///
/// Without SESSION_TRACK the changes are left out and the SESSION_STATE_CHANGED flag is cleared.
pub fn encode_ok(out: &mut Vec<u8>, negotiated: u32, ok: &OkPacket<'_>) {
    encode_ok_with(out, header::OK, negotiated, ok);
}

/// Appends an OK packet with header 0xFE: the end of rows under DEPRECATE_EOF.
pub fn encode_ok_as_eof(out: &mut Vec<u8>, negotiated: u32, ok: &OkPacket<'_>) {
    encode_ok_with(out, header::EOF, negotiated, ok);
}

/// Appends what ends a list of rows: EOF, or OK in its place when DEPRECATE_EOF was negotiated.
pub fn encode_end_of_rows(out: &mut Vec<u8>, negotiated: u32, ok: &OkPacket<'_>) {
    if negotiated & caps::DEPRECATE_EOF != 0 {
        encode_ok_as_eof(out, negotiated, ok);
    } else {
        encode_eof(
            out,
            EofPacket {
                warnings: ok.warnings,
                status: ok.status & !status::SESSION_STATE_CHANGED,
            },
        );
    }
}

fn encode_ok_with(out: &mut Vec<u8>, first: u8, negotiated: u32, ok: &OkPacket<'_>) {
    let tracked = negotiated & caps::SESSION_TRACK != 0;
    let changed = tracked && !ok.session_changes.is_empty();
    let mut flags = ok.status & !status::SESSION_STATE_CHANGED;
    if changed {
        flags |= status::SESSION_STATE_CHANGED;
    }
    put_u8(out, first);
    put_lenenc(out, ok.affected_rows);
    put_lenenc(out, ok.last_insert_id);
    put_u16(out, flags);
    put_u16(out, ok.warnings);
    if changed || !ok.info.is_empty() {
        put_lenenc_bytes(out, ok.info);
    }
    if changed {
        put_lenenc_bytes(out, ok.session_changes);
    }
}

/// An ERR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    /// The server's error number.
    pub errno: u16,
    /// The SQLSTATE; `None` before the handshake ("Too many connections").
    pub sqlstate: Option<[u8; 5]>,
    /// The message: bytes of the peer, in any encoding.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// An error of this gateway. `sqlstate` has five characters; a shorter one is HY000.
    pub fn new(errno: u16, sqlstate: &str, message: &'a [u8]) -> Self {
        Self {
            errno,
            sqlstate: Some(sqlstate.as_bytes().try_into().unwrap_or(*b"HY000")),
            message,
        }
    }

    /// Whether this is MariaDB's progress report, after which the reply goes on.
    pub fn is_progress(&self) -> bool {
        self.errno == u16::MAX
    }
}

/// Reads an ERR packet, with or without SQLSTATE.
pub fn decode_err(payload: &[u8]) -> Result<ErrPacket<'_>, WireError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != header::ERR {
        return Err(WireError::Malformed);
    }
    let errno = reader.u16()?;
    let rest = reader.rest();
    let state = rest.strip_prefix(b"#").and_then(<[u8]>::split_first_chunk);
    Ok(match state {
        Some((&sqlstate, message)) => ErrPacket {
            errno,
            sqlstate: Some(sqlstate),
            message,
        },
        None => ErrPacket {
            errno,
            sqlstate: None,
            message: rest,
        },
    })
}

/// The longest message sent: MySQL's `MYSQL_ERRMSG_SIZE`.
const MESSAGE_MAX: usize = 512;

/// Appends an ERR packet; a message of more than 512 bytes is cut at a character.
pub fn encode_err(out: &mut Vec<u8>, err: &ErrPacket<'_>) {
    put_u8(out, header::ERR);
    put_u16(out, err.errno);
    if let Some(sqlstate) = err.sqlstate {
        put_u8(out, b'#');
        out.extend_from_slice(&sqlstate);
    }
    out.extend_from_slice(cut_message(err.message));
}

/// At most [`MESSAGE_MAX`] bytes, without half a UTF-8 character at the end.
fn cut_message(message: &[u8]) -> &[u8] {
    if message.len() <= MESSAGE_MAX {
        return message;
    }
    let mut end = MESSAGE_MAX;
    while end > MESSAGE_MAX - 4 && message.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}

/// An EOF packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EofPacket {
    /// The number of warnings.
    pub warnings: u16,
    /// [`status`] flags.
    pub status: u16,
}

/// Whether a packet of the text or binary protocol is an EOF by its header and length; a row can
/// begin with 0xFE too, but is longer then.
pub fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&header::EOF) && payload.len() < 9
}

/// Reads an EOF packet.
pub fn decode_eof(payload: &[u8]) -> Result<EofPacket, WireError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != header::EOF {
        return Err(WireError::Malformed);
    }
    let warnings = reader.u16()?;
    let status = reader.u16()?;
    reader.finish()?;
    Ok(EofPacket { warnings, status })
}

/// Appends an EOF packet.
pub fn encode_eof(out: &mut Vec<u8>, eof: EofPacket) {
    put_u8(out, header::EOF);
    put_u16(out, eof.warnings);
    put_u16(out, eof.status);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: u32 = caps::PROTOCOL_41;
    const TRACK: u32 = caps::PROTOCOL_41 | caps::SESSION_TRACK;

    #[test]
    fn ok_packets_as_servers_send_them() {
        #[track_caller]
        fn check(payload: &[u8], negotiated: u32, info: &[u8], changes: &[u8]) {
            let ok = decode_ok(payload, negotiated).unwrap();
            assert_eq!((ok.info, ok.session_changes), (info, changes));
        }
        check(b"\x00\x01\x02\x02\x00\x00\x00", PLAIN, b"", b"");
        check(b"\xfe\x00\x00\x02\x00\x00\x00", TRACK, b"", b"");
        check(b"\x00\x00\x00\x02\x00\x00\x00\x02hi", PLAIN, b"hi", b"");
        // What the documentation says instead: the rest of the packet.
        check(b"\x00\x00\x00\x02\x00\x00\x00hello", PLAIN, b"hello", b"");
        check(b"\x00\x00\x00\x02\x00\x00\x00\x02hi", TRACK, b"hi", b"");
        check(
            b"\x00\x00\x00\x02\x40\x00\x00\x00\x03\x01\x01a",
            TRACK,
            b"",
            b"\x01\x01a",
        );
        // The flag alone, as MariaDB sends it when a tracker has nothing to say.
        check(b"\x00\x00\x00\x02\x40\x00\x00\x00", TRACK, b"", b"");
    }

    #[test]
    fn ok_packets_that_lie() {
        #[track_caller]
        fn check(payload: &[u8]) {
            assert_eq!(decode_ok(payload, TRACK), Err(WireError::Malformed));
        }
        check(b"\x00\x00\x00\x02\x00\x00\x00\x05hi");
        check(b"\x00\x00\x00\x02\x40\x00\x00\x00\x04\x01\x01a");
        check(b"\x00\x00\x00\x02\x40\x00\x00\x00\x01\x01\x01a");
        check(b"\x00\x00\x00\x02\x00\x00\x00\x00\x01a");
        check(b"\x00\xfb\x00\x02\x00\x00\x00");
        check(b"\x01\x00\x00\x02\x00\x00\x00");
        let whole = b"\x00\xfc\xff\xff\xfd\x01\x02\x03\x02\x00\x01\x00";
        assert_eq!(decode_ok(whole, TRACK).unwrap().last_insert_id, 0x03_0201);
        for cut in 0..whole.len() {
            check(&whole[..cut]);
        }
    }

    #[test]
    fn errors_with_and_without_sqlstate() {
        let early = b"\xff\x10\x04Too many connections";
        let err = decode_err(early).unwrap();
        assert_eq!((err.errno, err.sqlstate), (1040, None));
        assert_eq!(err.message, b"Too many connections");
        let mut again = Vec::new();
        encode_err(&mut again, &err);
        assert_eq!(again, early);

        let err = decode_err(b"\xff\x15\x04#28000no").unwrap();
        assert_eq!((err.errno, err.sqlstate), (1045, Some(*b"28000")));
        assert_eq!(err.message, b"no");
        assert_eq!(decode_err(b"\xff\x15\x04#280").unwrap().message, b"#280");
        assert_eq!(decode_err(b"\xff\x15\x04").unwrap().message, b"");
        assert_eq!(decode_err(b"\xff\x15"), Err(WireError::Malformed));
        assert_eq!(decode_err(b""), Err(WireError::Malformed));
        assert!(decode_err(b"\xff\xff\xff\x01").unwrap().is_progress());
        assert_eq!(ErrPacket::new(1, "short", b"").sqlstate, Some(*b"short"));
        assert_eq!(ErrPacket::new(1, "no", b"").sqlstate, Some(*b"HY000"));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        #[track_caller]
        fn check(message: &str, kept: usize) {
            let mut out = Vec::new();
            encode_err(&mut out, &ErrPacket::new(1064, "42000", message.as_bytes()));
            assert_eq!(out.len() - 9, kept);
            assert!(std::str::from_utf8(&out[9..]).is_ok());
        }
        check(&"x".repeat(512), 512);
        check(&"x".repeat(513), 512);
        check(&"ä".repeat(400), 512);
        check(&format!("x{}", "ä".repeat(400)), 511);
        check(&format!("x{}", "😀".repeat(400)), 509);
    }

    #[test]
    fn rows_end_as_was_negotiated() {
        let ok = OkPacket {
            status: status::AUTOCOMMIT | status::MORE_RESULTS_EXISTS,
            warnings: 3,
            ..OkPacket::default()
        };
        let mut out = Vec::new();
        encode_end_of_rows(&mut out, PLAIN, &ok);
        assert!(is_eof(&out));
        let eof = decode_eof(&out).unwrap();
        assert_eq!((eof.warnings, eof.status), (3, ok.status));
        for cut in 0..out.len() {
            assert_eq!(decode_eof(&out[..cut]), Err(WireError::Malformed));
        }
        out.clear();
        encode_end_of_rows(&mut out, PLAIN | caps::DEPRECATE_EOF, &ok);
        assert_eq!(out[0], header::EOF);
        assert_eq!(decode_ok(&out, PLAIN), Ok(ok));
        assert!(!is_eof(&[0xfe; 9]) && !is_eof(&[]));
    }
}
