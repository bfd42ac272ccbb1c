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
//! `support/rounds.rs` says how rounds are chosen and repeated.

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

use plan::Plan;
use support::rounds;

/// How long rounds begin for if the environment does not say.
const SECONDS: u64 = 60;

#[test]
fn whatever_happens_everybody_is_answered_and_everything_comes_back() {
    rounds::run_all(SECONDS, Plan::draw);
}
