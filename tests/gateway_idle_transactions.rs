//! Clients that are idle while their transaction is open: told and rolled back after their time, never in the
//! middle of something.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Gateway, MariaDb, Ports, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    server: MariaDb,
    gateway: Gateway,
}

fn config(ports: Ports, upstream: u16, line: &str) -> String {
    let extra = format!("[deadlines]\n{line}\n");
    let shape = Shape {
        budget: 16,
        extra: &extra,
        ..Shape::default()
    };
    shape.config(ports, upstream)
}

impl Node {
    fn start(line: &str) -> Self {
        let server = MariaDb::with_test_schema(
            "CREATE TABLE test.t (id INT, part INT, KEY (id)) ENGINE=InnoDB;\n",
        );
        let port = server.port();
        let gateway = Gateway::start(|ports| config(ports, port, line));
        Self { server, gateway }
    }

    fn reload(&self, line: &str) {
        let port = self.server.port();
        self.gateway.apply(|ports| config(ports, port, line));
    }

    /// A client that has run these.
    fn client(&self, statements: &[&str]) -> Client {
        let mut client = self.gateway.client();
        for sql in statements {
            client
                .query(sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        client
    }

    fn ended(&self) -> f64 {
        let reason = ["reason=\"transaction_idle\""];
        self.gateway
            .metric("ringgate_connections_closed_total", &reason)
    }

    fn rows(&self) -> String {
        let rows = self.server.sql("SELECT COUNT(*) FROM test.t");
        rows.trim().to_owned()
    }
}

/// That the client is told so, and nothing else.
fn is_told(client: &mut Client, what: &str) {
    let error = client.read_goodbye().expect_err(what);
    assert_eq!(error.errno(), 4031, "{what}: {error}");
    let error = error.to_string();
    assert!(
        error.contains("[ringgate transaction_idle "),
        "{what}: {error}"
    );
    assert!(client.is_ended_within(PATIENCE), "{what}");
}

#[test]
fn a_transaction_may_be_idle_for_so_long_also_one_that_was_there_before() {
    let node = Node::start("transaction_idle = \"500ms\"");
    let ends = || {
        let mut client = node.client(&[]);
        let begun = Instant::now();
        let statements = ["BEGIN", "INSERT INTO t VALUES (1, 1)"].map(str::to_owned);
        client.send_queries(&statements).expect("a write");
        for _ in statements {
            client.read_query().expect("an OK");
        }
        is_told(&mut client, "from the start");
        begun.elapsed()
    };
    let took = ends();
    assert_eq!(node.ended().round(), 1.0);
    assert_eq!(node.rows(), "0", "rolled back");
    // Its connection goes on.
    let cleansed = || {
        node.gateway
            .metric("ringgate_upstream_connections_cleansed_total", &[])
    };
    assert!(wait_for(PATIENCE, || cleansed() > 0.5));
    node.client(&["SELECT 1"]);
    let connects = node.gateway.metric("ringgate_upstream_connects_total", &[]);
    assert_eq!(connects.round(), 1.0);
    // None too early; not all of them late, however busy the machine is.
    let times: Vec<_> = (0..4).map(|_| ends()).chain([took]).collect();
    let millis = times.iter().map(Duration::as_millis);
    assert!(millis.clone().min() >= Some(500), "{times:?}");
    assert!(millis.min() < Some(1_400), "{times:?}");
    let has_line = node.gateway.has_logged("reason=transaction_idle");
    assert!(has_line, "{}", node.gateway.log());
    node.reload("transaction_idle = \"0s\"");
    let mut there = node.client(&["BEGIN", "INSERT INTO t VALUES (1, 1)"]);
    std::thread::sleep(Duration::from_millis(800));
    there.query("SELECT 1").expect("no limit");
    node.reload("transaction_idle = \"300ms\"");
    is_told(&mut there, "one that was there");
    // What the page says holds where nothing is said.
    node.reload("");
    let mut there = node.client(&["BEGIN"]);
    std::thread::sleep(Duration::from_millis(800));
    there.query("COMMIT").expect("ten minutes");
}

#[test]
fn whatever_is_begun_and_may_hold_others_up_counts() {
    let node = Node::start("transaction_idle = \"400ms\"");
    let begun: [(&str, &[&str]); 5] = [
        ("BEGIN", &["BEGIN"]),
        ("autocommit 0", &["SET autocommit = 0", "SELECT * FROM t"]),
        ("read only", &["START TRANSACTION READ ONLY"]),
        ("XA", &["XA START 'x'"]),
        ("LOCK TABLES", &["LOCK TABLES t WRITE"]),
    ];
    for (what, statements) in begun {
        is_told(&mut node.client(statements), what);
    }
    let mut client = node.client(&[]);
    let statement = client.prepare("SELECT LENGTH(?)").expect("a statement");
    client
        .send_long_data(statement, 0, b"a part")
        .expect("a write");
    is_told(&mut client, "long data");
    let mut client = node.client(&["INSERT INTO t VALUES (1, 1), (2, 2)"]);
    let statement = client.prepare("SELECT * FROM t").expect("a statement");
    let mut body = statement.id.to_le_bytes().to_vec();
    // A cursor for reading, one iteration.
    body.extend_from_slice(&[1, 1, 0, 0, 0]);
    client.packets(0x17, &body).expect("an open cursor");
    is_told(&mut client, "a cursor");
    // Nor is a command that is never whole an answer: its bytes do not count, and those of a long one must keep
    // a pace.
    let short = [90, 0, 0, 0, 3];
    let mut long = vec![0, 0, 8, 0, 3];
    long.extend_from_slice(b"SELECT '");
    long.resize(200_000, b'x');
    for head in [&short[..], &long] {
        let mut client = node.client(&[]);
        let begun = Instant::now();
        client.query("BEGIN").expect("an OK");
        client.send_raw(head).expect("a write");
        while client.send_raw(b"x").is_ok() && client.is_quiet().unwrap_or(false) {
            assert!(begun.elapsed() < PATIENCE, "it keeps on");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(begun.elapsed() >= Duration::from_millis(400));
    }
    assert!(node.gateway.has_logged("reason=transaction_idle"));
}

#[test]
fn what_a_session_keeps_for_life_and_what_goes_on_does_not_count() {
    let node = Node::start("transaction_idle = \"300ms\"");
    let kept: [&[&str]; 6] = [
        &[],
        &["SET @x = 1"],
        &["CREATE TEMPORARY TABLE tt (n INT)"],
        &["SELECT GET_LOCK('l', 0)"],
        &["PREPARE s FROM 'SELECT 1'"],
        &["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
    ];
    let mut clients: Vec<Client> = kept.iter().map(|sql| node.client(sql)).collect();
    // On a machine so busy that its pauses were too long, the client was ended rightly.
    let rightly = (0..10).take_while(|_| !goes_on(&node)).count();
    assert!(rightly < 10, "no pause was short");
    for (client, what) in clients.iter_mut().zip(kept) {
        client
            .query("SELECT 1")
            .unwrap_or_else(|error| panic!("{what:?}: {error}"));
    }
    let rightly = u32::try_from(rightly).expect("a few");
    assert_eq!(node.ended().round(), f64::from(rightly));
}

/// A client that is busy in its transaction for much longer than it may be idle there. `false` if it was ended
/// because a pause of its own was longer than that.
fn goes_on(node: &Node) -> bool {
    let mut client = node.client(&[]);
    // When its last pause began at the earliest.
    let mut since = Instant::now();
    let statements = [
        &["BEGIN"][..],
        &["SELECT 1"; 8],
        &["SELECT SLEEP(1)", "COMMIT"],
    ];
    for sql in statements.concat() {
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        match client.query(sql) {
            Ok(_) if sql.contains("SLEEP") => since = Instant::now(),
            Ok(_) => since = asked,
            Err(error) => {
                assert!(
                    since.elapsed() >= Duration::from_millis(300),
                    "{sql}: {error}"
                );
                return false;
            }
        }
    }
    true
}

/// A statement that is sent in the very moment runs in its transaction or not at all.
#[test]
fn what_is_sent_as_the_time_is_over_never_runs_outside_its_transaction() {
    const CLIENTS: u32 = 8;
    const ROUNDS: u32 = 12;
    let node = Node::start("transaction_idle = \"120ms\"");
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let node = &node;
            scope.spawn(move || {
                // As late as may be on this machine, and a little later.
                let mut late = 120;
                for round in 0..ROUNDS {
                    let id = number * ROUNDS + round;
                    let mut client = node.client(&[]);
                    let begin = [
                        "BEGIN".to_owned(),
                        format!("INSERT INTO t VALUES ({id}, 1)"),
                    ];
                    let rest = [
                        format!("INSERT INTO t VALUES ({id}, 2)"),
                        "COMMIT".to_owned(),
                    ];
                    client.send_queries(&begin).expect("a write");
                    for _ in begin {
                        client.read_query().expect("an OK");
                    }
                    std::thread::sleep(Duration::from_millis(late));
                    // It may be ended already.
                    let is_sent = client.send_queries(&rest).is_ok();
                    let is_done = is_sent && rest.iter().all(|_| client.read_query().is_ok());
                    late = match is_done {
                        true => late + 10,
                        false => late.saturating_sub(20),
                    };
                }
            });
        }
    });
    let halves = node
        .server
        .sql("SELECT id, COUNT(*) c FROM test.t GROUP BY id HAVING c <> 2");
    assert_eq!(halves, "", "of {CLIENTS} clients");
    let both = node.server.sql("SELECT COUNT(DISTINCT id) FROM test.t");
    let both: u32 = both.trim().parse().expect("a count");
    let ended = node.ended().round();
    assert!(both > 0 && ended > 0.5, "{both} in time, {ended} ended");
    assert!(
        f64::from(both) + ended >= f64::from(CLIENTS * ROUNDS),
        "{both}, {ended}"
    );
}
