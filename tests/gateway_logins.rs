//! Logins and resets, and what servers give to them: where nothing is known of a server one login asks, the others wait
//! for its answer and are in nobody's way.

#![allow(
    clippy::expect_used,
    reason = "a test says what was wrong by the place where it ends"
)]

mod support;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use support::{Client, Gateway, Login, Options, Server, Shape, wait_for};

const AT_ONCE: usize = 60;

/// Another tenant on the same endpoint, by an account of its own.
const TENANT: &str = "[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
    upstream = { user = \"other\", password = { env = \"RG_B_PASSWORD\" } }\n\
    [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
    password = { env = \"RG_B_PASSWORD\" }\n";

const GIVEN: &str = "CREATE USER other@'%' IDENTIFIED BY 'password-of-b';\n\
    GRANT ALL PRIVILEGES ON test.* TO other@'%';\n";

fn pair(mode: &str) -> (Server, Gateway) {
    let server = Server::start(Options {
        arguments: vec![format!("--sql-mode={mode}")],
        ..Options::with_test_schema(GIVEN)
    });
    let extra = format!("[deadlines]\npool_wait = \"20s\"\n{TENANT}");
    let shape = Shape {
        budget: 2,
        pools: "waiters_max = 4\n",
        extra: &extra,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

/// A login of the other tenant, in no schema of its own.
fn other(gateway: &Gateway) -> Login {
    Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        schema: String::new(),
        ..gateway.login()
    }
}

/// Clients that log in at the same time, and how long each took.
fn at_once(login: &Login) -> Vec<(Client, Duration)> {
    let begin = Barrier::new(AT_ONCE);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    let begun = Instant::now();
                    let client = Client::connect(login).expect("a login");
                    (client, begun.elapsed())
                })
            })
            .collect();
        let clients = threads.into_iter().map(|thread| thread.join());
        clients.map(|client| client.expect("a client")).collect()
    })
}

#[test]
fn each_of_many_is_told_what_one_of_them_asks() {
    let (_server, gateway) = pair("NO_BACKSLASH_ESCAPES");
    for (client, took) in at_once(&other(&gateway)) {
        let flags = client.login_status & 0x202;
        assert_eq!(flags, 0x202, "after {took:?}\n{}", gateway.log());
    }
    let connects = gateway.metric("ringgate_upstream_connects_total", &[]);
    assert!(connects < 1.5, "{connects} for one question");
}

/// Clients of the first tenant have all connections, in transactions.
fn holders(gateway: &Gateway) -> [Client; 2] {
    [(); 2].map(|()| {
        let mut holder = gateway.client();
        holder.query("BEGIN").expect("a transaction");
        holder.query("SELECT 1 FROM DUAL").expect("a row");
        holder
    })
}

#[test]
fn those_who_cannot_ask_keep_nobody_from_waiting_and_are_let_in() {
    let (_server, gateway) = pair("");
    let mut holders = holders(&gateway);
    let mut waits = gateway.client();
    std::thread::scope(|scope| {
        let logins = scope.spawn(|| at_once(&other(&gateway)));
        std::thread::sleep(Duration::from_millis(300));
        // Four may wait.
        waits.send_query("SELECT 7").expect("a write");
        for (_, took) in logins.join().expect("logins") {
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    });
    holders[0].query("COMMIT").expect("an OK");
    let answer = waits.read_query().expect("a row");
    assert_eq!(answer.text(0, 0).as_deref(), Some("7"));
}

#[test]
fn who_waits_when_a_drain_begins_is_told_of_it() {
    let (_server, mut gateway) = pair("");
    let holders = holders(&gateway);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::connect(&other(&gateway)));
        let asks = || gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
        assert!(wait_for(Duration::from_secs(5), asks), "nobody asks");
        gateway.signal("TERM");
        let mut client = waiting.join().expect("a thread").expect("a login");
        let goodbye = client.read_goodbye().expect_err("a goodbye");
        assert_eq!(goodbye.errno(), 1053, "{goodbye}");
    });
    drop(holders);
    assert!(gateway.wait_for_exit(Duration::from_secs(10)).success());
}

/// The server has accepted it before; if it has gone since, the first statement is told.
#[test]
fn a_schema_that_was_good_before_keeps_no_login_waiting_for_a_connection() {
    let (_server, gateway) = pair("");
    let login = Login {
        schema: "test".to_owned(),
        ..gateway.login()
    };
    drop(Client::connect(&login).expect("a login"));
    let mut holders = holders(&gateway);
    // Longer than that is taken for granted.
    std::thread::sleep(Duration::from_secs(6));
    let begun = Instant::now();
    let mut client = Client::connect(&login).expect("a login");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    holders[0].query("COMMIT").expect("an OK");
    let answer = client.query_one("SELECT DATABASE()").expect("a row");
    assert_eq!(answer.text(0, 0).as_deref(), Some("test"));
}

/// Logins and resets are told what holds where the session's next statement runs.
#[test]
fn what_a_server_gave_is_forgotten_when_a_reload_brings_another_one() {
    const NO_BACKSLASH_ESCAPES: u16 = 0x200;
    const RESET: u8 = 0x1f;
    let (_server, gateway) = pair("NO_BACKSLASH_ESCAPES");
    let other = Server::start(Options {
        arguments: vec!["--sql-mode=ANSI_QUOTES".to_owned()],
        ..Options::with_test_schema("")
    });
    let mut client = gateway.client();
    let reset = client.run_raw(RESET, &[]).expect("an OK");
    assert_eq!(reset.status & NO_BACKSLASH_ESCAPES, NO_BACKSLASH_ESCAPES);
    let shape = Shape {
        budget: 2,
        ..Shape::default()
    };
    gateway.reload(|ports| shape.config(ports, other.port()));
    let is_applied = || gateway.metric("ringgate_configuration_generation", &[]) > 1.5;
    assert!(
        wait_for(Duration::from_secs(20), is_applied),
        "{}",
        gateway.log()
    );
    let reset = client.run_raw(RESET, &[]).expect("an OK");
    let logged_in = gateway.client().login_status;
    for told in [reset.status, logged_in] {
        assert_eq!(told & NO_BACKSLASH_ESCAPES, 0, "{told:x}");
    }
    let mode = client.query_one("SELECT @@sql_mode").expect("a row");
    assert_eq!(mode.text(0, 0).as_deref(), Some("ANSI_QUOTES"));
}

/// The connection that was asked is as it was: the next one has it.
#[test]
fn who_names_a_schema_that_there_is_not_costs_no_connection() {
    let (server, gateway) = pair("");
    let login = |schema: &str| Login {
        schema: schema.to_owned(),
        ..gateway.login()
    };
    let mut client = Client::connect(&login("test")).expect("a login");
    client.query("SELECT 1/0").expect("a warning");
    for schema in ["nosuch", "other"].iter().cycle().take(20) {
        let error = Client::connect(&login(schema))
            .err()
            .expect("no such schema");
        assert_eq!(error.errno(), 1049, "{error}");
        let schema = client.query_one("SELECT DATABASE()").expect("a row");
        assert_eq!(schema.text(0, 0).as_deref(), Some("test"));
        let warnings = client.query_one("SHOW WARNINGS").expect("a list");
        assert!(warnings.rows.is_empty(), "{warnings:?}");
    }
    let of = |name: &str| gateway.metric(name, &[]);
    let figures = [
        of("ringgate_upstream_connects_total"),
        of("ringgate_upstream_kills_total"),
    ];
    assert!(figures[0] < 2.5 && figures[1] < 0.5, "{figures:?}");
    // It was made meanwhile.
    server.sql("CREATE DATABASE other");
    let mut client = Client::connect(&login("other")).expect("a login");
    let schema = client.query_one("SELECT DATABASE()").expect("a row");
    assert_eq!(schema.text(0, 0).as_deref(), Some("other"));
}
