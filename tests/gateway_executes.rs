//! EXECUTE as the server would have it: a body that is cut short is refused, and types that a client
//! sent once are there on every connection, however many and however long.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use support::{Answer, Client, ClientError, Gateway, MariaDb, Shape, Statement};

const EXECUTE: u8 = 0x17;
const LAST_PREPARED: u32 = u32::MAX;
const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a BIGINT, b TEXT);";
const LONGLONG: u8 = 8;
const STRING: u8 = 0xfd;
const DATETIME: u8 = 12;

fn single() -> (MariaDb, Gateway) {
    with_budget(1)
}

fn with_budget(budget: u32) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

/// An EXECUTE's body; `rest` is all from the bitmap on.
fn body(id: u32, rest: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], rest].concat()
}

fn errno(result: Result<Answer, ClientError>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(ClientError::Server { errno, .. }) => errno,
        Err(error) => panic!("{error}"),
    }
}

/// Bodies of an EXECUTE with an integer and a string, by what follows the head.
fn bodies() -> Vec<Vec<u8>> {
    let whole = [
        &[0, 1, LONGLONG, 0, STRING, 0][..],
        &5_u64.to_le_bytes(),
        b"\x03abc",
    ]
    .concat();
    let mut bodies: Vec<_> = (0..=whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    bodies.push([&whole[..], b"more"].concat());
    for flag in [2, 3, 255] {
        let mut odd = whole.clone();
        odd[1] = flag;
        bodies.push(odd);
    }
    // Lengths that run beyond the end.
    for value in [&b"\x04abc"[..], b"\xfc\x04\0abc", b"\xfd\xff\0\0abc"] {
        bodies.push([&whole[..14], value].concat());
    }
    // A type that there is none of, and no types at all.
    bodies.push([&[0, 1, LONGLONG, 0, 0x77, 0][..], &whole[6..]].concat());
    bodies
}

fn is_whole(rest: &[u8]) -> bool {
    rest.starts_with(&[0, 1, LONGLONG, 0, STRING]) && rest.len() >= 18 && rest[14] == 3
}

#[test]
fn what_the_server_refuses_is_not_carried_out() {
    let (server, gateway) = single();
    let mut direct = server.client();
    direct.query("USE test").expect("a schema");
    let insert = "INSERT INTO t VALUES (?, ?)";
    for is_last in [false, true] {
        for rest in bodies() {
            let mut client = gateway.client();
            let errnos = [&mut direct, &mut client].map(|client| {
                // A fresh statement, as an execution may leave types behind.
                let statement = client.prepare(insert).expect("prepared");
                let id = if is_last { LAST_PREPARED } else { statement.id };
                let errno = errno(client.run_raw(EXECUTE, &body(id, &rest)));
                client.close_statement(statement).expect("a write");
                errno
            });
            let rows = server.sql("SELECT COUNT(*) FROM test.t; TRUNCATE test.t");
            let expect = match errnos {
                [0, 0] => "2",
                // MariaDB takes a string that is cut short for an empty one.
                [0, 1210] if !is_whole(&rest) => "1",
                [server, gateway] => {
                    assert_eq!(server, gateway, "{is_last} {rest:?}");
                    "0"
                }
            };
            assert_eq!(rows.trim(), expect, "{is_last} {rest:?}");
            assert_eq!(errnos == [0, 0], is_whole(&rest), "{is_last} {rest:?}");
            assert!(client.query("SELECT 1").is_ok(), "the client goes on");
        }
    }
}

#[test]
fn a_head_that_is_cut_short_is_malformed() {
    let (_server, gateway) = single();
    let mut client = gateway.client();
    let statement = client.prepare("SELECT 1").expect("prepared");
    let whole = body(statement.id, b"");
    for cut in 0..whole.len() {
        let result = client.run_raw(EXECUTE, whole.get(..cut).expect("a part"));
        assert_eq!(errno(result), 1835, "{cut}");
    }
    assert_eq!(errno(client.run_raw(EXECUTE, &whole)), 0);
    let more = [&whole[..], b"\0\x01more"].concat();
    assert_eq!(errno(client.run_raw(EXECUTE, &more)), 0);
}

#[test]
fn the_last_prepared_is_none_after_a_prepare_that_failed_or_a_close() {
    let (server, gateway) = single();
    let mut direct = server.client();
    direct.query("USE test").expect("a schema");
    for client in [&mut direct, &mut gateway.client()] {
        let last = body(LAST_PREPARED, b"");
        assert_eq!(errno(client.run_raw(EXECUTE, &last)), 1243);
        let delete = client.prepare("DELETE FROM t").expect("prepared");
        assert_eq!(errno(client.run_raw(EXECUTE, &last)), 0);
        client.prepare("SELECT FROM").expect_err("no statement");
        assert_eq!(errno(client.run_raw(EXECUTE, &last)), 1243);
        let select = client.prepare("SELECT 2").expect("prepared");
        client.query("SELECT FROM").expect_err("no statement");
        client.execute(delete, &[]).expect("done");
        let answer = client.run_raw(EXECUTE, &last).expect("the last one");
        assert_eq!(answer.text(0, 0).as_deref(), Some("2"));
        client.close_statement(select).expect("a write");
        assert_eq!(errno(client.run_raw(EXECUTE, &last)), 1243);
    }
}

#[test]
fn no_value_is_made_of_another_sessions_bytes() {
    let (_server, gateway) = single();
    let mut other = gateway.client();
    let mut client = gateway.client();
    let statement = client.prepare("SELECT ?, ?").expect("prepared");
    let secret = format!("SELECT '{}'", "secret".repeat(50));
    for value in [
        &b"\xfc\xff\0a"[..],
        b"\xfd\xff\0\0a",
        b"\xfe\xff\0\0\0\0\0\0\0a",
    ] {
        other.query(&secret).expect("an answer");
        let rest = [&[0, 1, STRING, 0, STRING, 0][..], b"\x01a", value].concat();
        let result = client.run_raw(EXECUTE, &body(statement.id, &rest));
        assert_eq!(errno(result), 1210, "{value:?}");
    }
    // A date of a length that no date has: servers read seven or eleven bytes of it.
    for date in [
        &b"\x05\xe8\x07\x01\x02\x03"[..],
        b"\x08\xe8\x07\x01\x02\x03\x04\x05\x06",
    ] {
        other.query(&secret).expect("an answer");
        let rest = [&[0, 1, STRING, 0, DATETIME, 0][..], b"\x01a", date].concat();
        let result = client.run_raw(EXECUTE, &body(statement.id, &rest));
        assert_eq!(errno(result), 1210, "{date:?}");
    }
}

#[test]
fn types_that_were_never_sent_end_no_server() {
    let (server, gateway) = single();
    let mut client = gateway.client();
    let statement = client.prepare("SELECT ?, ?").expect("prepared");
    let values = [&[0, 0][..], b"\x01a\x01b"].concat();
    for id in [statement.id, LAST_PREPARED] {
        let result = client.run_raw(EXECUTE, &body(id, &values));
        assert!(matches!(errno(result), 1210 | 1835));
    }
    // What is NULL has no type: as on a server.
    let nulls = body(statement.id, &[0b11, 0]);
    let answer = client.run_raw(EXECUTE, &nulls).expect("a row");
    assert_eq!(answer.rows, [[None, None]]);
    // The other's types, on the same connection, are not its own.
    let mut other = gateway.client();
    let same = other.prepare("SELECT ?, ?").expect("prepared");
    other.execute(same, &[b"a", b"b"]).expect("a row");
    let result = client.run_raw(EXECUTE, &body(statement.id, &values));
    assert_eq!(errno(result), 1210);
    assert_eq!(server.sql("SELECT 1").trim(), "1", "the server lives");
}

/// Takes a pooled connection away, so that the next statement moves.
fn crowd(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.query("BEGIN").expect("a transaction");
    client
}

#[test]
fn types_of_an_execution_that_the_server_refused_are_sent_again() {
    let (server, gateway) = with_budget(2);
    let mut client = gateway.client();
    let statement = client.prepare("SELECT ?").expect("prepared");
    client.execute(statement, &[b"a"]).expect("a row");
    let _crowd = crowd(&gateway);
    // On a connection that has not had the types: a parameter that there is none of, so that the
    // server refuses the execution before it reads them.
    client.send_long_data(statement, 9, b"x").expect("a write");
    client
        .execute(statement, &[b"b"])
        .expect_err("no such parameter");
    let result = client.run_raw(EXECUTE, &body(statement.id, b"\0\0\x01c"));
    let answer = result.expect("a row");
    assert_eq!(answer.text(0, 0).as_deref(), Some("c"));
    assert_eq!(server.sql("SELECT 1").trim(), "1", "the server lives");
}

/// `SELECT ? IN (?, …)`, with blank space up to a length.
fn long_list(params: usize, len: usize) -> String {
    let list = vec!["?"; params - 1].join(",");
    let blank = " ".repeat(len.saturating_sub(list.len()));
    format!("SELECT ? IN ({list}{blank})")
}

/// Integers, all but the first the same; `types` or as before.
fn integers(params: usize, first: u64, types: bool) -> Vec<u8> {
    let mut rest = vec![0; params.div_ceil(8)];
    rest.push(u8::from(types));
    if types {
        rest.extend([LONGLONG, 0].repeat(params));
    }
    rest.extend_from_slice(&first.to_le_bytes());
    rest.extend(7_u64.to_le_bytes().repeat(params - 1));
    rest
}

#[test]
fn as_many_parameters_as_there_may_be_move_with_their_types() {
    let (server, gateway) = with_budget(2);
    for (params, len) in [
        (30_700, 0),
        (31_000, 0),
        (40_000, 131_000),
        (65_535, 0),
        (65_535, 500_000),
        // Too long to be kept: pinned, and works all the same.
        (65_535, 600_000),
    ] {
        let mut client = gateway.client();
        let prepared = client.prepare(&long_list(params, len));
        let statement = prepared.expect("prepared");
        let mut run = |first, types| {
            let rest = integers(params, first, types);
            let result = client.run_raw(EXECUTE, &body(statement.id, &rest));
            let answer = result.unwrap_or_else(|error| panic!("{params} {len}: {error}"));
            answer.text(0, 0).expect("a value")
        };
        assert_eq!(run(7, true), "1");
        assert_eq!(run(8, false), "0");
        let crowd = crowd(&gateway);
        assert_eq!(run(8, false), "0", "{params} {len}: after a move");
        assert_eq!(run(7, false), "1", "{params} {len}: after a move");
        drop(crowd);
        client.close_statement(statement).expect("a write");
        assert_eq!(client.query("SELECT 1").expect("an answer").len(), 1);
    }
    let mut client = gateway.client();
    let error = client.prepare(&long_list(65_536, 0)).expect_err("too many");
    assert_eq!(error.errno(), 1390, "the server's own");
    assert_eq!(server.sql("SELECT 1").trim(), "1", "the server lives");
}

#[test]
fn a_text_that_is_too_long_to_be_kept_keeps_its_connection_until_it_is_closed() {
    let (_server, gateway) = with_budget(2);
    let pins = || gateway.metric("ringgate_pins_total", &["reason=\"long_statement\""]);
    let mut client = gateway.client();
    for len in [524_000, 525_000, 1 << 24, 20_000_000] {
        let before = pins();
        let text = format!("SELECT LENGTH('{}'), ?", "x".repeat(len));
        let statement = client.prepare(&text).expect("prepared");
        for value in [&b"a"[..], b"b"] {
            let answer = client.execute(statement, &[value]).expect("a row");
            assert_eq!(answer.text(0, 0), Some(len.to_string()));
        }
        let is_kept = len < 524_288;
        assert_eq!(pins() > before, !is_kept, "{len}");
        client.close_statement(statement).expect("a write");
        // Both connections are free again for others.
        client.query("SELECT 1").expect("an answer");
    }
    client
        .prepare(&format!("SELECT {}", "x".repeat(600_000)))
        .expect_err("no column");
    client.query("SELECT 1").expect("an answer");
}

fn texts(statement: Statement, len: usize, types: bool) -> Vec<u8> {
    let mut rest = vec![0, u8::from(types)];
    if types {
        rest.extend_from_slice(&[STRING, 0, LONGLONG, 0]);
    }
    rest.push(0xfe);
    rest.extend_from_slice(&u64::try_from(len).expect("a length").to_le_bytes());
    rest.resize(rest.len() + len, b'x');
    rest.extend_from_slice(&9_u64.to_le_bytes());
    body(statement.id, &rest)
}

#[test]
fn a_value_of_any_length_moves_without_types() {
    let (_server, gateway) = with_budget(2);
    let mut client = gateway.client();
    let max = 0xff_ff_ff_i64;
    let around = [-31, -30, -29, -28, -27, -26, -25, 0].map(|more| max + more);
    let lens = [100_000, 200_000].into_iter().chain(around);
    for len in lens.chain([2 * max - 27, 2 * max]) {
        let len = usize::try_from(len).expect("a length");
        // A text of its own, so that no connection has its types.
        let text = format!("SELECT LENGTH(?) + ? + 0 * {len}");
        let statement = client.prepare(&text).expect("prepared");
        let short = client.run_raw(EXECUTE, &texts(statement, 5, true));
        assert_eq!(short.expect("a row").text(0, 0).as_deref(), Some("14"));
        let crowd = crowd(&gateway);
        for _ in 0..2 {
            let answer = client.run_raw(EXECUTE, &texts(statement, len, false));
            let answer = answer.unwrap_or_else(|error| panic!("{len}: {error}"));
            assert_eq!(answer.text(0, 0), Some((len + 9).to_string()), "{len}");
        }
        drop(crowd);
        client.query("SELECT 1").expect("an answer");
    }
}

/// A client may prepare many texts, but not fill the memory with them.
#[test]
fn the_texts_of_one_session_are_bounded() {
    let (_server, gateway) = single();
    let mut client = gateway.client();
    let text = |number: usize| format!("SELECT {number}, '{}'", "x".repeat(400_000));
    let kept: Vec<_> = (0..41)
        .map(|number| client.prepare(&text(number)).expect("prepared"))
        .collect();
    let refused = client.prepare(&text(41));
    assert_eq!(refused.expect_err("one too many").errno(), 1461);
    client.prepare("SELECT 1").expect("a small one");
    client.close_statement(kept[0]).expect("no answer");
    client.prepare(&text(42)).expect("in its place");
    client.reset().expect("an OK");
    client.prepare(&text(43)).expect("after a reset");
}
