//! Memory: what one client sends without reading what comes back is bounded, whatever it sends, and
//! costs nobody else his turn.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Gateway, MariaDb, Shape, wait_for};

/// What the process may grow by while one client misbehaves: what the kernel and the bounds of one
/// connection take, with room for the allocator.
const GROWTH_MAX_KIB: u64 = 12 * 1024;
/// How long anybody else's ping may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(1);
const FLOOD: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(20);

fn node(server: &MariaDb) -> Gateway {
    let shape = Shape {
        budget: 2,
        extra: "[buffers]\ncount = 128\n",
        ..Shape::default()
    };
    Gateway::in_shape(server.port(), &shape)
}

/// A command's packet.
fn command(byte: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("a short command");
    let mut bytes = length.to_le_bytes()[..3].to_vec();
    bytes.extend_from_slice(&[0, byte]);
    bytes.extend_from_slice(body);
    bytes
}

/// COM_PING and its answer.
fn ping(client: &mut Client) -> Duration {
    let begun = Instant::now();
    client.send_raw(&command(14, &[])).expect("a write");
    let mut answer = [0; 11];
    client.stream().read_exact(&mut answer).expect("an OK");
    assert_eq!(answer[..5], [7, 0, 0, 1, 0]);
    begun.elapsed()
}

/// Sends `packet` again and again, as fast as the peer takes it, until told to stop; how many bytes.
fn flood(client: &mut Client, packet: &[u8], stop: &AtomicBool) -> u64 {
    let stream = client.stream();
    let bytes = packet.repeat(1 + 250_000 / packet.len());
    let limit = Some(Duration::from_millis(100));
    stream.set_write_timeout(limit).expect("a socket");
    let (mut at, mut sent) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match stream.write(bytes.get(at..).unwrap_or_default()) {
            Ok(count) => {
                at = (at + count) % bytes.len();
                sent += u64::try_from(count).expect("a count");
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    sent
}

/// A client floods the gateway with `packet`; its memory and another client's pings are watched.
fn stays_small(gateway: &Gateway, mut client: Client, packet: &[u8], what: &str) {
    let mut other = gateway.client();
    ping(&mut other);
    let before = gateway.rss_kib();
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| sent.store(flood(&mut client, packet, &stop), Ordering::Relaxed));
        let begun = Instant::now();
        while begun.elapsed() < FLOOD {
            slowest = slowest.max(ping(&mut other));
            most = most.max(gateway.rss_kib());
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let growth = most.saturating_sub(before);
    let sent = sent.into_inner();
    eprintln!("{what}: {sent} bytes sent, {growth} KiB more, slowest ping {slowest:?}");
    assert!(sent > 10_000, "{what}: it was ended at once");
    assert!(growth < GROWTH_MAX_KIB, "{what}: {growth} KiB");
    assert!(slowest < PROMPT, "{what}: {slowest:?}");
    client.abort().expect("a reset");
    let open = || gateway.metric("ringgate_connections_open", &[]);
    assert!(
        wait_for(PATIENCE, || (0.5..1.5).contains(&open())),
        "{what}"
    );
}

#[test]
fn pings_whose_answers_nobody_reads_fill_no_memory() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server);
    stays_small(&gateway, gateway.client(), &command(14, &[]), "COM_PING");
}

#[test]
fn refused_commands_whose_answers_nobody_reads_fill_no_memory() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server);
    for (packet, what) in [
        (command(0x12, &[0; 16]), "COM_BINLOG_DUMP"),
        (command(3, b"KILL 1"), "KILL"),
        (
            command(0x17, &[9, 9, 9, 9, 0, 1, 0, 0, 0]),
            "EXECUTE of nothing",
        ),
    ] {
        stays_small(&gateway, gateway.client(), &packet, what);
    }
}

/// A client whose diagnostics the gateway keeps, as another one has used its connection since.
fn with_kept_warnings(server: &MariaDb) -> (Gateway, Client) {
    let shape = Shape {
        budget: 1,
        extra: "[buffers]\ncount = 128\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    let many = "SELECT CAST(CONCAT('x', seq) AS INT) FROM seq_1_to_100";
    let answer = client.query_one(many).expect("rows with warnings");
    assert!(answer.warnings > 50, "{}", answer.warnings);
    gateway.client().query("SELECT 1").expect("a row");
    let kept = client.query_one("SHOW WARNINGS").expect("what was kept");
    assert!(kept.rows.len() > 50, "{}", kept.rows.len());
    (gateway, client)
}

#[test]
fn kept_warnings_that_nobody_reads_fill_no_memory() {
    let server = MariaDb::with_test_schema("");
    let (gateway, client) = with_kept_warnings(&server);
    let packet = command(3, b"SHOW WARNINGS");
    stays_small(&gateway, client, &packet, "SHOW WARNINGS");
}

/// All of it in one write: it is taken in piece by piece, whatever came at once.
#[test]
fn one_write_of_many_commands_fills_no_memory_and_stalls_no_core() {
    let server = MariaDb::with_test_schema("");
    let (gateway, mut client) = with_kept_warnings(&server);
    let mut other = gateway.client();
    ping(&mut other);
    let before = gateway.rss_kib();
    let bytes = command(3, b"SHOW WARNINGS").repeat(14_000);
    let limit = Some(Duration::from_millis(500));
    client.stream().set_write_timeout(limit).expect("a socket");
    // What does not fit is not sent: it was not read either.
    let written = client.stream().write(&bytes).expect("a write");
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    let begun = Instant::now();
    while begun.elapsed() < FLOOD {
        slowest = slowest.max(ping(&mut other));
        most = most.max(gateway.rss_kib());
        std::thread::sleep(Duration::from_millis(5));
    }
    let growth = most.saturating_sub(before);
    eprintln!("{written} bytes written, {growth} KiB more, slowest ping {slowest:?}");
    assert!(growth < GROWTH_MAX_KIB, "{growth} KiB");
    assert!(slowest < PROMPT, "{slowest:?}");
    assert!(!gateway.log().contains("core_stalled"));
}

#[test]
fn commands_sent_ahead_of_a_long_statement_fill_no_memory() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server);
    let mut client = gateway.client();
    client.send_query("SELECT SLEEP(5)").expect("a write");
    assert!(server.runs("SLEEP(5)", PATIENCE), "it does not run");
    stays_small(&gateway, client, &command(14, &[]), "behind a statement");
}

/// A client that reads what it asked for is served as fast as it reads, however much it sends ahead.
#[test]
fn a_client_that_reads_gets_every_answer_of_a_long_pipeline() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server);
    let mut client = gateway.client();
    let count = 200_000;
    let mut writer = client.stream().try_clone().expect("a socket");
    let bytes = command(14, &[]).repeat(count);
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes).expect("all of it"));
        let mut answer = [0; 11];
        for number in 0..count {
            let read = client.stream().read_exact(&mut answer);
            read.unwrap_or_else(|error| panic!("{number}: {error}"));
            assert_eq!(answer[..5], [7, 0, 0, 1, 0], "{number}");
        }
    });
}
