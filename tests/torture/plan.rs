//! What a round does, drawn from its seed.

use std::fmt;
use std::time::Duration;

use ringgate::base::prng::Prng;

use crate::faults::{Fault, Panic};
use crate::support::rounds::{Drawn, Round};
use crate::support::{ACCOUNT, Kind as Server, Ports};

/// How long a round's storm lasts.
pub const STORM: Duration = Duration::from_secs(4);
/// The statement's deadline, its wait for a connection included, in rounds that have one.
const STATEMENT: Duration = Duration::from_millis(1_500);
/// How long a statement may wait for a connection.
const POOL_WAIT: Duration = Duration::from_secs(1);
/// How long a client may take for its login.
pub const LOGIN: Duration = Duration::from_secs(3);

/// A round.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub cores: u64,
    /// Upstream connections.
    pub budget: u32,
    /// Receive buffers of a core.
    pub buffers: u32,
    /// The listener's send buffer; the kernel's own if there is none.
    pub send_buffer: Option<u32>,
    /// A null server stands behind the gateway instead of a database.
    pub is_null: bool,
    /// Whose server it is otherwise.
    pub kind: Server,
    /// Well-behaved clients; half of them for each of two tenants.
    pub well_behaved: u32,
    /// Clients that write in ever-changing sessions, more than the budget; none on a null server.
    pub writers: u32,
    /// How many of each kind misbehave.
    pub misbehaved: Vec<(Kind, u32)>,
    /// What happens, and when after the storm's beginning.
    pub faults: Vec<(Duration, Fault)>,
    /// Where each core panics once, besides the logins of [`Kind::Panicker`].
    pub panic: Option<Panic>,
    /// Statements have a deadline. Without one, they wait for a connection no longer than they may.
    pub has_deadline: bool,
    /// How long most statements of the well-behaved take, in milliseconds.
    pub sleep_ms: u32,
}

/// A kind of client that does not behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for much and reads little by little.
    SlowReader,
    /// Pipelines statements and reads nothing.
    SilentReader,
    /// Pings without end and reads nothing.
    PingFlooder,
    /// Stops in the middle of a command.
    HalfCommander,
    /// Leaves during a statement.
    Vanisher,
    /// Closes its side behind its statement and reads the answer.
    HalfCloser,
    /// Has its task panic.
    Panicker,
}

const KINDS: [Kind; 7] = [
    Kind::SlowReader,
    Kind::SilentReader,
    Kind::PingFlooder,
    Kind::HalfCommander,
    Kind::Vanisher,
    Kind::HalfCloser,
    Kind::Panicker,
];

impl Plan {
    /// The round of a seed.
    pub fn draw(Drawn { seed, cores, kind }: Drawn) -> Self {
        let mut prng = Prng::new(seed);
        // Drawn whether it is used or not, so that the rest stays the same.
        let drawn_cores = 1 + prng.below(2);
        let budget = 2 + small(&mut prng, 7);
        let is_null = prng.below(4) == 0;
        let buffers = [128, 256, 2_048][index(&mut prng, 3)];
        let send_buffer = [None, Some(64)][index(&mut prng, 2)];
        let misbehaved = KINDS
            .iter()
            .filter_map(|kind| match small(&mut prng, 4) {
                0 => None,
                count => Some((*kind, count)),
            })
            .collect();
        let count = 2 + prng.below(4);
        let mut faults: Vec<(Duration, Fault)> = (0..count)
            .map(|_| {
                let at = Duration::from_millis(200 + prng.below(2_800));
                (at, Fault::draw(&mut prng, is_null))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        let has_deadline = prng.below(3) > 0;
        // Of the last, those who wait have waited as long as they may when their turn comes.
        let sleep_ms = [30, 100, 500][index(&mut prng, 3)];
        // Drawn behind all else, so that older seeds mean what they meant.
        let cores = cores.unwrap_or(drawn_cores);
        let panic = (prng.below(2) == 0).then(|| Panic::draw(&mut prng, cores));
        let mut writers = budget + 1 + small(&mut prng, u64::from(budget));
        // Each of the others keeps one statement going: three times what the budget can run.
        let (mut well_behaved, mut sleep_ms) = (3 * budget, sleep_ms);
        let is_of_writers = prng.below(2) == 0;
        let losses = if is_null { 0 } else { prng.below(4) };
        faults.extend((0..losses).map(|_| {
            let at = Duration::from_millis(200 + prng.below(2_800));
            (at, Fault::draw_loss(&mut prng))
        }));
        faults.sort_by_key(|(at, _)| *at);
        if is_null {
            writers = 0;
        } else if is_of_writers {
            // Sessions change hands many times a second then.
            (writers, well_behaved, sleep_ms) = (2 * budget + writers, budget, 30);
        }
        Self {
            seed,
            cores,
            budget,
            buffers,
            send_buffer,
            is_null,
            kind,
            well_behaved,
            writers,
            misbehaved,
            faults,
            panic,
            has_deadline,
            sleep_ms,
        }
    }

    /// Until when a well-behaved client's statement must be answered.
    pub fn deadline(&self) -> Duration {
        if self.has_deadline {
            return STATEMENT;
        }
        // A read may be tried once more, on another connection, and a server that is held up answers
        // when it goes on.
        let held_up: Duration = self.faults.iter().map(|(_, fault)| fault.holds_up()).sum();
        2 * POOL_WAIT + held_up
    }

    /// The fewest statements that are answered whatever happens, those of writers included: a twentieth of
    /// what the budget could run. Less means that somebody keeps it from the others.
    pub fn served_min(&self) -> u64 {
        let storm = u64::try_from(STORM.as_millis()).expect("a short time");
        u64::from(self.budget) * storm / u64::from(self.sleep_ms) / 20
    }

    /// The fewest that those are answered who do not write: all of these, as long as they alone can fill the
    /// budget; where writers are most of the clients, their part of them by the head.
    pub fn answered_min(&self) -> u64 {
        if self.well_behaved >= 3 * self.budget {
            return self.served_min();
        }
        let all = self.well_behaved + self.writers;
        self.served_min() * u64::from(self.well_behaved) / u64::from(all)
    }

    /// The fewest writes that are acknowledged: of those statements the writers' part by the head, of which one in
    /// three writes. None need be where a few slow statements are all that the budget could run.
    pub fn writes_min(&self) -> usize {
        let all = self.well_behaved + self.writers;
        let part = self.served_min() * u64::from(self.writers) / u64::from(all) / 3;
        usize::try_from(part).expect("a few")
    }

    /// The most panics that there may be where nobody is a [`Kind::Panicker`].
    pub fn panics_max(&self) -> f64 {
        let cores = u32::try_from(self.cores).expect("few cores");
        self.panic.map_or(0.0, |_| f64::from(cores))
    }

    /// Whether anybody of `kind` takes part.
    pub fn has(&self, kind: Kind) -> bool {
        self.misbehaved.iter().any(|(other, _)| *other == kind)
    }

    /// The configuration: tenants `a` and `b`, and `p` whose logins panic, on one endpoint.
    pub fn config(&self, ports: Ports, upstream: u16, generation: u32) -> String {
        let Ports { mysql, admin } = ports;
        let send_buffer = self
            .send_buffer
            .map_or_else(String::new, |kib| format!("send_buffer = \"{kib}KiB\"\n"));
        let mut text = format!(
            "version = 1\n[cores]\ncount = {}\n\
             [listeners.main]\nprotocol = \"mysql\"\naddress = \"127.0.0.1:{mysql}\"\n\
             user_timeout = \"2s\"\n{send_buffer}\
             [admin]\naddress = \"127.0.0.1:{admin}\"\n\
             [buffers]\ncount = {}\n\
             [pools]\nbudget = {}\nwaiters_max = {}\n\
             [deadlines]\nlogin = \"2s\"\nconnect = \"300ms\"\nconnect_total = \"600ms\"\n\
             upstream_login = \"600ms\"\npool_wait = \"{}ms\"\nstatement = \"{}ms\"\n\
             write_stall = \"2s\"\nlinger = \"1s\"\n\
             [placements.shard]\n\
             endpoints = [{{ address = \"127.0.0.1:{upstream}\", role = \"primary\" }}]\n\
             upstream = {{ user = \"{ACCOUNT}\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }} }}\n",
            self.cores,
            self.buffers,
            self.budget,
            4_000 + generation,
            POOL_WAIT.as_millis(),
            if self.has_deadline {
                STATEMENT.as_millis()
            } else {
                0
            },
        );
        for tenant in ["a", "b", "p"] {
            text.push_str(&format!(
                "[tenants.{tenant}]\nplacement = \"shard\"\nschema = \"test\"\n\
                 [users.{tenant}]\ntenant = \"{tenant}\"\nplugin = \"mysql_native_password\"\n\
                 password = {{ env = \"RG_A_PASSWORD\" }}\n"
            ));
        }
        text
    }
}

fn small(prng: &mut Prng, bound: u64) -> u32 {
    u32::try_from(prng.below(bound)).expect("a small bound")
}

fn index(prng: &mut Prng, bound: u64) -> usize {
    usize::try_from(prng.below(bound)).expect("a small bound")
}

impl Round for Plan {
    const PART: &'static str = "storm";

    fn cores(&self) -> u64 {
        self.cores
    }

    fn run(&self) -> Result<String, Vec<String>> {
        crate::round::run(self)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} cores, budget {}, {} buffers, send buffer {:?} KiB, null server {}, \
             statement deadline {}, {} behave with {} ms, {} write, {:?}, {:?}, panics: {}",
            self.seed,
            self.cores,
            self.budget,
            self.buffers,
            self.send_buffer,
            self.is_null,
            self.has_deadline,
            self.well_behaved,
            self.sleep_ms,
            self.writers,
            self.misbehaved,
            self.faults,
            self.panic.map_or_else(|| "none".to_owned(), Panic::asked),
        )
    }
}
