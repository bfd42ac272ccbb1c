//! Codecs: the walk through replies, login packets, OK with session tracking.

use std::hint::black_box;

use ringgate::wire::mysql::cursor::{packet, put_lenenc_bytes, put_u8, put_u16, put_u32};
use ringgate::wire::mysql::flags::{caps, column_type, status};
use ringgate::wire::mysql::handshake::{Attributes, Greeting, Response, put_attribute};
use ringgate::wire::mysql::reply::{Expect, ReplyWalker, Step};
use ringgate::wire::mysql::response::{OkPacket, decode_ok, encode_end_of_rows, encode_ok};
use ringgate::wire::mysql::track::{Change, Changes, encode_change};

use super::{Case, case};

/// What today's clients and servers agree on.
pub const CAPABILITIES: u32 = caps::PROTOCOL_41
    | caps::LONG_PASSWORD
    | caps::SECURE_CONNECTION
    | caps::PLUGIN_AUTH
    | caps::CONNECT_WITH_DB
    | caps::CONNECT_ATTRS
    | caps::TRANSACTIONS
    | caps::MULTI_RESULTS
    | caps::SESSION_TRACK
    | caps::DEPRECATE_EOF;

/// Bytes of a text row as sysbench's tables have them.
const ROW: usize = 120;

/// A result of one column and one row, in the text or the binary form.
pub fn one_row(is_binary: bool) -> Vec<u8> {
    let mut out = head();
    let sequence = packet(&mut out, 3, |out| {
        if is_binary {
            out.extend_from_slice(&[0, 0]);
        }
        put_lenenc_bytes(out, &[b'7'; ROW - 1]);
    });
    packet(&mut out, sequence, |out| {
        encode_end_of_rows(out, CAPABILITIES, &ok());
    });
    out
}

/// An OK of a server that changed nothing.
pub fn ok() -> OkPacket<'static> {
    OkPacket {
        status: status::AUTOCOMMIT,
        ..OkPacket::default()
    }
}

/// The column count and the only definition: packets 1 and 2.
fn head() -> Vec<u8> {
    let mut out = Vec::new();
    packet(&mut out, 1, |out| put_u8(out, 1));
    packet(&mut out, 2, |out| {
        for name in ["def", "sbtest", "sbtest1", "sbtest1", "c", "c"] {
            put_lenenc_bytes(out, name.as_bytes());
        }
        put_u8(out, 12);
        put_u16(out, 45);
        put_u32(out, 480);
        put_u8(out, column_type::STRING);
        put_u16(out, 1);
        put_u8(out, 0);
        put_u16(out, 0);
    });
    out
}

/// Follows `bytes` to their end; whether the reply ends there.
fn walk(walker: &mut ReplyWalker, bytes: &mut [u8]) -> bool {
    let mut at = 0;
    loop {
        match walker.step(&mut bytes[at..]).unwrap() {
            Step::Pass(n) | Step::Packet(n, _) => at += n,
            Step::PassCarried(n) | Step::PacketCarried(n, _) => at += n,
            Step::Starved => return false,
        }
        if walker.is_done() {
            return true;
        }
    }
}

struct Walk {
    walker: ReplyWalker,
    head: Vec<u8>,
    bytes: Vec<u8>,
    ends: bool,
}

fn walk_case(name: &'static str, head: Vec<u8>, bytes: Vec<u8>, ends: bool) -> Case {
    let state = Walk {
        walker: ReplyWalker::new(true),
        head,
        bytes,
        ends,
    };
    let prepare = |s: &mut Walk| {
        s.walker.start(Expect::Results, 0);
        if !s.head.is_empty() {
            walk(&mut s.walker, &mut s.head);
        }
    };
    case(name, state, prepare, |s| {
        assert_eq!(walk(&mut s.walker, &mut s.bytes), s.ends);
    })
}

/// 64 KiB of whole rows and a cut one.
fn rows() -> Vec<u8> {
    let mut out = Vec::new();
    let mut sequence = 3;
    while out.len() < 1 << 16 {
        sequence = packet(&mut out, sequence, |out| {
            put_lenenc_bytes(out, &[b'7'; ROW - 1]);
        });
    }
    out.truncate(1 << 16);
    out
}

struct Login {
    greeting: Greeting<'static>,
    response: Response<'static>,
    greeting_bytes: Vec<u8>,
    response_bytes: Vec<u8>,
    out: Vec<u8>,
}

fn login() -> Login {
    let mut block = Vec::new();
    for (key, value) in [
        ("_client_name", "libmysql"),
        ("_client_version", "8.4.3"),
        ("_os", "Linux"),
        ("_pid", "12345"),
        ("_platform", "x86_64"),
        ("program_name", "mysql"),
    ] {
        put_attribute(&mut block, key.as_bytes(), value.as_bytes());
    }
    let greeting = Greeting {
        version: b"5.5.5-10.11.19-MariaDB",
        connection_id: 77,
        nonce: [7; 20],
        caps: CAPABILITIES,
        mariadb_caps: 0,
        collation: 45,
        status: status::AUTOCOMMIT,
        plugin: b"mysql_native_password",
    };
    let response = Response {
        caps: CAPABILITIES,
        mariadb_caps: 0,
        max_packet: 1 << 24,
        collation: 45,
        user: b"app",
        auth: &[9; 20],
        schema: Some(b"sbtest"),
        plugin: b"mysql_native_password",
        attributes: Attributes::checked(Vec::leak(block)).unwrap(),
    };
    let (mut greeting_bytes, mut response_bytes) = (Vec::new(), Vec::new());
    greeting.encode(&mut greeting_bytes);
    response.encode(&mut response_bytes);
    Login {
        greeting,
        response,
        greeting_bytes,
        response_bytes,
        out: Vec::with_capacity(512),
    }
}

/// An OK that reports a schema and two variables.
pub fn tracked_ok(out: &mut Vec<u8>, schema: &[u8]) {
    let mut changes = Vec::new();
    let variable = |name, value| Change::SystemVariable { name, value };
    encode_change(&mut changes, &variable(b"autocommit", b"ON"));
    encode_change(&mut changes, &variable(b"time_zone", b"+02:00"));
    encode_change(&mut changes, &Change::Schema(schema));
    let ok = OkPacket {
        status: status::AUTOCOMMIT | status::SESSION_STATE_CHANGED,
        session_changes: &changes,
        ..OkPacket::default()
    };
    encode_ok(out, CAPABILITIES, &ok);
}

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let mut tracked = Vec::new();
    tracked_ok(&mut tracked, b"sbtest");
    vec![
        walk_case("reply of a point select", Vec::new(), one_row(false), true),
        walk_case("64 KiB of rows, 120 bytes each", head(), rows(), false),
        case(
            "greeting, encode",
            login(),
            |s| s.out.clear(),
            |s| {
                s.greeting.encode(&mut s.out);
                black_box(&s.out);
            },
        ),
        case(
            "greeting, decode",
            login(),
            |_| (),
            |s| {
                let greeting = Greeting::decode(black_box(&s.greeting_bytes));
                assert!(greeting.is_ok());
            },
        ),
        case(
            "login response, encode",
            login(),
            |s| s.out.clear(),
            |s| {
                s.response.encode(&mut s.out);
                black_box(&s.out);
            },
        ),
        case(
            "login response, decode",
            login(),
            |_| (),
            |s| {
                let response = Response::decode(black_box(&s.response_bytes), CAPABILITIES);
                assert!(response.is_ok());
            },
        ),
        case(
            "OK with session tracking, decode",
            tracked,
            |_| (),
            |s| {
                let ok = decode_ok(black_box(s), CAPABILITIES).unwrap();
                let changes = Changes::new(ok.session_changes);
                assert_eq!(changes.filter(Result::is_ok).count(), 3);
            },
        ),
        case("OK, encode", Vec::with_capacity(64), Vec::clear, |s| {
            packet(s, 1, |out| encode_ok(out, CAPABILITIES, black_box(&ok())));
        }),
    ]
}
