//! What is sent a second time when its connection is lost: nothing that may have changed anything.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use std::time::Duration;

use support::{Chaos, Client, Gateway, MariaDb, Shape};

const PATIENCE: Duration = Duration::from_secs(10);

/// Whatever calls `f` leaves a row, which no rollback takes away again.
const NOTES: &[&str] = &[
    "CREATE TABLE test.notes (a INT) ENGINE=MyISAM",
    "CREATE TABLE test.t (a INT)",
    "INSERT INTO test.t VALUES (1)",
    "CREATE FUNCTION test.f() RETURNS INT MODIFIES SQL DATA \
     BEGIN INSERT INTO test.notes VALUES (1); RETURN 1; END",
    "CREATE FUNCTION test.slow() RETURNS INT MODIFIES SQL DATA \
     BEGIN INSERT INTO test.notes VALUES (1); RETURN SLEEP(20); END",
    "CREATE FUNCTION test.curdate() RETURNS INT RETURN test.f()",
    "CREATE VIEW test.v AS SELECT test.f() AS a",
    "CREATE VIEW test.w AS SELECT a FROM test.v",
    "CREATE DATABASE other",
    "CREATE TABLE other.t (a INT) ENGINE=InnoDB",
];

/// SELECTs that write, each once.
const WRITING: &[&str] = &[
    "SELECT f()",
    "SELECT test.f()",
    "SELECT `f`()",
    "SELECT f ( ) AS a",
    "SELECT 1 + f()",
    "SELECT curdate ()",
    "SELECT test.curdate()",
    "SELECT a FROM v",
    "SELECT * FROM w",
    "SELECT (SELECT a FROM v)",
    "SELECT 0 UNION SELECT f()",
    "SELECT 1 FROM t WHERE f()",
    "SELECT 1 FROM DUAL WHERE EXISTS (SELECT a FROM w)",
    "WITH c AS (SELECT a FROM v) SELECT a FROM c",
];

fn server() -> MariaDb {
    let server = MariaDb::with_test_schema("");
    server.run(&NOTES.iter().map(ToString::to_string).collect::<Vec<_>>());
    server
}

fn behind_chaos() -> (MariaDb, Chaos, Gateway) {
    let server = server();
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    (server, chaos, gateway)
}

fn notes(server: &MariaDb) -> String {
    let count = server.sql("SELECT COUNT(*) FROM test.notes");
    server.sql("TRUNCATE test.notes");
    count.trim().to_owned()
}

#[test]
fn a_select_that_may_write_is_sent_once_as_text() {
    let (server, chaos, gateway) = behind_chaos();
    let mut client = gateway.client();
    for sql in WRITING {
        client.query("SELECT 1").expect("a connection");
        chaos.cut_after(0);
        let error = client.query(sql).expect_err(sql);
        assert_eq!(error.errno(), 1158, "{sql}: {error}");
        assert_eq!(notes(&server), "1", "{sql}");
    }
}

#[test]
fn a_select_that_may_write_is_sent_once_as_a_prepared_statement() {
    let (server, chaos, gateway) = behind_chaos();
    let mut client = gateway.client();
    for sql in WRITING {
        let statement = client.prepare(sql).expect(sql);
        client.execute(statement, &[]).expect(sql);
        assert_eq!(notes(&server), "1", "{sql}");
        chaos.cut_after(0);
        let error = client.execute(statement, &[]).expect_err(sql);
        assert_eq!(error.errno(), 1158, "{sql}: {error}");
        assert_eq!(notes(&server), "1", "{sql}");
    }
}

#[test]
fn what_names_nothing_of_a_users_is_sent_again() {
    let (_server, chaos, gateway) = behind_chaos();
    let mut client = gateway.client();
    let statement = client.prepare("SELECT CONCAT(?, '!')").expect("prepared");
    client.execute(statement, &[b"a"]).expect("a row");
    for sql in [
        "SELECT 2",
        "/* ping */ SELECT 2",
        "SELECT @@max_connections",
    ] {
        client.query(sql).expect("a row");
        chaos.cut_after(0);
        client.query(sql).expect("a row of another connection");
        assert!(!chaos.disarm(), "{sql}: the cut has happened");
    }
    client.execute(statement, &[b"b"]).expect("a row");
    chaos.cut_after(0);
    let answer = client.execute(statement, &[b"c"]).expect("a row");
    assert_eq!(answer.text(0, 0).as_deref(), Some("c!"));
    assert!(!chaos.disarm(), "the cut has happened");
}

/// Kills the connection that runs a statement with `mark` in it, as an operator does.
fn kill(server: &MariaDb, mark: &str) {
    assert!(server.runs(mark, PATIENCE), "{mark} does not run");
    let id = server.sql(&format!(
        "SELECT ID FROM information_schema.PROCESSLIST \
         WHERE INFO LIKE '%{mark}%' AND ID <> CONNECTION_ID() LIMIT 1"
    ));
    server.sql(&format!("KILL CONNECTION {}", id.trim()));
}

#[test]
fn a_killed_statement_does_not_come_back() {
    let server = server();
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    let mut client = gateway.client();
    for (sql, count) in [
        ("SELECT slow(), 'mark'", "1"),
        ("SELECT SLEEP(20), 'mark'", "0"),
        ("SELECT SLEEP(20) + a, 'mark' FROM t", "0"),
        ("SELECT BENCHMARK(900000000, MD5('mark'))", "0"),
    ] {
        client.send_query(sql).expect("a write");
        kill(&server, "mark");
        let error = client.read_query().expect_err(sql);
        assert!(
            matches!(error.errno(), 1158 | 1317 | 1927),
            "{sql}: {error}"
        );
        std::thread::sleep(Duration::from_millis(300));
        assert!(!server.runs("mark", Duration::ZERO), "{sql}: runs again");
        assert_eq!(notes(&server), count, "{sql}");
    }
}

fn in_schema(gateway: &Gateway, schema: &str) -> Client {
    let mut client = gateway.client();
    client.query(&format!("USE {schema}")).expect("a schema");
    client
}

#[test]
fn a_write_of_which_not_a_byte_was_sent_is_done_on_another_connection() {
    let server = server();
    let chaos = Chaos::start(server.port());
    let shape = Shape {
        budget: 1,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    let mut here = gateway.client();
    let mut there = in_schema(&gateway, "other");
    let statement = there.prepare("INSERT INTO t VALUES (?)").expect("prepared");
    for (text, count) in [(true, "1"), (false, "2")] {
        here.query("SELECT 1").expect("the connection is here");
        // The answer to the change of schema, or to the PREPARE, is what gets lost.
        chaos.cut_after(0);
        let inserted = match text {
            true => there.query_one("INSERT INTO t VALUES (5)"),
            false => {
                here.query("DO 0").expect_err("a write that is lost");
                here.query("SELECT 1").expect("a new connection");
                chaos.cut_after(0);
                there.execute(statement, &[b"6"])
            }
        };
        assert_eq!(inserted.expect("a row").affected, 1);
        assert!(!chaos.disarm(), "the cut has happened");
        let rows = server.sql("SELECT COUNT(*) FROM other.t");
        assert_eq!(rows.trim(), count);
    }
}
