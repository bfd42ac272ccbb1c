//! Sharing: rounds drawn from a seed, in which equal tenants want several times what their servers' budget can
//! run, with accounts and schemas of their own or not, with whatever a client may agree on, in pools that differ,
//! while reloads change every setting that a reload changes, and move everybody from server to server.
//!
//! Through all of it each client gets its own tenant's answers, and no error but that it had to wait too long.
//! No server ever has more connections than the budget: the servers refuse one more themselves, and are watched.
//! Afterwards equal tenants have been served alike, and everything is back.
//!
//! `TORTURE_SEED`, `TORTURE_SECONDS`, `TORTURE_CORES` and `TORTURE_SERVER` as in `tests/torture`; `scripts/torture`
//! sets them.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod configuration;
mod plan;
mod round;

use std::time::{Duration, Instant, SystemTime};

use plan::Plan;
use support::Kind;

/// How long rounds begin for without `TORTURE_SECONDS`.
const SECONDS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seed_of_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("a clock").as_millis()).expect("a while yet")
}

#[test]
fn whatever_is_reloaded_equal_tenants_are_served_alike_within_the_budget() {
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
        let plan = Plan::draw(first + rounds, cores, kind);
        eprintln!("{plan}");
        match round::run(&plan) {
            Ok(figures) => eprintln!("  {figures}"),
            Err(problems) => panic!(
                "the round of seed {seed} failed:\n  {}\nrepeat it: scripts/torture --part sharing --seed {seed} \
                 --seconds 1 --cores {} --server {}",
                problems.join("\n  "),
                plan.cores,
                format!("{kind:?}").to_lowercase(),
                seed = plan.seed,
            ),
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds from seed {first}, {:?}", begun.elapsed());
}
