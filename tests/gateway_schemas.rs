//! A statement runs in its session's state or not at all: on one pooled connection, with sessions in
//! several schemas, and with state that the server refuses to restore.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use support::{Answer, Client, ClientError, Gateway, MariaDb, Shape};

/// `t` with a row, and what empties it.
fn tables(schema: &str) -> Vec<String> {
    [
        "CREATE OR REPLACE DATABASE SCHEMA",
        "CREATE TABLE SCHEMA.t (a INT)",
        "CREATE FUNCTION SCHEMA.f() RETURNS INT MODIFIES SQL DATA \
         BEGIN DELETE FROM t; RETURN 1; END",
        "CREATE VIEW SCHEMA.v AS SELECT SCHEMA.f() AS a",
        "CREATE PROCEDURE SCHEMA.p() DELETE FROM t",
        "INSERT INTO SCHEMA.t VALUES (1)",
    ]
    .map(|sql| sql.replace("SCHEMA", schema))
    .to_vec()
}

const SCHEMAS: [&str; 2] = ["test", "gone"];

fn single() -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema("");
    again(&server);
    let shape = Shape {
        budget: 1,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

fn again(server: &MariaDb) {
    server.run(&SCHEMAS.map(tables).concat());
}

fn rows(server: &MariaDb, schema: &str) -> String {
    let count = server.sql(&format!("SELECT COUNT(*) FROM {schema}.t"));
    count.trim().to_owned()
}

/// A client in `gone`, with the pool's only connection in `test`, where it was before; then `gone` is
/// dropped.
fn in_what_is_gone(
    server: &MariaDb,
    gateway: &Gateway,
    before: impl FnOnce(&mut Client),
) -> Client {
    let mut client = gateway.client();
    client.query("USE gone").expect("a schema");
    client
        .query("SELECT a FROM t")
        .expect("the connection has been there");
    before(&mut client);
    gateway
        .client()
        .query("SELECT a FROM t")
        .expect("and is in another");
    server.sql("DROP DATABASE gone");
    client
}

/// What a text gets in a schema that is gone: servers look for a function nowhere else and do not find it.
fn errno_of(sql: &str) -> u16 {
    if sql.ends_with(" f()") { 1305 } else { 1049 }
}

#[test]
fn a_text_never_runs_in_another_schema_than_its_sessions() {
    let (server, gateway) = single();
    for sql in [
        "DELETE FROM t",
        "INSERT INTO t VALUES (2)",
        "UPDATE t SET a = 3",
        "SELECT f()",
        "SELECT a FROM v",
        "CALL p()",
        "DO f()",
        "TRUNCATE t",
        "DROP TABLE t",
        "/* a */ DELETE FROM t",
        "CREATE TABLE made (a INT)",
        "SELECT 1 INTO OUTFILE 'made'",
        "LOCK TABLES t WRITE",
    ] {
        let mut client = in_what_is_gone(&server, &gateway, |_| {});
        let error = client.query(sql).expect_err(sql);
        assert_eq!(error.errno(), errno_of(sql), "{sql}: {error}");
        assert_eq!(rows(&server, "test"), "1", "{sql}");
        assert_eq!(server.sql("SHOW TABLES FROM test LIKE 'made'"), "", "{sql}");
        again(&server);
    }
}

#[test]
fn a_transaction_does_not_begin_in_another_schema() {
    let (server, gateway) = single();
    for sql in ["BEGIN", "START TRANSACTION"] {
        let mut client = in_what_is_gone(&server, &gateway, |_| {});
        // It needs no schema: as on a connection of its own it begins, in none at all.
        client.query(sql).expect(sql);
        let error = client.query("DELETE FROM t").expect_err("no schema");
        assert_eq!(error.errno(), 1049, "{sql}: {error}");
        client.query("DELETE FROM test.t").expect("a row");
        assert_eq!(rows(&server, "test"), "1", "it is not committed");
        client.query("ROLLBACK").expect("its end");
        assert_eq!(rows(&server, "test"), "1");
        // Nobody gets the connection on which it may have begun before.
        let mut other = gateway.client();
        other.query("INSERT INTO t VALUES (4)").expect("a row");
        assert_eq!(rows(&server, "test"), "2");
        again(&server);
    }
}

#[test]
fn what_was_sent_behind_a_schema_that_is_gone_is_sent_once_more() {
    let (server, gateway) = single();
    for (sql, value) in [("SELECT 1", "1"), ("SELECT DATABASE()", "gone")] {
        let mut client = in_what_is_gone(&server, &gateway, |_| {});
        for _ in 0..2 {
            let answer = client.query_one(sql).expect(sql);
            assert_eq!(answer.text(0, 0).as_deref(), Some(value), "{sql}");
        }
        again(&server);
    }
}

#[test]
fn a_prepared_statement_never_runs_in_another_schema() {
    let (server, gateway) = single();
    for sql in ["DELETE FROM t", "SELECT f()", "INSERT INTO t SELECT 5"] {
        let mut statement = None;
        let prepare = |client: &mut Client| {
            let prepared = client.prepare(sql).expect(sql);
            statement = Some(prepared);
        };
        let mut client = in_what_is_gone(&server, &gateway, prepare);
        let statement = statement.expect("prepared");
        // Of the first one's outcome nobody knows more than that it touched nothing else.
        for _ in 0..2 {
            client.execute(statement, &[]).expect_err(sql);
            assert_eq!(rows(&server, "test"), "1", "{sql}");
        }
        let error = client.execute(statement, &[]).expect_err(sql);
        assert_eq!(error.errno(), errno_of(sql), "{sql}: {error}");
        let error = client.prepare(sql).expect_err(sql);
        assert_eq!(error.errno(), errno_of(sql), "{sql}: {error}");
        again(&server);
    }
}

#[test]
fn sessions_in_two_schemas_take_turns_on_one_connection() {
    let (server, gateway) = single();
    let mut clients = SCHEMAS.map(|schema| {
        let mut client = gateway.client();
        client.query(&format!("USE {schema}")).expect("a schema");
        let insert = client
            .prepare("INSERT INTO t VALUES (?)")
            .expect("prepared");
        let schema_of = client.prepare("SELECT DATABASE()").expect("prepared");
        (client, schema, insert, schema_of)
    });
    for round in 0..20 {
        for (client, schema, insert, schema_of) in &mut clients {
            let answers = match round % 4 {
                0 => client.query_one("INSERT INTO t VALUES (7)"),
                1 => client.execute(*insert, &[b"7"]),
                2 => client.query_one("SELECT DATABASE()"),
                _ => client.execute(*schema_of, &[]),
            };
            let answer = answers.expect("an answer");
            if round % 4 > 1 {
                assert_eq!(answer.text(0, 0).as_deref(), Some(*schema));
            }
        }
    }
    for schema in SCHEMAS {
        assert_eq!(rows(&server, schema), "11", "{schema}");
    }
}

/// A time zone that the server knows until it is taken away and the server starts again.
const ZONE: &str = "INSERT INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (77, 'N'); \
     INSERT INTO mysql.time_zone_transition_type VALUES (77, 0, 3600, 0, 'HERE'); \
     INSERT INTO mysql.time_zone_name VALUES ('Some/Where', 77)";

#[test]
fn a_statement_does_not_run_with_variables_that_the_server_refuses() {
    let (mut server, gateway) = single();
    server.sql(ZONE);
    let run = |client: &mut Client| -> Vec<Result<Answer, ClientError>> {
        let prepared = client.prepare("INSERT INTO t VALUES (9)");
        let executed = prepared.and_then(|statement| client.execute(statement, &[]));
        let mut results = vec![executed];
        for sql in ["INSERT INTO t VALUES (8)", "SELECT f()", "DELETE FROM t"] {
            results.push(client.query_one(sql));
        }
        results
    };
    let mut client = gateway.client();
    client
        .query("SET time_zone = 'Some/Where'")
        .expect("a zone");
    let statement = client.prepare("DELETE FROM t").expect("prepared");
    for result in run(&mut client) {
        result.expect("done");
    }
    server.sql("DELETE FROM mysql.time_zone_name; DELETE FROM mysql.time_zone");
    server.restart();
    for _ in 0..2 {
        // The connection is in the schema already: only the variable is to be restored.
        let mut other = gateway.client();
        other.query("DELETE FROM t").expect("a connection");
        other.query("INSERT INTO t VALUES (1)").expect("a row");
        for result in run(&mut client) {
            let error = result.expect_err("no such zone");
            assert_eq!(error.errno(), 1298, "{error}");
            assert_eq!(rows(&server, "test"), "1");
            other.query("SELECT a FROM t").expect("a connection");
        }
        let error = client.execute(statement, &[]).expect_err("no such zone");
        assert_eq!(error.errno(), 1298, "{error}");
        assert_eq!(rows(&server, "test"), "1");
    }
}
