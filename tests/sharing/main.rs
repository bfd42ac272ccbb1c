//! Sharing: rounds drawn from a seed, in which equal tenants want several times what their servers' budget can
//! run, with accounts and schemas of their own or not, with whatever a client may agree on, in pools that differ,
//! while reloads change every setting that a reload changes, and move everybody from server to server.
//!
//! Through all of it each client gets its own tenant's answers, and no error but that it had to wait too long.
//! No server ever has more connections than the budget: the servers refuse one more themselves, and are watched.
//! Afterwards equal tenants have been served alike, and everything is back.
//!
//! `support/rounds.rs` says how rounds are chosen and repeated.

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

use plan::Plan;
use support::rounds;

/// How long rounds begin for if the environment does not say.
const SECONDS: u64 = 20;

#[test]
fn whatever_is_reloaded_equal_tenants_are_served_alike_within_the_budget() {
    rounds::run_all(SECONDS, Plan::draw);
}
