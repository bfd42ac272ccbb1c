//! What an operator can read of what clients were told: each error's number is in a log line, whatever core
//! the client is on; who cannot be understood gets an error and a line; floods are counts.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use support::{
    Chaos, Client, ClientError, Gateway, Login, MariaDb, NullServer, Shape, loopback, wait_for,
};

const PATIENCE: Duration = Duration::from_secs(10);
const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";

/// Checks that the error is `reason`, carries the number that the client was told in its greeting, and that
/// a line has both.
fn has_line(gateway: &Gateway, error: &ClientError, reason: &str, client: Option<u32>) {
    let (told, number) = error
        .reason()
        .unwrap_or_else(|| panic!("{reason}: {error}"));
    assert_eq!(told, reason, "{error}");
    if let Some(client) = client {
        assert_eq!(number, client.to_string(), "{error}");
    }
    let line = gateway.line_with(&[("reason", reason), ("client", number)]);
    assert_eq!(line.get("event"), "client told");
    assert_eq!(line.get("errno"), error.errno().to_string());
}

/// Fails `sql` and checks its line.
fn fails(gateway: &Gateway, client: &mut Client, sql: &str, reason: &str) {
    let error = client.query(sql).map(|_| ()).expect_err(sql);
    has_line(gateway, &error, reason, Some(client.thread_id));
}

#[test]
fn the_number_of_an_error_is_in_the_log_on_every_core() {
    let server = MariaDb::with_test_schema(TABLE);
    for core in [0, 1] {
        let shape = Shape {
            budget: 2,
            cores: 2,
            pools: "waiters_max = 1",
            extra: "[deadlines]\nconnect = \"500ms\"\nconnect_total = \"500ms\"\npool_wait = \"700ms\"\nstatement = \"2s\"\n",
        };
        let gateway = Gateway::in_shape(server.port(), &shape);
        let mut client = gateway.client_on(core);
        fails(&gateway, &mut client, "KILL 1", "kill_refused");
        fails(&gateway, &mut client, "", "empty_query");
        let error = client.run_raw(0x1d, b"").map(|_| ()).expect_err("unknown");
        has_line(&gateway, &error, "unknown_command", Some(client.thread_id));
        fails(
            &gateway,
            &mut client,
            "SELECT SLEEP(9)",
            "statement_deadline",
        );
        let write = "INSERT INTO t SELECT 9 FROM (SELECT SLEEP(9)) AS s";
        fails(&gateway, &mut client, write, "deadline_unknown");
        // Both connections of the budget are held.
        let mut holders = [gateway.client_on(core), gateway.client_on(core)];
        for holder in &mut holders {
            // What was killed may hold its place for a moment still.
            let begins = wait_for(PATIENCE, || holder.query("BEGIN").is_ok());
            assert!(begins, "no transaction:\n{}", gateway.log());
            holder.query("SELECT * FROM t").expect("a snapshot");
        }
        fails(&gateway, &mut client, "SELECT 1", "pool_wait");
        let mut waiter = gateway.client_on(core);
        waiter.send_query("SELECT 1").expect("a write");
        let waits = || gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
        assert!(wait_for(PATIENCE, waits), "nobody waits");
        fails(&gateway, &mut client, "SELECT 1", "pool_full");
        waiter.read_query().map(|_| ()).expect_err("pool_wait");
        let id = holders[0].thread_id;
        for thread in server
            .sql("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'rg'")
            .split_whitespace()
        {
            server.sql(&format!("KILL {thread}"));
        }
        let error = holders[0].query("SELECT 1").map(|_| ()).expect_err("lost");
        has_line(&gateway, &error, "session_lost", Some(id));
        gateway.lines();
    }
}

#[test]
fn without_a_server_and_without_a_place_too() {
    let server = NullServer::start(&["mysql"]);
    let refused = support::free_port();
    let gateway = Gateway::in_shape(
        refused,
        &Shape {
            cores: 2,
            ..Shape::default()
        },
    );
    for core in [0, 1] {
        let mut client = gateway.client_on(core);
        fails(&gateway, &mut client, "SELECT 1", "no_endpoint");
        let named = Login {
            schema: "test".to_owned(),
            ..gateway.login()
        };
        let error = Client::connect(&named).err().expect("no server");
        has_line(&gateway, &error, "no_endpoint", None);
    }
    let address = format!("127.0.0.1:{refused}");
    gateway.line_with(&[("event", "upstream connect failed"), ("endpoint", &address)]);
    for (section, reason) in [
        ("[tenants.a]\n", "tenant_limit"),
        ("[listeners.main]\n", "admission_limit"),
    ] {
        let gateway = Gateway::start(|ports| {
            let text = Shape::default().config(ports, server.port());
            text.replace(section, &format!("{section}connections_max = 1\n"))
        });
        let _first = gateway.client();
        let error = Client::connect(&gateway.login())
            .err()
            .expect("one too many");
        has_line(&gateway, &error, reason, None);
    }
}

#[test]
fn an_idle_client_and_a_drain_have_their_lines() {
    let server = NullServer::start(&["mysql"]);
    let shape = Shape {
        extra: "[deadlines]\nidle_client = \"300ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let client = gateway.client();
    let number = client.thread_id.to_string();
    gateway.line_with(&[("reason", "idle_client"), ("client", &number)]);
    let mut gateway = Gateway::in_shape(server.port(), &Shape::default());
    let client = gateway.client();
    let number = client.thread_id.to_string();
    gateway.signal("TERM");
    gateway.line_with(&[("reason", "drain"), ("client", &number)]);
    gateway.wait_for_exit(PATIENCE);
    gateway.lines();
}

/// The error that somebody at the MySQL port is told behind the greeting.
fn hears(gateway: &Gateway, says: &[u8], is_leaving: bool) -> String {
    match &hears_bytes(gateway, says, is_leaving)[..] {
        [_, _, _, _, 0xff, low, high, text @ ..] => {
            let errno = u16::from_le_bytes([*low, *high]);
            format!("{errno} {}", String::from_utf8_lossy(text))
        }
        _ => String::new(),
    }
}

/// What somebody at the MySQL port is told behind the greeting.
fn hears_bytes(gateway: &Gateway, says: &[u8], is_leaving: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(loopback(gateway.port())).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(says).expect("a write");
    if is_leaving {
        stream.shutdown(Shutdown::Write).expect("a socket");
    }
    let mut heard = Vec::new();
    // A reset behind what was said is an end like any other.
    let _ = stream.read_to_end(&mut heard);
    let header = usize::from(heard[0]) + usize::from(heard[1]) * 256;
    heard.split_off(heard.len().min(4 + header))
}

/// What one says, whether it leaves then, the number that it is told, the close reason, and what it was heard as.
type Case<'a> = (&'a [u8], bool, &'a str, &'a str, &'a str);

/// Somebody is told so, and has its line.
fn is_told_and_logged(gateway: &Gateway, case: Case<'_>) {
    let (says, is_leaving, errno, reason, heard) = case;
    let before = gateway.lines().len();
    let label = format!("reason=\"{reason}\"");
    let closed = || {
        let closed = gateway.metric("ringgate_connections_closed_total", &[&label]);
        closed.round()
    };
    let closed_before = closed();
    let begun = Instant::now();
    let told = hears(gateway, says, is_leaving);
    let is_prompt = begun.elapsed() < Duration::from_millis(2_500);
    assert!(
        is_prompt || errno == "1159",
        "{heard}: {:?}",
        begun.elapsed()
    );
    assert!(told.starts_with(errno), "{heard}: {told}");
    assert_eq!(told.is_empty(), errno.is_empty(), "{heard}: {told}");
    let mut line = None;
    wait_for(PATIENCE, || {
        let lines = gateway.lines().split_off(before);
        line = lines
            .into_iter()
            .find(|line| line.get("event") == "login ended");
        line.is_some()
    });
    let line = line.unwrap_or_else(|| panic!("{heard}:\n{}", gateway.log()));
    let word = match errno {
        "1043" => "bad_handshake",
        "1159" => "login_timeout",
        _ => "",
    };
    let expect = [
        ("reason", reason),
        ("heard", heard),
        ("errno", errno),
        ("told", word),
    ];
    assert!(line.has(&expect), "{line:?}");
    assert!(
        told.contains(&format!("[ringgate {word}")) || word.is_empty(),
        "{told}"
    );
    // Who only looks whether somebody listens does so all the time.
    let is_a_look = (reason, heard) == ("client_gone", "nothing");
    let level = if is_a_look { "debug" } else { "info" };
    assert_eq!(line.get("level"), level, "{line:?}");
    assert!(line.get("peer").starts_with("127.0.0.1:"), "{line:?}");
    let is_named = told.ends_with(&format!(" {}]", line.get("client")));
    assert!(is_named || errno.is_empty(), "{told}: {line:?}");
    let counted = || closed() >= closed_before + 1.0;
    assert!(wait_for(PATIENCE, counted), "{label}");
    assert_eq!(closed(), closed_before + 1.0, "{label}");
}

#[test]
fn who_cannot_be_understood_gets_an_error_and_a_line() {
    let server = NullServer::start(&["mysql"]);
    let shape = Shape {
        extra: "[deadlines]\nlogin = \"3s\"\n[logging]\nlevel = \"debug\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    // A ClientHello of 512 bytes and one of 1,500, of which the start has come.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    let longer = [&[0x16, 3, 1, 5, 0xdc, 1, 0, 5, 0xd8, 3, 3][..], &[7; 200]].concat();
    let cases: &[Case<'_>] = &[
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            false,
            "1043",
            "client_protocol",
            "http",
        ),
        (
            b"POST / HTTP/1.1\r\n",
            false,
            "1043",
            "client_protocol",
            "http",
        ),
        (&hello, false, "1043", "client_protocol", "tls"),
        (&longer, false, "1043", "client_protocol", "tls"),
        (&[0xff; 300], false, "1043", "client_protocol", "bytes"),
        (b"SSH-2.0-x\r\n", false, "1043", "client_protocol", "bytes"),
        (b"", false, "1159", "login_timeout", "nothing"),
        (&[9, 0], false, "1159", "login_timeout", "bytes"),
        (b"", true, "", "client_gone", "nothing"),
        (&[9, 0, 0, 1, 5], true, "", "client_gone", "bytes"),
    ];
    for case in cases {
        is_told_and_logged(&gateway, *case);
    }
    // A packet that is one, and no login.
    let told = hears(&gateway, &[4, 0, 0, 1, 0, 0, 0, 0], false);
    assert!(told.starts_with("1043 "), "{told}");
    let expect = [("errno", "1043"), ("told", "bad_handshake")];
    gateway.line_with(&[&[("event", "login denied")][..], &expect].concat());
    let told = hears(&gateway, &[4, 0, 0, 9, 0, 0, 0, 0], false);
    assert!(told.starts_with("1156 "), "{told}");
    let expect = [("errno", "1156"), ("told", "out_of_order")];
    gateway.line_with(&[&[("event", "login denied")][..], &expect].concat());
    let _served = gateway.client();
}

/// A login of 790 bytes begins as a TLS record does, with 0x16 and 0x03.
#[test]
fn a_login_of_any_length_is_one() {
    let server = NullServer::start(&["mysql"]);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    for length in [789_u16, 790, 791] {
        // CLIENT_PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH and CONNECT_ATTRS, without an answer to the
        // greeting, and one attribute that is as long as is left.
        let mut body = 0x0018_8200_u32.to_le_bytes().to_vec();
        body.resize(32, 0);
        body.extend_from_slice(b"a\0\0caching_sha2_password\0");
        let left = length - u16::try_from(body.len()).expect("a length") - 3;
        for (prefix, length) in [(&b""[..], left), (b"\x01k", left - 5)] {
            body.extend_from_slice(prefix);
            body.push(0xfc);
            body.extend_from_slice(&length.to_le_bytes());
        }
        body.resize(usize::from(length), b'v');
        let header = u32::from(length) | 1 << 24;
        let said = [&header.to_le_bytes()[..], &body].concat();
        let told = hears_bytes(&gateway, &said, true);
        assert_eq!(told.get(4), Some(&0xfe), "{length}: {told:?}");
        let asked = String::from_utf8_lossy(&told);
        assert!(asked.contains("caching_sha2_password"), "{length}: {asked}");
    }
}

/// Behind its password too, while the server is asked for its schema.
#[test]
fn a_client_that_leaves_while_its_schema_is_entered_has_a_line() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    // Before the gateway: it resets the client's connection.
    let chaos = Chaos::start(gateway.port());
    server.pause();
    let named = Login {
        schema: "test".to_owned(),
        port: chaos.port(),
        ..gateway.login()
    };
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| Client::connect(&named).map(|_| ()));
        let asks = || gateway.metric("ringgate_upstream_connections_connecting", &[]) > 0.5;
        assert!(wait_for(PATIENCE, asks), "nobody asks");
        chaos.reset_all();
        entering.join().expect("no panic").expect_err("cut");
    });
    let line = gateway.line_with(&[
        ("event", "login ended"),
        ("reason", "client_gone"),
        ("tenant", "a"),
    ]);
    assert!(line.get("peer").starts_with("127.0.0.1:"), "{line:?}");
}

/// How many lines of an event there are, and how many more are said to have been left out.
fn counted(gateway: &Gateway, event: &str) -> (usize, usize) {
    let lines = gateway.lines();
    let written = lines
        .iter()
        .filter(|line| line.get("event") == event)
        .count();
    let of = |line: &&support::LogLine| line.has(&[("event", "lines left out"), ("of", event)]);
    let left_out = lines.iter().filter(of);
    let counts = left_out.map(|line| line.get("count").parse::<usize>().expect("a count"));
    (written, counts.sum())
}

#[test]
fn a_flood_of_a_kind_is_a_few_lines_and_a_count() {
    const MANY: usize = 150;
    let mut gateway = Gateway::in_shape(support::free_port(), &Shape::default());
    let mut client = gateway.client();
    let begun = Instant::now();
    for n in 0..MANY {
        let wrong = Login {
            user: format!("nobody with a name {n}\nlevel=error"),
            ..gateway.login()
        };
        Client::connect(&wrong).err().expect("denied");
        client.query("SELECT 1").map(|_| ()).expect_err("no server");
        hears(&gateway, b"GET / HTTP/1.1\r\n\r\n", false);
    }
    let intervals = usize::try_from(begun.elapsed().as_secs() / 10).expect("a few") + 1;
    // Told while it goes on.
    let is_told = || counted(&gateway, "login denied").1 > 0;
    assert!(
        wait_for(Duration::from_secs(30), is_told),
        "{}",
        gateway.log()
    );
    gateway.signal("TERM");
    gateway.wait_for_exit(PATIENCE);
    for event in ["login denied", "client told", "login ended"] {
        let (written, left_out) = counted(&gateway, event);
        // The one more is told of the drain.
        let all = MANY..=MANY + 1;
        assert!(
            all.contains(&(written + left_out)),
            "{event}: {written} {left_out}"
        );
        assert!(written <= 10 * intervals + 1, "{event}: {written}");
    }
}
