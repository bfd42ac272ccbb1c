//! Commands without a reply, COM_STMT_SEND_LONG_DATA and COM_STMT_CLOSE: what goes wrong with one is
//! told at the next command that has a reply, and no answer is ever taken for another one's.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::time::{Duration, Instant};

use support::{Chaos, Client, Gateway, MariaDb, Shape, Statement, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a LONGTEXT) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(10);
/// What a deadline may be missed by.
const SLACK: Duration = Duration::from_millis(250);

/// A statement prepared on one connection, and a client of which the next long data goes over
/// another one, so that it waits for a PREPARE there. `holder` has the first one.
struct Scene {
    client: Client,
    statement: Statement,
    holder: Client,
}

impl Scene {
    fn new(gateway: &Gateway) -> Self {
        let mut client = gateway.client();
        let mut holder = gateway.client();
        for each in [&mut client, &mut holder] {
            each.query("BEGIN").expect("a transaction");
            each.query("SELECT * FROM t").expect("a snapshot");
        }
        for each in [&mut client, &mut holder] {
            each.query("COMMIT").expect("two idle connections");
        }
        let statement = client.prepare("SELECT MD5(?)").expect("prepared");
        // The one used last.
        holder.query("BEGIN").expect("a transaction");
        holder.query("SELECT * FROM t").expect("a snapshot");
        Self {
            client,
            statement,
            holder,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let sent = self.client.send_long_data(self.statement, 0, bytes);
        sent.expect("a write");
    }

    fn close_statement(&mut self) {
        let statement = self.statement;
        self.client.close_statement(statement).expect("a write");
    }

    /// Nothing comes by itself; the EXECUTE is answered with `errno`, and the client is closed.
    fn execute_fails_with(mut self, errno: u16) {
        assert!(self.client.is_quiet().expect("a socket"), "nobody asked");
        let error = self.client.execute_long(self.statement);
        let error = error.expect_err("what went ahead is lost");
        assert_eq!(error.errno(), errno, "{error}");
        assert!(self.client.is_ended_within(PATIENCE));
        self.holder.query("SELECT 1").expect("nobody else is");
    }
}

fn failures(gateway: &Gateway, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    gateway.metric("ringgate_exchange_errors_total", &[&label])
}

fn fails_by(gateway: &Gateway, reason: &str) {
    let counted = wait_for(PATIENCE, || failures(gateway, reason) > 0.5);
    assert!(counted, "{reason}: {}", gateway.metrics());
}

#[test]
fn long_data_arrives_whole_on_whatever_connection() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    for length in [1, 100_000, 0xff_ff_ff - 7, 20_000_000] {
        let mut scene = Scene::new(&gateway);
        let piece = vec![b'x'; length];
        scene.send(&piece);
        scene.send(b"end");
        let answer = scene.client.execute_long(scene.statement);
        let answer = answer.unwrap_or_else(|error| panic!("{length}: {error}"));
        let sql = format!("SELECT MD5(CONCAT(REPEAT('x', {length}), 'end'))");
        let expect = server.sql(&sql).trim().to_owned();
        assert_eq!(answer.text(0, 0), Some(expect), "{length}");
        assert!(scene.client.is_quiet().expect("a socket"));
        scene.holder.query("COMMIT").expect("committed");
    }
}

#[test]
fn a_refused_connection_is_told_at_the_execute() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 2,
        extra: "[deadlines]\nconnect = \"200ms\"\npool_wait = \"300ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut scene = Scene::new(&gateway);
    let mut other = gateway.client();
    other.query("BEGIN").expect("a transaction");
    other.query("SELECT * FROM t").expect("the last connection");
    scene.send(b"lost");
    scene.send(b"lost too");
    fails_by(&gateway, "pool_wait");
    scene.execute_fails_with(3168);
}

#[test]
fn a_deadline_is_told_at_the_execute() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    // The second one does not fit into what the sockets on the way take.
    for length in [100, 60_000_000] {
        let before = failures(&gateway, "statement_timeout");
        let mut scene = Scene::new(&gateway);
        server.pause();
        scene.send(&vec![b'x'; length]);
        assert!(wait_for(PATIENCE, || {
            failures(&gateway, "statement_timeout") > before + 0.5
        }));
        server.resume();
        scene.execute_fails_with(3024);
    }
}

#[test]
fn a_lost_connection_is_told_at_the_execute() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    let mut scene = Scene::new(&gateway);
    chaos.cut_after(0);
    scene.send(b"lost");
    fails_by(&gateway, "upstream_lost");
    assert!(!chaos.disarm(), "the cut has happened");
    scene.execute_fails_with(1053);
}

#[test]
fn what_is_owed_is_told_to_no_command_without_a_reply() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    let mut scene = Scene::new(&gateway);
    chaos.cut_after(0);
    scene.send(b"lost");
    fails_by(&gateway, "upstream_lost");
    scene.send(&[b'x'; 200_000]);
    scene.close_statement();
    std::thread::sleep(Duration::from_millis(100));
    scene.execute_fails_with(1053);
}

#[test]
fn a_drain_says_goodbye_and_answers_nothing() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        extra: "[node]\ndrain_grace = \"500ms\"\n",
        ..Shape::default()
    };
    let mut gateway = Gateway::in_shape(server.port(), &shape);
    let mut scene = Scene::new(&gateway);
    server.pause();
    scene.send(b"lost");
    gateway.signal("TERM");
    // As to any client that waits for no answer.
    let goodbye = scene.client.read_goodbye().expect_err("its end");
    assert_eq!(goodbye.errno(), 1053, "{goodbye}");
    assert!(scene.client.is_ended_within(PATIENCE));
    server.resume();
    gateway.wait_for_exit(PATIENCE);
}

#[test]
fn closing_a_statement_waits_for_nothing_and_answers_nothing() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 1,
        extra: "[deadlines]\nconnect = \"200ms\"\npool_wait = \"300ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    let statements: Vec<_> = (0..3)
        .map(|number| {
            client
                .prepare(&format!("SELECT {number}"))
                .expect("prepared")
        })
        .collect();
    let mut holder = gateway.client();
    holder.query("BEGIN").expect("a transaction");
    holder
        .query("SELECT * FROM t")
        .expect("the only connection");
    for statement in &statements {
        client.close_statement(*statement).expect("a write");
    }
    // The next answer is the next command's.
    let error = client.query("SELECT 1").expect_err("no connection");
    assert_eq!(error.errno(), 3168, "{error}");
    let gone = client.execute(statements[0], &[]).expect_err("closed");
    assert_eq!(gone.errno(), 1243, "{gone}");
    assert!(client.is_quiet().expect("a socket"));
    holder.query("COMMIT").expect("committed");
    client.query("SELECT 1").expect("the client was kept");
    assert!(
        failures(&gateway, "pool_wait") < 1.5,
        "the CLOSEs do not count"
    );
}

#[test]
fn a_long_command_past_its_deadline_is_answered_behind_its_last_packet() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    client.query("SELECT 1").expect("a connection is open");
    server.pause();
    let sql = format!("INSERT INTO t VALUES ('{}')", "x".repeat(60_000_000));
    let error = client.query(&sql).expect_err("not before the deadline");
    assert_eq!(error.errno(), 3024, "{error}");
    server.resume();
    let answered = wait_for(PATIENCE, || client.query("SELECT 2").is_ok());
    assert!(answered, "the client was kept");
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "0");
}

#[test]
fn a_statement_waits_no_longer_for_a_connection_than_it_may_take() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 1,
        extra: "[deadlines]\npool_wait = \"3s\"\nstatement = \"500ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut holder = gateway.client();
    let mut waiter = gateway.client();
    holder.query("BEGIN").expect("a transaction");
    holder
        .query("SELECT * FROM t")
        .expect("the only connection");
    let begun = Instant::now();
    let error = waiter.query("SELECT 1").expect_err("no connection");
    let took = begun.elapsed();
    // A quarter of the time is for running.
    assert_eq!(error.errno(), 3168, "{error}");
    let limits = Duration::from_millis(370)..Duration::from_millis(375) + SLACK;
    assert!(limits.contains(&took), "{took:?}");
    // Half of the time is used up by waiting: what is left is the statement's.
    let begun = Instant::now();
    waiter.send_query("SELECT SLEEP(2)").expect("a write");
    std::thread::sleep(Duration::from_millis(250));
    holder.query("COMMIT").expect("the connection is free");
    let error = waiter.read_query().expect_err("too long in sum");
    let took = begun.elapsed();
    assert_eq!(error.errno(), 3024, "{error}");
    let limits = Duration::from_millis(490)..Duration::from_millis(500) + SLACK;
    assert!(limits.contains(&took), "{took:?}");
}
