//! The clients of a round: each keeps one command going, and knows each answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringgate::base::prng::Prng;

use crate::support::{Answer, Client, ClientError, Gateway, Login};

const FOUND_ROWS: u32 = 1 << 1;
const IGNORE_SPACE: u32 = 1 << 8;
const INTERACTIVE: u32 = 1 << 10;
const MULTI_STATEMENTS: u32 = 1 << 16;

/// What clients agree on, one after the other.
const CAPABILITIES: [u32; 6] = [
    0,
    FOUND_ROWS,
    MULTI_STATEMENTS,
    IGNORE_SPACE,
    INTERACTIVE,
    FOUND_ROWS | MULTI_STATEMENTS | IGNORE_SPACE | INTERACTIVE,
];

/// What a client may be told: that it had to wait too long.
const TOLD: [u16; 2] = [3024, 3168];

/// How long a login may be tried for.
const NEVER: Duration = Duration::from_secs(12);

/// What all clients of a round share.
#[derive(Default)]
pub struct Storm {
    pub is_over: AtomicBool,
    /// Answers of each tenant, the last of which goes by the hash.
    pub served: Vec<AtomicU64>,
    pub told: AtomicU64,
    pub problems: Mutex<Vec<String>>,
}

impl Storm {
    pub fn of(tenants: u32) -> Self {
        Self {
            served: (0..=tenants).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    pub fn problem(&self, text: String) {
        let mut problems = self.problems.lock().expect("no panic before");
        // The first few say enough.
        if problems.len() < 8 {
            problems.push(text);
        }
    }
}

/// One client: the `number`-th of its tenant on its core.
pub struct Seat {
    pub tenant: u32,
    /// It is of the tenant that goes by the hash, and knows the first tenant's rows.
    pub is_hashed: bool,
    pub core: u32,
    pub number: u32,
}

impl Seat {
    /// Logs in, on the core where it belongs.
    fn connect(&self, gateway: &Gateway) -> Result<Client, ClientError> {
        let number = usize::try_from(self.number).expect("few");
        let capabilities = CAPABILITIES[number % CAPABILITIES.len()];
        let login = Login {
            user: match self.is_hashed {
                true => "hashed".to_owned(),
                false => format!("t{}", self.tenant),
            },
            schema: match number % 3 {
                0 => String::new(),
                _ => format!("t{}", self.tenant),
            },
            deprecate_eof: number % 4 < 2,
            ..gateway.login()
        };
        loop {
            let client = Client::connect_with(&login, capabilities)?;
            if client.thread_id >> 24 == self.core {
                return Ok(client);
            }
        }
    }

    fn takes_several(&self) -> bool {
        let number = usize::try_from(self.number).expect("few");
        CAPABILITIES[number % CAPABILITIES.len()] & MULTI_STATEMENTS != 0
    }

    /// Keeps commands going until the storm is over.
    pub fn sit(&self, storm: &Storm, gateway: &Gateway, seed: u64) {
        let mut prng = Prng::new(seed);
        while storm.goes_on() {
            match self.stay(storm, gateway, &mut prng) {
                Ok(()) => {}
                Err(ClientError::Server { errno, .. }) if TOLD.contains(&errno) => {
                    storm.told.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    storm.problem(format!(
                        "tenant {} client {}.{}: {error}",
                        self.tenant, self.core, self.number
                    ));
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// A session of some commands.
    fn stay(&self, storm: &Storm, gateway: &Gateway, prng: &mut Prng) -> Result<(), ClientError> {
        let mut client = self.connect(gateway)?;
        client.stream().set_read_timeout(Some(NEVER))?;
        let commands = 20 + prng.below(60);
        for _ in 0..commands {
            if !storm.goes_on() {
                return Ok(());
            }
            let expect = format!("t{}-{}", self.tenant, prng.below(1 << 30));
            let found = self.ask(&mut client, &expect, prng)?;
            if found.as_deref() != Some(&*expect) {
                storm.problem(format!("{found:?}, not {expect}"));
            }
            let tenant = if self.is_hashed {
                storm.served.len() - 1
            } else {
                self.at()
            };
            storm.served[tenant].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn at(&self) -> usize {
        usize::try_from(self.tenant).expect("few")
    }

    /// One command, or a transaction, some 3 ms of a connection; what it found, which should be `expect`.
    fn ask(
        &self,
        client: &mut Client,
        expect: &str,
        prng: &mut Prng,
    ) -> Result<Option<String>, ClientError> {
        let schema = format!("t{}", self.tenant);
        let tag = expect.rsplit_once('-').map_or("", |(_, tag)| tag);
        let select = format!("SELECT CONCAT(name, '-{tag}'), SLEEP(0.003) FROM {schema}.who");
        let text = |answer: &Answer| answer.text(0, 0);
        match prng.below(8) {
            0 if self.takes_several() => {
                let answers = client.query(&format!("DO 1; {select}"))?;
                Ok(answers.last().and_then(text))
            }
            0 | 1 => {
                let statement = client.prepare(&select)?;
                let answer = client.execute(statement, &[])?;
                client.close_statement(statement)?;
                Ok(text(&answer))
            }
            2 => {
                client.query("BEGIN")?;
                client.query(&format!("INSERT INTO {schema}.w VALUES ('{expect}')"))?;
                let sql = format!("SELECT a, SLEEP(0.003) FROM {schema}.w WHERE a = '{expect}'");
                let found = text(&client.query_one(&sql)?);
                client.query("COMMIT")?;
                Ok(found)
            }
            3 => {
                // It moves with its session.
                let zone = format!("+0{}:00", prng.below(10));
                client.query(&format!("SET time_zone = '{zone}'"))?;
                let sql = format!(
                    "SELECT CONCAT(name, IF(@@time_zone = '{zone}', '-', @@time_zone), '{tag}'), \
                     SLEEP(0.003) FROM {schema}.who"
                );
                Ok(text(&client.query_one(&sql)?))
            }
            _ => Ok(text(&client.query_one(&select)?)),
        }
    }
}
