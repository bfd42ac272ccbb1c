//! Null servers, as clients and the gateway see them.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder};
use support::{ACCOUNT, Client, Gateway, NullServer, PASSWORD, Shape};

const AUTOCOMMIT: u16 = 2;
const IN_TRANSACTION: u16 = 1;

fn opts(server: &NullServer, user: &str, password: &str) -> Opts {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(server.port())
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .into()
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

async fn converse(opts: Opts) -> Result<(), Error> {
    let mut conn = Conn::new(opts).await?;
    let rows: Vec<String> = conn.query("SELECT c FROM sbtest1").await?;
    assert_eq!(rows, ["0123456789", "0123456789"]);
    let rows: Vec<String> = conn.exec("SELECT c FROM sbtest1 WHERE id=?", (7,)).await?;
    assert_eq!(rows, ["0123456789", "0123456789"]);
    let values: Option<(String, Option<String>, u32)> = conn
        .exec_first("SELECT VERSION(), DATABASE(), CONNECTION_ID()", ())
        .await?;
    let id = conn.id();
    assert_eq!(values, Some(("8.0.40-ringgate-null".to_owned(), None, id)));
    conn.query_drop("INSERT INTO t VALUES (1)").await?;
    assert_eq!(conn.affected_rows(), 1);
    let unknown = conn.query_drop("SELECT @@no_such_variable").await;
    assert!(matches!(unknown, Err(Error::Server(error)) if error.code == 1193));
    conn.ping().await?;
    conn.reset().await?;
    conn.disconnect().await
}

#[test]
fn mysql_async_logs_in_with_both_plugins_and_reads_the_rows() {
    for plugin in ["native", "sha2"] {
        let shape = [
            "mysql",
            "--rows",
            "2",
            "--row-size",
            "10",
            "--plugin",
            plugin,
        ];
        let server = NullServer::start(&shape);
        block_on(converse(opts(&server, "anyone", "anything"))).expect(plugin);
        block_on(converse(opts(&server, "anyone", ""))).expect(plugin);

        let account = ["--user", "one", "--password", "secret"];
        let server = NullServer::start(&[&shape[..], &account].concat());
        block_on(converse(opts(&server, "one", "secret"))).expect(plugin);
        for (user, password) in [("one", "wrong"), ("one", ""), ("other", "secret")] {
            let refused = block_on(Conn::new(opts(&server, user, password)));
            let is_denied = matches!(&refused, Err(Error::Server(error)) if error.code == 1045);
            assert!(is_denied, "{user} {password}: {refused:?}");
        }
    }
}

#[test]
fn transactions_show_in_the_status() {
    let server = NullServer::start(&["mysql"]);
    for deprecate_eof in [false, true] {
        let mut client = Client::connect(&server.login(deprecate_eof)).expect("a login");
        let mut check = |sql: &str, expect: u16| {
            let answer = client.query_one(sql).expect(sql);
            assert_eq!(answer.status & 3, expect, "{sql}");
        };
        check("SELECT 1", AUTOCOMMIT);
        check("BEGIN", AUTOCOMMIT | IN_TRANSACTION);
        check("SELECT c FROM t", AUTOCOMMIT | IN_TRANSACTION);
        check("ROLLBACK TO SAVEPOINT a", AUTOCOMMIT | IN_TRANSACTION);
        check("COMMIT", AUTOCOMMIT);
        check("SET autocommit=0", 0);
        check("SELECT c FROM t", IN_TRANSACTION);
        check("ROLLBACK", 0);
        check("SET autocommit=ON", AUTOCOMMIT);
        client.reset().expect("a reset");
        client.quit().expect("an end");
    }
}

#[test]
fn pipelined_statements_are_answered_in_order() {
    let server = NullServer::start(&["mysql", "--service-time", "constant:1ms"]);
    let mut client = Client::connect(&server.login(true)).expect("a login");
    let statements = [
        "SELECT 1",
        "SET NAMES utf8mb4",
        "SELECT @@autocommit",
        "SELECT 2",
    ];
    let statements = statements.map(str::to_owned);
    client.send_queries(&statements).expect("a write");
    let rows: Vec<usize> = statements
        .iter()
        .map(|sql| client.read_query().expect(sql).rows.len())
        .collect();
    assert_eq!(rows, [1, 0, 1, 1]);
}

#[test]
fn large_answers_arrive_whole_at_a_slow_reader() {
    let server = NullServer::start(&["mysql", "--answer-size", "48MiB"]);
    let mut client = Client::connect(&server.login(true)).expect("a login");
    client.send_query("SELECT c FROM t").expect("a write");
    std::thread::sleep(Duration::from_millis(300));
    let answer = client.read_query().expect("the rows");
    assert_eq!(answer.rows.len(), 48 * 1024);
    let is_whole = |row: &Vec<Option<Vec<u8>>>| row[0].as_ref().is_some_and(|v| v.len() == 1024);
    assert!(answer.rows.iter().all(is_whole));
    // A statement that is itself long is read to its end and answered once.
    let long = format!("SELECT '{}'", "x".repeat(300_000));
    assert_eq!(client.query_one(&long).expect("rows").rows.len(), 48 * 1024);
    let answer = client.query_one("SELECT FOUND_ROWS()").expect("a value");
    assert_eq!(answer.text(0, 0).as_deref(), Some("49152"));
}

#[test]
fn the_mysql_shell_talks_to_it() {
    let server = NullServer::start(&["mysql", "--rows", "2", "--row-size", "3"]);
    let shell = Command::new("mysql")
        .args([
            "--no-defaults",
            "-h127.0.0.1",
            "-uanyone",
            "-panything",
            "-N",
            "-e",
        ])
        .arg("SELECT c FROM t; USE shop; SELECT DATABASE(), @@version_comment; SHOW WARNINGS")
        .arg(format!("-P{}", server.port()))
        .output()
        .expect("the mysql shell");
    let said = String::from_utf8_lossy(&shell.stdout);
    assert_eq!(said, "012\n012\nshop\tRinggate null server\n", "{shell:?}");
}

/// A gateway with two upstream connections to the server.
fn gateway(server: &NullServer) -> Gateway {
    let shape = Shape {
        budget: 2,
        ..Shape::default()
    };
    Gateway::in_shape(server.port(), &shape)
}

#[test]
fn the_gateway_pools_connections_to_it() {
    let server = NullServer::start(&[
        "mysql",
        "--rows",
        "3",
        "--user",
        ACCOUNT,
        "--password",
        PASSWORD,
    ]);
    let gateway = gateway(&server);
    let mut clients: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.query_one("SET NAMES utf8mb4").expect("an OK");
        let set = format!("SET time_zone='+0{index}:00'");
        client.query_one(&set).expect("an OK");
    }
    for _ in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            // Six sessions on two connections: each finds what it has set, moved along by SET.
            let zone = client.query_one("SELECT @@time_zone").expect("a value");
            assert_eq!(zone.text(0, 0), Some(format!("+0{index}:00")));
            let statement = client
                .prepare("SELECT c FROM t WHERE id=?")
                .expect("a statement");
            assert_eq!(
                client.execute(statement, &[b"1"]).expect("rows").rows.len(),
                3
            );
            client.close_statement(statement).expect("a write");
            client.query_one("BEGIN").expect("an OK");
            let answer = client.query_one("SELECT c FROM t").expect("rows");
            assert_eq!((answer.rows.len(), answer.status & 1), (3, IN_TRANSACTION));
            let answer = client.query_one("COMMIT").expect("an OK");
            assert_eq!(answer.status & 1, 0);
        }
    }
    drop(gateway);
    let words = server.stop("TERM");
    let connections = words
        .split(" connections")
        .next()
        .and_then(|w| w.rsplit(' ').next());
    let connections: u32 = connections.and_then(|n| n.parse().ok()).expect("a number");
    // Two in the budget; the gateway also reads a greeting now and then.
    assert!((1..10).contains(&connections), "{words}");
}

#[test]
fn large_answers_pass_the_gateway() {
    let account = ["--user", ACCOUNT, "--password", PASSWORD];
    let server = NullServer::start(&[&["mysql", "--answer-size", "16MiB"][..], &account].concat());
    let gateway = gateway(&server);
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.query_one("SELECT c FROM t").expect("rows");
        assert_eq!(answer.rows.len(), 16 * 1024);
    }
}

#[test]
fn service_times_are_drawn_and_taken() {
    #[track_caller]
    fn check(service: &str, drawn: std::ops::Range<u64>) {
        let server = NullServer::start(&["mysql", "--service-time", service]);
        let mut client = Client::connect(&server.login(true)).expect("a login");
        for _ in 0..200 {
            client.query_one("SELECT c FROM t").expect("rows");
        }
        let words = server.stop("INT");
        // `… drawn p50 A us p99 B us, taken p50 C us p99 D us`
        let figures: Vec<u64> = words
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [.., drawn_p50, drawn_p99, taken_p50, taken_p99] = figures[..] else {
            panic!("{words}");
        };
        assert!(drawn.contains(&drawn_p50), "{words}");
        // Never early; how late depends on the machine. Histograms round by a thousandth.
        assert!(taken_p50 + taken_p50 / 500 + 1 >= drawn_p50, "{words}");
        assert!(taken_p99 + taken_p99 / 500 + 1 >= drawn_p99, "{words}");
        assert!(words.starts_with("served "), "{words}");
    }
    check("constant:300us", 299..302);
    // The median is 139 us: wide bounds for 200 draws of a fixed seed.
    check("exponential:200us", 90..200);
    check("lognormal:400us,0.5", 300..520);
}

#[test]
fn curl_gets_the_answer_over_one_connection() {
    let server = NullServer::start(&["http", "--answer-size", "1MiB", "--status", "404"]);
    let url = format!("http://127.0.0.1:{}/", server.port());
    let curl = Command::new("curl")
        .args([
            "-s",
            "--http1.1",
            "-H",
            "Expect: 100-continue",
            "-d",
            "a body",
        ])
        .args([
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download} %{num_connects}\n",
        ])
        .args([&url, &url])
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&curl.stdout);
    assert_eq!(said, "404 1048576 1\n404 1048576 0\n");
    let head = Command::new("curl")
        .args(["-sI", &url])
        .output()
        .expect("curl");
    let head = String::from_utf8_lossy(&head.stdout);
    assert!(
        head.starts_with("HTTP/1.1 404 Not Found\r\n")
            && head.contains("Content-Length: 1048576\r\n")
    );
}

#[test]
fn http_requests_are_answered_in_order_until_one_is_refused() {
    let server = NullServer::start(&[
        "http",
        "--answer-size",
        "3",
        "--service-time",
        "constant:200us",
    ]);
    let exchange = |request: &str| {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(request.as_bytes()).expect("a write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an orderly end");
        answer
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let close = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let smuggled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answers = exchange(&format!("{get}{get}{close}{get}"));
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK\r\n").count(),
        3,
        "{answers}"
    );
    assert_eq!(answers.matches("\r\n\r\n012").count(), 3, "{answers}");
    let answers = exchange(&format!("{get}{smuggled}{get}"));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
    let words = server.stop("TERM");
    assert!(
        words.starts_with("served 4 answers to 5 requests on 2 connections"),
        "{words}"
    );
}

#[test]
fn what_cannot_be_served_is_said_in_a_sentence() {
    #[track_caller]
    fn check(arguments: &[&str], expect: i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["load", "serve"])
            .args(arguments)
            .output()
            .expect("the binary");
        assert_eq!(output.status.code(), Some(expect), "{output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    check(&["http", "--listen", &taken], 1);
    check(&["mysql", "--row-size", "1MiB"], 1);
    check(&["mysql", "--cores", "5000"], 1);
    check(&["http", "--status", "100"], 1);
    check(&["http", "--service-time", "often"], 64);
    check(&["mysql", "--user", "x"], 64);
    check(&["smtp"], 64);
}
