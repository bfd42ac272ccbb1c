//! Writes the mock server's replies.

use ringgate::wire::mysql::cursor::{packet, put_lenenc_bytes, put_u8, put_u16, put_u32};
use ringgate::wire::mysql::flags::{column_type, status};
use ringgate::wire::mysql::frame::{HEADER_LEN, Header};
use ringgate::wire::mysql::response::{OkPacket, decode_ok, encode_end_of_rows};

use super::mock::has_legacy_eof;

/// A column: its name, and whether it is a BIGINT.
pub type Column = (String, bool);

/// The packets of one reply.
pub struct Writer {
    pub bytes: Vec<u8>,
    sequence: u8,
    capabilities: u32,
}

impl Writer {
    pub fn new(capabilities: u32) -> Self {
        Self {
            bytes: Vec::new(),
            sequence: 1,
            capabilities,
        }
    }

    pub fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = packet(&mut self.bytes, self.sequence, write);
    }

    /// The end of rows.
    pub fn end(&mut self, status: u16, warnings: u16) {
        let ok = OkPacket {
            status,
            warnings,
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        self.packet(|out| encode_end_of_rows(out, capabilities, &ok));
    }

    fn definition(&mut self, column: &Column) {
        self.packet(|out| {
            put_lenenc_bytes(out, b"def");
            for _ in 0..3 {
                put_lenenc_bytes(out, b"");
            }
            put_lenenc_bytes(out, column.0.as_bytes());
            put_lenenc_bytes(out, b"");
            put_u8(out, 12);
            put_u16(out, 45);
            put_u32(out, 400);
            put_u8(
                out,
                if column.1 {
                    column_type::LONGLONG
                } else {
                    column_type::VAR_STRING
                },
            );
            put_u16(out, 0);
            put_u8(out, 0);
            put_u16(out, 0);
        });
    }

    fn head(&mut self, columns: &[Column]) {
        let count = u8::try_from(columns.len()).unwrap_or(u8::MAX);
        self.packet(|out| put_u8(out, count));
        for column in columns {
            self.definition(column);
        }
    }

    /// The columns of a result whose rows follow.
    pub fn columns(&mut self, columns: &[Column], status: u16) {
        self.head(columns);
        if has_legacy_eof(self.capabilities) {
            self.end(status, 0);
        }
    }

    /// The columns of a result whose rows wait in a cursor.
    pub fn columns_of_cursor(&mut self, columns: &[Column], status: u16) {
        self.head(columns);
        self.end(status, 0);
    }

    /// A row, in the text or the binary form.
    pub fn row(&mut self, columns: &[Column], row: &[Option<String>], is_binary: bool) {
        self.packet(|out| {
            if is_binary {
                binary_row(out, columns, row);
                return;
            }
            for value in row {
                match value {
                    Some(value) => put_lenenc_bytes(out, value.as_bytes()),
                    None => put_u8(out, 0xfb),
                }
            }
        });
    }

    /// The whole reply to a PREPARE.
    pub fn prepared(&mut self, id: u32, columns: usize, params: usize, status: u16) {
        self.packet(|out| {
            put_u8(out, 0);
            put_u32(out, id);
            put_u16(out, u16::try_from(columns).unwrap_or(u16::MAX));
            put_u16(out, u16::try_from(params).unwrap_or(u16::MAX));
            put_u8(out, 0);
            put_u16(out, 0);
        });
        for count in [params, columns] {
            for _ in 0..count {
                self.definition(&("?".to_owned(), false));
            }
            if count > 0 && has_legacy_eof(self.capabilities) {
                self.end(status, 0);
            }
        }
    }
}

/// Flags that are known only at the end of rows: what was in an index, whether more follows, and whether the
/// statement began a transaction.
const KNOWN_LATER: u16 = status::IN_TRANS
    | status::IN_TRANS_READONLY
    | status::MORE_RESULTS_EXISTS
    | status::NO_GOOD_INDEX_USED
    | status::NO_INDEX_USED
    | status::QUERY_WAS_SLOW;

/// A reply without what an EOF between definitions and rows tells ahead: where a server leaves that packet out,
/// nobody knows it then.
pub fn settled(reply: &[u8]) -> Vec<u8> {
    let mut out = reply.to_vec();
    let (mut at, mut behind_definition) = (0, false);
    while let Some(header) = out.get(at..).and_then(Header::parse) {
        let begin = at + HEADER_LEN;
        let Some(payload) = out.get_mut(begin..begin + header.len) else {
            break;
        };
        if let (true, [0xfe, _, _, low, high]) = (behind_definition, &mut *payload) {
            [*low, *high] = (u16::from_le_bytes([*low, *high]) & !KNOWN_LATER).to_le_bytes();
        }
        behind_definition = payload.starts_with(b"\x03def");
        at = begin + header.len;
    }
    out
}

/// Whether an OK among the results of a reply says that no transaction is open.
pub fn ends_transaction(reply: &[u8], capabilities: u32) -> bool {
    let mut rest = reply;
    while let Some(header) = Header::parse(rest) {
        let end = (HEADER_LEN + header.len).min(rest.len());
        let payload = &rest[HEADER_LEN..end];
        if payload.first() == Some(&0)
            && decode_ok(payload, capabilities).is_ok_and(|ok| ok.status & status::IN_TRANS == 0)
        {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

fn binary_row(out: &mut Vec<u8>, columns: &[Column], row: &[Option<String>]) {
    put_u8(out, 0);
    let mut bitmap = vec![0_u8; (columns.len() + 9) / 8];
    for (index, _) in row.iter().enumerate().filter(|(_, value)| value.is_none()) {
        bitmap[(index + 2) / 8] |= 1 << ((index + 2) % 8);
    }
    out.extend_from_slice(&bitmap);
    for ((_, is_number), value) in columns.iter().zip(row) {
        let Some(value) = value else { continue };
        match value.parse::<i64>() {
            Ok(number) if *is_number => out.extend_from_slice(&number.to_le_bytes()),
            _ => put_lenenc_bytes(out, value.as_bytes()),
        }
    }
}
