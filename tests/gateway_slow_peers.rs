//! Peers that do not read, pause, or stop in the middle of a command: what they cost themselves, and
//! that nobody else pays for it.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use support::gateway::metric_sum;
use support::{Client, Gateway, MariaDb, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);
/// The longest that somebody else's small statement may take, on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(2);

/// A node with few buffers, so that few clients could take them all.
fn node(server: &MariaDb, listener: &str, deadlines: &str) -> Gateway {
    Gateway::start(|ports| {
        let extra = format!("[buffers]\ncount = 128\n[deadlines]\npool_wait = \"5s\"\n{deadlines}");
        let shape = Shape {
            budget: 16,
            extra: &extra,
            ..Shape::default()
        };
        let address = format!("address = \"127.0.0.1:{}\"\n", ports.mysql);
        let config = shape.config(ports, server.port());
        config.replace(&address, &format!("{address}{listener}"))
    })
}

/// `count` times a statement, as bytes of COM_QUERY packets.
fn pipeline(sql: &str, count: usize) -> Vec<u8> {
    command(3, sql.as_bytes()).repeat(count)
}

/// A command's packet.
fn command(byte: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("a short command");
    let mut bytes = length.to_le_bytes()[..3].to_vec();
    bytes.extend_from_slice(&[0, byte]);
    bytes.extend_from_slice(body);
    bytes
}

/// Sends as much as the peer takes within a moment, and reads nothing.
fn send_and_turn_away(client: &mut Client, bytes: &[u8]) {
    let stream = client.stream();
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("a socket");
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return,
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Ended already, which some tests are about.
            Err(_) => return,
        }
    }
}

/// Has the kernel keep only little for a client, so that what it does not read stays with the gateway.
fn take_little(client: &mut Client, bytes: usize) {
    let set = socket2::SockRef::from(&*client.stream()).set_recv_buffer_size(bytes);
    set.expect("a socket");
}

/// Asks small questions for `time`; the longest that one took.
fn ask_for(gateway: &Gateway, time: Duration) -> Duration {
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut client = gateway.client();
    let limit = Some(Duration::from_secs(10));
    client.stream().set_read_timeout(limit).expect("a socket");
    let mut asked = 0_u32;
    while begun.elapsed() < time {
        let at = Instant::now();
        let answer = client.query_one(&format!("SELECT 'ask-{asked}'"));
        let answer = answer.unwrap_or_else(|error| panic!("{error} after {:?}", at.elapsed()));
        assert_eq!(answer.text(0, 0), Some(format!("ask-{asked}")));
        slowest = slowest.max(at.elapsed());
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("{asked} asked, slowest {slowest:?}");
    slowest
}

/// Downstream connections. A core that is too busy to answer for its own has some.
fn open(gateway: &Gateway) -> f64 {
    let text = gateway.metrics();
    let name = "ringgate_connections_open";
    match text.contains(&format!("{name}{{")) {
        true => metric_sum(&text, name, &[]),
        false => f64::INFINITY,
    }
}

fn leased(gateway: &Gateway) -> f64 {
    gateway.metric("ringgate_upstream_connections_leased", &[])
}

fn others_go_on_beside_non_readers(listener: &str, sql: &str) {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server, listener, "write_stall = \"60s\"\n");
    let mut silent: Vec<Client> = (0..12).map(|_| gateway.client()).collect();
    for client in &mut silent {
        take_little(client, 4_096);
    }
    let bytes = pipeline(sql, 4_000);
    std::thread::scope(|scope| {
        for client in &mut silent {
            let bytes = &bytes;
            scope.spawn(move || send_and_turn_away(client, bytes));
        }
    });
    let slowest = ask_for(&gateway, Duration::from_secs(3));
    assert!(slowest < PROMPT, "{slowest:?}");
    drop(silent);
    assert!(wait_for(PATIENCE, || open(&gateway) < 0.5));
}

#[test]
fn clients_that_pipeline_and_read_nothing_take_no_buffers_from_others() {
    others_go_on_beside_non_readers("", "SELECT REPEAT('x', 1500)");
}

#[test]
fn without_a_user_timeout_and_with_a_small_send_buffer_they_neither_do() {
    let listener = "user_timeout = \"0s\"\nsend_buffer = \"64KiB\"\n";
    others_go_on_beside_non_readers(listener, "SELECT REPEAT('x', 1500)");
}

#[test]
fn tiny_answers_and_large_ones_starve_nobody_either() {
    let listener = "user_timeout = \"0s\"\nsend_buffer = \"64KiB\"\n";
    others_go_on_beside_non_readers(listener, "SELECT 1");
    others_go_on_beside_non_readers(listener, "SELECT REPEAT('x', 500000)");
}

/// Whether the gateway ends a client that reads nothing, about when it should.
fn is_ended_after_the_stall(gateway: &Gateway, what: &str) {
    let begun = Instant::now();
    let before_time = STALL.mul_f64(0.5);
    assert!(open(gateway) > 0.5, "{what}: ended at once");
    let ended = wait_for(PATIENCE, || open(gateway) < 0.5);
    let took = begun.elapsed();
    eprintln!("{what}: ended {ended} after {took:?}");
    assert!(ended, "{what}: never ended");
    assert!(took > before_time, "{what}: {took:?}");
    assert!(took < STALL + Duration::from_secs(6), "{what}: {took:?}");
}

#[test]
fn a_client_that_does_not_read_is_ended_whether_an_exchange_runs_or_not() {
    let server = MariaDb::with_test_schema("");
    let listener = "user_timeout = \"0s\"\nsend_buffer = \"64KiB\"\n";
    let gateway = node(&server, listener, "write_stall = \"2s\"\n");
    let bytes = pipeline("SELECT REPEAT('x', 100000)", 1_000);
    let mut client = gateway.client();
    send_and_turn_away(&mut client, &bytes);
    is_ended_after_the_stall(&gateway, "in the middle of exchanges");
    // One answer: the exchange of a small one is over before its client has read.
    for kilobytes in [8_000, 1_000, 280] {
        let mut client = gateway.client();
        take_little(&mut client, 4_096);
        let size = kilobytes * 1_000 / 4;
        let sql = format!("SELECT REPEAT('x', {size}) FROM seq_1_to_4");
        client.send_query(&sql).expect("a write");
        is_ended_after_the_stall(&gateway, &format!("{kilobytes} kB unread"));
    }
    let mut client = gateway.client();
    take_little(&mut client, 4_096);
    send_and_turn_away(&mut client, &command(14, &[]).repeat(1_000_000));
    is_ended_after_the_stall(&gateway, "unread answers of the gateway's own");
    assert!(leased(&gateway) < 0.5);
}

#[test]
fn a_client_that_has_read_everything_may_be_silent_for_longer() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server, "", "write_stall = \"1s\"\n");
    let mut client = gateway.client();
    client
        .query("SELECT REPEAT('x', 3000000)")
        .expect("an answer");
    assert!(!client.is_ended_within(Duration::from_secs(3)));
    client.query("SELECT 1").expect("it is kept");
}

/// Half of a command of `length` bytes.
fn half(byte: u8, length: usize) -> Vec<u8> {
    let mut body = b"SELECT '".to_vec();
    body.resize(length - 3, b'h');
    body.extend_from_slice(b"'");
    let whole = command(byte, &body);
    let half = if length > 500_000 { 65_536 } else { 100 };
    whole.get(..half).expect("a long command").to_vec()
}

/// A client's command stops half-way: nobody else misses a connection, and the client is ended.
fn half_commands_cost_nobody(byte: u8, length: usize) {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 8,
        extra: "[deadlines]\npool_wait = \"3s\"\nwrite_stall = \"5s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut stopped: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    let begun = Instant::now();
    for client in &mut stopped {
        client.send_raw(&half(byte, length)).expect("a write");
    }
    // Taken in.
    let received = || gateway.metric("ringgate_downstream_received_bytes_total", &[]);
    assert!(wait_for(PATIENCE, || received() > 800.0));
    let slowest = ask_for(&gateway, Duration::from_secs(2));
    assert!(slowest < PROMPT, "{slowest:?}");
    assert!(open(&gateway) > 7.5, "they have their time");
    for client in &mut stopped {
        // With or without a word before.
        client
            .stream()
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket");
        let mut word = Vec::new();
        if let Err(error) = client.stream().read_to_end(&mut word) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
    }
    let took = begun.elapsed();
    eprintln!("{byte:#x} of {length} bytes: ended after {took:?}");
    assert!(took > Duration::from_secs(3), "{took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(wait_for(PATIENCE, || open(&gateway) < 0.5));
}

#[test]
fn half_of_a_long_command_holds_no_connection() {
    half_commands_cost_nobody(3, 1_048_576);
}

#[test]
fn half_of_a_short_command_is_ended_too() {
    half_commands_cost_nobody(3, 10_240);
}

#[test]
fn half_of_a_prepare_is_ended_too() {
    half_commands_cost_nobody(0x16, 10_240);
}

/// Those who wait may be on another core than those whose commands have stopped.
#[test]
fn half_of_a_long_command_holds_no_connection_from_another_core() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 2,
        cores: 2,
        extra: "[deadlines]\npool_wait = \"10s\"\nwrite_stall = \"60s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    // The highest byte of a connection's id is its core.
    let on_core = |core: u32| {
        let mut clients = (0..200).map(|_| gateway.client());
        let found = clients.find(|client| client.thread_id >> 24 == core);
        found.expect("a client on each core")
    };
    let mut stopped: Vec<Client> = (0..4).map(|_| on_core(0)).collect();
    for client in &mut stopped {
        client.send_raw(&half(3, 1_048_576)).expect("a write");
    }
    assert!(wait_for(PATIENCE, || leased(&gateway) > 1.5), "no lease");
    let mut other = on_core(1);
    other
        .query("SELECT 1")
        .expect("within the time that waits have");
}

/// Long data is passed on as it comes: half of it must not hold a connection either.
#[test]
fn half_of_an_execute_holds_no_connection() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 2,
        extra: "[deadlines]\npool_wait = \"3s\"\nwrite_stall = \"30s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut stopped: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut stopped {
        client.prepare("SELECT LENGTH(?)").expect("prepared");
        // The first statement of a connection: number 1. One parameter, a text of a MiB.
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 1, 0, 0, 0, 0, 1, 253, 0, 0xfd, 0, 0, 16]);
        body.resize(body.len() + 1_048_576, b'h');
        let bytes = command(0x17, &body);
        let sent = client.send_raw(bytes.get(..100_000).expect("a long command"));
        sent.expect("a write");
    }
    let received = || gateway.metric("ringgate_downstream_received_bytes_total", &[]);
    assert!(wait_for(PATIENCE, || received() > 200_000.0));
    let slowest = ask_for(&gateway, Duration::from_secs(2));
    assert!(slowest < PROMPT, "{slowest:?}");
}

/// A client that stops in the middle of a command of a MiB whose connection is the only one, and what
/// is left of the command.
fn stopped_half_way(gateway: &Gateway, first: &[&str]) -> (Client, Vec<u8>) {
    let mut client = gateway.client();
    for sql in first {
        client.query(sql).expect("an answer");
    }
    let mut body = b"SELECT 'slow', LENGTH('".to_vec();
    body.resize(1 << 20, b'h');
    body.extend_from_slice(b"')");
    let mut whole = command(3, &body);
    let rest = whole.split_off(100_000);
    client.send_raw(&whole).expect("a write");
    let leased = || gateway.metric("ringgate_upstream_connections_leased", &[]);
    assert!(wait_for(PATIENCE, || leased() > 0.5), "nothing is leased");
    (client, rest)
}

fn one_connection(server: &MariaDb, write_stall: &str) -> Gateway {
    let extra = format!("[deadlines]\npool_wait = \"3s\"\nwrite_stall = \"{write_stall}\"\n");
    let shape = Shape {
        budget: 1,
        extra: &extra,
        ..Shape::default()
    };
    Gateway::in_shape(server.port(), &shape)
}

#[test]
fn a_long_command_that_lost_its_connection_is_told_behind_its_last_packet() {
    let server = MariaDb::with_test_schema("");
    let gateway = one_connection(&server, "30s");
    let (mut client, rest) = stopped_half_way(&gateway, &[]);
    let begun = Instant::now();
    let answer = gateway.client().query_one("SELECT 'waited'");
    let took = begun.elapsed();
    eprintln!("waited {took:?} for the connection of half a command");
    assert_eq!(answer.expect("a row").text(0, 0).as_deref(), Some("waited"));
    assert!(took < PROMPT, "{took:?}");
    client.send_raw(&rest).expect("a write");
    let error = client.read_query().expect_err("its connection is gone");
    assert_eq!(error.errno(), 3168, "{error}");
    assert!(
        error.to_string().contains("ringgate command_slow"),
        "{error}"
    );
    let answer = client.query_one("SELECT 'kept'").expect("a row");
    assert_eq!(answer.text(0, 0).as_deref(), Some("kept"));
    let kills = gateway.metric("ringgate_upstream_kills_total", &[]);
    assert!(kills < 0.5, "nothing ran: {kills}");
}

/// Nobody waits, or the session lives on its connection: it keeps that.
#[test]
fn a_long_command_that_nobody_waits_for_or_in_a_transaction_keeps_its_connection() {
    let server = MariaDb::with_test_schema("");
    let gateway = one_connection(&server, "30s");
    for is_pinned in [false, true] {
        let first: &[&str] = if is_pinned {
            &["BEGIN", "SELECT 1"]
        } else {
            &[]
        };
        let (mut client, rest) = stopped_half_way(&gateway, first);
        if is_pinned {
            let error = gateway.client().query("SELECT 1").expect_err("it waits");
            assert_eq!(error.errno(), 3168, "{error}");
            assert!(error.to_string().contains("ringgate pool_wait"), "{error}");
        } else {
            // The pace is looked at twice a second.
            std::thread::sleep(Duration::from_millis(1_600));
        }
        client.send_raw(&rest).expect("a write");
        let answer = client.read_query().expect("a row");
        assert_eq!(answer.text(0, 0).as_deref(), Some("slow"));
    }
}

#[test]
fn a_client_that_stops_in_mid_command_is_told_why_it_is_ended() {
    let server = MariaDb::with_test_schema("");
    let gateway = one_connection(&server, "2s");
    // Collected, and passed on.
    for is_long in [false, true] {
        let mut client = match is_long {
            true => stopped_half_way(&gateway, &[]).0,
            false => {
                let mut client = gateway.client();
                client.send_raw(&half(3, 10_240)).expect("a write");
                client
            }
        };
        client
            .stream()
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket");
        let begun = Instant::now();
        let mut word = Vec::new();
        client.stream().read_to_end(&mut word).expect("a word");
        let text = String::from_utf8_lossy(&word);
        eprintln!("long {is_long}: {:?}: {text:?}", begun.elapsed());
        assert_eq!(word.get(4..7), Some(&[0xff, 0x87, 0x04][..]), "{text}");
        assert!(text.contains("ringgate command_stalled"), "{text}");
    }
    let closed = gateway.metric(
        "ringgate_connections_closed_total",
        &["reason=\"client_stalled\""],
    );
    assert!((1.5..2.5).contains(&closed), "{closed}");
}

/// Reads a little of `length` bytes, pauses, and reads the rest.
fn reads_with_a_pause(gateway: &Gateway, length: usize, pause: Duration) -> usize {
    let mut client = gateway.client();
    let sql = format!("SELECT REPEAT('x', {length})");
    client.send_query(&sql).expect("a write");
    let mut first = vec![0; 100_000];
    client
        .stream()
        .read_exact(&mut first)
        .expect("the beginning");
    std::thread::sleep(pause);
    let mut read = first.len();
    let mut bytes = vec![0; 1 << 20];
    while read < length {
        match client.stream().read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) => panic!("{error} after {read} of {length} bytes"),
        }
    }
    read
}

#[test]
fn a_client_that_pauses_for_longer_than_the_user_timeout_gets_its_whole_answer() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(
        &server,
        "user_timeout = \"2s\"\n",
        "write_stall = \"20s\"\n",
    );
    let read = reads_with_a_pause(&gateway, 20_000_000, Duration::from_secs(5));
    assert!(read >= 20_000_000, "{read}");
}

#[test]
fn a_pause_behind_a_small_send_buffer_and_between_two_answers_is_lived_through() {
    let server = MariaDb::with_test_schema("");
    let listener = "user_timeout = \"1s\"\nsend_buffer = \"64KiB\"\nkeepalive = \"1s\"\n\
                    keepalive_interval = \"1s\"\n";
    let gateway = node(&server, listener, "write_stall = \"20s\"\n");
    let read = reads_with_a_pause(&gateway, 8_000_000, Duration::from_secs(4));
    assert!(read >= 8_000_000, "{read}");
    let mut client = gateway.client();
    let statements: Vec<String> = (0..20)
        .map(|number| format!("SELECT '{number}', REPEAT('y', 400000)"))
        .collect();
    client.send_queries(&statements).expect("a write");
    std::thread::sleep(Duration::from_secs(4));
    for number in 0..20 {
        let answer = client.read_query().expect("an answer");
        assert_eq!(answer.text(0, 0), Some(number.to_string()));
    }
}

/// The deadline of a stall begins anew with each byte that the client takes.
#[test]
fn a_client_that_reads_little_by_little_is_not_stalled() {
    let server = MariaDb::with_test_schema("");
    let listener = "user_timeout = \"0s\"\nsend_buffer = \"64KiB\"\n";
    let gateway = node(&server, listener, "write_stall = \"2s\"\n");
    let mut client = gateway.client();
    take_little(&mut client, 16_384);
    let length = 4_000_000;
    client
        .send_query(&format!("SELECT REPEAT('x', {length})"))
        .expect("a write");
    let mut read = 0;
    let mut bytes = vec![0; 500_000];
    while read < length {
        let count = client.stream().read(&mut bytes).expect("more bytes");
        assert!(count > 0, "ended after {read}");
        read += count;
        // Slow for a while, then the rest at once.
        if read < 1_500_000 {
            std::thread::sleep(Duration::from_millis(200).min(STALL / 4));
            let mut more = 0;
            while more < 200_000 {
                let count = client.stream().read(&mut bytes[..100_000]).expect("more");
                assert!(count > 0, "ended after {read}");
                more += count;
            }
            read += more;
        }
    }
}
