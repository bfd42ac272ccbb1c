//! Clients whose user a reload has removed: told and ended between transactions, after a while in any case.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, ClientError, Gateway, Login, MariaDb, Ports, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    server: MariaDb,
    gateway: Gateway,
}

/// The user `u` of tenant `a`.
const U: &str = "[users.u]\ntenant = \"a\"\npassword = { env = \"RG_B_PASSWORD\" }\n";
/// The same of tenant `b`.
const MOVED: &str = "[users.u]\ntenant = \"b\"\npassword = { env = \"RG_B_PASSWORD\" }\n";
const OTHER_PASSWORD: &str = "[users.u]\ntenant = \"a\"\npassword = { env = \"RG_A_PASSWORD\" }\n";

fn config(ports: Ports, upstream: u16, deadline: &str, users: &str) -> String {
    let extra = format!(
        "[deadlines]\n{deadline}\n[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n{users}"
    );
    let shape = Shape {
        extra: &extra,
        ..Shape::default()
    };
    shape.config(ports, upstream)
}

impl Node {
    fn start(deadline: &str) -> Self {
        let server = MariaDb::with_test_schema("CREATE TABLE test.t (n INT) ENGINE=InnoDB;\n");
        let port = server.port();
        let gateway = Gateway::start(|ports| config(ports, port, deadline, U));
        Self { server, gateway }
    }

    fn reload(&self, deadline: &str, users: &str) {
        let port = self.server.port();
        self.gateway
            .apply(|ports| config(ports, port, deadline, users));
    }

    /// A client of user `u` that has run these.
    fn client(&self, statements: &[&str]) -> Client {
        let login = Login {
            user: "u".to_owned(),
            password: "password-of-b".to_owned(),
            ..self.gateway.login()
        };
        let mut client = Client::connect(&login).expect("a login");
        for sql in statements {
            client
                .query(sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        client
    }

    fn rows(&self) -> String {
        self.server
            .sql("SELECT COUNT(*) FROM test.t")
            .trim()
            .to_owned()
    }
}

fn reason(error: &ClientError) -> (u16, String) {
    let text = error.to_string();
    let reason = text.split("[ringgate ").nth(1).unwrap_or(&text);
    let reason = reason.split(' ').next().unwrap_or_default();
    (error.errno(), reason.to_owned())
}

/// That the client is told so between two commands, and ended.
fn is_ended(client: &mut Client, what: &str) {
    let error = client.read_goodbye().expect_err(what);
    assert_eq!(reason(&error), (1045, "user_removed".to_owned()), "{what}");
    assert!(client.is_ended_within(PATIENCE), "{what}");
}

#[test]
fn a_removed_users_clients_are_told_between_transactions_and_ended_after_their_time() {
    let deadline = "removed_user = \"5s\"";
    let node = Node::start(deadline);
    let (mut idle, mut idle_in) = (node.client(&["SELECT 1"]), node.client(&["BEGIN"]));
    let mut working = node.client(&["BEGIN", "INSERT INTO t VALUES (1)"]);
    let mut asking = node.client(&[]);
    asking.send_query("SELECT SLEEP(0.7)").expect("a write");
    let mut other = node.gateway.client();
    assert!(node.server.runs("SLEEP(0.7)", PATIENCE));
    let begun = Instant::now();
    node.reload(deadline, "");
    is_ended(&mut idle, "an idle one");
    // Not at the end of its time.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    asking.read_query().expect("what runs is answered");
    is_ended(&mut asking, "one that has its answer");
    working
        .query("INSERT INTO t VALUES (2)")
        .expect("its transaction goes on");
    working.query("COMMIT").expect("to its end");
    is_ended(&mut working, "one that has committed");
    assert_eq!(node.rows(), "2");
    is_ended(&mut idle_in, "an idle transaction");
    let took = begun.elapsed();
    assert!((5_000..8_750).contains(&took.as_millis()), "{took:?}");
    other.query("SELECT 1").expect("another user's");
    let count = || {
        let labels = ["reason=\"user_removed\""];
        node.gateway
            .metric("ringgate_connections_closed_total", &labels)
            .round()
    };
    assert!(wait_for(PATIENCE, || count() == 4.0), "{}", count());
    assert!(node.gateway.has_logged("reason=user_removed"));
}

#[test]
fn a_statement_of_a_removed_user_is_ended_after_the_time_on_the_server_too() {
    let deadline = "removed_user = \"2s\"";
    let node = Node::start(deadline);
    let (mut reading, mut writing) = (node.client(&[]), node.client(&[]));
    reading.send_query("SELECT SLEEP(30)").expect("a write");
    writing
        .send_query("INSERT INTO t SELECT SLEEP(31)")
        .expect("a write");
    for text in ["SLEEP(30)", "SLEEP(31)"] {
        assert!(node.server.runs(text, PATIENCE));
    }
    let begun = Instant::now();
    node.reload(deadline, "");
    let told = reading.read_query().expect_err("cut off");
    assert_eq!(reason(&told), (1045, "user_removed".to_owned()));
    let told = writing.read_query().expect_err("cut off");
    assert_eq!(reason(&told), (1158, "removed_unknown".to_owned()));
    let took = begun.elapsed();
    assert!((2_000..8_000).contains(&took.as_millis()), "{took:?}");
    let is_over = || {
        let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(3%' \
                       AND ID <> CONNECTION_ID()";
        node.server.sql(running).trim() == "0"
    };
    assert!(wait_for(Duration::from_secs(10), is_over), "it runs on");
    // One that waits for a connection.
    node.reload(deadline, U);
    let mut holders: Vec<Client> = (0..4).map(|_| node.gateway.client()).collect();
    for holder in &mut holders {
        holder.query("BEGIN").expect("a transaction");
    }
    let mut waiting = node.client(&[]);
    waiting.send_query("SELECT 1").expect("a write");
    let waits = || node.gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
    assert!(wait_for(PATIENCE, waits));
    node.reload("removed_user = \"300ms\"", "");
    let told = waiting.read_query().expect_err("it waits no longer");
    assert_eq!(reason(&told), (1045, "user_removed".to_owned()));
    assert!(waiting.is_ended_within(PATIENCE));
}

#[test]
fn a_user_that_comes_back_in_time_stays_and_one_that_is_moved_does_not() {
    let deadline = "removed_user = \"4s\"";
    let node = Node::start(deadline);
    let mut client = node.client(&["BEGIN", "INSERT INTO t VALUES (1)"]);
    node.reload(deadline, "");
    client.query("SELECT 1").expect("its transaction goes on");
    node.reload(deadline, U);
    std::thread::sleep(Duration::from_millis(4_300));
    client.query("COMMIT").expect("it is back");
    client.query("SELECT 1").expect("it is back");
    // Another password is for logins that come.
    node.reload(deadline, OTHER_PASSWORD);
    std::thread::sleep(Duration::from_millis(100));
    client.query("SELECT 1").expect("the same user");
    node.reload(deadline, MOVED);
    is_ended(&mut client, "one of another tenant");
    node.client(&["SELECT 1"]);
}

#[test]
fn without_a_limit_a_removed_users_clients_stay_until_a_reload_gives_one() {
    let node = Node::start("removed_user = \"0s\"");
    let mut client = node.client(&["SELECT 1"]);
    node.reload("removed_user = \"0s\"", "");
    std::thread::sleep(Duration::from_millis(500));
    client.query("SELECT 1").expect("it stays");
    node.reload("removed_user = \"10s\"", "");
    is_ended(&mut client, "one that was there");
    // Half a minute is what the page says.
    node.reload("", U);
    let mut client = node.client(&["BEGIN"]);
    node.reload("", "");
    std::thread::sleep(Duration::from_millis(500));
    client.query("SELECT 1").expect("there is time");
    client.query("COMMIT").expect("there is time");
    is_ended(&mut client, "by default");
}
