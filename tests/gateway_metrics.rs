//! `/metrics` after known traffic: that every declared series is fed, and that the numbers are right.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use ringgate::telemetry::cells::Kind;
use ringgate::telemetry::metrics::{Group, node};
use support::gateway::{metric_sum, two_shards_config};
use support::{Client, Gateway, Login, MariaDb, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(20);

/// Series that need more than one node's ordinary troubles, and where they are seen to be fed.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "ringgate_ring_starved_total",
        "src/door/life.rs",
        "series.starved.set(stats.enobufs)",
    ),
    (
        "ringgate_receive_buffers_spared_total",
        "src/door/life.rs",
        "series.spared.set(stats.buffers_spared)",
    ),
    (
        "ringgate_closed_windows_total",
        "src/door/life.rs",
        "series.windows_closed.set(stats.windows_closed)",
    ),
    (
        "ringgate_accept_pauses_total",
        "src/door/life.rs",
        "series.accept_pauses.set(stats.accept_backoffs)",
    ),
    (
        "ringgate_upstream_permits_moved_total",
        "tests/gateway_pools.rs",
        "ringgate_upstream_permits_moved_total",
    ),
    (
        "ringgate_upstream_connections_lent_total",
        "tests/gateway_pools.rs",
        "ringgate_upstream_connections_lent_total",
    ),
    (
        "ringgate_leases_turned_away_total",
        "tests/gateway_deadlines.rs",
        "ringgate_leases_turned_away_total",
    ),
    (
        "ringgate_upstream_kill_failures_total",
        "tests/gateway_kill.rs",
        "ringgate_upstream_kill_failures_total",
    ),
];

/// The families of the cores, by the name under which a number other than zero shows life.
fn families() -> Vec<(&'static str, String)> {
    let all = Group::ALL.iter().flat_map(|group| group.families());
    all.map(|family| match family.kind {
        Kind::Histogram => (family.name, format!("{}_count", family.name)),
        _ => (family.name, family.name.to_owned()),
    })
    .collect()
}

/// Which families have been seen with another number than zero.
struct Seen<'a> {
    gateway: &'a Gateway,
    names: BTreeSet<&'static str>,
}

impl Seen<'_> {
    fn look(&mut self) {
        let page = self.gateway.metrics();
        for (name, series) in families() {
            if metric_sum(&page, &series, &[]).abs() > f64::EPSILON {
                self.names.insert(name);
            }
        }
    }

    /// Looks until `name` is there.
    fn wait_for(&mut self, name: &'static str) {
        let found = wait_for(PATIENCE, || {
            self.look();
            self.names.contains(name)
        });
        assert!(found, "{name}:\n{}", self.gateway.metrics());
    }
}

fn statements_of_every_kind(gateway: &Gateway) {
    let mut client = gateway.client();
    client.query("SELECT 1").expect("an answer");
    client.query("SELECT * FROM missing").expect_err("no table");
    client.query("SET time_zone = '+01:00'").expect("set");
    let statement = client.prepare("SELECT ?").expect("prepared");
    client.execute(statement, &[b"x"]).expect("an answer");
    // Another session's state on the same connection.
    gateway.client().query("SELECT 2").expect("an answer");
}

/// Two connections, both in use: one waits for them, the next is turned away.
fn fill_the_pool(gateway: &Gateway, seen: &mut Seen<'_>) {
    let mut holders = [gateway.client(), gateway.client()];
    for holder in &mut holders {
        holder.query("BEGIN").expect("a transaction");
        holder.query("SELECT * FROM t").expect("a snapshot");
    }
    seen.wait_for("ringgate_sessions_pinned");
    let mut waiter = gateway.client();
    waiter.send_query("SELECT 1").expect("a write");
    seen.wait_for("ringgate_leases_waiting");
    gateway.client().query("SELECT 1").expect_err("turned away");
    for holder in &mut holders {
        holder.query("COMMIT").expect("committed");
    }
    waiter.read_query().expect("an answer");
}

fn leave_in_mid_statement(gateway: &Gateway, server: &MariaDb) {
    let mut client = gateway.client();
    client.send_query("SELECT SLEEP(30)").expect("a write");
    assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
    client.abort().expect("a reset");
}

#[test]
fn every_declared_series_is_fed() {
    let mut server = MariaDb::with_test_schema(TABLE);
    let other = MariaDb::with_test_schema("");
    let gateway = Gateway::start_with(&[("RINGGATE_TEST_PANIC", "b")], |ports| {
        two_shards_config(ports, server.port(), other.port(), 2, "")
            .replace("[pools]\n", "[pools]\nwaiters_max = 1\n")
    });
    let mut seen = Seen {
        gateway: &gateway,
        names: BTreeSet::new(),
    };
    statements_of_every_kind(&gateway);
    fill_the_pool(&gateway, &mut seen);
    leave_in_mid_statement(&gateway, &server);
    seen.wait_for("ringgate_upstream_kills_total");
    let mut leaves = gateway.client();
    leaves.query("SET @a = 1").expect("an OK");
    drop(leaves);
    seen.wait_for("ringgate_upstream_connections_cleansed_total");
    let panicking = Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    let _reset = Client::connect(&panicking).map(|mut client| client.query("SELECT 1"));
    seen.wait_for("ringgate_panics_total");
    let mut slow = gateway.client();
    let rows = "SELECT REPEAT('x', 1000000) FROM seq_1_to_50";
    slow.send_query(rows).expect("a write");
    seen.wait_for("ringgate_receive_buffers_in_use");
    // A connect that gets no greeting, and then no connection at all.
    server.pause();
    let mut client = gateway.client();
    client.send_query("SELECT 3").expect("a write");
    seen.wait_for("ringgate_upstream_connections_connecting");
    server.resume();
    client.read_query().expect("an answer");
    server.kill9();
    client.query("SELECT 4").expect_err("nobody is there");
    seen.wait_for("ringgate_upstream_connect_failures_total");
    for (name, _) in families() {
        let elsewhere = ELSEWHERE.iter().find(|(series, _, _)| *series == name);
        let Some((_, file, needle)) = elsewhere else {
            assert!(seen.names.contains(name), "{name} was never fed");
            continue;
        };
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).expect("a source");
        assert!(text.contains(needle), "{name} is not in {file}");
    }
}

/// The sums of one page.
struct Page(String);

impl Page {
    fn of(gateway: &Gateway) -> Self {
        Self(gateway.metrics())
    }

    fn get(&self, name: &str, labels: &[&str]) -> f64 {
        metric_sum(&self.0, name, labels)
    }
}

/// How much a series grew.
#[track_caller]
fn grew(before: &Page, after: &Page, name: &str, labels: &[&str], by: usize) {
    let difference = after.get(name, labels) - before.get(name, labels);
    let by = by as f64;
    assert!(
        (difference - by).abs() < 1e-9,
        "{name}: {difference}, not {by}"
    );
}

#[test]
fn bytes_and_exchanges_are_counted_exactly() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    let mut client = gateway.client();
    let sql = "SELECT 'an answer'";
    client.query(sql).expect("an answer");
    let before = Page::of(&gateway);
    client.send_query(sql).expect("a write");
    std::thread::sleep(Duration::from_millis(100));
    let answer = client.read_raw(4096).expect("an answer");
    for _ in 0..9 {
        client.query(sql).expect("an answer");
    }
    let after = Page::of(&gateway);
    let sent = 10 * (4 + 1 + sql.len());
    for (name, by) in [
        ("ringgate_downstream_received_bytes_total", sent),
        ("ringgate_upstream_sent_bytes_total", sent),
        ("ringgate_downstream_sent_bytes_total", 10 * answer),
        ("ringgate_upstream_received_bytes_total", 10 * answer),
        ("ringgate_exchanges_total", 10),
        ("ringgate_exchange_seconds_count", 10),
        ("ringgate_upstream_seconds_count", 10),
        ("ringgate_gateway_seconds_count", 10),
        ("ringgate_leases_total", 10),
        ("ringgate_exchange_errors_total", 0),
        ("ringgate_state_restores_total", 0),
        ("ringgate_upstream_prepares_total", 0),
    ] {
        grew(&before, &after, name, &[], by);
    }
    let [total, upstream, gateway] = ["exchange", "upstream", "gateway"].map(|of| {
        let name = format!("ringgate_{of}_seconds_sum");
        after.get(&name, &[]) - before.get(&name, &[])
    });
    // Each is rounded to a microsecond on its own.
    assert!(
        (total - upstream - gateway).abs() < 20e-6,
        "{total} {upstream} {gateway}"
    );
}

#[test]
fn state_statements_and_pins_are_counted_exactly() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        budget: 1,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let (mut one, mut two) = (gateway.client(), gateway.client());
    one.query("SET time_zone = '+01:00'").expect("set");
    let before = Page::of(&gateway);
    one.query("SELECT 1").expect("an answer");
    two.query("SELECT 1").expect("an answer");
    one.query("SELECT 1").expect("an answer");
    one.query("SELECT 1").expect("an answer");
    let statement = one.prepare("SELECT ?").expect("prepared");
    one.execute(statement, &[b"x"]).expect("an answer");
    let after = Page::of(&gateway);
    // From one to two and back.
    grew(&before, &after, "ringgate_state_restores_total", &[], 2);
    grew(&before, &after, "ringgate_upstream_prepares_total", &[], 1);

    let pins = |page: &Page, reason: &str| {
        page.get("ringgate_pins_total", &[&format!("reason=\"{reason}\"")])
    };
    one.query("BEGIN").expect("a transaction");
    one.query("INSERT INTO t VALUES (1)").expect("a row");
    let within = Page::of(&gateway);
    assert_eq!(pins(&within, "transaction"), 1.0);
    assert_eq!(within.get("ringgate_sessions_pinned", &[]), 1.0);
    assert_eq!(within.get("ringgate_upstream_connections_leased", &[]), 1.0);
    one.query("COMMIT").expect("committed");
    assert_eq!(Page::of(&gateway).get("ringgate_sessions_pinned", &[]), 0.0);
    one.query("SET @x = 1").expect("a variable");
    let within = Page::of(&gateway);
    assert_eq!(pins(&within, "user_variable"), 1.0);
    assert_eq!(within.get("ringgate_sessions_pinned", &[]), 1.0);
    drop(one);
    assert!(wait_for(PATIENCE, || {
        Page::of(&gateway).get("ringgate_sessions_pinned", &[]) < 0.5
    }));
}

#[test]
fn cores_are_added_up_and_the_page_names_all_that_is_promised() {
    let server = MariaDb::with_test_schema(TABLE);
    let shape = Shape {
        cores: 2,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut clients: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.query("SELECT 1").expect("an answer");
    }
    let page = Page::of(&gateway);
    let lines: Vec<&str> = page
        .0
        .lines()
        .filter(|line| line.starts_with("ringgate_exchanges_total{"))
        .collect();
    assert_eq!(
        lines,
        ["ringgate_exchanges_total{door=\"main\",placement=\"shard-a\"} 16"]
    );
    for core in ["core=\"0\"", "core=\"1\""] {
        assert!(
            page.get("ringgate_ring_turns_total", &[core]) > 0.0,
            "{core}"
        );
    }
    let budget = page.get("ringgate_upstream_permits", &[]);
    assert_eq!(budget, 4.0, "the cores' permits are the budget");
    let of_cores = Group::ALL.iter().flat_map(|group| group.families());
    for family in of_cores.chain(node::ALL.iter().map(|node| &node.family)) {
        let head = format!("# TYPE {} {}\n", family.name, family.kind.word());
        assert!(page.0.contains(&head), "{head}");
    }
    for path in ["/livez", "/readyz"] {
        let answer = gateway.admin(path).map(|(code, _)| code);
        assert_eq!(answer, Some(200), "{path}");
    }
}
