//! What a round does, drawn from its seed.

use std::fmt;
use std::time::Duration;

use ringgate::base::prng::Prng;

use crate::configuration::{Changed, Configuration, Place};
use crate::support::Kind;
use crate::support::rounds::{Drawn, Round};

/// How long a round's storm lasts: some turns of each tenant, which may take half a second where there are fewer
/// connections than tenants, so that it matters little whose turn is the last.
pub const STORM: Duration = Duration::from_secs(8);

/// How the accounts are had that tenants log in with upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounts {
    /// All have the placement's.
    Shared,
    /// Each has its own.
    Own,
    /// A reload may give each its own, or take it away.
    Changing,
}

/// A round.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub cores: u32,
    pub kind: Kind,
    /// The most upstream connections of an endpoint, whatever is reloaded.
    pub budget: u32,
    /// Equal ones.
    pub tenants: u32,
    /// Of each tenant on each core.
    pub clients: u32,
    pub accounts: Accounts,
    /// The configuration of the beginning, which is that of the end too.
    pub first: Configuration,
    /// What a reload changes, and when after the storm's beginning.
    pub reloads: Vec<(Duration, Vec<Changed>)>,
}

impl Plan {
    /// The round of a seed.
    pub fn draw(Drawn { seed, cores, kind }: Drawn) -> Self {
        let mut prng = Prng::new(seed);
        let drawn_cores = 1 + small(&mut prng, 2);
        let cores = cores.map_or(drawn_cores, |cores| {
            u32::try_from(cores).expect("few cores")
        });
        let tenants = 2 + small(&mut prng, 3);
        // A connection for each tenant on each core: of fewer each has its turn, but not as many statements.
        let budget = tenants * cores + small(&mut prng, 8);
        // Three times what the budget can run, or more.
        let clients = (3 * budget).div_ceil(tenants * cores) + small(&mut prng, 4);
        let accounts = match prng.below(3) {
            0 => Accounts::Shared,
            1 => Accounts::Own,
            _ => Accounts::Changing,
        };
        let place = Place {
            tenants,
            budget,
            cores,
            accounts,
        };
        let first = Configuration::first(&place);
        let count = 8 + prng.below(12);
        let mut reloads: Vec<(Duration, Vec<Changed>)> = (0..count)
            .map(|_| {
                let at = Duration::from_millis(100 + prng.below(7_700));
                let changes = 1 + prng.below(8);
                let changes = (0..changes).map(|_| Changed::draw(&mut prng, &place));
                (at, changes.collect())
            })
            .collect();
        reloads.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            cores,
            kind,
            budget,
            tenants,
            clients,
            accounts,
            first,
            reloads,
        }
    }
}

fn small(prng: &mut Prng, bound: u64) -> u32 {
    u32::try_from(prng.below(bound)).expect("a small bound")
}

impl Round for Plan {
    const PART: &'static str = "sharing";

    fn cores(&self) -> u64 {
        self.cores.into()
    }

    fn run(&self) -> Result<String, Vec<String>> {
        crate::round::run(self)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} cores, budget {}, {} tenants with {} clients on each core, accounts {:?}, {} reloads",
            self.seed,
            self.cores,
            self.budget,
            self.tenants,
            self.clients,
            self.accounts,
            self.reloads.len(),
        )
    }
}
