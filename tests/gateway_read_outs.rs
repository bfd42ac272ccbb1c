//! What a session left on a connection that another session has taken over: while it is on its way,
//! its reader waits no longer than for anything else, and nothing that ends a wait is missed.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Chaos, Client, ClientError, Gateway, MariaDb, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT AUTO_INCREMENT PRIMARY KEY, b INT) \
                     ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(15);
const POOL_WAIT: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_millis(500);

/// What leaves something behind, what reads it, and what is read.
const KINDS: [(&str, &str, &str); 3] = [
    (
        "SELECT SQL_CALC_FOUND_ROWS seq FROM seq_1_to_9 LIMIT 2",
        "SELECT FOUND_ROWS()",
        "9",
    ),
    ("SELECT CAST('x' AS INT)", "SHOW WARNINGS", "Warning"),
    (
        "INSERT INTO t (b) VALUES (1), (2)",
        "SELECT LAST_INSERT_ID()",
        "1",
    ),
];

/// A reader whose state another session's lease is reading out, from a server that does not answer.
struct Scene {
    server: MariaDb,
    gateway: Gateway,
    reader: Client,
    other: Client,
}

impl Scene {
    fn new(leaves: &str, reads: &str, extra: &str) -> Self {
        let server = MariaDb::with_test_schema(TABLE);
        let extra = format!("[deadlines]\npool_wait = \"1s\"\n{extra}");
        let shape = Shape {
            budget: 1,
            extra: &extra,
            ..Shape::default()
        };
        let gateway = Gateway::in_shape(server.port(), &shape);
        let mut reader = gateway.client();
        let mut other = gateway.client();
        reader.query(leaves).expect("something is left behind");
        server.pause();
        other.send_query("SELECT 'other'").expect("a write");
        let leased = || gateway.metric("ringgate_upstream_connections_leased", &[]);
        assert!(wait_for(PATIENCE, || leased() > 0.5), "not taken over");
        reader.send_query(reads).expect("a write");
        Self {
            server,
            gateway,
            reader,
            other,
        }
    }

    /// Downstream connections.
    fn open(&self) -> f64 {
        self.gateway.metric("ringgate_connections_open", &[])
    }

    /// The reader's statement has been taken in, and waits.
    fn reader_waits(&self) {
        let received = || {
            let name = "ringgate_downstream_received_bytes_total";
            self.gateway.metric(name, &[])
        };
        let mut before = received();
        let settled = wait_for(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(50));
            let now = received();
            std::mem::replace(&mut before, now) >= now
        });
        assert!(settled, "bytes still come");
    }
}

#[test]
fn a_read_out_that_comes_late_is_the_readers_own() {
    for (leaves, reads, value) in KINDS {
        let mut scene = Scene::new(leaves, reads, "");
        scene.reader_waits();
        scene.server.resume();
        let answer = scene.reader.read_query();
        let answer = answer.unwrap_or_else(|error| panic!("{reads}: {error}"));
        assert_eq!(answer.text(0, 0).as_deref(), Some(value), "{reads}");
        let answer = scene.other.read_query().expect("its own answer");
        assert_eq!(answer.text(0, 0).as_deref(), Some("other"));
    }
}

#[test]
fn a_wait_for_a_read_out_has_a_deadline() {
    for (leaves, reads, _) in KINDS {
        let mut scene = Scene::new(leaves, reads, "");
        let begun = Instant::now();
        let limit = Some(POOL_WAIT + Duration::from_secs(5));
        let set = scene.reader.stream().set_read_timeout(limit);
        set.expect("a socket");
        let answer = scene.reader.read_query();
        let took = begun.elapsed();
        eprintln!("{reads}: {answer:?} after {took:?}");
        let error = answer.expect_err("nothing has been read out");
        assert!(
            matches!(error, ClientError::Server { .. }),
            "{reads}: {error}"
        );
        assert!(took < POOL_WAIT + SLACK, "{reads}: {took:?}");
        scene.server.resume();
        // Whatever it was told, it is kept, and so is the other one.
        scene.reader.query("SELECT 1").expect("it is kept");
        let answer = scene.other.read_query().expect("its own answer");
        assert_eq!(answer.text(0, 0).as_deref(), Some("other"));
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_read_out_is_gone() {
    for ((leaves, reads, _), is_reset) in KINDS.into_iter().zip([true, false, true]) {
        let scene = Scene::new(leaves, reads, "");
        scene.reader_waits();
        let Scene {
            reader,
            gateway,
            server,
            mut other,
        } = scene;
        if is_reset {
            reader.abort().expect("a reset");
        } else {
            drop(reader);
        }
        let open = || gateway.metric("ringgate_connections_open", &[]);
        let gone = wait_for(Duration::from_secs(5), || open() < 1.5);
        assert!(gone, "{reads}, reset {is_reset}: {} are open", open());
        server.resume();
        let answer = other.read_query().expect("its own answer");
        assert_eq!(answer.text(0, 0).as_deref(), Some("other"));
    }
}

#[test]
fn a_drain_ends_a_wait_for_a_read_out() {
    let (leaves, reads, _) = KINDS[0];
    let extra = "[node]\ndrain_grace = \"500ms\"\n";
    let mut scene = Scene::new(leaves, reads, extra);
    scene.reader_waits();
    assert!(scene.open() > 1.5);
    let begun = Instant::now();
    scene.gateway.signal("TERM");
    let error = scene.reader.read_query().expect_err("a goodbye");
    let took = begun.elapsed();
    eprintln!("{error} after {took:?}");
    assert_eq!(error.errno(), 1053, "{error}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    scene.server.resume();
    let status = scene.gateway.wait_for_exit(PATIENCE);
    assert!(status.success(), "{status}");
}

/// The other session's connection is lost: what was on its way never comes, and the reader is told.
#[test]
fn a_read_out_that_is_lost_is_told() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let shape = Shape {
        budget: 1,
        extra: "[deadlines]\npool_wait = \"5s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    for (leaves, reads, _) in KINDS {
        let mut reader = gateway.client();
        let mut other = gateway.client();
        reader.query(leaves).expect("something is left behind");
        server.pause();
        // A write is not tried again, so that nothing is read out twice.
        other
            .send_query("INSERT INTO t (b) VALUES (7)")
            .expect("a write");
        let leased = || gateway.metric("ringgate_upstream_connections_leased", &[]);
        assert!(wait_for(PATIENCE, || leased() > 0.5), "not taken over");
        reader.send_query(reads).expect("a write");
        chaos.cut_after(0);
        server.resume();
        let error = other.read_query().expect_err("its answer was cut off");
        assert_eq!(error.errno(), 1158, "{error}");
        match reader.read_query() {
            // The gateway knows an insert id from the OK packet.
            Ok(answer) => assert_eq!(reads, "SELECT LAST_INSERT_ID()", "{answer:?}"),
            Err(ClientError::Server { .. }) => {}
            Err(error) => panic!("{reads}: {error}"),
        }
        reader.query("SELECT 1").expect("it is kept");
    }
}
