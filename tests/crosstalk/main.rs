//! Cross-talk: many clients on few upstream connections, and nobody may ever see anything of another.
//!
//! Every client works through a random list of operations in text and in prepared form, each with a
//! tag of its own, and drops its connection at random points. Rules, checked on every answer:
//!
//! - R1 the tag in an answer is the tag of its request;
//! - R2 answers come in the order of the requests;
//! - R3 an acknowledged write is there exactly once, a refused one is not, an unknown one at most once;
//! - R4 no session sees another's variables, temporary tables, warnings, counts, ids, schema or zone;
//! - R5 a transaction stays on one server connection;
//! - R6 a long answer is complete to the byte, or an error;
//! - R7 nothing follows the last packet of an answer;
//! - R8 a tenant sees its own data, though another's statements have the same text.
//!
//! `CROSSTALK_SEED` repeats the operations of a run and `CROSSTALK_OPERATIONS` sets their number; the
//! order in which clients meet is the machine's.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

#[path = "../support/mod.rs"]
mod support;

mod ledger;
mod operations;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use ledger::{Fate, Ledger};
use operations::{Session, Violation};
use ringgate::base::prng::Prng;
use support::gateway::two_shards_config;
use support::{ACCOUNT, Client, Gateway, Kind, Login, Options, PASSWORD, Server};

/// Upstream connections for each shard; half of the clients share each.
const BUDGET: u32 = 2;
const CLIENTS: u64 = 50;
const OPERATIONS: u64 = 100_000;

/// Where the clients of one tenant log in.
#[derive(Clone)]
struct Door {
    login: Login,
    tenant: &'static str,
}

#[derive(Default)]
struct Totals {
    operations: AtomicU64,
    sessions: AtomicU64,
    dropped: AtomicU64,
}

fn shard(name: &str) -> Server {
    Server::start(options(name))
}

/// `None` where there is no MySQL server.
fn shard_of_mysql(name: &str) -> Option<Server> {
    Server::mysql(options(name))
}

fn options(name: &str) -> Options {
    Options {
        arguments: vec!["--max-connections=500".to_owned()],
        init_sql: format!(
            "CREATE DATABASE IF NOT EXISTS test;\n\
             CREATE TABLE IF NOT EXISTS test.whoami (name VARCHAR(10));\n\
             DELETE FROM test.whoami;\n\
             INSERT INTO test.whoami VALUES ('{name}');\n\
             CREATE TABLE IF NOT EXISTS test.numbers (seq INT PRIMARY KEY) ENGINE=InnoDB;\n\
             INSERT IGNORE INTO test.numbers WITH RECURSIVE digits (n) AS \
             (SELECT 0 UNION ALL SELECT n + 1 FROM digits WHERE n < 27) \
             SELECT a.n * 784 + b.n * 28 + c.n + 1 FROM digits a, digits b, digits c \
             WHERE a.n * 784 + b.n * 28 + c.n < 20000;\n\
             CREATE TABLE IF NOT EXISTS test.log (id BIGINT PRIMARY KEY AUTO_INCREMENT, \
             client BIGINT NOT NULL, seq BIGINT NOT NULL, UNIQUE (client, seq)) ENGINE=InnoDB;"
        ),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn seed() -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    number("CROSSTALK_SEED", clock.map_or(1, |since| since.as_secs()))
}

/// One client's whole life: sessions one after the other until its operations are done.
fn client(
    id: u64,
    door: &Door,
    seed: u64,
    operations: u64,
    totals: &Totals,
) -> (Ledger, Vec<Violation>) {
    let mut random = Prng::new(seed.wrapping_mul(1_000_003).wrapping_add(id));
    let (mut ledger, mut violations) = (Ledger::new(id), Vec::new());
    let mut left = operations;
    while left > 0 && violations.len() < 3 {
        let mut login = door.login.clone();
        login.deprecate_eof = random.below(2) == 0;
        let opened = match Client::connect(&login) {
            Ok(opened) => opened,
            Err(error) => {
                violations.push(Violation::new("login", format!("client {id}: {error}")));
                continue;
            }
        };
        totals.sessions.fetch_add(1, Ordering::Relaxed);
        let mut session = Session::new(opened, id, door.tenant);
        let planned = (1 + random.below(40)).min(left);
        for _ in 0..planned {
            left -= 1;
            totals.operations.fetch_add(1, Ordering::Relaxed);
            if let Err(violation) = session.operate(&mut random, &mut ledger) {
                violations.push(violation.of(id, seed));
                break;
            }
            if session.is_spent() {
                break;
            }
        }
        if session.end(&mut random, &mut ledger) {
            totals.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
    (ledger, violations)
}

/// Runs the clients against the doors in turn; what each wrote and every broken rule.
fn run(doors: &[Door], seed: u64, operations: u64) -> (Vec<(usize, Ledger)>, Vec<Violation>) {
    eprintln!("CROSSTALK_SEED={seed} CROSSTALK_OPERATIONS={operations}");
    let (totals, begun) = (Totals::default(), Instant::now());
    let (mut ledgers, mut violations) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let index = usize::try_from(id).expect("few clients") % doors.len();
                let (door, totals) = (&doors[index], &totals);
                let share = operations.div_ceil(CLIENTS);
                (
                    index,
                    scope.spawn(move || client(id, door, seed, share, totals)),
                )
            })
            .collect();
        for (index, thread) in threads {
            let (ledger, broken) = thread.join().expect("a client that does not panic");
            ledgers.push((index, ledger));
            violations.extend(broken);
        }
    });
    eprintln!(
        "{} operations in {} sessions, {} of them dropped, {:?}: {} mismatches",
        totals.operations.load(Ordering::Relaxed),
        totals.sessions.load(Ordering::Relaxed),
        totals.dropped.load(Ordering::Relaxed),
        begun.elapsed(),
        violations.len()
    );
    (ledgers, violations)
}

/// R3: compares what clients were told with what the tables hold.
fn check_writes(shards: &[&Server], ledgers: &[(usize, Ledger)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, shard) in shards.iter().enumerate() {
        let rows = shard.sql("SELECT client, seq FROM test.log");
        let of_shard = ledgers
            .iter()
            .filter(|(door, _)| *door == index)
            .map(|(_, ledger)| ledger);
        violations.extend(ledger::compare(&rows, of_shard));
    }
    violations
}

fn report(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(|violation| format!("{violation}\n"))
        .collect()
}

fn count(ledgers: &[(usize, Ledger)], fate: Fate) -> usize {
    ledgers.iter().map(|(_, ledger)| ledger.count(fate)).sum()
}

fn direct_login(server: &Server) -> Login {
    Login {
        port: server.port(),
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned(),
        schema: "test".to_owned(),
        deprecate_eof: true,
    }
}

/// The oracle: direct connections break no rule, so a broken one is the gateway's.
#[test]
fn the_rules_hold_on_mariadb_itself() {
    the_rules_hold_on(&shard("a"), 5_000);
}

#[test]
fn the_rules_hold_on_mysql_itself() {
    if let Some(server) = shard_of_mysql("a") {
        the_rules_hold_on(&server, 2_000);
    }
}

fn the_rules_hold_on(server: &Server, operations: u64) {
    let doors = [Door {
        login: direct_login(server),
        tenant: "a",
    }];
    let (ledgers, mut violations) = run(&doors, seed(), operations);
    violations.extend(check_writes(&[server], &ledgers));
    assert!(violations.is_empty(), "{}", report(&violations));
    for fate in [Fate::There, Fate::Absent, Fate::Unknown] {
        assert!(count(&ledgers, fate) > 0, "no write with fate {fate:?}");
    }
}

/// A session that begins on a connection somebody else has used, as from a pool that forgot to clean.
#[test]
fn a_dirty_connection_is_caught() {
    let server = shard("a");
    let mut ids = 0;
    let mut check = |soil: &dyn Fn(&mut Client), rules: &[&str]| {
        let mut found = None;
        for round in 0..200 {
            let mut used = Client::connect(&direct_login(&server)).expect("a login");
            soil(&mut used);
            let mut random = Prng::new(round);
            ids += 1;
            let (mut session, mut ledger) = (Session::new(used, ids, "a"), Ledger::new(ids));
            for _ in 0..20 {
                if let Err(violation) = session.operate(&mut random, &mut ledger) {
                    found = Some(violation);
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        let found = found.expect("a broken rule");
        assert!(rules.contains(&found.rule), "{found} instead of {rules:?}");
    };
    check(&|used| drop(used.query("SET @mine = 'left over'")), &["R4"]);
    check(
        &|used| drop(used.query("CREATE TEMPORARY TABLE mine (tag VARCHAR(80))")),
        &["R4"],
    );
    check(
        &|used| drop(used.query("SET time_zone = '+09:00'")),
        &["R4"],
    );
    check(&|used| drop(used.query("USE mysql")), &["R4", "answer"]);
    check(
        &|used| drop(used.send_query("SELECT 'unread'")),
        &["R1", "R2", "R4", "R5", "R7"],
    );
    check(
        &|used| drop(used.query("UPDATE whoami SET name = 'b'")),
        &["R8"],
    );
}

/// Two tenants on two shards, two upstream connections for each, and fifty clients; how many
/// connections the cores lent each other.
fn through_the_gateway(cores: u16, operations: u64, environment: &[(&str, &str)]) -> f64 {
    before(&shard("a"), &shard("b"), cores, operations, environment)
}

/// Likewise, on these shards.
fn before(
    a: &Server,
    b: &Server,
    cores: u16,
    operations: u64,
    environment: &[(&str, &str)],
) -> f64 {
    let gateway = Gateway::start_with(environment, |ports| {
        let extra = "[deadlines]\npool_wait = \"30s\"\n";
        let config = two_shards_config(ports, a.port(), b.port(), BUDGET, extra);
        config.replace("count = 1\n", &format!("count = {cores}\n"))
    });
    let door = |tenant: &'static str, password: &str| Door {
        login: Login {
            port: gateway.port(),
            user: tenant.to_owned(),
            password: password.to_owned(),
            schema: "test".to_owned(),
            deprecate_eof: true,
        },
        tenant,
    };
    let doors = [door("a", "password-of-a"), door("b", "password-of-b")];
    let (ledgers, mut violations) = run(&doors, seed(), operations);
    violations.extend(check_writes(&[a, b], &ledgers));
    assert!(
        violations.is_empty(),
        "{}\n{}",
        report(&violations),
        gateway.log()
    );
    // MySQL still counts a connection after it has closed its side, which is all that others can see.
    let counted = [a, b]
        .into_iter()
        .filter(|server| server.kind() == Kind::MariaDb);
    // A statement that its client has left is killed, over one connection beyond the budget if need be.
    let killed = ["kills", "kill_failures"]
        .map(|name| gateway.metric(&format!("ringgate_upstream_{name}_total"), &[]));
    let beyond = u64::from(killed.iter().sum::<f64>() > 0.5);
    for server in counted {
        // One more is the connection that asks.
        assert!(
            server.connections_peak() <= u64::from(BUDGET) + beyond + 1,
            "{}\n{}",
            server.connections_peak(),
            gateway.log()
        );
    }
    gateway.metric("ringgate_upstream_connections_lent_total", &[])
}

#[test]
fn nobody_sees_another_through_the_gateway() {
    through_the_gateway(1, number("CROSSTALK_OPERATIONS", OPERATIONS), &[]);
}

#[test]
fn nobody_sees_another_on_mysql() {
    if let (Some(a), Some(b)) = (shard_of_mysql("a"), shard_of_mysql("b")) {
        let operations = number("CROSSTALK_OPERATIONS", OPERATIONS) / 20;
        before(&a, &b, 1, operations, &[]);
        for server in [&a, &b] {
            server.sql("TRUNCATE TABLE test.log");
        }
        before(&a, &b, 2, operations, &[]);
    }
}

/// What doors without a MySQL socket will use.
#[test]
fn nobody_sees_another_through_fronts_in_memory() {
    let operations = number("CROSSTALK_OPERATIONS", OPERATIONS) / 10;
    through_the_gateway(1, operations, &[("RINGGATE_TEST_FRONT", "memory")]);
}

#[test]
fn nobody_sees_another_on_connections_that_two_cores_lend_each_other() {
    let operations = number("CROSSTALK_OPERATIONS", OPERATIONS) / 10;
    let lent = through_the_gateway(2, operations, &[]);
    eprintln!("{lent} connections lent");
    assert!(lent > 0.0, "none was lent");
}
