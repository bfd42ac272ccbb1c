//! The node's own life with clients on it: draining, reloading, a panic, a refused start.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::gateway::{ENVIRONMENT, two_shards_config};
use support::{
    ACCOUNT, Client, ClientError, Gateway, Login, MariaDb, Ports, Shape, free_port, wait_for,
};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(20);

fn pair(extra: &str) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        extra,
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

#[test]
fn a_drain_lets_statements_and_transactions_finish() {
    let (server, mut gateway) = pair("[node]\ndrain_grace = \"20s\"\n");
    let login = gateway.login();
    let mut idle = gateway.client();
    let mut running = gateway.client();
    let mut writing = gateway.client();
    writing.query("BEGIN").expect("a transaction");
    writing.query("INSERT INTO t VALUES (1)").expect("a row");
    running
        .send_query("SELECT SLEEP(2), 'done'")
        .expect("a write");
    assert!(server.runs("SLEEP(2)", PATIENCE), "it does not run");

    let begun = Instant::now();
    gateway.signal("TERM");
    match idle.read_goodbye() {
        Err(ClientError::Server { errno, .. }) => assert_eq!(errno, 1053),
        other => panic!("{other:?}"),
    }
    assert!(idle.is_ended_within(PATIENCE));
    let told = begun.elapsed();
    assert!(told < Duration::from_secs(1), "{told:?}");
    assert!(
        Client::connect(&login).is_err(),
        "new clients are not taken"
    );
    writing
        .query("INSERT INTO t VALUES (2)")
        .expect("its transaction goes on");
    writing.query("COMMIT").expect("and is committed");
    let answer = running.read_query().expect("the statement is finished");
    assert_eq!(answer.text(0, 1).as_deref(), Some("done"));
    let goodbye = running.read_goodbye().expect_err("its connection ends");
    assert_eq!(goodbye.errno(), 1053, "{goodbye}");
    assert!(running.is_ended_within(PATIENCE));
    let status = gateway.wait_for_exit(PATIENCE);
    eprintln!(
        "idle told after {told:?}, ended after {:?}",
        begun.elapsed()
    );
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "2");
}

/// Its queue has no room for a goodbye, and there is always one more command of it to do.
#[test]
fn a_drain_ends_with_its_grace_for_a_client_that_pipelines_and_reads_nothing() {
    let (_server, mut gateway) = pair("[node]\ndrain_grace = \"1s\"\n");
    let mut client = gateway.client();
    let stream = client.stream();
    let short = Some(Duration::from_millis(300));
    stream.set_write_timeout(short).expect("a socket");
    // As many COM_PINGs as go.
    let pings = [1, 0, 0, 0, 14].repeat(100_000);
    while std::io::Write::write_all(stream, &pings).is_ok() {}
    gateway.signal("TERM");
    let status = gateway.wait_for_exit(Duration::from_secs(10));
    let log = gateway.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("cores_left"), "{log}");
}

/// Its next command is always there, and it reads every answer.
#[test]
fn a_drain_ends_with_its_grace_for_a_client_that_never_pauses() {
    let (_server, mut gateway) = pair("[node]\ndrain_grace = \"1s\"\n");
    let mut client = gateway.client();
    let stream = client.stream();
    let (mut writes, mut reads) = (
        stream.try_clone().expect("a socket"),
        stream.try_clone().expect("a socket"),
    );
    let ends = std::thread::scope(|scope| {
        scope.spawn(move || {
            let pings = [1, 0, 0, 0, 14].repeat(10_000);
            while std::io::Write::write_all(&mut writes, &pings).is_ok() {}
        });
        let read = scope.spawn(move || {
            let mut last = Vec::new();
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = std::io::Read::read(&mut reads, &mut buffer) {
                last.extend_from_slice(&buffer[..count]);
                last.drain(..last.len().saturating_sub(200));
            }
            last
        });
        std::thread::sleep(Duration::from_millis(500));
        gateway.signal("TERM");
        let status = gateway.wait_for_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0));
        read.join().expect("a reader")
    });
    let log = gateway.log();
    assert!(!log.contains("cores_left"), "{log}");
    let told = String::from_utf8_lossy(&ends);
    assert!(told.contains("[ringgate drain "), "{told:?}");
}

#[test]
fn a_drain_ends_with_its_grace() {
    let (server, mut gateway) = pair("[node]\ndrain_grace = \"1s\"\n");
    let mut running = gateway.client();
    let mut writing = gateway.client();
    writing.query("BEGIN").expect("a transaction");
    writing.query("INSERT INTO t VALUES (1)").expect("a row");
    running.send_query("SELECT SLEEP(60)").expect("a write");
    assert!(server.runs("SLEEP(60)", PATIENCE), "it does not run");
    let begun = Instant::now();
    gateway.signal("TERM");
    let error = running.read_query().expect_err("cut off");
    assert_eq!(error.errno(), 1053, "{error}");
    let told = begun.elapsed();
    let limits = Duration::from_millis(990)..Duration::from_millis(1_500);
    assert!(limits.contains(&told), "{told:?}");
    gateway.wait_for_exit(Duration::from_secs(3));
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "0");
}

#[test]
fn a_write_that_a_drain_cuts_off_has_an_unknown_outcome() {
    let (server, mut gateway) = pair("[node]\ndrain_grace = \"1s\"\n");
    let (mut alone, mut within) = (gateway.client(), gateway.client());
    within.query("BEGIN").expect("a transaction");
    for (client, value) in [(&mut alone, 5), (&mut within, 6)] {
        let sql = format!("INSERT INTO t SELECT {value} + SLEEP(60)");
        client.send_query(&sql).expect("a write");
        let mark = format!("{value} + SLEEP(60)");
        assert!(server.runs(&mark, PATIENCE), "it does not run");
    }
    gateway.signal("TERM");
    let error = alone.read_query().expect_err("cut off");
    assert_eq!(error.errno(), 1158, "{error}");
    assert!(error.to_string().contains("drain_unknown"), "{error}");
    // The end of its transaction undoes it.
    let error = within.read_query().expect_err("cut off");
    assert_eq!(error.errno(), 1053, "{error}");
    gateway.wait_for_exit(Duration::from_secs(3));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let (server, mut gateway) = pair("[node]\ndrain_grace = \"60s\"\n");
    let mut running = gateway.client();
    running.send_query("SELECT SLEEP(60)").expect("a write");
    assert!(server.runs("SLEEP(60)", PATIENCE), "it does not run");
    gateway.signal("TERM");
    assert!(gateway.has_logged("draining"));
    let begun = Instant::now();
    gateway.signal("TERM");
    let status = gateway.wait_for_exit(Duration::from_secs(2));
    eprintln!("ended after {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(1));
    assert!(running.read_query().is_err());
}

#[test]
fn a_reload_touches_no_connection() {
    let a = MariaDb::with_test_schema("");
    let b = MariaDb::with_test_schema("");
    // A user that is gone is served to its end.
    let shape = Shape {
        extra: "[deadlines]\nremoved_user = \"0s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(a.port(), &shape);
    let mut client = gateway.client();
    client.query("SET @kept = 'kept'").expect("a variable");
    let of_b = Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    let generation = || gateway.metric("ringgate_configuration_generation", &[]);
    let refused = || gateway.metric("ringgate_reloads_refused_total", &[]);
    assert_eq!(Client::connect(&of_b).err().map(|e| e.errno()), Some(1045));

    gateway.reload(|ports| shape.config(ports, a.port()).replace("[pools]", "[polls]"));
    assert!(wait_for(PATIENCE, || refused() > 0.5));
    assert_eq!(Client::connect(&of_b).err().map(|e| e.errno()), Some(1045));
    assert_eq!(value(&mut client, "SELECT @kept"), "kept");

    gateway.reload(|ports| two_shards_config(ports, a.port(), b.port(), shape.budget, shape.extra));
    assert!(
        wait_for(PATIENCE, || generation() > 1.5),
        "{}",
        gateway.log()
    );
    let mut other = Client::connect(&of_b).expect("a new account");
    assert_eq!(value(&mut other, "SELECT @@port"), b.port().to_string());
    assert_eq!(value(&mut client, "SELECT @kept"), "kept");
    assert_eq!(value(&mut client, "SELECT @@port"), a.port().to_string());

    gateway.reload(|ports| shape.config(ports, a.port()));
    assert!(wait_for(PATIENCE, || generation() > 2.5));
    assert_eq!(Client::connect(&of_b).err().map(|e| e.errno()), Some(1045));
    assert_eq!(
        value(&mut other, "SELECT @@port"),
        b.port().to_string(),
        "served to its end"
    );
    assert_eq!(value(&mut client, "SELECT @kept"), "kept");
    // No name has come to mean another address.
    let log = gateway.log();
    assert!(!log.contains("addresses_changed"), "{log}");
}

#[test]
fn an_endpoint_that_a_reload_took_away_is_left_and_comes_back_with_its_budget() {
    let a = MariaDb::with_test_schema("");
    let b = MariaDb::with_test_schema(TABLE);
    let extra = "[deadlines]\nconnect = \"200ms\"\npool_wait = \"500ms\"\nremoved_user = \"0s\"\n";
    let both = |ports: Ports| two_shards_config(ports, a.port(), b.port(), 2, extra);
    let only_a = Shape {
        budget: 2,
        extra,
        ..Shape::default()
    };
    let gateway = Gateway::start(both);
    let generation = |is: f64| {
        let applied = || gateway.metric("ringgate_configuration_generation", &[]) > is - 0.5;
        assert!(wait_for(PATIENCE, applied), "{}", gateway.log());
    };
    let of_b = Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    let connect = || Client::connect(&of_b).expect("a login");
    let mut pinned = [connect(), connect()];
    for client in &mut pinned {
        client.query("BEGIN").expect("a transaction");
        client.query("SELECT * FROM t").expect("a snapshot");
    }
    gateway.reload(|ports| only_a.config(ports, a.port()));
    generation(2.0);
    let [one, mut two] = pinned;
    two.query("INSERT INTO t VALUES (1)").expect("served on");

    gateway.reload(both);
    generation(3.0);
    let error = connect().query("SELECT 1").expect_err("both are in use");
    assert_eq!(error.errno(), 3168, "{error}");
    assert_eq!(b.connections_of(ACCOUNT), 2);
    drop(one);
    assert_eq!(value(&mut connect(), "SELECT 1"), "1");

    gateway.reload(|ports| only_a.config(ports, a.port()));
    generation(4.0);
    two.query("COMMIT").expect("served to its end");
    assert_eq!(value(&mut two, "SELECT COUNT(*) FROM t"), "1");
    drop(two);
    let left = wait_for(PATIENCE, || b.connections_of(ACCOUNT) == 0);
    assert!(left, "its connections stay open");
    let of_endpoint = |name: &str| gateway.metric(name, &["placement=\"shard-b\""]);
    for name in ["open", "idle", "leased"] {
        let name = format!("ringgate_upstream_connections_{name}");
        assert!(wait_for(PATIENCE, || of_endpoint(&name) == 0.0), "{name}");
    }
    assert!(wait_for(PATIENCE, || of_endpoint(
        "ringgate_upstream_permits"
    ) == 0.0));
}

#[test]
fn a_panic_resets_its_own_client_and_nobody_else() {
    let a = MariaDb::with_test_schema("");
    let b = MariaDb::with_test_schema("");
    let gateway = Gateway::start_with(&[("RINGGATE_TEST_PANIC", "b")], |ports| {
        two_shards_config(ports, a.port(), b.port(), 4, "")
    });
    let mut neighbour = gateway.client();
    neighbour.query("SET @kept = 'kept'").expect("a variable");
    let victim = Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    for round in 1..=3_u32 {
        match Client::connect(&victim) {
            Err(ClientError::Io(_)) => {}
            Err(error) => panic!("{error}"),
            // The login's OK may come before the reset.
            Ok(mut client) => assert!(matches!(client.query("SELECT 1"), Err(ClientError::Io(_)))),
        }
        assert_eq!(value(&mut neighbour, "SELECT @kept"), "kept");
        let panics = gateway.metric("ringgate_panics_total", &[]);
        assert!((panics - f64::from(round)).abs() < 0.5, "{panics}");
    }
    let closed = gateway.metric("ringgate_connections_closed_total", &["reason=\"panic\""]);
    assert!((2.5..3.5).contains(&closed), "{}", gateway.metrics());
    assert!(wait_for(PATIENCE, || {
        let open = gateway.metric("ringgate_connections_open", &[]);
        (0.5..1.5).contains(&open)
    }));
    let is_told = gateway.has_logged("panic");
    let log = gateway.log();
    assert!(is_told && !log.contains("asked for"), "no payload: {log}");
}

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .envs(ENVIRONMENT.iter().copied())
        .output()
        .expect("the gateway's binary")
}

/// Runs `serve` with a configuration that cannot work; its exit code, words and time.
fn refused(config: &str) -> (Option<i32>, String, Duration) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("ringgate.toml");
    std::fs::write(&file, config).expect("a writable folder");
    let begun = Instant::now();
    let output = run(&["serve", "--config", file.to_str().expect("a plain path")]);
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    (output.status.code(), words, begun.elapsed())
}

#[test]
fn a_port_in_use_refuses_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let free = free_port();
    for (mysql, admin) in [(port, free), (free, port)] {
        let config = Shape::default().config(Ports { mysql, admin }, 1);
        let (code, words, took) = refused(&config);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&format!("127.0.0.1:{port}")), "{words}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[test]
fn a_configuration_is_refused_whole_with_every_problem() {
    let ports = Ports {
        mysql: free_port(),
        admin: free_port(),
    };
    let good = Shape::default().config(ports, 1);
    let cases = [
        ("[cores]\ncount = 1", "[cores]\ncuont = 1", "count"),
        ("budget = 4", "budget = 0", "budget"),
        (
            "placement = \"shard-a\"",
            "placement = \"shard-x\"",
            "shard-x",
        ),
        ("tenant = \"a\"", "tenant = \"x\"", "tenant"),
        (
            "RG_A_PASSWORD",
            "RG_NO_SUCH_VARIABLE",
            "RG_NO_SUCH_VARIABLE",
        ),
    ];
    let (mut all, mut names) = (good.clone(), Vec::new());
    for (from, to, name) in cases {
        assert!(good.contains(from), "{from}");
        let (code, words, took) = refused(&good.replace(from, to));
        assert_eq!(code, Some(78), "{to}: {words}");
        assert!(
            words.contains(name) && words.contains("ringgate.toml"),
            "{to}: {words}"
        );
        assert!(took < Duration::from_secs(1), "{took:?}");
        all = all.replace(from, to);
        names.push(name);
    }
    let (code, words, _) = refused(&all);
    assert_eq!(code, Some(78));
    assert!(
        names.iter().all(|name| words.contains(name)),
        "all at once: {words}"
    );
    assert!(!words.contains("password-of-a"), "{words}");
}

#[test]
fn the_command_line_has_its_own_codes() {
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let expect = concat!("ringgate ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&version.stdout), expect);
    for arguments in [&["serve"][..], &["sreve"], &[], &["--no-such-option"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn the_start_says_how_long_it_took() {
    let (_server, gateway) = pair("");
    // It serves a moment before it says so.
    assert!(gateway.has_logged("after_ms="));
    let log = gateway.log();
    let after = log.split("after_ms=").nth(1).expect("the ready line");
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    let after: u64 = digits.parse().expect("milliseconds");
    eprintln!("ready after {after} ms, as the node says itself");
    assert!(after < 2_000, "{log}");
}
