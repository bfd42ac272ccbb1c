//! Commands of a client, borrowed from their payload.
//!
//! Source: MySQL source documentation, "Command Phase"; MariaDB, "2 - Text Protocol" and
//! "COM_STMT_BULK_EXECUTE".

use super::cursor::{Reader, WireError, put_u8, put_u16, put_u32};
use super::flags::com;

/// One command. Variants that this gateway refuses carry no more than is needed to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// COM_QUIT: no reply.
    Quit,
    /// COM_INIT_DB: the schema's name.
    InitDb(&'a [u8]),
    /// COM_QUERY: the statement, in the session's character set. Query attributes are not
    /// negotiated, so nothing precedes it.
    Query(&'a [u8]),
    /// COM_FIELD_LIST.
    FieldList {
        /// The table's name.
        table: &'a [u8],
        /// A LIKE pattern of column names.
        wildcard: &'a [u8],
    },
    /// COM_STATISTICS.
    Statistics,
    /// COM_PROCESS_INFO.
    ProcessInfo,
    /// COM_PROCESS_KILL: a connection id.
    ProcessKill(u32),
    /// COM_DEBUG.
    Debug,
    /// COM_PING.
    Ping,
    /// COM_CHANGE_USER: its body.
    ChangeUser(&'a [u8]),
    /// COM_STMT_PREPARE: the statement.
    StmtPrepare(&'a [u8]),
    /// COM_STMT_EXECUTE.
    StmtExecute(Execute<'a>),
    /// COM_STMT_SEND_LONG_DATA: no reply.
    StmtSendLongData(LongData<'a>),
    /// COM_STMT_CLOSE: the statement's id; no reply.
    StmtClose(u32),
    /// COM_STMT_RESET: the statement's id.
    StmtReset(u32),
    /// COM_STMT_FETCH.
    StmtFetch {
        /// The statement's id.
        statement: u32,
        /// How many rows at most.
        rows: u32,
    },
    /// COM_SET_OPTION: 0 switches multi-statements on, 1 off.
    SetOption(u16),
    /// COM_RESET_CONNECTION.
    ResetConnection,
    /// MariaDB's COM_STMT_BULK_EXECUTE: its body.
    StmtBulkExecute(&'a [u8]),
    /// A command known by its number only: administration, replication, removed or internal ones,
    /// and numbers that mean nothing.
    Unknown(u8),
}

impl<'a> Command<'a> {
    /// Reads a whole payload. `Malformed` for an empty one and for a body shorter than its command
    /// needs; bytes too many after a fixed-length body are refused too.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let command = match reader.u8()? {
            com::QUIT => return Ok(Self::Quit),
            com::INIT_DB => Self::InitDb(reader.rest()),
            com::QUERY => Self::Query(reader.rest()),
            com::FIELD_LIST => Self::FieldList {
                table: reader.nul_bytes()?,
                wildcard: reader.rest(),
            },
            com::STATISTICS => Self::Statistics,
            com::PROCESS_INFO => Self::ProcessInfo,
            com::PROCESS_KILL => Self::ProcessKill(reader.u32()?),
            com::DEBUG => Self::Debug,
            com::PING => Self::Ping,
            com::CHANGE_USER => Self::ChangeUser(reader.rest()),
            com::STMT_PREPARE => Self::StmtPrepare(reader.rest()),
            com::STMT_EXECUTE => Self::StmtExecute(Execute::read(&mut reader)?),
            com::STMT_SEND_LONG_DATA => Self::StmtSendLongData(LongData {
                statement: reader.u32()?,
                parameter: reader.u16()?,
                data: reader.rest(),
            }),
            com::STMT_CLOSE => Self::StmtClose(reader.u32()?),
            com::STMT_RESET => Self::StmtReset(reader.u32()?),
            com::STMT_FETCH => Self::StmtFetch {
                statement: reader.u32()?,
                rows: reader.u32()?,
            },
            com::SET_OPTION => Self::SetOption(reader.u16()?),
            com::RESET_CONNECTION => Self::ResetConnection,
            com::STMT_BULK_EXECUTE => Self::StmtBulkExecute(reader.rest()),
            unknown => return Ok(Self::Unknown(unknown)),
        };
        reader.finish()?;
        Ok(command)
    }

    /// Whether the server answers nothing to this command.
    pub fn has_no_reply(&self) -> bool {
        matches!(
            self,
            Self::Quit | Self::StmtSendLongData(_) | Self::StmtClose(_)
        )
    }
}

/// A chunk of one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongData<'a> {
    /// The statement's id.
    pub statement: u32,
    /// The parameter's position, from 0.
    pub parameter: u16,
    /// The bytes to append.
    pub data: &'a [u8],
}

/// The head of COM_STMT_EXECUTE, and its parameters still packed: how many there are only the
/// statement knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The statement's id; 0xFFFFFFFF means the last one prepared (MariaDB).
    pub statement: u32,
    /// [`super::flags::cursor_flag`] flags.
    pub flags: u8,
    /// Always 1 from a correct client.
    pub iterations: u32,
    body: &'a [u8],
}

/// Bytes of [`Execute`] before its null bitmap, the command byte included.
pub const EXECUTE_HEAD_BYTES: usize = 10;

/// The parameters of one execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// Bit *n* of the bitmap is set when parameter *n* is NULL.
    pub null_bitmap: &'a [u8],
    /// Two bytes a parameter (type; 0x80 for unsigned) if the client sent them this time.
    pub types: Option<&'a [u8]>,
    /// The values of the parameters that are neither NULL nor sent as long data.
    pub values: &'a [u8],
    /// Where `values` begins in the command's payload.
    pub values_at: usize,
}

impl<'a> Execute<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            statement: reader.u32()?,
            flags: reader.u8()?,
            iterations: reader.u32()?,
            body: reader.rest(),
        })
    }

    /// Reads only the head: for a payload of which the rest has not arrived.
    pub fn head(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != com::STMT_EXECUTE {
            return Err(WireError::Malformed);
        }
        Self::read(&mut reader)
    }

    /// Unpacks what follows for a statement with `count` parameters. The values themselves are not
    /// looked at: see [`super::value::skip_parameters`].
    pub fn parameters(&self, count: usize) -> Result<Parameters<'a>, WireError> {
        let mut reader = Reader::new(self.body);
        if count == 0 {
            // Some clients send an empty bitmap and a bound flag all the same.
            return Ok(Parameters {
                values_at: EXECUTE_HEAD_BYTES,
                ..Parameters::default()
            });
        }
        let null_bitmap = reader.take(count.div_ceil(8))?;
        let types = match reader.u8()? {
            0 => None,
            1 => Some(reader.take(count.saturating_mul(2))?),
            _ => return Err(WireError::Malformed),
        };
        let values = reader.rest();
        let before = self.body.len().saturating_sub(values.len());
        Ok(Parameters {
            null_bitmap,
            types,
            values,
            values_at: EXECUTE_HEAD_BYTES.saturating_add(before),
        })
    }
}

impl Parameters<'_> {
    /// Whether parameter `index` is NULL; `true` beyond the bitmap.
    pub fn is_null(&self, index: usize) -> bool {
        self.null_bitmap
            .get(index / 8)
            .is_none_or(|byte| byte >> (index % 8) & 1 != 0)
    }

    /// The two type bytes of parameter `index`, if the client sent types.
    pub fn type_of(&self, index: usize) -> Option<[u8; 2]> {
        let at = index.checked_mul(2)?;
        self.types?.get(at..)?.first_chunk().copied()
    }
}

/// Appends COM_STMT_EXECUTE's payload: `types` are sent when given.
pub fn encode_execute(
    out: &mut Vec<u8>,
    statement: u32,
    flags: u8,
    null_bitmap: &[u8],
    types: Option<&[u8]>,
    values: &[u8],
) {
    put_u8(out, com::STMT_EXECUTE);
    put_u32(out, statement);
    put_u8(out, flags);
    put_u32(out, 1);
    if null_bitmap.is_empty() {
        return;
    }
    out.extend_from_slice(null_bitmap);
    put_u8(out, u8::from(types.is_some()));
    out.extend_from_slice(types.unwrap_or_default());
    out.extend_from_slice(values);
}

/// Appends a command whose body is text: COM_QUERY, COM_INIT_DB, COM_STMT_PREPARE.
pub fn encode_text_command(out: &mut Vec<u8>, command: u8, text: &[u8]) {
    put_u8(out, command);
    out.extend_from_slice(text);
}

/// Appends a command whose body is a statement's id: COM_STMT_CLOSE, COM_STMT_RESET.
pub fn encode_statement_command(out: &mut Vec<u8>, command: u8, statement: u32) {
    put_u8(out, command);
    put_u32(out, statement);
}

/// Appends COM_STMT_SEND_LONG_DATA's payload.
pub fn encode_long_data(out: &mut Vec<u8>, chunk: &LongData<'_>) {
    put_u8(out, com::STMT_SEND_LONG_DATA);
    put_u32(out, chunk.statement);
    put_u16(out, chunk.parameter);
    out.extend_from_slice(chunk.data);
}

/// Appends COM_STMT_FETCH's payload.
pub fn encode_fetch(out: &mut Vec<u8>, statement: u32, rows: u32) {
    put_u8(out, com::STMT_FETCH);
    put_u32(out, statement);
    put_u32(out, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_bodies() {
        #[track_caller]
        fn check(payload: &[u8], expect: Command<'_>) {
            assert_eq!(Command::parse(payload), Ok(expect));
        }
        check(b"\x01", Command::Quit);
        check(b"\x01and more", Command::Quit);
        check(b"\x02shop", Command::InitDb(b"shop"));
        check(b"\x03", Command::Query(b""));
        check(b"\x03SELECT 1", Command::Query(b"SELECT 1"));
        check(
            b"\x04t\0%",
            Command::FieldList {
                table: b"t",
                wildcard: b"%",
            },
        );
        check(b"\x09", Command::Statistics);
        check(b"\x0a", Command::ProcessInfo);
        check(b"\x0c\x01\x02\x03\x04", Command::ProcessKill(0x0403_0201));
        check(b"\x0d", Command::Debug);
        check(b"\x0e", Command::Ping);
        check(b"\x11u\0", Command::ChangeUser(b"u\0"));
        check(b"\x16DO 1", Command::StmtPrepare(b"DO 1"));
        check(
            b"\x18\x01\0\0\0\x02\0abc",
            Command::StmtSendLongData(LongData {
                statement: 1,
                parameter: 2,
                data: b"abc",
            }),
        );
        check(b"\x19\x01\0\0\0", Command::StmtClose(1));
        check(b"\x1a\x01\0\0\0", Command::StmtReset(1));
        check(b"\x1b\x01\0", Command::SetOption(1));
        check(
            b"\x1c\x01\0\0\0\xff\xff\xff\xff",
            Command::StmtFetch {
                statement: 1,
                rows: u32::MAX,
            },
        );
        check(b"\x1f", Command::ResetConnection);
        check(b"\xfaxy", Command::StmtBulkExecute(b"xy"));
    }

    #[test]
    fn every_other_byte_is_unknown() {
        let known = [
            0x01, 0x02, 0x03, 0x04, 0x09, 0x0a, 0x0c, 0x0d, 0x0e, 0x11, 0x16, 0x17, 0x18, 0x19,
            0x1a, 0x1b, 0x1c, 0x1f, 0xfa,
        ];
        for byte in 0..=u8::MAX {
            let is_unknown = Command::parse(&[byte, 0]) == Ok(Command::Unknown(byte));
            assert_eq!(is_unknown, !known.contains(&byte), "{byte:#x}");
        }
    }

    #[test]
    fn bodies_too_short_or_too_long() {
        #[track_caller]
        fn check(whole: &[u8]) {
            assert!(Command::parse(whole).is_ok());
            for cut in 1..whole.len() {
                assert_eq!(Command::parse(&whole[..cut]), Err(WireError::Malformed));
            }
        }
        assert_eq!(Command::parse(b""), Err(WireError::Malformed));
        check(b"\x04t\0");
        check(b"\x0c\x01\x02\x03\x04");
        check(b"\x17\x01\0\0\0\0\x01\0\0\0");
        check(b"\x18\x01\0\0\0\x02\0");
        check(b"\x19\x01\0\0\0");
        check(b"\x1b\x01\0");
        check(b"\x1c\x01\0\0\0\x02\0\0\0");
        for long in [&b"\x0e\0"[..], b"\x1f\0", b"\x19\x01\0\0\0\0"] {
            assert_eq!(Command::parse(long), Err(WireError::Malformed));
        }
        assert!(Command::Quit.has_no_reply() && Command::StmtClose(1).has_no_reply());
        assert!(!Command::Ping.has_no_reply() && !Command::StmtReset(1).has_no_reply());
    }

    #[test]
    fn executions_and_their_parameters() {
        let mut payload = Vec::new();
        let types = [0x08, 0x00, 0xfd, 0x00, 0x03, 0x80];
        encode_execute(&mut payload, 9, 1, &[0b010], Some(&types), b"values");
        let execute = Execute::head(&payload).unwrap();
        assert_eq!(Command::parse(&payload), Ok(Command::StmtExecute(execute)));
        assert_eq!(
            (execute.statement, execute.flags, execute.iterations),
            (9, 1, 1)
        );
        let parameters = execute.parameters(3).unwrap();
        assert_eq!(parameters.types, Some(&types[..]));
        assert_eq!(parameters.values, b"values");
        assert_eq!(&payload[parameters.values_at..], b"values");
        let nulls: Vec<_> = (0..10).map(|index| parameters.is_null(index)).collect();
        let beyond_the_bitmap = [true, true];
        assert_eq!(
            nulls[..8],
            [false, true, false, false, false, false, false, false]
        );
        assert_eq!(nulls[8..], beyond_the_bitmap);
        assert_eq!(parameters.type_of(2), Some([0x03, 0x80]));
        assert_eq!(parameters.type_of(3), None);

        payload.clear();
        encode_execute(&mut payload, 9, 0, &[0], None, b"values");
        let parameters = Execute::head(&payload).unwrap().parameters(3).unwrap();
        assert_eq!(
            (parameters.types, parameters.values),
            (None, &b"values"[..])
        );
    }

    #[test]
    fn executions_that_lie() {
        let mut payload = Vec::new();
        encode_execute(&mut payload, 9, 0, &[0, 0], Some(&[3; 18]), b"");
        for cut in 0..payload.len() {
            let parameters = Execute::head(&payload[..cut]).and_then(|e| e.parameters(9));
            assert_eq!(parameters, Err(WireError::Malformed), "{cut}");
        }
        let whole = Execute::head(&payload).unwrap();
        assert!(whole.parameters(9).is_ok());
        assert_eq!(whole.parameters(65_535), Err(WireError::Malformed));
        assert_eq!(whole.parameters(usize::MAX), Err(WireError::Malformed));
        assert_eq!(whole.parameters(0).unwrap().values, b"");
        payload[12] = 2; // The bound flag is 0 or 1.
        let bent = Execute::head(&payload).unwrap();
        assert_eq!(bent.parameters(9), Err(WireError::Malformed));
        assert_eq!(
            Execute::head(b"\x16\0\0\0\0\0\0\0\0\0"),
            Err(WireError::Malformed)
        );
    }

    #[test]
    fn encoders_write_what_the_parser_reads() {
        let chunk = LongData {
            statement: 7,
            parameter: 3,
            data: b"abc",
        };
        let mut out = Vec::new();
        encode_long_data(&mut out, &chunk);
        assert_eq!(Command::parse(&out), Ok(Command::StmtSendLongData(chunk)));
        out.clear();
        encode_fetch(&mut out, 7, 100);
        let fetch = Command::StmtFetch {
            statement: 7,
            rows: 100,
        };
        assert_eq!(Command::parse(&out), Ok(fetch));
        out.clear();
        encode_statement_command(&mut out, com::STMT_CLOSE, 7);
        assert_eq!(Command::parse(&out), Ok(Command::StmtClose(7)));
        out.clear();
        encode_text_command(&mut out, com::QUERY, b"DO 1");
        assert_eq!(Command::parse(&out), Ok(Command::Query(b"DO 1")));
    }
}
