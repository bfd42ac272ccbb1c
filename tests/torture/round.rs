//! One round: servers and a node of its own, a storm, and the checks behind it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringgate::base::prng::Prng;

use crate::checks::{self, Baseline};
use crate::clients::{self, Storm, Tally};
use crate::faults::{Panic, Stage};
use crate::ledger::{self, Fate, Ledger};
use crate::plan::{Plan, STORM};
use crate::schemas;
use crate::support::{Chaos, Client, Gateway, Kind, MariaDb, NullServer, Options};
use crate::writer::{self, Home};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS test.t (c INT) ENGINE=InnoDB;";

/// What the round's servers are.
enum Server {
    Database(MariaDb),
    Null(NullServer),
}

fn database(kind: Kind) -> MariaDb {
    let options = Options {
        arguments: schemas::arguments(),
        ..Options::with_test_schema(TABLE)
    };
    match kind {
        Kind::MariaDb => MariaDb::start(options),
        Kind::MySql => MariaDb::mysql(options).expect("a MySQL server: scripts/lib/fetch_mysql"),
    }
}

/// Runs a round; its figures, or what went wrong.
pub fn run(plan: &Plan) -> Result<String, Vec<String>> {
    let server = match plan.is_null {
        true => Server::Null(NullServer::start(&[
            "mysql",
            "--service-time",
            "exponential:20ms",
        ])),
        false => Server::Database(database(plan.kind)),
    };
    let target = match &server {
        Server::Database(database) => database.port(),
        Server::Null(null) => null.port(),
    };
    let home = match &server {
        Server::Database(database) => Some(Home {
            defaults: schemas::make(database),
            is_direct: false,
        }),
        Server::Null(_) => None,
    };
    let chaos = Chaos::start(target);
    let point = plan.panic.map(Panic::asked);
    let mut variables = vec![("RINGGATE_TEST_PANIC", "p")];
    variables.extend(point.as_deref().map(|point| ("RINGGATE_TEST_FAULT", point)));
    let gateway = Gateway::start_with(&variables, |ports| plan.config(ports, chaos.port(), 0));
    let storm = Storm {
        login: gateway.login(),
        is_null: plan.is_null,
        deadline: plan.deadline(),
        sleep_ms: plan.sleep_ms,
        is_over: AtomicBool::new(false),
        tally: Tally::default(),
        lag: AtomicU64::new(0),
    };
    let warm = warm_up(&storm);
    warm.map_err(|error| vec![format!("before the storm: {error}"), gateway.log()])?;
    let baseline = Baseline::of(&gateway);
    let database = match server {
        Server::Database(database) => (Some(database), None),
        Server::Null(null) => (None, Some(null)),
    };
    let (database, _null) = database;
    let mut stage = Stage {
        plan,
        gateway: &gateway,
        chaos: &chaos,
        database,
        reloads: 0,
    };
    let ledgers = rage(plan, &storm, home.as_ref(), &mut stage);
    judge(&storm, &stage, &baseline, &ledgers)
}

/// Both tenants once, so that what is made at the first use is there.
fn warm_up(storm: &Storm) -> Result<(), String> {
    for user in ["a", "b"] {
        let client = Client::connect(&storm.login(user));
        let answered = client.and_then(|mut client| client.query("SELECT c FROM test.t"));
        answered.map_err(|error| format!("{user}: {error}"))?;
    }
    Ok(())
}

/// The storm itself: all clients, and what happens to them; what writers have written.
fn rage(plan: &Plan, storm: &Storm, home: Option<&Home>, stage: &mut Stage<'_>) -> Vec<Ledger> {
    std::thread::scope(|scope| {
        let begun = Instant::now();
        scope.spawn(|| clients::watch_the_machine(storm));
        for number in 0..plan.well_behaved {
            let seed = plan
                .seed
                .wrapping_mul(1_000)
                .wrapping_add(u64::from(number));
            scope.spawn(move || clients::behave(storm, number, seed));
        }
        for (index, (kind, count)) in plan.misbehaved.iter().enumerate() {
            for number in 0..*count {
                let seed = plan.seed ^ u64::try_from(index * 100).expect("few") ^ u64::from(number);
                scope.spawn(move || clients::misbehave(storm, *kind, seed));
            }
        }
        let mut writers = Vec::new();
        if let Some(home) = home {
            for number in 0..plan.writers {
                let seed = Prng::new(plan.seed ^ (u64::from(number) << 40)).next_u64();
                writers.push(scope.spawn(move || writer::write(storm, home, number, seed)));
            }
        }
        stage.play(begun);
        std::thread::sleep(STORM.saturating_sub(begun.elapsed()));
        storm.is_over.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer that does not panic"))
            .collect()
    })
}

fn judge(
    storm: &Storm,
    stage: &Stage<'_>,
    baseline: &Baseline,
    ledgers: &[Ledger],
) -> Result<String, Vec<String>> {
    let tally = &storm.tally;
    let mut problems = std::mem::take(&mut *tally.problems.lock().expect("no panic before"));
    let (plan, gateway) = (stage.plan, stage.gateway);
    let database = stage.database.as_ref();
    let (serves, mut after) = checks::after(plan, gateway, database, baseline);
    problems.append(&mut after);
    if let Some(database) = database {
        match schemas::rows(database) {
            // The first few say enough.
            Ok(rows) => problems.extend(ledger::compare(rows, ledgers).into_iter().take(12)),
            Err(problem) => problems.push(problem),
        }
    }
    let generation = gateway.metric("ringgate_configuration_generation", &[]);
    if generation < f64::from(1 + stage.reloads) - 0.5 {
        let reloads = stage.reloads;
        problems.push(format!("{reloads} reloads, and generation {generation}"));
    }
    if serves && let Err(problem) = checks::is_whole(plan, storm) {
        problems.push(format!("the budget is not whole: {problem}"));
    }
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let figures = format!(
        "{} answered, {} told, {} ended, {} panics; {} steps of writers, writes {} there, {} absent, \
         {} unknown; slowest {:?}, the machine up to {:?} late; \
         {} KiB, {} before",
        of(&tally.answered),
        of(&tally.told),
        of(&tally.ended),
        gateway.metric("ringgate_panics_total", &[]),
        of(&tally.steps),
        ledger::count(ledgers, Fate::There),
        ledger::count(ledgers, Fate::Absent),
        ledger::count(ledgers, Fate::Unknown),
        Duration::from_micros(of(&tally.slowest)),
        Duration::from_micros(of(&storm.lag)),
        gateway.rss_kib(),
        baseline.rss_kib(),
    );
    if of(&tally.answered) < plan.answered_min() {
        let least = plan.answered_min();
        problems.push(format!("fewer than {least} statements were answered"));
    }
    let served = of(&tally.answered) + of(&tally.steps);
    if served < plan.served_min() {
        let least = plan.served_min();
        problems.push(format!("{served} served in all, fewer than {least}"));
    }
    if ledger::count(ledgers, Fate::There) < plan.writes_min() {
        let least = plan.writes_min();
        problems.push(format!("fewer than {least} writes were acknowledged"));
    }
    match problems.is_empty() {
        true => Ok(figures),
        false => {
            problems.push(figures);
            Err(problems)
        }
    }
}
