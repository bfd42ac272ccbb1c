//! The gateway between Unix sockets: its clients', its server's, and the file it listens on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]
#![allow(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Client, Gateway, Login, MariaDb, Ports, Shape, free_port, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder whose path is short, with a path for a socket in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mysql.sock");
    (folder, path)
}

/// The shape's configuration with Unix sockets in the place of TCP.
fn config(shape: &Shape<'_>, ports: Ports, door: &Path, server: &Path) -> String {
    let text = shape.config(ports, 1);
    let tcp = format!("127.0.0.1:{}\"\n", ports.mysql);
    assert!(text.contains(&tcp), "{text}");
    text.replace(&tcp, &format!("unix:{}\"\n", door.display()))
        .replace("127.0.0.1:1\"", &format!("unix:{}\"", server.display()))
}

fn start(shape: &Shape<'_>, door: &Path, server: &MariaDb) -> Gateway {
    Gateway::start(|ports| config(shape, ports, door, &server.socket()))
}

fn client(door: &Path, gateway: &Gateway) -> Client {
    Client::connect_unix(door, &gateway.login())
        .unwrap_or_else(|error| panic!("{error}:\n{}", gateway.log()))
}

fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.query_one(sql).expect("an answer");
    answer.text(0, 0).expect("a value")
}

/// The shell that people use.
fn shell(door: &Path, password: &str, sql: &str) -> Output {
    Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--skip-column-names"])
        .args(["--user=a", "--protocol=socket"])
        .arg(format!("--password={password}"))
        .arg(format!("--socket={}", door.display()))
        .args(["--execute", sql])
        .stdin(Stdio::null())
        .output()
        .expect("the mariadb shell: scripts/setup")
}

#[test]
fn statements_travel_by_unix_sockets_on_both_sides() {
    let (_folder, door) = folder();
    let server = MariaDb::with_test_schema(
        "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;",
    );
    let shape = Shape {
        cores: 2,
        ..Shape::default()
    };
    let gateway = start(&shape, &door, &server);
    let mode = fs::metadata(&door).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    let mut clients: Vec<_> = (0..8).map(|_| client(&door, &gateway)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(value(client, "SELECT @@port"), server.port().to_string());
        client.query("START TRANSACTION").expect("a transaction");
        let insert = format!("INSERT INTO t VALUES ({number})");
        client.query(&insert).expect("a row");
        client.query("COMMIT").expect("a commit");
    }
    assert_eq!(value(&mut clients[0], "SELECT COUNT(*) FROM t"), "8");
    let length = "SELECT LENGTH(REPEAT('x', 20000000)), REPEAT('x', 20000000)";
    let answer = clients[1].query_one(length).expect("a large row");
    assert_eq!(answer.text(0, 1).map(|text| text.len()), Some(20_000_000));
    // The server saw nobody by TCP, and its version was learned this way too.
    let hosts =
        server.sql("SELECT DISTINCT HOST FROM information_schema.PROCESSLIST WHERE USER = 'rg'");
    assert_eq!(hosts.trim(), "localhost");
    let from = format!("from=unix:{}", server.socket().display());
    assert!(gateway.has_logged(&from));
    // Both cores had clients: they get them in turn.
    for core in ["0", "1"] {
        let label = format!("core=\"{core}\"");
        let open = gateway.metric("ringgate_sockets_open", &[&label]);
        assert!(open >= 2.0, "{core}: {}", gateway.metrics());
    }
}

#[test]
fn the_shell_connects_by_the_socket() {
    let (_folder, door) = folder();
    let server = MariaDb::with_test_schema("");
    let gateway = start(&Shape::default(), &door, &server);
    let output = shell(&door, "password-of-a", "SELECT @@port");
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(words.trim(), server.port().to_string(), "{output:?}");
    // A client of a Unix socket is at localhost.
    let output = shell(&door, "wrong", "SELECT 1");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        words.contains("1045") && words.contains("'a'@'localhost'"),
        "{words}"
    );
    assert!(gateway.has_logged("login denied"), "{}", gateway.log());
}

#[test]
fn the_file_survives_a_reload_and_goes_with_a_drain() {
    let (_folder, door) = folder();
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        cores: 2,
        ..Shape::default()
    };
    let gateway = start(&shape, &door, &server);
    let number = fs::metadata(&door).unwrap().ino();
    let mut before = client(&door, &gateway);
    assert_eq!(value(&mut before, "SELECT 1"), "1");
    let changed = Shape { budget: 6, ..shape };
    gateway.reload(|ports| config(&changed, ports, &door, &server.socket()));
    let applied = || gateway.log().contains("generation=2");
    assert!(wait_for(PATIENCE, applied), "{}", gateway.log());
    assert_eq!(fs::metadata(&door).unwrap().ino(), number);
    assert_eq!(value(&mut before, "SELECT 2"), "2");
    assert_eq!(value(&mut client(&door, &gateway), "SELECT 3"), "3");
    // A transaction holds the drain up; the file is gone all the same, and the path is another's.
    before.query("START TRANSACTION").expect("a transaction");
    gateway.signal("TERM");
    assert!(wait_for(PATIENCE, || !door.exists()), "{}", gateway.log());
    let next = start(&shape, &door, &server);
    let mut newcomer = client(&door, &next);
    assert_eq!(value(&mut newcomer, "SELECT 4"), "4");
    assert_eq!(value(&mut before, "SELECT 5"), "5");
    before.query("COMMIT").expect("a commit");
    let mut gateway = gateway;
    let status = gateway.wait_for_exit(PATIENCE);
    assert!(status.success(), "{status}");
    // The former one left the newer one's file alone.
    assert_eq!(value(&mut client(&door, &next), "SELECT 6"), "6");
    assert!(next.stop(PATIENCE).success());
    assert!(!door.exists());
}

#[test]
fn a_dead_nodes_file_is_replaced_and_a_living_ones_is_not() {
    let (_folder, door) = folder();
    let server = MariaDb::with_test_schema("");
    let shape = Shape::default();
    let mut dead = start(&shape, &door, &server);
    dead.signal("KILL");
    dead.wait_for_exit(PATIENCE);
    assert!(door.exists());
    let living = start(&shape, &door, &server);
    assert_eq!(value(&mut client(&door, &living), "SELECT 1"), "1");
    let (code, words) = refused(&door);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("another process listens on"), "{words}");
    assert!(words.contains("listener `main`"), "{words}");
    assert_eq!(value(&mut client(&door, &living), "SELECT 2"), "2");
}

/// Runs `serve` with a listener at `door` that it cannot have; its exit code and words.
fn refused(door: &Path) -> (Option<i32>, String) {
    let ports = Ports {
        mysql: free_port(),
        admin: free_port(),
    };
    let text = config(&Shape::default(), ports, door, Path::new("/nowhere"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringgate.toml");
    fs::write(&file, text).unwrap();
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["serve", "--config"])
        .arg(&file)
        .envs(support::gateway::ENVIRONMENT.iter().copied())
        .output()
        .expect("the gateway's binary");
    assert!(begun.elapsed() < PATIENCE);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), words)
}

#[test]
fn what_is_in_the_way_of_the_file_is_said() {
    let (folder, door) = folder();
    for (path, part) in [
        (
            folder.path().join("missing/mysql.sock"),
            "there is no directory",
        ),
        (door.clone(), "is no socket"),
    ] {
        fs::write(&door, "kept").unwrap();
        let (code, words) = refused(&path);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(part), "{words}");
        assert_eq!(fs::read(&door).unwrap(), b"kept");
    }
}

#[test]
fn a_statement_is_killed_over_a_unix_socket() {
    let (_folder, door) = folder();
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    };
    let gateway = start(&shape, &door, &server);
    let mut client = client(&door, &gateway);
    let error = client.query("SELECT SLEEP(30)").expect_err("too long");
    assert_eq!(error.errno(), 3024, "{error}");
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE INFO LIKE '%SLEEP(30)%' AND ID <> CONNECTION_ID()";
    assert!(wait_for(PATIENCE, || server.sql(running).trim() == "0"));
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    let of = |name| gateway.metric(name, &[]);
    assert_eq!(of("ringgate_upstream_kills_total"), 1.0);
    assert_eq!(of("ringgate_upstream_kill_failures_total"), 0.0);
}

#[test]
fn a_server_that_is_away_is_found_again() {
    let (_folder, door) = folder();
    let mut server = MariaDb::with_test_schema("");
    let gateway = start(&Shape::default(), &door, &server);
    let mut client = client(&door, &gateway);
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    server.kill9();
    client.query("SELECT 2").expect_err("nobody is there");
    server.restart();
    let again = || {
        Client::connect_unix(&door, &gateway.login())
            .is_ok_and(|mut client| client.query("SELECT 3").is_ok())
    };
    assert!(wait_for(PATIENCE, again), "{}", gateway.log());
}

/// A server that asks for the password in full: what it got.
fn ask_in_full(listener: &UnixListener) -> Vec<u8> {
    use std::io::{Read, Write};
    let greeting = {
        use ringgate::wire::mysql::handshake::Greeting;
        let mut payload = Vec::new();
        let greeting = Greeting {
            version: b"8.4.3",
            connection_id: 1,
            nonce: [b'n'; 20],
            caps: 0xffff_f7ff & !ringgate::wire::mysql::flags::caps::SSL,
            mariadb_caps: 0,
            collation: 45,
            status: 2,
            plugin: b"caching_sha2_password",
        };
        greeting.encode(&mut payload);
        payload
    };
    let send = |stream: &mut UnixStream, sequence: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        stream.write_all(&[length, 0, 0, sequence]).unwrap();
        stream.write_all(payload).unwrap();
    };
    let receive = |stream: &mut UnixStream| -> std::io::Result<Vec<u8>> {
        let mut header = [0; 4];
        stream.read_exact(&mut header)?;
        let mut payload = vec![0; usize::from(header[0])];
        stream.read_exact(&mut payload)?;
        Ok(payload)
    };
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&mut stream, 0, &greeting);
        // Somebody who only asks for the version leaves.
        if receive(&mut stream).is_ok() {
            send(&mut stream, 2, &[1, 4]);
            return receive(&mut stream).unwrap();
        }
    }
}

#[test]
fn a_password_in_full_needs_no_key_on_a_unix_socket() {
    let (folder, door) = folder();
    let upstream = folder.path().join("server.sock");
    let listener = UnixListener::bind(&upstream).unwrap();
    let gateway = Gateway::start(|ports| config(&Shape::default(), ports, &door, &upstream));
    let login: Login = gateway.login();
    let path = door.clone();
    let asking = std::thread::spawn(move || {
        Client::connect_unix(&path, &login)
            .and_then(|mut client| client.query("SELECT 1").map(drop))
    });
    let password = ask_in_full(&listener);
    assert_eq!(password, [support::PASSWORD.as_bytes(), &[0]].concat());
    drop(listener);
    // Whatever it is told: the server went away.
    let _ = asking.join().unwrap();
}
