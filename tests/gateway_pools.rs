//! Pools in front of a real server: no connection is used again in a state that its last client left
//! half-way, and the budget holds at the server.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::time::{Duration, Instant};

use support::{ACCOUNT, Chaos, Client, ClientError, Gateway, Login, MariaDb, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY, b INT) ENGINE=InnoDB;\n\
     INSERT INTO test.t VALUES (1, 1), (2, 2);";
const PATIENCE: Duration = Duration::from_secs(10);
/// A rolled-back transaction's locks are free within.
const ROLLBACK: Duration = Duration::from_secs(1);

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leave {
    /// An orderly end of the stream.
    Fin,
    /// A reset.
    Rst,
}

impl Leave {
    const ALL: [Self; 2] = [Self::Fin, Self::Rst];

    fn leave(self, client: Client) {
        match self {
            Self::Fin => drop(client),
            Self::Rst => client.abort().expect("a socket"),
        }
    }
}

/// One upstream connection, so that the next client would have to use a dirty one.
fn single() -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 1,
        extra: "[deadlines]\npool_wait = \"10s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.query_one(sql);
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer.text(0, 0).expect("a value")
}

/// The server's id of the connection that serves this client now.
fn upstream_of(client: &mut Client) -> String {
    let sql =
        "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%mark of a question%'";
    value(client, sql)
}

/// A client does `work` on the only connection and leaves; whether the next one gets that
/// connection, each way of leaving checked against `expect`.
fn check(work: impl Fn(&mut Client, &MariaDb), expect_reuse: bool) {
    let (server, gateway) = single();
    for leave in Leave::ALL {
        let mut client = gateway.client();
        let before = upstream_of(&mut client);
        work(&mut client, &server);
        leave.leave(client);
        let mut next = gateway.client();
        let after = upstream_of(&mut next);
        assert_eq!(before == after, expect_reuse, "{leave:?}: {before} {after}");
        assert_eq!(value(&mut next, "SELECT 'mine'"), "mine", "{leave:?}");
        assert_eq!(
            value(&mut next, "SELECT COUNT(*) FROM t WHERE b > 2"),
            "0",
            "{leave:?}"
        );
        assert!(next.is_quiet().expect("a socket"), "{leave:?}");
    }
}

#[test]
fn a_client_that_leaves_between_statements_leaves_its_connection() {
    check(|client, _| assert_eq!(value(client, "SELECT 5"), "5"), true);
}

#[test]
fn a_connection_is_not_used_again_after_a_client_left_in_mid_statement() {
    let work = |client: &mut Client, server: &MariaDb| {
        client
            .send_query("SELECT SLEEP(3), 'left'")
            .expect("a write");
        assert!(server.runs("SLEEP(3)", PATIENCE), "it does not run");
    };
    check(work, false);
}

#[test]
fn a_connection_is_cleansed_after_a_client_left_in_a_transaction() {
    let work = |client: &mut Client, _: &MariaDb| {
        client.query("BEGIN").expect("a transaction");
        client.query("UPDATE t SET b = 99").expect("a change");
    };
    check(work, true);
}

#[test]
fn a_connection_is_not_used_again_after_a_client_left_in_mid_result() {
    let work = |client: &mut Client, _: &MariaDb| {
        client
            .send_query("SELECT REPEAT('x', 50000000)")
            .expect("a write");
        client.read_raw(1000).expect("the beginning");
    };
    check(work, false);
}

#[test]
fn a_connection_is_not_used_again_after_a_client_left_commands_behind() {
    let work = |client: &mut Client, server: &MariaDb| {
        // As on a server, what was sent before the end is done; the transaction is rolled back.
        let sent = [
            "BEGIN",
            "SELECT SLEEP(1)",
            "UPDATE t SET b = 99",
            "SELECT 'left'",
        ];
        client
            .send_queries(&sent.map(str::to_owned))
            .expect("a write");
        assert!(server.runs("SLEEP(1)", PATIENCE), "it does not run");
    };
    check(work, false);
}

#[test]
fn a_connection_is_cleansed_after_half_a_command() {
    let work = |client: &mut Client, _: &MariaDb| {
        client.query("BEGIN").expect("a transaction");
        client.query("UPDATE t SET b = 99").expect("a change");
        client.send_raw(&[20, 0, 0, 0, 3, b'S']).expect("a write");
    };
    check(work, true);
}

#[test]
fn locks_are_free_soon_after_a_client_left_its_transaction() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    for leave in Leave::ALL {
        let mut holder = gateway.client();
        holder.query("BEGIN").expect("a transaction");
        holder
            .query("UPDATE t SET b = 99 WHERE a = 1")
            .expect("a change");
        let mut other = gateway.client();
        let locked = other.query("SELECT * FROM t WHERE a = 1 FOR UPDATE NOWAIT");
        assert_eq!(locked.expect_err("locked").errno(), 1205);
        let begun = Instant::now();
        leave.leave(holder);
        let free = wait_for(PATIENCE, || {
            other
                .query("SELECT * FROM t WHERE a = 1 FOR UPDATE NOWAIT")
                .is_ok()
        });
        let took = begun.elapsed();
        eprintln!("{leave:?}: free after {took:?}");
        assert!(free && took < ROLLBACK, "{leave:?}: {took:?}");
        assert_eq!(value(&mut other, "SELECT b FROM t WHERE a = 1"), "1");
    }
}

#[test]
fn a_statement_that_does_not_wait_leaves_the_session_waiting_as_before() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    for deprecate_eof in [false, true] {
        let login = Login {
            deprecate_eof,
            ..gateway.login()
        };
        let mut client = Client::connect(&login).expect("a login");
        let before = value(&mut client, "SELECT @@innodb_lock_wait_timeout");
        let sql = "SELECT b FROM t WHERE a = 1 FOR UPDATE NOWAIT";
        assert_eq!(value(&mut client, sql), "1");
        // On another connection too, where the session's state has to be made. A client with legacy
        // EOF packets stays on its own: there the server does not say what has changed.
        if deprecate_eof {
            server
            .sql("SELECT CONCAT('KILL ', ID) FROM information_schema.PROCESSLIST WHERE USER = 'rg'")
            .lines()
            .for_each(|kill| drop(server.sql(kill)));
            assert!(wait_for(PATIENCE, || server.connections_of(ACCOUNT) == 0));
        }
        let after = value(&mut client, "SELECT @@innodb_lock_wait_timeout");
        assert_eq!(before, after, "deprecate_eof {deprecate_eof}");
    }
}

/// Sockets open on a core.
fn sockets(gateway: &Gateway, core: u16) -> f64 {
    gateway.metric("ringgate_sockets_open", &[&format!("core=\"{core}\"")])
}

/// Clients whose connections the kernel gave to `core`.
fn clients_on(gateway: &Gateway, core: u16, count: usize) -> Vec<Client> {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for _ in 0..count * 20 {
        if here.len() == count {
            return here;
        }
        let before = sockets(gateway, core);
        let client = gateway.client();
        if sockets(gateway, core) > before {
            here.push(client);
        } else {
            elsewhere.push(client);
        }
    }
    panic!("only {} of {count} clients on core {core}", here.len());
}

/// Runs `sql` on all clients at once.
fn all_at_once(clients: Vec<Client>, sql: &str) -> (Duration, Vec<Client>) {
    let begun = Instant::now();
    let running: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let sql = sql.to_owned();
            std::thread::spawn(move || {
                client.query(&sql).expect("an answer");
                client
            })
        })
        .collect();
    let clients = running
        .into_iter()
        .map(|run| run.join().expect("a client's thread"))
        .collect();
    (begun.elapsed(), clients)
}

#[test]
fn one_core_with_all_the_clients_reaches_the_whole_budget_and_no_more() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        cores: 2,
        extra: "[node]\nserver_version = \"10.11.6-MariaDB\"\n\
                [deadlines]\npool_wait = \"10s\"\n",
        ..Shape::default()
    };
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    let budget = u64::from(shape.budget);
    for core in [0, 1, 0] {
        let clients = clients_on(&gateway, core, 12);
        chaos.take_peak();
        let (took, _) = all_at_once(clients, "SELECT SLEEP(0.5)");
        let peak = chaos.take_peak();
        let moved = gateway.metric("ringgate_upstream_permits_moved_total", &[]);
        eprintln!("core {core}: 12 statements of 0.5 s in {took:?}, peak {peak}, moved {moved}");
        assert_eq!(peak, budget);
    }
}

#[test]
fn connections_follow_the_clients_to_the_other_core() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        cores: 2,
        extra: "[node]\nserver_version = \"10.11.6-MariaDB\"\n\
                [deadlines]\npool_wait = \"10s\"\n",
        ..Shape::default()
    };
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    let all = usize::try_from(shape.budget).expect("a small number");
    all_at_once(clients_on(&gateway, 0, all), "SELECT SLEEP(0.5)");
    let lent = || gateway.metric("ringgate_upstream_connections_lent_total", &[]);
    let connects = server.status("Connections");
    chaos.take_peak();
    let (mut before, mut known) = (lent(), Vec::new());
    for core in [1, 0, 1] {
        let clients = clients_on(&gateway, core, all);
        let (took, clients) = all_at_once(clients, "SELECT SLEEP(0.5), LAST_INSERT_ID(7)");
        known.extend(clients);
        let now = lent();
        eprintln!("core {core}: {took:?}, {} lent", now - before);
        assert!(
            now - before >= f64::from(shape.budget) - 0.5,
            "{now} after {before}"
        );
        before = now;
    }
    // What a session left on a connection was read out before it went to the other core.
    for client in &mut known {
        assert_eq!(value(client, "SELECT LAST_INSERT_ID()"), "7");
    }
    // The second question is the only connection made meanwhile.
    assert_eq!(server.status("Connections") - connects, 1);
    assert_eq!(chaos.take_peak(), u64::from(shape.budget));
}

#[test]
fn the_budget_holds_while_both_cores_want_all_of_it() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        cores: 2,
        budget: 3,
        extra: "[node]\nserver_version = \"10.11.6-MariaDB\"\n\
                [deadlines]\npool_wait = \"30s\"\n",
        ..Shape::default()
    };
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    chaos.take_peak();
    let login = gateway.login();
    let until = Instant::now() + Duration::from_secs(3);
    let running: Vec<_> = (0..16)
        .map(|_| {
            let login = login.clone();
            std::thread::spawn(move || churn(&login, until))
        })
        .collect();
    let done: u64 = running
        .into_iter()
        .map(|run| run.join().expect("a client"))
        .sum();
    let peak = chaos.take_peak();
    let moved = gateway.metric("ringgate_upstream_permits_moved_total", &[]);
    eprintln!("{done} transactions, peak {peak}, permits moved {moved}");
    assert_eq!(peak, 3);
    assert!(done > 100, "{done}");
}

/// Transactions of short-lived clients, half of which leave in the middle of one.
fn churn(login: &Login, until: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < until {
        let mut client = Client::connect(login).expect("a login");
        for _ in 0..5 {
            client.query("BEGIN").expect("a transaction");
            client.query("SELECT SLEEP(0.002)").expect("an answer");
            client.query("COMMIT").expect("committed");
            done += 1;
        }
        client.query("BEGIN").expect("a transaction");
        client.query("SELECT 1").expect("an answer");
    }
    done
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        pools: "idle_max = \"1s\"",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    client.query("SELECT 1").expect("an answer");
    let begun = Instant::now();
    assert_eq!(server.connections_of(ACCOUNT), 1);
    assert!(wait_for(PATIENCE, || server.connections_of(ACCOUNT) == 0));
    let took = begun.elapsed();
    eprintln!("closed after {took:?}");
    let limits = Duration::from_millis(900)..Duration::from_millis(2_500);
    assert!(limits.contains(&took), "{took:?}");
    let closed = gateway.metric("ringgate_upstream_connections_closed_total", &["pool_idle"]);
    assert!((0.5..1.5).contains(&closed), "{}", gateway.metrics());
    client.query("SELECT 1").expect("a new connection");
}

#[test]
fn busy_connections_are_replaced_at_their_age() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 1,
        pools: "idle_max = \"1s\"\nage_max = \"2s\"",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    let first = upstream_of(&mut client);
    let begun = Instant::now();
    assert!(wait_for(PATIENCE, || upstream_of(&mut client) != first));
    let took = begun.elapsed();
    eprintln!("replaced after {took:?}");
    let limits = Duration::from_millis(1_700)..Duration::from_millis(2_500);
    assert!(limits.contains(&took), "{took:?}");
    assert_eq!(server.connections_of(ACCOUNT), 1);
}

#[test]
fn wrong_passwords_are_refused_alike_and_never_reach_the_server() {
    let server = MariaDb::with_test_schema("");
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    let mut client = gateway.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    let connects = server.status("Connections");
    let denied = |user: &str, password: &str| {
        let login = Login {
            user: user.to_owned(),
            password: password.to_owned(),
            ..gateway.login()
        };
        match Client::connect(&login) {
            Err(ClientError::Server { errno, state, text }) => {
                assert_eq!((errno, state.as_str()), (1045, "28000"), "{user}: {text}");
                text.replace(&format!("'{user}'"), "USER")
            }
            Err(error) => panic!("{user}: {error}"),
            Ok(_) => panic!("{user} with {password:?} was let in"),
        }
    };
    let text = denied("a", "wrong");
    for round in 0..50 {
        assert_eq!(denied("a", &format!("wrong-{round}")), text);
        assert_eq!(denied(&format!("nobody-{round}"), "password-of-a"), text);
    }
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    // The two questions are the only connections made meanwhile.
    assert_eq!(server.status("Connections") - connects, 1);
    assert_eq!(server.connections_of(ACCOUNT), 1);
}
