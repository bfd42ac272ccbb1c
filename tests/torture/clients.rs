//! The clients of a storm: those that behave, whose every answer is checked, and those that do not.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringgate::base::prng::Prng;

use crate::plan::{Kind, LOGIN};
use crate::support::{Answer, Client, ClientError, Login};

/// What may be missed by.
pub const SLACK: Duration = Duration::from_millis(500);
/// How long a client waits for what never comes.
const NEVER: Duration = Duration::from_secs(12);

/// What all clients of a storm share.
pub struct Storm {
    pub login: Login,
    pub is_null: bool,
    /// Until when a statement must be answered.
    pub deadline: Duration,
    /// How long most statements take, in milliseconds.
    pub sleep_ms: u32,
    pub is_over: AtomicBool,
    pub tally: Tally,
    /// How late the machine let a thread run at worst, microseconds.
    pub lag: AtomicU64,
}

/// What happened to the well-behaved.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: AtomicU64,
    pub told: AtomicU64,
    pub ended: AtomicU64,
    /// Steps of writers that were answered.
    pub steps: AtomicU64,
    pub slowest: AtomicU64,
    /// What must not happen.
    pub problems: Mutex<Vec<String>>,
}

impl Tally {
    pub fn problem(&self, text: String) {
        let mut problems = self.problems.lock().expect("no panic before");
        // The first few say enough.
        if problems.len() < 12 {
            problems.push(text);
        }
    }
}

impl Storm {
    pub fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    pub fn login(&self, user: &str) -> Login {
        Login {
            user: user.to_owned(),
            ..self.login.clone()
        }
    }

    /// A client in whose reads the machine's own delays are allowed for.
    fn connect(&self, user: &str) -> Result<Client, ClientError> {
        self.connect_as(&self.login(user))
    }

    /// Likewise, in a schema and with or without DEPRECATE_EOF.
    pub fn connect_in(
        &self,
        user: &str,
        schema: &str,
        deprecate_eof: bool,
    ) -> Result<Client, ClientError> {
        self.connect_as(&Login {
            schema: schema.to_owned(),
            deprecate_eof,
            ..self.login(user)
        })
    }

    fn connect_as(&self, login: &Login) -> Result<Client, ClientError> {
        Client::connect(login).and_then(|mut client| {
            client.stream().set_read_timeout(Some(NEVER))?;
            Ok(client)
        })
    }

    /// What an answer may take.
    pub fn limit(&self, deadline: Duration) -> Duration {
        deadline + SLACK + Duration::from_micros(self.lag.load(Ordering::Relaxed))
    }
}

/// Measures how late threads run: what the machine takes is not the gateway's.
pub fn watch_the_machine(storm: &Storm) {
    let nap = Duration::from_millis(5);
    while storm.goes_on() {
        let begun = Instant::now();
        std::thread::sleep(nap);
        let late = begun.elapsed().saturating_sub(nap);
        storm.lag.fetch_max(micros(late), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short time")
}

/// Keeps one statement going all the time, and checks each answer.
pub fn behave(storm: &Storm, number: u32, seed: u64) {
    let mut prng = Prng::new(seed);
    let user = if number.is_multiple_of(2) { "a" } else { "b" };
    while storm.goes_on() {
        let begun = Instant::now();
        let client = storm.connect(user);
        let took = begun.elapsed();
        if took > storm.limit(LOGIN) {
            storm
                .tally
                .problem(format!("{user}{number}: login {took:?}"));
        }
        match client {
            Ok(mut client) => converse(storm, &mut client, &format!("{user}{number}"), &mut prng),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks until the connection ends.
fn converse(storm: &Storm, client: &mut Client, name: &str, prng: &mut Prng) {
    let tally = &storm.tally;
    while storm.goes_on() {
        let tag = format!("{name}:{}", prng.next_u64());
        let kind = prng.below(8);
        let mut steps = Steps {
            client,
            slowest: Duration::ZERO,
        };
        let asked = match storm.is_null {
            true => steps.query("SELECT c FROM t").map(|answer| {
                (answer.rows.len() != 1).then(|| format!("{} rows", answer.rows.len()))
            }),
            false => ask(&mut steps, &tag, kind, storm.sleep_ms),
        };
        let took = steps.slowest;
        tally.slowest.fetch_max(micros(took), Ordering::Relaxed);
        if took > storm.limit(storm.deadline) {
            tally.problem(format!("{tag} (kind {kind}): {took:?}: {asked:?}"));
        }
        match asked {
            Ok(None) => tally.answered.fetch_add(1, Ordering::Relaxed),
            Ok(Some(wrong)) => {
                tally.problem(format!("{tag} (kind {kind}): {wrong}"));
                return;
            }
            Err(ClientError::Server {
                errno: 3168 | 3024 | 1158,
                ..
            }) => {
                // Refusals may come at once.
                std::thread::sleep(Duration::from_millis(10));
                tally.told.fetch_add(1, Ordering::Relaxed)
            }
            // Its connection ends: told as a server that goes down tells it, or in mid-packet.
            Err(ClientError::Server { errno: 1053, .. } | ClientError::Io(_)) => {
                tally.ended.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                tally.problem(format!("{tag} (kind {kind}): {error}"));
                return;
            }
        };
    }
}

/// Commands one after the other, each with its own deadline.
struct Steps<'a> {
    client: &'a mut Client,
    slowest: Duration,
}

impl Steps<'_> {
    fn step<T>(
        &mut self,
        step: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let begun = Instant::now();
        let done = step(self.client);
        self.slowest = self.slowest.max(begun.elapsed());
        done
    }

    fn query(&mut self, sql: &str) -> Result<Answer, ClientError> {
        self.step(|client| client.query_one(sql))
    }
}

/// Statements with a tag; what is wrong with their answer.
fn ask(
    steps: &mut Steps<'_>,
    tag: &str,
    kind: u64,
    sleep_ms: u32,
) -> Result<Option<String>, ClientError> {
    let repeated = tag.repeat(300);
    let mut expect = tag;
    let answer = match kind {
        0..4 => {
            let seconds = f64::from(sleep_ms) / 1_000.0;
            steps.query(&format!("SELECT '{tag}', SLEEP({seconds})"))?
        }
        4 => {
            expect = &repeated;
            steps.query(&format!("SELECT REPEAT('{tag}', 300)"))?
        }
        5 => {
            let statement = steps.step(|client| client.prepare("SELECT ?, SLEEP(0.01)"))?;
            let answer = steps.step(|client| client.execute(statement, &[tag.as_bytes()]));
            steps.step(|client| client.close_statement(statement))?;
            answer?
        }
        6 => {
            steps.query(&format!("SET @tag = '{tag}'"))?;
            let answer = steps.query("SELECT @tag")?;
            steps.step(Client::reset)?;
            answer
        }
        _ => {
            let answer = steps.query(&format!("SELECT '{tag}' FROM seq_1_to_40"))?;
            if answer.rows.len() != 40 {
                return Ok(Some(format!("{} rows instead of 40", answer.rows.len())));
            }
            answer
        }
    };
    let text = answer.text(0, 0);
    Ok((text.as_deref() != Some(expect)).then(|| format!("another's answer: {text:?}")))
}

/// Does what clients of its kind do, until the storm is over.
pub fn misbehave(storm: &Storm, kind: Kind, seed: u64) {
    let mut prng = Prng::new(seed);
    while storm.goes_on() {
        let user = if kind == Kind::Panicker { "p" } else { "a" };
        let done = storm.connect(user).and_then(|mut client| {
            // It looks again whether the storm is over.
            let limit = Some(Duration::from_millis(200));
            client.stream().set_read_timeout(limit)?;
            client.stream().set_write_timeout(limit)?;
            match kind {
                Kind::SlowReader => read_slowly(storm, &mut client),
                Kind::SilentReader => {
                    if prng.below(2) == 0 {
                        // What it does not read stays with the gateway.
                        let socket = socket2::SockRef::from(&*client.stream());
                        socket.set_recv_buffer_size(4_096)?;
                    }
                    let sql = "SELECT REPEAT('x', 1500), c.seq FROM seq_1_to_2 AS c";
                    write_on(storm, &mut client, &command(3, sql.as_bytes()), 4_000)
                }
                Kind::PingFlooder => write_on(storm, &mut client, &command(14, &[]), 4_000_000),
                Kind::HalfCommander => stop_half_way(storm, &mut client, &mut prng),
                Kind::Vanisher => vanish(client, &mut prng),
                Kind::HalfCloser => half_close(&mut client),
                Kind::Panicker => client.query("SELECT 1").map(|_| ()),
            }
        });
        // It is no surprise to such a client that it is ended.
        drop(done);
        std::thread::sleep(Duration::from_millis(10 + prng.below(40)));
    }
}

/// A command's packet.
fn command(byte: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("a short command");
    let mut bytes = length.to_le_bytes()[..3].to_vec();
    bytes.extend_from_slice(&[0, byte]);
    bytes.extend_from_slice(body);
    bytes
}

fn is_no_end(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn read_slowly(storm: &Storm, client: &mut Client) -> Result<(), ClientError> {
    client.send_query("SELECT REPEAT('s', 250000) FROM seq_1_to_8")?;
    let mut bytes = vec![0; 20_000];
    while storm.goes_on() {
        match client.stream().read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_no_end(&error) => {}
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    Ok(())
}

/// Writes `count` commands, as far as they are taken, and reads nothing until it is ended.
fn write_on(
    storm: &Storm,
    client: &mut Client,
    packet: &[u8],
    count: usize,
) -> Result<(), ClientError> {
    let bytes = packet.repeat(count);
    let mut rest = bytes.as_slice();
    while storm.goes_on() {
        if rest.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        match client.stream().write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if is_no_end(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn stop_half_way(storm: &Storm, client: &mut Client, prng: &mut Prng) -> Result<(), ClientError> {
    let length = [200, 12_000, 300_000, 1_500_000][usize::try_from(prng.below(4)).expect("few")];
    let mut body = b"SELECT '".to_vec();
    body.resize(length, b'h');
    let whole = command(3, &body);
    let half = 5 + usize::try_from(prng.below(200_000)).expect("short") % (whole.len() - 6);
    client.send_raw(whole.get(..half).unwrap_or_default())?;
    let mut word = [0; 256];
    while storm.goes_on() {
        match client.stream().read(&mut word) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_no_end(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn vanish(mut client: Client, prng: &mut Prng) -> Result<(), ClientError> {
    client.send_query("SELECT SLEEP(0.05), 'vanishes'")?;
    std::thread::sleep(Duration::from_millis(prng.below(80)));
    if prng.below(2) == 0 {
        return client.abort();
    }
    Ok(())
}

fn half_close(client: &mut Client) -> Result<(), ClientError> {
    client.send_query("SELECT SLEEP(0.02), 'half'")?;
    client.stream().shutdown(Shutdown::Write)?;
    client.read_query().map(|_| ())
}
