//! Replies of every shape, encoded and cut anywhere, and what the decoder tells of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking"
)]

use proptest::prelude::*;
use ringgate::wire::mysql::cursor::{packet, put_lenenc};
use ringgate::wire::mysql::decode::{Decoder, Event};
use ringgate::wire::mysql::flags::{caps, column_type, com, status};
use ringgate::wire::mysql::reply::ReplyError;
use ringgate::wire::mysql::response::{
    EofPacket, ErrPacket, OkPacket, encode_end_of_rows, encode_eof, encode_err, encode_ok,
};
use ringgate::wire::mysql::value::{Column, PrepareOk, Value, encode_binary_row, encode_text_row};

const LEGACY: u32 = caps::PROTOCOL_41;
const MODERN: u32 = caps::PROTOCOL_41 | caps::DEPRECATE_EOF | caps::SESSION_TRACK;
const ROW_MAX: usize = 40 << 20;

/// One reply in the making.
struct Writer {
    capabilities: u32,
    sequence: u8,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(capabilities: u32) -> Self {
        Self {
            capabilities,
            sequence: 1,
            bytes: Vec::new(),
        }
    }

    fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.sequence = packet(&mut self.bytes, self.sequence, write);
        self
    }

    fn ok(&mut self, ok: &OkPacket<'_>) -> &mut Self {
        let capabilities = self.capabilities;
        self.packet(|out| encode_ok(out, capabilities, ok))
    }

    fn err(&mut self, errno: u16) -> &mut Self {
        self.packet(|out| encode_err(out, &ErrPacket::new(errno, "HY000", b"no")))
    }

    fn definitions(&mut self, types: &[u8], flags: u16) -> &mut Self {
        for column_type in types {
            self.packet(|out| column(*column_type).encode(out));
        }
        if !types.is_empty() && self.capabilities & caps::DEPRECATE_EOF == 0 {
            let eof = EofPacket {
                warnings: 0,
                status: flags,
            };
            self.packet(|out| encode_eof(out, eof));
        }
        self
    }

    fn columns(&mut self, types: &[u8], flags: u16) -> &mut Self {
        self.packet(|out| put_lenenc(out, types.len() as u64));
        self.definitions(types, flags)
    }

    fn text(&mut self, fields: &[Option<&[u8]>]) -> &mut Self {
        self.packet(|out| encode_text_row(out, fields.iter().copied()))
    }

    fn binary(&mut self, fields: &[(u8, Value<'_>)]) -> &mut Self {
        self.packet(|out| encode_binary_row(out, fields).unwrap())
    }

    fn end(&mut self, flags: u16) -> &mut Self {
        let ok = OkPacket {
            status: flags,
            warnings: 2,
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        self.packet(|out| encode_end_of_rows(out, capabilities, &ok))
    }

    fn prepared(&mut self, params: &[u8], columns: &[u8]) -> &mut Self {
        let head = PrepareOk {
            statement: 9,
            columns: columns.len().try_into().unwrap(),
            parameters: params.len().try_into().unwrap(),
            warnings: 3,
        };
        self.packet(|out| head.encode(out));
        self.definitions(params, 0).definitions(columns, 0)
    }
}

fn column(column_type: u8) -> Column<'static> {
    Column {
        schema: b"shop",
        table: b"t",
        org_table: b"orders",
        name: b"n",
        org_name: b"number",
        collation: 45,
        length: 11,
        column_type,
        flags: 0,
        decimals: 0,
    }
}

/// An event in words.
fn told(event: &Event<'_>) -> String {
    let values = |values: Vec<Value<'_>>| {
        let fields = values.iter().map(|value| match value {
            Value::Bytes(bytes) if bytes.len() > 99 => format!("{} bytes", bytes.len()),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        });
        fields.collect::<Vec<_>>().join(",")
    };
    match event {
        Event::Columns(columns) => {
            assert!(
                columns
                    .iter()
                    .all(|found| found == column(found.column_type))
            );
            format!("columns {}", columns.len())
        }
        Event::Row(row) => match row.values() {
            Ok(found) => format!("row {}", values(found)),
            Err(error) => format!("row {error:?}"),
        },
        Event::RowsEnd {
            ok,
            opens_cursor,
            is_last,
        } => {
            let what = if *opens_cursor { "opened" } else { "end" };
            format!("{what} {:x} {is_last}", ok.status)
        }
        Event::Ok { ok, is_last } => {
            let info = String::from_utf8_lossy(ok.info);
            format!("ok {} {info} {:x} {is_last}", ok.affected_rows, ok.status)
        }
        Event::Err(err) => format!("err {}", err.errno),
        Event::Prepared {
            id,
            params,
            columns,
            warnings,
        } => format!(
            "prepared {id} {} {} {warnings}",
            params.len(),
            columns.len()
        ),
        Event::Goodbye(err) => format!("goodbye {}", err.errno),
    }
}

fn decode(decoder: &mut Decoder, bytes: &[u8], chunk: usize) -> Result<Vec<String>, ReplyError> {
    let (mut events, mut is_last) = (Vec::new(), true);
    for part in bytes.chunks(chunk.max(1)) {
        decoder.feed(part);
        while decoder.advance()? {
            let event = decoder.event()?.expect("one was found");
            events.push(told(&event));
            is_last = event.is_last();
        }
    }
    assert!(is_last && !decoder.is_mid_reply(), "{events:?}");
    Ok(events)
}

/// The reply to `command` is told as `expected`, however it is cut.
#[track_caller]
fn check(writer: &Writer, command: &[u8], expected: &[&str]) {
    for chunk in [1, 2, 3, 5, 7, 64, usize::MAX] {
        let mut decoder = Decoder::new(writer.capabilities, ROW_MAX);
        decoder.await_reply(command, 0);
        let events = decode(&mut decoder, &writer.bytes, chunk);
        assert_eq!(
            events.as_deref(),
            Ok(&*expected
                .iter()
                .map(|&line| line.to_owned())
                .collect::<Vec<_>>()),
            "{chunk}"
        );
    }
}

#[test]
fn texts_with_results_of_every_shape() {
    for capabilities in [LEGACY, MODERN] {
        let more = status::MORE_RESULTS_EXISTS;
        let mut writer = Writer::new(capabilities);
        writer
            .columns(&[column_type::VARCHAR, column_type::LONG], more)
            .text(&[Some(b"one"), Some(b"1")])
            .text(&[None, Some(b"")])
            .end(more)
            .columns(&[column_type::VARCHAR], more)
            .end(more)
            .ok(&OkPacket {
                affected_rows: 7,
                info: b"Records: 7",
                ..OkPacket::default()
            });
        let expected = [
            "columns 2",
            "row one,1",
            "row Null,",
            "end 8 false",
            "columns 1",
            "end 8 false",
            "ok 7 Records: 7 0 true",
        ];
        check(&writer, &[com::QUERY], &expected);
        let mut writer = Writer::new(capabilities);
        writer
            .columns(&[column_type::LONG], 0)
            .text(&[Some(b"5")])
            .err(1317);
        check(&writer, &[com::QUERY], &["columns 1", "row 5", "err 1317"]);
        let mut writer = Writer::new(capabilities);
        writer.err(1064);
        for command in [com::QUERY, com::STMT_PREPARE, com::STMT_FETCH, com::PING] {
            check(&writer, &[command], &["err 1064"]);
        }
    }
}

#[test]
fn rows_that_look_like_the_end_are_rows() {
    // A row may begin with 0xFE (a field of 16 MiB and more), 0xFB (NULL) or be empty.
    for capabilities in [LEGACY, MODERN] {
        let long = vec![b'x'; 17 << 20];
        let mut writer = Writer::new(capabilities);
        writer
            .columns(&[column_type::BLOB], 0)
            .text(&[Some(&long)])
            .text(&[None])
            .text(&[Some(b"")])
            .end(0);
        let expected = [
            "columns 1",
            "row 17825792 bytes",
            "row Null",
            "row ",
            "end 0 true",
        ];
        for chunk in [30_000, 1 << 20, usize::MAX] {
            let mut decoder = Decoder::new(capabilities, ROW_MAX);
            decoder.await_reply(&[com::QUERY], 0);
            let events = decode(&mut decoder, &writer.bytes, chunk).unwrap();
            assert_eq!(events, expected);
            let mut strict = Decoder::new(capabilities, 16 << 20);
            strict.await_reply(&[com::QUERY], 0);
            let error = decode(&mut strict, &writer.bytes, chunk).unwrap_err();
            assert_eq!(error, ReplyError::TooLarge);
        }
        // What fills its packets to the last byte is followed by an empty one.
        let full = vec![b'y'; 0xff_ffff - 4];
        let mut writer = Writer::new(capabilities);
        writer
            .columns(&[column_type::BLOB], 0)
            .text(&[Some(&full)])
            .end(0);
        let mut decoder = Decoder::new(capabilities, ROW_MAX);
        decoder.await_reply(&[com::QUERY], 0);
        let events = decode(&mut decoder, &writer.bytes, 1 << 20).unwrap();
        assert_eq!(events, ["columns 1", "row 16777211 bytes", "end 0 true"]);
    }
}

#[test]
fn statements_are_prepared_executed_and_fetched_from() {
    const EXECUTE: &[u8] = &[com::STMT_EXECUTE, 9, 0, 0, 0, 1];
    const FETCH: &[u8] = &[com::STMT_FETCH, 9, 0, 0, 0];
    const CLOSE: &[u8] = &[com::STMT_CLOSE, 9, 0, 0, 0];
    let types = [column_type::LONG, column_type::VARCHAR];
    let row = [
        (column_type::LONG, Value::Signed(-5)),
        (column_type::VARCHAR, Value::Bytes(b"five")),
    ];
    for capabilities in [LEGACY, MODERN] {
        for (params, columns) in [(0, 0), (2, 0), (0, 2), (2, 2), (1, 1)] {
            let mut writer = Writer::new(capabilities);
            writer.prepared(&types[..params], &types[..columns]);
            let expected = format!("prepared 9 {params} {columns} 3");
            check(&writer, &[com::STMT_PREPARE], &[&expected]);
        }
        let open = status::CURSOR_EXISTS;
        let mut opened = Writer::new(capabilities);
        opened.columns(&types, open);
        if capabilities & caps::DEPRECATE_EOF != 0 {
            opened.end(open);
        }
        // A procedure's own cursor leaves the flag on a result that none was asked for.
        let mut own = Writer::new(capabilities);
        own.columns(&types, open).binary(&row).end(open);
        let expected = ["columns 2", "row Signed(-5),five", "end 40 true"];
        check(&own, &[com::STMT_EXECUTE, 9, 0, 0, 0, 0], &expected);
        let mut rows = Writer::new(capabilities);
        rows.binary(&row)
            .binary(&row)
            .end(open | status::LAST_ROW_SENT);
        let mut decoder = Decoder::new(capabilities, ROW_MAX);
        decoder.await_reply(EXECUTE, 0);
        let events = decode(&mut decoder, &opened.bytes, 11).unwrap();
        assert_eq!(events, ["columns 2", "opened 40 true"]);
        decoder.await_reply(FETCH, 0);
        let events = decode(&mut decoder, &rows.bytes, 11).unwrap();
        let fetched = ["row Signed(-5),five", "row Signed(-5),five", "end c0 true"];
        assert_eq!(events, fetched);
        // Without its cursor nobody knows what the values are.
        decoder.await_reply(CLOSE, 0);
        decoder.await_reply(FETCH, 0);
        let events = decode(&mut decoder, &rows.bytes, 11).unwrap();
        assert_eq!(events[0], "row Malformed");
    }
}

#[test]
fn what_nobody_asked_for() {
    let mut goodbye = Writer::new(MODERN);
    goodbye.sequence = 0;
    goodbye.err(1053);
    let mut decoder = Decoder::new(MODERN, ROW_MAX);
    // A command that was on its way when the peer ended is not answered any more.
    decoder.await_reply(&[com::PING], 0);
    assert_eq!(
        decode(&mut decoder, &goodbye.bytes, 1).unwrap(),
        ["goodbye 1053"]
    );
    let mut ok = Writer::new(MODERN);
    ok.ok(&OkPacket::default());
    let surplus = decode(&mut decoder, &ok.bytes, 1);
    assert_eq!(surplus, Err(ReplyError::Surplus));
    let mut decoder = Decoder::new(MODERN, ROW_MAX);
    for silent in [com::STMT_CLOSE, com::STMT_SEND_LONG_DATA, com::QUIT] {
        decoder.await_reply(&[silent, 1, 0, 0, 0], 0);
    }
    assert_eq!(decode(&mut decoder, &ok.bytes, 1), Err(ReplyError::Surplus));
}

proptest! {
    /// Nothing that a peer sends makes it panic, or tell of more than there is.
    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        command in any::<u8>(),
        modern in any::<bool>(),
        chunk in 1_usize..50,
    ) {
        let capabilities = if modern { MODERN } else { LEGACY };
        let mut decoder = Decoder::new(capabilities, 1 << 16);
        decoder.await_reply(&[command, 1, 0, 0, 0], 255);
        let mut pieces = 0;
        'all: for part in bytes.chunks(chunk) {
            decoder.feed(part);
            while let Ok(found) = decoder.advance() {
                if !found {
                    continue 'all;
                }
                pieces += 1;
                match decoder.event() {
                    Ok(Some(event)) => { let _ = told_of_any(&event); }
                    Ok(None) => prop_assert!(false, "nothing was found"),
                    Err(_) => break 'all,
                }
            }
            break;
        }
        prop_assert!(pieces <= bytes.len());
    }
}

fn told_of_any(event: &Event<'_>) -> usize {
    match event {
        Event::Columns(columns) => columns.iter().count(),
        Event::Row(row) => row.values().map_or(0, |values| values.len()),
        _ => 0,
    }
}
