//! Panics at each step of an exchange, a connect, a kill and a lend, on a budget of two connections: the
//! panic ends what it happened in, and the budget is whole afterwards. A core that cannot go on, as its
//! ring has failed, ends the node.
//!
//! The points are those of a debug build; see `fault` in the source.

#![cfg(debug_assertions)]
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::time::Duration;

use support::{ACCOUNT, Client, Gateway, MariaDb, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(20);
const BUDGET: u32 = 2;

/// A gateway that panics once at `point`.
fn gateway(server: &MariaDb, point: &str, cores: u16) -> Gateway {
    let shape = Shape {
        budget: BUDGET,
        cores,
        pools: "",
        extra: "[node]\nserver_version = \"10.11.6-MariaDB\"\n",
    };
    Gateway::start_with(&[("RINGGATE_TEST_FAULT", point)], |ports| {
        shape.config(ports, server.port())
    })
}

/// Whether the gateway has panicked.
fn has_panicked(gateway: &Gateway) -> bool {
    gateway.metric("ringgate_panics_total", &[]) > 0.5
}

/// Both permits can be used at once, nobody else is counted, and the metrics agree.
fn assert_whole(server: &MariaDb, gateway: &Gateway, point: &str) {
    let settled = wait_for(PATIENCE, || has_panicked(gateway));
    assert!(settled, "{point}: nothing has panicked");
    let of = |name| gateway.metric(name, &[]);
    let mut clients = [gateway.client(), gateway.client()];
    for client in &mut clients {
        // A waiter who was to have the connection that the panic has taken may still be in front.
        let begun = wait_for(PATIENCE, || client.query("BEGIN").is_ok());
        assert!(begun, "{point}: no transaction\n{}", gateway.log());
        let answered = client.query("SELECT * FROM t");
        let log = gateway.log();
        answered.unwrap_or_else(|error| panic!("{point}: {error}\n{log}"));
    }
    // A core tells what it owns when it is asked, and a permit may be on its way between two.
    let expected = [
        ("ringgate_upstream_permits", f64::from(BUDGET)),
        ("ringgate_upstream_connections_leased", f64::from(BUDGET)),
        ("ringgate_upstream_connections_open", f64::from(BUDGET)),
        ("ringgate_upstream_connections_idle", 0.0),
        ("ringgate_upstream_connections_connecting", 0.0),
        ("ringgate_leases_waiting", 0.0),
    ];
    for (name, value) in expected {
        let agrees = wait_for(PATIENCE, || (of(name) - value).abs() < 0.5);
        assert!(agrees, "{point}: {name} is {} and not {value}", of(name));
    }
    // A statement that was not killed runs on at the server, whose connection is closed here.
    let left = server.connections_of(ACCOUNT) - u64::from(is_left_running(server));
    assert_eq!(left, u64::from(BUDGET), "{point}");
    for client in &mut clients {
        client.query("COMMIT").expect("the transaction's end");
    }
    let leased = || of("ringgate_upstream_connections_leased");
    assert!(
        wait_for(PATIENCE, || leased() < 0.5),
        "{point}: {}",
        leased()
    );
    let panics = of("ringgate_panics_total");
    // Each core panics once.
    let most = if point.starts_with("lend.") { 2.5 } else { 1.5 };
    assert!((0.5..most).contains(&panics), "{point}: {panics} panics");
}

/// Whether a statement that was given up runs on.
fn is_left_running(server: &MariaDb) -> bool {
    server.runs("SLEEP(30)", Duration::ZERO)
}

/// Gives up a statement that runs.
fn abandon(server: &MariaDb, gateway: &Gateway) {
    let mut client = gateway.client();
    client.send_query("SELECT SLEEP(30)").expect("a write");
    assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
    client.abort().expect("a reset");
}

fn hold(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.query("BEGIN").expect("a transaction");
    client.query("SELECT * FROM t").expect("a snapshot");
    client
}

#[test]
fn at_each_step_of_an_exchange() {
    let server = MariaDb::with_test_schema(TABLE);
    for point in [
        // The first login asks the server.
        "exchange.leased",
        "exchange.begun",
        "exchange.sent",
        "exchange.reply",
        "exchange.return",
        "exchange.leased:2",
        "exchange.begun:2",
        "exchange.sent:2",
        "exchange.reply:2",
        "exchange.finish",
        "exchange.return:2",
        // Once more in the middle of a session's life, on a connection that has been used.
        "exchange.sent:5",
        "exchange.return:5",
    ] {
        let gateway = gateway(&server, point, 1);
        let login = Client::connect(&gateway.login());
        let is_in_login = !point.contains(':') && point != "exchange.finish";
        assert_eq!(login.is_err(), is_in_login, "{point}\n{}", gateway.log());
        if let Ok(mut client) = login {
            let ended = wait_for(PATIENCE, || client.query("SELECT 1").is_err());
            assert!(ended, "{point}: nothing has happened");
            assert!(client.is_ended_within(PATIENCE), "{point}");
        }
        let reason = "reason=\"panic\"";
        let closed = || gateway.metric("ringgate_upstream_connections_closed_total", &[reason]);
        assert!(wait_for(PATIENCE, || closed() > 0.5), "{point}");
        assert_whole(&server, &gateway, point);
    }
}

#[test]
fn while_a_returned_connection_is_handed_to_who_waits() {
    let server = MariaDb::with_test_schema(TABLE);
    let point = "lease.deliver:3";
    let gateway = gateway(&server, point, 1);
    // The first two deliveries are those of the connects.
    let mut first = hold(&gateway);
    let second = hold(&gateway);
    let mut waiter = gateway.client();
    waiter.send_query("SELECT 1").expect("a write");
    let waiting = || gateway.metric("ringgate_leases_waiting", &[]);
    assert!(wait_for(PATIENCE, || waiting() > 0.5), "nobody waits");
    // Its connection goes to the waiter, and the panic is in its task.
    first.send_query("COMMIT").expect("a write");
    assert!(wait_for(PATIENCE, || has_panicked(&gateway)));
    drop((second, waiter));
    assert_whole(&server, &gateway, point);
}

#[test]
fn at_each_step_of_a_connect_and_a_close() {
    let server = MariaDb::with_test_schema(TABLE);
    for (point, statement) in [
        ("dial.done", "BEGIN"),
        ("cleanse.sent", "BEGIN"),
        ("cleanse.done", "BEGIN"),
        // A role is not undone: its connection is closed.
        ("close.done", "SET ROLE NONE"),
    ] {
        let gateway = gateway(&server, point, 1);
        let mut client = gateway.client();
        // The panic may be in its way.
        client.query(statement).ok();
        drop(client);
        assert_whole(&server, &gateway, point);
    }
}

#[test]
fn at_each_step_of_a_kill() {
    let server = MariaDb::with_test_schema(TABLE);
    for point in ["kill.opened", "kill.sent", "kill.done"] {
        let gateway = gateway(&server, point, 1);
        abandon(&server, &gateway);
        assert_whole(&server, &gateway, point);
        server.sql(&format!("KILL USER {ACCOUNT}"));
    }
}

#[test]
fn with_a_connection_that_a_kill_was_given_before_all_who_wait() {
    let server = MariaDb::with_test_schema(TABLE);
    let point = "kill.waited";
    let gateway = gateway(&server, point, 1);
    let mut other = gateway.client();
    other.send_query("SELECT SLEEP(0.4)").expect("a write");
    assert!(server.runs("SLEEP(0.4)", PATIENCE), "it does not run");
    abandon(&server, &gateway);
    other.read_query().expect("an answer");
    assert_whole(&server, &gateway, point);
}

#[test]
fn at_each_step_of_a_lend() {
    let server = MariaDb::with_test_schema(TABLE);
    for point in ["lend.read_out", "lend.detached", "lend.received"] {
        let gateway = gateway(&server, point, 2);
        // Connections follow those who need them to the other core, and back.
        let panicked = wait_for(PATIENCE, || {
            for core in [0, 1] {
                let mut clients = [gateway.client_on(core), gateway.client_on(core)];
                for client in &mut clients {
                    client.send_query("SELECT SLEEP(0.05)").expect("a write");
                }
                for client in &mut clients {
                    client.read_query().expect("an answer");
                }
            }
            has_panicked(&gateway)
        });
        assert!(panicked, "{point}: {}", gateway.metrics());
        assert_whole(&server, &gateway, point);
    }
}

#[test]
fn a_core_that_cannot_go_on_ends_the_node() {
    let server = MariaDb::with_test_schema(TABLE);
    let failures = [
        ("ring", 1, "the network ring has failed"),
        ("ring", 2, "the network ring has failed"),
        ("messages", 1, "the task that takes messages panicked"),
    ];
    for (point, cores, why) in failures {
        let mut gateway = gateway(&server, point, cores);
        // Somebody in every state: in a transaction, in a statement, waiting, idle, about to log in.
        let _holding = hold(&gateway);
        let mut running = gateway.client();
        running.send_query("SELECT SLEEP(30)").expect("a write");
        assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
        let mut waiting = gateway.client();
        waiting.send_query("SELECT 1").expect("a write");
        let _idle = gateway.client();
        let _silent = std::net::TcpStream::connect(("127.0.0.1", gateway.port()));
        // The question for the metrics is what the cores fail at.
        gateway.metrics();
        let status = gateway.wait_for_exit(PATIENCE);
        let log = gateway.log();
        assert_eq!(status.code(), Some(1), "{point}: {log}");
        assert!(log.contains("event=core_failed"), "{point}: {log}");
        assert!(log.contains(why), "{point}: {log}");
        server.sql(&format!("KILL USER {ACCOUNT}"));
    }
}
