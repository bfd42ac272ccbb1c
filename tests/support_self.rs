//! The launchers themselves: a test that uses them must be able to trust them.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure must fail the test"
)]

mod support;

use std::time::Instant;

use support::gateway::metric_sum;
use support::{ACCOUNT, MariaDb, MariaDbOptions, PASSWORD};

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
