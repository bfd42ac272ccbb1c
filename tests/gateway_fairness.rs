//! Tenants and pools of one endpoint beside each other, when there are fewer connections than clients.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::gateway::metric_sum;
use support::{Client, Gateway, Login, MariaDb, Shape};

/// Ten clients of a pool that is there first loop; one of another pool must still get its turns.
#[test]
fn a_permit_that_one_pool_gives_up_for_another_goes_there() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 2,
        extra: "[deadlines]\npool_wait = \"3s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let is_over = AtomicBool::new(false);
    let served = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.query("SELECT SLEEP(0.05)");
                    served.fetch_add(u32::from(answer.is_ok()), Ordering::Relaxed);
                }
            });
        }
        // Once they have been served, their pool is the older one.
        let begun = Instant::now();
        while served.load(Ordering::Relaxed) < 10 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // A session in a schema has connections of its own.
        let mut other = gateway.client();
        let answers: Vec<_> = (0..3)
            .map(|_| {
                other
                    .query("USE test")
                    .and_then(|_| other.query("SELECT 1"))
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(refused, 0, "{answers:?}");
    });
}

const NEIGHBOUR: &str = "[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
    [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
    password = { env = \"RG_B_PASSWORD\" }\n";

/// How long statements are counted.
const COUNTED: Duration = Duration::from_secs(5);

/// How two kinds of clients that never pause were served beside each other.
struct Served {
    counts: [u32; 2],
    connects: f64,
}

impl Served {
    /// That each had its share, with few connects: 20 for 1,000 statements, or one each 500 ms, after
    /// which a connection changes hands however slow statements are.
    fn check(&self, what: &str) {
        let [a, b] = self.counts.map(f64::from);
        let told = format!(
            "{what}: {:?} served, {} connects",
            self.counts, self.connects
        );
        assert!((0.8..=1.25).contains(&(a / b)), "{told}");
        let most = ((a + b) * 0.02).max(COUNTED.as_secs_f64() / 0.5 + 2.0);
        assert!(self.connects <= most, "{told}");
    }
}

/// Lets `clients` of each kind repeat a statement of 5 ms, one kind after the other having begun.
fn contend(gateway: &Gateway, clients: usize, connect: impl Fn(usize) -> Client + Sync) -> Served {
    let (is_counting, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let counts = [const { AtomicU32::new(0) }; 2];
    let connects = || metric_sum(&gateway.metrics(), "ringgate_upstream_connects_total", &[]);
    let mut made = 0.0;
    std::thread::scope(|scope| {
        for kind in 0..2 {
            for _ in 0..clients {
                let (is_counting, is_over, connect) = (&is_counting, &is_over, &connect);
                let count = &counts[kind];
                scope.spawn(move || {
                    let mut client = connect(kind);
                    while !is_over.load(Ordering::Relaxed) {
                        client.query("SELECT SLEEP(0.005)").expect("served");
                        let counts = is_counting.load(Ordering::Relaxed);
                        count.fetch_add(u32::from(counts), Ordering::Relaxed);
                    }
                });
            }
            // The second kind finds all connections taken.
            std::thread::sleep(Duration::from_millis(500));
        }
        let before = connects();
        is_counting.store(true, Ordering::Relaxed);
        std::thread::sleep(COUNTED);
        is_counting.store(false, Ordering::Relaxed);
        made = connects() - before;
        is_over.store(true, Ordering::Relaxed);
    });
    Served {
        counts: counts.map(AtomicU32::into_inner),
        connects: made,
    }
}

fn node(server: &MariaDb, budget: u32, cores: u16) -> Gateway {
    let shape = Shape {
        budget,
        cores,
        extra: NEIGHBOUR,
        ..Shape::default()
    };
    Gateway::in_shape(server.port(), &shape)
}

fn tenant(gateway: &Gateway, kind: usize) -> Login {
    let user = ["a", "b"][kind];
    Login {
        user: user.to_owned(),
        password: format!("password-of-{user}"),
        ..gateway.login()
    }
}

#[test]
fn two_tenants_share_a_budget_alike_with_few_connects() {
    let server = MariaDb::with_test_schema("");
    for (budget, cores, clients) in [(8, 1, 20), (7, 1, 20), (1, 1, 1), (8, 2, 20)] {
        let gateway = node(&server, budget, cores);
        let served = contend(&gateway, clients, |kind| {
            Client::connect(&tenant(&gateway, kind)).expect("a login")
        });
        served.check(&format!(
            "budget {budget}, {cores} cores, {clients} clients"
        ));
    }
}

#[test]
fn sessions_with_and_without_a_schema_share_a_budget_alike() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server, 8, 1);
    let served = contend(&gateway, 20, |kind| {
        let mut client = gateway.client();
        if kind == 1 {
            client.query("USE test").expect("an OK");
        }
        client
    });
    served.check("with and without a schema");
}

/// Their connections are apart, as a server counts an UPDATE's rows by what a login said.
#[test]
fn clients_with_other_capabilities_share_a_budget_alike() {
    const FOUND_ROWS: u32 = 1 << 1;
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server, 8, 1);
    let served = contend(&gateway, 20, |kind| {
        let less = [0, FOUND_ROWS][kind];
        Client::connect_without(&gateway.login(), less).expect("a login")
    });
    served.check("with and without CLIENT_FOUND_ROWS");
}

/// A tenant that asks now and then beside one that is always there.
#[test]
fn a_quiet_tenant_is_served_beside_one_that_takes_all_it_can() {
    let server = MariaDb::with_test_schema("");
    let gateway = node(&server, 4, 1);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !is_over.load(Ordering::Relaxed) {
                    client.query("SELECT SLEEP(0.02)").expect("served");
                }
            });
        }
        let mut quiet = Client::connect(&tenant(&gateway, 1)).expect("a login");
        let mut waits: Vec<Duration> = (0..20)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(100));
                let begun = Instant::now();
                quiet.query("SELECT 1").expect("served");
                begun.elapsed()
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        waits.sort_unstable();
        // The other's clients wait for ten turns, 200 ms.
        assert!(waits[10] < Duration::from_millis(100), "{waits:?}");
    });
}

/// A hundred clients of one tenant on so many connections, and one of another, for [`COUNTED`]; how many were
/// served and turned away of the first.
fn beside_a_crowd(budget: u32, target: &str) -> [u32; 2] {
    let server = MariaDb::with_test_schema("");
    let deadlines = format!("pool_wait = \"60s\"\npool_wait_target = \"{target}\"");
    let extra = format!("[deadlines]\n{deadlines}\n{NEIGHBOUR}");
    let shape = Shape {
        budget,
        extra: &extra,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let (served, turned_away) = (AtomicU32::new(0), AtomicU32::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut client = Client::connect(&tenant(&gateway, 0)).expect("a client");
                while !is_over.load(Ordering::Relaxed) {
                    let Err(error) = client.query("SELECT SLEEP(0.02)") else {
                        served.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let is_told = error.to_string().contains("[ringgate pool_overload ");
                    assert!(is_told, "{error}");
                    turned_away.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let mut quiet = Client::connect(&tenant(&gateway, 1)).expect("a client");
        let begun = Instant::now();
        let mut answers = Vec::new();
        while begun.elapsed() < COUNTED {
            answers.push(quiet.query("SELECT SLEEP(0.02)").map(|_| ()));
        }
        is_over.store(true, Ordering::Relaxed);
        let refused: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert!(answers.len() > 3, "{} answers", answers.len());
    });
    let counts = [served, turned_away].map(AtomicU32::into_inner);
    let name = "ringgate_leases_turned_away_total";
    assert_eq!(gateway.metric(name, &[]).round(), f64::from(counts[1]));
    counts
}

#[test]
fn who_asks_for_more_than_is_served_is_turned_away_and_a_quiet_tenant_is_not() {
    // Who is last of 100 would wait for a second at least.
    let counts = beside_a_crowd(2, "300ms");
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    // The quiet one waits for its turns, which are longer than the target.
    let counts = beside_a_crowd(1, "50ms");
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}
