//! The settings of `[pools]`: each does what the page says, from the start and after a reload.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use support::{ACCOUNT, Client, Gateway, Login, MariaDb, Ports, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);
const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";

/// A node of one core before a server, whose `[pools]` are `pools`; with a second tenant, `b`.
struct Node {
    server: MariaDb,
    gateway: Gateway,
    budget: u32,
}

impl Node {
    fn start(budget: u32, pools: &str) -> Self {
        let server = MariaDb::with_test_schema(TABLE);
        let gateway = Gateway::start(|ports| config(ports, server.port(), budget, pools));
        Self {
            server,
            gateway,
            budget,
        }
    }

    fn reload(&self, pools: &str) {
        let port = self.server.port();
        self.gateway
            .apply(|ports| config(ports, port, self.budget, pools));
    }

    fn client_of_b(&self) -> Client {
        let login = Login {
            user: "b".to_owned(),
            password: "password-of-b".to_owned(),
            ..self.gateway.login()
        };
        Client::connect(&login).expect("a login")
    }

    /// A client that has a connection and keeps it.
    fn holder(&self) -> Client {
        let mut client = self.gateway.client();
        client.query("BEGIN").expect("a transaction");
        client.query("SELECT * FROM t").expect("a snapshot");
        client
    }

    fn waiting(&self) -> usize {
        let count = self.gateway.metric("ringgate_leases_waiting", &[]);
        (0..100)
            .find(|n| (f64::from(*n) - count).abs() < 0.5)
            .map_or(100, |n| n as usize)
    }
}

fn config(ports: Ports, upstream: u16, budget: u32, pools: &str) -> String {
    let shape = Shape {
        budget,
        pools,
        extra: "[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
                [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
                password = { env = \"RG_B_PASSWORD\" }\n\
                [deadlines]\npool_wait = \"20s\"\n",
        ..Shape::default()
    };
    shape.config(ports, upstream)
}

/// Has clients of two tenants wait, until one is refused at once; how many wait then.
fn fill_the_queue(node: &Node, waiting: &mut Vec<Client>) -> usize {
    loop {
        let is_even = waiting.len().is_multiple_of(2);
        let mut client = if is_even {
            node.gateway.client()
        } else {
            node.client_of_b()
        };
        client.send_query("SELECT 1").expect("a write");
        let before = waiting.len();
        let mut is_refused = false;
        let is_settled = wait_for(PATIENCE, || {
            is_refused = client.is_quiet().is_ok_and(|is_quiet| !is_quiet);
            is_refused || node.waiting() == before + 1
        });
        assert!(is_settled, "neither waits nor is refused");
        if is_refused {
            let error = client.read_query().expect_err("a full queue");
            assert!(error.to_string().contains("pool_full"), "{error}");
            assert_eq!(error.errno(), 3168);
            return before;
        }
        waiting.push(client);
    }
}

#[test]
fn so_many_clients_of_all_tenants_wait_for_an_endpoint_and_no_more() {
    let node = Node::start(1, "waiters_max = 3");
    let mut holder = node.holder();
    let mut waiting = Vec::new();
    assert_eq!(fill_the_queue(&node, &mut waiting), 3);
    node.reload("waiters_max = 6");
    assert_eq!(fill_the_queue(&node, &mut waiting), 6);
    // A smaller queue sends nobody away who waits in it.
    node.reload("waiters_max = 2");
    assert_eq!(fill_the_queue(&node, &mut waiting), 6);
    holder.query("COMMIT").expect("the connection goes on");
    for client in &mut waiting {
        client.read_query().expect("its turn");
    }
}

#[test]
fn a_reload_bounds_how_long_connections_are_idle() {
    let node = Node::start(4, "");
    node.gateway.client().query("SELECT 1").expect("an answer");
    assert_eq!(node.server.connections_of(ACCOUNT), 1);
    let begun = Instant::now();
    node.reload("idle_max = \"1s\"");
    assert!(wait_for(PATIENCE, || node.server.connections_of(ACCOUNT) == 0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let closed = "ringgate_upstream_connections_closed_total";
    assert!(node.gateway.metric(closed, &["pool_idle"]) > 0.5);
}

#[test]
fn a_reload_bounds_how_old_connections_become() {
    let node = Node::start(1, "");
    let mut client = node.gateway.client();
    let mut upstream = || {
        // What CONNECTION_ID() gives may be the client's.
        let sql = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%mark of it%'";
        let answer = client.query_one(sql).expect("a row");
        answer.text(0, 0).expect("a value")
    };
    let first = upstream();
    node.reload("idle_max = \"1s\"\nage_max = \"2s\"");
    let begun = Instant::now();
    assert!(
        wait_for(PATIENCE, || upstream() != first),
        "it is an hour old at most"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let closed = "ringgate_upstream_connections_closed_total";
    assert!(node.gateway.metric(closed, &["pool_age"]) > 0.5);
    // Those opened from now on are allowed longer again.
    node.reload("age_max = \"1h\"");
    let before = node.gateway.metric(closed, &["pool_age"]);
    assert!(wait_for(PATIENCE, || {
        upstream();
        node.gateway.metric(closed, &["pool_age"]) > before + 0.5
    }));
    let second = upstream();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(upstream(), second);
    }
}

/// Prepares and executes ten statements on the connection that is free.
fn prepare_ten(client: &mut Client) {
    for n in 0..10 {
        let statement = client.prepare(&format!("SELECT {n}")).expect("prepared");
        client.execute(statement, &[]).expect("executed");
    }
}

#[test]
fn a_connection_keeps_so_many_statements_prepared() {
    let node = Node::start(2, "statements_max = 3");
    let count = || node.server.status("Prepared_stmt_count");
    let mut client = node.gateway.client();
    prepare_ten(&mut client);
    assert!(wait_for(PATIENCE, || count() == 3), "{} of 3", count());
    // A reload is for connections that are opened then.
    node.reload("statements_max = 5");
    let _holder = node.holder();
    prepare_ten(&mut client);
    assert!(wait_for(PATIENCE, || count() == 8), "{} of 3 + 5", count());
}

/// How many statements the client can prepare.
fn prepared(client: &mut Client) -> usize {
    for n in 0.. {
        match client.prepare(&format!("SELECT {n}")) {
            Ok(_) => assert!(n < 100, "no bound"),
            Err(error) => {
                assert_eq!(error.errno(), 1461, "{error}");
                return n;
            }
        }
    }
    unreachable!("an endless count")
}

#[test]
fn a_client_has_so_many_statements_prepared_and_no_more() {
    let node = Node::start(2, "statements_per_client_max = 4");
    let mut client = node.gateway.client();
    assert_eq!(prepared(&mut client), 4);
    node.reload("statements_per_client_max = 7");
    assert_eq!(prepared(&mut client), 3, "of a client that is there");
    assert_eq!(prepared(&mut node.gateway.client()), 7);
}
