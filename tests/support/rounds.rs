//! Rounds drawn from a seed, one after the other for as long as the environment says: `TORTURE_SEED` is the first
//! round's seed, and the next round has the next one; `TORTURE_SECONDS` says for how long rounds begin,
//! `TORTURE_CORES` fixes the number of cores, and `TORTURE_SERVER=mysql` has MySQL's server instead of MariaDB's.
//! `scripts/torture` sets them. A seed repeats what is done and when; the order in which it meets is the machine's.

#![allow(clippy::print_stderr, reason = "rounds print their figures")]

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};

use super::Kind;

/// What must be 0 on a node at rest.
pub const AT_REST: [&str; 6] = [
    "ringgate_connections_open",
    "ringgate_sessions_pinned",
    "ringgate_upstream_connections_leased",
    "ringgate_upstream_connections_connecting",
    "ringgate_leases_waiting",
    "ringgate_receive_buffers_in_use",
];

/// What a round is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    pub seed: u64,
    /// As many cores, if the environment says.
    pub cores: Option<u64>,
    pub kind: Kind,
}

/// A round of a part of the torture.
pub trait Round: Display {
    /// The word by which `scripts/torture` knows the part.
    const PART: &'static str;

    /// Its cores.
    fn cores(&self) -> u64;

    /// Runs it; its figures, or what went wrong.
    fn run(&self) -> Result<String, Vec<String>>;
}

/// A number that the environment says.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// The first round's seed. The first round of a run and the rounds of the runs before it share none.
pub fn first_seed() -> u64 {
    number("TORTURE_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(since.expect("a clock").as_millis()).expect("a while yet")
    })
}

/// Runs rounds for as long as the environment says, or for `seconds`. Panics with the seed of one that failed.
pub fn run_all<R: Round>(seconds: u64, draw: impl Fn(Drawn) -> R) {
    let first = first_seed();
    let time = Duration::from_secs(number("TORTURE_SECONDS").unwrap_or(seconds));
    let kind = match std::env::var("TORTURE_SERVER").as_deref() {
        Ok("mysql") => Kind::MySql,
        Ok("mariadb") | Err(_) => Kind::MariaDb,
        Ok(other) => panic!("TORTURE_SERVER={other} is neither mariadb nor mysql"),
    };
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < time {
        let seed = first + rounds;
        let round = draw(Drawn {
            seed,
            cores: number("TORTURE_CORES"),
            kind,
        });
        eprintln!("{round}");
        match round.run() {
            Ok(figures) => eprintln!("  {figures}"),
            Err(problems) => panic!(
                "the round of seed {seed} failed:\n  {}\nrepeat it: scripts/torture --part {} --seed {seed} \
                 --seconds 1 --cores {} --server {}",
                problems.join("\n  "),
                R::PART,
                round.cores(),
                format!("{kind:?}").to_lowercase()
            ),
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds from seed {first}, {:?}", begun.elapsed());
}
