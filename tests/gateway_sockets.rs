//! Options of sockets, of listeners and of placements: what the kernel has of them, from the start and after a
//! reload, for connections that come from then on.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::{Client, Gateway, MariaDb, NullServer, Ports, Shape, SocketState, loopback};

/// The options in one shape: as lines of a section, and as the kernel shows them.
#[derive(Clone, Copy)]
struct Wanted {
    /// Seconds to the first probe, between them, and how many; 0 seconds for none.
    keepalive: (u64, u64, u32),
    user_timeout: u64,
    /// KiB.
    receive_buffer: usize,
    send_buffer: usize,
    congestion: &'static str,
}

const FIRST: Wanted = Wanted {
    keepalive: (41, 7, 5),
    user_timeout: 33,
    receive_buffer: 64,
    send_buffer: 48,
    congestion: "reno",
};
const SECOND: Wanted = Wanted {
    keepalive: (52, 8, 6),
    user_timeout: 44,
    receive_buffer: 96,
    send_buffer: 80,
    congestion: "cubic",
};
/// What can be off is off.
const OFF: Wanted = Wanted {
    keepalive: (0, 8, 6),
    user_timeout: 0,
    ..SECOND
};

impl Wanted {
    fn lines(&self) -> String {
        let (idle, interval, count) = self.keepalive;
        format!(
            "keepalive = \"{idle}s\"\nkeepalive_interval = \"{interval}s\"\n\
             keepalive_count = {count}\nuser_timeout = \"{}s\"\nreceive_buffer = \"{}KiB\"\n\
             send_buffer = \"{}KiB\"\ncongestion = \"{}\"\n",
            self.user_timeout, self.receive_buffer, self.send_buffer, self.congestion
        )
    }

    fn state(&self) -> SocketState {
        let (idle, interval, count) = self.keepalive;
        let secs = Duration::from_secs;
        SocketState {
            keepalive: (idle > 0).then(|| (secs(idle), secs(interval), count)),
            user_timeout: (self.user_timeout > 0).then(|| secs(self.user_timeout)),
            // The kernel doubles what it is asked for.
            receive_buffer: self.receive_buffer * 2 * 1024,
            send_buffer: self.send_buffer * 2 * 1024,
            congestion: self.congestion.to_owned(),
        }
    }
}

fn config(ports: Ports, upstream: u16, listener: &str, placement: &str) -> String {
    let text = Shape::default().config(ports, upstream);
    let text = text.replace("[admin]\n", &format!("{listener}\n[admin]\n"));
    text.replace("[tenants.a]\n", &format!("{placement}\n[tenants.a]\n"))
}

/// Where the client is, for the gateway.
fn address(client: &mut Client) -> SocketAddr {
    client.stream().local_addr().expect("a connected socket")
}

#[test]
fn options_of_a_listener_are_those_of_its_connections_and_follow_a_reload() {
    let server = NullServer::start(&["mysql"]);
    let port = server.port();
    let gateway = Gateway::start(|ports| config(ports, port, &FIRST.lines(), ""));
    let of = |client: &mut Client| SocketState::of(gateway.pid(), address(client));
    let mut first = gateway.client();
    assert_eq!(of(&mut first), FIRST.state());
    for wanted in [SECOND, OFF, FIRST] {
        gateway.apply(|ports| config(ports, port, &wanted.lines(), ""));
        let mut next = gateway.client();
        assert_eq!(of(&mut next), wanted.state());
        // How far windows may grow is a matter of the listening socket.
        assert_eq!(
            SocketState::listening(gateway.pid(), gateway.port()),
            wanted.state()
        );
        assert_eq!(
            of(&mut first),
            FIRST.state(),
            "who is there keeps what he has"
        );
        next.query("SELECT 1").expect("it serves");
    }
}

#[test]
fn options_of_a_placement_are_those_of_its_connections_and_follow_a_reload() {
    let server = MariaDb::with_test_schema("");
    let port = server.port();
    let gateway = Gateway::start(|ports| config(ports, port, "", &FIRST.lines()));
    let states = || SocketState::to_port(gateway.pid(), port);
    // Each holds its connection, so that the next one needs another.
    let hold = || {
        let mut client = gateway.client();
        client.query("BEGIN").expect("a transaction");
        client
            .query("SELECT 1 FROM DUAL FOR UPDATE")
            .expect("a row");
        client
    };
    let mut holding = vec![hold()];
    assert_eq!(states(), [FIRST.state()]);
    let mut expected = vec![FIRST.state()];
    for wanted in [SECOND, OFF] {
        gateway.apply(|ports| config(ports, port, "", &wanted.lines()));
        holding.push(hold());
        expected.push(wanted.state());
        let mut seen = states();
        for wanted in &expected {
            let at = seen.iter().position(|state| state == wanted);
            let at = at.unwrap_or_else(|| panic!("no {wanted:?} in {seen:?}"));
            seen.remove(at);
        }
        assert_eq!(seen, []);
    }
    // Without any line: the kernel tunes buffers itself, and probes are as by default.
    gateway.apply(|ports| config(ports, port, "", ""));
    holding.push(hold());
    let fresh = states().into_iter().find(|state| !expected.contains(state));
    let fresh = fresh.expect("a fourth connection");
    let probes = (Duration::from_secs(30), Duration::from_secs(10), 3);
    assert_eq!(fresh.keepalive, Some(probes));
    assert_eq!(fresh.user_timeout, Some(Duration::from_secs(10)));
    assert_ne!(fresh.receive_buffer, OFF.state().receive_buffer);
}

/// How many connections the kernel takes for a process that is stopped, 40 at most.
fn queued(backlog: u32) -> usize {
    let server = NullServer::start(&["mysql"]);
    let line = format!("backlog = {backlog}\n");
    let gateway = Gateway::start(|ports| config(ports, server.port(), &line, ""));
    gateway.signal("STOP");
    // The accept that is in the kernel already may take one more before the stop is seen.
    let until = Instant::now() + Duration::from_secs(20);
    let mut taken = Vec::new();
    while taken.len() < 40 && Instant::now() < until {
        let timeout = Duration::from_millis(400);
        match TcpStream::connect_timeout(&loopback(gateway.port()), timeout) {
            Ok(stream) => taken.push(stream),
            Err(_) => break,
        }
    }
    gateway.signal("CONT");
    taken.len()
}

#[test]
fn the_kernel_queues_as_many_connections_as_the_backlog_says() {
    // It takes one more than it is told, and what accepts are under way.
    let few = queued(5);
    assert!((5..=9).contains(&few), "{few} with a backlog of 5");
    assert_eq!(queued(60), 40);
}
