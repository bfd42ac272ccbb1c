//! Endpoints that a reload takes away and another one brings back: the budget of upstream connections
//! holds over all of it, whichever core is done with what.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::Duration;

use support::{ACCOUNT, Client, Gateway, MariaDb, Ports, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(20);
const BUDGET: u32 = 4;

/// A node of two cores whose one endpoint is the server under the first of its names, or the second: to
/// the node these are two endpoints.
struct Node {
    server: MariaDb,
    gateway: Gateway,
    generation: f64,
}

impl Node {
    fn start() -> Self {
        let server = MariaDb::with_test_schema(TABLE);
        let gateway = Gateway::start(|ports| config(ports, server.port(), true, BUDGET));
        Self {
            server,
            gateway,
            generation: 1.0,
        }
    }

    /// Changes the endpoint, and waits until both cores have it.
    fn reload(&mut self, is_first: bool, budget: u32) {
        let port = self.server.port();
        self.gateway
            .reload(|ports| config(ports, port, is_first, budget));
        self.generation += 1.0;
        let of = || {
            self.gateway
                .metric("ringgate_configuration_generation", &[])
        };
        let applied = wait_for(PATIENCE, || of() + 0.5 > self.generation);
        assert!(applied, "{}", self.gateway.log());
    }

    fn permits(&self, endpoint: &str) -> f64 {
        let label = format!("endpoint=\"{endpoint}:{}\"", self.server.port());
        self.gateway.metric("ringgate_upstream_permits", &[&label])
    }

    /// The permits of the first name add up to the budget, and can all be used at once on either core.
    fn assert_whole(&self, budget: u32) {
        for core in [0, 1] {
            let mut clients: Vec<_> = (0..budget).map(|_| self.gateway.client_on(core)).collect();
            clients.iter_mut().for_each(hold);
            let sum = || self.permits("127.0.0.1");
            let agrees = wait_for(PATIENCE, || (sum() - f64::from(budget)).abs() < 0.5);
            assert!(agrees, "core {core}: {} of {budget} permits", sum());
            let open = || self.server.connections_of(ACCOUNT);
            let holds = wait_for(PATIENCE, || open() == u64::from(budget));
            assert!(holds, "core {core}: {} of {budget} connections", open());
            for client in &mut clients {
                client.query("COMMIT").expect("the transaction's end");
            }
        }
    }
}

fn config(ports: Ports, upstream: u16, is_first: bool, budget: u32) -> String {
    let shape = Shape {
        budget,
        cores: 2,
        extra: "[node]\nserver_version = \"10.11.6-MariaDB\"\n\
                [deadlines]\npool_wait = \"20s\"\n",
        ..Shape::default()
    };
    let text = shape.config(ports, upstream);
    let first = format!("127.0.0.1:{upstream}");
    let name = if is_first { "127.0.0.1" } else { "localhost" };
    text.replace(&first, &format!("{name}:{upstream}"))
}

/// Begins a transaction that keeps its connection.
fn hold(client: &mut Client) {
    client.query("BEGIN").expect("a transaction");
    client.query("SELECT * FROM t").expect("a snapshot");
}

#[test]
fn a_core_that_was_done_with_an_endpoint_gets_no_new_permits_when_it_is_back() {
    let mut node = Node::start();
    // Core 0 has all permits, and keeps its connections over the reloads; core 1 has nothing to keep.
    let mut holding: Vec<_> = (0..BUDGET).map(|_| node.gateway.client_on(0)).collect();
    holding.iter_mut().for_each(hold);
    for _ in 0..3 {
        node.reload(false, BUDGET);
        node.reload(true, BUDGET);
    }
    assert!((node.permits("127.0.0.1") - f64::from(BUDGET)).abs() < 0.5);
    // One that waits on core 1 gets a connection when one is given back, and none beside those.
    let mut waiting = node.gateway.client_on(1);
    waiting.send_query("SELECT 1").expect("a write");
    let waits = || node.gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
    assert!(wait_for(PATIENCE, waits), "nobody waits");
    let open = node.server.connections_of(ACCOUNT);
    assert_eq!(open, u64::from(BUDGET), "beyond the budget");
    for client in &mut holding {
        client.query("COMMIT").expect("the transaction's end");
    }
    waiting.read_query().expect("an answer");
    node.assert_whole(BUDGET);
}

#[test]
fn the_sum_of_permits_is_the_budget_after_reloads_while_connections_change_cores() {
    let mut node = Node::start();
    for round in 0..12 {
        let mut clients: Vec<_> = (0..BUDGET)
            .map(|_| node.gateway.client_on(round % 2))
            .collect();
        for client in &mut clients {
            client.send_query("SELECT SLEEP(0.05)").expect("a write");
        }
        // In the middle of it, and with connections and permits on their way between the cores.
        node.reload(round % 2 == 1, BUDGET);
        for client in &mut clients {
            client.read_query().expect("an answer");
        }
    }
    node.assert_whole(BUDGET);
}

#[test]
fn a_budget_that_has_changed_while_the_endpoint_was_away_is_the_one_that_holds() {
    let mut node = Node::start();
    for (away, back) in [(BUDGET, 6), (2, 3), (8, BUDGET)] {
        // Unevenly divided: core 1 has most.
        let mut clients: Vec<_> = (0..2).map(|_| node.gateway.client_on(1)).collect();
        clients.iter_mut().for_each(hold);
        node.reload(false, away);
        drop(clients);
        node.reload(true, back);
        node.assert_whole(back);
    }
}

/// The limits of clients that are there already are those of the newest configuration.
#[test]
fn new_deadlines_hold_for_clients_that_are_there() {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), &Shape::default());
    let mut client = gateway.client();
    client.query("SELECT SLEEP(0.1)").expect("no limit yet");
    let port = server.port();
    for (generation, statement) in [(2.0, "300ms"), (3.0, "0s")] {
        let extra = format!("[deadlines]\nstatement = \"{statement}\"\n");
        let shape = Shape {
            extra: &extra,
            ..Shape::default()
        };
        gateway.reload(|ports| shape.config(ports, port));
        let is_new = || gateway.metric("ringgate_configuration_generation", &[]) >= generation;
        assert!(wait_for(PATIENCE, is_new), "{}", gateway.log());
        let errno = client.query("SELECT SLEEP(1)").err().map(|e| e.errno());
        let expect = (statement != "0s").then_some(3024);
        assert_eq!(errno, expect, "after a reload to {statement}");
    }
}
