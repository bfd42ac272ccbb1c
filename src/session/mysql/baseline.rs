//! What a variable is that nobody has set: what the server gave at the login of a connection.
//!
//! `DEFAULT` is not that. A login adds `init_connect`, an account's MAX_STATEMENT_TIME, and what
//! IGNORE_SPACE and INTERACTIVE stand for, which is added for each session here; MySQL 9.7 makes `foreign_key_checks = DEFAULT` 0. So each
//! connection is asked for its variables once, right after its login, and they move as values. What a
//! session has since a reset follows from those and the globals (`after_reset`).
//!
//! Sessions take the newest baseline that is known when they begin, and keep it (`beginning`).
//! Connections log in seldom, so globals are looked at in between, at most once in `LOOK_INTERVAL`
//! and only when a session begins.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::after_login;
use super::after_reset::{self, Since};
use super::own_question::{self, Collect};
use super::programs::KnownPrograms;
use super::state::{Vector, charsets, movable, moved_by_value, number_of};
use crate::base::clock::Now;
use crate::wire::mysql::flags::caps;
use crate::wire::mysql::response::decode_ok;
use crate::wire::mysql::track::{Change, Changes};
use crate::wire::mysql::value::Value;

/// The transaction that a session wrote last, where MariaDB keeps a binary log. A statement that changes
/// nothing does not show that the server sets it by itself; it is read-only, so nobody else does (MariaDB
/// manual, "last_gtid").
const LAST_WRITTEN: &[u8] = b"last_gtid";

/// How long a changed global may stay unknown to clients that log in.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Vectors of logins that are remembered with their baseline; more are not shared.
const ADOPTED_MAX: usize = 256;

/// Values of the movable variables, by their numbers, sorted. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base(Arc<[(u8, Box<[u8]>)]>);

impl Base {
    /// The value of the variable with this number, if the server has it.
    pub fn value_of(&self, number: u8) -> Option<&[u8]> {
        let at = self.0.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(number, value)| (*number, &**value))
    }

    /// Whether both are the same for sure, without looking at the values.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// This one after the globals have gone from `old` to `new`: what a login takes from them follows.
    fn after(&self, old: &Self, new: &Self) -> Self {
        let value = |(number, own): (u8, &[u8])| {
            let is_global = old.value_of(number) == Some(own);
            let value = new.value_of(number).filter(|_| is_global).unwrap_or(own);
            (number, value.into())
        };
        self.values().map(value).collect()
    }
}

impl FromIterator<(u8, Box<[u8]>)> for Base {
    /// Of values in the order of their numbers.
    fn from_iter<T: IntoIterator<Item = (u8, Box<[u8]>)>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Whose values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The connection's own.
    Session,
    /// The server's, for logins to come.
    Global,
}

/// What every login but an administrator's runs.
const INIT_CONNECT: &str = "init_connect";

/// The statement that asks for what logins give. A server leaves out what it does not know.
pub fn question(scope: Scope) -> Vec<u8> {
    match scope {
        Scope::Session => show("SESSION", moved_by_value()),
        Scope::Global => {
            // Character sets are a client's own, and the server's where it has named none that is known.
            let names = moved_by_value().chain(charsets());
            show("GLOBAL", names.chain([INIT_CONNECT]))
        }
    }
}

/// The statement that asks for all that a vector may hold, the character sets included.
pub fn every_variable() -> Vec<u8> {
    show("SESSION", movable())
}

/// Asks for what COM_RESET_CONNECTION keeps and no variable tells: the account, the role, and how much SHOW
/// PROFILES would list.
pub const KEPT: &[u8] = b"SELECT 'kept', CONCAT_WS('|', CURRENT_USER(), CURRENT_ROLE(), \
    (SELECT COUNT(*) FROM information_schema.PROFILING))";

/// Behind a question to a MySQL whose `autocommit` is off: its answer comes out of tables, which begins a
/// transaction there. Whatever the server's `completion_type` is, it begins no other one and closes nothing.
pub const END_TRANSACTION: &[u8] = b"COMMIT AND NO CHAIN NO RELEASE";

/// The name under which that is answered.
const KEPT_NAME: &[u8] = b"kept";

fn show(scope: &str, names: impl Iterator<Item = &'static str>) -> Vec<u8> {
    let mut sql = format!("SHOW {scope} VARIABLES WHERE Variable_name IN (");
    for (at, name) in names.enumerate() {
        sql.push_str(if at == 0 { "'" } else { ",'" });
        sql.push_str(name);
        sql.push('\'');
    }
    sql.push(')');
    sql.into_bytes()
}

/// A statement that changes nothing: what a server reports of it, the server counts by itself. MySQL 9.7
/// reports `statement_id` with everything.
pub const NOTHING: &[u8] = b"DO 0";

/// The most counters that are learnt of a server; its other changes pin.
const COUNTERS_MAX: usize = 16;

/// What the server says to a [`question`].
pub type Answer = own_question::Answer<Values>;

/// What is kept of that: a value for each variable that is known here.
#[derive(Debug, Default)]
pub struct Values {
    by_number: BTreeMap<u8, Box<[u8]>>,
    runs_statements: bool,
    kept: Option<Box<[u8]>>,
}

impl Collect for Values {
    /// The longest value there is has some 1,000.
    const ROW_MAX: usize = 16 * 1024;

    fn take_row(&mut self, values: &[Value<'_>]) {
        let [Value::Bytes(name), Value::Bytes(value)] = *values else {
            return;
        };
        if let Some(number) = number_of(name) {
            self.by_number.insert(number, value.into());
        } else if name == KEPT_NAME {
            self.kept = Some(value.into());
        } else if name.eq_ignore_ascii_case(INIT_CONNECT.as_bytes()) {
            self.runs_statements = !value.is_empty();
        }
    }

    /// What was known holds.
    fn refused(&mut self, _errno: u16) {}
}

impl Answer {
    /// Takes the values out; `None` if the server gave none.
    pub fn end(&mut self) -> Option<Base> {
        let values = std::mem::take(&mut self.found.by_number);
        (!values.is_empty()).then(|| values.into_iter().collect())
    }

    /// What a reset keeps, if the server has told.
    pub fn kept(&self) -> Option<&[u8]> {
        self.found.kept.as_deref()
    }
}

/// Which account on which server: logins of the same realm get the same variables at the same time. No capability
/// that the gateway agrees on with servers changes any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Realm(pub Arc<(String, String)>);

/// What a core knows of a realm, for a core to which it lends a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Of a login with none of [`FLAGS`].
    login: Option<Base>,
    globals: Option<Base>,
    is_mysql: bool,
    runs_statements: bool,
    kept: Option<Box<[u8]>>,
    /// Names of variables that the server changes by itself.
    counters: Arc<[Box<[u8]>]>,
}

impl Known {
    /// What a session has not set that began so.
    fn base(&self, origin: Origin) -> Option<Base> {
        let (login, globals) = (self.login.as_ref()?, self.globals.as_ref());
        Some(match (origin.since, globals) {
            (Since::Login, _) => after_login::base(login, globals, origin.flags),
            (Since::Reset, Some(globals)) => {
                after_reset::base(login, globals, origin.flags, self.is_mysql)
            }
            (Since::Reset, None) => login.clone(),
        })
    }

    /// The vector of a session that has set nothing since it began so, with what that gives.
    fn complete(&self, vector: &Vector, base: Option<Base>, since: Since) -> Vector {
        let with_base = base.map(|base| vector.with_base(base));
        let vector = with_base.as_ref().unwrap_or(vector);
        let forgets_charsets = since == Since::Reset && self.is_mysql && self.globals.is_some();
        match vector.has_charsets() && !forgets_charsets {
            true => vector.clone(),
            false => vector.with_charsets_of(self.globals.as_ref()),
        }
    }
}

/// How a session has begun, as far as that decides on its variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// With what.
    pub since: Since,
    /// Those of IGNORE_SPACE and INTERACTIVE that its client agreed on.
    pub flags: u32,
}

/// What is known of the logins of one account on one server, shared by a core's connections.
#[derive(Debug, Default)]
pub struct Baselines {
    realm: Realm,
    now: RefCell<Known>,
    looked_at: Cell<Option<Now>>,
    programs: Rc<KnownPrograms>,
    /// Bases of sessions that have begun one way or another, those that are the same shared.
    bases: RefCell<Vec<(Origin, Base)>>,
    adopted: RefCell<HashMap<(usize, Origin), Adopted, FixedState>>,
}

/// A vector without a baseline, and with one.
type Adopted = (Rc<Vector>, Rc<Vector>);

/// The capabilities that stand for variables, which servers set at the login of who agrees on them. The gateway
/// agrees on none of them with servers, so that sessions with and without share connections.
pub(super) const FLAGS: u32 = caps::IGNORE_SPACE | caps::INTERACTIVE;

impl Baselines {
    /// Whose they are.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        self.now.borrow().clone()
    }

    /// Takes over what another core knows, where nothing is known.
    pub fn learn(&self, known: Known) {
        let mut now = self.now.borrow_mut();
        if now.login.is_none() {
            *now = known;
        }
    }

    /// Whether the server is a MySQL, and no MariaDB; not before the first login.
    pub fn is_mysql(&self) -> bool {
        self.now.borrow().is_mysql
    }

    /// Whether a reset can bring a connection back to what a login gives: it runs no `init_connect`, and it
    /// is known what it keeps.
    pub fn can_be_reset(&self) -> bool {
        let now = self.now.borrow();
        !now.runs_statements && now.kept.is_some()
    }

    /// Whether what a reset has kept is what a login gives.
    pub fn keeps(&self, kept: Option<&[u8]>) -> bool {
        kept.is_some() && self.now.borrow().kept.as_deref() == kept
    }

    /// A connection has logged in and has these values, with these globals, and this is what a reset would
    /// keep; the server is MySQL, or MariaDB. Returns the values, shared
    /// with other connections that have the same.
    pub fn logged_in(
        &self,
        login: Base,
        kept: Option<&[u8]>,
        mut globals: Answer,
        is_mysql: bool,
    ) -> Base {
        let mut now = self.now.borrow_mut();
        let globals_now = globals.end();
        let is_same = now.globals == globals_now && now.is_mysql == is_mysql;
        (now.globals, now.is_mysql) = (globals_now, is_mysql);
        now.runs_statements = globals.found.runs_statements;
        now.kept = kept.map(Into::into);
        if let Some(known) = &now.login
            && *known == login
            && is_same
        {
            return known.clone();
        }
        let login = now
            .login
            .take()
            .filter(|known| *known == login)
            .unwrap_or(login);
        now.login = Some(login.clone());
        self.changed();
        login
    }

    /// What is known has changed: what was made of it no longer holds.
    fn changed(&self) {
        self.bases.borrow_mut().clear();
        self.adopted.borrow_mut().clear();
    }

    /// [`Known::base`], shared with others that are the same.
    fn base(&self, now: &Known, origin: Origin) -> Option<Base> {
        let mut bases = self.bases.borrow_mut();
        if let Some((_, base)) = bases.iter().find(|(of, _)| *of == origin) {
            return Some(base.clone());
        }
        let base = now.base(origin)?;
        let known = bases.iter().map(|(_, base)| base).chain(&now.login);
        let base = known
            .into_iter()
            .find(|known| **known == base)
            .cloned()
            .unwrap_or(base);
        bases.push((origin, base.clone()));
        Some(base)
    }

    /// The payload of the server's answer to [`NOTHING`], tracking of everything being switched on.
    pub fn saw_nothing_change(&self, answer: &[u8]) {
        let Ok(ok) = decode_ok(answer, caps::SESSION_TRACK) else {
            return;
        };
        let counters = Changes::new(ok.session_changes).filter_map(|change| match change {
            Ok(Change::SystemVariable { name, .. }) => Some(Box::from(name)),
            _ => None,
        });
        let counters: Vec<Box<[u8]>> = counters.take(COUNTERS_MAX).collect();
        let mut now = self.now.borrow_mut();
        if *now.counters != *counters {
            now.counters = counters.into();
        }
    }

    /// Whether the server changes this variable by itself, so that its change says nothing of a session.
    pub fn is_counter(&self, name: &[u8]) -> bool {
        if name == LAST_WRITTEN {
            return true;
        }
        let now = self.now.borrow();
        now.counters.iter().any(|counter| **counter == *name)
    }

    /// Whether it is known what a login gives.
    pub fn is_known(&self) -> bool {
        self.now.borrow().login.is_some()
    }

    /// Whether the globals are to be asked for before a session begins at `now`. Whoever calls this asks then, so
    /// that others need not for a while.
    pub fn is_due(&self, now: Now) -> bool {
        let is_known = self.now.borrow().globals.is_some();
        let last = self.looked_at.get();
        let is_due = is_known && last.is_none_or(|last| now.since(last) >= LOOK_INTERVAL);
        if is_due {
            self.looked_at.set(Some(now));
        }
        is_due
    }

    /// What the server has answered to the question for globals.
    pub fn looked(&self, answer: &mut Answer) {
        let Some(globals) = answer.end() else {
            return;
        };
        let now = &mut *self.now.borrow_mut();
        now.runs_statements = answer.found.runs_statements;
        let (Some(login), Some(old)) = (&now.login, &now.globals) else {
            return;
        };
        if *old != globals {
            now.login = Some(login.after(old, &globals));
            now.globals = Some(globals);
            self.changed();
        }
    }

    /// What is known of stored programs.
    pub fn programs(&self) -> &KnownPrograms {
        &self.programs
    }

    /// The vector of a session that begins so with the newest baseline, and the server's character sets if it has
    /// none then; `None` if there is nothing to add.
    pub fn adopt(&self, vector: &Rc<Vector>, origin: Origin) -> Option<Rc<Vector>> {
        let now = self.now.borrow();
        if now.login.is_none() && vector.has_charsets() {
            return None;
        }
        let mut adopted = self.adopted.borrow_mut();
        if adopted.len() >= ADOPTED_MAX {
            adopted.clear();
        }
        // The first of each pair is held, so that its address is not used again.
        let at = Rc::as_ptr(vector).addr();
        let complete = || {
            let base = self.base(&now, origin);
            let complete = now.complete(vector, base, origin.since);
            (vector.clone(), Rc::new(complete))
        };
        let (_, adopted) = adopted.entry((at, origin)).or_insert_with(complete);
        Some(adopted.clone())
    }
}

/// Accounts on servers whose programs are remembered, connected or not; of more, those that are.
const ACCOUNTS_MAX: usize = 256;

/// The baselines of one core's connections, by realm.
#[derive(Debug, Default)]
pub struct Realms {
    all: RefCell<HashMap<Realm, Weak<Baselines>, FixedState>>,
    /// By server and account. They outlive connections: pools that take each other's would ask at each login.
    programs: RefCell<HashMap<(String, String), Rc<KnownPrograms>, FixedState>>,
}

impl Realms {
    /// Those of this realm.
    pub fn of(&self, realm: &Realm) -> Rc<Baselines> {
        let mut all = self.all.borrow_mut();
        if let Some(known) = all.get(realm).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, baselines| baselines.strong_count() > 0);
        let baselines = Rc::new(Baselines {
            realm: realm.clone(),
            programs: self.programs_of(realm),
            ..Baselines::default()
        });
        all.insert(realm.clone(), Rc::downgrade(&baselines));
        baselines
    }

    fn programs_of(&self, realm: &Realm) -> Rc<KnownPrograms> {
        let mut programs = self.programs.borrow_mut();
        if programs.len() >= ACCOUNTS_MAX {
            programs.retain(|_, known| Rc::strong_count(known) > 1);
        }
        let (server, account) = &*realm.0;
        let known = programs.entry((server.clone(), account.clone()));
        let known = known.or_insert_with(|| Rc::new(KnownPrograms::not_yet()));
        Rc::clone(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::tests::{answer, base, rows};

    fn realm(account: &str) -> Realm {
        Realm(Arc::new(("127.0.0.1:1".to_owned(), account.to_owned())))
    }

    #[test]
    fn an_answer_is_read_with_and_without_eofs() {
        let values = [("time_zone", "+01:00"), ("autocommit", "ON"), ("else", "1")];
        for deprecates_eof in [true, false] {
            let mut answer = Answer::new(deprecates_eof);
            let bytes = rows(&values, deprecates_eof);
            let (last, rest) = bytes.split_last().expect("a reply");
            rest.iter()
                .for_each(|byte| assert_eq!(answer.take(&[*byte]), Ok(false)));
            assert_eq!(answer.take(&[*last]), Ok(true));
            assert_eq!(answer.end(), Some(base(&values[..2])), "{deprecates_eof}");
        }
        for other in [
            &b"\x07\0\0\x01\0\0\0\x02\0\0\0"[..],
            b"\x09\0\0\x01\xff\x15\x04#28000",
        ] {
            let mut answer = Answer::new(true);
            assert_eq!(answer.take(other), Ok(true));
            assert_eq!(answer.end(), None);
        }
    }

    #[test]
    fn what_is_no_answer_or_has_no_end_takes_no_memory() {
        let mut broken = Answer::new(true);
        assert!(broken.take(b"\x01\0\0\x05\0").is_err());
        let long = "x".repeat(Values::ROW_MAX);
        let mut answer = Answer::new(true);
        assert!(answer.take(&rows(&[("sql_mode", &long)], true)).is_err());
        let endless = vec![("sql_mode", "ANSI"); 50_000];
        assert_eq!(
            crate::session::mysql::tests::answer(&endless)
                .found
                .by_number
                .len(),
            1
        );
    }

    #[test]
    fn a_core_that_is_lent_a_connection_learns_what_a_login_gives() {
        let (lender, other) = (Realms::default(), Realms::default());
        let here = lender.of(&realm("a"));
        let login = base(&[("sql_notes", "OFF")]);
        here.logged_in(login, None, answer(&[("sql_notes", "OFF")]), false);
        let there = other.of(&realm("a"));
        there.learn(here.known());
        assert_eq!(there.known(), here.known());
        // What it knows itself is newer.
        there.logged_in(base(&[("sql_notes", "ON")]), None, Answer::new(true), false);
        there.learn(here.known());
        assert_ne!(there.known(), here.known());
    }

    #[test]
    fn what_changes_while_nothing_is_done_is_the_servers_own() {
        let here = Realms::default().of(&realm("a"));
        for answer in [&b"\0\0\0\x02\0\0\0"[..], b"\xff\x15\x04#28000no", b""] {
            here.saw_nothing_change(answer);
            assert!(!here.is_counter(b"statement_id"), "{answer:?}");
        }
        let counted = b"\0\0\0\x02\x40\0\0\0\x12\0\x10\x0cstatement_id\x0242";
        here.saw_nothing_change(counted);
        assert!(here.is_counter(b"statement_id") && !here.is_counter(b"statement"));
        let there = Realms::default().of(&realm("a"));
        there.learn(here.known());
        assert!(there.is_counter(b"statement_id"));
        // Another version, after an upgrade.
        here.saw_nothing_change(b"\0\0\0\x02\0\0\0");
        assert!(!here.is_counter(b"statement_id"));
    }

    #[test]
    fn what_is_known_of_programs_outlives_the_connections_that_it_was_learnt_on() {
        let realms = Realms::default();
        let programs = Rc::as_ptr(&realms.of(&realm("a")).programs);
        assert!(std::ptr::eq(
            programs,
            Rc::as_ptr(&realms.of(&realm("a")).programs)
        ));
        assert!(!std::ptr::eq(
            programs,
            Rc::as_ptr(&realms.of(&realm("b")).programs)
        ));
    }

    const LOGIN: Origin = Origin {
        since: Since::Login,
        flags: 0,
    };
    const RESET: Origin = Origin {
        since: Since::Reset,
        flags: 0,
    };

    #[test]
    fn what_a_login_took_from_a_global_follows_it_and_nothing_else_does() {
        let realms = Realms::default();
        let baselines = realms.of(&realm("a"));
        assert!(Rc::ptr_eq(&baselines, &realms.of(&realm("a"))));
        assert!(!Rc::ptr_eq(&baselines, &realms.of(&realm("b"))));
        let vector = Rc::new(Vector::at_login("utf8mb4", "utf8mb4_bin"));
        assert!(baselines.adopt(&vector, LOGIN).is_none());
        let login = base(&[("sql_notes", "ON"), ("time_zone", "+03:00")]);
        let globals = answer(&[("sql_notes", "ON"), ("time_zone", "SYSTEM")]);
        baselines.logged_in(login.clone(), None, globals, false);
        let first = baselines.adopt(&vector, LOGIN).expect("a baseline");
        assert!(Rc::ptr_eq(
            &first,
            &baselines.adopt(&vector, LOGIN).expect("the same")
        ));
        baselines.looked(&mut answer(&[
            ("sql_notes", "OFF"),
            ("time_zone", "+05:00"),
        ]));
        let second = baselines.adopt(&vector, LOGIN).expect("a baseline");
        assert_eq!(first.effective("sql_notes"), Some(&b"ON"[..]));
        assert_eq!(second.effective("sql_notes"), Some(&b"OFF"[..]));
        assert_eq!(second.effective("time_zone"), Some(&b"+03:00"[..]));
        let mut set = Vec::new();
        assert!(second.write_set(&first, &mut set));
        assert_eq!(set, b"SET sql_notes='OFF'");
    }

    #[test]
    fn a_reset_goes_back_to_the_globals_and_on_mysql_to_their_character_sets() {
        let vector = Rc::new(Vector::at_login("gbk", "gbk_bin").with_schema(b"x"));
        let globals = [
            ("character_set_client", "latin1"),
            ("character_set_connection", "utf8mb4"),
            ("character_set_results", ""),
            ("collation_connection", "utf8mb4_bin"),
            ("sql_notes", "ON"),
        ];
        for (is_mysql, expect) in [
            (true, ["latin1", "", "utf8mb4_bin"]),
            (false, ["gbk", "gbk", "gbk_bin"]),
        ] {
            let baselines = Realms::default().of(&realm("a"));
            baselines.logged_in(
                base(&[("sql_notes", "OFF")]),
                None,
                answer(&globals),
                is_mysql,
            );
            let login = baselines.adopt(&vector, LOGIN).expect("a baseline");
            assert_eq!(login.value("collation_connection"), Some(&b"gbk_bin"[..]));
            assert_eq!(login.effective("sql_notes"), Some(&b"OFF"[..]));
            let reset = baselines.adopt(&vector, RESET).expect("a baseline");
            let names = [
                "character_set_client",
                "character_set_results",
                "collation_connection",
            ];
            let found = names.map(|name| reset.value(name).expect("a character set"));
            assert_eq!(found, expect.map(str::as_bytes), "{is_mysql}");
            assert_eq!(reset.effective("sql_notes"), Some(&b"ON"[..]));
            assert_eq!(reset.schema(), Some(&b"x"[..]));
            // Where a reset gives the same, the two are compared by their address.
            let same = base(&[("sql_notes", "ON")]);
            baselines.logged_in(same.clone(), None, answer(&globals), is_mysql);
            let known = baselines.known();
            let [login, reset] =
                [LOGIN, RESET].map(|begin| baselines.base(&known, begin).expect("a base"));
            assert!(login == same && login.is_shared_with(&reset));
        }
    }
}
