//! The settings of `[deadlines]`: how long each wait takes, from the start and after a reload, also for clients
//! that are there.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::{Client, Gateway, MariaDb, NullServer, Ports, Shape, loopback, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose `[deadlines]` are these lines, with the upstream on this port.
struct Node {
    gateway: Gateway,
    upstream: u16,
    listener: &'static str,
    tenant: String,
}

impl Node {
    fn start(upstream: u16, lines: &str) -> Self {
        Self::with_listener(upstream, "", lines)
    }

    fn with_listener(upstream: u16, listener: &'static str, lines: &str) -> Self {
        Self {
            gateway: Gateway::start(|ports| config(ports, upstream, listener, lines, "")),
            upstream,
            listener,
            tenant: String::new(),
        }
    }

    fn reload(&self, lines: &str) {
        let (upstream, listener) = (self.upstream, self.listener);
        let config = |ports| config(ports, upstream, listener, lines, &self.tenant);
        self.gateway.apply(config);
    }
}

fn config(ports: Ports, upstream: u16, listener: &str, lines: &str, tenant: &str) -> String {
    let extra = format!("[deadlines]\n{lines}\n");
    let shape = Shape {
        budget: 1,
        extra: &extra,
        ..Shape::default()
    };
    let text = shape.config(ports, upstream);
    let text = text.replace("[admin]\n", &format!("{listener}\n[admin]\n"));
    text.replace("[tenants.a]\n", &format!("[tenants.a]\n{tenant}\n"))
}

/// From a little before `millis` to as long after as a busy machine may be late.
fn about(millis: u64) -> Range<Duration> {
    let limit = Duration::from_millis(millis);
    limit - limit / 50..limit + Duration::from_millis(700)
}

/// The reason for which a statement fails, and after what time.
fn fails(client: &mut Client, sql: &str) -> (String, Duration) {
    let begun = Instant::now();
    let error = client.query(sql).expect_err(sql).to_string();
    let reason = error.split("[ringgate ").nth(1).unwrap_or(&error);
    let reason = reason.split(' ').next().unwrap_or_default();
    (reason.to_owned(), begun.elapsed())
}

fn fails_after(client: &mut Client, sql: &str, reason: &str, millis: u64) {
    let (why, took) = fails(client, sql);
    assert_eq!(why, reason, "{sql}");
    assert!(
        about(millis).contains(&took),
        "{why} after {took:?} of {millis} ms"
    );
}

/// The first login of a node, which asks the server and goes on without an answer.
fn logs_in_after(node: &Node, millis: u64) -> Client {
    let begun = Instant::now();
    let client = node.gateway.client();
    let took = begun.elapsed();
    assert!(about(millis).contains(&took), "{took:?} of {millis} ms");
    client
}

/// That the endpoint is tried for so long. It rests for a while after a failure, in which nobody waits.
fn is_tried_for(client: &mut Client, millis: u64) {
    let mut took = Duration::ZERO;
    let is_tried = wait_for(PATIENCE, || {
        let (why, time) = fails(client, "SELECT 1");
        assert_eq!(why, "no_endpoint");
        took = time;
        took > Duration::from_millis(millis * 3 / 4)
    });
    assert!(is_tried, "not tried again");
    assert!(about(millis).end > took, "{took:?}");
}

/// How long the gateway keeps a connection that has not logged in.
fn greeted_for(gateway: &Gateway) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(loopback(gateway.port())).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    assert!(!bytes.is_empty(), "it was greeted");
    begun.elapsed()
}

#[test]
fn a_login_takes_so_long_and_no_longer() {
    let server = NullServer::start(&["mysql"]);
    let node = Node::start(server.port(), "login = \"400ms\"");
    let took = greeted_for(&node.gateway);
    assert!(about(400).contains(&took), "{took:?}");
    node.reload("login = \"1500ms\"");
    let took = greeted_for(&node.gateway);
    assert!(about(1_500).contains(&took), "{took:?}");
}

/// A port whose connects are neither taken nor refused: its listener's queue is full.
struct BlackHole {
    port: u16,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = tcp();
        listener.bind(&loopback(0).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let port = address.as_socket().expect("of TCP").port();
        let mut queued = Vec::new();
        loop {
            let socket = tcp();
            let limit = Duration::from_millis(300);
            let is_full = socket.connect_timeout(&address, limit).is_err();
            queued.push(socket);
            if is_full {
                break;
            }
        }
        Self {
            port,
            _listener: listener,
            _queued: queued,
        }
    }
}

#[test]
fn a_connect_takes_so_long_and_no_longer() {
    let hole = BlackHole::new();
    let node = Node::start(hole.port, "connect = \"300ms\"\npool_wait = \"20s\"");
    let mut client = logs_in_after(&node, 300);
    let (why, took) = fails(&mut client, "SELECT 1");
    assert!(
        why == "no_endpoint" && took < about(0).end,
        "{why} {took:?}"
    );
    node.reload("connect = \"1200ms\"\npool_wait = \"20s\"");
    is_tried_for(&mut client, 1_200);
}

#[test]
fn a_login_at_a_server_takes_so_long_and_no_longer() {
    // The kernel takes connections for it, and nobody says anything there.
    let silent = TcpListener::bind(loopback(0)).expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let node = Node::start(port, "upstream_login = \"300ms\"\npool_wait = \"20s\"");
    let mut client = logs_in_after(&node, 300);
    let (why, took) = fails(&mut client, "SELECT 1");
    assert!(
        why == "no_endpoint" && took < about(0).end,
        "{why} {took:?}"
    );
    node.reload("upstream_login = \"1200ms\"\npool_wait = \"20s\"");
    is_tried_for(&mut client, 1_200);
}

#[test]
fn a_wait_for_a_connection_takes_so_long_and_no_longer() {
    let server = MariaDb::with_test_schema("");
    let wait = |limit: &str| format!("connect = \"200ms\"\npool_wait = \"{limit}\"");
    let node = Node::start(server.port(), &wait("300ms"));
    let mut holder = node.gateway.client();
    holder.query("BEGIN").expect("a transaction");
    holder.query("SELECT 1 FROM DUAL").expect("a row");
    let mut client = node.gateway.client();
    fails_after(&mut client, "SELECT 1", "pool_wait", 300);
    node.reload(&wait("1200ms"));
    fails_after(&mut client, "SELECT 1", "pool_wait", 1_200);
    // One that waits already has the new limit too.
    node.reload(&wait("20s"));
    let begun = Instant::now();
    client.send_query("SELECT 1").expect("a write");
    let waits = || node.gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
    assert!(wait_for(PATIENCE, waits), "nobody waits");
    node.reload(&wait("300ms"));
    let error = client.read_query().expect_err("no connection comes");
    assert_eq!(error.errno(), 3168);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_wait_in_a_queue_that_stands_takes_twice_its_target_and_no_longer() {
    let server = MariaDb::with_test_schema("");
    let wait = |target: &str| {
        format!("connect = \"200ms\"\npool_wait = \"20s\"\npool_wait_target = \"{target}\"")
    };
    let node = Node::start(server.port(), &wait("200ms"));
    let mut holder = node.gateway.client();
    holder.query("BEGIN").expect("a transaction");
    holder.query("SELECT 1 FROM DUAL").expect("a row");
    let mut client = node.gateway.client();
    fails_after(&mut client, "SELECT 1", "pool_overload", 400);
    node.reload(&wait("600ms"));
    fails_after(&mut client, "SELECT 1", "pool_overload", 1_200);
    let turned_away = "ringgate_leases_turned_away_total";
    assert!((node.gateway.metric(turned_away, &[]) - 2.0).abs() < 0.5);
    // Without a target it goes on, until a reload gives one.
    node.reload(&wait("0s"));
    client.send_query("SELECT 1").expect("a write");
    let waits = || node.gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
    assert!(wait_for(PATIENCE, waits), "nobody waits");
    std::thread::sleep(Duration::from_millis(700));
    assert!(waits(), "it waits as long as `pool_wait` says");
    node.reload(&wait("50ms"));
    let error = client.read_query().expect_err("no connection comes");
    assert!(error.to_string().contains("pool_overload"), "{error}");
    holder.query("COMMIT").expect("the end of the transaction");
    assert!(client.query("SELECT 1").is_ok());
}

#[test]
fn a_statement_takes_as_long_as_its_tenant_may_before_all_others() {
    let server = MariaDb::with_test_schema("");
    let mut node = Node::start(server.port(), "statement = \"300ms\"");
    let mut client = node.gateway.client();
    fails_after(&mut client, "SELECT SLEEP(5)", "statement_deadline", 300);
    node.tenant = "statement = \"1s\"".to_owned();
    node.reload("statement = \"300ms\"");
    fails_after(&mut client, "SELECT SLEEP(5)", "statement_deadline", 1_000);
    node.tenant = "statement = \"0s\"".to_owned();
    node.reload("statement = \"300ms\"");
    client
        .query("SELECT SLEEP(1)")
        .expect("no limit of the tenant");
    node.tenant.clear();
    node.reload("statement = \"700ms\"");
    fails_after(&mut client, "SELECT SLEEP(5)", "statement_deadline", 700);
    // From the start on.
    let lines = "statement = \"400ms\"\n";
    let gateway = Gateway::start(|ports| config(ports, server.port(), "", "", lines));
    let mut client = gateway.client();
    fails_after(&mut client, "SELECT SLEEP(5)", "statement_deadline", 400);
}

/// How long the gateway keeps a client that is silent from now on.
fn kept_for(mut client: Client) -> Duration {
    let begun = Instant::now();
    let error = client.read_goodbye().expect_err("a goodbye");
    assert_eq!(error.errno(), 4031, "{error}");
    begun.elapsed()
}

#[test]
fn an_idle_client_is_kept_for_so_long_also_if_it_was_there_before() {
    let server = NullServer::start(&["mysql"]);
    let node = Node::start(server.port(), "idle_client = \"500ms\"");
    let took = kept_for(node.gateway.client());
    assert!(about(500).contains(&took), "{took:?}");
    node.reload("");
    // Both have eight hours now, one of them having been served.
    let (fresh, mut served) = (node.gateway.client(), node.gateway.client());
    served.query("SELECT 1").expect("an answer");
    std::thread::sleep(Duration::from_millis(700));
    node.reload("idle_client = \"1500ms\"");
    for client in [fresh, served] {
        let took = kept_for(client);
        assert!(took < about(1_500).end, "{took:?}");
    }
    let took = kept_for(node.gateway.client());
    assert!(about(1_500).contains(&took), "{took:?}");
}

/// A small send buffer, so that the node itself has most of what is not read.
const SMALL: &str = "send_buffer = \"64KiB\"\nuser_timeout = \"0s\"";
const ASKED: usize = 4_000_000;

/// A client that has asked for more than it takes, and then says nothing and reads nothing.
fn asks_for_much(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    let socket = socket2::SockRef::from(&*client.stream());
    socket.set_recv_buffer_size(8_192).expect("a socket");
    client.send_query("SELECT 1").expect("a write");
    client
}

#[test]
fn a_client_that_takes_nothing_is_kept_for_so_long() {
    let size = format!("{ASKED}");
    let server = NullServer::start(&["mysql", "--answer-size", &size]);
    let node = Node::with_listener(server.port(), SMALL, "write_stall = \"500ms\"");
    let open = || node.gateway.metric("ringgate_connections_open", &[]) > 0.5;
    let kept = |begun: Instant| {
        assert!(open(), "ended at once");
        assert!(wait_for(PATIENCE, || !open()), "never ended");
        begun.elapsed()
    };
    let begun = Instant::now();
    let _silent = asks_for_much(&node.gateway);
    let took = kept(begun);
    assert!(took > about(500).start, "{took:?}");
    node.reload("write_stall = \"60s\"");
    let _silent = asks_for_much(&node.gateway);
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(open(), "it has a minute");
    // One that is there has the new time too.
    node.reload("write_stall = \"500ms\"");
    assert!(wait_for(Duration::from_secs(10), || !open()), "never ended");
}

/// What a client still gets that says goodbye behind its statement, and reads after this time.
fn got_after(gateway: &Gateway, pause: Duration) -> usize {
    let mut client = asks_for_much(gateway);
    client
        .stream()
        .write_all(&[1, 0, 0, 0, 1])
        .expect("a write");
    std::thread::sleep(pause);
    let mut bytes = Vec::new();
    let _ = client.stream().read_to_end(&mut bytes);
    bytes.len()
}

#[test]
fn what_is_left_is_sent_for_so_long_after_the_end() {
    let server = NullServer::start(&["mysql", "--answer-size", "200000"]);
    let node = Node::with_listener(server.port(), SMALL, "linger = \"20s\"");
    let pause = Duration::from_secs(1);
    let whole = got_after(&node.gateway, pause);
    assert!(whole > 200_000, "{whole} bytes");
    node.reload("linger = \"100ms\"");
    let part = got_after(&node.gateway, pause);
    assert!(part < 200_000, "{part} bytes a second after the end");
    node.reload("linger = \"20s\"");
    assert_eq!(got_after(&node.gateway, pause), whole);
    // From the start on.
    let short = Node::with_listener(server.port(), SMALL, "linger = \"100ms\"");
    let part = got_after(&short.gateway, pause);
    assert!(part < 200_000, "{part} bytes a second after the end");
}
