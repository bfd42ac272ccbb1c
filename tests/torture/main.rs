//! Torture: rounds drawn from a seed, each a few seconds of everything at once: three times as many
//! statements as the budget can run, peers that do not read, stop half-way and vanish, servers that
//! die, stop and come back, connections that are cut, held up, reset and killed, panics, reloads.
//! Through all of it every well-behaved client is answered in time and with its own answer, and
//! afterwards everything is back: connections, permits, buffers, sockets, memory.
//!
//! Beside them writers change their sessions in every way and write rows that tell of it, in tables of
//! the same name in several schemas. Afterwards each acknowledged write is there once, each unknown one at
//! most once, no refused one, none in a wrong schema, and none with anything of another session in it.
//!
//! `TORTURE_SEED` is the first round's seed (the next round has the next one), `TORTURE_SECONDS` says
//! for how long rounds begin, and `TORTURE_CORES` fixes the number of cores. `scripts/torture` sets
//! them. `TORTURE_SERVER=mysql` has MySQL's server instead of MariaDB's. A seed repeats what is done and when; the order in which it meets is the machine's.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod clients;
mod faults;
mod ledger;
mod oracle;
mod plan;
mod round;
mod schemas;
mod settings;
mod state;
mod writer;
mod writing;
mod zones;

use std::time::{Duration, Instant, SystemTime};

use plan::Plan;
use support::Kind;

/// How long rounds begin for without `TORTURE_SECONDS`.
const SECONDS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seed_of_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // The first round of a run and the rounds of the runs before it share no seeds.
    u64::try_from(since.expect("a clock").as_millis()).expect("a while yet")
}

#[test]
fn whatever_happens_everybody_is_answered_and_everything_comes_back() {
    let first = number("TORTURE_SEED").unwrap_or_else(seed_of_now);
    let time = Duration::from_secs(number("TORTURE_SECONDS").unwrap_or(SECONDS));
    let cores = number("TORTURE_CORES");
    let kind = match std::env::var("TORTURE_SERVER").as_deref() {
        Ok("mysql") => Kind::MySql,
        Ok("mariadb") | Err(_) => Kind::MariaDb,
        Ok(other) => panic!("TORTURE_SERVER={other} is neither mariadb nor mysql"),
    };
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < time {
        let seed = first + rounds;
        let plan = Plan::draw(seed, cores, kind);
        eprintln!("{plan}");
        match round::run(&plan) {
            Ok(figures) => eprintln!("  {figures}"),
            Err(problems) => panic!(
                "the round of seed {seed} failed:\n  {}\nrepeat it: scripts/torture --part storm --seed {seed} \
                 --seconds 1 --cores {} --server {}",
                problems.join("\n  "),
                plan.cores,
                format!("{kind:?}").to_lowercase()
            ),
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds from seed {first}, {:?}", begun.elapsed());
}
