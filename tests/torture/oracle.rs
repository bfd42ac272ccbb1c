//! What writers expect is right: on a server itself nothing is ever wrong with what they write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clients::{Storm, Tally};
use crate::ledger::{self, Fate};
use crate::schemas;
use crate::support::{ACCOUNT, Login, Options, PASSWORD, Server};
use crate::writer::{self, Home};

const WRITERS: u32 = 6;
const TIME: Duration = Duration::from_secs(3);

fn options() -> Options {
    Options {
        arguments: schemas::arguments(),
        ..Options::default()
    }
}

fn nothing_is_wrong_on(server: &Server) {
    let home = Home {
        defaults: schemas::make(server),
        is_direct: true,
    };
    let storm = Storm {
        login: Login {
            port: server.port(),
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            schema: String::new(),
            deprecate_eof: true,
        },
        is_null: false,
        deadline: Duration::from_secs(3),
        sleep_ms: 0,
        is_over: AtomicBool::new(false),
        tally: Tally::default(),
        lag: AtomicU64::new(0),
    };
    let seed = crate::support::rounds::first_seed();
    let ledgers: Vec<_> = std::thread::scope(|scope| {
        let (storm, home) = (&storm, &home);
        scope.spawn(|| crate::clients::watch_the_machine(storm));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let seed = seed.wrapping_add(u64::from(number));
                scope.spawn(move || writer::write(storm, home, number, seed))
            })
            .collect();
        std::thread::sleep(TIME);
        storm.is_over.store(true, Ordering::Relaxed);
        let joined = writers.into_iter().map(|writer| writer.join());
        joined.map(|ledger| ledger.expect("no panic")).collect()
    });
    let mut problems = std::mem::take(&mut *storm.tally.problems.lock().expect("no panic before"));
    let rows = schemas::rows(server).expect("rows");
    problems.extend(ledger::compare(rows, &ledgers));
    problems.truncate(12);
    assert!(
        problems.is_empty(),
        "TORTURE_SEED={seed}:\n  {}",
        problems.join("\n  ")
    );
    for fate in [Fate::There, Fate::Absent, Fate::Unknown] {
        let count = ledger::count(&ledgers, fate);
        assert!(count > 0, "no write is {fate:?}");
        eprintln!("{:?}: {count} {fate:?}", server.kind());
    }
}

#[test]
fn what_writers_expect_is_what_mariadb_does() {
    nothing_is_wrong_on(&Server::start(options()));
}

#[test]
fn so_it_is_what_mysql_does() {
    if let Some(server) = Server::mysql(options()) {
        nothing_is_wrong_on(&server);
    }
}
