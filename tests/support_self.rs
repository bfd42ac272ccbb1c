//! The launchers themselves: a test that uses them must be able to trust them.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure must fail the test"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use support::gateway::metric_sum;
use support::{
    ACCOUNT, Chaos, MariaDb, MariaDbOptions, Options, PASSWORD, Server, loopback, wait_for,
};

#[test]
fn a_server_starts_counts_dies_and_comes_back() {
    let begun = Instant::now();
    let mut server = MariaDb::start(MariaDbOptions {
        arguments: vec!["--wait-timeout=77".to_owned()],
        init_sql: "CREATE DATABASE IF NOT EXISTS test;".to_owned(),
    });
    eprintln!("started in {:?}", begun.elapsed());
    assert_eq!(
        server.sql("SELECT @@port").trim(),
        server.port().to_string()
    );
    assert_eq!(server.sql("SELECT @@GLOBAL.wait_timeout").trim(), "77");
    assert_eq!(server.connections(), 0);
    assert_eq!(server.connections_of(ACCOUNT), 0);

    server.sql("CREATE TABLE test.kept (a INT) ENGINE=InnoDB");
    assert!(server.try_sql("SELECT * FROM test.missing").is_err());
    let (pid, port) = (server.pid(), server.port());
    server.kill9();
    assert!(server.try_sql("SELECT 1").is_err());
    server.restart();
    assert_ne!(server.pid(), pid);
    assert_eq!(server.port(), port);
    assert_eq!(server.sql("SELECT COUNT(*) FROM test.kept").trim(), "0");
}

#[test]
fn a_mysql_server_starts_dies_and_comes_back() {
    let Some(mut server) = Server::mysql(Options::with_test_schema("")) else {
        return;
    };
    let version = server.sql("SELECT VERSION()");
    eprintln!("MySQL {version}");
    assert!(!version.contains("MariaDB"), "{version}");
    assert_eq!(server.connections(), 0);
    server.sql("CREATE TABLE test.kept (a INT)");
    server.restart();
    let mut client = server.client();
    let rows = client.query_one("SELECT COUNT(*) FROM test.kept");
    assert_eq!(rows.expect("rows").text(0, 0).as_deref(), Some("0"));
}

#[test]
fn the_account_logs_in_over_tcp() {
    let server = MariaDb::start(MariaDbOptions::default());
    let output = std::process::Command::new("mariadb")
        .args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--protocol=tcp",
        ])
        .args(["--host=127.0.0.1", "--execute=SELECT CURRENT_USER()"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--user={ACCOUNT}"))
        .arg(format!("--password={PASSWORD}"))
        .output()
        .expect("the mariadb shell");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("{ACCOUNT}@%")
    );
}

#[test]
fn sums_metrics_by_label() {
    let text = "# HELP pins Pins.\npins{core=\"0\",reason=\"call\"} 2\npins{core=\"1\",reason=\"call\"} 3\n\
                pins{core=\"1\",reason=\"xa\"} 10\npins_total{reason=\"call\"} 99\nup 1\n";
    let check = |name: &str, labels: &[&str], expect: f64| {
        assert!(
            (metric_sum(text, name, labels) - expect).abs() < f64::EPSILON,
            "{name} {labels:?}"
        );
    };
    check("pins", &[], 15.0);
    check("pins", &["reason=\"call\""], 5.0);
    check("pins", &["reason=\"call\"", "core=\"1\""], 3.0);
    check("up", &[], 1.0);
    check("down", &[], 0.0);
}

/// Sends a byte to and fro through a forwarder; what came back.
fn echoed(client: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    client.write_all(&[byte])?;
    let mut answer = [0];
    client.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Gives back what it gets, and says how each connection ended.
fn echo_server() -> (u16, Receiver<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (ended, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a socket");
                let copied = std::io::copy(&mut stream, &mut writer);
                // Nobody may be there to hear it.
                let _ = ended.send(copied.map(|_| ()));
            });
        }
    });
    (port, ends)
}

#[test]
fn a_forwarder_stalls_trickles_resets_and_half_closes() {
    let (port, ends) = echo_server();
    let chaos = Chaos::start(port);
    let connect = || {
        let client = TcpStream::connect(loopback(chaos.port())).expect("a connection");
        let limit = Some(Duration::from_millis(300));
        client.set_read_timeout(limit).expect("a socket");
        client
    };
    let mut client = connect();
    assert_eq!(echoed(&mut client, 1).expect("an echo"), 1);
    chaos.stall();
    assert!(echoed(&mut client, 2).is_err(), "it is held back");
    chaos.flow();
    client.set_read_timeout(None).expect("a socket");
    let mut answer = [0];
    client.read_exact(&mut answer).expect("the echo comes late");
    assert_eq!(answer, [2]);
    chaos.trickle();
    let begun = Instant::now();
    let bytes = [7; 10_000];
    client.write_all(&bytes).expect("a write");
    let mut answer = [0; 10_000];
    client.read_exact(&mut answer).expect("all of it");
    assert!(answer == bytes && begun.elapsed() > Duration::from_millis(150));
    chaos.flow();
    chaos.reset_all();
    let reset = client.read(&mut [0]).expect_err("a reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let end = ends.recv_timeout(Duration::from_secs(10)).expect("an end");
    assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    let mut client = connect();
    assert_eq!(echoed(&mut client, 3).expect("an echo"), 3);
    chaos.half_close_all();
    client.set_read_timeout(None).expect("a socket");
    assert_eq!(client.read(&mut [0]).expect("an end"), 0);
    client.write_all(&[4]).expect("the other direction is open");
    drop(client);
    let end = ends.recv_timeout(Duration::from_secs(10)).expect("an end");
    end.expect("an orderly one");
    assert!(chaos.take_peak() >= 1);
    assert!(wait_for(Duration::from_secs(10), || {
        chaos.take_peak();
        chaos.take_peak() == 0
    }));
}
