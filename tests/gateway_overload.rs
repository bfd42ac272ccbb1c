//! Overload: more statements than the budget can run, for longer than they may wait. The node serves
//! its capacity, tells the others in time, and goes on living.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::gateway::two_shards_config;
use support::{Client, ClientError, Gateway, Login, MariaDb, Shape, wait_for};

/// What a client may wait beyond its deadline, on a busy machine.
const SLACK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client of a crowd saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Statements answered with their rows.
    served: u32,
    /// Statements answered with the error that was expected.
    told: u32,
    /// The longest any of its statements took.
    slowest: Duration,
}

impl Seen {
    fn and(self, other: Self) -> Self {
        Self {
            served: self.served + other.served,
            told: self.told + other.told,
            slowest: self.slowest.max(other.slowest),
        }
    }
}

/// Has as many threads as there are logins run `work` with a client each, all from the same moment on.
fn crowd<F>(logins: &[Login], work: F) -> Result<Seen, String>
where
    F: Fn(&mut Client, usize) -> Result<Seen, ClientError> + Sync,
{
    let start = Barrier::new(logins.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = logins
            .iter()
            .enumerate()
            .map(|(number, login)| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    let client = Client::connect(login);
                    start.wait();
                    client.and_then(|mut client| work(&mut client, number))
                })
            })
            .collect();
        let seen = threads.into_iter().map(|thread| {
            let result = thread.join().expect("a thread without a panic");
            result.map_err(|error| error.to_string())
        });
        seen.collect::<Result<Vec<_>, _>>()
            .map(|all| all.into_iter().fold(Seen::default(), Seen::and))
    })
}

/// Runs statements one after the other for `time`; each must give rows or the error `errno`.
fn insist(
    time: Duration,
    errno: u16,
    mut ask: impl FnMut() -> Result<(), ClientError>,
) -> Result<Seen, ClientError> {
    let begun = Instant::now();
    let mut seen = Seen::default();
    while begun.elapsed() < time {
        let asked = Instant::now();
        match ask() {
            Ok(()) => seen.served += 1,
            Err(error) if error.errno() == errno => seen.told += 1,
            Err(error) => return Err(error),
        }
        seen.slowest = seen.slowest.max(asked.elapsed());
    }
    Ok(seen)
}

/// Every core turns and the node says that it is ready.
fn lives(gateway: &Gateway) -> bool {
    let turns = || gateway.metric("ringgate_ring_turns_total", &[]);
    let before = turns();
    let is_ready = || {
        gateway
            .admin("/readyz")
            .is_some_and(|(code, _)| code == 200)
    };
    let is_stalled = gateway.log().contains("core_stalled");
    !is_stalled && wait_for(Duration::from_secs(5), || is_ready() && turns() > before)
}

fn check(gateway: &Gateway, seen: &Result<Seen, String>, served: u32, deadline: Duration) {
    eprintln!("{seen:?}");
    assert!(lives(gateway), "{seen:?}\n{}", gateway.log());
    let seen = seen.as_ref().expect("every statement is answered");
    assert!(seen.served >= served, "{seen:?}: fewer than {served}");
    assert!(seen.told > 0, "{seen:?}: no overload");
    assert!(seen.slowest < deadline + SLACK, "{seen:?}");
}

/// The smallest overload: everybody in the queue has waited as long as he may, so that timers fire
/// in the very turns in which connections are returned. `OVERLOAD_SECONDS` makes it longer.
#[test]
fn clients_beyond_the_capacity_are_told_in_time_and_the_rest_is_served() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 8,
        extra: "[deadlines]\nconnect = \"300ms\"\npool_wait = \"400ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let logins = vec![gateway.login(); 100];
    let seconds = std::env::var("OVERLOAD_SECONDS").ok();
    let seconds: u32 = seconds.map_or(6, |text| text.parse().expect("a number"));
    let seen = crowd(&logins, |client, _| {
        insist(Duration::from_secs(seconds.into()), 3168, || {
            client.query("SELECT SLEEP(0.1)").map(|_| ())
        })
    });
    // Of 80 that the budget could run in a second.
    let deadline = Duration::from_millis(500);
    check(&gateway, &seen, 50 * seconds, deadline);
}

/// Those who are served have time left to run: what is started is not killed.
#[test]
fn where_the_deadline_of_statements_ends_the_waits_the_capacity_is_served_too() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 4,
        extra: "[deadlines]\npool_wait = \"3s\"\nstatement = \"600ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let logins = vec![gateway.login(); 60];
    let seen = crowd(&logins, |client, _| {
        insist(Duration::from_secs(6), 3168, || {
            client.query("SELECT SLEEP(0.05)").map(|_| ())
        })
    });
    // Of 480 that the budget could run.
    check(&gateway, &seen, 300, Duration::from_millis(600));
    let kills = gateway.metric("ringgate_upstream_kills_total", &[]);
    assert!(kills < 0.5, "{kills} statements were started and killed");
}

#[test]
fn prepared_statements_of_two_tenants_and_two_cores_overload_as_well() {
    let server = MariaDb::with_test_schema("");
    let gateway = Gateway::start(|ports| {
        let extra = "[deadlines]\nconnect = \"300ms\"\npool_wait = \"300ms\"\n";
        two_shards_config(ports, server.port(), server.port(), 3, extra)
            .replace("count = 1", "count = 2")
    });
    let b = Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    let logins: Vec<Login> = (0..80)
        .map(|number| match number % 2 {
            0 => gateway.login(),
            _ => b.clone(),
        })
        .collect();
    let seen = crowd(&logins, |client, _| {
        let mut statement = None;
        insist(Duration::from_secs(6), 3168, || {
            let known = match statement {
                Some(known) => known,
                None => *statement.insert(client.prepare("SELECT SLEEP(?)")?),
            };
            client.execute(known, &[b"0.1"]).map(|_| ())
        })
    });
    // Of 360 that both budgets could run. A PREPARE and an EXECUTE wait one after the other.
    let deadline = Duration::from_millis(700);
    check(&gateway, &seen, 200, deadline);
}

/// The timer of a client that may be idle for a second is set again by its next statement, even when
/// both happen in the same turn.
#[test]
fn a_statement_that_comes_as_its_client_has_been_idle_too_long_is_one_of_both() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 32,
        extra: "[deadlines]\nidle_client = \"200ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let login = gateway.login();
    let is_over = AtomicBool::new(false);
    const LATE: u64 = 5_500;
    let ask = |number: u64| {
        let (mut answered, mut ended) = (0_u32, 0_u32);
        let mut late = number * 197 % LATE;
        while !is_over.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::connect(&login) else {
                break;
            };
            loop {
                // From just before to just after the client has been idle for as long as it may.
                late = (late + 137) % LATE;
                std::thread::sleep(Duration::from_micros(196_000 + late));
                match client.query("SELECT SLEEP(0.02)") {
                    Ok(_) => answered += 1,
                    // A goodbye, or the end behind it.
                    Err(_) => {
                        ended += 1;
                        break;
                    }
                }
            }
        }
        (answered, ended)
    };
    let counts: Vec<(u32, u32)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|number| scope.spawn(move || ask(number)))
            .collect();
        std::thread::sleep(Duration::from_secs(6));
        is_over.store(true, Ordering::Relaxed);
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|counts| counts.expect("a login")).collect()
    });
    let answered: u32 = counts.iter().map(|(answered, _)| answered).sum();
    let ended: u32 = counts.iter().map(|(_, ended)| ended).sum();
    eprintln!("{answered} answered, {ended} ended");
    assert!(lives(&gateway), "{}", gateway.log());
    assert!(answered > 20 && ended > 20, "{answered} {ended}");
}

const FEW_BUFFERS: &str = "[buffers]\ncount = 64\n[deadlines]\npool_wait = \"20s\"\n";

fn few_buffers(server: &MariaDb) -> Gateway {
    let shape = Shape {
        budget: 4,
        extra: FEW_BUFFERS,
        ..Shape::default()
    };
    Gateway::in_shape(server.port(), &shape)
}

/// Asks for `sql`, which gives a sleep's result and a tag.
fn tagged(client: &mut Client, sleep: &str, tag: &str) -> Result<(), ClientError> {
    let answer = client.query_one(&format!("SELECT SLEEP({sleep}), '{tag}'"))?;
    match answer.text(0, 1) {
        Some(text) if text == tag => Ok(()),
        other => Err(ClientError::Protocol(format!("{other:?} for {tag}"))),
    }
}

fn all_served(gateway: &Gateway, seen: &Result<Seen, String>, served: u32) {
    eprintln!("{seen:?}");
    assert!(lives(gateway), "{seen:?}\n{}", gateway.log());
    let seen = seen.as_ref().expect("the deadline is far");
    assert_eq!(seen.served, served, "{seen:?}");
}

#[test]
fn more_statements_may_wait_than_there_are_buffers() {
    let server = MariaDb::with_test_schema("");
    let gateway = few_buffers(&server);
    let seen = crowd(&vec![gateway.login(); 100], |client, number| {
        for round in 0..2 {
            tagged(client, "0.04", &format!("{number}:{round}"))?;
        }
        Ok(Seen {
            served: 2,
            ..Seen::default()
        })
    });
    all_served(&gateway, &seen, 200);
}

#[test]
fn more_executions_and_pipelines_may_wait_than_there_are_buffers() {
    let server = MariaDb::with_test_schema("");
    let gateway = few_buffers(&server);
    let seen = crowd(&vec![gateway.login(); 100], |client, number| {
        if number % 2 == 0 {
            let statement = client.prepare("SELECT SLEEP(0.04), ?")?;
            let tag = number.to_string();
            let answer = client.execute(statement, &[tag.as_bytes()])?;
            if answer.text(0, 1) != Some(tag) {
                return Err(ClientError::Protocol(format!("{answer:?}")));
            }
        } else {
            let sql = |part: u32| format!("SELECT SLEEP(0.02), '{number}:{part}'");
            client.send_queries(&[sql(0), sql(1)])?;
            for part in 0..2 {
                let answer = client.read_query()?;
                if answer.text(0, 1) != Some(format!("{number}:{part}")) {
                    return Err(ClientError::Protocol(format!("{answer:?}")));
                }
            }
        }
        Ok(Seen {
            served: 1,
            ..Seen::default()
        })
    });
    all_served(&gateway, &seen, 100);
}

/// A server that stands still for a while is no reason for anybody to fail.
#[test]
fn statements_that_waited_for_a_stopped_server_are_answered_when_it_goes_on() {
    let server = MariaDb::with_test_schema("");
    let gateway = few_buffers(&server);
    let mut first = gateway.client();
    first.query("SELECT 1").expect("a connection is open");
    server.pause();
    let waiting = || gateway.metric("ringgate_leases_waiting", &[]);
    let seen = std::thread::scope(|scope| {
        let logins = vec![gateway.login(); 150];
        let all = scope.spawn(move || {
            crowd(&logins, |client, number| {
                tagged(client, "0", &number.to_string())?;
                Ok(Seen {
                    served: 1,
                    ..Seen::default()
                })
            })
        });
        // As many as get a buffer today; the pause itself is what is tried.
        let begun = Instant::now();
        let _ = wait_for(Duration::from_millis(1_500), || waiting() > 140.0);
        std::thread::sleep(Duration::from_millis(1_500).saturating_sub(begun.elapsed()));
        server.resume();
        all.join().expect("no panic")
    });
    all_served(&gateway, &seen, 150);
    // Nothing is left of it.
    let idle = || gateway.metric("ringgate_receive_buffers_in_use", &[]);
    assert!(wait_for(PATIENCE, || idle() < 0.5), "{} in use", idle());
}
