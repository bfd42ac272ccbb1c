//! Servers that die, hang or refuse, behind a running gateway: what a client is told, how soon, and
//! whether its connection lives on.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::time::{Duration, Instant};

use support::{ACCOUNT, Chaos, Client, ClientError, Gateway, Login, MariaDb, MariaDbOptions};
use support::{PASSWORD, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
/// What a deadline may be missed by.
const SLACK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);

fn pair(extra: &str) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        extra,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

/// The error number of a statement that must fail, and how long it took.
fn fails(client: &mut Client, sql: &str) -> (u16, Duration) {
    let begun = Instant::now();
    match client.query(sql) {
        Ok(_) => panic!("{sql} succeeded"),
        Err(ClientError::Server { errno, .. }) => (errno, begun.elapsed()),
        Err(error) => panic!("{sql}: {error}"),
    }
}

fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.query_one(sql);
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer.text(0, 0).expect("a value")
}

/// Kills the server while `sql` runs; the client's answer, and how soon after the death.
fn killed_during(
    server: &mut MariaDb,
    client: &mut Client,
    sql: &str,
    mark: &str,
) -> (Result<Vec<support::Answer>, ClientError>, Duration) {
    client.send_query(sql).expect("a write");
    assert!(server.runs(mark, PATIENCE), "{sql} does not run");
    server.kill9();
    let begun = Instant::now();
    let answer = client.read_query().map(|answer| vec![answer]);
    (answer, begun.elapsed())
}

#[test]
fn a_server_that_died_while_idle_in_the_pool_is_not_noticed() {
    let (mut server, gateway) = pair("");
    let mut client = gateway.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    server.restart();
    assert_eq!(value(&mut client, "SELECT 2"), "2");
    server.restart();
    let inserted = client
        .query_one("INSERT INTO t VALUES (1)")
        .expect("a new connection");
    assert_eq!(inserted.affected, 1);
}

#[test]
fn a_write_without_an_answer_has_an_unknown_outcome() {
    let (mut server, gateway) = pair("");
    let mut client = gateway.client();
    let sql = "INSERT INTO t SELECT 7 FROM (SELECT SLEEP(30)) AS s";
    let (answer, took) = killed_during(&mut server, &mut client, sql, "SLEEP(30)");
    let error = answer.expect_err("no answer came");
    assert_eq!(error.errno(), 1158, "{error}");
    assert!(error.to_string().contains("outcome unknown"), "{error}");
    assert!(took < SLACK, "{took:?}");
    server.restart();
    assert!(
        wait_for(Duration::from_secs(3), || client.query("SELECT 1").is_ok()),
        "the connection was kept"
    );
}

#[test]
fn a_read_without_an_answer_is_repeated_once_by_another_connection() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    let mut client = gateway.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    chaos.cut_after(0);
    assert_eq!(value(&mut client, "SELECT 2"), "2");
    assert!(!chaos.disarm(), "the cut has happened");
    chaos.cut_after(0);
    let (errno, _) = fails(&mut client, "INSERT INTO t VALUES (5)");
    assert_eq!(errno, 1158, "a write is never repeated");
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "1");
}

#[test]
fn a_transaction_ends_with_its_server() {
    let (mut server, gateway) = pair("");
    let mut busy = gateway.client();
    let mut idle = gateway.client();
    for client in [&mut busy, &mut idle] {
        client.query("BEGIN").expect("a transaction");
    }
    busy.query("INSERT INTO t VALUES (1)").expect("a row");
    idle.query("INSERT INTO t VALUES (2)").expect("a row");
    let sql = "INSERT INTO t SELECT 7 FROM (SELECT SLEEP(30)) AS s";
    let (answer, took) = killed_during(&mut server, &mut busy, sql, "SLEEP(30)");
    assert_eq!(answer.expect_err("lost").errno(), 1053);
    assert!(took < SLACK, "{took:?}");
    assert!(busy.is_ended_within(PATIENCE));
    // The other one asks only when the server is back: its rows are gone, and it is told so.
    server.restart();
    assert_eq!(fails(&mut idle, "COMMIT").0, 1053);
    assert!(idle.is_ended_within(PATIENCE));
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "0");
}

#[test]
fn a_prepared_statement_outlives_its_server() {
    let (mut server, gateway) = pair("");
    let mut client = gateway.client();
    let statement = client.prepare("SELECT CONCAT(?, '!')").expect("prepared");
    assert_eq!(
        client
            .execute(statement, &[b"a"])
            .expect("a row")
            .text(0, 0)
            .as_deref(),
        Some("a!")
    );
    server.restart();
    let answer = client.execute(statement, &[b"b"]).expect("prepared again");
    assert_eq!(answer.text(0, 0).as_deref(), Some("b!"));
    let unused = client.prepare("SELECT CONCAT(?, '?')").expect("prepared");
    server.restart();
    let answer = client.execute(unused, &[b"c"]).expect("prepared again");
    assert_eq!(answer.text(0, 0).as_deref(), Some("c?"));
}

/// How a cut answer looked to the client.
#[derive(Debug, Default)]
struct Cuts {
    repeated: u32,
    told: u32,
    reset: u32,
}

/// Cuts the answer to a read after every number of bytes.
fn cut_everywhere(login: &Login, chaos: &Chaos, sql: &str, length: usize) -> Cuts {
    let mut cuts = Cuts::default();
    let mut client: Option<Client> = None;
    for at in 0..length {
        let mut current = client
            .take()
            .unwrap_or_else(|| Client::connect(login).expect("a login"));
        let whole = current.query_one(sql).expect("an answer").rows;
        chaos.cut_after(at);
        match current.query_one(sql) {
            Ok(answer) => {
                // Complete or nothing: a part must never look like the whole.
                assert_eq!(answer.rows, whole, "cut at {at}");
                cuts.repeated += 1;
                client = Some(current);
            }
            Err(ClientError::Server { errno, .. }) => {
                assert_eq!(errno, 1053, "cut at {at}");
                assert!(current.is_ended_within(PATIENCE));
                cuts.told += 1;
            }
            Err(ClientError::Io(_)) => cuts.reset += 1,
            Err(error @ ClientError::Protocol(_)) => panic!("cut at {at}: {error}"),
        }
        assert!(!chaos.disarm(), "cut at {at} has happened");
    }
    cuts
}

#[test]
fn an_answer_cut_at_any_byte_is_never_taken_for_the_whole() {
    let server = MariaDb::with_test_schema("");
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    let sql = "SELECT 'a' AS x UNION ALL SELECT 'bb' UNION ALL SELECT 'ccc'";
    for deprecate_eof in [false, true] {
        let login = Login {
            deprecate_eof,
            ..gateway.login()
        };
        // What the server says, which is what is cut: clients with legacy EOFs are given more.
        let mut direct = server.client();
        direct.send_query(sql).expect("a write");
        std::thread::sleep(Duration::from_millis(200));
        let length = direct.read_raw(4096).expect("the answer");
        let cuts = cut_everywhere(&login, &chaos, sql, length);
        eprintln!("{length} bytes, deprecate_eof {deprecate_eof}: {cuts:?}");
        assert!(
            cuts.told > 3 && cuts.reset > 3 && cuts.repeated > 0,
            "{cuts:?}"
        );
    }
}

#[test]
fn a_row_of_16_mib_cut_by_a_kill_is_reset() {
    let (mut server, gateway) = pair("");
    let mut client = gateway.client();
    let sql = "SELECT REPEAT('x', 60000000)";
    client.send_query(sql).expect("a write");
    client.read_raw(1000).expect("the beginning");
    server.kill9();
    let begun = Instant::now();
    let mut bytes = 0_usize;
    let end = loop {
        match client.read_raw(1 << 20) {
            Ok(0) => break None,
            Ok(count) => bytes += count,
            Err(error) => break Some(error),
        }
    };
    eprintln!("{bytes} bytes, then {end:?} after {:?}", begun.elapsed());
    assert!(bytes < 60_000_000, "the answer was whole");
    assert!(
        end.is_some(),
        "a packet's middle is no place for an orderly end"
    );
}

#[test]
fn a_refusing_server_is_answered_for_and_found_again() {
    let (mut server, gateway) = pair("");
    let mut client = gateway.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    server.kill9();
    let down = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut answers = 0;
    while down.elapsed() < Duration::from_secs(6) {
        let (errno, took) = fails(&mut client, "SELECT 1");
        assert_eq!(errno, 3168);
        slowest = slowest.max(took);
        answers += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let failures = gateway.metric("ringgate_upstream_connect_failures_total", &[]);
    server.restart();
    let back = Instant::now();
    let recovered = wait_for(PATIENCE, || client.query("SELECT 1").is_ok());
    let after = back.elapsed();
    eprintln!("{answers} refusals, slowest {slowest:?}, {failures} connects tried, back {after:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!((2.0..=40.0).contains(&failures), "backs off: {failures}");
    assert!(recovered && after < Duration::from_secs(2), "{after:?}");
}

#[test]
fn a_hanging_server_meets_the_statement_deadline() {
    let (server, gateway) = pair("[deadlines]\nstatement = \"500ms\"\n");
    let mut client = gateway.client();
    let mut writer = gateway.client();
    // The one holds a connection, so that the other's statement leaves a second one in the pool.
    writer.query("BEGIN").expect("a transaction");
    writer.query("SELECT * FROM t").expect("a snapshot");
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    server.pause();
    let (errno, took) = fails(&mut client, "SELECT 2");
    assert_eq!(errno, 3024);
    let limits = Duration::from_millis(490)..Duration::from_millis(500) + SLACK;
    assert!(limits.contains(&took), "{took:?}");
    // State is lost with the connection: this client cannot be kept.
    assert_eq!(fails(&mut writer, "INSERT INTO t VALUES (1)").0, 3024);
    assert!(writer.is_ended_within(PATIENCE));
    server.resume();
    let answered = wait_for(PATIENCE, || match client.query_one("SELECT 3") {
        Ok(answer) => {
            assert_eq!(
                answer.text(0, 0).as_deref(),
                Some("3"),
                "not the late answer"
            );
            true
        }
        Err(error) => {
            assert!([3024, 3168].contains(&error.errno()), "{error}");
            false
        }
    });
    assert!(answered);
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "0");
}

#[test]
fn an_exhausted_budget_is_waited_for_and_then_told() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 1,
        pools: "waiters_max = 1",
        extra: "[deadlines]\npool_wait = \"2s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut holder = gateway.client();
    holder.query("BEGIN").expect("a transaction");
    holder.query("SELECT * FROM t").expect("a snapshot");
    let mut waiter = gateway.client();
    let (errno, took) = fails(&mut waiter, "SELECT 1");
    assert_eq!(errno, 3168);
    let limits = Duration::from_millis(1_990)..Duration::from_secs(2) + SLACK;
    assert!(limits.contains(&took), "{took:?}");
    // One waits: the queue is full for the next one, until the first has left.
    let mut leaver = gateway.client();
    leaver.send_query("SELECT 1").expect("a write");
    let waiting = || gateway.metric("ringgate_leases_waiting", &[]);
    assert!(wait_for(PATIENCE, || waiting() > 0.5), "nobody waits");
    let (errno, took) = fails(&mut waiter, "SELECT 1");
    assert_eq!(errno, 3168);
    assert!(took < Duration::from_millis(500), "{took:?}");
    drop(leaver);
    assert!(
        wait_for(PATIENCE, || waiting() < 0.5),
        "its place stays taken"
    );
    waiter.send_query("SELECT 4").expect("a write");
    assert!(wait_for(PATIENCE, || waiting() > 0.5), "nobody waits");
    holder.query("COMMIT").expect("committed");
    let answer = waiter.read_query().expect("the connection came");
    assert_eq!(answer.text(0, 0).as_deref(), Some("4"));
    assert_eq!(server.connections_of(ACCOUNT), 1);
}

#[test]
fn a_full_server_is_answered_for_and_tried_again() {
    let server = MariaDb::start(MariaDbOptions {
        arguments: vec!["--max-connections=10".to_owned()],
        init_sql: "CREATE DATABASE IF NOT EXISTS test;".to_owned(),
    });
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    let direct = Login {
        port: server.port(),
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned(),
        ..gateway.login()
    };
    // The version probe of the node comes and goes; take what it leaves too.
    let mut others = Vec::new();
    let full = wait_for(PATIENCE, || match Client::connect(&direct) {
        Ok(client) => {
            others.push(client);
            false
        }
        Err(error) => error.errno() == 1040 && others.len() >= 10,
    });
    assert!(full, "{} connections", others.len());
    let mut client = gateway.client();
    let (errno, took) = fails(&mut client, "SELECT 1");
    assert_eq!(errno, 3168);
    assert!(took < Duration::from_secs(3) + SLACK, "{took:?}");
    others.clear();
    let freed = Instant::now();
    assert!(wait_for(PATIENCE, || client.query("SELECT 1").is_ok()));
    let after = freed.elapsed();
    eprintln!("told after {took:?}, back after {after:?}");
    assert!(after < Duration::from_secs(2), "{after:?}");
}

#[test]
fn one_lost_login_fails_nobody_who_can_wait() {
    let server = MariaDb::with_test_schema(TABLE);
    // Nothing, a part of the greeting, the greeting alone.
    for bytes in [0, 20, 100] {
        let chaos = Chaos::start(server.port());
        let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
        // The gateway itself asks for the server's version.
        gateway.line_with(&[("event", "server_version_learned")]);
        chaos.cut_after(bytes);
        // Which needs an answer of the server's.
        let named = Login {
            schema: "test".to_owned(),
            ..gateway.login()
        };
        let mut client = Client::connect(&named).expect("a login");
        assert_eq!(value(&mut client, "SELECT 1"), "1", "{bytes}");
        assert!(!chaos.disarm(), "{bytes}: nothing was cut");
        let failures = gateway.metric("ringgate_upstream_connect_failures_total", &[]);
        assert!((0.5..1.5).contains(&failures), "{bytes}: {failures}");
        let line = gateway.line_with(&[("event", "endpoint is back")]);
        assert_eq!(line.get("failures"), "1");
        // All connections but the one that a transaction has.
        client.query("BEGIN").expect("a transaction");
        chaos.cut_after(bytes);
        let mut other = gateway.client();
        assert_eq!(value(&mut other, "SELECT 2"), "2", "{bytes}");
        assert!(!chaos.disarm(), "{bytes}: nothing was cut");
    }
}

#[test]
fn a_login_that_is_reset_fails_nobody_who_can_wait() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    gateway.line_with(&[("event", "server_version_learned")]);
    chaos.stall();
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(|| gateway.client().query("INSERT INTO t VALUES (1)").map(drop));
        let connecting = || gateway.metric("ringgate_upstream_connections_connecting", &[]) > 0.5;
        assert!(wait_for(PATIENCE, connecting), "nothing connects");
        chaos.reset_all();
        chaos.flow();
        writing.join().expect("no panic")
    });
    written.expect("the next attempt");
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "1");
    let failures = gateway.metric("ringgate_upstream_connect_failures_total", &[]);
    assert!((0.5..1.5).contains(&failures), "{failures}");
}

#[test]
fn an_endpoint_that_loses_every_login_is_answered_for() {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // Ends with the process: nobody connects any more.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let gateway = Gateway::in_shape(port, &Shape::default());
    let mut client = gateway.client();
    let (errno, took) = fails(&mut client, "SELECT 1");
    assert_eq!(errno, 3168);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    let (_, took) = fails(&mut client, "SELECT 1");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}
