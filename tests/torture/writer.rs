//! Writers: clients that change their sessions in every way, write rows that tell of it, and note what
//! they were told of each.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringgate::base::prng::Prng;

use crate::clients::Storm;
use crate::ledger::{Cell, Fate, Ledger};
use crate::plan::LOGIN;
use crate::schemas::{Defaults, GONE, LASTING, table_of_gone};
use crate::state::State;
use crate::support::{Answer, Client, ClientError};
use crate::writing::Prepared;

/// How long a statement may wait for a lock that another writer has; the servers' own limit.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Steps of a session, at most; and behind the first that keeps its connection.
const STEPS: u64 = 40;
const KEPT_STEPS: u32 = 8;
/// What a server says of a schema that has gone, or goes.
const GONES: [u16; 7] = [1044, 1046, 1049, 1146, 1205, 1213, 1412];
const READ_ONLY: u16 = 1792;

/// Where writers are.
#[derive(Clone, Debug)]
pub struct Home {
    pub defaults: Defaults,
    /// On the server itself, whose answers decide what is right.
    pub is_direct: bool,
}

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is not done, by this error.
    Refused(u16),
    /// It may be; the session goes on.
    Unknown,
    /// It may be; the session ends.
    Ended,
}

/// The session has ended, or is in a state that its writer does not know.
pub struct Stop;

/// Writes until the storm is over; what it has written.
pub fn write(storm: &Storm, home: &Home, number: u32, seed: u64) -> Ledger {
    let mut prng = Prng::new(seed);
    let mut ledger = Ledger::new(u64::from(number));
    let user = match home.is_direct {
        true => storm.login.user.as_str(),
        false if number.is_multiple_of(2) => "a",
        false => "b",
    };
    while storm.goes_on() {
        let schema = LASTING[index(&mut prng, LASTING.len())];
        let begun = Instant::now();
        let client = storm.connect_in(user, schema, prng.below(2) == 0);
        let took = begun.elapsed();
        if took > storm.limit(LOGIN) {
            storm
                .tally
                .problem(format!("writer {number}: login {took:?}"));
        }
        let Ok(client) = client else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        ledger.note("login", &schema);
        let mut session = Session {
            storm,
            home,
            state: State::new(&home.defaults, u64::from(number), schema),
            client,
            prng,
            ledger,
            writer: u64::from(number),
            is_open: false,
            pending: Vec::new(),
            prepared: Vec::new(),
            is_kept: false,
            kept_steps: 0,
        };
        session.live();
        (prng, ledger) = session.leave();
        std::thread::sleep(Duration::from_millis(prng.below(30)));
    }
    ledger
}

pub fn index(prng: &mut Prng, bound: usize) -> usize {
    usize::try_from(prng.below(bound as u64)).expect("a small bound")
}

/// A session and all that its writer knows of it.
pub struct Session<'a> {
    storm: &'a Storm,
    pub home: &'a Home,
    pub state: State,
    pub client: Client,
    pub prng: Prng,
    pub ledger: Ledger,
    pub writer: u64,
    /// In a transaction that BEGIN has begun.
    pub is_open: bool,
    /// Writes of a transaction that has not ended.
    pending: Vec<usize>,
    pub prepared: Vec<Prepared>,
    /// It keeps its connection, until it is reset.
    pub is_kept: bool,
    kept_steps: u32,
}

impl Session<'_> {
    fn live(&mut self) {
        for _ in 0..1 + self.prng.below(STEPS) {
            if self.step().is_err() || !self.storm.goes_on() {
                return;
            }
            self.kept_steps = if self.is_kept { self.kept_steps + 1 } else { 0 };
            if self.kept_steps > KEPT_STEPS && (self.chance(2) || self.reset().is_err()) {
                return;
            }
        }
    }

    fn step(&mut self) -> Result<(), Stop> {
        match self.prng.below(100) {
            0..45 => self.write(),
            45..62 => self.change_setting(),
            62..66 => self.keep_something(),
            66..74 => self.transaction(),
            74..78 => self.without_autocommit(),
            78..80 => self.read_only(),
            80..86 => self.look(),
            86..89 => self.last_id(),
            89..92 => self.reset(),
            92..93 => self.change_user(),
            93..97 => self.go_to_gone(),
            _ => self.remake_gone(),
        }
    }

    /// The end, in one of many ways.
    fn leave(mut self) -> (Prng, Ledger) {
        self.ledger.note("leaves", &());
        // It is the peer's business what becomes of what is sent last.
        match self.prng.below(6) {
            0 => drop(self.client.quit()),
            1 => drop(self.client.abort()),
            2 => {
                self.write_unread();
                drop(self.client);
            }
            3 => {
                self.write_unread();
                drop(self.client.abort());
            }
            4 => {
                self.write_unread();
                drop(self.client.stream().shutdown(Shutdown::Write));
                // Gone by the time that its answer comes, or not.
                std::thread::sleep(Duration::from_millis(self.prng.below(30)));
            }
            _ => drop(self.client),
        }
        (self.prng, self.ledger)
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.prng.below(one_in) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[index(&mut self.prng, of.len())].clone()
    }

    /// One command; `allowed` are the errors by which it may be refused, besides those of overload.
    pub fn tell<T: std::fmt::Debug>(
        &mut self,
        what: &str,
        allowed: &[u16],
        command: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Told> {
        let begun = Instant::now();
        let done = command(&mut self.client);
        let took = begun.elapsed();
        self.ledger.note(what, &done);
        let limit = self.storm.limit(self.storm.deadline + LOCK_WAIT);
        if took > limit {
            self.problem(&format!("{took:?}, which is more than {limit:?}"));
        }
        let tally = &self.storm.tally;
        let error = match done {
            Ok(answer) => {
                tally.steps.fetch_add(1, Ordering::Relaxed);
                return Ok(answer);
            }
            Err(error) => error,
        };
        match &error {
            ClientError::Io(_) => Err(Told::Ended),
            // The end of the connection, as a server or the gateway tells it.
            ClientError::Server {
                errno: 1053 | 1927, ..
            } if !self.home.is_direct => Err(Told::Ended),
            ClientError::Server { errno: 1158, .. } if !self.home.is_direct => {
                // What is known of the last statement was on the connection.
                self.state.last = Cell::Any;
                Err(Told::Unknown)
            }
            ClientError::Server {
                errno: errno @ (3168 | 3024),
                ..
            } if !self.home.is_direct => {
                // It may come at once.
                std::thread::sleep(Duration::from_millis(10));
                Err(Told::Refused(*errno))
            }
            ClientError::Server {
                errno: 1235, text, ..
            } if text.contains("last_statement_lost") => {
                self.state.last = Cell::Any;
                Err(Told::Refused(1235))
            }
            ClientError::Server { errno, .. }
                if allowed.contains(errno)
                    || (self.state.is_in_gone() && GONES.contains(errno)) =>
            {
                Err(Told::Refused(*errno))
            }
            _ => {
                self.problem(&error.to_string());
                Err(Told::Ended)
            }
        }
    }

    /// What must not happen, and what came before it.
    pub fn problem(&mut self, text: &str) {
        let around = self.ledger.around(None);
        let writer = self.writer;
        let tally = &self.storm.tally;
        tally.problem(format!("writer {writer}: {text}{around}"));
    }

    pub fn ask(&mut self, sql: &str, allowed: &[u16]) -> Result<Answer, Told> {
        self.tell(sql, allowed, |client| client.query_one(sql))
    }

    /// A statement that sets something: whether it has. Unless that is certain, the session ends.
    pub fn set(&mut self, sql: &str) -> Result<bool, Stop> {
        let told = self.ask(sql, &[]);
        is_set(told)
    }

    /// A transaction begins to commit, or has not to.
    fn end_transaction(&mut self, sql: &str, is_commit: bool) -> Result<(), Stop> {
        let fate = |is_done: bool| match (is_commit, is_done) {
            (true, true) => Fate::There,
            (true, false) => Fate::Unknown,
            (false, _) => Fate::Absent,
        };
        let told = self.ask(sql, &[]);
        // What is refused is not done.
        let is_refused = matches!(told, Err(Told::Refused(_)));
        for number in std::mem::take(&mut self.pending) {
            if !is_refused {
                self.ledger.settle(number, fate(told.is_ok()));
            }
        }
        self.is_open = false;
        told.map(|_| ()).map_err(|_| Stop)
    }

    /// Takes down what was told of a write. `id` is what the answer calls its row.
    pub fn settle(
        &mut self,
        number: usize,
        told: Result<Option<u64>, Told>,
        is_select: bool,
    ) -> Result<(), Stop> {
        let is_lasting = self.state.is_auto && !self.is_open;
        let (fate, stops) = match told {
            Ok(_) if is_lasting => (Fate::There, false),
            Ok(_) => (Fate::Absent, false),
            // The text of a SELECT does not tell that it writes.
            Err(Told::Refused(3024)) if is_lasting && is_select => (Fate::Unknown, false),
            // The whole transaction is undone.
            Err(Told::Refused(1213)) => (Fate::Absent, !is_lasting),
            Err(Told::Refused(_)) => (Fate::Absent, false),
            Err(told) if is_lasting => (Fate::Unknown, told == Told::Ended),
            // Nobody will commit it.
            Err(_) => (Fate::Absent, true),
        };
        self.ledger.settle(number, fate);
        match told {
            Ok(id) => {
                if !is_lasting {
                    self.pending.push(number);
                }
                if let Some(id) = id {
                    self.ledger.name(number, id);
                    if !is_select {
                        self.state.last = crate::state::is(id.to_string());
                    }
                }
            }
            Err(_) => self.state.last = Cell::Any,
        }
        if stops { Err(Stop) } else { Ok(()) }
    }

    fn transaction(&mut self) -> Result<(), Stop> {
        let sql = self.pick(&["BEGIN", "START TRANSACTION", "START TRANSACTION READ WRITE"]);
        if !self.set(sql)? {
            return Ok(());
        }
        self.is_open = true;
        self.write_some()?;
        if self.chance(3) {
            self.end_transaction("ROLLBACK", false)
        } else {
            self.end_transaction("COMMIT", true)
        }
    }

    /// Writes, and whatever else may come between them.
    fn write_some(&mut self) -> Result<(), Stop> {
        for _ in 0..1 + self.prng.below(3) {
            self.write()?;
            if self.chance(3) {
                self.change_setting()?;
            }
        }
        // In the middle of it.
        if self.chance(12) { Err(Stop) } else { Ok(()) }
    }

    fn without_autocommit(&mut self) -> Result<(), Stop> {
        let form = self.pick(&["SET autocommit = 0", "SET @@autocommit = OFF"]);
        if !self.set(form)? {
            return Ok(());
        }
        self.state.is_auto = false;
        self.write_some()?;
        let ends = [("COMMIT", true), ("ROLLBACK", false)];
        let (sql, is_commit) = self.pick(&ends);
        if !self.chance(3) {
            self.end_transaction(sql, is_commit)?;
        }
        // That commits what is there still.
        let form = self.pick(&["SET autocommit = 1", "SET @@session.autocommit = ON"]);
        self.end_transaction(form, true)?;
        self.state.is_auto = true;
        Ok(())
    }

    /// What is for the next transaction refuses this session's write, and nobody else's.
    fn read_only(&mut self) -> Result<(), Stop> {
        if !self.set("SET TRANSACTION READ ONLY")? {
            return Ok(());
        }
        let (number, sql) = self.plain_write("read_only");
        let told = match self.ask("BEGIN", &[]) {
            Ok(_) => self.ask(&sql, &[READ_ONLY]),
            Err(_) => return Err(self.never_sent(number)),
        };
        match told {
            Err(Told::Refused(_)) => self.ledger.settle(number, Fate::Absent),
            // It is not committed either way.
            Err(_) => return Err(self.never_sent(number)),
            Ok(_) => {
                self.problem("a write in a transaction that only reads");
                return Err(self.never_sent(number));
            }
        }
        self.end_transaction("ROLLBACK", false)
    }

    fn never_sent(&mut self, number: usize) -> Stop {
        self.ledger.settle(number, Fate::Absent);
        Stop
    }

    /// Reads the state that it knows.
    fn look(&mut self) -> Result<(), Stop> {
        let mut columns = vec!["db", "zone", "mode", "coll", "auto", "iso"];
        if self.state.is_kept() || self.chance(4) {
            columns.extend(["mine", "held"]);
            self.is_kept = true;
        }
        let schema = self.state.schema;
        let shown: Vec<_> = columns
            .iter()
            .map(|column| self.state.run(column, schema))
            .collect();
        let items: Vec<&str> = shown.iter().map(|shown| shown.sql.as_str()).collect();
        let sql = format!("SELECT {}", items.join(", "));
        let told = if self.chance(2) {
            self.ask(&sql, &[])
        } else {
            self.ask_prepared(&sql)
        };
        let Ok(answer) = told else {
            return unless_ended(told);
        };
        for (column, shown) in shown.iter().enumerate() {
            let found = answer.text(0, column);
            if !shown.cell.allows(found.as_deref(), Fate::There) {
                let text = format!("{}: {found:?}, not {:?}", shown.column, shown.cell);
                self.problem(&text);
                return Err(Stop);
            }
        }
        Ok(())
    }

    fn last_id(&mut self) -> Result<(), Stop> {
        let told = self.ask("SELECT LAST_INSERT_ID()", &[]);
        let Ok(answer) = told else {
            return unless_ended(told);
        };
        let found = answer.text(0, 0);
        if !self.state.last.allows(found.as_deref(), Fate::There) {
            let text = format!("LAST_INSERT_ID(): {found:?}, not {:?}", self.state.last);
            self.problem(&text);
        }
        self.state.last = Cell::Is(found);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Stop> {
        self.tell("RESET", &[], Client::reset).map_err(|_| Stop)?;
        self.state.reset();
        self.prepared.clear();
        (self.is_kept, self.kept_steps) = (false, 0);
        self.look()
    }

    /// The gateway has no such command, and says so.
    fn change_user(&mut self) -> Result<(), Stop> {
        if self.home.is_direct {
            return Ok(());
        }
        let told = self.tell("CHANGE_USER", &[1047], |client| {
            client.run_raw(0x11, b"b\0\0one\0")
        });
        match told {
            Err(Told::Refused(1047)) => self.look(),
            Err(_) => Err(Stop),
            Ok(_) => {
                self.problem("another user");
                Err(Stop)
            }
        }
    }

    fn remake_gone(&mut self) -> Result<(), Stop> {
        if self.state.is_in_gone() {
            return Ok(());
        }
        let drop = format!("DROP DATABASE IF EXISTS {GONE}");
        let make = format!("CREATE DATABASE IF NOT EXISTS {GONE}");
        for sql in [drop, make, table_of_gone()] {
            // Others do the same at the same time.
            let told = self.ask(
                &sql,
                &[1005, 1006, 1007, 1008, 1010, 1044, 1049, 1205, 1213],
            );
            unless_ended(told)?;
        }
        Ok(())
    }

    /// One answer to a statement that is prepared for it alone.
    pub fn ask_prepared(&mut self, sql: &str) -> Result<Answer, Told> {
        let what = format!("prepared: {sql}");
        self.tell(&what, &[], |client| {
            let statement = client.prepare(sql)?;
            let answer = client.execute(statement, &[]);
            client.close_statement(statement)?;
            answer
        })
    }
}

/// A question that was refused changes nothing.
pub fn unless_ended<T>(told: Result<T, Told>) -> Result<(), Stop> {
    match told {
        Err(Told::Ended) => Err(Stop),
        _ => Ok(()),
    }
}

/// Whether something is set that is set if and only if it was not refused.
pub fn is_set<T>(told: Result<T, Told>) -> Result<bool, Stop> {
    match told {
        Ok(_) => Ok(true),
        // By its time it may have been refused in the middle.
        Err(Told::Refused(3024) | Told::Unknown | Told::Ended) => Err(Stop),
        Err(Told::Refused(_)) => Ok(false),
    }
}
