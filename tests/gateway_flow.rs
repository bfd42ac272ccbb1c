//! What flows through: packets at the limits of their length, pipelined and multiple statements,
//! errors in mid-result, clients that read slowly or send byte by byte, and a thousand that do nothing.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{Chaos, Client, Gateway, Login, MariaDb, Shape, wait_for};

/// The payload of a packet that another one continues.
const PACKET_MAX: usize = 0xff_ff_ff;
const MULTI_STATEMENTS: u32 = 1 << 16;
const PATIENCE: Duration = Duration::from_secs(20);

fn pair() -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema("CREATE OR REPLACE TABLE test.t (a LONGTEXT);");
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    (server, gateway)
}

fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.query_one(sql);
    let answer = answer.unwrap_or_else(|error| panic!("{:.80}: {error}", sql));
    answer.text(0, 0).expect("a value")
}

fn with_eof(gateway: &Gateway, deprecate_eof: bool) -> Login {
    Login {
        deprecate_eof,
        ..gateway.login()
    }
}

/// Lengths of a payload around each limit.
fn lengths() -> [usize; 4] {
    [PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 2 * PACKET_MAX]
}

#[test]
fn rows_at_the_limits_of_a_packet_arrive_whole() {
    let (_server, gateway) = pair();
    let mut client = gateway.client();
    for length in lengths() {
        // A text of this size has four bytes of length before it; in a binary row two more bytes lead.
        for (lead, is_prepared) in [(4, false), (6, true)] {
            let size = length - lead;
            let sql = format!("SELECT REPEAT('x', {size})");
            let answer = if is_prepared {
                let statement = client.prepare(&sql).expect("prepared");
                let answer = client.execute(statement, &[]);
                client.close_statement(statement).expect("a write");
                answer
            } else {
                client.query_one(&sql)
            };
            let answer = answer.unwrap_or_else(|error| panic!("{length} {is_prepared}: {error}"));
            let text = answer.rows[0][0].as_ref().expect("a text");
            assert!(text.len() == size && text.iter().all(|&byte| byte == b'x'));
            assert!(client.is_quiet().expect("a socket"), "{length}");
        }
    }
    assert_eq!(value(&mut client, "SELECT 1"), "1");
}

#[test]
fn commands_at_the_limits_of_a_packet_arrive_whole() {
    let (_server, gateway) = pair();
    let mut client = gateway.client();
    let length_of = client
        .prepare("SELECT CONCAT(LENGTH(?), ' ', MD5(?))")
        .expect("prepared");
    for length in lengths() {
        let frame = "SELECT LENGTH('')".len() + 1;
        let text = "y".repeat(length - frame);
        let sql = format!("SELECT LENGTH('{text}')");
        assert_eq!(sql.len() + 1, length);
        assert_eq!(value(&mut client, &sql), text.len().to_string());
        // Head 10 bytes, a bitmap byte, a flag, types of two parameters, and lengths of 4 and 2.
        let size = length - 10 - 1 - 1 - 4 - 4 - 2;
        let long = vec![b'y'; size];
        let answer = client
            .execute(length_of, &[&long, b"z"])
            .expect("an answer");
        let expect = format!("{size} fbade9e36a3f36d3d676c1b808451dd7");
        assert_eq!(answer.text(0, 0), Some(expect), "{length}");
    }
    assert_eq!(value(&mut client, "SELECT 1"), "1");
}

#[test]
fn a_long_command_whose_server_dies_is_answered_in_its_place() {
    let server = MariaDb::with_test_schema("CREATE OR REPLACE TABLE test.t (a LONGTEXT);");
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::in_shape(chaos.port(), &Shape::default());
    let mut client = gateway.client();
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    chaos.cut_after(0);
    let sql = format!("INSERT INTO t VALUES ('{}')", "w".repeat(PACKET_MAX + 1000));
    let error = client.query(&sql).expect_err("no answer came");
    assert_eq!(error.errno(), 1158, "{error}");
    assert_eq!(value(&mut client, "SELECT 2"), "2");
}

#[test]
fn pipelined_statements_are_answered_in_their_order() {
    let (_server, gateway) = pair();
    for deprecate_eof in [false, true] {
        let mut client = Client::connect(&with_eof(&gateway, deprecate_eof)).expect("a login");
        let statements: Vec<String> = (0..200)
            .map(|number| match number % 4 {
                3 => format!("SELECT REPEAT('{}', 20000)", number % 10),
                _ => format!("SELECT {number}"),
            })
            .collect();
        client.send_queries(&statements).expect("a write");
        for number in 0..200_usize {
            let answer = client.read_query().expect("an answer").text(0, 0);
            let expect = match number % 4 {
                3 => (number % 10).to_string().repeat(20_000),
                _ => number.to_string(),
            };
            assert_eq!(answer, Some(expect), "{number}");
        }
        assert!(client.is_quiet().expect("a socket"));
    }
}

#[test]
fn several_statements_in_one_give_several_results() {
    let (_server, gateway) = pair();
    for deprecate_eof in [false, true] {
        let login = with_eof(&gateway, deprecate_eof);
        let mut client = Client::connect_with(&login, MULTI_STATEMENTS).expect("a login");
        let sql = "SELECT 1; SELECT 2 UNION SELECT 3; DO 0; SET @x = 4; SELECT @x";
        let answers = client.query(sql).expect("answers");
        let rows: Vec<usize> = answers.iter().map(|answer| answer.rows.len()).collect();
        assert_eq!(rows, [1, 2, 0, 0, 1]);
        assert_eq!(answers[4].text(0, 0).as_deref(), Some("4"));
        let error = client.query("SELECT 1; SELECT * FROM missing; SELECT 3");
        assert_eq!(error.expect_err("the second one fails").errno(), 1146);
        assert!(client.is_quiet().expect("a socket"));
        assert_eq!(value(&mut client, "SELECT @x"), "4");
        let mut single = Client::connect(&login).expect("a login");
        assert_eq!(single.query(sql).expect_err("not asked for").errno(), 1064);
    }
}

#[test]
fn an_error_in_mid_result_ends_the_result_and_nothing_else() {
    let (server, gateway) = pair();
    for deprecate_eof in [false, true] {
        let mut client = Client::connect(&with_eof(&gateway, deprecate_eof)).expect("a login");
        client
            .send_query("SELECT REPEAT('r', 20000), SLEEP(0.005) AS victim FROM seq_1_to_100000")
            .expect("a write");
        assert!(server.runs("AS victim", PATIENCE), "it does not run");
        let id = server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%AS victim%' AND ID <> CONNECTION_ID()");
        let mut begin = vec![0; 1000];
        client.stream().peek(&mut begin).expect("rows have begun");
        server.sql(&format!("KILL QUERY {}", id.trim()));
        let error = client.read_query().expect_err("killed");
        assert_eq!(error.errno(), 1317, "{error}");
        assert_eq!(value(&mut client, "SELECT 1"), "1");
    }
    assert!(gateway.metric("ringgate_server_errors_total", &[]) >= 2.0);
}

#[test]
fn a_client_that_sends_byte_by_byte_is_served() {
    let (_server, gateway) = pair();
    let mut client = gateway.client();
    let sql = b"\x03SELECT 'one byte at a time'";
    let length = u8::try_from(sql.len()).expect("a short statement");
    let mut bytes = vec![length, 0, 0, 0];
    bytes.extend_from_slice(sql);
    for byte in bytes {
        client.stream().write_all(&[byte]).expect("a write");
        std::thread::sleep(Duration::from_millis(1));
    }
    let answer = client.read_query().expect("an answer");
    assert_eq!(answer.text(0, 0).as_deref(), Some("one byte at a time"));
}

/// Reads one packet whose payload is at most as long as `buffer`; gives its payload.
fn read_packet<'a>(client: &mut Client, buffer: &'a mut [u8]) -> &'a [u8] {
    let mut header = [0; 4];
    client.stream().read_exact(&mut header).expect("a packet");
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let length = usize::try_from(length).expect("a length");
    let payload = &mut buffer[..length];
    client.stream().read_exact(payload).expect("a packet");
    payload
}

/// Reads a result of one column and `rows` rows, each `row` times `x`, and checks every byte. Stops
/// for `pause` after the first row, then reads no faster than `rate` bytes a second.
fn read_slowly(client: &mut Client, pause: Duration, rate: f64, rows: u32, row: usize) {
    let mut buffer = vec![0; row + 4];
    let mut expect = vec![b'x'; row + 4];
    let length = u32::try_from(row).expect("a short row").to_le_bytes();
    expect[..4].copy_from_slice(&[0xfd, length[0], length[1], length[2]]);
    assert_eq!(read_packet(client, &mut buffer), [1], "one column");
    read_packet(client, &mut buffer);
    let mut begun = Instant::now();
    for number in 0..rows {
        assert!(read_packet(client, &mut buffer) == expect, "row {number}");
        if number == 0 {
            std::thread::sleep(pause);
            begun = Instant::now();
        }
        let due = Duration::from_secs_f64(f64::from(number) * expect.len() as f64 / rate);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
    }
    let end = read_packet(client, &mut buffer);
    assert_eq!((end.first(), end.len()), (Some(&0xfe), 7), "{end:?}");
    assert!(client.is_quiet().expect("a socket"));
}

#[test]
fn memory_stays_where_it_was_while_a_gigabyte_waits_for_its_reader() {
    let (_server, gateway) = pair();
    let mut client = gateway.client();
    let (rows, row) = (1_074, 1_000_000);
    let sql = |rows: u32| format!("SELECT REPEAT('x', {row}) FROM seq_1_to_{rows}");
    // Receive buffers become resident when they are first used: once through, with a short stop.
    client.send_query(&sql(200)).expect("a write");
    read_slowly(&mut client, Duration::from_secs(1), 1e9, 200, row);
    let before = gateway.rss_kib();
    let sampler = {
        let pid = gateway.pid();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sampling = std::thread::spawn(move || {
            let mut peak = 0;
            while stopped.recv_timeout(Duration::from_millis(50)).is_err() {
                peak = peak.max(rss_kib(pid));
            }
            peak
        });
        (stop, sampling)
    };
    let begun = Instant::now();
    client.send_query(&sql(rows)).expect("a write");
    read_slowly(&mut client, Duration::from_secs(10), 120e6, rows, row);
    let took = begun.elapsed();
    sampler.0.send(()).expect("the sampler");
    let peak = sampler.1.join().expect("the sampler");
    let after = gateway.rss_kib();
    eprintln!("1 GiB in {took:?}: resident {before} KiB before, {peak} at most, {after} after");
    assert!(peak <= before + 1024, "{} KiB more", peak - before);
    assert_eq!(value(&mut client, "SELECT 1"), "1");
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn idle_clients_cost_no_turns_and_little_memory() {
    let (_server, gateway) = pair();
    let login = gateway.login();
    let connect = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| Client::connect(&login).expect("a login"))
            .collect()
    };
    // What is made once, is made by the first of them.
    drop(connect(50));
    assert!(wait_for(PATIENCE, || gateway
        .metric("ringgate_connections_open", &[])
        < 0.5));
    let empty = gateway.rss_kib();
    let clients = connect(1_000);
    let turns = || gateway.metric("ringgate_ring_turns_total", &[]);
    let cpu = || gateway.metric("ringgate_process_cpu_seconds_total", &[]);
    std::thread::sleep(Duration::from_secs(1));
    let (turns_before, cpu_before) = (turns(), cpu());
    std::thread::sleep(Duration::from_secs(5));
    let (turned, used) = (turns() - turns_before, cpu() - cpu_before);
    let more = connect(1_000);
    let full = gateway.rss_kib();
    let each = full.saturating_sub(empty) as f64 / 2_000.0;
    eprintln!(
        "1,000 idle clients: {turned} turns and {used:.3} s of CPU in 5 s; \
         2,000 idle clients: {each:.2} KiB resident each ({empty} KiB before, {full} with them)"
    );
    assert!(turned < 2_000.0, "{turned}");
    // A build without optimization: a bound against leaks, not the figure that is promised.
    assert!(each < 16.0, "{each}");
    drop((clients, more));
    assert!(wait_for(PATIENCE, || gateway
        .metric("ringgate_connections_open", &[])
        < 0.5));
}

#[test]
fn each_statement_has_an_endpoint_chosen_for_it_and_finds_what_its_session_left() {
    // Each server knows its number.
    let servers = [0, 1].map(|n| {
        let table = "CREATE OR REPLACE TABLE test.n (n INT);";
        MariaDb::with_test_schema(&format!("{table}\nINSERT INTO test.n VALUES ({n});"))
    });
    let [first, second] = [0, 1].map(|n: usize| servers[n].port());
    let gateway = Gateway::start(|ports| {
        let one = format!("{{ address = \"127.0.0.1:{first}\", role = \"primary\" }}");
        let other = format!("{{ address = \"127.0.0.1:{second}\", role = \"primary\" }}");
        let text = Shape::default().config(ports, first);
        text.replace(&one, &format!("{one}, {other}"))
    });
    let mut client = gateway.client();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        seen.insert(value(&mut client, "SELECT n FROM n"));
    }
    let both = ["0", "1"].map(str::to_owned);
    assert_eq!(seen, both.into_iter().collect());
    // What this leaves is known to one connection of one server only, where others work meanwhile.
    let mut others = [gateway.client(), gateway.client()];
    for round in 7..67 {
        let id = format!("SELECT LAST_INSERT_ID({round})");
        client.query(&id).expect("an answer");
        for other in &mut others {
            value(other, "SELECT n FROM n");
        }
        let left = value(&mut client, "SELECT LAST_INSERT_ID()");
        assert_eq!(left, round.to_string());
    }
    // A transaction stays where it has begun.
    client.query("BEGIN").expect("a transaction");
    let at = value(&mut client, "SELECT n FROM n");
    for _ in 0..20 {
        assert_eq!(value(&mut client, "SELECT n FROM n"), at);
    }
}
